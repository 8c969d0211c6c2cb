//! The files that `kustomize build` reads for a folder, found before it is run.
//!
//! The tool is given exactly these, so what this misses fails loudly, and a rendering is never older than its files.
//! The fields are those of `kustomize.config.k8s.io/v1beta1`, deprecated ones among them.

use std::collections::{BTreeMap, BTreeSet};

use super::Wrong;
use super::closure::inside;
use super::tool::{Job, Tool};
use crate::model::application::join;
use crate::problem::Location;
use crate::snapshot::{FileContent, KUSTOMIZATION_FILES, Snapshot, is_manifest};
use crate::yaml::{self, Node, Value};

/// Lists of files and of folders that hold a kustomization of their own.
const ROOTS: [&str; 3] = ["resources", "bases", "components"];
/// Lists of files.
const FILES: [&str; 2] = ["crds", "configurations"];
/// Lists of files or of text in their place, for patches.
const FILES_OR_TEXT: [&str; 1] = ["patchesStrategicMerge"];
/// Lists of plugins: files, folders or text in their place, which name files in turn.
const PLUGINS: [&str; 3] = ["generators", "transformers", "validators"];
/// Lists of mappings with a `path`.
const WITH_PATH: [&str; 3] = ["patches", "patchesJson6902", "replacements"];
/// Lists of mappings with `files`, `envs` and `env`.
const GENERATORS: [&str; 2] = ["configMapGenerator", "secretGenerator"];
/// What would fetch charts while it renders.
const CHARTS: [&str; 2] = ["helmCharts", "helmChartInflationGenerator"];

/// What to run for a folder that holds a kustomization.
///
/// # Errors
/// With the line of every entry that names no file of the repository, or something remote.
pub(super) fn job(snapshot: &Snapshot, folder: &str) -> Result<Job, Vec<Wrong>> {
    let mut walk = Walk {
        snapshot,
        files: BTreeMap::new(),
        wrong: Vec::new(),
        within: Vec::new(),
        done: BTreeSet::new(),
    };
    walk.folder(folder);
    if walk.wrong.is_empty() {
        Ok(Job {
            tool: Tool::Kustomize,
            folder: folder.to_owned(),
            files: walk.files,
            given: BTreeMap::new(),
            release: None,
        })
    } else {
        Err(walk.wrong)
    }
}

/// The file that makes a folder one of kustomize's.
pub(super) fn root_file(snapshot: &Snapshot, folder: &str) -> Option<String> {
    let paths = KUSTOMIZATION_FILES.map(|name| inside(folder, name));
    let mut paths = paths.into_iter();
    paths.find(|path| snapshot.files.contains_key(path))
}

struct Walk<'s> {
    snapshot: &'s Snapshot,
    /// Found so far.
    files: BTreeMap<String, String>,
    wrong: Vec<Wrong>,
    /// The folders that lead to the present one.
    within: Vec<String>,
    done: BTreeSet<String>,
}

/// An entry of a kustomization.
struct Entry<'n> {
    /// The folder of the kustomization, to which paths are relative.
    folder: &'n str,
    location: Location,
    text: &'n str,
}

