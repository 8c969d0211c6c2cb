//! The files that a rendering reads, found before anything is parsed.

use std::collections::BTreeSet;

use bytes::Bytes;
use muster_proto::Digest;

use super::Wrong;
use crate::model::{FILE_NAME, split};
use crate::problem::Location;
use crate::snapshot::{File, FileContent, Snapshot, is_read};

/// Manifests below a folder, by path, with the ids that Git knows them by.
#[derive(Debug, Clone)]
pub struct Closure<'s> {
    pub(super) files: Vec<(&'s str, &'s str, &'s Bytes)>,
}

impl Closure<'_> {
    /// Names the rendering: the same for the same files, read in the same way.
    pub fn key(&self, namespace: &str) -> Digest {
        let files = self.files.iter().flat_map(|(path, oid, _)| [*path, *oid]);
        Digest::of(["plain", namespace].into_iter().chain(files))
    }
}

/// What tells that a folder is not plain YAML.
const TOOLS: [(&str, &str); 4] = [
    ("kustomization.yaml", "kustomize"),
    ("kustomization.yml", "kustomize"),
    ("Kustomization", "kustomize"),
    ("Chart.yaml", "Helm"),
];

/// Every `*.yaml`, `*.yml` and `*.json` below a folder, but no `muster.yaml`, nothing hidden (a name that begins with a
/// dot), and nothing in `homes`: folders below it that hold an application of their own.
///
/// # Errors
/// When the folder is not there, needs a tool, or holds a link or a submodule that could stand for manifests. A
/// location without a file means the place that names the folder.
pub fn closure<'s>(
    snapshot: &'s Snapshot,
    homes: &BTreeSet<String>,
    folder: &str,
) -> Result<Closure<'s>, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let mut at = |path: &str, message: String| {
        wrong.push(Wrong {
            location: Location::new(path, 0),
            message,
        });
    };
    if let Some((path, file)) = stands_for_a_folder(snapshot, folder) {
        at(
            "",
            format!("{path} is {}, not a folder", file.content.what()),
        );
        return Err(wrong);
    }
    let prefix = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let below = || {
        let from_prefix = snapshot.files.range(prefix.clone()..);
        from_prefix.take_while(|(path, _)| path.starts_with(&prefix))
    };
    if below().next().is_none() {
        at("", format!("the repository has no folder {folder}"));
        return Err(wrong);
    }
    for (name, tool) in TOOLS {
        let path = format!("{prefix}{name}");
        if snapshot.files.contains_key(&path) {
            at(
                &path,
                format!("{tool} is not supported yet: the application keeps what it had"),
            );
        }
    }
    let mut files = Vec::new();
    for (path, file) in below() {
        let inside = &path[prefix.len()..];
        if split(path).1 == FILE_NAME
            || inside.split('/').any(|part| part.starts_with('.'))
            || is_elsewhere(homes, &prefix, inside)
        {
            continue;
        }
        match &file.content {
            FileContent::Bytes(bytes) if is_read(path) => {
                files.push((path.as_str(), file.oid.as_str(), bytes));
            }
            FileContent::Unread if is_read(path) => {
                at(path, "the hub did not read this file".into())
            }
            FileContent::Bytes(_) | FileContent::Unread => {}
            // Only a name with another ending is surely no manifest and no folder of manifests.
            FileContent::Symlink if !is_read(path) && split(path).1.contains('.') => {}
            link => at(
                path,
                format!("is {}: put the manifests themselves here", link.what()),
            ),
        }
    }
    if wrong.is_empty() {
        Ok(Closure { files })
    } else {
        Err(wrong)
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

/// Whether a file is in a folder below that holds its own application.
fn is_elsewhere(homes: &BTreeSet<String>, prefix: &str, inside: &str) -> bool {
    let folders = inside.match_indices('/').map(|(end, _)| &inside[..end]);
    folders
        .into_iter()
        .any(|folder| homes.contains(&format!("{prefix}{folder}")))
}
