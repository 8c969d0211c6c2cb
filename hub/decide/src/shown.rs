//! Objects as people may see them.

use muster_proto::{Object, masked};
use serde_json::Value;

use crate::builtin::is_cluster_scoped;

/// An object with the namespace that its application fills in, and without the values of a Secret. Of a custom resource
/// only the cluster knows whether it has a namespace: it is shown with one.
pub fn shown(object: &Object, namespace: &str) -> Value {
    let mut value = object.value();
    let key = &object.key;
    if key.namespace.is_empty()
        && !namespace.is_empty()
        && !is_cluster_scoped(&key.group, &key.kind)
        && let Some(Value::Object(metadata)) = value.get_mut("metadata")
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    masked(key, &value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::DigestKey;
    use serde_json::json;

    fn seen(object: Value) -> Value {
        let object = Object::new(&object, &DigestKey::new([1; 32])).unwrap();
        shown(&object, "shop")
    }

    #[test]
    fn a_namespace_is_filled_in_where_there_is_one() {
        for (api_version, kind, namespace) in [
            ("v1", "ConfigMap", json!("shop")),
            ("v1", "Namespace", Value::Null),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", Value::Null),
            ("example.com/v1", "Thing", json!("shop")),
        ] {
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
            assert_eq!(seen(object)["metadata"]["namespace"], namespace, "{kind}");
        }
        let own = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "own"}});
        assert_eq!(seen(own)["metadata"]["namespace"], "own");
    }

    #[test]
    fn no_value_of_a_secret_is_seen() {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "x", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "a": "b"}},
            "data": {"a": "aHVudGVyMg=="}, "stringData": {"b": "hunter2"},
        });
        let seen = seen(object);
        assert_eq!(seen["data"], json!({"a": "(secret)"}));
        assert_eq!(seen["metadata"]["annotations"]["a"], "(secret)");
        assert!(!seen.to_string().contains("hunter2"), "{seen}");
    }
}