/// Takes an entry in.
type Take<W> = fn(&mut W, &Entry<'_>);

impl Walk<'_> {
    fn folder(&mut self, folder: &str) {
        let Some(path) = root_file(self.snapshot, folder) else {
            return;
        };
        if !self.done.insert(folder.to_owned()) {
            return;
        }
        let Some(root) = self.kustomization(&path) else {
            return;
        };
        self.within.push(folder.to_owned());
        let of = |node: &Node| Location::new(path.as_str(), node.line);
        for field in CHARTS {
            if let Some(node) = root.get(field) {
                self.say(of(node), format!("{field} would fetch charts while rendering: make an Application of the chart instead"));
            }
        }
        let lists: [(&[&str], Take<Self>); 4] = [
            (&ROOTS, Self::root),
            (&FILES, Self::file),
            (&FILES_OR_TEXT, Self::file_or_text),
            (&PLUGINS, Self::plugin),
        ];
        for (fields, take) in lists {
            for (location, text) in fields.iter().flat_map(|field| texts(&root, field, &path)) {
                take(
                    self,
                    &Entry {
                        folder,
                        location,
                        text,
                    },
                );
            }
        }
        for node in WITH_PATH.iter().flat_map(|field| items(&root, field)) {
            if let Some(text) = node.text(&["path"]) {
                let location = of(node.get("path").unwrap_or(node));
                self.file(&Entry {
                    folder,
                    location,
                    text,
                });
            }
        }
        if let Some(text) = root.text(&["openapi", "path"]) {
            let location = of(root.get("openapi").unwrap_or(&root));
            self.file(&Entry {
                folder,
                location,
                text,
            });
        }
        for node in GENERATORS.iter().flat_map(|field| items(&root, field)) {
            for (location, text) in sources(node, &path) {
                self.file(&Entry {
                    folder,
                    location,
                    text,
                });
            }
        }
        self.within.pop();
    }

    /// The one document of a kustomization.
    fn kustomization(&mut self, path: &str) -> Option<Node> {
        let bytes = match &self.snapshot.files[path].content {
            FileContent::Bytes(bytes) => bytes.clone(),
            other => {
                let message = format!("is {}: put the file itself here", other.what());
                self.say(Location::new(path, 0), message);
                return None;
            }
        };
        self.take(path);
        match yaml::documents(&bytes) {
            Ok(mut documents) if documents.len() == 1 => documents.pop(),
            Ok(documents) => {
                let message = format!("must hold one document, found {}", documents.len());
                self.say(Location::new(path, 0), message);
                None
            }
            Err(fault) => {
                self.say(Location::new(path, fault.line), fault.message);
                None
            }
        }
    }

    /// A file, or a folder with a kustomization of its own.
    fn root(&mut self, entry: &Entry<'_>) {
        let Some(path) = self.path(entry) else {
            return;
        };
        if self.snapshot.files.contains_key(&path) {
            self.file(entry);
        } else if self.within.contains(&path) {
            let message = format!("{} leads back to the folder {}", entry.text, shown(&path));
            self.say(entry.location.clone(), message);
        } else if root_file(self.snapshot, &path).is_some() {
            self.folder(&path);
        } else if self.is_folder(&path) {
            let message = format!("{} holds no kustomization.yaml", shown(&path));
            self.say(entry.location.clone(), message);
        } else {
            self.missing(entry, &path);
        }
    }

    fn plugin(&mut self, entry: &Entry<'_>) {
        if is_text(entry.text) {
            self.named_by_plugin(entry.folder, entry.text.as_bytes());
            return;
        }
        let Some(path) = self.path(entry) else {
            return;
        };
        self.root(entry);
        let file = self.snapshot.files.get(&path).map(|file| &file.content);
        if let Some(FileContent::Bytes(bytes)) = file {
            let bytes = bytes.clone();
            self.named_by_plugin(entry.folder, &bytes);
        }
    }

    /// The files that a plugin's configuration names. What is not there is left to the tool to miss: fields of
    /// plugins that we don't know may be called the same.
    fn named_by_plugin(&mut self, folder: &str, configuration: &[u8]) {
        for document in yaml::documents(configuration).unwrap_or_default() {
            let own = sources(&document, "").into_iter().map(|(_, text)| text);
            let with_path = WITH_PATH.iter().flat_map(|field| items(&document, field));
            let paths = with_path.filter_map(|node| node.text(&["path"]));
            let paths = paths.chain(document.text(&["path"]));
            let listed = texts(&document, "paths", "").into_iter();
            let listed = listed.map(|(_, text)| text);
            let found: Vec<String> = own
                .chain(paths)
                .chain(listed)
                .filter_map(|text| join(folder, text).ok())
                .filter(|path| self.snapshot.files.contains_key(path))
                .collect();
            for path in found {
                self.take(&path);
            }
        }
    }

    fn file_or_text(&mut self, entry: &Entry<'_>) {
        if !is_text(entry.text) {
            self.file(entry);
        }
    }

    fn file(&mut self, entry: &Entry<'_>) {
        let Some(path) = self.path(entry) else {
            return;
        };
        match self.snapshot.files.get(&path).map(|file| &file.content) {
            Some(FileContent::Bytes(_) | FileContent::Unread) => self.take(&path),
            Some(link) => {
                let message = format!("{} is {}: name the file itself", entry.text, link.what());
                self.say(entry.location.clone(), message);
            }
            None if self.is_folder(&path) => {
                let message = format!("{} is a folder, not a file", entry.text);
                self.say(entry.location.clone(), message);
            }
            None => self.missing(entry, &path),
        }
    }

    fn path(&mut self, entry: &Entry<'_>) -> Option<String> {
        if is_remote(entry.text) {
            self.remote(entry);
            return None;
        }
        match join(entry.folder, entry.text) {
            Ok(path) => Some(path),
            Err(why) => {
                self.say(entry.location.clone(), format!("{} {why}", entry.text));
                None
            }
        }
    }

    fn remote(&mut self, entry: &Entry<'_>) {
        let message = format!(
            "{} is remote, and nothing is fetched while rendering: declare a Repository and let spec.source.repository of the application name it, or put the files here",
            entry.text
        );
        self.say(entry.location.clone(), message);
    }

    fn missing(&mut self, entry: &Entry<'_>, path: &str) {
        if looks_remote(entry.text) {
            return self.remote(entry);
        }
        let message = format!("the repository has no file or folder {path}");
        self.say(entry.location.clone(), message);
    }

    fn is_folder(&self, path: &str) -> bool {
        self.snapshot.below(path).next().is_some()
    }

    fn take(&mut self, path: &str) {
        let oid = self.snapshot.files[path].oid.clone();
        self.files.insert(path.to_owned(), oid);
    }

    fn say(&mut self, location: Location, message: String) {
        self.wrong.push(Wrong { location, message });
    }
}

