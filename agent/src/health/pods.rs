//! What people want to know of a workload that is not ready: which Pod is in the way, and why. Pure.
//!
//! In: the workload, then its Pods. Out: the label selector to ask by, then one sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use muster_proto::HealthStatus;
use serde_json::Value;

use super::{Health, workloads};

/// Selects the Pods of a workload; `None` for kinds that have none, or that say nothing of them.
pub(crate) fn selector(group: &str, kind: &str, body: &Value) -> Option<String> {
    let has_pods = matches!(
        (group, kind),
        (
            "apps",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet"
        ) | ("batch", "Job")
    );
    let selector = body.pointer("/spec/selector").filter(|_| has_pods)?;
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(label, value)| Some(format!("{label}={}", value.as_str()?)))
        .collect();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let label = expression.get("key")?.as_str()?;
        let values = expression.get("values").and_then(Value::as_array);
        let values: Vec<&str> = values
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        terms.push(match expression.get("operator")?.as_str()? {
            "In" => format!("{label} in ({values})"),
            "NotIn" => format!("{label} notin ({values})"),
            "Exists" => label.to_owned(),
            "DoesNotExist" => format!("!{label}"),
            _ => return None,
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

/// The Pod that is most in the way, and why; the newest of several. `None` when none is.
pub(crate) fn reason(pods: &[DynamicObject]) -> Option<String> {
    let judged = pods.iter().filter_map(|pod| {
        let going = pod.metadata.deletion_timestamp.is_some();
        let health = workloads::pod(&pod.data);
        let troubled = matches!(
            health.status,
            HealthStatus::Failed | HealthStatus::InProgress
        );
        (troubled && !going).then_some((pod, health))
    });
    let (pod, health) = judged.max_by_key(|(pod, health)| rank(pod, health))?;
    Some(format!("Pod {}: {}", pod.name_any(), health.message))
}

fn rank<'a>(pod: &'a DynamicObject, health: &Health) -> (HealthStatus, Option<&'a Time>) {
    (health.status, pod.metadata.creation_timestamp.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_selector_of_a_workload_is_written_as_the_server_reads_it() {
        let body = json!({"spec": {"selector": {"matchLabels": {"app": "web", "tier": "front"}, "matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}});
        assert_eq!(
            selector("apps", "Deployment", &body).as_deref(),
            Some("app=web,tier=front,zone in (a,b),!old")
        );
        assert_eq!(selector("", "Service", &body), None);
        assert_eq!(selector("apps", "Deployment", &json!({})), None);
    }

    fn pod(name: &str, created: &str, status: Value) -> DynamicObject {
        serde_json::from_value(
            json!({"metadata": {"name": name, "creationTimestamp": created}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn the_worst_and_newest_pod_tells_why() {
        let waiting = |reason: &str| json!({"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": reason, "message": "m"}}}]});
        let ready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
        let fine = pod("fine", "2026-01-01T00:00:09Z", ready);
        let early = pod("early", "2026-01-01T00:00:01Z", unschedulable.clone());
        let late = pod("late", "2026-01-01T00:00:02Z", unschedulable);
        let image = pod("image", "2026-01-01T00:00:00Z", waiting("ImagePullBackOff"));
        assert_eq!(reason(std::slice::from_ref(&fine)), None);
        assert_eq!(
            reason(&[fine.clone(), late, early.clone()]).as_deref(),
            Some("Pod late: Unschedulable: 0/1 nodes are available")
        );
        assert_eq!(
            reason(&[early, image, fine]).as_deref(),
            Some("Pod image: container c: ImagePullBackOff: m")
        );
    }

    #[test]
    fn a_crash_tells_how_the_container_ended() {
        let status = json!({"phase": "Running", "containerStatuses": [{"name": "c",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
        assert_eq!(
            reason(&[pod("p", "2026-01-01T00:00:00Z", status)]).as_deref(),
            Some(
                "Pod p: container c: CrashLoopBackOff: back-off 40s; it ended with exit code 137 (OOMKilled)"
            )
        );
        let pulling = json!({"phase": "Pending", "containerStatuses": [{"name": "c",
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]});
        assert_eq!(
            reason(&[pod("p", "2026-01-01T00:00:00Z", pulling)]).as_deref(),
            Some("Pod p: container c: ErrImagePull: not found")
        );
    }
}
