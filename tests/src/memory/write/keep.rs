//! What a write can't change: identity, the other half of the object, and the generation that counts.
//!
//! In: the live object and the one a client made of it. Out: that one with the server's own fields as they
//! were, and whether anything is new at all.

use serde_json::{Value, json};

use super::super::kinds::Kind;
use super::super::status::Refusal;
use super::Target;

pub(super) fn unchanged_identity(
    target: &Target,
    live: &Value,
    new: &Value,
) -> Result<(), Refusal> {
    let kind = &target.kind;
    let text = |v: &Value, key: &str| v["metadata"][key].as_str().unwrap_or_default().to_owned();
    let (uid, old_uid) = (text(new, "uid"), text(live, "uid"));
    if !uid.is_empty() && uid != old_uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
        );
        return Err(Refusal::conflict(kind, &target.name, &why));
    }
    let revision = text(new, "resourceVersion");
    if !revision.is_empty() && revision != text(live, "resourceVersion") {
        let why = "the object has been modified; please apply your changes to the latest version \
            and try again";
        return Err(Refusal::conflict(kind, &target.name, why));
    }
    Ok(())
}

pub(super) fn keep_what_clients_cannot_write(target: &Target, live: &Value, new: &mut Value) {
    let keep = |new: &mut Value, live: &Value, field: &str| {
        let Some(map) = new.as_object_mut() else {
            return;
        };
        match live.get(field) {
            Some(old) => map.insert(field.to_owned(), old.clone()),
            None => map.remove(field),
        };
    };
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        keep(&mut new["metadata"], &live["metadata"], field);
    }
    match target.subresource.as_str() {
        "status" => {
            let status = new["status"].take();
            let annotations = new["metadata"]["annotations"].take();
            *new = live.clone();
            match status {
                Value::Null => drop(new.as_object_mut().and_then(|o| o.remove("status"))),
                status => new["status"] = status,
            }
            if target.kind.custom.is_none()
                && let Some(meta) = new["metadata"].as_object_mut()
            {
                match annotations {
                    Value::Null => drop(meta.remove("annotations")),
                    annotations => drop(meta.insert("annotations".to_owned(), annotations)),
                }
            }
        }
        "finalize" => {
            let finalizers = new["spec"]["finalizers"].take();
            *new = live.clone();
            match finalizers.as_array().is_none_or(Vec::is_empty) {
                true => new["spec"] = json!({}),
                false => new["spec"]["finalizers"] = finalizers,
            }
        }
        _ if target.kind.status => keep(new, live, "status"),
        _ => {}
    }
}

/// Kinds whose generation counts changes of what is wanted.
pub(super) fn has_generation(kind: &Kind) -> bool {
    if kind.custom.is_some() {
        return true;
    }
    match kind.group.as_str() {
        "" => ["Pod", "PodTemplate", "ReplicationController"].contains(&kind.kind.as_str()),
        "apps" => kind.kind != "ControllerRevision",
        "batch"
        | "policy"
        | "autoscaling"
        | "admissionregistration.k8s.io"
        | "apiextensions.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "scheduling.k8s.io"
        | "discovery.k8s.io" => true,
        "networking.k8s.io" => {
            ["Ingress", "IngressClass", "NetworkPolicy"].contains(&kind.kind.as_str())
        }
        _ => false,
    }
}

pub(super) fn moves_generation(kind: &Kind, live: &Value, new: &Value) -> bool {
    if kind.is("apps", "Deployment")
        && live["metadata"].get("annotations") != new["metadata"].get("annotations")
    {
        return true;
    }
    let ignored = |key: &str| key == "metadata" || (kind.status && key == "status");
    let differs = |a: &Value, b: &Value| {
        let Some(a) = a.as_object() else { return false };
        a.iter()
            .any(|(key, value)| !ignored(key) && b.get(key) != Some(value))
    };
    differs(live, new) || differs(new, live)
}

/// Whether nothing changed, or only the times in managed fields.
pub(super) fn same_but_for_times(live: &Value, new: &Value) -> bool {
    let timeless = |object: &Value| {
        let mut out = object.clone();
        let entries = out
            .pointer_mut("/metadata/managedFields")
            .and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            entry.as_object_mut().map(|e| e.remove("time"));
        }
        out
    };
    live == new || timeless(live) == timeless(new)
}
