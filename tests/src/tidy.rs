//! The rules of the house, read from our own sources: who may use whom, and how files are laid out.
//!
//! In comes a [`Tree`] of sources; out come findings, `file:line: what is wrong`. Each rule is a function of a tree, so
//! that it can be tried on a bad one.

mod choosing;
mod dependencies;
mod documents;
mod layout;
mod owners;
mod pure;
mod source;
mod waiting;

use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// A rule: what it finds in a tree, nothing when all is well.
pub type Rule = fn(&Tree) -> Vec<String>;

/// All rules, by the name a finding is shown under.
pub const RULES: &[(&str, Rule)] = &[
    (
        "a crate depends only on those it may",
        dependencies::manifests,
    ),
    ("a crate uses only those it may", dependencies::uses),
    ("what decides is pure", pure::pure_modules),
    (
        "decide takes values only from the contract",
        pure::values_only,
    ),
    ("one task owns each piece of state", owners::no_shared_state),
    ("pages point at what is there", documents::links),
    ("every file is declared by a mod", layout::orphans),
    ("every file opens with what it is", layout::headers),
    ("no file is called mod.rs", layout::no_mod_rs),
    ("names say what is inside", layout::telling_names),
    ("no file is too long", layout::short_files),
    ("tests wait on conditions", waiting::no_sleep_in_tests),
    ("what is ready is taken in order", choosing::select_in_order),
];

/// The sources of a workspace: every `Cargo.toml`, `.rs` and `.md` file, by its path from the root.
pub struct Tree {
    manifests: BTreeMap<String, String>,
    sources: BTreeMap<String, Source>,
    pages: BTreeMap<String, String>,
    /// Every file and folder.
    paths: BTreeSet<String>,
}

impl Tree {
    /// Reads a tree from disk, without hidden folders and `target`.
    ///
    /// # Errors
    /// When a file or folder cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self {
            manifests: BTreeMap::new(),
            sources: BTreeMap::new(),
            pages: BTreeMap::new(),
            paths: BTreeSet::new(),
        };
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            self.paths.insert(path.clone());
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
            } else if name == "Cargo.toml" {
                self.manifests
                    .insert(path, fs::read_to_string(entry.path())?);
            } else if name.ends_with(".md") {
                self.pages.insert(path, fs::read_to_string(entry.path())?);
            } else if name.ends_with(".rs") {
                self.sources
                    .insert(path, Source::new(fs::read_to_string(entry.path())?));
            }
        }
        Ok(())
    }

    /// How many Rust files it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether it has no Rust file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether there is a file or folder at `path`.
    fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The folder of the crate a file belongs to: the nearest above it with a manifest.
    fn crate_of(&self, path: &str) -> Option<&str> {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]).rev();
        folders.into_iter().find_map(|folder| {
            self.manifests
                .get_key_value(&format!("{folder}/Cargo.toml"))
                .map(|(manifest, _)| manifest.trim_end_matches("/Cargo.toml"))
        })
    }
}
