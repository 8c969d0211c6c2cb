//! The files that a rendering reads, found before anything is rendered.

use std::collections::BTreeSet;

use bytes::Bytes;
use muster_proto::Digest;

use super::tool::{Job, Tools};
use super::{Subject, Wrong, helm, kustomize};
use crate::model::{FILE_NAME, split};
use crate::problem::Location;
use crate::snapshot::{File, FileContent, Snapshot, is_manifest};

/// What a folder is rendered from, and how.
#[derive(Debug, Clone)]
pub enum Closure<'s> {
    /// In process, from the manifests below the folder.
    Plain(Plain<'s>),
    /// By a program.
    Tool(Job),
}

/// Manifests below a folder, by path, with the ids that Git knows them by.
#[derive(Debug, Clone)]
pub struct Plain<'s> {
    /// The `Repository` that they are in.
    pub(super) repository: &'s str,
    pub(super) files: Vec<(&'s str, &'s str, &'s Bytes)>,
}

impl Closure<'_> {
    /// Names the rendering: the same for the same files, read in the same way.
    pub fn key(&self, namespace: &str, tools: &Tools) -> Digest {
        match self {
            Self::Plain(plain) => {
                let files = plain.files.iter().flat_map(|(path, oid, _)| [*path, *oid]);
                let head = ["plain", namespace, plain.repository];
                Digest::of(head.into_iter().chain(files))
            }
            Self::Tool(job) => {
                let output = job.key(tools).to_string();
                Digest::of(["tool", namespace, &output])
            }
        }
    }
}

/// What the rendering of a target reads: detected by what its folder holds.
///
/// # Errors
/// As [`closure`], and what is wrong with its chart.
pub(super) fn of<'s>(subject: &Subject<'s>) -> Result<Closure<'s>, Vec<Wrong>> {
    let (snapshot, target) = (subject.snapshot, subject.target);
    if helm::is_chart(snapshot, &target.path) {
        return helm::job(subject).map(Closure::Tool);
    }
    let closure = closure(snapshot, subject.homes, &target.path)?;
    if let Some(location) = &target.release.stated {
        return Err(vec![Wrong {
            location: location.clone(),
            message: format!(
                "helm is for charts, and {} holds no Chart.yaml",
                target.path
            ),
        }]);
    }
    Ok(closure)
}

/// What the rendering of a folder reads that holds no chart.
///
/// # Errors
/// When the folder is not there, or names files that are not. A location without a file means the place that names the
/// folder.
pub fn closure<'s>(
    snapshot: &'s Snapshot,
    homes: &BTreeSet<String>,
    folder: &str,
) -> Result<Closure<'s>, Vec<Wrong>> {
    let at = |path: &str, message: String| {
        vec![Wrong {
            location: Location::new(path, 0),
            message,
        }]
    };
    if let Some((path, file)) = stands_for_a_folder(snapshot, folder) {
        let message = format!("{path} is {}, not a folder", file.content.what());
        return Err(at("", message));
    }
    if snapshot.below(folder).next().is_none() {
        let message = format!("the repository has no folder {folder}");
        return Err(at("", message));
    }
    match kustomize::root_file(snapshot, folder) {
        Some(_) => kustomize::job(snapshot, folder).map(Closure::Tool),
        None => plain(snapshot, homes, folder).map(Closure::Plain),
    }
}

/// Every `*.yaml`, `*.yml` and `*.json` below a folder, but no `muster.yaml`, nothing hidden (a name that begins with a
/// dot), and nothing in `homes`: folders below it that hold an application of their own, and files that are patches.
///
/// # Errors
/// When there is a link or a submodule that could stand for manifests.
fn plain<'s>(
    snapshot: &'s Snapshot,
    homes: &BTreeSet<String>,
    folder: &str,
) -> Result<Plain<'s>, Vec<Wrong>> {
    let prefix = inside(folder, "");
    let mut wrong = Vec::new();
    let mut at = |path: &str, message: String| {
        wrong.push(Wrong {
            location: Location::new(path, 0),
            message,
        });
    };
    let mut files = Vec::new();
    for (path, file) in snapshot.below(folder) {
        let inside = &path[prefix.len()..];
        if split(path).1 == FILE_NAME
            || inside.split('/').any(|part| part.starts_with('.'))
            || is_elsewhere(homes, &prefix, inside)
        {
            continue;
        }
        match &file.content {
            FileContent::Bytes(bytes) if is_manifest(path) => {
                files.push((path.as_str(), file.oid.as_str(), bytes));
            }
            FileContent::Unread if is_manifest(path) => {
                at(path, "the hub did not read this file".into())
            }
            FileContent::Bytes(_) | FileContent::Unread => {}
            // Only a name with another ending is surely no manifest and no folder of manifests.
            FileContent::Symlink if !is_manifest(path) && split(path).1.contains('.') => {}
            link => at(
                path,
                format!("is {}: put the manifests themselves here", link.what()),
            ),
        }
    }
    if wrong.is_empty() {
        Ok(Plain {
            repository: snapshot.repository.as_deref().unwrap_or_default(),
            files,
        })
    } else {
        Err(wrong)
    }
}

/// The path of what is inside a folder.
pub(crate) fn inside(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// The file, link or submodule that is where the folder or one above it should be.
fn stands_for_a_folder<'s>(snapshot: &'s Snapshot, folder: &str) -> Option<(&'s str, &'s File)> {
    let ends = folder.match_indices('/').map(|(end, _)| end);
    let mut above = ends.chain([folder.len()]).map(|end| &folder[..end]);
    above.find_map(|path| {
        let (path, file) = snapshot.files.get_key_value(path)?;
        Some((path.as_str(), file))
    })
}

/// Whether a file is a patch, or in a folder below that holds its own application.
fn is_elsewhere(homes: &BTreeSet<String>, prefix: &str, inside: &str) -> bool {
    let folders = inside.match_indices('/').map(|(end, _)| &inside[..end]);
    let itself = [inside];
    folders
        .chain(itself)
        .any(|folder| homes.contains(&format!("{prefix}{folder}")))
}
