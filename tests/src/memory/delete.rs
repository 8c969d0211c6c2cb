//! Deletes.
//!
//! In: a [`Target`] and preconditions. Out: what the server answers: a `Status` when the object is gone, the
//! object while finalizers hold it. A namespace takes its contents along at once, object by object.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::select::Selector;
use super::state::{State, has_finalizers};
use super::status::Refusal;
use super::store::Key;
use super::write::Target;

/// What must hold for the object to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// It is this very object.
    pub uid: Option<String>,
    /// It is in this state.
    pub revision: Option<String>,
    /// Nothing is kept of the deletion.
    pub dry_run: bool,
}

impl Preconditions {
    /// From the `DeleteOptions` of a body, which may be empty, and the query.
    #[must_use]
    pub fn read(body: &Value, dry_run: bool) -> Self {
        let text = |pointer: &str| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Self {
            uid: text("/preconditions/uid"),
            revision: text("/preconditions/resourceVersion"),
            dry_run: dry_run || body["dryRun"].as_array().is_some_and(|d| !d.is_empty()),
        }
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
    if !conditions.dry_run {
        if kind.is("", "Namespace") {
            mark(state, kind, &key);
            for (resource, key) in state.store.contents(&target.name) {
                let of = state
                    .kinds
                    .versions(&resource.0, &resource.1)
                    .next()
                    .cloned();
                if let Some(kind) = of {
                    take(state, &kind, &key);
                }
            }
            state.after_write(kind, &key);
        } else {
            take(state, kind, &key);
        }
    }
    if let Some(left) = state
        .store
        .get(&kind.store(), &key)
        .filter(|_| !conditions.dry_run)
    {
        return Ok(super::write::in_version(kind, &left));
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

/// Removes an object, or marks it as dying while finalizers hold it.
fn take(state: &mut State, kind: &Kind, key: &Key) {
    match state.store.get(&kind.store(), key) {
        Some(live) if has_finalizers(&live) => mark(state, kind, key),
        _ => state.remove(kind, key),
    }
}

fn mark(state: &mut State, kind: &Kind, key: &Key) {
    let Some(live) = state.store.get(&kind.store(), key) else {
        return;
    };
    if live["metadata"].get("deletionTimestamp").is_some() {
        return;
    }
    let mut dying = Value::clone(&live);
    dying["metadata"]["deletionTimestamp"] = json!(state.now());
    if kind.is("", "Namespace") {
        dying["status"]["phase"] = json!("Terminating");
        dying["spec"] = json!({});
    } else {
        dying["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    }
    if let Some(generation) = dying["metadata"]["generation"].as_i64() {
        dying["metadata"]["generation"] = json!(generation + 1);
    }
    state.store.put(&kind.store(), key.clone(), dying);
}
