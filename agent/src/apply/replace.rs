//! Replaces an object that can't be changed in place: deletes it and makes it anew, when that was allowed and is
//! proved to work.
//!
//! A tool that takes every refusal for an immutable field deletes a Service that runs, because the manifest is wrong,
//! and can't make it anew (fluxcd/kustomize-controller#734). So the refusal must speak of immutability alone, and a
//! dry run must show that the object could be made if the name were free.

use http::Method;
use kube::core::response::StatusCause;
use kube::core::{DynamicObject, Status};
use muster_proto::ObjectKey;
use serde_json::Value;

use super::order::Order;
use super::{Error, Failure, Removed};
use crate::ignore;

/// Replaces the object that refused what Git states, or says why not. `refusal` is what the API server said of the apply.
pub(super) async fn replace(
    order: &Order,
    stated: &[u8],
    refusal: &Status,
) -> Result<DynamicObject, Failure> {
    let (writer, kind, key) = (&order.writer, &order.wanted.kind, &*order.key);
    let Replaced { uid, body } = may_be_replaced(order, stated, refusal).await?;
    let refused = refused(key, refusal);
    tracing::warn!(object = %key, refused = %refused.message, "an object that can't be changed is deleted and made anew");
    match super::remove(writer, kind, key, &uid).await? {
        Removed::Gone => make(order, &body).await,
        Removed::Going => match super::get(&writer.client, kind, key).await? {
            // It is applied again when it is gone.
            Some(going) => Ok(going),
            None => make(order, &body).await,
        },
        Removed::Other => Err(Failure {
            message: format!(
                "{}; it changed while it was being replaced",
                refused.message
            ),
            passing: true,
            ..refused
        }),
    }
}

fn refused(key: &ObjectKey, refusal: &Status) -> Failure {
    Failure {
        message: super::words(key, refusal),
        code: refusal.code,
        ..Failure::default()
    }
}

/// What would be replaced, and by what.
pub(super) struct Replaced {
    /// Of the object that goes.
    uid: String,
    /// Of the one that comes.
    body: Vec<u8>,
}

/// The object that refused what Git states, when it may be replaced and that would work. Changes nothing.
pub(super) async fn may_be_replaced(
    order: &Order,
    stated: &[u8],
    refusal: &Status,
) -> Result<Replaced, Failure> {
    let (writer, kind, key) = (&order.writer, &order.wanted.kind, &*order.key);
    let refused = refused(key, refusal);
    let causes = causes(refusal);
    if causes.is_empty() || !causes.iter().all(is_immutable) {
        return Err(refused);
    }
    let and = |why: &str| Failure {
        message: format!("{}; {why}", refused.message),
        ..refused.clone()
    };
    if key.is_never_replaced() {
        return Err(and(
            "objects of this kind are never deleted to be made anew: change it back",
        ));
    }
    if !order.wanted.replace {
        return Err(and(
            "it can only be deleted and made anew: allow that with muster.dev/replace: enabled on it, or sync.replace of the application",
        ));
    }
    let Some(live) = super::get_whole(&writer.client, kind, key).await? else {
        return Err(Failure {
            passing: true,
            ..refused
        });
    };
    let body = serde_json::from_slice(stated).expect("we wrote it");
    let body = muster_proto::object::canonical(&ignore::anew(body, &live));
    if let Err(why) = would_be_made(order, &body, &live).await? {
        return Err(and(&format!(
            "it is not deleted, because it could not be made anew: {why}"
        )));
    }
    let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
    Ok(Replaced {
        uid: uid.unwrap_or_default().to_owned(),
        body,
    })
}

async fn make(order: &Order, body: &[u8]) -> Result<DynamicObject, Failure> {
    let (writer, kind, key) = (&order.writer, &order.wanted.kind, &*order.key);
    let made = super::apply(writer, kind, key, body, order.make_namespace).await;
    made.map_err(|error| super::failure(key, &error))
}

fn causes(status: &Status) -> &[StatusCause] {
    status
        .details
        .as_ref()
        .map_or(&[], |details| &details.causes)
}

/// Would the API server take the object, if the name were free? Otherwise why not.
async fn would_be_made(
    order: &Order,
    body: &[u8],
    live: &Value,
) -> Result<Result<(), String>, Failure> {
    let (kind, key) = (&order.wanted.kind, &*order.key);
    let path = format!(
        "{}?dryRun=All&fieldManager={}",
        kind.path(&key.namespace, None),
        crate::drift::MANAGER
    );
    let request = http::Request::builder().header(http::header::CONTENT_TYPE, "application/json");
    match super::send::<Value>(&order.writer, request, Method::POST, &path, body.to_vec()).await {
        // Its name was free: it went in the meantime.
        Ok(_) => Ok(Ok(())),
        Err(Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            Ok(Ok(()))
        }
        Err(Error::Api(status)) if status.code == 422 => {
            let causes = causes(&status);
            let sent: Value = serde_json::from_slice(body).expect("we wrote it");
            let own =
                !causes.is_empty() && causes.iter().all(|cause| is_taken_by(cause, &sent, live));
            Ok(if own {
                Ok(())
            } else {
                Err(super::words(key, &status))
            })
        }
        Err(Error::Api(status)) if status.code != 429 && status.code < 500 => {
            Ok(Err(super::words(key, &status)))
        }
        Err(error) => Err(super::failure(key, &error)),
    }
}

