//! The bytes we apply: an object of Git, made fit for server-side apply.
//!
//! In: an object of the desired state, its identity in this cluster and its application. Out: canonical JSON and the
//! digest of these bytes. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_proto::object::canonical;
use muster_proto::{ApplicationName, Digest, Object, ObjectKey};
use serde_json::{Map, Value, json};

/// Members of an application carry this label; it selects what is watched and proves nothing.
pub(crate) const APPLICATION_LABEL: &str = "muster.dev/application";

/// What is sent for one object. The digest is plain, so it stays inside the cluster's ledger.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Body {
    /// Canonical JSON.
    pub(crate) bytes: Vec<u8>,
    /// Of the bytes.
    pub(crate) digest: Digest,
}

/// Makes an object fit for server-side apply: namespace filled in, what the server owns left out, `stringData` turned
/// into `data` (else we would own a field that the server never stores), our label added.
pub(crate) fn of(object: &Object, key: &ObjectKey, application: &ApplicationName) -> Body {
    let mut value = object.value();
    drop_null_timestamps(&mut value);
    if let Some(root) = value.as_object_mut() {
        // A CustomResourceDefinition's status and everybody else's belong to controllers.
        root.remove("status");
        if key.is_secret() {
            fold_string_data(root);
        }
        let metadata = entry_map(root, "metadata");
        for server_owned in [
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            metadata.remove(server_owned);
        }
        if key.namespace.is_empty() {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".into(), json!(key.namespace));
        }
        entry_map(metadata, "labels").insert(APPLICATION_LABEL.into(), json!(application.as_str()));
    }
    let bytes = canonical(&value);
    let digest = Digest::of([&bytes]);
    Body { bytes, digest }
}

/// The mapping under `field`, made when it is absent or null.
fn entry_map<'a>(parent: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(field).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made a mapping above")
}

fn fold_string_data(secret: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    let data = entry_map(secret, "data");
    for (key, value) in plain {
        // The server lets stringData win over data.
        let value = match value {
            Value::String(text) => json!(STANDARD.encode(text)),
            other => other,
        };
        data.insert(key, value);
    }
}

/// `creationTimestamp: null` is what Go writes for no time, also inside Pod templates.
fn drop_null_timestamps(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("creationTimestamp").is_some_and(Value::is_null) {
                map.remove("creationTimestamp");
            }
            map.values_mut().for_each(drop_null_timestamps);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null_timestamps),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::DigestKey;

    fn sent(value: &Value, namespace: &str) -> Value {
        let object = Object::new(value, &DigestKey::new([1; 32])).unwrap();
        let key = ObjectKey {
            namespace: namespace.into(),
            ..object.key.clone()
        };
        serde_json::from_slice(&of(&object, &key, &"shop".parse().unwrap()).bytes).unwrap()
    }

    #[test]
    fn the_namespace_and_the_label_are_filled_in_and_server_fields_left_out() {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "status": {"x": 1},
            "metadata": {"name": "c", "uid": "u", "resourceVersion": "7", "creationTimestamp": null, "managedFields": []}});
        assert_eq!(
            sent(&value, "web"),
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "c", "namespace": "web", "labels": {"muster.dev/application": "shop"}}})
        );
    }

    #[test]
    fn a_cluster_scoped_object_loses_a_namespace_it_states() {
        let value = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "c", "namespace": "web", "labels": null}});
        assert_eq!(
            sent(&value, "")["metadata"],
            json!({"name": "c", "labels": {"muster.dev/application": "shop"}})
        );
    }

    #[test]
    fn string_data_of_a_secret_becomes_data_and_wins() {
        let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new"}});
        let sent = sent(&value, "web");
        assert_eq!(sent["data"], json!({"a": "bmV3", "b": "Yg=="}));
        assert_eq!(sent.get("stringData"), None);
    }

    #[test]
    fn null_timestamps_go_from_templates_too() {
        let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"metadata": {"creationTimestamp": null, "labels": {"a": "b"}}}}});
        assert_eq!(
            sent(&value, "web")["spec"]["template"]["metadata"],
            json!({"labels": {"a": "b"}})
        );
    }
}
