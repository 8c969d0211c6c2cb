//! The same random calls to a real API server and to the one in memory: after each, both gave the same answer and
//! hold the same object, field ownership included.
//!
//! Left out of the comparison is only what no two servers share: uids, resourceVersions, times, and with the times
//! the order of `managedFields`; and the order of an apply's conflicts, which the real server leaves to chance.

use anyhow::Result;
use kube::Client;
use muster_tests::cluster::real;
use muster_tests::conformance::define;
use muster_tests::memory::{Options, Server};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use serde_json::{Value, json};

/// How many sequences of calls.
const SEQUENCES: u32 = 300;

#[test]
fn the_server_in_memory_answers_random_calls_like_the_real_one() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (real, memory, namespace) = runtime.block_on(async {
        let cluster = real::shared("one").await?;
        let namespace = cluster.fresh_namespace("differential").await?;
        let (real, memory) = (cluster.client()?, Server::new(Options::default()).client());
        let body = json!({"metadata": {"name": namespace}});
        call(
            &memory,
            "POST",
            "/api/v1/namespaces",
            "application/json",
            &body,
        )
        .await?;
        for client in [&real, &memory] {
            define(client, &format!("{namespace}.example.com")).await?;
        }
        anyhow::Ok((real, memory, namespace))
    })?;
    let config = Config {
        cases: SEQUENCES,
        rng_seed: RngSeed::Fixed(20_261_123),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let number = std::cell::Cell::new(0);
    let sequence =
        kinds().prop_flat_map(|kind| (Just(kind), prop::collection::vec(one_call(kind), 1..9)));
    TestRunner::new(config)
        .run(&sequence, |(kind, calls)| {
            number.set(number.get() + 1);
            let name = format!("n{}", number.get());
            let both = runtime.block_on(async {
                for (step, one) in calls.iter().enumerate() {
                    let on_real = perform(&real, &namespace, kind, &name, one).await?;
                    let on_memory = perform(&memory, &namespace, kind, &name, one).await?;
                    if on_real != on_memory {
                        return anyhow::Ok(Some((step, on_real, on_memory)));
                    }
                }
                Ok(None)
            });
            match both.map_err(|error| TestCaseError::fail(format!("{error:#}")))? {
                None => Ok(()),
                Some((step, real, memory)) => Err(TestCaseError::fail(format!(
                    "after call {step}:\nreal   {real}\nmemory {memory}"
                ))),
            }
        })
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// What is called upon.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    ConfigMap,
    PodTemplate,
    NetworkPolicy,
    Thing,
}

