//! `Pause` and `Resume` over the API: from a person's word to the agent's session.

use muster_proto::wire::v1;
use muster_proto::wire::v1::hub_message::Message as FromHub;
use tonic::Code;

use crate::bed::{Agent, Bed, git, until};

async fn begins(agent: &mut Agent) -> v1::Begin {
    loop {
        match agent.hear().await.unwrap() {
            FromHub::Begin(begin) => return begin,
            FromHub::Objects(_) | FromHub::Done(_) => {}
            other => panic!("not a state: {other:?}"),
        }
    }
}

/// A hub with `shop` everywhere.
async fn bed() -> Bed {
    let bed = Bed::start().await;
    let folder = bed.repository.path();
    std::fs::create_dir(folder.join("shop")).unwrap();
    let application = "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: shop}\nspec: {namespace: shop}\n";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    std::fs::write(folder.join("shop/muster.yaml"), application).unwrap();
    std::fs::write(folder.join("shop/c.yaml"), config).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", "shop"]);
    bed.sync().await.unwrap();
    bed
}

fn pause(application: &str) -> v1::PauseRequest {
    v1::PauseRequest {
        application: application.into(),
        reason: "it pages".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_pause_goes_out_at_once_and_is_shown_with_who_and_why_until_it_is_ended() {
    let bed = bed().await;
    let member = bed.joined("eu-1").await;
    until("it is placed", async || {
        bed.cluster("eu-1").await.placements.len() == 1
    })
    .await;
    let mut api = bed.api().await;
    let request = bed.ask(pause("shop"));
    let paused = api.pause(request).await.unwrap().into_inner();
    assert_eq!(
        (paused.clusters, paused.silent),
        (vec!["eu-1".to_owned()], vec!["eu-1".to_owned()])
    );
    let mut agent = bed.session(&member).await;
    let begin = begins(&mut agent).await;
    let sent = &begin.pauses[0];
    assert_eq!(
        (sent.application.as_str(), sent.until_ms),
        ("shop", paused.until_ms)
    );

    until("it is shown", async || {
        let fleet = bed.fleet().await;
        let told = fleet.pauses.first().is_some_and(|told| {
            told.by == "admin" && told.reason == "it pages" && told.clusters == ["eu-1"]
        });
        told && fleet.applications[0].clusters_paused == 1
            && fleet.clusters[0].applications_paused == 1
    })
    .await;
    let detail = bed.cluster("eu-1").await;
    assert_eq!(detail.placements[0].paused_until_ms, paused.until_ms);
    assert_eq!(detail.pauses[0].application, "shop");

    let resume = v1::ResumeRequest {
        application: "shop".into(),
        ..Default::default()
    };
    let resumed = api.resume(bed.ask(resume)).await.unwrap().into_inner();
    assert_eq!(resumed.clusters, ["eu-1"]);
    // What was announced first was never answered: a new session gets the newest.
    let mut agent = bed.session(&member).await;
    assert_eq!(begins(&mut agent).await.pauses, []);
}

#[tokio::test]
async fn what_can_not_be_paused_is_refused_with_what_to_do() {
    let bed = bed().await;
    let _member = bed.joined("eu-1").await;
    until("it is placed", async || {
        bed.cluster("eu-1").await.placements.len() == 1
    })
    .await;
    let mut api = bed.api().await;
    let cases = [
        (
            pause("shoop"),
            Code::NotFound,
            "there is no application \"shoop\"; did you mean \"shop\"?",
        ),
        (
            v1::PauseRequest {
                cluster: "eu-l".into(),
                ..pause("shop")
            },
            Code::NotFound,
            "there is no cluster \"eu-l\"; did you mean \"eu-1\"?",
        ),
        (
            v1::PauseRequest {
                cluster_selector: "stage=test".into(),
                ..pause("shop")
            },
            Code::FailedPrecondition,
            "application shop does not run on any cluster with these labels",
        ),
        (
            v1::PauseRequest {
                for_seconds: 8 * 86_400,
                ..pause("shop")
            },
            Code::InvalidArgument,
            "a pause is 7 days at most: for longer, set `sync.selfHeal: false` in Git, or pause again before it ends",
        ),
        (
            v1::PauseRequest {
                reason: "two\nlines".into(),
                ..pause("shop")
            },
            Code::InvalidArgument,
            "a reason is one line of 256 characters at most",
        ),
    ];
    for (request, code, message) in cases {
        let status = api.pause(bed.ask(request)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message));
    }
}
