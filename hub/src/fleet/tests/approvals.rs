//! What waits for a person's word, through the whole task: shown, kept by the store, approved, and then not asked again.

use super::*;
use crate::view::{Waiting, What};
use muster_proto::Approval;

fn names() -> Vec<String> {
    (1..=12).map(|n| format!("eu-{n}")).collect()
}

fn hello_of(cluster: &str) -> Hello {
    let mut hello = hello("a", None);
    hello.cluster = cluster.parse().unwrap();
    hello.cluster_uid = format!("uid of {cluster}");
    hello.certificate.serial = format!("serial of {cluster}");
    hello
}

fn runs(desired: &Desired, application: &str) -> bool {
    desired.application(application).is_some()
}

impl Hub {
    async fn waits(&self) -> Waiting {
        let view = self
            .shows("what waits", |view| !view.waiting.is_empty())
            .await;
        let [waiting] = &view.waiting[..] else {
            panic!("{:#?}", view.waiting)
        };
        waiting.clone()
    }

    async fn approve_it(&self, waiting: &Waiting) -> Vec<String> {
        let ids = vec![waiting.what.id()];
        self.fleet.approve("alice", ids).await.unwrap()
    }

    /// Waits until the newest commit is decided, adopted or not.
    async fn sees_the_newest(&self) {
        let revision = self.fleet.sync_now("alice").await.unwrap();
        self.shows("the newest commit", |view| view.source.revision == revision)
            .await;
    }
}

/// What the store of a stopped hub holds: words, and what people did by their word.
async fn stored(bed: &Bed) -> (usize, Vec<String>) {
    let store = Store::open(&bed.path("data"), None, Timestamp(0))
        .await
        .unwrap();
    let approvals = store.approvals().await.unwrap().len();
    let log = store.audit_log().await.unwrap().into_iter();
    let log = log.filter(|(who, action, _)| who == "alice" && action == "approve");
    let log = log.map(|(_, _, what)| what).collect();
    store.close().await;
    (approvals, log)
}

#[tokio::test]
async fn an_application_that_leaves_many_clusters_waits_across_a_restart_until_a_word_for_all() {
    let bed = Bed::new();
    bed.declare("shop");
    bed.commit(
        "shop/config.yaml",
        &config_map("two").replace("settings", "shop"),
    );
    let hub = bed.start().await;
    for name in names() {
        hub.join(&name).await;
    }
    hub.decided().await;
    let mut grant = hub.fleet.connect(hello_of("eu-1")).await.unwrap();
    desired(&mut grant, |desired| desired.applications.len() == 2).await;

    bed.git(&["rm", "-rq", "web"]);
    bed.git(&["commit", "-qm", "remove web"]);
    hub.sees_the_newest().await;
    let waiting = hub.waits().await;
    assert_eq!(
        (waiting.what.word(), waiting.clusters.len()),
        ("leaves", 12)
    );
    assert!(
        waiting.message.contains("`muster approve web`"),
        "{}",
        waiting.message
    );
    assert!(runs(&grant.desired.borrow(), "web"));
    drop(grant);
    hub.stop().await;

    let hub = bed.start().await;
    let again = hub.waits().await;
    assert_eq!(again.what, waiting.what);
    let unknown = hub
        .fleet
        .approve("alice", vec![again.what.id(), "leaves/web/0".into()])
        .await;
    assert!(
        matches!(unknown, Err(CommandFailed::NotFound(_))),
        "all or none"
    );
    assert_eq!(hub.approve_it(&again).await, ["web may leave 12 clusters"]);
    let view = hub.decided().await;
    assert!(view.waiting.is_empty() && view.application("web").is_none());
    // One that was offline all the time, too.
    let mut late = hub.fleet.connect(hello_of("eu-12")).await.unwrap();
    let late = desired(&mut late, |desired| desired.generation > 0).await;
    assert!(!runs(&late, "web") && runs(&late, "shop"));
    assert_eq!(late.removals, Removals::Released);
    hub.stop().await;
    let (approvals, log) = stored(&bed).await;
    assert_eq!(approvals, 0, "a word is for once");
    assert_eq!(log.len(), 1);
    assert!(
        log[0].starts_with("leaves/web/") && log[0].ends_with(": web may leave 12 clusters"),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_word_for_a_prune_travels_to_the_agents_and_holds_for_that_content_only() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello_of("eu-1")).await.unwrap();
    let wanted = desired(&mut grant, |desired| runs(desired, "web")).await;
    let mut blocked = synced(&wanted);
    let web = &wanted.applications[0];
    let row = ApplicationStatus {
        sync: SyncStatus::PruneBlocked,
        waiting: 30,
        unapproved: 30,
        ..blocked.applications()["web"].clone()
    };
    blocked = Rows::new(wanted.generation, [row], []);
    grant.session.report(blocked.full_report()).await;
    let waiting = hub.waits().await;
    let word = Approval {
        application: web.name.clone(),
        digest: web.digest(),
    };
    assert_eq!(waiting.what, What::Prune(word.clone()));
    assert!(
        waiting
            .message
            .starts_with("30 objects of application web left Git"),
        "{}",
        waiting.message
    );
    hub.approve_it(&waiting).await;
    let approved = desired(&mut grant, |desired| !desired.approvals.is_empty()).await;
    assert_eq!(approved.approvals, [word]);
    assert_eq!(approved.removals, Removals::Released);
    assert!(approved.generation > wanted.generation);
    // The agent has not spoken again, and it waits no more.
    hub.shows("nothing waits", |view| view.waiting.is_empty())
        .await;
    drop(grant);
    hub.stop().await;

    let hub = bed.start().await;
    let grant = hub.fleet.connect(hello_of("eu-1")).await.unwrap();
    assert_eq!(
        **grant.desired.borrow(),
        *approved,
        "the same under the same generation"
    );
    drop(grant);
    bed.commit("web/config.yaml", &config_map("other"));
    hub.decided().await;
    let mut grant = hub.fleet.connect(hello_of("eu-1")).await.unwrap();
    desired(&mut grant, |desired| desired.approvals.is_empty()).await;
    hub.stop().await;
    assert_eq!(stored(&bed).await.0, 0);
}

#[tokio::test]
async fn an_emptied_repository_lets_everything_go_on_a_word_for_that_commit() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello_of("eu-1")).await.unwrap();
    desired(&mut grant, |desired| runs(desired, "web")).await;
    bed.git(&["rm", "-rq", "web"]);
    bed.commit("README", "empty");
    hub.sees_the_newest().await;
    let waiting = hub.waits().await;
    assert_eq!(waiting.what.word(), "emptied");
    // Another commit without any application: the word for the one before is none for this.
    bed.commit("README", "still empty");
    hub.sees_the_newest().await;
    let revision = hub.fleet.view().borrow().source.revision.clone();
    let newer = format!("emptied/{revision}");
    hub.shows("the newer commit waits", |view| {
        view.waiting[0].what.id() == newer
    })
    .await;
    let old = hub.fleet.approve("alice", vec![waiting.what.id()]).await;
    assert!(matches!(old, Err(CommandFailed::NotFound(_))));
    assert!(runs(&grant.desired.borrow(), "web"));

    hub.approve_it(&hub.waits().await).await;
    let nothing = desired(&mut grant, |desired| desired.applications.is_empty()).await;
    assert_eq!(nothing.removals, Removals::Released);
    let view = hub.decided().await;
    assert!(
        view.waiting.is_empty() && view.problems.is_empty(),
        "{:?}",
        view.problems
    );
    hub.stop().await;
    assert_eq!(stored(&bed).await.0, 0);
}
