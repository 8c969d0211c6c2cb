//! The private folder of one run: exactly the files of the job, and a home to write in.
//!
//! In: a job, and where its files are. Out: a [`Folder`] on disk, which is removed when it is dropped.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use muster_decide::render::{Job, Values};
use muster_decide::{FileContent, Snapshot};
use muster_git::Blobs;

/// A folder below the data directory. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Folder {
    place: PathBuf,
}

impl Folder {
    /// Blocks.
    ///
    /// # Errors
    /// When a file is not in the mirror any more, has a name that no file should have, or can't be written.
    pub(super) fn of(
        work: &Path,
        job: &Job,
        snapshot: &Snapshot,
        blobs: &Blobs,
    ) -> anyhow::Result<Self> {
        let folder = Self {
            place: work.join(uuid::Uuid::new_v4().to_string()),
        };
        for place in [&folder.place, &folder.files(), &folder.home()] {
            private().create(place)?;
        }
        let mut missing = Vec::new();
        let mut elsewhere = None;
        for (path, oid) in &job.files {
            if let Some(bytes) = known(snapshot, path, oid) {
                folder.write(path, bytes)?;
                continue;
            }
            // A chart that another one names is seen below that one.
            let all = elsewhere.get_or_insert_with(|| by_id(snapshot));
            match all.get(oid.as_str()) {
                Some(bytes) => folder.write(path, bytes)?,
                None => missing.push((path, oid)),
            }
        }
        let files = missing.iter();
        let found = blobs.read(files.map(|(path, oid)| (path.as_str(), oid.as_str())))?;
        for ((path, _), bytes) in missing.into_iter().zip(found) {
            folder.write(path, &bytes)?;
        }
        for (path, given) in &job.given {
            folder.write(path, &given.content)?;
        }
        let values = job.release.iter().flat_map(|release| &release.values);
        for (number, values) in values.enumerate() {
            let bytes = match values {
                Values::File { content, .. } => content,
                Values::Stated(json) => json.as_bytes(),
            };
            write(&folder.values(number), bytes)?;
        }
        // The folder of the job itself may hold no file of its own.
        fs::create_dir_all(folder.files().join(&job.folder))?;
        Ok(folder)
    }

    /// What the tool may read; it runs there.
    pub(super) fn files(&self) -> PathBuf {
        self.place.join("files")
    }

    /// What the tool may write.
    pub(super) fn home(&self) -> PathBuf {
        self.place.join("home")
    }

    /// Values of a chart, by their place among those of the job.
    pub(super) fn values(&self, number: usize) -> PathBuf {
        self.home().join(format!("values-{number}.yaml"))
    }

    fn write(&self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        // Git itself refuses such names, a server may not.
        if path
            .split('/')
            .any(|part| matches!(part, "" | "." | "..") || part.contains('\0'))
        {
            bail!("{path:?} is no path that a file may have");
        }
        let file = self.files().join(path);
        if let Some(above) = file.parent() {
            private().recursive(true).create(above)?;
        }
        write(&file, bytes).with_context(|| path.to_owned())
    }
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    create(file)?.write_all(bytes)
}

/// A new file that nobody else may read.
pub(super) fn create(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(file)
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.place) {
            tracing::warn!(%error, folder = %self.place.display(), "a private folder of a rendering stays; the next start removes it");
        }
    }
}

/// An empty folder, whatever was there; its path without links, as tools say it.
pub(super) fn clean(place: &Path) -> io::Result<PathBuf> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    private().recursive(true).create(place)?;
    place.canonicalize()
}

/// An empty folder in one that others use, too; it goes with its value.
pub(super) fn own(place: &Path) -> io::Result<tempfile::TempDir> {
    private().recursive(true).create(place)?;
    tempfile::Builder::new().prefix("work-").tempdir_in(place)
}

/// Folders for the owner only.
pub(super) fn private() -> DirBuilder {
    let mut folder = DirBuilder::new();
    folder.mode(0o700);
    folder
}

/// Every file that the snapshot holds.
fn by_id(snapshot: &Snapshot) -> HashMap<&str, &Bytes> {
    let files = snapshot.files.values();
    let held = files.filter_map(|file| match &file.content {
        FileContent::Bytes(bytes) => Some((file.oid.as_str(), bytes)),
        _ => None,
    });
    held.collect()
}

fn known<'s>(snapshot: &'s Snapshot, path: &str, oid: &str) -> Option<&'s Bytes> {
    let file = snapshot.files.get(path).filter(|file| file.oid == oid)?;
    match &file.content {
        FileContent::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
