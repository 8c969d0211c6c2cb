//! The whole fleet task: a real store, a real repository, sessions by hand, and a clock that the test sets.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use muster_git::Repository;
use muster_proto::{ApplicationStatus, HealthStatus, Removals, Rows, SyncStatus};
use tokio::task::JoinHandle;

use super::*;
use crate::view::{ClusterView, Connection};

mod approvals;
mod certificates;
mod pauses;

const SECONDS: i64 = 1_000;

struct Bed {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

struct Hub {
    fleet: Fleet,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Bed {
    /// A repository with one application, `web`, everywhere.
    fn new() -> Self {
        let bed = Self {
            folder: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(1_000 * SECONDS)),
        };
        std::fs::create_dir(bed.path("work")).unwrap();
        bed.git(&["init", "-q", "-b", "main"]);
        bed.declare("web");
        bed.commit("web/config.yaml", &config_map("one"));
        bed
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.path("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
    }

    fn commit(&self, path: &str, text: &str) {
        let file = self.path("work").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", path]);
    }

    fn declare(&self, name: &str) {
        self.commit(
            &format!("{name}/muster.yaml"),
            &format!(
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {name}\nspec:\n  namespace: shop\n"
            ),
        );
    }

    fn pass(&self, milliseconds: i64) {
        self.now.fetch_add(milliseconds, Ordering::Relaxed);
    }

    async fn start(&self) -> Hub {
        let now = self.now.clone();
        let clock: Clock = Arc::new(move || Timestamp(now.load(Ordering::Relaxed)));
        let shutdown = CancellationToken::new();
        let data = self.path("data");
        let store = Store::open(&data, None, clock()).await.unwrap();
        let repository = Repository {
            url: format!("file://{}", self.path("work").display()),
            branch: "main".into(),
            poll: Duration::from_secs(3600),
            ..Repository::default()
        };
        let (git, following) =
            muster_git::follow(repository, None, &data, clock.clone(), shutdown.clone());
        let renderer = Renderer::without_tools();
        let (fleet, task) = start(store, git, renderer, clock, Threads::Many, shutdown.clone())
            .await
            .unwrap();
        Hub {
            fleet,
            shutdown,
            tasks: vec![tokio::spawn(following), tokio::spawn(task)],
        }
    }
}

impl Hub {
    async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }

    async fn join(&self, cluster: &str) {
        let hour = Duration::from_secs(3600);
        let name = cluster.parse().unwrap();
        let token = self
            .fleet
            .create_join_token("alice", name, BTreeMap::new(), hour)
            .await
            .unwrap();
        let uid = format!("uid of {cluster}");
        let joined = self
            .fleet
            .redeem_token(token.secret, uid, certified(cluster));
        joined.await.unwrap();
    }

    /// Waits until the view shows it.
    async fn shows(&self, what: &str, is: impl Fn(&View) -> bool) -> Arc<View> {
        let mut view = self.fleet.view();
        let waited = tokio::time::timeout(Duration::from_secs(20), view.wait_for(|view| is(view)));
        match waited.await {
            Ok(view) => view.unwrap().clone(),
            Err(_) => panic!("{what}: {:#?}", self.fleet.view().borrow()),
        }
    }

    async fn shows_cluster(&self, what: &str, is: impl Fn(&ClusterView) -> bool) {
        self.shows(what, |view| {
            view.cluster("eu-1").is_some_and(|cluster| is(cluster))
        })
        .await;
    }

    /// Waits until the newest commit is decided.
    async fn decided(&self) -> Arc<View> {
        let revision = self.fleet.sync_now("alice").await.unwrap();
        self.shows("the newest commit is adopted", |view| {
            view.source.adopted_revision == revision
        })
        .await
    }
}

/// What the hub's CA would make.
fn issued(serial: &str) -> Issued {
    Issued {
        chain: Vec::new(),
        serial: serial.into(),
        ends: Timestamp(i64::MAX),
    }
}

fn certified(serial: &str) -> impl FnOnce(&ClusterName) -> Issued + use<> {
    let issued = issued(serial);
    move |_| issued
}

fn config_map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  k: {value}\n")
}

fn hello(instance: &str, holds: Option<&Desired>) -> Hello {
    Hello {
        cluster: "eu-1".parse().unwrap(),
        certificate: Certificate {
            serial: "01".into(),
            not_after: Timestamp(i64::MAX),
        },
        agent_version: "0.1.0".into(),
        kubernetes_version: "v1.37.2".into(),
        cluster_uid: "uid of eu-1".into(),
        instance: instance.into(),
        generation: holds.map_or(0, |desired| desired.generation),
        desired_digest: holds.map(Desired::digest),
        applications: Vec::new(),
        hindrance: String::new(),
        unkept: String::new(),
        knows: Knows::default(),
    }
}

