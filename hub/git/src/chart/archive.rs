//! A packed chart taken apart, trusting nothing: bounded in bytes, files and depth, and plain files only.
//!
//! In: a gzipped tar archive, as `helm package` makes it. Out: its files by their path inside the chart, or what is wrong
//! with it. Nothing is written to disk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use tar::{Archive, EntryType};

/// All that comes out of an archive.
const LARGEST: u64 = 64 << 20;
/// One file.
const LARGEST_FILE: u64 = 16 << 20;
const MOST_ENTRIES: usize = 10_000;
const LONGEST_PATH: usize = 512;
const DEEPEST: usize = 32;

/// The files of a packed chart, without the folder that they are packed in.
///
/// # Errors
/// What is wrong with it: `ARCHIVE PROBLEM` is a sentence.
pub(super) fn unpack(packed: &[u8]) -> Result<BTreeMap<String, Bytes>, String> {
    let over = Cell::new(false);
    let unpacked = read(Bounded {
        inner: MultiGzDecoder::new(packed),
        left: LARGEST,
        over: &over,
    });
    match over.get() {
        true => Err(format!("unpacks to more than {} MiB", LARGEST >> 20)),
        false => unpacked,
    }
}

fn read(unpacked: impl Read) -> Result<BTreeMap<String, Bytes>, String> {
    let broken = |error: io::Error| format!("is no gzipped tar archive: {error}");
    let mut files = BTreeMap::new();
    let mut archive = Archive::new(unpacked);
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        if number == MOST_ENTRIES {
            return Err(format!("holds more than {MOST_ENTRIES} entries"));
        }
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| "holds a file whose name is no text".to_owned())?;
        let place = inside(path.trim_end_matches('/')).map_err(|why| {
            let start: String = path.chars().take(100).collect();
            format!("holds {start:?}, which {why}")
        })?;
        let what = match kind {
            EntryType::Regular => None,
            EntryType::Directory => continue,
            EntryType::Symlink => Some("a symbolic link"),
            EntryType::Link => Some("a link"),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Some("a device"),
            _ => Some("no plain file"),
        };
        if let Some(what) = what {
            return Err(format!("holds {path:?}, which is {what}"));
        }
        let Some(place) = place else {
            return Err(format!("holds {path:?} outside the folder of the chart"));
        };
        let mut bytes = Vec::new();
        let most = LARGEST_FILE + 1;
        entry
            .by_ref()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(broken)?;
        if bytes.len() as u64 == most {
            let most = LARGEST_FILE >> 20;
            return Err(format!("holds {path:?}, which has more than {most} MiB"));
        }
        if files.insert(place.to_owned(), bytes.into()).is_some() {
            return Err(format!("holds {path:?} twice"));
        }
    }
    match folder_that_is_a_file(&files) {
        Some(path) => Err(format!("holds {path:?} as a file and as a folder")),
        None => Ok(files),
    }
}

/// Whether the files are a chart of this name and version.
///
/// # Errors
/// As [`unpack`].
pub(super) fn is_chart(
    files: &BTreeMap<String, Bytes>,
    name: &str,
    version: &str,
) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        name: String,
        #[serde(default)]
        version: String,
    }
    let file = files.get("Chart.yaml").ok_or("holds no Chart.yaml")?;
    let head: Head = serde_saphyr::from_slice(file).map_err(|error| {
        format!(
            "holds a Chart.yaml that can't be read: {}",
            error.without_snippet()
        )
    })?;
    match head.name == name && head.version == version {
        true => Ok(()),
        false => Err(format!(
            "holds the chart {:?} {:?}, and should hold {name} {version}",
            head.name, head.version
        )),
    }
}

/// The path below the folder that everything is packed in; `None` for what is not in one.
fn inside(path: &str) -> Result<Option<&str>, &'static str> {
    if path.len() > LONGEST_PATH || path.split('/').count() > DEEPEST {
        return Err("is too deep or too long a path");
    }
    if path.starts_with('/') {
        return Err("is an absolute path");
    }
    let bad = |part: &str| matches!(part, "" | "." | "..");
    if path.split('/').any(bad) || path.contains(|c: char| c == '\\' || c.is_control()) {
        return Err("is no plain path");
    }
    Ok(path.split_once('/').map(|(_, inside)| inside))
}

fn folder_that_is_a_file(files: &BTreeMap<String, Bytes>) -> Option<&str> {
    let mut paths = files.keys().map(String::as_str);
    paths.find(|path| {
        let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
        above.any(|folder| files.contains_key(folder))
    })
}

