//! Following real repositories, made with the `git` command and served by `file://`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use muster_decide::FileContent;
use tokio::task::JoinHandle;

use super::*;

pub(crate) mod others;
mod signed;

/// A repository to push to, a data directory, and a hub's following task.
struct Place {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

struct Running {
    git: Git,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(1_000)),
        };
        std::fs::create_dir(place.work()).unwrap();
        place.git(&["init", "-q", "-b", "main"]);
        place
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn commit(&self, files: &[(&str, &str)], subject: &str) {
        for (path, text) in files {
            let path = self.work().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", subject]);
    }

    fn repository(&self) -> Repository {
        Repository {
            url: format!("file://{}", self.work().display()),
            branch: "main".into(),
            // Tests ask; the poll has one of its own.
            poll: Duration::from_secs(3600),
            ..Repository::default()
        }
    }

    fn follow(&self, repository: Repository) -> Running {
        let now = self.now.clone();
        let clock: Clock = Arc::new(move || Timestamp(now.load(Ordering::Relaxed)));
        let shutdown = CancellationToken::new();
        let (git, task) = follow(repository, None, &self.data(), clock, shutdown.clone());
        Running {
            git,
            shutdown,
            task: tokio::spawn(task),
        }
    }

    fn mirrors(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.data().join("git")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn text(tracked: &Tracked, path: &str) -> Option<String> {
    match &tracked.snapshot.as_ref()?.files.get(path)?.content {
        FileContent::Bytes(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        other => Some(format!("{other:?}")),
    }
}

#[tokio::test]
async fn a_commit_is_read_when_asked_and_its_unchanged_files_are_shared() {
    let place = Place::new();
    place.commit(
        &[
            ("a/x.yaml", "one"),
            ("a/y.yaml", "same"),
            ("logo.png", "big"),
        ],
        "First\n\nbody",
    );
    let running = place.follow(place.repository());
    let first = running.git.fetch_now().await.unwrap();
    assert_eq!(first.error, None);
    assert_eq!(first.subject, "First");
    assert_eq!(first.fetched_at, Timestamp(1_000));
    assert_eq!(text(&first, "a/x.yaml").as_deref(), Some("one"));
    assert_eq!(text(&first, "logo.png").as_deref(), Some("Unread"));

    place.commit(&[("a/x.yaml", "two")], "Second");
    place.now.store(2_000, Ordering::Relaxed);
    let second = running.git.fetch_now().await.unwrap();
    assert_eq!(second.subject, "Second");
    assert_eq!(second.fetched_at, Timestamp(2_000));
    assert_eq!(text(&second, "a/x.yaml").as_deref(), Some("two"));
    let bytes =
        |tracked: &Tracked| match &tracked.snapshot.as_ref().unwrap().files["a/y.yaml"].content {
            FileContent::Bytes(bytes) => bytes.as_ptr(),
            other => panic!("{other:?}"),
        };
    assert_eq!(bytes(&first), bytes(&second));

    let again = running.git.fetch_now().await.unwrap();
    assert!(Arc::ptr_eq(
        again.snapshot.as_ref().unwrap(),
        second.snapshot.as_ref().unwrap()
    ));
    running.stop().await;
}

#[tokio::test]
async fn a_poll_finds_a_commit_unasked() {
    let place = Place::new();
    place.commit(&[("x.yaml", "one")], "First");
    let repository = Repository {
        poll: Duration::from_millis(50),
        ..place.repository()
    };
    let running = place.follow(repository);
    let mut tracked = running.git.tracked.clone();
    let subject = |subject: &'static str| move |tracked: &Arc<Tracked>| tracked.subject == subject;
    tracked.wait_for(subject("First")).await.unwrap();
    place.commit(&[("x.yaml", "two")], "Second");
    tracked.wait_for(subject("Second")).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_rewound_branch_is_a_newer_state() {
    let place = Place::new();
    place.commit(&[("x.yaml", "one")], "First");
    place.commit(&[("x.yaml", "two")], "Second");
    let running = place.follow(place.repository());
    running.git.fetch_now().await.unwrap();
    place.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let rewound = running.git.fetch_now().await.unwrap();
    assert_eq!(
        (rewound.error.clone(), text(&rewound, "x.yaml").as_deref()),
        (None, Some("one"))
    );
    running.stop().await;
}

#[tokio::test]
async fn an_unreachable_repository_keeps_the_last_commit_also_across_a_restart() {
    let place = Place::new();
    place.commit(&[("x.yaml", "one")], "First");
    let running = place.follow(place.repository());
    running.git.fetch_now().await.unwrap();
    std::fs::rename(place.work(), place.folder.path().join("away")).unwrap();
    let away = running.git.fetch_now().await.unwrap();
    assert!(away.error.is_some());
    assert_eq!(text(&away, "x.yaml").as_deref(), Some("one"));
    running.stop().await;

    let running = place.follow(place.repository());
    let restarted = running.git.fetch_now().await.unwrap();
    assert!(restarted.error.is_some());
    assert_eq!(text(&restarted, "x.yaml").as_deref(), Some("one"));
    assert_eq!(restarted.fetched_at, Timestamp(1_000));

    std::fs::rename(place.folder.path().join("away"), place.work()).unwrap();
    let back = running.git.fetch_now().await.unwrap();
    assert_eq!(back.error, None);
    running.stop().await;
}

#[tokio::test]
async fn a_branch_that_is_not_there_says_what_to_do_before_and_after_it_was() {
    let place = Place::new();
    let running = place.follow(place.repository());
    let empty = running.git.fetch_now().await.unwrap();
    let says = |tracked: &Tracked| tracked.error.clone().unwrap_or_default();
    assert!(
        says(&empty).contains("has no branch main"),
        "{}",
        says(&empty)
    );
    place.commit(&[("x.yaml", "one")], "First");
    assert_eq!(running.git.fetch_now().await.unwrap().error, None);
    place.git(&["branch", "-q", "-m", "main", "other"]);
    let gone = running.git.fetch_now().await.unwrap();
    assert!(
        says(&gone).contains("has no branch main"),
        "{}",
        says(&gone)
    );
    assert_eq!(text(&gone, "x.yaml").as_deref(), Some("one"));
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_mirror_is_cloned_anew() {
    let place = Place::new();
    place.commit(&[("x.yaml", "one")], "First");
    let running = place.follow(place.repository());
    running.git.fetch_now().await.unwrap();
    running.stop().await;
    let mirror = place.mirrors().remove(0);
    for pack in std::fs::read_dir(mirror.join("objects/pack")).unwrap() {
        std::fs::write(pack.unwrap().path(), b"garbage").unwrap();
    }
    let running = place.follow(place.repository());
    let mended = running.git.fetch_now().await.unwrap();
    assert_eq!(
        (mended.error.clone(), text(&mended, "x.yaml").as_deref()),
        (None, Some("one"))
    );
    assert!(!mirror.exists());
    std::fs::remove_file(place.mirrors()[0].join("HEAD")).unwrap();
    place.commit(&[("x.yaml", "two")], "Second");
    let mended = running.git.fetch_now().await.unwrap();
    assert_eq!(
        (mended.error.clone(), text(&mended, "x.yaml").as_deref()),
        (None, Some("two"))
    );
    running.stop().await;
}

#[tokio::test]
async fn packs_do_not_pile_up() {
    let place = Place::new();
    place.commit(&[("x.yaml", "0")], "0");
    let running = place.follow(place.repository());
    for round in 1..=60 {
        place.commit(&[("x.yaml", &round.to_string())], "Next");
        let tracked = running.git.fetch_now().await.unwrap();
        assert_eq!(text(&tracked, "x.yaml"), Some(round.to_string()));
    }
    let mirrors = place.mirrors();
    assert_eq!(mirrors.len(), 1);
    assert!(mirrors[0].to_str().unwrap().ends_with("-2"), "{mirrors:?}");
    running.stop().await;
}

#[tokio::test]
async fn only_the_folder_that_is_named_is_read() {
    let place = Place::new();
    place.commit(
        &[("fleet/x.yaml", "one"), ("fleet-old/y.yaml", "no")],
        "First",
    );
    let running = place.follow(Repository {
        path: "fleet".into(),
        ..place.repository()
    });
    let tracked = running.git.fetch_now().await.unwrap();
    let files: Vec<_> = tracked.snapshot.as_ref().unwrap().files.keys().collect();
    assert_eq!(files, ["fleet/x.yaml"]);
    running.stop().await;
}