async fn desired(grant: &mut Grant, is: impl Fn(&Desired) -> bool) -> Arc<Desired> {
    let wait = grant.desired.wait_for(|desired| is(desired));
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.expect("it is published").unwrap().clone()
}

/// Takes the state, as an agent that has stored it.
async fn accept(grant: &Grant, desired: &Desired) {
    let accepted = Accepted {
        generation: desired.generation,
        desired_digest: Some(desired.digest()),
        refused: None,
    };
    grant.session.accepted(accepted).await;
}

fn synced(desired: &Desired) -> Rows {
    let rows = desired
        .applications
        .iter()
        .map(|application| ApplicationStatus {
            application: application.name.clone(),
            digest: application.digest(),
            revision: application.revision.clone(),
            sync: SyncStatus::Synced,
            health: HealthStatus::Current,
            message: String::new(),
            objects: 1,
            synced: 1,
            healthy: 1,
            waiting: 0,
            unapproved: 0,
            since: Timestamp(1),
        });
    Rows::new(desired.generation, rows, [])
}

#[tokio::test]
async fn a_hub_that_has_fetched_nothing_yet_says_what_it_follows() {
    let place = Bed::new();
    let hub = place.start().await;
    let view = hub.fleet.view().borrow().clone();
    assert!(view.source.url.starts_with("file://"), "{view:?}");
    assert_eq!(view.source.branch, "main");
    hub.stop().await;
}

#[tokio::test]
async fn a_commit_reaches_its_cluster_and_a_restart_stamps_nothing_even_without_git() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let first = desired(&mut grant, |desired| desired.generation > 0).await;
    assert_eq!(first.applications[0].name.as_str(), "web");
    accept(&grant, &first).await;
    assert!(grant.session.report(synced(&first).full_report()).await);
    hub.shows_cluster("its status", |cluster| {
        (cluster.sync, cluster.synced) == (SyncStatus::Synced, 1)
    })
    .await;
    bed.commit("web/config.yaml", &config_map("two"));
    hub.decided().await;
    let second = desired(&mut grant, |desired| desired.generation > first.generation).await;
    drop(grant);
    hub.stop().await;

    // Neither the repository nor its mirror: the store alone.
    std::fs::rename(bed.path("work"), bed.path("away")).unwrap();
    std::fs::remove_dir_all(bed.path("data/git")).unwrap();
    let hub = bed.start().await;
    let grant = hub.fleet.connect(hello("b", Some(&second))).await.unwrap();
    assert_eq!(**grant.desired.borrow(), *second);
    let view = hub.fleet.view().borrow().clone();
    assert_eq!(view.cluster("eu-1").unwrap().rows.applications().len(), 1);
    drop(grant);
    hub.stop().await;

    // And with a broken commit at HEAD.
    std::fs::rename(bed.path("away"), bed.path("work")).unwrap();
    bed.commit("web/config.yaml", "kind: [broken");
    let hub = bed.start().await;
    hub.shows("the error", |view| {
        let mut problems = view.problems.iter();
        problems.any(|problem| problem.location.starts_with("web/config.yaml"))
    })
    .await;
    let grant = hub.fleet.connect(hello("c", Some(&second))).await.unwrap();
    let held = grant.desired.borrow().clone();
    assert_eq!(held.applications, second.applications);
    drop(grant);
    hub.stop().await;
    let hub = bed.start().await;
    hub.shows("the error again", |view| !view.problems.is_empty())
        .await;
    let grant = hub.fleet.connect(hello("d", Some(&held))).await.unwrap();
    assert_eq!(**grant.desired.borrow(), *held);
    hub.stop().await;
}

#[tokio::test]
async fn a_store_from_before_clusters_shared_rows_is_read_and_written_anew() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let before = desired(&mut grant, |desired| desired.generation > 0).await;
    drop(grant);
    hub.stop().await;

    let open = async || {
        Store::open(&bed.path("data"), None, Timestamp(1))
            .await
            .unwrap()
    };
    let store = open().await;
    let rows = store.decided().await.unwrap();
    assert!(!rows.are_older());
    let mut document = serde_json::to_value(&rows.documents["Application/web"]).unwrap();
    let (rendering, _) = rows.renderings.first_key_value().unwrap();
    document["application"]["placements"] = serde_json::json!([
        {"target": "default", "digest": rendering.digest, "clusters": ["eu-1"]},
    ]);
    let mut older = muster_decide::last_good::Changes::default();
    let document = serde_json::from_value(document).unwrap();
    older
        .put
        .documents
        .insert("Application/web".into(), document);
    let keys = rows.documents.into_keys();
    older.removed_documents = keys.filter(|key| key != "Application/web").collect();
    store.put_decided(&older, &[], None, &[]).await.unwrap();
    assert!(store.decided().await.unwrap().are_older());
    drop(store);

    std::fs::rename(bed.path("work"), bed.path("away")).unwrap();
    std::fs::remove_dir_all(bed.path("data/git")).unwrap();
    let hub = bed.start().await;
    let grant = hub.fleet.connect(hello("b", None)).await.unwrap();
    assert_eq!(**grant.desired.borrow(), *before);
    drop(grant);
    hub.stop().await;
    assert!(!open().await.decided().await.unwrap().are_older());
}

