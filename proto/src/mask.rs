//! Objects as people may see them: of a Secret nothing but who it is. Pure.

use serde_json::{Map, Value};

use crate::ObjectKey;

/// What stands for a value of a Secret.
pub const MASK: &str = "(secret)";

/// Of a Secret's metadata, these are nobody's secret. Annotations quote what was applied.
const TOLD: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "labels",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// An object without managedFields; of a Secret every other value is masked, its names stay.
pub fn masked(key: &ObjectKey, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if !key.is_secret() {
        return object;
    }
    for (name, value) in object.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" | "type" | "immutable" => {}
            "metadata" => hide_but(value.as_object_mut(), &TOLD),
            _ => hide(value),
        }
    }
    object
}

fn hide_but(fields: Option<&mut Map<String, Value>>, told: &[&str]) {
    for (name, value) in fields.into_iter().flatten() {
        if !told.contains(&name.as_str()) {
            hide(value);
        }
    }
}

/// Values go, and names of fields stay; a list is one value.
fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(hide),
        value => *value = Value::from(MASK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(kind: &str) -> ObjectKey {
        ObjectKey {
            group: String::new(),
            kind: kind.into(),
            namespace: "n".into(),
            name: "x".into(),
        }
    }

    #[test]
    fn of_a_secret_names_stay_and_values_go() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "data": {"p": "aHVudGVyMg=="}, "stringData": {"q": ["hunter2"]}, "more": "hunter2",
            "metadata": {"name": "x", "namespace": "n", "labels": {"a": "b"}, "managedFields": [],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"}}});
        assert_eq!(
            masked(&key("Secret"), &secret),
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "data": {"p": MASK}, "stringData": {"q": MASK}, "more": MASK,
                "metadata": {"name": "x", "namespace": "n", "labels": {"a": "b"},
                    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": MASK}}})
        );
    }

    #[test]
    fn anything_else_loses_its_managed_fields_only() {
        let map = json!({"metadata": {"name": "x", "managedFields": [1]}, "data": {"a": "1"}});
        assert_eq!(
            masked(&key("ConfigMap"), &map),
            json!({"metadata": {"name": "x"}, "data": {"a": "1"}})
        );
    }
}
