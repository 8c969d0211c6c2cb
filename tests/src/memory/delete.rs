//! Deletes.
//!
//! In: a [`Target`], preconditions, and what becomes of dependents. Out: what the server answers: a `Status` when
//! the object is gone, the object while finalizers hold it. What a deletion entails is done by
//! [`super::garbage`].

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::select::Selector;
use super::state::{State, has_finalizers, is_definition, is_dying};
use super::status::Refusal;
use super::store::Key;
use super::write::Target;

/// The finalizer of an object whose dependents are to be left alone.
pub const ORPHAN: &str = "orphan";
/// The finalizer of an object that waits for its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a definition that waits for its objects.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What becomes of the objects that this one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay, and are told that they have no owner any more.
    Orphan,
}

/// What must hold for the object to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// It is this very object.
    pub uid: Option<String>,
    /// It is in this state.
    pub revision: Option<String>,
    /// Nothing is kept of the deletion.
    pub dry_run: bool,
    /// What becomes of dependents; the kind's own way when it is not said.
    pub policy: Option<Policy>,
}

impl Preconditions {
    /// From the `DeleteOptions` of a body, which may be empty, and the query.
    ///
    /// # Errors
    /// 422 for a policy that does not exist.
    pub fn read(body: &Value, dry_run: bool, policy: Option<&str>) -> Result<Self, Refusal> {
        let text = |pointer: &str| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let policy = match body["propagationPolicy"].as_str().or(policy) {
            None | Some("") => match body["orphanDependents"].as_bool() {
                None => None,
                Some(true) => Some(Policy::Orphan),
                Some(false) => Some(Policy::Background),
            },
            Some("Background") => Some(Policy::Background),
            Some("Foreground") => Some(Policy::Foreground),
            Some("Orphan") => Some(Policy::Orphan),
            Some(other) => {
                let code = StatusCode::UNPROCESSABLE_ENTITY;
                let message = format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}"
                );
                return Err(Refusal::new(code, "Invalid", message));
            }
        };
        Ok(Self {
            uid: text("/preconditions/uid"),
            revision: text("/preconditions/resourceVersion"),
            dry_run: dry_run || body["dryRun"].as_array().is_some_and(|d| !d.is_empty()),
            policy,
        })
    }
}

/// Deletes one object.
pub fn delete(
    state: &mut State,
    target: &Target,
    conditions: &Preconditions,
) -> Result<Value, Refusal> {
    let kind = &target.kind;
    let key = (target.namespace.clone(), target.name.clone());
    let Some(live) = state.store.get(&kind.store(), &key) else {
        return Err(Refusal::not_found(kind, &target.name));
    };
    let checks = [
        (&conditions.uid, "uid", "UID"),
        (&conditions.revision, "resourceVersion", "ResourceVersion"),
    ];
    for (wanted, field, word) in checks {
        let found = live["metadata"][field].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.as_deref().filter(|w| *w != found) {
            let why = format!(
                "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"
            );
            return Err(Refusal::conflict(kind, &target.name, &why));
        }
    }
    let forever = ["default", "kube-system", "kube-public"].contains(&target.name.as_str());
    if kind.is("", "Namespace") && forever {
        return Err(Refusal::forbidden(
            kind,
            &target.name,
            "this namespace may not be deleted",
        ));
    }
    match dying(state, kind, &live, conditions.policy) {
        Some(dying) => {
            if conditions.dry_run || dying == *live {
                return Ok(super::write::in_version(kind, &dying));
            }
            let left = state.store.put(&kind.store(), key, dying);
            return Ok(super::write::in_version(kind, &left));
        }
        None if conditions.dry_run => {}
        None => state.remove(kind, &key),
    }
    if answers_with_the_object(kind) {
        return Ok(super::write::in_version(kind, &live));
    }
    let mut details = json!({
        "name": target.name,
        "kind": kind.plural,
        "uid": live["metadata"]["uid"],
    });
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    Ok(json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }))
}

/// Kinds whose deletion is answered with what was deleted, not with a Status; as the server's OpenAPI says.
fn answers_with_the_object(kind: &Kind) -> bool {
    match kind.group.as_str() {
        "" => [
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ResourceQuota",
            "Service",
            "ServiceAccount",
        ]
        .contains(&kind.kind.as_str()),
        "resource.k8s.io" | "storage.k8s.io" => true,
        _ => false,
    }
}

/// Deletes what a selector means; answers with the list of it.
pub fn delete_all(
    state: &mut State,
    target: &Target,
    selector: &Selector,
    conditions: &Preconditions,
) -> Result<Value, Refusal> {
    let kind = &target.kind;
    let meant: Vec<(Key, Value)> = state
        .store
        .list(&kind.store(), &target.namespace)
        .filter(|(_, object)| selector.matches(object))
        .map(|(key, object)| (key.clone(), super::write::in_version(kind, object)))
        .collect();
    let mut items = Vec::new();
    for ((namespace, name), object) in meant {
        let target = Target {
            namespace,
            name,
            ..target.clone()
        };
        delete(state, &target, conditions)?;
        items.push(object);
    }
    Ok(json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": state.store.revision().to_string()},
        "items": items,
    }))
}

/// The object once its deletion has begun; `None` when nothing holds it.
fn dying(state: &State, kind: &Kind, live: &Value, policy: Option<Policy>) -> Option<Value> {
    let mut dying = live.clone();
    let first = !is_dying(live);
    let metadata = &mut dying["metadata"];
    if first {
        metadata["deletionTimestamp"] = json!(state.now());
    }
    if kind.is("", "Namespace") {
        dying["status"]["phase"] = json!("Terminating");
        return has_finalizers(&dying).then_some(dying);
    }
    if is_definition(kind) && first {
        let mut finalizers = names(metadata);
        if !finalizers.iter().any(|f| f == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
        }
        metadata["finalizers"] = json!(finalizers);
        let terminating = json!({
            "type": "Terminating",
            "status": "True",
            "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            "lastTransitionTime": state.now(),
        });
        if let Some(conditions) = dying
            .pointer_mut("/status/conditions")
            .and_then(Value::as_array_mut)
        {
            conditions.push(terminating);
        }
        return Some(dying);
    }
    let before = names(metadata);
    let held = |finalizer: &str| before.iter().any(|f| f == finalizer);
    let policy = policy.unwrap_or(if held(ORPHAN) {
        Policy::Orphan
    } else if held(FOREGROUND) {
        Policy::Foreground
    } else {
        own_policy(kind)
    });
    let mut finalizers: Vec<String> = before
        .iter()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .cloned()
        .collect();
    match policy {
        Policy::Background => {}
        Policy::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Policy::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    if finalizers.is_empty() {
        return None;
    }
    metadata["finalizers"] = json!(finalizers);
    metadata["deletionGracePeriodSeconds"] = json!(0);
    if let Some(generation) = metadata["generation"].as_i64().filter(|_| first) {
        metadata["generation"] = json!(generation + 1);
    }
    Some(dying)
}

/// What the real server does for a kind when the call does not say; kept there for clients of old.
fn own_policy(kind: &Kind) -> Policy {
    let orphans = kind.is("", "ReplicationController") || kind.is("batch", "Job");
    if orphans {
        Policy::Orphan
    } else {
        Policy::Background
    }
}

/// The finalizers in an object's metadata.
pub(super) fn names(metadata: &Value) -> Vec<String> {
    let list = metadata["finalizers"].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
