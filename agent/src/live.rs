//! What is there now: what we keep of a live object, and one watch per kind in use ([`watches`]).
//!
//! In: objects or their metadata, as the API server shows them. Out: a [`LiveObject`], small, because there is one
//! for every object we own. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use muster_proto::{Additions, Digest, HealthStatus, Timestamp};
use serde_json::{Value, json};

use crate::body::APPLICATION_LABEL;
use crate::desired::wanted::Wanted;
use crate::discovery::Kind;
use crate::drift::{self, Changed};
use crate::health::{self, Health, Rule};
use crate::ignore::{self, Left};
use crate::marks::{self, Applying};
use crate::takeover;

pub(crate) mod watches;

/// What we keep of an object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveObject {
    /// Tells it from another object of the same name.
    pub(crate) uid: String,
    /// Of the newest state seen.
    pub(crate) resource_version: u64,
    /// Our own managedFields entry; none when we never applied it, or its managedFields were reset.
    pub(crate) ours: Option<Ours>,
    /// Of what stands in the fields of ours that Git states, but for those that may be left to others; none of a kind
    /// of which only metadata is watched, and where any field may be left to a manager.
    pub(crate) values: Option<Digest>,
    /// Its application label.
    pub(crate) application: Option<String>,
    /// Somebody else runs it: a controller, or another GitOps tool. For people.
    pub(crate) foreign: Option<String>,
    /// A mark that forbids to remove it, as written.
    pub(crate) keep: Option<String>,
    /// What a mark on it says of applying.
    pub(crate) applying: Applying,
    /// What is left to others on it.
    pub(crate) left: Option<Box<Left>>,
    /// Others hold fields that are to be ours.
    pub(crate) take_over: bool,
    /// People added fields to it, and its application wants to know.
    pub(crate) added: bool,
    /// It is being deleted.
    pub(crate) terminating: bool,
    /// When it changed last, by its own word; see [`changed`].
    pub(crate) changed: Option<Timestamp>,
    /// Does it work?
    pub(crate) health: Health,
    /// Of the rules that applications had for its kind when that was judged.
    pub(crate) ruled: Option<Digest>,
    /// Selects its Pods, when it has some and does not work yet.
    pub(crate) pods: Option<String>,
}

/// Our managedFields entry, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ours {
    /// The version we applied in.
    pub(crate) api_version: String,
    /// Of the field set.
    pub(crate) fields: Digest,
}

/// What is known of whether an object is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::large_enum_variant, reason = "nearly all are Present")]
pub(crate) enum Sight {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// It is not there.
    Absent,
    /// It is there.
    Present(LiveObject),
}

