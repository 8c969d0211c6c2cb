//! Objects tried on an API server that a function plays: what is told of each, and that nothing but dry runs is sent.

use std::time::Duration;

use http::Method;
use muster_proto::DigestKey;
use muster_proto::wire::digest_bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;
use crate::scripted::client_that_answers;

/// The objects as the hub sends them.
fn sent(objects: &[Value]) -> Vec<v1::Object> {
    let key = DigestKey::new([1; 32]);
    let objects = objects.iter().map(|object| {
        let object = Object::new(object, &key).unwrap();
        v1::Object {
            digest: digest_bytes(object.digest),
            body: object.body.clone(),
        }
    });
    objects.collect()
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn question(objects: &[Value]) -> v1::DryRun {
    let settings = Settings {
        namespace: "shop".into(),
        service_account: "shop/deployer".into(),
        ..Settings::default()
    };
    v1::DryRun {
        application: "shop".into(),
        settings: Some((&settings).into()),
        objects: sent(objects),
        ..v1::DryRun::default()
    }
}

/// An API server that serves ConfigMaps, Secrets and Namespaces and knows the namespaces `shop` and `full`. What is
/// applied by a dry run, it answers by its name.
fn server(writes: UnboundedSender<String>) -> Client {
    let status = |code: u16, reason: &str, message: &str| {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message});
        (code, status)
    };
    client_that_answers(move |(parts, body)| {
        let path = parts.uri.path().to_owned();
        let name = path.rsplit('/').next().unwrap();
        let resource = |plural: &str, kind: &str, namespaced: bool| json!({"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["list", "watch"]});
        match (&parts.method, path.as_str()) {
            (&Method::GET, "/api/v1") => {
                let resources = [
                    resource("configmaps", "ConfigMap", true),
                    resource("secrets", "Secret", true),
                    resource("namespaces", "Namespace", false),
                ];
                (200, json!({"groupVersion": "v1", "resources": resources}))
            }
            (&Method::GET, "/apis/busy.example.com/v1") => status(503, "Unavailable", "later"),
            (&Method::GET, path) if path.starts_with("/apis/") => status(404, "NotFound", "none"),
            (&Method::GET, "/api/v1/namespaces/shop") => {
                let namespace =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
                (200, namespace)
            }
            (&Method::GET, _) if name == "theirs" => {
                let there = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "shop", "uid": "1", "resourceVersion": "1"}});
                (200, there)
            }
            (&Method::GET, _) => status(404, "NotFound", "none"),
            (&Method::PATCH, _) => {
                let query = parts.uri.query().unwrap_or_default();
                let user = &parts.headers["Impersonate-User"];
                let user = user.to_str().unwrap();
                writes.send(format!("{name} {query} {user}")).ok();
                let sent: Value = serde_json::from_slice(&body).unwrap();
                match name {
                    "denied" => status(
                        403,
                        "Forbidden",
                        "configmaps \"denied\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                    ),
                    "unauthorized" => status(
                        403,
                        "Forbidden",
                        "configmaps \"unauthorized\" is forbidden: User \"system:serviceaccount:shop:deployer\" cannot patch resource \"configmaps\" in API group \"\" in the namespace \"shop\"",
                    ),
                    "hooked" => status(
                        400,
                        "BadRequest",
                        "admission webhook \"w\" does not support dry run",
                    ),
                    "key" => status(
                        422,
                        "Invalid",
                        "Secret \"key\" is invalid: data[k]: Invalid value: \"hunter2\"",
                    ),
                    "broken" => status(500, "InternalError", "failed calling webhook"),
                    "theirs" => {
                        let mut there = sent;
                        there["metadata"]["resourceVersion"] = json!("1");
                        (200, there)
                    }
                    _ => (200, sent),
                }
            }
            other => panic!("nobody asked for {other:?}"),
        }
    })
}