/// The items of a list; a field that is no list is left to the tool to refuse.
fn items<'n>(node: &'n Node, field: &str) -> &'n [Node] {
    match node.get(field).map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// The texts of a list, each with its place.
fn texts<'n>(node: &'n Node, field: &str, file: &str) -> Vec<(Location, &'n str)> {
    let texts = items(node, field).iter().filter_map(|item| {
        let text = item.text(&[])?;
        Some((Location::new(file, item.line), text))
    });
    texts.collect()
}

/// The files of a generator: `files` may give a key of its own (`key=path`).
fn sources<'n>(node: &'n Node, file: &str) -> Vec<(Location, &'n str)> {
    let files = texts(node, "files", file).into_iter();
    let files = files.map(|(location, text)| {
        let path = text.split_once('=').map_or(text, |(_, path)| path);
        (location, path)
    });
    let envs = texts(node, "envs", file);
    let env = node.get("env").and_then(|env| {
        let location = Location::new(file, env.line);
        Some((location, env.text(&[])?))
    });
    files.chain(envs).chain(env).collect()
}

/// Stands in the place of a file's name.
fn is_text(entry: &str) -> bool {
    entry.contains('\n') || entry.trim_start().starts_with('{')
}

fn is_remote(entry: &str) -> bool {
    entry.contains("://") || entry.starts_with("git@") || entry.starts_with("git::")
}

/// kustomize takes what is no file for a repository: `github.com/owner/name//folder?ref=v1`.
fn looks_remote(entry: &str) -> bool {
    let host = entry.split('/').next().unwrap_or_default();
    let is_host = host.contains('.') && !host.starts_with('.') && entry.contains('/');
    entry.contains("?ref=") || (is_host && !is_manifest(entry))
}

fn shown(folder: &str) -> &str {
    match folder {
        "" => "at the root of the repository",
        folder => folder,
    }
}
