//! Kinds that a CustomResourceDefinition brings: their types, what is pruned, and what is filled in.
//!
//! In: a definition (apiextensions.k8s.io/v1). Out: a [`Kind`] a served version. Structural schemas are
//! honoured for merging (`x-kubernetes-list-type`, `-list-map-keys`, `-map-type`), pruning, `default` and the
//! types of values. Not done: CEL rules, patterns, `oneOf` and its like, conversion webhooks (all versions
//! hold the same JSON).

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map as Object, Value, json};

use super::distil::relation;
use super::kinds::{Kind, Kinds};
use super::normal;
use super::schema::{Atom, DEDUCED, Field, List, Map, Relation, Scalar, Schema, TypeId, UNTYPED};

/// What is particular to a kind of a definition.
#[derive(Debug, Clone)]
pub struct Custom {
    /// Its structural schema.
    structure: Value,
    /// The type of `metadata`, in the schema of the built-in kinds.
    metadata: (Arc<Schema>, TypeId),
}

/// The kinds of a definition, or why it can't have any.
pub fn kinds(definition: &Value, built_in: &Kinds) -> Result<Vec<Kind>> {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let owned = |pointer: &str| text(pointer).unwrap_or_default().to_owned();
    let words = |pointer: &str| -> Vec<String> {
        let list = definition.pointer(pointer).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let metadata = built_in
        .built_in_type("apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .ok_or_else(|| anyhow::anyhow!("the table has no ObjectMeta"))?;
    let versions = definition
        .pointer("/spec/versions")
        .and_then(Value::as_array);
    let mut out = Vec::new();
    for version in versions
        .into_iter()
        .flatten()
        .filter(|v| v["served"] == true)
    {
        let structure = version
            .pointer("/schema/openAPIV3Schema")
            .cloned()
            .unwrap_or_else(
                || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            );
        let mut schema = Schema::new();
        let imported = schema.import(&metadata.0, metadata.1);
        let id = root(&mut schema, &structure, imported)?;
        out.push(Kind {
            group: owned("/spec/group"),
            version: version["name"].as_str().unwrap_or_default().to_owned(),
            kind: owned("/spec/names/kind"),
            plural: owned("/spec/names/plural"),
            singular: owned("/spec/names/singular"),
            namespaced: text("/spec/scope") == Some("Namespaced"),
            short: words("/spec/names/shortNames"),
            categories: words("/spec/names/categories"),
            status: version.pointer("/subresources/status").is_some(),
            scale: false,
            schema: Arc::new(schema),
            id,
            custom: Some(Arc::new(Custom {
                structure,
                metadata: metadata.clone(),
            })),
        });
    }
    Ok(out)
}

fn field(kind: TypeId, default: Option<Value>) -> Field {
    Field {
        kind,
        default,
        required: false,
    }
}

fn scalar(schema: &mut Schema, scalar: Scalar) -> TypeId {
    schema.add(Atom {
        scalar: Some(scalar),
        ..Atom::default()
    })
}

/// The type of the whole object: the structure, with the fields that every object has.
fn root(schema: &mut Schema, structure: &Value, metadata: TypeId) -> Result<TypeId> {
    let mut map = object(schema, structure, false, Some(metadata))?;
    let text = scalar(schema, Scalar::Text);
    map.fields
        .insert("apiVersion".to_owned(), field(text, None));
    map.fields.insert("kind".to_owned(), field(text, None));
    map.fields
        .insert("metadata".to_owned(), field(metadata, None));
    Ok(schema.add(Atom {
        map: Some(map),
        ..Atom::default()
    }))
}

fn keeps_unknown(node: &Value) -> bool {
    node["x-kubernetes-preserve-unknown-fields"] == true
}

fn object(
    schema: &mut Schema,
    node: &Value,
    preserve: bool,
    metadata: Option<TypeId>,
) -> Result<Map> {
    let preserve = preserve || keeps_unknown(node);
    let mut map = Map {
        atomic: node["x-kubernetes-map-type"] == "atomic",
        ..Map::default()
    };
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        let id = of(schema, property, preserve, metadata)?;
        map.fields
            .insert(name.clone(), field(id, property.get("default").cloned()));
    }
    map.item = match node.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(DEDUCED),
        Some(item @ Value::Object(_)) => Some(of(schema, item, preserve, metadata)?),
        Some(_) => None,
        None if preserve || map.fields.is_empty() => Some(DEDUCED),
        None => None,
    };
    if node["x-kubernetes-embedded-resource"] == true {
        let text = scalar(schema, Scalar::Text);
        map.fields
            .insert("apiVersion".to_owned(), field(text, None));
        map.fields.insert("kind".to_owned(), field(text, None));
        if let Some(metadata) = metadata {
            map.fields
                .insert("metadata".to_owned(), field(metadata, None));
        }
    }
    Ok(map)
}

