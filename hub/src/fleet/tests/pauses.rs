//! Pauses from a person's word to the agents, and their end.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn on(cluster: &str) -> Where {
    Where {
        cluster: Some(cluster.parse().unwrap()),
        ..Where::default()
    }
}

async fn pause(hub: &Hub, on: Where) -> Result<Paused, CommandFailed> {
    let web = "web".parse().unwrap();
    hub.fleet
        .pause("alice", web, on, HOUR, "it pages".into())
        .await
}

async fn stored(bed: &Bed) -> Vec<(String, String, String)> {
    let store = Store::open(&bed.path("data"), None, Timestamp(0))
        .await
        .unwrap();
    let audit = store.audit_log().await.unwrap();
    store.close().await;
    audit
}

#[tokio::test]
async fn a_pause_reaches_the_agents_survives_a_restart_and_ends_by_itself() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    let before = desired(&mut grant, |desired| desired.generation > 0).await;
    let paused = pause(&hub, Where::default()).await.unwrap();
    assert_eq!(paused.until, Timestamp((1_000 + 3_600) * SECONDS));
    let held = desired(&mut grant, |desired| !desired.pauses.is_empty()).await;
    assert_eq!(held.generation, before.generation + 1);
    assert_eq!(paused.clusters["eu-1"], held.generation);
    assert_eq!(
        (held.pauses[0].by.as_str(), held.pauses[0].until),
        ("alice", paused.until)
    );
    assert_eq!(held.applications, before.applications);
    drop(grant);
    hub.stop().await;

    let hub = bed.start().await;
    let mut grant = hub.fleet.connect(hello("b", Some(&held))).await.unwrap();
    assert_eq!(**grant.desired.borrow(), *held, "a restart changes nothing");
    hub.shows_cluster("the pause", |cluster| cluster.pauses == held.pauses)
        .await;
    // A commit that comes meanwhile goes out, with the pause.
    bed.commit("web/config.yaml", &config_map("two"));
    hub.decided().await;
    let newer = desired(&mut grant, |desired| {
        desired.applications != held.applications
    })
    .await;
    assert_eq!(newer.pauses, held.pauses);

    bed.pass(3_600 * SECONDS);
    let after = desired(&mut grant, |desired| desired.pauses.is_empty()).await;
    assert_eq!(after.applications, newer.applications);
    hub.shows_cluster("no pause", |cluster| cluster.pauses.is_empty())
        .await;
    hub.stop().await;
    let audit = stored(&bed).await;
    let row = audit
        .iter()
        .find(|(_, action, _)| action == "application.pause");
    let (who, _, what) = row.expect("it is audited");
    assert_eq!(
        (who.as_str(), what.as_str()),
        ("alice", "web on eu-1, until 4600000: it pages")
    );
}

#[tokio::test]
async fn a_pause_that_ended_while_the_hub_was_away_is_taken_out_at_its_start() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    desired(&mut grant, |desired| desired.generation > 0).await;
    pause(&hub, on("eu-1")).await.unwrap();
    let held = desired(&mut grant, |desired| !desired.pauses.is_empty()).await;
    drop(grant);
    hub.stop().await;
    bed.pass(3_601 * SECONDS);
    let hub = bed.start().await;
    let mut grant = hub.fleet.connect(hello("b", Some(&held))).await.unwrap();
    let after = desired(&mut grant, |desired| desired.pauses.is_empty()).await;
    assert_eq!(
        (after.generation, &after.applications),
        (held.generation + 1, &held.applications)
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_resume_takes_out_one_cluster_and_nothing_else() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    hub.join("eu-2").await;
    let mut grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    desired(&mut grant, |desired| desired.generation > 0).await;
    hub.shows("both are placed", |view| {
        view.placements("web").count() == 2
    })
    .await;
    let paused = pause(&hub, Where::default()).await.unwrap();
    assert_eq!(paused.clusters.len(), 2);
    let web = || "web".parse().unwrap();
    let resumed = hub.fleet.resume("bob", web(), on("eu-1")).await.unwrap();
    assert_eq!(resumed, ["eu-1".parse().unwrap()]);
    desired(&mut grant, |desired| {
        desired.generation > 2 && desired.pauses.is_empty()
    })
    .await;
    hub.shows("eu-2 is paused", |view| {
        view.cluster("eu-2")
            .is_some_and(|cluster| cluster.pauses.len() == 1)
    })
    .await;
    let again = hub.fleet.resume("bob", web(), on("eu-1")).await;
    assert_eq!(
        again.unwrap_err().to_string(),
        "application web is not paused on cluster eu-1"
    );
    assert_eq!(
        pause(&hub, on("eu-9")).await.unwrap_err().to_string(),
        "application web does not run on cluster eu-9"
    );
    hub.stop().await;
    let audit = stored(&bed).await;
    let resume = (
        "bob".to_owned(),
        "application.resume".to_owned(),
        "web on eu-1".to_owned(),
    );
    assert!(audit.contains(&resume), "{audit:?}");
}
