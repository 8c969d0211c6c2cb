//! The `scale` subresource: replicas read and written without the rest of the object.
//!
//! In: a workload, or a write to its `Scale`. Out: the `Scale`, or the write to the workload that it means;
//! the writer owns `spec.replicas` through the subresource, as an autoscaler does.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::status::Refusal;
use super::write::Change;

/// The `Scale` of a workload.
#[must_use]
pub fn of(kind: &Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    let selector = object
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object);
    let selector: Vec<String> = selector
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let mut metadata = json!({});
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        metadata[field] = meta[field].clone();
    }
    debug_assert!(kind.scale);
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

/// The write to the workload that a write to its `Scale` means.
pub fn change(change: Change) -> Result<Change, Refusal> {
    let body = match change {
        Change::Json(operations) => {
            let scale = json!({"metadata": {}, "spec": {"replicas": 0}});
            super::patch::json(&scale, &operations).map_err(Refusal::bad)?
        }
        Change::Create(body)
        | Change::Replace(body)
        | Change::Merge(body)
        | Change::Strategic(body)
        | Change::Apply(body) => body,
    };
    let mut patch = json!({"metadata": {}});
    if let Some(replicas) = body.pointer("/spec/replicas") {
        patch["spec"] = json!({"replicas": replicas});
    }
    for field in ["resourceVersion", "uid"] {
        if let Some(value) = body["metadata"].get(field) {
            patch["metadata"][field] = value.clone();
        }
    }
    Ok(Change::Merge(patch))
}
