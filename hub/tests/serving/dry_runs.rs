//! Plans that are put to API servers: which agent is asked what, and what the plan says of its answer.

use muster_proto::wire::v1;
use muster_proto::wire::v1::agent_message::Message as ToHub;
use muster_proto::wire::v1::hub_message::Message as FromHub;
use serde_json::{Value, json};
use tonic::Code;

use crate::bed::{Agent, until};
use crate::plans::{Fleet, Told, map};

fn of(what: &str) -> v1::PlanRequest {
    v1::PlanRequest {
        what: what.into(),
        dry_run: "server".into(),
        ..v1::PlanRequest::default()
    }
}

/// A cluster whose agent is connected.
async fn connected(fleet: &Fleet, cluster: &str, tries: bool) -> Agent {
    let member = fleet.0.joined(cluster).await;
    let mut agent = fleet.0.dial(Some(member.credentials())).await.unwrap();
    let hello = v1::Hello {
        tries,
        ..member.hello()
    };
    agent.say(ToHub::Hello(hello)).await;
    until("connected", async || {
        let cluster = fleet.0.cluster(cluster).await.summary.unwrap();
        cluster.connection == "connected"
    })
    .await;
    agent
}

/// The hub's next question.
async fn asked(agent: &mut Agent) -> (u64, v1::DryRun) {
    match agent.hear_beside_state().await.unwrap() {
        FromHub::Ask(ask) => (ask.id, ask.dry_run.expect("a dry run is asked for")),
        other => panic!("not a question: {other:?}"),
    }
}

fn dry_run(told: &Told) -> &Value {
    &told.plan["diffs"][0]["dryRun"]
}

fn tried(kind: &str, name: &str, outcome: &str, message: &str) -> v1::Tried {
    v1::Tried {
        object: Some(v1::ObjectKey {
            kind: kind.into(),
            namespace: "shop".into(),
            name: name.into(),
            ..v1::ObjectKey::default()
        }),
        outcome: outcome.into(),
        message: message.into(),
    }
}

#[tokio::test]
async fn one_connected_cluster_of_a_diff_tries_it_and_the_plan_says_which_and_what_came_of_it() {
    let fleet = Fleet::start().await;
    let mut agent = connected(&fleet, "eu-2", true).await;
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\nspec: {group: example.com, names: {kind: Thing}}\n";
    fleet.branch(
        "change",
        &[
            ("shop/settings.yaml", &map("settings", "two")),
            ("shop/new.yaml", &map("new", "one")),
            ("shop/definition.yaml", definition),
            (
                "base/muster.yaml",
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: base}\nspec: {namespace: base, serviceAccount: base/deployer, sync: {detectOnly: true}}\n",
            ),
            ("base/ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: extra}\n"),
        ],
    );
    let request = v1::PlanRequest {
        application: "shop".into(),
        ..of("change")
    };
    let (told, question) = tokio::join!(fleet.plan(request), async {
        let (id, question) = asked(&mut agent).await;
        let answer = v1::Answer {
            id,
            taken: 1,
            tried: vec![
                tried("ConfigMap", "settings", "refused", "policy p says no"),
                tried("ConfigMap", "new", "not-tried", "its Namespace is new"),
            ],
            ..v1::Answer::default()
        };
        agent.say(ToHub::Answer(answer)).await;
        question
    });
    let told = told.unwrap();
    assert_eq!(question.application, "shop");
    assert_eq!(question.settings.unwrap().namespace, "shop");
    let sent = question.objects.iter().map(|object| {
        let body: Value = serde_json::from_slice(&object.body).unwrap();
        body["metadata"]["name"].as_str().unwrap().to_owned()
    });
    // What does not change is not sent: the Secret.
    let mut sent: Vec<String> = sent.collect();
    sent.sort();
    assert_eq!(sent, ["new", "settings", "things.example.com"]);
    // What comes by other applications counts too, also where the plan is narrowed.
    assert_eq!(question.namespaces, ["extra"]);
    assert_eq!(question.kinds[0].kind, "Thing");
    assert!(!question.rights);
    assert_eq!(
        *dry_run(&told),
        json!({"cluster": "eu-2", "taken": 1, "objects": [
            {"object": {"group": "", "kind": "ConfigMap", "namespace": "shop", "name": "new"}, "outcome": "notTried", "message": "its Namespace is new"},
            {"object": {"group": "", "kind": "ConfigMap", "namespace": "shop", "name": "settings"}, "outcome": "refused", "message": "policy p says no"},
        ]})
    );
    assert!(
        told.doing.iter().any(|it| it.contains("dry runs")),
        "{told:?}"
    );
    // Who does not ask for it gets none, and what only detects is not tried.
    assert_eq!(
        *dry_run(&fleet.merge_of("change").await.unwrap()),
        Value::Null
    );
    let base = v1::PlanRequest {
        application: "base".into(),
        ..of("change")
    };
    assert_eq!(*dry_run(&fleet.plan(base).await.unwrap()), Value::Null);
}

#[tokio::test]
async fn a_diff_that_nobody_could_try_says_so() {
    let fleet = Fleet::start().await;
    fleet.branch("change", &[("shop/settings.yaml", &map("settings", "two"))]);
    let told = fleet.plan(of("change")).await.unwrap();
    let nobody = json!({"taken": 0, "incomplete": "none of its 2 clusters is connected"});
    assert_eq!(*dry_run(&told), nobody);

    let _old = connected(&fleet, "eu-1", false).await;
    let told = fleet.plan(of("change")).await.unwrap();
    let why = "the agents that are connected are too old to try anything, upgrade them: eu-1";
    assert_eq!(dry_run(&told)["incomplete"], why);

    // Another one can, and goes in the middle.
    let mut agent = connected(&fleet, "eu-2", true).await;
    let (told, ()) = tokio::join!(fleet.plan(of("change")), async {
        asked(&mut agent).await;
        drop(agent);
    });
    let told = told.unwrap();
    assert_eq!(dry_run(&told)["cluster"], "eu-2");
    assert_eq!(
        dry_run(&told)["incomplete"],
        "1 of 1 objects were not tried: its agent left before it had answered"
    );

    let unclear = v1::PlanRequest {
        dry_run: "client".into(),
        ..of("change")
    };
    let status = fleet.plan(unclear).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn large_objects_are_several_questions_and_what_is_not_answered_is_counted() {
    let fleet = Fleet::start().await;
    let mut agent = connected(&fleet, "eu-1", true).await;
    let large = "x".repeat(200 << 10);
    let files = ["a", "b", "c"].map(|name| (format!("shop/{name}.yaml"), map(name, &large)));
    let files = files.each_ref();
    let files = files.map(|(path, text)| (path.as_str(), text.as_str()));
    fleet.branch("large", &files);
    let (told, ()) = tokio::join!(fleet.plan(of("large")), async {
        for at in 0..3 {
            let (id, question) = asked(&mut agent).await;
            assert_eq!(question.objects.len(), 1);
            let answer = match at {
                0 => v1::Answer {
                    taken: 1,
                    ..v1::Answer::default()
                },
                // It claims more than it was asked.
                1 => v1::Answer {
                    taken: 1000,
                    ..v1::Answer::default()
                },
                _ => v1::Answer {
                    error: "that is too much for me".into(),
                    ..v1::Answer::default()
                },
            };
            agent.say(ToHub::Answer(v1::Answer { id, ..answer })).await;
        }
    });
    assert_eq!(
        *dry_run(&told.unwrap()),
        json!({"cluster": "eu-1", "taken": 2, "incomplete": "1 of 3 objects were not tried: that is too much for me"})
    );
}