#[tokio::test]
async fn a_hub_that_starts_on_an_emptied_repository_shows_what_it_kept() {
    let bed = Bed::new();
    bed.commit(
        "clusters/muster.yaml",
        "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-1}\nspec: {labels: {stage: test}}\n---\napiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-2}\n",
    );
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let wanted = desired(&mut grant, |desired| desired.generation > 0).await;
    assert!(grant.session.report(synced(&wanted).full_report()).await);
    hub.decided().await;
    let before = hub.fleet.view().borrow().clone();
    drop(grant);
    bed.git(&["rm", "-q", "-r", "web"]);
    bed.git(&["commit", "-q", "-m", "nothing left"]);
    let refused = |view: &View| {
        let mut problems = view.problems.iter();
        problems.any(|problem| problem.message.contains("no Application at all"))
    };
    hub.fleet.sync_now("alice").await.unwrap();
    hub.shows("the refusal", refused).await;
    hub.stop().await;

    let hub = bed.start().await;
    let after = hub.shows("the refusal again", refused).await;
    let web = after.application("web").unwrap();
    let known = before.application("web").unwrap();
    assert_eq!(
        (&web.location, &web.revision, web.clusters),
        (&known.location, &known.revision, 2)
    );
    assert_eq!(after.cluster("eu-1").unwrap().labels["stage"], "test");
    let declared = after.cluster("eu-2").unwrap();
    assert_eq!(declared.connection, Connection::NeverJoined);
    assert_eq!(declared.placements.len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn an_application_that_was_renamed_is_not_taken_for_what_the_agent_holds() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let first = desired(&mut grant, |desired| desired.generation > 0).await;
    let web = first.applications[0].clone();
    std::fs::rename(bed.path("work/web"), bed.path("work/shop")).unwrap();
    bed.declare("shop");
    hub.decided().await;
    let second = desired(&mut grant, |desired| desired.generation > first.generation).await;
    let shop = &second.applications[0];
    assert_eq!((shop.name.as_str(), shop.digest()), ("shop", web.digest()));
    let comes_back = Hello {
        applications: vec![(web.name.clone(), web.digest())],
        ..hello("b", Some(&first))
    };
    let grant = hub.fleet.connect(comes_back).await.unwrap();
    let known: Vec<_> = grant
        .known
        .iter()
        .map(|known| known.name.as_str())
        .collect();
    assert_eq!(known, ["web"]);
    assert_eq!(grant.known[0].objects(), web.objects());
    drop(grant);
    hub.stop().await;
}

#[tokio::test]
async fn the_newest_session_wins_and_a_stale_end_does_not_end_it() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let first = hub.fleet.connect(hello("a", None)).await.unwrap();
    let mut second = hub.fleet.connect(hello("b", None)).await.unwrap();
    let Grant {
        session, closed, ..
    } = first;
    assert_eq!(closed.await, Ok(Closed::Superseded));
    drop(session);
    desired(&mut second, |desired| desired.generation > 0).await;
    // An agent is not told that it has to make room for itself.
    let again = hub.fleet.connect(hello("b", None)).await.unwrap();
    assert_eq!(second.closed.await, Ok(Closed::Reconnected));
    let third = hub.fleet.connect(hello("a", None)).await.unwrap();
    assert_eq!(again.closed.await, Ok(Closed::Superseded));
    drop(third);
    hub.stop().await;
}

