//! Health rules of the built-in kinds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Health, condition_is};

/// The rule of a built-in kind; `None` when it has none.
pub(super) fn judge(
    group: &str,
    kind: &str,
    body: &Value,
    metadata: &ObjectMeta,
) -> Option<Health> {
    let health = match (group, kind) {
        ("apps", "Deployment") => deployment(body, metadata),
        ("apps", "StatefulSet") => stateful_set(body, metadata),
        ("apps", "DaemonSet") => daemon_set(body, metadata),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => replica_set(body),
        ("", "Pod") => pod(body),
        ("", "PersistentVolumeClaim") => claim(body),
        ("", "Service") => service(body),
        ("batch", "Job") => job(body),
        ("batch", "CronJob") => cron_job(body),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(body),
        ("policy", "PodDisruptionBudget") => disruption_budget(body, metadata),
        ("apiregistration.k8s.io", "APIService") => api_service(body),
        ("apps" | "batch" | "policy" | "apiextensions.k8s.io" | "apiregistration.k8s.io", _) => {
            Health::current()
        }
        _ => return None,
    };
    Some(health)
}

fn number(body: &Value, pointer: &str) -> i64 {
    body.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn is_true(body: &Value, pointer: &str) -> bool {
    body.pointer(pointer)
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

fn replicas(body: &Value) -> i64 {
    body.pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1)
}

/// No controller has looked at it since it was made.
fn unseen(body: &Value, metadata: &ObjectMeta) -> Option<Health> {
    let seen = body.pointer("/status/observedGeneration").is_some();
    (!seen && metadata.generation.is_some())
        .then(|| Health::in_progress("its controller has not seen it yet"))
}

fn deployment(body: &Value, metadata: &ObjectMeta) -> Health {
    if is_true(body, "/spec/paused") {
        return Health::suspended("its rollout is paused");
    }
    if let Some(unseen) = unseen(body, metadata) {
        return unseen;
    }
    if let Some(why) = condition_is(body, "Progressing", "False") {
        return Health::failed(why);
    }
    let wanted = replicas(body);
    let updated = number(body, "/status/updatedReplicas");
    let all = number(body, "/status/replicas");
    let available = number(body, "/status/availableReplicas");
    if let Some(why) = condition_is(body, "ReplicaFailure", "True") {
        return Health::in_progress(why);
    }
    if updated < wanted {
        Health::in_progress(format!(
            "{updated} of {wanted} replicas are of the new version"
        ))
    } else if all > updated {
        Health::in_progress(format!(
            "{} replicas of the old version are still there",
            all - updated
        ))
    } else if all > wanted {
        Health::in_progress(format!("{} replicas are still to go", all - wanted))
    } else if available < wanted {
        Health::in_progress(format!("{available} of {wanted} replicas are available"))
    } else {
        Health::current()
    }
}

fn stateful_set(body: &Value, metadata: &ObjectMeta) -> Health {
    if let Some(unseen) = unseen(body, metadata) {
        return unseen;
    }
    let wanted = replicas(body);
    let ready = number(body, "/status/readyReplicas");
    if ready < wanted {
        return Health::in_progress(format!("{ready} of {wanted} replicas are ready"));
    }
    let all = number(body, "/status/replicas");
    if all > wanted {
        return Health::in_progress(format!("{} replicas are still to go", all - wanted));
    }
    if text(body, "/spec/updateStrategy/type") == "OnDelete" {
        return Health::current();
    }
    let partition = number(body, "/spec/updateStrategy/rollingUpdate/partition");
    let to_update = (wanted - partition).max(0);
    let updated = number(body, "/status/updatedReplicas");
    let current_revision = text(body, "/status/currentRevision");
    let settled = partition > 0 || current_revision == text(body, "/status/updateRevision");
    if updated < to_update || !settled {
        return Health::in_progress(format!(
            "{updated} of {to_update} replicas are of the new version"
        ));
    }
    Health::current()
}

fn daemon_set(body: &Value, metadata: &ObjectMeta) -> Health {
    if let Some(unseen) = unseen(body, metadata) {
        return unseen;
    }
    let wanted = number(body, "/status/desiredNumberScheduled");
    let updated = number(body, "/status/updatedNumberScheduled");
    let available = number(body, "/status/numberAvailable");
    let on_delete = text(body, "/spec/updateStrategy/type") == "OnDelete";
    if !on_delete && updated < wanted {
        Health::in_progress(format!("{updated} of {wanted} nodes run the new version"))
    } else if available < wanted {
        Health::in_progress(format!("it is available on {available} of {wanted} nodes"))
    } else {
        Health::current()
    }
}

fn replica_set(body: &Value) -> Health {
    if let Some(why) = condition_is(body, "ReplicaFailure", "True") {
        return Health::in_progress(why);
    }
    let wanted = replicas(body);
    let available = number(body, "/status/availableReplicas");
    if available < wanted {
        return Health::in_progress(format!("{available} of {wanted} replicas are available"));
    }
    if number(body, "/status/replicas") > wanted {
        return Health::in_progress("replicas are still to go");
    }
    Health::current()
}

/// Reasons of a waiting container that do not pass without a person.
const STUCK: [&str; 6] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
];