/// Each answer as `name: outcome, message`, sorted.
async fn tried(question: v1::DryRun) -> (Vec<String>, v1::Answer, Vec<String>) {
    let (writes, mut written) = unbounded_channel();
    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = super::answer(server(writes), 7, question, deadline).await;
    let lines = answer.tried.iter().map(|tried| {
        let name = &tried.object.as_ref().unwrap().name;
        format!("{name}: {}, {}", tried.outcome, tried.message)
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    let writes = std::iter::from_fn(|| written.try_recv().ok()).collect();
    (lines, answer, writes)
}

#[tokio::test]
async fn every_object_is_taken_or_has_a_word_on_why_not_and_only_dry_runs_are_sent() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"k": "hunter2"}});
    let thing =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "thing"}});
    let busy =
        json!({"apiVersion": "busy.example.com/v1", "kind": "Thing", "metadata": {"name": "busy"}});
    let objects = [
        config("fine"),
        config("denied"),
        config("unauthorized"),
        config("hooked"),
        config("broken"),
        secret,
        thing,
        busy,
    ];
    let (lines, answer, writes) = tried(question(&objects)).await;
    insta::assert_snapshot!(lines.join("\n"), @r#"
    broken: unknown, failed calling webhook
    busy: unknown, the kinds of busy.example.com/v1 can't be read
    denied: refused, configmaps "denied" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no
    hooked: unknown, admission webhook "w" does not support dry run
    key: refused, the API server refused it: Invalid (422)
    thing: refused, this cluster does not serve Thing in example.com/v1: install its CustomResourceDefinition, or correct apiVersion and kind
    unauthorized: refused, configmaps "unauthorized" is forbidden: User "system:serviceaccount:shop:deployer" cannot patch resource "configmaps" in API group "" in the namespace "shop"
    "#);
    assert_eq!((answer.id, answer.taken, answer.left_out), (7, 1, 0));
    for write in &writes {
        assert!(
            write.ends_with(
                " fieldManager=muster&force=true&dryRun=All system:serviceaccount:shop:deployer"
            ),
            "{write}"
        );
    }
    assert_eq!(writes.len(), 6, "{writes:#?}");
}

#[tokio::test]
async fn what_depends_on_the_same_plan_is_not_tried() {
    let in_namespace = |namespace: &str| {
        let mut object = config(namespace);
        object["metadata"]["namespace"] = json!(namespace);
        object
    };
    let thing =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "thing"}});
    let objects = [
        in_namespace("new"),
        in_namespace("made"),
        config("unauthorized"),
        config("fine"),
        thing,
    ];
    let question = v1::DryRun {
        namespaces: vec!["new".into()],
        kinds: vec![v1::DefinedKind {
            group: "example.com".into(),
            kind: "Thing".into(),
        }],
        rights: true,
        ..question(&objects)
    };
    let (lines, answer, _) = tried(question).await;
    insta::assert_snapshot!(lines.join("\n"), @r#"
    made: not-tried, its namespace made is not there: an apply makes it
    new: not-tried, its Namespace new is created by this plan
    thing: not-tried, its CustomResourceDefinition is made or changed by this plan
    unauthorized: not-tried, who may do what is changed by this plan; as it is now: configmaps "unauthorized" is forbidden: User "system:serviceaccount:shop:deployer" cannot patch resource "configmaps" in API group "" in the namespace "shop"
    "#);
    assert_eq!(answer.taken, 1);
}

#[tokio::test]
async fn what_is_there_and_would_not_be_adopted_is_refused() {
    let adopting = |adoption| {
        let settings = Settings {
            namespace: "shop".into(),
            service_account: "shop/deployer".into(),
            adoption,
            ..Settings::default()
        };
        v1::DryRun {
            settings: Some((&settings).into()),
            ..question(&[config("theirs")])
        }
    };
    let (lines, answer, _) = tried(adopting(Adoption::Always)).await;
    assert_eq!((lines.len(), answer.taken), (0, 1));
    for (adoption, why) in [
        (Adoption::Never, "adopts nothing"),
        (Adoption::IfEqual, "differs in .data"),
    ] {
        let (lines, ..) = tried(adopting(adoption)).await;
        assert!(
            lines[0].starts_with("theirs: refused, ") && lines[0].contains(why),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn more_than_an_agent_tries_at_once_is_refused_and_what_there_is_no_time_for_is_counted() {
    let mut many = question(&[config("fine")]);
    many.objects = vec![many.objects[0].clone(); MOST + 1];
    let (_, answer, writes) = tried(many).await;
    assert!(answer.error.contains("at most 2000"), "{}", answer.error);
    assert_eq!(writes, [""; 0]);

    let (writes, _) = unbounded_channel();
    let question = question(&[config("one"), config("two")]);
    let answer = super::answer(server(writes), 1, question, Instant::now()).await;
    assert_eq!((answer.taken, answer.left_out), (0, 2));
}
