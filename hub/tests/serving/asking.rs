//! What only a cluster knows, asked of its agent over the session that it keeps up.

use muster_proto::wire::v1;
use muster_proto::wire::v1::agent_message::Message as ToHub;
use muster_proto::wire::v1::hub_message::Message as FromHub;
use muster_proto::{ApplicationStatus, Digest, HealthStatus, Report, Rows, SyncStatus, Timestamp};
use reqwest::StatusCode;
use tonic::{Code, Request, Status};

use crate::api::{browser, url};
use crate::bed::{Agent, Bed, Member, git, until};

/// A hub with `shop` everywhere, and one cluster.
async fn bed() -> (Bed, Member) {
    let bed = Bed::start().await;
    let folder = bed.repository.path();
    for (name, selects) in [
        ("shop", ""),
        ("bank", ", targets: [{name: t, clusters: {names: [us-9]}}]"),
    ] {
        std::fs::create_dir(folder.join(name)).unwrap();
        let application = format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec: {{namespace: shop{selects}}}\n"
        );
        let config = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        std::fs::write(folder.join(name).join("muster.yaml"), application).unwrap();
        std::fs::write(folder.join(name).join("c.yaml"), config).unwrap();
    }
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", "shop"]);
    bed.sync().await.unwrap();
    let member = bed.joined("eu-1").await;
    until("it is placed", async || {
        bed.cluster("eu-1").await.placements.len() == 1
    })
    .await;
    (bed, member)
}

async fn connected(bed: &Bed, member: &Member, hello: v1::Hello) -> Agent {
    let mut agent = bed.dial(Some(member.credentials())).await.unwrap();
    agent.say(ToHub::Hello(hello)).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
    agent
}

fn of_shop() -> v1::CompareRequest {
    v1::CompareRequest {
        cluster: "eu-1".into(),
        application: "shop".into(),
        object: None,
    }
}

fn of_object(kind: &str, name: &str) -> v1::CompareRequest {
    v1::CompareRequest {
        application: String::new(),
        object: Some(v1::ObjectName {
            kind: kind.into(),
            name: name.into(),
            ..v1::ObjectName::default()
        }),
        ..of_shop()
    }
}

async fn refusal(bed: &Bed, request: v1::CompareRequest) -> Status {
    let request = bed.ask(request);
    bed.api().await.compare(request).await.unwrap_err()
}

/// The hub's next question.
async fn question(agent: &mut Agent) -> v1::Ask {
    match agent.hear_beside_state().await.unwrap() {
        FromHub::Ask(ask) => ask,
        other => panic!("not a question: {other:?}"),
    }
}

fn answer(id: u64, change: &str) -> ToHub {
    let object = v1::ObjectComparison {
        change: change.into(),
        ..v1::ObjectComparison::default()
    };
    ToHub::Answer(v1::Answer {
        id,
        revision: "abc".into(),
        objects: vec![object],
        equal: 7,
        ..v1::Answer::default()
    })
}

#[tokio::test]
async fn a_question_goes_to_the_agent_and_its_answer_to_who_asked() {
    let (bed, member) = bed().await;
    let mut agent = connected(&bed, &member, member.hello()).await;
    let mut api = bed.api().await;
    let asked = tokio::spawn(async move {
        let answer = api.compare(bed.ask(of_shop())).await;
        (bed, answer.unwrap().into_inner())
    });
    let ask = question(&mut agent).await;
    assert_eq!(ask.application, "shop");
    // Nobody asked this.
    agent.say(answer(ask.id + 1, "none")).await;
    agent.say(answer(ask.id, "update")).await;
    let (bed, comparison) = asked.await.unwrap();
    assert_eq!(comparison.cluster, "eu-1");
    assert_eq!((comparison.revision.as_str(), comparison.equal), ("abc", 7));
    assert_eq!(comparison.objects[0].change, "update");

    // The same as JSON, of one object.
    let path =
        "/api/v1/clusters/eu-1/comparison?kind=deployment&group=apps&namespace=shop&object=web";
    let request = browser(&bed).get(url(&bed, path)).bearer_auth(bed.token());
    let asked = tokio::spawn(request.send());
    let ask = question(&mut agent).await;
    let object = ask.object.unwrap();
    assert_eq!(
        [object.kind, object.group, object.namespace, object.name],
        ["deployment", "apps", "shop", "web"]
    );
    agent.say(answer(ask.id, "delete")).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let json: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(json["objects"][0]["change"], "delete");
    assert_eq!(json["leftOut"], 0);
}

#[tokio::test]
async fn what_the_agent_can_not_answer_is_told_in_its_words() {
    let (bed, member) = bed().await;
    let mut agent = connected(&bed, &member, member.hello()).await;
    let (status, ()) = tokio::join!(refusal(&bed, of_object("pod", "x")), async {
        let ask = question(&mut agent).await;
        let answer = v1::Answer {
            id: ask.id,
            error: "pod/x is not Git's".into(),
            ..v1::Answer::default()
        };
        agent.say(ToHub::Answer(answer)).await;
    });
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "eu-1: pod/x is not Git's")
    );
}