/// Does a refusal speak of a field that can't be changed? The words differ.
fn is_immutable(cause: &StatusCause) -> bool {
    let message = &cause.message;
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    says(&[
        "immutable",
        "may not change once set",
        "may not be changed once set",
        "cannot be changed",
        "cannot change roleRef",
    ]) || cause.reason == "FieldValueForbidden"
        && says(&[
            "updates to",
            "may not change fields",
            "may not be changed in an update",
            "after creation",
        ])
}

/// Is a port or an address refused only because the live object has it?
fn is_taken_by(cause: &StatusCause, sent: &Value, live: &Value) -> bool {
    if !cause.message.contains("already allocated") {
        return false;
    }
    let Some(wanted) = at(sent, &cause.field).filter(|wanted| !wanted.is_null()) else {
        return false;
    };
    let mut held = Vec::new();
    values(live.get("spec").unwrap_or(&Value::Null), &mut held);
    match wanted {
        Value::Array(wanted) => wanted.iter().all(|wanted| held.contains(&wanted)),
        wanted => held.contains(&wanted),
    }
}

/// The value at `spec.ports[0].nodePort`.
fn at<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    let pointer: String = field
        .split(['.', '['])
        .map(|step| format!("/{}", step.trim_end_matches(']')))
        .collect();
    object.pointer(&pointer)
}

/// Ports and addresses that a Service holds.
fn values<'a>(value: &'a Value, held: &mut Vec<&'a Value>) {
    let of = |pointer: &str| value.pointer(pointer);
    held.extend(
        ["/clusterIP", "/healthCheckNodePort"]
            .into_iter()
            .filter_map(of),
    );
    let list = |pointer: &str| of(pointer).and_then(Value::as_array).into_iter().flatten();
    held.extend(list("/clusterIPs"));
    held.extend(list("/ports").filter_map(|port| port.get("nodePort")));
}

#[cfg(test)]
mod tests {

    use super::*;
    use serde_json::json;

    fn cause(reason: &str, field: &str, message: &str) -> StatusCause {
        StatusCause {
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
        }
    }

    #[test]
    fn only_refusals_that_speak_of_immutability_are_taken_for_it() {
        let table = [
            (
                "FieldValueInvalid",
                "Invalid value: {}: field is immutable",
                true,
            ),
            (
                "FieldValueInvalid",
                "Invalid value: []string(nil): may not change once set",
                true,
            ),
            (
                "FieldValueForbidden",
                "spec is immutable after creation except resources.requests",
                true,
            ),
            (
                "FieldValueForbidden",
                "updates to statefulset spec for fields other than 'replicas' are forbidden",
                true,
            ),
            (
                "FieldValueForbidden",
                "may not be changed in an update.",
                true,
            ),
            (
                "FieldValueInvalid",
                "Invalid value: {}: cannot change roleRef",
                true,
            ),
            (
                "FieldValueForbidden",
                "may not be used when `type` is 'ClusterIP'",
                false,
            ),
            ("FieldValueRequired", "Required value", false),
            (
                "FieldValueInvalid",
                "Invalid value: 70000: must be between 1 and 65535, inclusive",
                false,
            ),
        ];
        for (reason, message, immutable) in table {
            assert_eq!(
                is_immutable(&cause(reason, "spec", message)),
                immutable,
                "{message}"
            );
        }
    }

    #[test]
    fn a_port_that_the_live_object_holds_is_no_reason_against_it() {
        let live = json!({"spec": {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80, "nodePort": 30080}]}});
        let sent = json!({"spec": {"clusterIPs": ["10.0.0.9"], "ports": [{"port": 81}, {"port": 80, "nodePort": 30080}, {"port": 82, "nodePort": 30099}]}});
        let taken = |field: &str, message: &str| {
            is_taken_by(&cause("FieldValueInvalid", field, message), &sent, &live)
        };
        assert!(taken(
            "spec.ports[1].nodePort",
            "Invalid value: 30080: provided port is already allocated"
        ));
        assert!(taken(
            "spec.clusterIPs",
            "failed to allocate IP: provided IP is already allocated"
        ));
        assert!(!taken(
            "spec.ports[2].nodePort",
            "Invalid value: 30099: provided port is already allocated"
        ));
        assert!(!taken(
            "spec.ports[1].nodePort",
            "Invalid value: 30080: must be between 1 and 65535"
        ));
        assert!(!taken(
            "spec.ports[0].nodePort",
            "provided port is already allocated"
        ));
    }

    #[test]
    fn what_takes_data_along_is_never_replaced() {
        let key = |group: &str, kind: &str| ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: String::new(),
            name: "x".into(),
        };
        for kind in ["Namespace", "PersistentVolume", "PersistentVolumeClaim"] {
            assert!(key("", kind).is_never_replaced(), "{kind}");
        }
        assert!(key("apiextensions.k8s.io", "CustomResourceDefinition").is_never_replaced());
        assert!(!key("batch", "Job").is_never_replaced());
    }
}
