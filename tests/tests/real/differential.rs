//! The same random calls to a real API server and to the one in memory: after each, both gave the same answer and
//! hold the same object, field ownership included. Objects have owners and finalizers, and are deleted in all ways;
//! what the real server's garbage collector does to them is waited for.
//!
//! Left out of the comparison is only what no two servers share: uids, resourceVersions, times, and with the times
//! the order of `managedFields`; and the order of an apply's conflicts, which the real server leaves to chance.

use anyhow::{Result, ensure};
use kube::Client;
use muster_tests::cluster::real;
use muster_tests::conformance::define;
use muster_tests::memory::{Options, Server};
use muster_tests::wait;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use serde_json::{Value, json};
use std::time::Duration;

/// How many sequences of calls.
const SEQUENCES: u32 = 300;

#[test]
fn the_server_in_memory_answers_random_calls_like_the_real_one() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (real, memory) = runtime.block_on(async {
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
        let (mut on_real, mut on_memory) = (Vec::new(), Vec::new());
        for (client, owners) in [(&real, &mut on_real), (&memory, &mut on_memory)] {
            define(client, &format!("{namespace}.example.com")).await?;
            for name in OWNERS {
                let path = format!("/api/v1/namespaces/{namespace}/configmaps");
                let body = json!({"metadata": {"name": name}});
                let made = call(client, "POST", &path, "application/json", &body).await?;
                let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
                owners.push((uid.to_owned(), (*name).to_owned()));
            }
        }
        let place = |client, owners| Place {
            client,
            namespace: namespace.clone(),
            owners,
        };
        anyhow::Ok((place(real, on_real), place(memory, on_memory)))
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
                    let on_real = perform(&real, kind, &name, one).await?;
                    let on_memory = perform(&memory, kind, &name, one).await?;
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

/// Objects that own others, and stay.
const OWNERS: &[&str] = &["owner-a", "owner-b"];

/// One of the two servers.
struct Place {
    client: Client,
    namespace: String,
    /// Uid and name of each owner.
    owners: Vec<(String, String)>,
}

/// What is called upon.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    ConfigMap,
    PodTemplate,
    NetworkPolicy,
    Thing,
}

/// One call; the body lacks kind and name. The flag: a dry run.
type Call = (Verb, bool);

#[derive(Debug, Clone)]
enum Verb {
    Create(&'static str, Value),
    /// A whole object in place of the one that is there.
    Update(&'static str, Value),
    Merge(&'static str, Value),
    Apply(&'static str, bool, Value),
    /// With a propagation policy, or as the kind does it.
    Delete(Option<&'static str>),
}

fn kinds() -> impl Strategy<Value = Kind> {
    use Kind::{ConfigMap, NetworkPolicy, PodTemplate, Thing};
    select(vec![ConfigMap, PodTemplate, NetworkPolicy, Thing])
}

fn one_call(kind: Kind) -> impl Strategy<Value = Call> {
    let manager = || select(vec!["one", "two", "three"]);
    let policy = vec![None, Some("Background"), Some("Foreground"), Some("Orphan")];
    let verb = prop_oneof![
        2 => (manager(), content(kind)).prop_map(|(m, c)| Verb::Create(m, c)),
        2 => (manager(), content(kind)).prop_map(|(m, c)| Verb::Update(m, c)),
        2 => (manager(), content(kind)).prop_map(|(m, c)| Verb::Merge(m, c)),
        6 => (manager(), any::<bool>(), content(kind)).prop_map(|(m, f, c)| Verb::Apply(m, f, c)),
        2 => select(policy).prop_map(Verb::Delete),
    ];
    (verb, prop::bool::weighted(0.15))
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
    let finalizers = prop::option::weighted(
        0.4,
        subsequence(vec!["example.com/a", "example.com/b"], 0..=2),
    );
    let revision = prop::option::weighted(0.05, Just("1"));
    (body, words(), finalizers, owners(), revision)
        .prop_map(|(mut body, labels, finalizers, owners, revision)| {
            body["metadata"] = json!({"labels": labels});
            if let Some(finalizers) = finalizers {
                body["metadata"]["finalizers"] = json!(finalizers);
            }
            if let Some(owners) = owners {
                body["metadata"]["ownerReferences"] = json!(owners);
            }
            if let Some(revision) = revision {
                body["metadata"]["resourceVersion"] = json!(revision);
            }
            body
        })
        .boxed()
}

/// Some of the owners; at times both want control.
fn owners() -> impl Strategy<Value = Option<Vec<Value>>> {
    let flag = || prop::option::of(any::<bool>());
    let flags = prop::collection::vec((flag(), flag()), OWNERS.len());
    let some = (flags, subsequence(vec![0, 1], 0..=2)).prop_map(|(flags, chosen)| {
        let owner = |index: usize| {
            let name = OWNERS[index];
            let mut out = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name,
                "uid": format!("uid-of-{name}")});
            let (controller, blocks) = flags[index];
            for (field, flag) in [("controller", controller), ("blockOwnerDeletion", blocks)] {
                if let Some(flag) = flag {
                    out[field] = json!(flag);
                }
            }
            out
        };
        chosen.into_iter().map(owner).collect()
    });
    prop::option::weighted(0.4, some)
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
async fn perform(on: &Place, kind: Kind, name: &str, (verb, dry): &Call) -> Result<Value> {
    let Place {
        client, namespace, ..
    } = on;
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
    let (method, path, media, body) = match verb {
        Verb::Create(manager, content) => {
            let path = format!("{all}?fieldManager={manager}");
            ("POST", path, json, whole(content))
        }
        Verb::Update(manager, content) => {
            let path = format!("{place}?fieldManager={manager}");
            ("PUT", path, json, whole(content))
        }
        Verb::Merge(manager, content) => {
            let path = format!("{place}?fieldManager={manager}");
            (
                "PATCH",
                path,
                "application/merge-patch+json",
                content.clone(),
            )
        }
        Verb::Apply(manager, force, content) => {
            let path = format!("{place}?fieldManager={manager}&force={force}");
            (
                "PATCH",
                path,
                "application/apply-patch+yaml",
                whole(content),
            )
        }
        Verb::Delete(policy) => {
            let mut options = policy.map_or(json!({}), |p| json!({"propagationPolicy": p}));
            if *dry {
                options["dryRun"] = json!(["All"]);
            }
            ("DELETE", format!("{place}?"), json, options)
        }
    };
    let path = if *dry {
        format!("{path}&dryRun=All")
    } else {
        path
    };
    let body = renamed(
        &body,
        on.owners
            .iter()
            .map(|(uid, name)| (format!("uid-of-{name}"), uid.clone())),
    )?;
    let answer = call(client, method, &path, media, &body).await?;
    let held = settled(client, &place).await?;
    let named = |value: Value| {
        let names = on.owners.iter();
        renamed(
            &value,
            names.map(|(uid, name)| (uid.clone(), format!("uid-of-{name}"))),
        )
    };
    Ok(json!({"answer": comparable(named(answer)?), "held": comparable(named(held)?)}))
}

/// The object once the garbage collector has nothing to do with it any more.
async fn settled(client: &Client, place: &str) -> Result<Value> {
    wait::until(
        "the garbage collector is done",
        Duration::from_secs(30),
        async || {
            let held = call(client, "GET", place, "application/json", &Value::Null).await?;
            let waits = |list: &Vec<Value>| {
                list.iter()
                    .any(|f| f == "orphan" || f == "foregroundDeletion")
            };
            let finalizers = held["metadata"]["finalizers"].as_array();
            ensure!(!finalizers.is_some_and(waits), "{finalizers:?}");
            Ok(held)
        },
    )
    .await
}

/// The same with other names.
fn renamed(value: &Value, names: impl Iterator<Item = (String, String)>) -> Result<Value> {
    let mut text = value.to_string();
    for (from, to) in names {
        text = text.replace(&from, &to);
    }
    Ok(serde_json::from_str(&text)?)
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
    // Conflicts are listed by field, and a field may name a uid.
    if object["code"] == 409
        && let Some(message) = object["message"].as_str()
    {
        let mut lines: Vec<&str> = message.lines().collect();
        lines.sort_unstable();
        object["message"] = json!(lines);
    }
    // A deletion's answer tells the uid of what it deleted.
    if let Some(details) = object.get_mut("details").and_then(Value::as_object_mut) {
        details.remove("uid");
        // The real server walks a Go map of managers: its order is another each time.
        if let Some(causes) = details.get_mut("causes").and_then(Value::as_array_mut) {
            causes.sort_by_key(|cause| ["field", "message"].map(|key| cause[key].to_string()));
            // It checks the metadata of a custom object twice, and says so twice.
            causes.dedup();
        }
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return object;
    };
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(key);
    }
    if let Some(time) = metadata.get_mut("deletionTimestamp") {
        *time = json!("some time");
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
