//! A hub whose fleet repository is on a forge that asks for a token and has a CA of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_hub::Hub;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::bed::{Bed, DEADLINE, commit, git, repository, until};
use crate::git_server::GitServer;

const TOKEN: &str = "good-token-4711";

/// A forge with one repository, and the files that a hub is given for it.
struct Forge {
    repository: TempDir,
    files: TempDir,
    server: GitServer,
}

impl Forge {
    async fn start() -> Self {
        let repository = repository();
        std::fs::create_dir(repository.path().join("web")).unwrap();
        let application =
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\n";
        std::fs::write(repository.path().join("web/muster.yaml"), application).unwrap();
        commit(repository.path(), "web");
        let server = GitServer::start(repository.path(), TOKEN).await;
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.pem"), &server.ca_pem).unwrap();
        std::fs::write(files.path().join("token"), format!("{TOKEN}\n")).unwrap();
        Self {
            repository,
            files,
            server,
        }
    }

    fn flag(&self, file: &str) -> String {
        self.files.path().join(file).display().to_string()
    }

    /// `muster-hub serve` with these.
    fn arguments(&self, data: &Path, with_token: bool) -> Vec<String> {
        let mut arguments = vec!["--data".to_owned(), data.display().to_string()];
        arguments.extend([
            "--repo".into(),
            self.server.url(),
            "--poll".into(),
            "1h".into(),
        ]);
        arguments.extend(["--repo-ca-file".into(), self.flag("ca.pem")]);
        if with_token {
            arguments.extend(["--repo-token-file".into(), self.flag("token")]);
        }
        for flag in ["--agents-listen", "--enrolment-listen", "--api-listen"] {
            arguments.extend([flag.to_owned(), "127.0.0.1:0".to_owned()]);
        }
        arguments
    }

    async fn bed(self, with_token: bool) -> (Self, Bed) {
        let data = tempfile::tempdir().unwrap();
        let config = muster_hub::Config::from_arguments(self.arguments(data.path(), with_token));
        let hub = Hub::start(config.unwrap()).await.unwrap();
        let bed = Bed {
            data,
            repository: tempfile::tempdir().unwrap(),
            hub,
            ahead: Default::default(),
        };
        (self, bed)
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

#[tokio::test]
async fn a_token_and_a_ca_of_its_own_let_the_hub_follow_a_repository() {
    let (forge, bed) = Forge::start().await.bed(true).await;
    for text in ["one", "two"] {
        let revision = commit(forge.repository.path(), text);
        assert_eq!(bed.sync().await.unwrap(), revision);
    }
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_token_is_said_and_the_last_good_state_stays() {
    let (forge, bed) = Forge::start().await.bed(true).await;
    let revision = git(forge.repository.path(), &["rev-parse", "HEAD"]);
    assert_eq!(bed.sync().await.unwrap(), revision);
    until("the commit is adopted", async || {
        bed.fleet().await.source.unwrap().adopted_revision == revision
    })
    .await;

    forge.server.take_only("another");
    commit(forge.repository.path(), "not to be had");
    let told = bed.sync().await.unwrap_err().message().to_owned();
    assert!(told.starts_with(&forge.server.url()), "{told}");
    assert!(told.contains("--repo-token-file"), "{told}");
    assert!(told.contains(&forge.flag("token")), "{told}");
    until("the error is shown", async || {
        bed.fleet().await.source.unwrap().error == told
    })
    .await;
    let shown = bed.fleet().await;
    assert_eq!(shown.source.unwrap().adopted_revision, revision);
    assert_eq!(shown.applications[0].name, "web");

    // A token that is put right is used at the next fetch.
    std::fs::write(forge.files.path().join("token"), "another").unwrap();
    bed.sync().await.unwrap();
    until("the error is gone", async || {
        bed.fleet().await.source.unwrap().error.is_empty()
    })
    .await;
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_repository_that_wants_a_token_says_which_flag_gives_one() {
    let (forge, bed) = Forge::start().await.bed(false).await;
    let told = bed.sync().await.unwrap_err().message().to_owned();
    assert!(told.starts_with(&forge.server.url()), "{told}");
    assert!(
        told.contains("give a token with --repo-token-file"),
        "{told}"
    );
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_another_ca_vouches_for_is_told_apart_from_one_that_is_away() {
    let forge = Forge::start().await;
    let other = GitServer::start(forge.repository.path(), TOKEN).await;
    std::fs::write(forge.files.path().join("ca.pem"), &other.ca_pem).unwrap();
    let (forge, bed) = forge.bed(true).await;
    let told = bed.sync().await.unwrap_err().message().to_owned();
    assert!(told.starts_with(&forge.server.url()), "{told}");
    assert!(told.contains("--repo-ca-file"), "{told}");

    let url = forge.server.url();
    drop(forge.server);
    let told = bed.sync().await.unwrap_err().message().to_owned();
    assert!(
        told.starts_with(&url) && !told.contains("--repo-ca-file"),
        "{told}"
    );
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn the_token_is_for_one_server_and_does_not_follow_a_redirect_to_another() {
    let forge = Forge::start().await;
    let other = GitServer::start(forge.repository.path(), "whatever").await;
    let both = format!("{}{}", forge.server.ca_pem, other.ca_pem);
    std::fs::write(forge.files.path().join("ca.pem"), both).unwrap();
    forge.server.redirect_to(&other);
    let (_forge, bed) = forge.bed(true).await;
    let told = bed.sync().await.unwrap_err().message().to_owned();
    assert!(told.contains("it redirects to"), "{told}");
    let shown = other.shown();
    assert!(!shown.is_empty(), "the redirect was followed: {told}");
    assert!(shown.iter().all(String::is_empty), "{shown:?}");
    bed.hub.stop().await.unwrap();
}

/// Runs the program itself, so that every log line of every crate is seen, until it says `last`.
async fn log_of_a_hub(forge: &Forge, data: &Path, last: &str) -> String {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster-hub"))
        .arg("serve")
        .args(forge.arguments(data, true))
        .args(["--log", "trace"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    let mut log = String::new();
    let reads = async {
        while !log.contains(last) {
            let line = lines.next_line().await.unwrap();
            log.push_str(&line.unwrap_or_else(|| panic!("never logged: {last}")));
            log.push('\n');
        }
    };
    tokio::time::timeout(DEADLINE, reads).await.unwrap();
    program.kill().await.unwrap();
    log
}

#[tokio::test]
async fn the_token_is_in_no_log_and_in_no_file_of_the_hub() {
    let forge = Forge::start().await;
    let data = tempfile::tempdir().unwrap();
    let encoded = STANDARD.encode(format!("x-access-token:{TOKEN}"));
    for (good, last) in [
        (TOKEN, "decided what every cluster should run"),
        ("another", "a repository can't be fetched"),
    ] {
        forge.server.take_only(good);
        let log = log_of_a_hub(&forge, data.path(), last).await;
        assert!(log.contains("TRACE"), "traces are on");
        assert!(!log.contains(TOKEN) && !log.contains(&encoded));
    }
    let written = files(data.path());
    assert!(written.iter().any(|file| file.ends_with("muster.db")));
    for file in written {
        let bytes = std::fs::read(&file).unwrap();
        for secret in [TOKEN, &encoded] {
            let held = bytes
                .windows(secret.len())
                .any(|at| at == secret.as_bytes());
            assert!(!held, "{} holds the token", file.display());
        }
    }
}
