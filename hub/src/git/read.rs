//! One commit of a local repository as a [`Snapshot`]. What the snapshot before holds under the same object id is
//! taken from there: only changed files are read, and an unchanged commit is the same snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use gix::objs::tree::EntryKind;
use muster_decide::{File, FileContent, Snapshot, snapshot::is_read};

/// A file that has to be read and is larger fails the fetch: nothing that Kubernetes takes comes near.
const LARGEST_FILE: usize = 32 * 1024 * 1024;

/// A commit's files below `folder` (empty: all), and the first line of its message.
pub(super) fn commit(
    repository: &gix::Repository,
    branch: &str,
    folder: &str,
    before: Option<&Arc<Snapshot>>,
) -> anyhow::Result<(Arc<Snapshot>, String)> {
    let commit = repository
        .find_reference(&format!("refs/heads/{branch}"))
        .and_then(|mut reference| reference.peel_to_id())
        .and_then(|id| id.object())
        .map_err(anyhow::Error::from)?
        .try_into_commit()?;
    let subject = commit.message()?.summary().to_string();
    let revision = commit.id.to_string();
    if let Some(before) = before.filter(|before| before.revision == revision) {
        return Ok((before.clone(), subject));
    }
    let known: HashMap<&str, &FileContent> = before
        .into_iter()
        .flat_map(|before| before.files.values())
        .map(|file| (file.oid.as_str(), &file.content))
        .collect();
    let mut files = BTreeMap::new();
    for entry in commit.tree()?.traverse().breadthfirst.files()? {
        let Ok(path) = std::str::from_utf8(&entry.filepath) else {
            // The model names files in errors and by path; a manifest can't be meant by this one.
            continue;
        };
        if !is_below(path, folder) {
            continue;
        }
        let oid = entry.oid.to_string();
        let content = match entry.mode.kind() {
            EntryKind::Tree => continue,
            EntryKind::Link => FileContent::Symlink,
            EntryKind::Commit => FileContent::Submodule,
            EntryKind::Blob | EntryKind::BlobExecutable if !is_read(path) => FileContent::Unread,
            EntryKind::Blob | EntryKind::BlobExecutable => match known.get(oid.as_str()) {
                Some(FileContent::Bytes(bytes)) => FileContent::Bytes(bytes.clone()),
                _ => FileContent::Bytes(blob(repository, path, entry.oid)?),
            },
        };
        files.insert(path.to_owned(), File { oid, content });
    }
    Ok((
        Arc::new(Snapshot {
            repository: None,
            revision,
            files,
        }),
        subject,
    ))
}

/// The bytes of a file; `path` names it in errors.
pub(super) fn blob(
    repository: &gix::Repository,
    path: &str,
    id: gix::ObjectId,
) -> anyhow::Result<Bytes> {
    let size = repository.find_header(id)?.size();
    anyhow::ensure!(
        size <= LARGEST_FILE as u64,
        "{path} has {size} bytes, and no file that is read may have more than {LARGEST_FILE}"
    );
    Ok(repository.find_object(id)?.detach().data.into())
}

fn is_below(path: &str, folder: &str) -> bool {
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
