//! Repositories that documents of the fleet name: which commit of them, submodules.

use super::*;
use muster_decide::model::repository::GitRef;

/// A second repository beside the fleet's.
pub(super) struct Shop {
    pub(super) place: Place,
    pub(super) folder: PathBuf,
}

impl Place {
    /// Another repository, with one commit.
    fn another(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        run(&folder, &["init", "-q", "-b", "main"]);
        run(&folder, &["commit", "-q", "--allow-empty", "-m", "First"]);
        folder
    }
}

/// Runs git; answers with what it prints.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(super) fn put(folder: &Path, path: &str, text: &str) -> String {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
    run(folder, &["add", "-A"]);
    run(folder, &["commit", "-q", "-m", text]);
    run(folder, &["rev-parse", "HEAD"])
}

impl Shop {
    pub(super) fn new() -> Self {
        let place = Place::new();
        place.commit(&[("x.yaml", "fleet")], "Fleet");
        let folder = place.another("shop");
        Self { place, folder }
    }

    pub(super) fn document(&self) -> model::Repository {
        model::Repository {
            url: format!("file://{}", self.folder.display()),
            reference: None,
            credential: None,
            verify: None,
        }
    }
}

pub(super) fn origin(reference: Option<GitRef>) -> Origin {
    Origin {
        repository: "shop".to_owned(),
        reference,
        chart: None,
    }
}

impl Running {
    pub(super) fn wants(&self, documents: &[(Origin, model::Repository)]) {
        self.git
            .follow_others(documents.iter().cloned().collect(), true);
    }

    /// What is known of one after a fetch of all.
    async fn fetched(&self, origin: &Origin) -> Arc<Tracked> {
        let mut others = self.git.others.clone();
        others
            .wait_for(|others| others.contains_key(origin))
            .await
            .unwrap();
        self.git.fetch_others(Which::All).await;
        // The answer may be ahead of what is published.
        let told = |others: &Arc<Others>| {
            let tracked = &others[origin].tracked;
            tracked.snapshot.is_some() || tracked.error.is_some()
        };
        others.wait_for(told).await.unwrap()[origin].tracked.clone()
    }

    /// Waits until one of the others looks so, fetching again and again.
    pub(super) async fn until(
        &self,
        origin: &Origin,
        is: impl Fn(&Tracked) -> bool,
    ) -> Arc<Tracked> {
        let mut others = self.git.others.clone();
        self.git.fetch_others(Which::All).await;
        let told = |others: &Arc<Others>| others.get(origin).is_some_and(|it| is(&it.tracked));
        let waited = tokio::time::timeout(Duration::from_secs(20), others.wait_for(told));
        match waited.await {
            Ok(others) => others.unwrap()[origin].tracked.clone(),
            Err(_) => panic!("{:?}", self.git.others.borrow().get(origin)),
        }
    }
}

pub(super) fn revision(tracked: &Tracked) -> &str {
    let snapshot = tracked.snapshot.as_ref();
    snapshot.map_or("", |snapshot| &snapshot.revision)
}