/// The type of one node of the structure.
fn of(
    schema: &mut Schema,
    node: &Value,
    preserve: bool,
    metadata: Option<TypeId>,
) -> Result<TypeId> {
    let preserve = preserve || keeps_unknown(node);
    let atom = match node["type"].as_str().unwrap_or_default() {
        "object" => Atom {
            map: Some(object(schema, node, preserve, metadata)?),
            ..Atom::default()
        },
        "array" => {
            let item = match node.get("items") {
                Some(item) => of(schema, item, preserve, metadata)?,
                None => UNTYPED,
            };
            let relation = match relation(node)? {
                None => Relation::Atomic,
                Some(keys) if keys.is_empty() => Relation::Set,
                Some(keys) => Relation::Keyed(keys),
            };
            Atom {
                list: Some(List { item, relation }),
                ..Atom::default()
            }
        }
        "integer" | "number" => return Ok(scalar(schema, Scalar::Number)),
        "boolean" => return Ok(scalar(schema, Scalar::Flag)),
        "string" => {
            let plain = ["", "byte"].contains(&node["format"].as_str().unwrap_or_default());
            return Ok(scalar(
                schema,
                if plain { Scalar::Text } else { Scalar::Any },
            ));
        }
        _ => return Ok(DEDUCED),
    };
    Ok(schema.add(atom))
}

impl Custom {
    /// The object as kept: without undeclared fields, with defaults; and the paths of what went.
    #[must_use]
    pub fn shape(&self, mut value: Value) -> (Value, Vec<String>) {
        let mut unknown = Vec::new();
        let Value::Object(object) = &mut value else {
            return (value, unknown);
        };
        let own: Vec<(String, Value)> = ["apiVersion", "kind", "metadata"]
            .into_iter()
            .filter_map(|key| object.remove_entry(key))
            .collect();
        fill(&self.structure, &mut value);
        prune(&self.structure, &mut value, "", &mut unknown);
        fill(&self.structure, &mut value);
        drop_nulls(&self.structure, &mut value);
        let Value::Object(object) = &mut value else {
            return (value, unknown);
        };
        for (key, mut part) in own {
            if key == "metadata" {
                let typed = super::apply::Typed {
                    schema: &self.metadata.0,
                    id: self.metadata.1,
                };
                let (shaped, gone) = normal::shape(typed, part);
                unknown.extend(gone.into_iter().map(|path| format!("metadata.{path}")));
                part = shaped;
            }
            object.insert(key, part);
        }
        (value, unknown)
    }

    /// What breaks the structure: field, message, reason of each.
    #[must_use]
    pub fn faults(&self, value: &Value) -> Vec<(String, String, &'static str)> {
        let mut out = Vec::new();
        check(&self.structure, value, "", &mut out);
        out
    }
}

fn children<'a>(node: &'a Value, key: &str) -> Option<&'a Value> {
    let declared = node["properties"].get(key);
    declared.or_else(|| node.get("additionalProperties").filter(|v| v.is_object()))
}

/// Defaults, outermost first.
fn fill(node: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, property) in node["properties"].as_object().into_iter().flatten() {
                let Some(default) = property.get("default") else {
                    continue;
                };
                let missing = match object.get(name) {
                    None => true,
                    Some(Value::Null) => property["nullable"] != true,
                    Some(_) => false,
                };
                if missing {
                    object.insert(name.clone(), default.clone());
                }
            }
            for (key, child) in object.iter_mut() {
                if let Some(node) = children(node, key) {
                    fill(node, child);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(&node["items"], item)),
        _ => {}
    }
}

