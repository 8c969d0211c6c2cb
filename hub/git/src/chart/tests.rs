//! Following charts of a repository that a small server plays, over HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// What is at a path: an `ETag`, and what comes.
type Files = BTreeMap<String, (String, Vec<u8>)>;

/// Serves files until the process ends.
struct Server {
    url: String,
    puts: Sender<(String, Vec<u8>)>,
    asked: Receiver<String>,
}

impl Server {
    fn start() -> Self {
        // Another test may have done so.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/charts", listener.local_addr().unwrap());
        let (puts, files) = mpsc::channel::<(String, Vec<u8>)>();
        let (ask, asked) = mpsc::channel();
        std::thread::spawn(move || {
            let mut all = Files::new();
            for stream in listener.incoming().flatten() {
                for (path, content) in files.try_iter() {
                    let tag = format!("\"{}\"", kept::sha256(&content));
                    all.insert(path, (tag, content));
                }
                // Who hangs up early has seen enough.
                answer(&stream, &all, &ask).ok();
            }
        });
        Self { url, puts, asked }
    }

    /// Puts a file below the repository; its ETag is its content.
    fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        let path = format!("/charts/{path}");
        self.puts.send((path, content.into())).unwrap();
    }

    /// Puts versions of `web`, and an index of them.
    fn publish(&self, versions: &[(&str, &[u8])]) {
        let mut index = "apiVersion: v1\nentries:\n  web:\n".to_owned();
        for (version, packed) in versions {
            let sha256 = kept::sha256(packed);
            index.push_str(&format!(
                "  - {{name: web, version: {version}, digest: {sha256}, urls: [web-{version}.tgz]}}\n"
            ));
            self.put(&format!("web-{version}.tgz"), *packed);
        }
        self.put("index.yaml", index);
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

fn answer(mut stream: &TcpStream, files: &Files, asked: &Sender<String>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut known = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(tag) = line.strip_prefix("if-none-match: ") {
            known = tag.to_owned();
        }
    }
    let file = files.get(&path).cloned();
    let (status, tag, body) = match file {
        Some((tag, _)) if tag == known => ("304 Not Modified", tag, Vec::new()),
        Some((tag, body)) => ("200 OK", tag, body),
        None => ("404 Not Found", "\"\"".to_owned(), Vec::new()),
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    let asked = asked.send(format!("{name} {}", &status[..3]));
    asked.map_err(std::io::Error::other)?;
    let endless = body == b"endless";
    let length = match endless {
        true => String::new(),
        false => format!("content-length: {}\r\n", body.len()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\netag: {tag}\r\n{length}connection: close\r\n\r\n"
    )?;
    stream.write_all(&body)?;
    match endless {
        true => loop {
            stream.write_all(&[b' '; 1 << 16])?;
        },
        false => Ok(()),
    }
}

/// `web` of a version, with a template of this text.
fn packed(version: &str, text: &str) -> Vec<u8> {
    let chart = format!("apiVersion: v2\nname: web\nversion: {version}\n");
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in [
        ("web/Chart.yaml", chart.as_str()),
        ("web/templates/a.yaml", text),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn chart(version: &str) -> Chart {
    Chart {
        name: "web".into(),
        version: version.into(),
        digest: None,
        packed: false,
    }
}

fn followed(server: &Server, chart: &Chart, folder: &tempfile::TempDir) -> Followed {
    let origin = Origin {
        repository: "charts".into(),
        reference: None,
        chart: Some(chart.clone()),
    };
    let repository = Repository {
        url: server.url.clone(),
        reference: None,
        credential: None,
        verify: None,
    };
    Followed::named(&origin, chart, &repository, None, folder.path().join("web"))
}

fn fetch(followed: &Followed, before: Option<&Commit>) -> Result<Commit, String> {
    let before = before.map(|commit| &commit.snapshot);
    followed.fetch(before, || Timestamp(7), &AtomicBool::new(false))
}

/// What is wrong, without addresses.
fn said(server: &Server, fetched: Result<Commit, String>) -> String {
    fetched.unwrap_err().replace(&server.url, "URL")
}

fn text(commit: &Commit) -> String {
    match &commit.snapshot.files["templates/a.yaml"].content {
        FileContent::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_is_fetched_once_and_there_again_without_the_repository() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    server.publish(&[
        ("1.0.0", &packed("1.0.0", "one")),
        ("2.0.0", &packed("2.0.0", "two")),
    ]);
    let web = followed(&server, &chart("1.0.0"), &folder);
    assert!(web.is_pinned());
    assert!(web.read_newest().unwrap().is_none());
    let commit = fetch(&web, None).unwrap();
    assert_eq!(
        (text(&commit).as_str(), commit.picked.as_deref()),
        ("one", None)
    );
    assert_eq!(commit.snapshot.repository.as_deref(), Some("charts/web"));
    assert_eq!(server.asked(), ["index.yaml 200", "web-1.0.0.tgz 200"]);

    let again = followed(&server, &chart("1.0.0"), &folder);
    let kept = again.read_newest().unwrap().unwrap();
    assert_eq!(
        (&kept.snapshot, kept.fetched_at),
        (&commit.snapshot, Timestamp(7))
    );
    assert!(server.asked().is_empty());

    // For another chart it stays packed.
    let whole = Chart {
        packed: true,
        ..chart("1.0.0")
    };
    let other = tempfile::tempdir().unwrap();
    let commit = fetch(&followed(&server, &whole, &other), None).unwrap();
    let names: Vec<_> = commit.snapshot.files.keys().collect();
    assert_eq!(names, ["web-1.0.0.tgz"]);
}

#[test]
fn a_range_follows_its_highest_and_asks_only_for_what_changed() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let (one, two) = (packed("1.0.0", "one"), packed("1.1.0", "two"));
    server.publish(&[("1.0.0", &one)]);
    let web = followed(&server, &chart("^1"), &folder);
    let first = fetch(&web, None).unwrap();
    assert_eq!(first.picked.as_deref(), Some("1.0.0"));
    server.asked();
    let same = fetch(&web, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&same.snapshot, &first.snapshot));
    assert_eq!(server.asked(), ["index.yaml 304"]);

    server.publish(&[
        ("1.0.0", &one),
        ("1.1.0", &two),
        ("2.0.0", &packed("2.0.0", "three")),
    ]);
    let second = fetch(&web, Some(&first)).unwrap();
    assert_eq!(
        (text(&second).as_str(), second.picked.as_deref()),
        ("two", Some("1.1.0"))
    );
    assert_eq!(server.asked(), ["index.yaml 200", "web-1.1.0.tgz 200"]);
    // It goes back, and what was there need not be fetched.
    server.publish(&[("1.0.0", &one)]);
    assert_eq!(text(&fetch(&web, Some(&second)).unwrap()), "one");
    assert_eq!(server.asked(), ["index.yaml 200"]);
    let kept = followed(&server, &chart("^1"), &folder)
        .read_newest()
        .unwrap()
        .unwrap();
    assert_eq!(kept.picked.as_deref(), Some("1.0.0"));
}

#[test]
fn a_version_that_changes_is_refused_until_its_digest_is_stated() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let (one, other) = (packed("1.0.0", "one"), packed("1.0.0", "other"));
    server.publish(&[("1.0.0", &one)]);
    let web = followed(&server, &chart("1.0.0"), &folder);
    let commit = fetch(&web, None).unwrap();
    server.publish(&[("1.0.0", &other)]);
    let why = said(&server, fetch(&web, Some(&commit)));
    let (was, is) = (kept::sha256(&one), kept::sha256(&other));
    assert_eq!(
        why,
        format!(
            "the chart web 1.0.0 of URL was sha256:{was} and is sha256:{is} now; the one before stays: a version must not change, so publish a new one, or state this digest in spec.source.chart.digest"
        )
    );
    assert_eq!(text(&web.read_newest().unwrap().unwrap()), "one");

    // The same where the index does not say what it is.
    let again = tempfile::tempdir().unwrap();
    let stated = |sha256: &str| Chart {
        digest: Some(sha256.to_owned()),
        ..chart("1.0.0")
    };
    let web = followed(&server, &stated(&was), &again);
    assert!(said(&server, fetch(&web, None)).contains("spec.source.chart.digest says"));
    let web = followed(&server, &stated(&is), &again);
    assert_eq!(text(&fetch(&web, None).unwrap()), "other");
}

#[test]
fn what_is_not_what_was_promised_is_refused_by_its_name() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let fetched = |version: &str| {
        let web = followed(&server, &chart(version), &folder);
        said(&server, fetch(&web, None))
    };
    let mut all = vec![fetched("1.0.0")];
    server.publish(&[("1.0.0", b"no archive"), ("1.0.1", &packed("1.0.0", "x"))]);
    server.put("web-1.1.0.tgz", "another");
    all.extend([fetched("1.0.0"), fetched("1.0.1"), fetched("3.0.0")]);
    server.publish(&[("1.0.0", &packed("1.0.0", "one"))]);
    server.put("web-1.0.0.tgz", packed("1.0.0", "swapped"));
    let swapped = fetched("1.0.0");
    assert!(
        swapped.contains("holds something else than URL says"),
        "{swapped}"
    );
    server.put(
        "index.yaml",
        "entries: {web: [{version: 1.0.0, urls: ['file:///etc/passwd']}]}",
    );
    all.push(fetched("1.0.0"));
    server.put("index.yaml", "entries: {web: [{version: 1.0.0}]}");
    all.push(fetched("1.0.0"));
    insta::assert_snapshot!(all.join("\n"), @r#"
    URL/index.yaml is not there: URL is no repository of charts
    URL/web-1.0.0.tgz is no gzipped tar archive: invalid gzip header
    URL/web-1.0.1.tgz holds the chart "web" "1.0.0", and should hold web 1.0.1
    URL has no version 3.0.0 of the chart web, among 2
    URL names file:///etc/passwd, which is no https:// URL
    URL/index.yaml does not say where web 1.0.0 is
    "#);
}

#[test]
fn an_index_without_end_is_left_at_its_limit() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    server.put("index.yaml", "endless");
    let web = followed(&server, &chart("1.0.0"), &folder);
    assert_eq!(
        said(&server, fetch(&web, None)),
        "URL/index.yaml has more than 64 MiB, too much for an index"
    );
}

#[test]
fn a_damaged_file_is_fetched_anew() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    server.publish(&[("1.0.0", &packed("1.0.0", "one"))]);
    let web = followed(&server, &chart("1.0.0"), &folder);
    let commit = fetch(&web, None).unwrap();
    let file = folder
        .path()
        .join(format!("web/1.0.0@{}.tgz", commit.snapshot.revision));
    std::fs::write(&file, "damaged").unwrap();
    assert!(web.read_newest().unwrap().is_none());
    assert!(!file.exists());
    assert_eq!(fetch(&web, None).unwrap().snapshot, commit.snapshot);
    assert!(file.exists());
}
