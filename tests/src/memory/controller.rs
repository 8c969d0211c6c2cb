//! Toy controllers: workloads become healthy, by their status alone. No Pods are made.
//!
//! In: Deployments, StatefulSets, DaemonSets, ReplicaSets and Jobs as they are written. Out: the status that
//! the real controllers would write once everything runs. DaemonSets run on one imagined node; a paused
//! Deployment and a suspended Job stay as they are.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::write::{self, Change, Options, Target};
use super::{Server, locked};

/// The running controllers; they end when this is dropped.
pub struct Controllers {
    _tasks: JoinSet<()>,
}

const WATCHED: [(&str, &str); 5] = [
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "jobs"),
];

/// Starts one task a kind.
pub(super) fn start(server: &Arc<Server>) -> Controllers {
    let mut tasks = JoinSet::new();
    for (group, plural) in WATCHED {
        let server = Arc::downgrade(server);
        tasks.spawn(async move {
            let resource = (group.to_owned(), plural.to_owned());
            let Some(mut changed) = server
                .upgrade()
                .map(|s| locked(&s).store.subscribe(&resource))
            else {
                return;
            };
            loop {
                changed.borrow_and_update();
                match server.upgrade() {
                    Some(server) => settle(&server, group, plural),
                    None => return,
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        });
    }
    Controllers { _tasks: tasks }
}

/// Writes the status of every object that has not the one it should have.
fn settle(server: &Arc<Server>, group: &str, plural: &str) {
    let mut state = locked(server);
    let Some(kind) = state.kinds.at(group, "v1", plural) else {
        return;
    };
    let now = state.now();
    let due: Vec<(Target, Value)> = state
        .store
        .list(&kind.store(), "")
        .filter_map(|((namespace, name), object)| {
            let status = wanted(&kind.kind, object, &now)?;
            let mut body = Value::clone(object);
            body["status"] = status;
            let target = Target {
                kind: kind.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
                subresource: "status".to_owned(),
            };
            Some((target, body))
        })
        .collect();
    let options = Options {
        manager: "kube-controller-manager".to_owned(),
        ..Options::default()
    };
    for (target, body) in due {
        if let Err(refusal) = write::write(&mut state, &target, Change::Replace(body), &options) {
            tracing::warn!(
                kind = plural,
                name = target.name,
                message = refusal.message,
                "status"
            );
        }
    }
}

/// The status an object should have, unless it has it.
fn wanted(kind: &str, object: &Value, now: &str) -> Option<Value> {
    let spec = &object["spec"];
    let status = &object["status"];
    let generation = object["metadata"]["generation"].clone();
    if status["observedGeneration"] == generation && kind != "Job" {
        return None;
    }
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": now})
    };
    Some(match kind {
        "Deployment" if spec["paused"] == true => return None,
        "Deployment" => json!({
            "observedGeneration": generation,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [
                condition("Available", "MinimumReplicasAvailable",
                    "Deployment has minimum availability."),
                condition("Progressing", "NewReplicaSetAvailable",
                    "ReplicaSet has successfully progressed."),
            ],
        }),
        "StatefulSet" => {
            let revision = format!("revision-{generation}");
            json!({
                "observedGeneration": generation,
                "replicas": replicas,
                "currentReplicas": replicas,
                "updatedReplicas": replicas,
                "readyReplicas": replicas,
                "availableReplicas": replicas,
                "currentRevision": revision,
                "updateRevision": revision,
                "collisionCount": 0,
            })
        }
        "ReplicaSet" => json!({
            "observedGeneration": generation,
            "replicas": replicas,
            "fullyLabeledReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
        }),
        "DaemonSet" => json!({
            "observedGeneration": generation,
            "currentNumberScheduled": 1,
            "desiredNumberScheduled": 1,
            "numberMisscheduled": 0,
            "numberReady": 1,
            "numberAvailable": 1,
            "updatedNumberScheduled": 1,
        }),
        "Job" if spec["suspend"] == true || status.get("completionTime").is_some() => return None,
        "Job" => {
            let done = |kind: &str| {
                json!({"type": kind, "status": "True", "reason": "CompletionsReached",
                    "message": "Reached expected number of succeeded pods",
                    "lastProbeTime": now, "lastTransitionTime": now})
            };
            json!({
                "startTime": now,
                "completionTime": now,
                "succeeded": spec["completions"].as_i64().unwrap_or(1),
                "ready": 0,
                "terminating": 0,
                "uncountedTerminatedPods": {},
                "conditions": [done("SuccessCriteriaMet"), done("Complete")],
            })
        }
        _ => return None,
    })
}
