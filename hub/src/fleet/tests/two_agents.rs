//! Agents that are there and do not run their cluster: what is shown of them, and when they may.

use super::*;

/// Of an agent that another one took the place of.
fn superseded() -> Idle {
    Idle {
        why: "a newer session took over".into(),
        for_good: false,
    }
}

#[tokio::test]
async fn two_agents_are_shown_for_as_long_as_both_are_there_and_the_one_that_waits_is_let_in() {
    let claimed = |cluster: &ClusterView| {
        cluster
            .message
            .starts_with("two agents claim eu-1: one runs it")
    };
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let newer = hub.fleet.connect(hello("b", None)).await.unwrap();
    let older = hub
        .fleet
        .wait(hello("a", None), superseded())
        .await
        .unwrap();
    hub.shows_cluster("both", claimed).await;
    drop(older);
    hub.shows_cluster("one", |cluster| cluster.message.is_empty())
        .await;

    let older = hub
        .fleet
        .wait(hello("a", None), superseded())
        .await
        .unwrap();
    hub.shows_cluster("both again", claimed).await;
    // The newer one may be back in a moment.
    bed.pass(40 * SECONDS);
    newer.session.alive(Duration::ZERO);
    drop(newer);
    bed.pass(44 * SECONDS);
    let newer = hub.fleet.connect(hello("b", None)).await.unwrap();
    hub.shows_cluster("both still", claimed).await;
    drop(newer);
    bed.pass(45 * SECONDS);
    assert_eq!(older.closed.await, Ok(Closed::Free));
    let free = hub.fleet.wait(hello("a", None), superseded()).await;
    assert!(matches!(free, Err(Refused::Free)));
    let _runs = hub.fleet.connect(hello("a", None)).await.unwrap();
    hub.shows_cluster("one, at last", |cluster| cluster.message.is_empty())
        .await;
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_starts_gives_the_agent_of_a_cluster_time_to_come_before_one_that_waits() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    drop(hub.fleet.connect(hello("b", None)).await.unwrap());
    hub.stop().await;
    bed.pass(3600 * SECONDS);
    let hub = bed.start().await;
    let waits = hub
        .fleet
        .wait(hello("a", None), superseded())
        .await
        .unwrap();
    bed.pass(45 * SECONDS);
    assert_eq!(waits.closed.await, Ok(Closed::Free));
    hub.stop().await;
}

#[tokio::test]
async fn an_agent_that_can_not_work_and_one_in_another_cluster_are_shown_until_they_go() {
    let bed = Bed::new();
    let hub = bed.start().await;
    hub.join("eu-1").await;
    let stopped = Idle {
        why: "this cluster belongs to another hub".into(),
        for_good: true,
    };
    let mut nowhere = hello("a", None);
    nowhere.cluster_uid.clear();
    let waits = hub.fleet.wait(nowhere, stopped).await.unwrap();
    let shown = "an agent of eu-1 is there and writes nothing: this cluster belongs to another hub";
    hub.shows_cluster("why", |cluster| cluster.message == shown)
        .await;
    drop(waits);

    let mut other = hello("z", None);
    other.cluster_uid = "another".into();
    let refused = hub.fleet.connect(other.clone()).await;
    assert!(matches!(refused, Err(Refused::OtherCluster { .. })));
    let waits = hub.fleet.wait(other, superseded()).await.unwrap();
    hub.shows_cluster("where", |cluster| {
        cluster
            .message
            .starts_with("two agents claim eu-1: it was enrolled for")
    })
    .await;
    // It waits for nothing, whoever else is there or not.
    bed.pass(100 * SECONDS);
    hub.shows_cluster("it is silent", |cluster| {
        cluster.connection != Connection::Connected && !cluster.message.is_empty()
    })
    .await;
    let hour = Duration::from_secs(3600);
    let name: ClusterName = "eu-1".parse().unwrap();
    let token = hub
        .fleet
        .create_join_token("alice", name, BTreeMap::new(), hour)
        .await
        .unwrap();
    let rebuilt = hub
        .fleet
        .redeem_token(token.secret, "another".into(), certified("02"));
    rebuilt.await.unwrap();
    assert_eq!(waits.closed.await, Ok(Closed::Revoked));
    hub.shows_cluster("nothing", |cluster| cluster.message.is_empty())
        .await;
    hub.stop().await;
}
