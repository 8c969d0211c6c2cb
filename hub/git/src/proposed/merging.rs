//! The three-way merge of what is proposed, as `git merge` makes it: without a branch, and without a working tree.

use std::collections::BTreeSet;

use anyhow::Context as _;
use bytes::Bytes;
use gix::merge::blob::builtin_driver::text::Labels;
use gix::merge::tree::TreatAsUnresolved;
use gix::objs::tree::EntryKind;

/// Files that are named of a conflict; of more, only how many.
const NAMED: usize = 10;

/// Files that differ from a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingTree {
    /// The commit, by its whole id.
    pub base: String,
    /// What became of files, by path from the root.
    pub edits: Vec<(String, Edit)>,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It is no more.
    Deleted,
    /// A plain file.
    File(Bytes),
    /// One that can be run.
    Executable(Bytes),
    /// A symbolic link, and where it leads.
    Link(Bytes),
}

/// What comes of a merge.
pub(super) enum Merged {
    /// A commit.
    Commit(gix::ObjectId),
    /// Nothing, for these files.
    Conflicts(String),
    /// Nothing: as far as is known they have no history in common.
    Strangers,
}

/// Merges `theirs` into `ours`.
pub(super) fn merge(
    opened: &gix::Repository,
    ours: gix::ObjectId,
    theirs: gix::ObjectId,
) -> anyhow::Result<Merged> {
    if opened.merge_base(ours, theirs)?.is_none() {
        return Ok(Merged::Strangers);
    }
    let labels = Labels {
        ancestor: None,
        current: Some("the fleet".into()),
        other: Some("what is planned".into()),
    };
    let options = opened.tree_merge_options()?;
    let outcome = opened.merge_commits(ours, theirs, labels, options.into())?;
    let mut outcome = outcome.tree_merge;
    let how = TreatAsUnresolved::git();
    let conflicts = outcome.conflicts.iter();
    let conflicts = conflicts.filter(|conflict| conflict.is_unresolved(how));
    let files: BTreeSet<String> = conflicts
        .map(|conflict| conflict.ours.location().to_string())
        .collect();
    if !files.is_empty() {
        let more = match files.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let files: Vec<String> = files.into_iter().take(NAMED).collect();
        return Ok(Merged::Conflicts(format!("{}{more}", files.join(", "))));
    }
    let tree = outcome.tree.write()?.detach();
    Ok(Merged::Commit(commit(opened, tree, vec![ours, theirs])?))
}

/// The commit that a working tree would be.
pub(super) fn edited(
    opened: &gix::Repository,
    tree: &WorkingTree,
) -> anyhow::Result<gix::ObjectId> {
    let base: gix::ObjectId = tree.base.parse()?;
    let mut editor = opened.find_commit(base)?.tree()?.edit()?;
    for (path, edit) in &tree.edits {
        let (kind, bytes) = match edit {
            Edit::Deleted => {
                editor.remove(path.as_str())?;
                continue;
            }
            Edit::File(bytes) => (EntryKind::Blob, bytes),
            Edit::Executable(bytes) => (EntryKind::BlobExecutable, bytes),
            Edit::Link(bytes) => (EntryKind::Link, bytes),
        };
        let blob = opened.write_blob(bytes)?;
        editor
            .upsert(path.as_str(), kind, blob)
            .with_context(|| format!("{path:?} is no path of a file"))?;
    }
    let written = editor.write()?.detach();
    commit(opened, written, vec![base])
}

/// Always the same for the same tree and parents.
fn commit(
    opened: &gix::Repository,
    tree: gix::ObjectId,
    parents: Vec<gix::ObjectId>,
) -> anyhow::Result<gix::ObjectId> {
    let nobody = gix::actor::Signature {
        name: "muster-hub".into(),
        email: "".into(),
        time: gix::date::Time::new(0, 0),
    };
    let commit = gix::objs::Commit {
        tree,
        parents: parents.into(),
        author: nobody.clone(),
        committer: nobody,
        encoding: None,
        message: "What a plan is of".into(),
        extra_headers: Vec::new(),
    };
    Ok(opened.write_object(&commit)?.detach())
}
