//! What plans may take of a hub: their number, their time, their room. Whoever is refused is told, and the next is served.

use std::net::TcpListener;
use std::time::Duration;

use muster_hub::config::PlanLimits;
use muster_proto::wire::v1;
use tonic::{Code, Streaming};

use crate::bed::{Bed, config_with, repository};
use crate::plans::{Fleet, map};

/// In the place of kustomize: takes so many seconds.
fn tool(seconds: u32) -> String {
    format!(
        "#!/bin/bash
if [ \"$1\" = version ]; then echo v0.0.0; exit; fi
while ((SECONDS < {seconds})); do :; done
printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: made}}\\n'
"
    )
}

/// A fleet whose plans are bounded, and its branch `slow` that takes the tool.
async fn fleet(seconds: u32, limits: PlanLimits) -> Fleet {
    let (data, repository) = (tempfile::tempdir().unwrap(), repository());
    let tool = tool(seconds);
    let mut config = config_with(data.path(), repository.path(), "kustomize", &tool);
    config.plans = limits;
    let fleet = Fleet::on(Bed::of(config, data, repository).await).await;
    let document = "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: made}\nspec: {namespace: made}\n";
    fleet.branch(
        "slow",
        &[
            ("made/muster.yaml", document),
            ("made/kustomization.yaml", "resources: []\n"),
        ],
    );
    fleet.branch("quick", &[("shop/settings.yaml", &map("settings", "two"))]);
    fleet
}

/// A plan that was asked for and says that.
async fn until_it_says(fleet: &Fleet, what: &str, says: &str) -> Streaming<v1::PlanNews> {
    let request = v1::PlanRequest {
        what: what.into(),
        ..v1::PlanRequest::default()
    };
    let mut api = fleet.0.api().await;
    let mut answers = api.plan(fleet.0.ask(request)).await.unwrap().into_inner();
    loop {
        let news = answers.message().await.unwrap().expect("it goes on");
        assert!(
            !news.doing.is_empty(),
            "{what} is planned and never said {says:?}"
        );
        if news.doing.contains(says) {
            return answers;
        }
    }
}

#[tokio::test]
async fn more_plans_than_may_wait_are_refused_and_who_leaves_makes_room() {
    let limits = PlanLimits {
        at_once: 1,
        waiting: 1,
        ..PlanLimits::default()
    };
    let fleet = fleet(30, limits).await;
    let first = until_it_says(&fleet, "slow", "rendering").await;
    let second = until_it_says(&fleet, "quick", "waiting for other plans").await;
    let (code, message) = fleet.refused("quick").await;
    assert_eq!(code, Code::Unavailable);
    assert_eq!(
        message,
        "2 plans are asked for already: try again in a moment"
    );
    // Nobody listens to the first any more: it ends, long before its tool would.
    drop(first);
    let mut second = second;
    let plan = tokio::time::timeout(Duration::from_secs(15), async {
        loop {
            let news = second.message().await.unwrap().expect("the plan comes");
            if news.doing.is_empty() {
                return news.plan;
            }
        }
    });
    assert!(plan.await.expect("in time").contains("settings"));
}

#[tokio::test]
async fn a_plan_that_takes_too_long_is_given_up_and_the_next_has_its_place() {
    let limits = PlanLimits {
        at_once: 1,
        waiting: 0,
        whole: Duration::from_secs(3),
        ..PlanLimits::default()
    };
    let fleet = fleet(30, limits).await;
    let (code, message) = fleet.refused("slow").await;
    assert_eq!(code, Code::Unavailable);
    assert_eq!(message, "the plan has taken more than 3 s and was given up");
    fleet.merge_of("quick").await.unwrap();
}

#[tokio::test]
async fn a_branch_that_brings_more_than_there_is_room_for_is_refused() {
    let limits = PlanLimits {
        disk: 1000,
        ..PlanLimits::default()
    };
    let fleet = fleet(0, limits).await;
    for _ in 0..2 {
        let (code, message) = fleet.refused("quick").await;
        assert_eq!(code, Code::FailedPrecondition);
        assert_eq!(message, "it brings more than the hub takes for a plan");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_holds_a_plan_up_for_its_time_and_no_longer() {
    let limits = PlanLimits {
        fetch: Duration::from_secs(2),
        ..PlanLimits::default()
    };
    let fleet = fleet(0, limits).await;
    // It takes connections and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let documents = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: mute}}\nspec: {{url: \"http://127.0.0.1:{port}/mute.git\"}}\n---\n\
         apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: mute}}\nspec: {{namespace: mute, source: {{repository: mute, path: deploy}}}}\n"
    );
    fleet.branch("mute", &[("mute/muster.yaml", &documents)]);
    let told = fleet.merge_of("mute").await.unwrap();
    assert_eq!(told.problems().len(), 1, "{told:?}");
    assert!(told.problems()[0].contains("mute"), "{told:?}");
}