impl Sight {
    /// The object, when it is there.
    pub(crate) fn object(&self) -> Option<&LiveObject> {
        match self {
            Self::Present(object) => Some(object),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// What to keep of an object; `rule` is the health rule of its application.
pub(crate) fn look(object: &DynamicObject, kind: &Kind, rule: Option<&Rule>) -> LiveObject {
    let metadata = &object.metadata;
    let managed = metadata.managed_fields.as_deref().unwrap_or_default();
    let ours = drift::our_entry(managed).map(|entry| Ours {
        api_version: entry.api_version.clone().unwrap_or_default(),
        fields: fields_digest(&drift::field_set(entry)),
    });
    let health = health::judge(object, kind, rule);
    LiveObject {
        uid: object.uid().unwrap_or_default(),
        resource_version: version(metadata),
        ours,
        values: None,
        application: object.labels().get(APPLICATION_LABEL).cloned(),
        foreign: foreign(object),
        keep: marks::keep(metadata),
        applying: Applying::found(metadata),
        left: None,
        take_over: false,
        added: false,
        terminating: metadata.deletion_timestamp.is_some(),
        changed: changed(object),
        pods: match health.status {
            HealthStatus::InProgress | HealthStatus::Failed => {
                health::pods::selector(&kind.resource.group, &kind.resource.kind, &object.data)
            }
            _ => None,
        },
        health,
        ruled: kind.ruled,
    }
}

impl LiveObject {
    /// Looks at it as one that is wanted: what is left to others, what is taken from them.
    pub(crate) fn wanted(&mut self, wanted: &Wanted, object: &DynamicObject) {
        let managed = object.managed_fields();
        self.values = values(wanted, object);
        self.left = ignore::left(wanted.ignore.as_deref(), managed).map(Box::new);
        let whose = takeover::Whose::of(wanted, self.ours.is_some());
        let version = &wanted.kind.resource.api_version;
        self.take_over = takeover::taken_over(managed, version, whose).is_some();
        let noted = wanted.settings.additions != Additions::Ignore && self.ours.is_some();
        self.added = noted && !self.additions(wanted, managed).paths.is_empty();
    }

    /// What people added to it.
    pub(crate) fn additions(&self, wanted: &Wanted, managed: &[ManagedFieldsEntry]) -> Changed {
        let version = &wanted.kind.resource.api_version;
        let whose = takeover::Whose::of(wanted, true);
        let reads = |entry: &ManagedFieldsEntry| whose.reads(entry, version);
        let people = |manager: &str| whose.is_of_people(manager);
        drift::added(managed, reads, people, |set| {
            // What a repair would not take away is no addition.
            let part = whose.part(set);
            match &self.left {
                Some(left) => left.of_set(&part, wanted.ignore.as_deref()),
                None => part,
            }
        })
    }
}

/// Our field set without all that may be left to others at some time.
fn ours_alone(wanted: &Wanted, managed: &[ManagedFieldsEntry]) -> Option<Value> {
    let ours = drift::our_entry(managed)?.fields_v1.as_ref()?;
    ignore::never_left(&ours.0, wanted.ignore.as_deref())
}

/// Values of ours that somebody changed without taking the field. `stated` is the body we apply, `live` the whole object.
pub(crate) fn rewritten(
    wanted: &Wanted,
    stated: &Value,
    live: &Value,
    managed: &[ManagedFieldsEntry],
) -> Changed {
    match ours_alone(wanted, managed) {
        Some(set) => drift::rewritten(&set, stated, live, managed),
        None => Changed::default(),
    }
}

/// See [`LiveObject::values`].
fn values(wanted: &Wanted, object: &DynamicObject) -> Option<Digest> {
    if object.data.is_null() || !wanted.kind.is_read_whole() {
        return None;
    }
    let set = ours_alone(wanted, object.managed_fields())?;
    let metadata = json!({"metadata": {
        "labels": object.metadata.labels,
        "annotations": object.metadata.annotations,
        "finalizers": object.metadata.finalizers,
        "ownerReferences": object.metadata.owner_references,
    }});
    let live = [&metadata, &object.data];
    Some(drift::stated::digest(&set, &wanted.object.value(), &live))
}

/// When an object changed last: what it states by the newest write of it, how it does by the newest turn of its
/// conditions, or where it has none by the newest write of its status (a condition may stand for days while counts
/// beside it come and go).
fn changed(object: &DynamicObject) -> Option<Timestamp> {
    let conditions = object.data.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let turned = conditions
        .filter_map(|condition| condition["lastTransitionTime"].as_str())
        .filter_map(|time| time.parse::<jiff::Timestamp>().ok())
        .max();
    let managed = object.metadata.managed_fields.iter().flatten();
    let written = managed
        .filter(|entry| entry.subresource.is_none() || turned.is_none())
        .filter_map(|entry| Some(entry.time.as_ref()?.0))
        .max();
    let newest = written.max(turned)?;
    Some(Timestamp(newest.as_millisecond()))
}

/// Digest of a field set, as [`Ours`] has it.
pub(crate) fn fields_digest(fields: &str) -> Digest {
    Digest::of([fields])
}

/// Resource versions are numbers that grow (since Kubernetes 1.35 that is promised; etcd's always were).
fn version(metadata: &ObjectMeta) -> u64 {
    let version = metadata.resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Ownership is our managedFields entry and no controller above it; a label proves nothing.
pub(crate) fn is_ours(object: &LiveObject) -> bool {
    object.ours.is_some() && object.foreign.is_none()
}

/// Who else runs this object, if anybody.
pub(crate) fn foreign(object: &DynamicObject) -> Option<String> {
    let controller = object
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    if let Some(owner) = controller {
        return Some(format!("{} {} controls it", owner.kind, owner.name));
    }
    let (labels, annotations) = (object.labels(), object.annotations());
    if let Some(name) = labels.get("kustomize.toolkit.fluxcd.io/name") {
        return Some(format!("Flux Kustomization {name} manages it"));
    }
    if let Some(name) = labels.get("helm.toolkit.fluxcd.io/name") {
        return Some(format!("Flux HelmRelease {name} manages it"));
    }
    if let Some(id) = annotations.get("argocd.argoproj.io/tracking-id") {
        return Some(format!("Argo CD manages it ({id})"));
    }
    if let Some(name) = annotations.get("meta.helm.sh/release-name") {
        return Some(format!("Helm release {name} manages it"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(metadata: Value) -> LiveObject {
        let kind = Kind::config_map();
        look(
            &serde_json::from_value(json!({"metadata": metadata})).unwrap(),
            &kind,
            None,
        )
    }

    #[test]
    fn an_object_changed_when_it_was_written_or_a_condition_turned() {
        let entry = |subresource: Option<&str>, minute: u32| {
            let mut entry = json!({"manager": "m", "operation": "Update", "time": format!("2026-01-01T00:{minute:02}:00Z")});
            if let Some(subresource) = subresource {
                entry["subresource"] = subresource.into();
            }
            entry
        };
        let managed = [entry(None, 1), entry(Some("status"), 9)];
        let at = |object: Value| {
            let object = serde_json::from_value(object).unwrap();
            changed(&object).map(|at| (at.0 / 60_000) % 60)
        };
        let metadata = json!({"managedFields": managed});
        assert_eq!(at(json!({"metadata": metadata})), Some(9));
        let turned = json!([{"type": "Ready", "lastTransitionTime": "2026-01-01T00:04:00Z"}, {"type": "Other"}]);
        let object = json!({"metadata": metadata, "status": {"conditions": turned}});
        assert_eq!(at(object), Some(4));
        assert_eq!(at(json!({"metadata": {}})), None);
    }

    #[test]
    fn an_object_with_our_entry_is_ours_unless_a_controller_has_it() {
        let entry = json!([{"manager": "muster", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {}}}]);
        let ours = seen(json!({"uid": "u", "resourceVersion": "12", "managedFields": entry}));
        assert!(is_ours(&ours));
        assert_eq!(ours.resource_version, 12);
        assert_eq!(ours.ours.unwrap().fields, fields_digest(r#"{"f:data":{}}"#));
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "x", "controller": true}]);
        let controlled = seen(json!({"managedFields": entry, "ownerReferences": owner}));
        assert_eq!(
            controlled.foreign.as_deref(),
            Some("ReplicaSet r controls it")
        );
        assert!(!is_ours(&controlled));
        assert!(!is_ours(&seen(
            json!({"labels": {"muster.dev/application": "a"}})
        )));
    }
}