/// One call; the body lacks kind and name.
#[derive(Debug, Clone)]
enum Call {
    Create(&'static str, Value),
    /// A whole object in place of the one that is there, with its resourceVersion or an old one.
    Update(&'static str, Value),
    Merge(&'static str, Value),
    Apply(&'static str, bool, Value),
    Delete,
}

fn kinds() -> impl Strategy<Value = Kind> {
    use Kind::{ConfigMap, NetworkPolicy, PodTemplate, Thing};
    select(vec![ConfigMap, PodTemplate, NetworkPolicy, Thing])
}

fn one_call(kind: Kind) -> impl Strategy<Value = Call> {
    let manager = || select(vec!["one", "two", "three"]);
    prop_oneof![
        2 => (manager(), content(kind)).prop_map(|(m, c)| Call::Create(m, c)),
        2 => (manager(), content(kind)).prop_map(|(m, c)| Call::Update(m, c)),
        2 => (manager(), content(kind)).prop_map(|(m, c)| Call::Merge(m, c)),
        6 => (manager(), any::<bool>(), content(kind)).prop_map(|(m, f, c)| Call::Apply(m, f, c)),
        1 => Just(Call::Delete),
    ]
}

/// Part of an object: some labels, and some of what the kind is made of.
fn content(kind: Kind) -> BoxedStrategy<Value> {
    let body = match kind {
        Kind::ConfigMap => (words(), words())
            .prop_map(|(data, binary)| {
                // Base64 of whatever: the words are four letters long. The two may not share a key.
                let binary: serde_json::Map<_, _> =
                    binary.into_iter().map(|(k, v)| (format!("b-{k}"), v)).collect();
                json!({"data": data, "binaryData": binary})
            })
            .boxed(),
        Kind::PodTemplate => (words(), prop::collection::vec(container(), 3), chosen(3))
            .prop_map(|(labels, containers, chosen)| {
                let containers: Vec<Value> = chosen
                    .into_iter()
                    .map(|i| {
                        let mut container = containers[i].clone();
                        container["name"] = json!(format!("c{i}"));
                        container
                    })
                    .collect();
                json!({"template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}})
            })
            .boxed(),
        Kind::NetworkPolicy => (words(), prop::collection::vec(1..4_u16, 0..3))
            .prop_map(|(labels, ports)| {
                let ports: Vec<Value> = ports.iter().map(|p| json!({"port": p})).collect();
                // What is empty is left out: the real server tells an empty list or map from none in a
                // NetworkPolicy's spec, and counts a generation for a change that nobody can see.
                let filled = |key: &str, value: Value, empty: bool| {
                    if empty { json!({}) } else { json!({key: value}) }
                };
                let rule = filled("ports", json!(ports), ports.is_empty());
                let pods = filled("matchLabels", json!(labels), labels.is_empty());
                json!({"spec": {"podSelector": pods, "egress": [rule]}})
            })
            .boxed(),
        Kind::Thing => (
            prop::option::of(0..3_i64),
            prop::option::of(word()),
            (chosen(3), prop::collection::vec(prop::option::of(word()), 3)),
            subsequence(vec!["x", "y", "z"], 0..=3),
            prop::collection::vec(word(), 0..3),
        )
            .prop_map(|(size, colour, (chosen, values), tags, whole)| {
                let items: Vec<Value> = chosen
                    .into_iter()
                    .map(|i| {
                        let mut item = json!({"name": format!("i{i}")});
                        if let Some(value) = values[i] {
                            item["value"] = json!(value);
                        }
                        item
                    })
                    .collect();
                let mut spec = json!({"items": items, "tags": tags, "whole": whole});
                if let Some(size) = size {
                    spec["size"] = json!(size);
                }
                if let Some(colour) = colour {
                    spec["colour"] = json!(colour);
                }
                json!({"spec": spec})
            })
            .boxed(),
    };
    (body, words())
        .prop_map(|(mut body, labels)| {
            body["metadata"] = json!({"labels": labels});
            body
        })
        .boxed()
}

fn container() -> impl Strategy<Value = Value> {
    let ports = prop::collection::btree_set(1..4_u16, 0..3);
    (word(), ports, words(), any::<bool>()).prop_map(|(image, ports, env, limits)| {
        let ports: Vec<Value> = ports.iter().map(|p| json!({"containerPort": p})).collect();
        let env: Vec<Value> = env
            .iter()
            .map(|(k, v)| json!({"name": k, "value": v}))
            .collect();
        let mut out = json!({"image": image, "ports": ports, "env": env});
        if limits {
            out["resources"] = json!({"limits": {"cpu": "0.5", "memory": "1024Mi"}});
        }
        out
    })
}

/// Some of the first `count` numbers, in any order.
fn chosen(count: usize) -> impl Strategy<Value = Vec<usize>> {
    subsequence((0..count).collect::<Vec<_>>(), 1..=count).prop_shuffle()
}

fn word() -> impl Strategy<Value = &'static str> {
    select(vec!["aaaa", "bbbb", "cccc"])
}

fn words() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    prop::collection::btree_map(select(vec!["k", "l", "m"]), word(), 0..3).prop_map(|map| {
        map.into_iter()
            .map(|(k, v)| (k.to_owned(), json!(v)))
            .collect()
    })
}

/// Makes the call; what the server said, and what it holds by then, as far as two servers can agree.
async fn perform(
    client: &Client,
    namespace: &str,
    kind: Kind,
    name: &str,
    one: &Call,
) -> Result<Value> {
    let (version, kind, folder) = match kind {
        Kind::ConfigMap => ("v1".to_owned(), "ConfigMap", "configmaps"),
        Kind::PodTemplate => ("v1".to_owned(), "PodTemplate", "podtemplates"),
        Kind::NetworkPolicy => (
            "networking.k8s.io/v1".to_owned(),
            "NetworkPolicy",
            "networkpolicies",
        ),
        Kind::Thing => (format!("{namespace}.example.com/v1"), "Thing", "things"),
    };
    let root = if version == "v1" { "api" } else { "apis" };
    let all = format!("/{root}/{version}/namespaces/{namespace}/{folder}");
    let place = format!("{all}/{name}");
    let whole = |content: &Value| {
        let mut object = content.clone();
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        object
    };
    let json = "application/json";
    let answer = match one {
        Call::Create(manager, content) => {
            let path = format!("{all}?fieldManager={manager}");
            call(client, "POST", &path, json, &whole(content)).await?
        }
        Call::Update(manager, content) => {
            let path = format!("{place}?fieldManager={manager}");
            call(client, "PUT", &path, json, &whole(content)).await?
        }
        Call::Merge(manager, content) => {
            let path = format!("{place}?fieldManager={manager}");
            let media = "application/merge-patch+json";
            call(client, "PATCH", &path, media, content).await?
        }
        Call::Apply(manager, force, content) => {
            let path = format!("{place}?fieldManager={manager}&force={force}");
            let media = "application/apply-patch+yaml";
            call(client, "PATCH", &path, media, &whole(content)).await?
        }
        Call::Delete => call(client, "DELETE", &place, json, &json!({})).await?,
    };
    let held = call(client, "GET", &place, json, &Value::Null).await?;
    Ok(json!({"answer": comparable(answer), "held": comparable(held)}))
}

/// The body of the answer; a refusal's is its Status.
async fn call(
    client: &Client,
    method: &str,
    path: &str,
    media: &str,
    body: &Value,
) -> Result<Value> {
    let bytes = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(body)?
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, media)
        .body(bytes)?;
    match client.request::<Value>(request).await {
        Ok(body) => Ok(body),
        Err(kube::Error::Api(status)) => Ok(serde_json::to_value(&*status)?),
        Err(error) => Err(error.into()),
    }
}

/// Without what no two servers share.
fn comparable(mut object: Value) -> Value {
    // A deletion's answer tells the uid of what it deleted.
    if let Some(details) = object.get_mut("details").and_then(Value::as_object_mut) {
        details.remove("uid");
        // The real server walks a Go map of managers: its order is another each time.
        if let Some(causes) = details.get_mut("causes").and_then(Value::as_array_mut) {
            causes.sort_by_key(|cause| ["field", "message"].map(|key| cause[key].to_string()));
        }
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return object;
    };
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(key);
    }
    if let Some(entries) = metadata
        .get_mut("managedFields")
        .and_then(Value::as_array_mut)
    {
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries.sort_by_key(|entry| {
            ["operation", "manager", "subresource"]
                .map(|key| entry[key].as_str().map(str::to_owned))
        });
    }
    object
}