#[tokio::test]
async fn a_branch_a_tag_a_range_and_a_commit_are_followed_each() {
    let shop = Shop::new();
    let old = put(&shop.folder, "a.yaml", "one");
    run(&shop.folder, &["tag", "v1.1.0"]);
    let older = put(&shop.folder, "a.yaml", "two");
    run(&shop.folder, &["tag", "-a", "-m", "annotated", "v1.2.0"]);
    run(&shop.folder, &["tag", "v2.0.0"]);
    run(&shop.folder, &["tag", "v1.9.0-rc.1"]);
    let newest = put(&shop.folder, "a.yaml", "three");
    run(&shop.folder, &["checkout", "-q", "-b", "side"]);
    let side = put(&shop.folder, "a.yaml", "side");
    run(&shop.folder, &["checkout", "-q", "main"]);

    let running = shop.place.follow(shop.place.repository());
    let wanted = [
        (None, &newest, "HEAD", ""),
        (Some(GitRef::Branch("side".into())), &side, "side", ""),
        (Some(GitRef::Tag("v1.2.0".into())), &older, "tag v1.2.0", ""),
        (
            Some(GitRef::Semver(">=1 <2".into())),
            &older,
            ">=1 <2",
            "v1.2.0",
        ),
        (Some(GitRef::Commit(old.clone())), &old, "commit", ""),
    ];
    let documents: Vec<_> = wanted
        .iter()
        .map(|(reference, ..)| (origin(reference.clone()), shop.document()))
        .collect();
    running.wants(&documents);
    for (reference, revision_is, shown, picked) in wanted {
        let of = origin(reference);
        let tracked = running.until(&of, |it| revision(it) == *revision_is).await;
        assert_eq!(tracked.error, None);
        assert!(
            tracked.reference.starts_with(shown),
            "{}",
            tracked.reference
        );
        assert_eq!(tracked.picked, picked);
        let snapshot = tracked.snapshot.clone().unwrap();
        assert_eq!(snapshot.repository.as_deref(), Some("shop"));
    }

    // A newer tag in the range is taken, and a tag that moves is followed.
    run(&shop.folder, &["tag", "v1.10.0"]);
    run(&shop.folder, &["tag", "-f", "v1.2.0"]);
    let range = origin(Some(GitRef::Semver(">=1 <2".into())));
    let tracked = running.until(&range, |it| revision(it) == newest).await;
    assert_eq!(tracked.picked, "v1.10.0");
    let tag = origin(Some(GitRef::Tag("v1.2.0".into())));
    running.until(&tag, |it| revision(it) == newest).await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let shop = Shop::new();
    let running = shop.place.follow(shop.place.repository());
    let none = "0123456789012345678901234567890123456789";
    let wanted = [
        (GitRef::Branch("no".into()), "has no branch no"),
        (GitRef::Tag("v1".into()), "has no tag v1"),
        (
            GitRef::Semver(">=1".into()),
            "has no tag that is a version in >=1",
        ),
        (GitRef::Commit(none.into()), "can't be fetched"),
    ];
    let documents: Vec<_> = wanted
        .iter()
        .map(|(reference, _)| (origin(Some(reference.clone())), shop.document()))
        .collect();
    running.wants(&documents);
    for (reference, says) in wanted {
        let tracked = running.fetched(&origin(Some(reference))).await;
        let error = tracked.error.clone().unwrap();
        assert!(error.contains(says), "{error}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_broken_repository_holds_up_no_other_and_what_was_fetched_stays() {
    let shop = Shop::new();
    let first = put(&shop.folder, "a.yaml", "one");
    let gone = model::Repository {
        url: "file:///does/not/exist".into(),
        ..shop.document()
    };
    let running = shop.place.follow(shop.place.repository());
    let broken = Origin {
        repository: "gone".into(),
        reference: None,
        chart: None,
    };
    let good = origin(None);
    running.wants(&[(good.clone(), shop.document()), (broken.clone(), gone)]);
    running.until(&good, |it| revision(it) == first).await;
    running.until(&broken, |it| it.error.is_some()).await;

    let away = shop.folder.with_extension("away");
    std::fs::rename(&shop.folder, &away).unwrap();
    let tracked = running.until(&good, |it| it.error.is_some()).await;
    assert_eq!(revision(&tracked), first);
    running.stop().await;

    // Also across a restart, with the repository still away.
    let running = shop.place.follow(shop.place.repository());
    running.wants(&[(good.clone(), shop.document())]);
    running.until(&good, |it| revision(it) == first).await;
    std::fs::rename(&away, &shop.folder).unwrap();
    let second = put(&shop.folder, "a.yaml", "two");
    let tracked = running.until(&good, |it| revision(it) == second).await;
    assert_eq!(tracked.error, None);
    running.stop().await;
}

#[tokio::test]
async fn a_commit_that_is_here_is_not_asked_for_again() {
    let shop = Shop::new();
    let first = put(&shop.folder, "a.yaml", "one");
    let of = origin(Some(GitRef::Commit(first.to_uppercase())));
    let running = shop.place.follow(shop.place.repository());
    running.wants(&[(of.clone(), shop.document())]);
    running.until(&of, |it| revision(it) == first).await;
    std::fs::remove_dir_all(&shop.folder).unwrap();
    let tracked = running.fetched(&of).await;
    assert_eq!(
        (revision(&tracked), &tracked.error),
        (first.as_str(), &None)
    );
    running.stop().await;
}

#[tokio::test]
async fn mirrors_go_with_the_documents_that_name_them_but_not_while_one_is_broken() {
    let shop = Shop::new();
    put(&shop.folder, "a.yaml", "one");
    let running = shop.place.follow(shop.place.repository());
    let of = origin(None);
    running.wants(&[(of.clone(), shop.document())]);
    running.until(&of, |it| it.snapshot.is_some()).await;
    let sources = shop.place.data().join("sources");
    let mirrors = || std::fs::read_dir(&sources).unwrap().count();
    assert_eq!(mirrors(), 1);

    let mut others = running.git.others.clone();
    running.git.follow_others(BTreeMap::new(), false);
    running.git.fetch_others(Which::All).await;
    assert_eq!(running.git.others.borrow().len(), 1);
    running.git.follow_others(BTreeMap::new(), true);
    others.wait_for(|others| others.is_empty()).await.unwrap();
    assert_eq!(mirrors(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_folder_of_the_hubs_machine_is_none_of_a_fleets_that_comes_from_elsewhere() {
    let shop = Shop::new();
    let elsewhere = Repository {
        url: "https://127.0.0.1:1/fleet.git".into(),
        ..shop.place.repository()
    };
    let running = shop.place.follow(elsewhere);
    let of = origin(None);
    running.wants(&[(of.clone(), shop.document())]);
    let tracked = running.until(&of, |it| it.error.is_some()).await;
    let error = tracked.error.clone().unwrap();
    assert_eq!(error, "its URL is a folder of the hub's own machine");
    running.stop().await;
}

fn submodule(folder: &Path, url: &str, at: &str) {
    run(folder, &["submodule", "--quiet", "add", url, at]);
}

#[tokio::test]
async fn the_files_of_submodules_stand_where_these_do() {
    let shop = Shop::new();
    let inner = shop.place.another("inner");
    put(&inner, "deep.yaml", "deep");
    let library = shop.place.another("library");
    let url = |folder: &Path| format!("file://{}", folder.display());
    submodule(&library, &url(&inner), "vendor/inner");
    let first = put(&library, "lib.yaml", "one");
    submodule(&shop.folder, "../library", "vendor/library");
    put(&shop.folder, "a.yaml", "shop");

    let running = shop.place.follow(shop.place.repository());
    let of = origin(None);
    running.wants(&[(of.clone(), shop.document())]);
    let tracked = running.until(&of, |it| text(it, "a.yaml").is_some()).await;
    assert_eq!(tracked.error, None);
    assert_eq!(
        text(&tracked, "vendor/library/lib.yaml").as_deref(),
        Some("one")
    );
    let deep = "vendor/library/vendor/inner/deep.yaml";
    assert_eq!(text(&tracked, deep).as_deref(), Some("deep"));
    let oid = tracked.snapshot.as_ref().unwrap().files[deep].oid.clone();
    let blobs = tracked.blobs.clone();
    let read = tokio::task::spawn_blocking(move || blobs.read([(deep, oid.as_str())]).unwrap());
    assert_eq!(read.await.unwrap()[0], "deep");

    // It moves with the commit that names it, and only then.
    let second = put(&library, "lib.yaml", "two");
    assert_ne!(first, second);
    let tracked = running.fetched(&of).await;
    assert_eq!(
        text(&tracked, "vendor/library/lib.yaml").as_deref(),
        Some("one")
    );
    run(&shop.folder.join("vendor/library"), &["pull", "-q"]);
    put(&shop.folder, "a.yaml", "shop 2");
    let tracked = running
        .until(&of, |it| text(it, "a.yaml").as_deref() == Some("shop 2"))
        .await;
    assert_eq!(
        text(&tracked, "vendor/library/lib.yaml").as_deref(),
        Some("two")
    );
    running.stop().await;

    // And is there again after a restart, without the network.
    std::fs::rename(&library, library.with_extension("away")).unwrap();
    std::fs::rename(&shop.folder, shop.folder.with_extension("away")).unwrap();
    let running = shop.place.follow(shop.place.repository());
    running.wants(&[(of.clone(), shop.document())]);
    let tracked = running.until(&of, |it| it.snapshot.is_some()).await;
    assert_eq!(text(&tracked, deep).as_deref(), Some("deep"));
    running.stop().await;
}

#[tokio::test]
async fn a_submodule_that_can_not_be_had_is_said_and_comes_when_it_can() {
    let shop = Shop::new();
    let library = shop.place.another("library");
    put(&library, "lib.yaml", "one");
    submodule(&shop.folder, "../library", "vendor/library");
    put(&shop.folder, "a.yaml", "shop");
    let away = library.with_extension("away");
    std::fs::rename(&library, &away).unwrap();

    let running = shop.place.follow(shop.place.repository());
    let of = origin(None);
    running.wants(&[(of.clone(), shop.document())]);
    let tracked = running.until(&of, |it| it.error.is_some()).await;
    let error = tracked.error.clone().unwrap();
    assert!(
        error.starts_with("submodule vendor/library can't be had"),
        "{error}"
    );
    assert_eq!(text(&tracked, "a.yaml").as_deref(), Some("shop"));
    assert_eq!(
        text(&tracked, "vendor/library").as_deref(),
        Some("Submodule")
    );

    std::fs::rename(&away, &library).unwrap();
    let tracked = running.until(&of, |it| it.error.is_none()).await;
    assert_eq!(
        text(&tracked, "vendor/library/lib.yaml").as_deref(),
        Some("one")
    );
    running.stop().await;
}

#[tokio::test]
async fn a_pointer_of_git_lfs_is_no_file() {
    let shop = Shop::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    put(&shop.folder, "big.yaml", pointer);
    put(&shop.folder, "big.tpl", pointer);
    let running = shop.place.follow(shop.place.repository());
    let of = origin(None);
    running.wants(&[(of.clone(), shop.document())]);
    let tracked = running.until(&of, |it| text(it, "big.tpl").is_some()).await;
    assert_eq!(text(&tracked, "big.yaml").as_deref(), Some("LfsPointer"));
    let oid = tracked.snapshot.as_ref().unwrap().files["big.tpl"]
        .oid
        .clone();
    let blobs = tracked.blobs.clone();
    let read =
        tokio::task::spawn_blocking(move || blobs.read([("big.tpl", oid.as_str())]).unwrap_err());
    assert!(
        read.await
            .unwrap()
            .to_string()
            .starts_with("big.tpl is a Git LFS pointer")
    );
    running.stop().await;
}
