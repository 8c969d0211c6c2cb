//! One Kubernetes object as Git states it: canonical JSON and its keyed digest.
//!
//! In: a parsed manifest. Out: an [`Object`] whose bytes are the same for equal manifests, so that the whole fleet
//! can share one allocation.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, DigestKey};

/// What makes an object this object: group, kind, namespace, name. The version is not part of it.
///
/// `namespace` is empty for cluster-scoped objects, and for namespaced ones whose manifest states none: only the
/// cluster knows a kind's scope, so the agent fills it in before it compares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// Whether it is a Secret: what it holds is shown to nobody.
    pub fn is_secret(&self) -> bool {
        self.group.is_empty() && self.kind == "Secret"
    }

    /// Whether its kind is never deleted to be made anew: namespaces and definitions take along what is in them,
    /// volumes their data.
    pub fn is_never_replaced(&self) -> bool {
        matches!(
            (self.group.as_str(), self.kind.as_str()),
            (
                "",
                "Namespace" | "PersistentVolume" | "PersistentVolumeClaim"
            ) | ("apiextensions.k8s.io", "CustomResourceDefinition")
        )
    }
}

/// One object of a desired state.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// Its identity as the manifest states it.
    pub key: ObjectKey,
    /// `apiVersion` of the manifest, such as `apps/v1`.
    pub api_version: String,
    /// Made by the hub with its [`DigestKey`]; a name for the content, nothing more.
    pub digest: Digest,
    /// Canonical JSON: keys sorted, no white space.
    pub body: Bytes,
}

/// Why a document is no object. The caller adds file and line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObject {
    /// Not a mapping.
    #[error("a manifest must be a mapping, found {0}")]
    NotAMapping(&'static str),
    /// A field that every object needs is absent or empty or no text.
    #[error("a manifest needs {0}")]
    Missing(&'static str),
    /// The server would make up a new name at every apply.
    #[error("metadata.generateName can't be applied again and again: give it a metadata.name")]
    GenerateName,
    /// The bytes are no JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
}

impl Object {
    /// Makes an object of a parsed manifest and digests it with the hub's key.
    ///
    /// # Errors
    /// When the value is not a mapping, or lacks apiVersion, kind or metadata.name.
    pub fn new(value: &Value, key: &DigestKey) -> Result<Self, InvalidObject> {
        let (identity, api_version) = identify(value)?;
        let body = Bytes::from(canonical(value));
        Ok(Self {
            key: identity,
            api_version,
            digest: key.digest(&body),
            body,
        })
    }

    /// Takes an object from the wire or a store, where its digest is already known.
    ///
    /// # Errors
    /// When the body is no JSON or no object.
    pub fn received(digest: Digest, body: Bytes) -> Result<Self, InvalidObject> {
        let value: Value = serde_json::from_slice(&body)
            // The parser's message may quote what it read, and that may be a secret.
            .map_err(|error| InvalidObject::NotJson(format!("{:?} error", error.classify())))?;
        let (key, api_version) = identify(&value)?;
        Ok(Self {
            key,
            api_version,
            digest,
            body,
        })
    }

    /// The parsed body.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).expect("bodies are checked when the object is made")
    }
}

fn identify(value: &Value) -> Result<(ObjectKey, String), InvalidObject> {
    if !value.is_object() {
        return Err(InvalidObject::NotAMapping(kind_of(value)));
    }
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let need = |pointer: &str, what| match text(pointer) {
        "" => Err(InvalidObject::Missing(what)),
        found => Ok(found.to_owned()),
    };
    let api_version = need("/apiVersion", "an apiVersion")?;
    let kind = need("/kind", "a kind")?;
    if text("/metadata/name").is_empty() && value.pointer("/metadata/generateName").is_some() {
        return Err(InvalidObject::GenerateName);
    }
    let name = need("/metadata/name", "a metadata.name")?;
    let group = match api_version.split_once('/') {
        Some((group, _version)) => group.to_owned(),
        None => String::new(),
    };
    let namespace = text("/metadata/namespace").to_owned();
    Ok((
        ObjectKey {
            group,
            kind,
            namespace,
            name,
        },
        api_version,
    ))
}

/// JSON with sorted keys and without white space: the same bytes for equal values, whatever order they were read in.
pub fn canonical(value: &Value) -> Vec<u8> {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                Value::Object(
                    entries
                        .into_iter()
                        .map(|(key, value)| (key.clone(), sorted(value)))
                        .collect(),
                )
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            scalar => scalar.clone(),
        }
    }
    serde_json::to_vec(&sorted(value)).expect("a JSON value can be written")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// `Deployment.apps web/frontend`, as `kubectl` names kinds.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        f.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// Bodies may hold secrets, so they are not shown.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({}, {:?})", self.key, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key() -> DigestKey {
        DigestKey::new([7; 32])
    }

    #[test]
    fn equal_manifests_in_another_order_are_the_same_bytes() {
        let one: Value =
            serde_json::from_str(r#"{"kind":"A","apiVersion":"v1","metadata":{"name":"n"}}"#)
                .unwrap();
        let two: Value =
            serde_json::from_str(r#"{"metadata":{"name":"n"},"apiVersion":"v1","kind":"A"}"#)
                .unwrap();
        assert_eq!(Object::new(&one, &key()), Object::new(&two, &key()));
    }

    #[test]
    fn identity_is_group_kind_namespace_name() {
        let object = Object::new(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}}),
            &key(),
        )
        .unwrap();
        assert_eq!(object.key.to_string(), "Deployment.apps shop/web");
        assert_eq!(
            Object::received(object.digest, object.body.clone()),
            Ok(object)
        );
    }

    #[test]
    fn what_is_no_object_says_what_it_lacks() {
        let cases = [
            (json!([1]), "a manifest must be a mapping, found a list"),
            (json!({"kind": "A"}), "a manifest needs an apiVersion"),
            (json!({"apiVersion": "v1"}), "a manifest needs a kind"),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {}}),
                "a manifest needs a metadata.name",
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"generateName": "a-"}}),
                "metadata.generateName can't be applied again and again: give it a metadata.name",
            ),
        ];
        for (value, message) in cases {
            assert_eq!(
                Object::new(&value, &key()).unwrap_err().to_string(),
                message
            );
        }
    }

    #[test]
    fn a_body_is_not_shown_for_debugging() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"p": "aHVudGVyMg=="}});
        let shown = format!("{:?}", Object::new(&secret, &key()).unwrap());
        assert!(!shown.contains("aHVudGVyMg"), "{shown}");
    }
}