#[tokio::test]
async fn a_silent_cluster_is_unknown_since_its_last_sign_of_life() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let wanted = desired(&mut grant, |desired| desired.generation > 0).await;
    accept(&grant, &wanted).await;
    grant.session.report(synced(&wanted).full_report()).await;
    let heard = Timestamp(bed.now.load(Ordering::Relaxed));
    hub.shows_cluster("green", |cluster| cluster.sync == SyncStatus::Synced)
        .await;
    bed.pass(45 * SECONDS);
    hub.shows_cluster("unknown since", |cluster| {
        (
            cluster.connection,
            cluster.since,
            cluster.sync,
            cluster.synced,
        ) == (Connection::Unknown, heard, SyncStatus::Unknown, 0)
    })
    .await;
    let view = hub.fleet.view().borrow().clone();
    let web = view.application("web").unwrap();
    assert_eq!((web.clusters, web.synced, web.unknown), (1, 0, 1));
    // What is noticed late is no younger for that.
    let connected_since = |at: i64| {
        move |cluster: &ClusterView| {
            (cluster.connection, cluster.since, cluster.sync)
                == (Connection::Connected, Timestamp(at), SyncStatus::Synced)
        }
    };
    bed.pass(100 * SECONDS);
    let now = bed.now.load(Ordering::Relaxed);
    grant.session.alive(Duration::from_secs(60));
    grant.session.alive(Duration::from_secs(30));
    hub.shows_cluster("connected again", connected_since(now - 30 * SECONDS))
        .await;
    bed.pass(15 * SECONDS);
    hub.shows_cluster("unknown again", |cluster| {
        (cluster.connection, cluster.since) == (Connection::Unknown, Timestamp(now - 30 * SECONDS))
    })
    .await;
    grant.session.alive(Duration::ZERO);
    hub.shows_cluster("connected at last", connected_since(now + 15 * SECONDS))
        .await;
    hub.stop().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["muster.db", "muster.db-wal"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_from_a_backup_stamps_above_its_agents_and_holds_removals_until_a_word() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let old = desired(&mut grant, |desired| desired.generation > 0).await;
    drop(grant);
    hub.stop().await;
    copy(&bed.path("data"), &bed.path("backup"));
    bed.commit("web/config.yaml", &config_map("two"));
    let hub = bed.start().await;
    hub.decided().await;
    let mut grant = hub.fleet.connect(hello("a", Some(&old))).await.unwrap();
    let newer = desired(&mut grant, |desired| desired.generation > old.generation).await;
    drop(grant);
    hub.stop().await;

    std::fs::remove_dir_all(bed.path("data")).unwrap();
    copy(&bed.path("backup"), &bed.path("data"));
    let ahead = newer.stamped(newer.generation + 7);
    let hub = bed.start().await;
    let mut grant = hub.fleet.connect(hello("a", Some(&ahead))).await.unwrap();
    let held = desired(&mut grant, |desired| desired.generation > ahead.generation).await;
    assert!(matches!(held.removals, Removals::Held(_)));
    hub.shows_cluster("the reason", |cluster| {
        cluster.message.contains("store is older")
    })
    .await;
    hub.shows("what waits", |view| view.waiting.len() == 1)
        .await;
    let word = || vec!["restored/eu-1".to_owned()];
    hub.fleet.approve("alice", word()).await.unwrap();
    desired(&mut grant, |desired| desired.removals == Removals::Released).await;
    let again = hub.fleet.approve("alice", word()).await;
    assert!(matches!(again, Err(CommandFailed::NotFound(_))));
    hub.stop().await;
}

#[tokio::test]
async fn a_cluster_that_is_removed_with_its_objects_goes_when_nothing_is_left() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let wanted = desired(&mut grant, |desired| desired.generation > 0).await;
    grant.session.report(synced(&wanted).full_report()).await;
    let name: ClusterName = "eu-1".parse().unwrap();
    hub.fleet
        .remove_cluster("alice", name.clone(), Objects::Delete)
        .await
        .unwrap();
    let nothing = desired(&mut grant, |desired| desired.applications.is_empty()).await;
    assert_eq!(nothing.removals, Removals::Released);
    hub.shows_cluster("removing", |cluster| {
        cluster.connection == Connection::Removing
    })
    .await;
    grant.session.report(synced(&nothing).full_report()).await;
    assert_eq!(grant.closed.await, Ok(Closed::Removed));
    let refused = hub.fleet.connect(hello("a", Some(&nothing))).await;
    assert!(matches!(refused, Err(Refused::Removed)));
    hub.join("eu-1").await;
    let mut newer = hello("b", Some(&nothing));
    newer.certificate.serial = "02".into();
    hub.fleet.connect(newer).await.unwrap();
    let revoked = hub.fleet.connect(hello("a", Some(&nothing))).await;
    assert!(matches!(revoked, Err(Refused::Revoked)));
    hub.stop().await;
}

#[tokio::test]
async fn a_cluster_that_is_removed_and_keeps_its_objects_is_told() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let name: ClusterName = "eu-1".parse().unwrap();
    hub.fleet
        .remove_cluster("alice", name, Objects::Keep)
        .await
        .unwrap();
    assert_eq!(grant.closed.await, Ok(Closed::Removed));
    let refused = hub.fleet.connect(hello("a", None)).await;
    assert!(matches!(refused, Err(Refused::Removed)));
    hub.stop().await;
}

mod two_agents;
