//! One commit of a local repository as a [`Snapshot`], the files of its submodules where these stand. What the snapshot
//! before holds under the same object id is taken from there: only changed files are read, and an unchanged commit is
//! the same snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use gix::objs::tree::EntryKind;
use muster_decide::{File, FileContent, Snapshot, snapshot::is_read};

use super::remote::Remote;
use super::submodules::Modules;

/// A file that has to be read and is larger fails the fetch: nothing that Kubernetes takes comes near.
pub(super) const LARGEST_FILE: usize = 32 * 1024 * 1024;
/// How a file begins that stands for one in Git LFS.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
/// What stands for a file in Git LFS is no larger.
const LARGEST_POINTER: usize = 1024;

/// A file is larger than any that is read.
#[derive(Debug, thiserror::Error)]
#[error("{path} has {size} bytes, and no file that is read may have more than {LARGEST_FILE}")]
pub(super) struct TooLarge {
    path: String,
    size: u64,
}

struct Reading<'a> {
    folder: &'a str,
    known: HashMap<&'a str, &'a FileContent>,
    files: BTreeMap<String, File>,
}

/// A commit's files below the folder of its repository, and the first line of its message.
///
/// # Errors
/// When a file is [`TooLarge`], or the mirror can't be read.
pub(super) fn commit(
    commit: &gix::Commit<'_>,
    remote: &Remote,
    modules: &Modules,
    before: Option<&Arc<Snapshot>>,
) -> anyhow::Result<(Arc<Snapshot>, String)> {
    let subject = commit.message()?.summary().to_string();
    let revision = commit.id.to_string();
    // A submodule that could not be had may be here now.
    let whole = |before: &Snapshot| {
        let mut files = before.files.values();
        !files.any(|file| file.content == FileContent::Submodule)
    };
    if let Some(before) = before.filter(|before| before.revision == revision && whole(before)) {
        return Ok((before.clone(), subject));
    }
    let known = before.into_iter().flat_map(|before| before.files.values());
    let mut reading = Reading {
        folder: &remote.path,
        known: known
            .map(|file| (file.oid.as_str(), &file.content))
            .collect(),
        files: BTreeMap::new(),
    };
    reading.tree(commit, "", modules)?;
    let snapshot = Snapshot {
        repository: remote.name.clone(),
        revision,
        files: reading.files,
    };
    Ok((Arc::new(snapshot), subject))
}

impl Reading<'_> {
    /// Everything in a commit that stands at `at`: empty, or with a slash at its end.
    fn tree(
        &mut self,
        commit: &gix::Commit<'_>,
        at: &str,
        modules: &Modules,
    ) -> anyhow::Result<()> {
        for entry in commit.tree()?.traverse().breadthfirst.files()? {
            let Ok(inside) = std::str::from_utf8(&entry.filepath) else {
                // The model names files in errors and by path; a manifest can't be meant by this one.
                continue;
            };
            let path = format!("{at}{inside}");
            if let (EntryKind::Commit, Some(module)) = (entry.mode.kind(), modules.here.get(inside))
            {
                let opened;
                let holds = match &module.place {
                    None => commit.repo,
                    Some(place) => {
                        opened = gix::open_opts(place, super::transport::options())?;
                        &opened
                    }
                };
                let inner = holds.find_commit(module.commit)?;
                self.tree(&inner, &format!("{path}/"), &module.inside)?;
                continue;
            }
            if !is_below(&path, self.folder) {
                continue;
            }
            let oid = entry.oid.to_string();
            let content = match entry.mode.kind() {
                EntryKind::Tree => continue,
                EntryKind::Link => FileContent::Symlink,
                EntryKind::Commit => FileContent::Submodule,
                EntryKind::Blob | EntryKind::BlobExecutable if !is_read(&path) => {
                    FileContent::Unread
                }
                EntryKind::Blob | EntryKind::BlobExecutable => match self.known.get(oid.as_str()) {
                    Some(FileContent::Bytes(bytes)) => FileContent::Bytes(bytes.clone()),
                    _ => match blob(commit.repo, &path, entry.oid)? {
                        bytes if is_pointer(&bytes) => FileContent::LfsPointer,
                        bytes => FileContent::Bytes(bytes),
                    },
                },
            };
            self.files.insert(path, File { oid, content });
        }
        Ok(())
    }
}

/// The bytes of a file; `path` names it in errors.
pub(super) fn blob(
    repository: &gix::Repository,
    path: &str,
    id: gix::ObjectId,
) -> anyhow::Result<Bytes> {
    check_size(path, repository.find_header(id)?.size())?;
    Ok(repository.find_object(id)?.detach().data.into())
}

/// Refuses a file that is too large to be read.
pub(super) fn check_size(path: &str, size: u64) -> Result<(), TooLarge> {
    match size > LARGEST_FILE as u64 {
        false => Ok(()),
        true => Err(TooLarge {
            path: path.to_owned(),
            size,
        }),
    }
}

/// Whether a file only stands for one in Git LFS.
pub(super) fn is_pointer(bytes: &[u8]) -> bool {
    bytes.len() <= LARGEST_POINTER && bytes.starts_with(LFS)
}

pub(super) fn is_below(path: &str, folder: &str) -> bool {
    let folder = folder.trim_matches('/');
    match path.strip_prefix(folder) {
        Some(rest) => folder.is_empty() || folder == "." || rest.starts_with('/'),
        None => folder == ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_no_prefix_of_a_name() {
        for (path, folder, below) in [
            ("apps/web.yaml", "", true),
            ("apps/web.yaml", ".", true),
            ("apps/web.yaml", "apps", true),
            ("apps/web.yaml", "/apps/", true),
            ("apps-old/web.yaml", "apps", false),
            ("web.yaml", "apps", false),
        ] {
            assert_eq!(is_below(path, folder), below, "{path} below {folder:?}");
        }
    }
}