/// Ends with an error, and says so, where more comes than may.
struct Bounded<'a, R> {
    inner: R,
    left: u64,
    over: &'a Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            self.over.set(true);
            return Err(io::Error::other("too much"));
        };
        self.left = left;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    const CHART: &str = "apiVersion: v2\nname: web\nversion: 1.0.0\n";

    /// An entry whose name nobody checked.
    fn entry(kind: EntryType, path: &str, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, content).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        // Without the end of the archive.
        bytes.truncate(bytes.len() - 1024);
        bytes
    }

    fn file(path: &str, content: &str) -> Vec<u8> {
        entry(EntryType::Regular, path, content.as_bytes())
    }

    fn packed(entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for entry in entries {
            encoder.write_all(&entry).unwrap();
        }
        encoder.write_all(&[0; 1024]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_chart_comes_out_without_the_folder_that_it_is_packed_in() {
        let good = packed([
            entry(EntryType::XGlobalHeader, "pax_global_header", b""),
            entry(EntryType::Directory, "web/", b""),
            file("web/Chart.yaml", CHART),
            file("web/templates/a.yaml", "a"),
            file("web/charts/lib-1.tgz", "b"),
        ]);
        let files = unpack(&good).unwrap();
        let paths: Vec<_> = files.keys().collect();
        assert_eq!(
            paths,
            ["Chart.yaml", "charts/lib-1.tgz", "templates/a.yaml"]
        );
        assert_eq!(is_chart(&files, "web", "1.0.0"), Ok(()));
        let other = is_chart(&files, "web", "1.0.1").unwrap_err();
        assert!(other.contains("should hold web 1.0.1"), "{other}");
    }

    #[test]
    fn what_could_do_harm_is_refused_by_its_name() {
        let deep = format!("web/{}a", "a/".repeat(40));
        let said = [
            packed([file("web/../../etc/passwd", "x")]),
            packed([file("/etc/passwd", "x")]),
            packed([file("web\\..\\a", "x")]),
            packed([file("web/./a", "x")]),
            packed([file(&deep, "x")]),
            packed([file("Chart.yaml", CHART)]),
            packed([entry(EntryType::Symlink, "web/a", b"")]),
            packed([entry(EntryType::Link, "web/a", b"")]),
            packed([entry(EntryType::Char, "web/a", b"")]),
            packed([entry(EntryType::GNUSparse, "web/a", b"")]),
            packed([file("web/a", "1"), file("web/a", "2")]),
            packed([file("web/a", "1"), file("web/a/b", "2")]),
            b"no archive".to_vec(),
        ]
        .map(|archive| unpack(&archive).unwrap_err());
        insta::assert_snapshot!(said.join("\n"), @r#"
        holds "web/../../etc/passwd", which is no plain path
        holds "/etc/passwd", which is an absolute path
        holds "web\\..\\a", which is no plain path
        holds "web/./a", which is no plain path
        holds "web/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", which is too deep or too long a path
        holds "Chart.yaml" outside the folder of the chart
        holds "web/a", which is a symbolic link
        holds "web/a", which is a link
        holds "web/a", which is a device
        is no gzipped tar archive: numeric field was not a number:  when getting real_size for :
        holds "web/a" twice
        holds "a/b" as a file and as a folder
        is no gzipped tar archive: invalid gzip header
        "#);
        assert_eq!(
            is_chart(&BTreeMap::new(), "web", "1"),
            Err("holds no Chart.yaml".into())
        );
    }

    #[test]
    fn an_archive_that_swells_is_left_at_its_limit() {
        // 10 GiB of zeros behind a name, as one file, as a name of its own, and as entries without end.
        let zeros = |kind: EntryType| {
            let mut header = Header::new_gnu();
            header.set_path("web/a").unwrap();
            header.set_entry_type(kind);
            header.set_size(10 << 30);
            header.set_cksum();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(header.as_bytes()).unwrap();
            let chunk = vec![0; 1 << 20];
            // What is past the limit is never read.
            for _ in 0..(LARGEST >> 20) + 8 {
                encoder.write_all(&chunk).unwrap();
            }
            encoder.finish().unwrap()
        };
        let said = unpack(&zeros(EntryType::Regular)).unwrap_err();
        assert_eq!(said, "holds \"web/a\", which has more than 16 MiB");
        let name = unpack(&zeros(EntryType::GNULongName)).unwrap_err();
        assert_eq!(name, "unpacks to more than 64 MiB");
        let many = packed((0..=MOST_ENTRIES).map(|number| file(&format!("web/{number}"), "")));
        let many = unpack(&many).unwrap_err();
        assert_eq!(many, "holds more than 10000 entries");
    }
}