fn prune(node: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            let embedded = node["x-kubernetes-embedded-resource"] == true;
            let free = keeps_unknown(node) || node["additionalProperties"] == true;
            let dot = if path.is_empty() { "" } else { "." };
            object.retain(|key, child| match children(node, key) {
                Some(node) => {
                    prune(node, child, &format!("{path}{dot}{key}"), unknown);
                    true
                }
                None if free => true,
                None if embedded && ["apiVersion", "kind", "metadata"].contains(&key.as_str()) => {
                    true
                }
                None => {
                    unknown.push(format!("{path}{dot}{key}"));
                    false
                }
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune(&node["items"], item, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// Nulls of declared fields that may not be null and have no default.
fn drop_nulls(node: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => object.retain(|key, child| {
            let Some(node) = children(node, key) else {
                return true;
            };
            if child.is_null() {
                return node["nullable"] == true || node.get("default").is_some();
            }
            drop_nulls(node, child);
            true
        }),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| drop_nulls(&node["items"], item)),
        _ => {}
    }
}

fn check(node: &Value, value: &Value, path: &str, out: &mut Vec<(String, String, &'static str)>) {
    let at = || path.to_owned();
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = node["type"].as_str().unwrap_or_default();
    let fits = wanted.is_empty()
        || wanted == kind
        || (wanted == "number" && kind == "integer")
        || (kind == "null" && node["nullable"] == true);
    if !fits {
        let message = format!(
            "Invalid value: {kind:?}: {} in body must be of type {wanted}: {kind:?}",
            if path.is_empty() { "" } else { path }
        );
        out.push((at(), message, "FieldValueTypeInvalid"));
        return;
    }
    if let Some(allowed) = node["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            allowed.join(", ")
        );
        out.push((at(), message, "FieldValueNotSupported"));
    }
    if let (Some(least), Some(number)) = (node["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        let message = format!(
            "Invalid value: {value}: {path} in body should be greater than or equal to {}",
            node["minimum"]
        );
        out.push((at(), message, "FieldValueInvalid"));
    }
    let dot = if path.is_empty() { "" } else { "." };
    match value {
        Value::Object(object) => {
            required(node, object, path, out);
            for (key, child) in object {
                if let Some(node) = children(node, key) {
                    check(node, child, &format!("{path}{dot}{key}"), out);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(&node["items"], item, &format!("{path}[{index}]"), out);
            }
        }
        _ => {}
    }
}

fn required(
    node: &Value,
    object: &Object<String, Value>,
    path: &str,
    out: &mut Vec<(String, String, &'static str)>,
) {
    let dot = if path.is_empty() { "" } else { "." };
    let names = node["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    for name in names.filter(|n| !object.contains_key(*n)) {
        out.push((
            format!("{path}{dot}{name}"),
            "Required value".to_owned(),
            "FieldValueRequired",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widget(structure: Value) -> Kind {
        let definition = json!({"spec": {
        "group": "example.dev", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
        "versions": [
            {"name": "v1", "served": true, "schema": {"openAPIV3Schema": structure},
             "subresources": {"status": {}}},
            {"name": "v0", "served": false},
        ]}});
        let mut kinds = kinds(&definition, &Kinds::built_in()).unwrap();
        assert_eq!(kinds.len(), 1);
        kinds.remove(0)
    }

    #[test]
    fn lists_of_a_structural_schema_merge_as_declared() {
        let kind = widget(
            json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {
                "ports": {"type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                "marks": {"type": "array", "x-kubernetes-list-type": "set",
                    "items": {"type": "string"}},
                "plain": {"type": "array", "items": {"type": "string"}},
            }}}}),
        );
        let spec = json!({"ports": [{"name": "a"}], "marks": ["m"], "plain": ["p"]});
        let stated = super::super::typed::stated(&kind.schema, kind.id, &json!({"spec": spec}));
        assert_eq!(
            stated.to_json(),
            json!({"f:spec": {"f:ports": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}},
                "f:marks": {"v:\"m\"": {}}, "f:plain": {}}})
        );
    }

    #[test]
    fn undeclared_fields_are_pruned_and_defaults_filled_in() {
        let kind = widget(
            json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"size": {"type": "integer", "default": 3}, "gone": {"type": "string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}),
        );
        let (out, unknown) = kind.custom.unwrap().shape(json!({
            "kind": "Widget", "metadata": {"name": "w", "labels": {}},
            "spec": {"extra": 1, "gone": null, "free": {"any": [1]}},
        }));
        assert_eq!(
            out,
            json!({"kind": "Widget", "metadata": {"name": "w"},
                "spec": {"size": 3, "free": {"any": [1]}}})
        );
        assert_eq!(unknown, ["spec.extra"]);
    }

    #[test]
    fn wrong_types_and_missing_fields_are_named() {
        let kind = widget(
            json!({"type": "object", "properties": {"spec": {"type": "object",
            "required": ["size"], "properties": {"size": {"type": "integer", "minimum": 1},
                "mode": {"type": "string", "enum": ["a", "b"]}}}}}),
        );
        let faults = |value: Value| -> Vec<String> {
            kind.custom
                .as_ref()
                .unwrap()
                .faults(&value)
                .into_iter()
                .map(|(f, _, _)| f)
                .collect()
        };
        assert_eq!(faults(json!({"spec": {}})), ["spec.size"]);
        assert_eq!(faults(json!({"spec": {"size": "1"}})), ["spec.size"]);
        assert_eq!(
            faults(json!({"spec": {"size": 0, "mode": "c"}})),
            ["spec.mode", "spec.size"]
        );
        assert!(faults(json!({"spec": {"size": 1}})).is_empty());
    }
}
