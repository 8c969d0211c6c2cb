//! The folder of one chart that is followed: every version that was taken, packed, and which is the newest.
//!
//! `VERSION@SHA256.tgz`: the name says what it holds, and pins the version. `newest.json` names the one that is used. A
//! file takes its name by rename, and is checked against it whenever it is read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::index::Seen;

const NEWEST: &str = "newest.json";
/// So many versions of a chart are kept, for ranges that go back.
const MOST_VERSIONS: usize = 5;
/// What may stay of charts that nobody names any more.
const MOST_UNUSED: u64 = 1 << 30;

#[derive(Debug)]
pub(super) struct Kept(pub(super) PathBuf);

/// What is used, and what was seen when it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Newest {
    pub(super) version: String,
    /// In hex.
    pub(super) sha256: String,
    /// In ms.
    pub(super) fetched_at: i64,
    #[serde(default)]
    pub(super) seen: Seen,
}

impl Kept {
    pub(super) fn newest(&self) -> Option<Newest> {
        let text = fs::read(self.0.join(NEWEST)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn put_newest(&self, newest: &Newest) -> io::Result<()> {
        self.write(NEWEST, &serde_json::to_vec(newest)?)?;
        self.tidy(newest);
        Ok(())
    }

    /// What a version was when it was taken.
    pub(super) fn sha256_of(&self, version: &str) -> Option<String> {
        let names = self.archives().into_iter().map(|(_, name)| name);
        let mut hashes = names.filter_map(|name| {
            let (of, sha256) = name.strip_suffix(".tgz")?.rsplit_once('@')?;
            (of == version).then(|| sha256.to_owned())
        });
        hashes.next()
    }

    /// A packed chart; one that is damaged is removed.
    pub(super) fn read(&self, version: &str, wanted: &str) -> Option<Bytes> {
        let path = self.0.join(name(version, wanted));
        let packed = fs::read(&path).ok()?;
        if sha256(&packed) == wanted {
            return Some(packed.into());
        }
        tracing::warn!(file = %path.display(), "a chart that was kept is damaged and will be fetched anew");
        fs::remove_file(path).ok();
        None
    }

    pub(super) fn put(&self, version: &str, sha256: &str, packed: &[u8]) -> io::Result<()> {
        self.write(&name(version, sha256), packed)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let beside = self.0.join("new");
        fs::write(&beside, bytes)?;
        fs::rename(beside, self.0.join(name))
    }

    /// Removes the oldest versions beyond those that are kept.
    fn tidy(&self, newest: &Newest) {
        let used = name(&newest.version, &newest.sha256);
        let mut archives = self.archives();
        archives.retain(|(_, name)| *name != used);
        archives.sort();
        let more = (archives.len() + 1).saturating_sub(MOST_VERSIONS);
        for (_, name) in archives.into_iter().take(more) {
            fs::remove_file(self.0.join(name)).ok();
        }
    }

    /// Name and age of every packed chart.
    fn archives(&self) -> Vec<(SystemTime, String)> {
        let names = entries(&self.0).filter(|(_, _, name)| name.ends_with(".tgz"));
        names.map(|(time, _, name)| (time, name)).collect()
    }
}

/// Removes the oldest folders of charts that nobody names, as far as they are too much.
pub(crate) fn clean(folder: &Path, kept: &BTreeSet<PathBuf>) {
    let mut unused: Vec<_> = entries(folder)
        .filter(|(_, path, _)| !kept.contains(path))
        .map(|(_, path, _)| {
            let files: Vec<_> = entries(&path).collect();
            let used = files.iter().map(|(time, ..)| *time).max();
            let size = |path: &PathBuf| path.metadata().map_or(0, |file| file.len());
            let size: u64 = files.iter().map(|(_, path, _)| size(path)).sum();
            (used, size, path)
        })
        .collect();
    unused.sort();
    let mut all: u64 = unused.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in unused {
        if all <= MOST_UNUSED {
            return;
        }
        all -= size;
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::debug!(%error, folder = %path.display(), "old charts can't be removed yet");
        }
    }
}

/// What is in a folder: when it was written, its path and its name.
fn entries(folder: &Path) -> impl Iterator<Item = (SystemTime, PathBuf, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let time = entry.metadata().ok()?.modified().ok()?;
        Some((time, entry.path(), entry.file_name().into_string().ok()?))
    })
}

fn name(version: &str, sha256: &str) -> String {
    format!("{version}@{sha256}.tgz")
}

/// In hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}