pub(super) fn pod(body: &Value) -> Health {
    match text(body, "/status/phase") {
        "Succeeded" => return Health::current(),
        "Failed" => {
            let (reason, message) = (text(body, "/status/reason"), text(body, "/status/message"));
            let why = [reason, message]
                .into_iter()
                .filter(|part| !part.is_empty());
            let why = why.collect::<Vec<_>>().join(": ");
            return Health::failed(if why.is_empty() {
                "the Pod failed".into()
            } else {
                why
            });
        }
        _ => {}
    }
    let mut trouble = None;
    for list in ["/status/initContainerStatuses", "/status/containerStatuses"] {
        let containers = body.pointer(list).and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            match text(container, "/state/waiting/reason") {
                "" | "ContainerCreating" | "PodInitializing" => {}
                stuck if STUCK.contains(&stuck) => return Health::failed(waits(container)),
                _ => trouble = trouble.or_else(|| Some(waits(container))),
            }
        }
    }
    if let Some(why) = trouble {
        return Health::in_progress(why);
    }
    if condition_is(body, "Ready", "True").is_some() {
        return Health::current();
    }
    if let Some(why) = condition_is(body, "PodScheduled", "False") {
        return Health::in_progress(why);
    }
    let why = condition_is(body, "Ready", "False");
    Health::in_progress(why.unwrap_or_else(|| "it is not ready yet".into()))
}

/// What a container waits for, and how it ended before.
fn waits(container: &Value) -> String {
    let name = text(container, "/name");
    let reason = text(container, "/state/waiting/reason");
    let message = text(container, "/state/waiting/message");
    let mut said = format!("container {name}: {reason}");
    if !message.is_empty() {
        said.push_str(&format!(": {message}"));
    }
    let ended = container.pointer("/lastState/terminated");
    if let Some(code) = ended.and_then(|ended| ended.get("exitCode")) {
        said.push_str(&format!("; it ended with exit code {code}"));
        match text(container, "/lastState/terminated/reason") {
            "" | "Error" => {}
            why => said.push_str(&format!(" ({why})")),
        }
    }
    said
}

fn claim(body: &Value) -> Health {
    match text(body, "/status/phase") {
        "Bound" => Health::current(),
        "Lost" => Health::failed("its volume is lost"),
        _ => Health::in_progress("it is not bound to a volume yet"),
    }
}

fn service(body: &Value) -> Health {
    let ingress = body
        .pointer("/status/loadBalancer/ingress")
        .and_then(Value::as_array);
    let has_address = ingress.is_some_and(|ingress| !ingress.is_empty());
    if text(body, "/spec/type") == "LoadBalancer" && !has_address {
        return Health::in_progress("its load balancer has no address yet");
    }
    Health::current()
}

fn job(body: &Value) -> Health {
    if let Some(why) = condition_is(body, "Failed", "True") {
        return Health::failed(why);
    }
    if condition_is(body, "Complete", "True").is_some() {
        return Health::current();
    }
    if is_true(body, "/spec/suspend") {
        return Health::suspended("the Job is suspended");
    }
    let wanted = body
        .pointer("/spec/completions")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let done = number(body, "/status/succeeded");
    Health::in_progress(format!("{done} of {wanted} completions"))
}

fn cron_job(body: &Value) -> Health {
    if is_true(body, "/spec/suspend") {
        return Health::suspended("the CronJob is suspended");
    }
    Health::current()
}

fn definition(body: &Value) -> Health {
    if let Some(why) = condition_is(body, "NamesAccepted", "False") {
        return Health::failed(why);
    }
    if condition_is(body, "Established", "True").is_some() {
        return Health::current();
    }
    let why = condition_is(body, "Established", "False");
    Health::in_progress(why.unwrap_or_else(|| "it is not established yet".into()))
}

fn disruption_budget(body: &Value, metadata: &ObjectMeta) -> Health {
    if let Some(unseen) = unseen(body, metadata) {
        return unseen;
    }
    let (healthy, wanted) = (
        number(body, "/status/currentHealthy"),
        number(body, "/status/desiredHealthy"),
    );
    if healthy < wanted {
        return Health::in_progress(format!("{healthy} of {wanted} Pods are healthy"));
    }
    Health::current()
}

