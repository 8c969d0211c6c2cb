//! Does an object work? A pure function of one object and the time.
//!
//! The rules are those of kstatus (sigs.k8s.io/cli-utils), with known mistakes mended: a failed Pod is Failed, a
//! running Job is InProgress, what is paused or suspended is Suspended, and a custom resource whose controller has
//! not written a status gets a bounded grace instead of being taken for ready or waited for for ever. The rules of
//! single kinds are in [`workloads`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DynamicObject;
use muster_proto::{HealthStatus, Timestamp};
use serde_json::Value;

use crate::discovery::Kind;

pub(crate) mod pods;
mod rules;
mod workloads;

pub(crate) use rules::{Rule, Rules};

/// How long a custom resource may be without any status before we stop waiting for its controller.
const GRACE_MS: i64 = 60_000;

/// Health of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// The word.
    pub(crate) status: HealthStatus,
    /// Why, for a person; empty when it is Current.
    pub(crate) message: String,
    /// From then on it counts as Current: nobody reports a status.
    pub(crate) settles_at: Option<Timestamp>,
}

impl Health {
    pub(crate) fn new(status: HealthStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            settles_at: None,
        }
    }

    fn current() -> Self {
        Self::new(HealthStatus::Current, "")
    }

    fn in_progress(message: impl Into<String>) -> Self {
        Self::new(HealthStatus::InProgress, message)
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(HealthStatus::Failed, message)
    }

    fn suspended(message: impl Into<String>) -> Self {
        Self::new(HealthStatus::Suspended, message)
    }

    /// What it counts as now.
    pub(crate) fn at(&self, now: Timestamp) -> (HealthStatus, &str) {
        match self.settles_at {
            Some(at) if now >= at => (HealthStatus::Current, "no controller reports status"),
            _ => (self.status, &self.message),
        }
    }
}

/// Must the whole object be watched to judge its health? Kinds without a rule are Current as soon as they exist, and
/// their metadata is enough.
pub(crate) fn reads_status(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(
            kind,
            "Pod" | "PersistentVolumeClaim" | "Service" | "ReplicationController"
        ),
        "apps" | "apiextensions.k8s.io" | "apiregistration.k8s.io" | "batch" | "policy" => true,
        "admissionregistration.k8s.io"
        | "authentication.k8s.io"
        | "authorization.k8s.io"
        | "autoscaling"
        | "certificates.k8s.io"
        | "coordination.k8s.io"
        | "discovery.k8s.io"
        | "events.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "networking.k8s.io"
        | "node.k8s.io"
        | "rbac.authorization.k8s.io"
        | "resource.k8s.io"
        | "scheduling.k8s.io"
        | "storage.k8s.io" => false,
        _custom => true,
    }
}

/// Judges an object, by the rule of its application when there is one; metadata alone will do for kinds without any.
pub(crate) fn judge(object: &DynamicObject, kind: &Kind, rule: Option<&Rule>) -> Health {
    let metadata = &object.metadata;
    if metadata.deletion_timestamp.is_some() {
        let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
        let message = match finalizers {
            [] => "being deleted".to_owned(),
            held_by => format!("being deleted; waits for {}", held_by.join(", ")),
        };
        return Health::new(HealthStatus::Terminating, message);
    }
    let (group, name) = (kind.resource.group.as_str(), kind.resource.kind.as_str());
    if rule.is_none() && !reads_status(group, name) {
        return Health::current();
    }
    let body = &object.data;
    let observed = body
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    if let (Some(observed), Some(generation)) = (observed, metadata.generation)
        && observed < generation
        && !is_silent(body)
    {
        return Health::in_progress("its controller has not seen the newest spec yet");
    }
    if let Some(rule) = rule {
        let whole = serde_json::to_value(object).unwrap_or_default();
        if let Some(ruled) = rules::judge(rule, &whole) {
            return ruled;
        }
    }
    if let Some(ruled) = workloads::judge(group, name, body, metadata) {
        return ruled;
    }
    generic(body, kind, metadata.creation_timestamp.as_ref())
}

