//! How large a stranger's commit may be: a pack of a few kilobytes can hold a tree of millions of files.

use std::ops::ControlFlow;
use std::path::Path;

use gix::bstr::BStr;
use gix::objs::tree::EntryRef;
use gix::traverse::tree::{Recorder, Visit, visit::Action};
use muster_decide::snapshot::is_read;

/// Files and folders of a commit.
const MOST_ENTRIES: usize = 500_000;
/// Bytes of all files that are read, MiB.
const MOST_MEBIBYTES: u64 = 512;

/// Why a commit is too large to be read, for people.
pub(super) fn check(commit: &gix::Commit<'_>) -> Result<(), String> {
    let unreadable = |error: gix::Error| format!("it can't be read: {error}");
    let tree = commit.tree().map_err(unreadable)?;
    let mut counted = Counted {
        left: MOST_ENTRIES,
        recorder: Recorder::default(),
    };
    let walked = tree.traverse().breadthfirst(&mut counted);
    if counted.left == 0 {
        return Err(format!(
            "it holds more than {MOST_ENTRIES} files and folders: the hub plans none that is so large"
        ));
    }
    walked.map_err(unreadable)?;
    let mut left = MOST_MEBIBYTES << 20;
    for entry in &counted.recorder.records {
        let read = std::str::from_utf8(&entry.filepath).is_ok_and(is_read);
        if !(entry.mode.is_blob() && read) {
            continue;
        }
        let size = commit
            .repo
            .find_header(entry.oid)
            .map_err(unreadable)?
            .size();
        left = left.checked_sub(size).ok_or_else(|| {
            format!("its manifests have more than {MOST_MEBIBYTES} MiB: the hub plans none that is so large")
        })?;
    }
    Ok(())
}

/// Bytes below a folder; what can't be read counts nothing.
pub(super) fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Stops after so many entries.
struct Counted {
    left: usize,
    recorder: Recorder,
}

impl Counted {
    fn count(&mut self, entry: &EntryRef<'_>) -> Action {
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => ControlFlow::Break(()),
            _ => self.recorder.visit_nontree(entry),
        }
    }
}

impl Visit for Counted {
    fn pop_back_tracked_path_and_set_current(&mut self) {
        self.recorder.pop_back_tracked_path_and_set_current();
    }

    fn pop_front_tracked_path_and_set_current(&mut self) {
        self.recorder.pop_front_tracked_path_and_set_current();
    }

    fn push_back_tracked_path_component(&mut self, component: &BStr) {
        self.recorder.push_back_tracked_path_component(component);
    }

    fn push_path_component(&mut self, component: &BStr) {
        self.recorder.push_path_component(component);
    }

    fn pop_path_component(&mut self) {
        self.recorder.pop_path_component();
    }

    fn visit_tree(&mut self, entry: &EntryRef<'_>) -> Action {
        self.count(entry)
    }

    fn visit_nontree(&mut self, entry: &EntryRef<'_>) -> Action {
        self.count(entry)
    }
}