fn api_service(body: &Value) -> Health {
    if condition_is(body, "Available", "True").is_some() {
        return Health::current();
    }
    let why = condition_is(body, "Available", "False");
    Health::in_progress(why.unwrap_or_else(|| "it is not available yet".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::HealthStatus::{self, Current, Failed, InProgress, Suspended};
    use serde_json::json;

    fn status(group: &str, kind: &str, body: Value) -> HealthStatus {
        let metadata = ObjectMeta {
            generation: Some(1),
            ..ObjectMeta::default()
        };
        judge(group, kind, &body, &metadata).unwrap().status
    }

    fn condition(kind: &str, value: &str) -> Value {
        json!({"status": {"conditions": [{"type": kind, "status": value}]}})
    }

    #[test]
    fn a_deployment_is_current_when_all_replicas_are_new_and_available() {
        let rollout = |all, updated, available| {
            json!({"spec": {"replicas": 3}, "status": {"observedGeneration": 1, "replicas": all,
                "updatedReplicas": updated, "availableReplicas": available}})
        };
        let table = [
            (json!({"spec": {"replicas": 3}}), InProgress),
            (rollout(3, 1, 3), InProgress),
            (rollout(4, 3, 3), InProgress),
            (rollout(3, 3, 2), InProgress),
            (rollout(5, 5, 5), InProgress),
            (rollout(3, 3, 3), Current),
            (json!({"spec": {"paused": true}}), Suspended),
            (
                json!({"status": {"observedGeneration": 1, "conditions":
                    [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}}),
                Failed,
            ),
        ];
        for (body, expected) in table {
            assert_eq!(
                status("apps", "Deployment", body.clone()),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn a_stateful_set_waits_for_its_rollout_up_to_its_partition() {
        let rollout = |ready, updated, partition, revision| {
            json!({"spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": partition}}},
                "status": {"observedGeneration": 1, "replicas": 3, "readyReplicas": ready, "updatedReplicas": updated,
                    "currentRevision": "a", "updateRevision": revision}})
        };
        let table = [
            (rollout(2, 3, 0, "a"), InProgress),
            (rollout(3, 2, 0, "b"), InProgress),
            (rollout(3, 3, 0, "a"), Current),
            (rollout(3, 1, 2, "b"), Current),
            (rollout(3, 0, 2, "b"), InProgress),
        ];
        for (body, expected) in table {
            assert_eq!(
                status("apps", "StatefulSet", body.clone()),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn a_daemon_set_must_be_available_on_every_node_it_wants() {
        let rollout = |updated, available| {
            json!({"status": {"observedGeneration": 1, "desiredNumberScheduled": 2,
                "updatedNumberScheduled": updated, "numberAvailable": available}})
        };
        for (body, expected) in [
            (rollout(1, 2), InProgress),
            (rollout(2, 1), InProgress),
            (rollout(2, 2), Current),
        ] {
            assert_eq!(status("apps", "DaemonSet", body), expected);
        }
    }

    #[test]
    fn pods_jobs_and_the_rest_follow_their_rules() {
        let crash = json!({"status": {"phase": "Running", "containerStatuses":
            [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]}});
        let table = [
            ("", "Pod", json!({"status": {"phase": "Failed"}}), Failed),
            (
                "",
                "Pod",
                json!({"status": {"phase": "Succeeded"}}),
                Current,
            ),
            ("", "Pod", crash, Failed),
            ("", "Pod", condition("Ready", "True"), Current),
            ("", "Pod", condition("PodScheduled", "False"), InProgress),
            (
                "",
                "PersistentVolumeClaim",
                json!({"status": {"phase": "Bound"}}),
                Current,
            ),
            (
                "",
                "PersistentVolumeClaim",
                json!({"status": {"phase": "Lost"}}),
                Failed,
            ),
            (
                "",
                "Service",
                json!({"spec": {"type": "LoadBalancer"}}),
                InProgress,
            ),
            (
                "",
                "Service",
                json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}),
                Current,
            ),
            (
                "",
                "Service",
                json!({"spec": {"type": "ClusterIP"}}),
                Current,
            ),
            ("batch", "Job", json!({"status": {"active": 1}}), InProgress),
            ("batch", "Job", condition("Complete", "True"), Current),
            ("batch", "Job", condition("Failed", "True"), Failed),
            (
                "batch",
                "Job",
                json!({"spec": {"suspend": true}}),
                Suspended,
            ),
            (
                "batch",
                "CronJob",
                json!({"spec": {"suspend": true}}),
                Suspended,
            ),
            ("batch", "CronJob", json!({}), Current),
            (
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                condition("Established", "True"),
                Current,
            ),
            (
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                condition("NamesAccepted", "False"),
                Failed,
            ),
            (
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                json!({}),
                InProgress,
            ),
            (
                "apiregistration.k8s.io",
                "APIService",
                condition("Available", "False"),
                InProgress,
            ),
            (
                "apiregistration.k8s.io",
                "APIService",
                condition("Available", "True"),
                Current,
            ),
            (
                "apps",
                "ReplicaSet",
                json!({"spec": {"replicas": 2}, "status": {"availableReplicas": 1}}),
                InProgress,
            ),
            (
                "apps",
                "ReplicaSet",
                json!({"spec": {"replicas": 2}, "status": {"availableReplicas": 2, "replicas": 3}}),
                InProgress,
            ),
            (
                "apps",
                "ReplicaSet",
                json!({"spec": {"replicas": 2}, "status": {"availableReplicas": 2, "replicas": 2}}),
                Current,
            ),
            (
                "policy",
                "PodDisruptionBudget",
                json!({"status": {"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 2}}),
                Current,
            ),
            (
                "policy",
                "PodDisruptionBudget",
                json!({"status": {"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 2}}),
                InProgress,
            ),
        ];
        for (group, kind, body, expected) in table {
            assert_eq!(status(group, kind, body.clone()), expected, "{kind} {body}");
        }
    }
}