/// Rules for kinds that nobody wrote a rule for: the conditions that most controllers share.
fn generic(body: &Value, kind: &Kind, created: Option<&Time>) -> Health {
    if let Some(why) = condition_is(body, "Stalled", "True") {
        return Health::failed(why);
    }
    if let Some(why) = condition_is(body, "Reconciling", "True") {
        return Health::in_progress(why);
    }
    for doubt in ["False", "Unknown"] {
        if let Some(why) = condition_is(body, "Ready", doubt) {
            return Health::in_progress(why);
        }
    }
    if is_silent(body) && kind.has_status {
        let created = created.map_or(0, |created| created.0.as_millisecond());
        return Health {
            settles_at: Some(Timestamp(created + GRACE_MS)),
            ..Health::in_progress("its controller has not reported a status yet")
        };
    }
    Health::current()
}

/// Has no controller written a status? Nor has one where all that it says is the generation that a definition states as
/// the default, before any: Flux's definitions say -1.
fn is_silent(body: &Value) -> bool {
    let says = |(field, value): (&String, &Value)| {
        field != "observedGeneration" || value.as_i64().is_none_or(|observed| observed > 0)
    };
    let status = body.get("status").filter(|status| !status.is_null());
    status.is_none_or(|status| {
        status
            .as_object()
            .is_some_and(|status| !status.iter().any(says))
    })
}

/// The reason and message of a condition, when it has that value.
fn condition_is(body: &Value, kind: &str, value: &str) -> Option<String> {
    let conditions = body.pointer("/status/conditions")?.as_array()?;
    let text = |condition: &Value, field| {
        condition
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let found = conditions
        .iter()
        .find(|condition| text(condition, "type") == kind && text(condition, "status") == value)?;
    let (reason, message) = (text(found, "reason"), text(found, "message"));
    Some(match (reason.as_str(), message.as_str()) {
        ("", "") => format!("{kind} is {value}"),
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::ApiResource;
    use serde_json::json;

    pub(crate) fn kind(group: &str, kind: &str) -> Kind {
        Kind {
            resource: ApiResource {
                group: group.into(),
                version: "v1".into(),
                api_version: format!("{group}/v1"),
                kind: kind.into(),
                plural: format!("{}s", kind.to_lowercase()),
            },
            namespaced: true,
            has_status: true,
            listable: true,
            ruled: None,
        }
    }

    fn of(group: &str, name: &str, object: Value) -> Health {
        let mut object = object;
        object["metadata"]["name"] = json!("x");
        object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:01:40Z");
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        judge(&object, &kind(group, name), None)
    }

    #[test]
    fn custom_resources_follow_their_conditions() {
        let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]}});
        assert_eq!(of("shop.io", "Cart", ready("True")), Health::current());
        assert_eq!(
            of("shop.io", "Cart", ready("False")),
            Health::in_progress("R: m")
        );
        let stalled = json!({"status": {"conditions": [{"type": "Stalled", "status": "True", "message": "broken"}]}});
        assert_eq!(of("shop.io", "Cart", stalled), Health::failed("broken"));
        let unseen = json!({"metadata": {"generation": 3}, "status": {"observedGeneration": 2}});
        assert_eq!(
            of("shop.io", "Cart", unseen).status,
            HealthStatus::InProgress
        );
    }

    #[test]
    fn a_custom_resource_that_nobody_reports_on_settles_after_a_minute() {
        let health = of("shop.io", "Cart", json!({}));
        assert_eq!(health.at(Timestamp(159_999)).0, HealthStatus::InProgress);
        assert_eq!(
            health.at(Timestamp(160_000)),
            (HealthStatus::Current, "no controller reports status")
        );
    }

    #[test]
    fn a_status_that_the_definition_fills_in_was_written_by_nobody() {
        let default = |observed: i64| json!({"metadata": {"generation": 1}, "status": {"observedGeneration": observed}});
        let health = of("shop.io", "Cart", default(-1));
        assert_eq!(health.at(Timestamp(159_999)).0, HealthStatus::InProgress);
        assert_eq!(health.at(Timestamp(160_000)).0, HealthStatus::Current);
        assert_eq!(of("shop.io", "Cart", default(1)), Health::current());
        let mut begun = default(-1);
        begun["status"]["conditions"] = json!([]);
        assert_eq!(of("shop.io", "Cart", begun).settles_at, None);
    }

    #[test]
    fn what_is_being_deleted_says_what_it_waits_for() {
        let object = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}});
        let health = of("", "ConfigMap", object);
        assert_eq!(
            health,
            Health::new(HealthStatus::Terminating, "being deleted; waits for a/b")
        );
    }

    #[test]
    fn what_has_no_rule_is_current_when_it_exists() {
        assert_eq!(of("", "ConfigMap", json!({})), Health::current());
    }
}