#[tokio::test]
async fn who_asks_an_agent_that_knows_no_questions_is_told_to_upgrade_it() {
    let (bed, member) = bed().await;
    let hello = v1::Hello {
        answers: false,
        ..member.hello()
    };
    let _agent = connected(&bed, &member, hello).await;
    let status = refusal(&bed, of_shop()).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        status.message(),
        "the agent of eu-1 can't answer: version 0.1.0 knows no questions; upgrade it"
    );
}

#[tokio::test]
async fn a_cluster_that_is_away_is_said_to_be_with_what_it_reported_last() {
    let (bed, member) = bed().await;
    let status = refusal(&bed, of_shop()).await;
    assert_eq!(
        status.message(),
        "eu-1 never joined: no agent could be asked"
    );
    let mut agent = connected(&bed, &member, member.hello()).await;
    let row = ApplicationStatus {
        application: "shop".parse().unwrap(),
        digest: Digest::of(["d"]),
        revision: "abc".into(),
        sync: SyncStatus::Drifted,
        health: HealthStatus::Current,
        message: "1 of 12 objects differs".into(),
        objects: 12,
        synced: 11,
        healthy: 12,
        waiting: 0,
        unapproved: 0,
        since: Timestamp(1),
    };
    let report: Report = Rows::new(0, [row], []).full_report();
    agent.say(ToHub::Report((&report).into())).await;
    until("it is reported", async || {
        let placements = bed.cluster("eu-1").await.placements;
        let mut told = placements.iter().filter_map(|it| it.status.as_ref());
        told.any(|status| status.sync == "Drifted")
    })
    .await;
    drop(agent);
    bed.move_clock(1);
    until("it is unknown", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "unknown"
    })
    .await;
    let status = refusal(&bed, of_shop()).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    let message = status.message();
    assert!(message.starts_with("eu-1 is unknown since 20"), "{message}");
    assert!(
        message.contains("; its last report, of 20")
            && message.ends_with(" says Drifted, Current: 1 of 12 objects differs"),
        "{message}"
    );
}

#[tokio::test]
async fn an_agent_that_leaves_ends_what_was_asked_of_it_at_once() {
    let (bed, member) = bed().await;
    let mut agent = connected(&bed, &member, member.hello()).await;
    let (status, ()) = tokio::join!(refusal(&bed, of_shop()), async {
        question(&mut agent).await;
        drop(agent);
    });
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::Unavailable,
            "the agent of eu-1 left before it had answered: try again"
        )
    );
}

#[tokio::test]
async fn a_few_questions_wait_and_more_are_refused_until_some_are_answered() {
    let (bed, member) = bed().await;
    let mut agent = connected(&bed, &member, member.hello()).await;
    let mut asked = tokio::task::JoinSet::new();
    let api = bed.api().await;
    let ask = || {
        let (mut api, request) = (api.clone(), bed.ask(of_shop()));
        async move { api.compare(request).await }
    };
    // Four are with the agent, four with the session.
    for _ in 0..4 {
        asked.spawn(ask());
    }
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(question(&mut agent).await.id);
    }
    for _ in 0..5 {
        asked.spawn(ask());
    }
    let refused = asked.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(
        refused.message(),
        "too much is asked of eu-1 already: try again in a moment"
    );
    for _ in 0..8 {
        let id = match ids.pop() {
            Some(id) => id,
            None => question(&mut agent).await.id,
        };
        agent.say(answer(id, "none")).await;
    }
    while let Some(answered) = asked.join_next().await {
        assert_eq!(answered.unwrap().unwrap().into_inner().equal, 7);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_any_agent_is_asked() {
    let (bed, member) = bed().await;
    let _agent = connected(&bed, &member, member.hello()).await;
    let cases = [
        (
            v1::CompareRequest {
                cluster: "eu-l".into(),
                ..of_shop()
            },
            Code::NotFound,
            "there is no cluster \"eu-l\"; did you mean \"eu-1\"?",
        ),
        (
            v1::CompareRequest {
                application: "shoop".into(),
                ..of_shop()
            },
            Code::NotFound,
            "there is no application \"shoop\"; did you mean \"shop\"?",
        ),
        (
            v1::CompareRequest {
                application: "bank".into(),
                ..of_shop()
            },
            Code::FailedPrecondition,
            "application bank does not run on eu-1: `muster get app bank` says where it does",
        ),
        (
            of_object("", "web"),
            Code::InvalidArgument,
            "name an application, or an object by kind and name",
        ),
        (
            of_object("pod", &"x".repeat(300)),
            Code::InvalidArgument,
            "kind, group, namespace and name are 253 printable characters at most",
        ),
    ];
    for (request, code, message) in cases {
        let status = refusal(&bed, request).await;
        assert_eq!((status.code(), status.message()), (code, message));
    }
    let status = bed.api().await.compare(Request::new(of_shop())).await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
}
