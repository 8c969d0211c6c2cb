//! Outputs of tools on disk, by the key of their job. Losing one costs a run, nothing else.
//!
//! `render/outputs/KEY`, and `render/kept/KEY` for what must stay once it is rendered: the BLAKE3 digest of what follows, in hex, a line's end, and the output. The oldest are
//! removed when all together are too large; to be used makes one young.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use muster_proto::Digest;

use super::folder::{create, private};

/// Hex digits and a line's end.
const HEAD: usize = 65;

#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    place: PathBuf,
    /// Bytes of all together.
    most: u64,
}

impl Outputs {
    pub(super) fn open(place: PathBuf, most: u64) -> io::Result<Self> {
        private().recursive(true).create(&place)?;
        Ok(Self { place, most })
    }

    /// The output of an earlier run; `None` also when it is damaged.
    pub(super) async fn get(&self, key: Digest) -> Option<Bytes> {
        let outputs = self.clone();
        let read = tokio::task::spawn_blocking(move || outputs.read(key));
        read.await.ok()?
    }

    /// Keeps an output.
    pub(super) async fn put(&self, key: Digest, output: Bytes) -> io::Result<()> {
        let outputs = self.clone();
        let write = tokio::task::spawn_blocking(move || outputs.write(key, &output));
        write.await.map_err(io::Error::other)?
    }

    fn file(&self, key: Digest) -> PathBuf {
        self.place.join(key.to_string())
    }

    fn read(&self, key: Digest) -> Option<Bytes> {
        let mut file = File::open(self.file(key)).ok()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).ok()?;
        let output = content
            .get(HEAD..)
            .filter(|output| content[..HEAD - 1] == *blake3::hash(output).to_hex().as_bytes());
        let Some(output) = output else {
            tracing::warn!(%key, "a rendering on disk is damaged and made anew");
            fs::remove_file(self.file(key)).ok();
            return None;
        };
        // Only the order of removing hangs on it.
        file.set_modified(SystemTime::now()).ok();
        Some(Bytes::copy_from_slice(output))
    }

    fn write(&self, key: Digest, output: &[u8]) -> io::Result<()> {
        let beside = self.place.join(format!(".{}", uuid::Uuid::new_v4()));
        let written = self.write_to(&beside, output);
        let written = written.and_then(|()| fs::rename(&beside, self.file(key)));
        if written.is_err() {
            fs::remove_file(&beside).ok();
        }
        written?;
        self.shrink()
    }

    fn write_to(&self, file: &Path, output: &[u8]) -> io::Result<()> {
        let mut file = create(file)?;
        writeln!(file, "{}", blake3::hash(output).to_hex())?;
        file.write_all(output)
    }

    /// Removes the oldest until the rest is small enough; what a crash left half written is old some day, too.
    fn shrink(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.place)? {
            // Another run may be removing it.
            let Ok(metadata) = entry
                .as_ref()
                .map_err(drop)
                .and_then(|it| it.metadata().map_err(drop))
            else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((modified, metadata.len(), entry?.path()));
        }
        let mut all: u64 = files.iter().map(|(_, length, _)| length).sum();
        files.sort();
        for (_, length, path) in files {
            if all <= self.most {
                break;
            }
            fs::remove_file(path).ok();
            all -= length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn key(text: &str) -> Digest {
        Digest::of([text])
    }

    #[test]
    fn an_output_comes_back_and_a_damaged_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(folder.path().to_owned(), 1 << 20).unwrap();
        outputs.write(key("a"), b"kind: A\n").unwrap();
        assert_eq!(outputs.read(key("a")).unwrap(), "kind: A\n");
        assert_eq!(outputs.read(key("b")), None);
        let file = outputs.file(key("a"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);

        let whole = fs::read(&file).unwrap();
        let mut other = whole.clone();
        *other.last_mut().unwrap() = b'!';
        for damaged in [&whole[..whole.len() - 1], &whole[..10], b"", &other] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(outputs.read(key("a")), None, "{damaged:?}");
            assert!(!file.exists());
        }
    }

    #[test]
    fn the_longest_unused_go_when_all_together_are_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(folder.path().to_owned(), 3 * (HEAD as u64 + 100)).unwrap();
        let age = |name: &str, seconds: u64| {
            let file = File::open(outputs.file(key(name))).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        };
        for (name, seconds) in [("a", 1), ("b", 2), ("c", 3)] {
            outputs.write(key(name), &[b'x'; 100]).unwrap();
            age(name, seconds);
        }
        assert!(outputs.read(key("a")).is_some());
        outputs.write(key("d"), &[b'x'; 100]).unwrap();
        let there = ["a", "b", "c", "d"].map(|name| outputs.file(key(name)).exists());
        assert_eq!(there, [true, false, true, true]);
    }
}
