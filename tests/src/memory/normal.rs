//! The shape in which the server keeps a built-in object: as Go writes the struct it read.
//!
//! In: JSON as a client wrote it. Out: without unknown fields, with the structs and defaults that Go always
//! writes, without nulls and empty optional lists and maps, quantities in canonical form. Optional scalars
//! that are zero (`hostNetwork: false`, an env `value: ""`) stay as written: the published schema does not
//! say which of them Go would drop.

use serde_json::{Map as Object, Value};

use super::apply::Typed;
use super::quantity;
use super::schema::{DEDUCED, Form, Map, Schema, TypeId, UNTYPED};

/// Optional lists and pointers that Go writes as null all the same.
const WRITTEN_AS_NULL: [(&str, &str); 7] = [
    ("api.discovery.v1.EndpointSlice", "endpoints"),
    ("api.discovery.v1.EndpointSlice", "ports"),
    ("api.rbac.v1.ClusterRole", "rules"),
    ("api.rbac.v1.Role", "rules"),
    (
        "api.autoscaling.v2.HorizontalPodAutoscalerStatus",
        "currentMetrics",
    ),
    ("api.core.v1.ContainerImage", "names"),
    ("api.core.v1.ProjectedVolumeSource", "sources"),
];

/// The object as kept, and the paths of fields that were not known and went.
#[must_use]
pub fn shape(typed: Typed<'_>, value: Value) -> (Value, Vec<String>) {
    let mut walk = Walk {
        schema: typed.schema,
        quantity: typed.schema.named("apimachinery.pkg.api.resource.Quantity"),
        nulls: WRITTEN_AS_NULL
            .iter()
            .filter_map(|(name, field)| Some((typed.schema.named(name)?, *field)))
            .collect(),
        unknown: Vec::new(),
    };
    let out = walk.shape(typed.id, value, "").unwrap_or(Value::Null);
    (out, walk.unknown)
}

struct Walk<'a> {
    schema: &'a Schema,
    quantity: Option<TypeId>,
    nulls: Vec<(TypeId, &'static str)>,
    unknown: Vec<String>,
}

impl Walk<'_> {
    fn shape(&mut self, id: TypeId, value: Value, path: &str) -> Option<Value> {
        if value.is_null() {
            return None;
        }
        if id == DEDUCED || id == UNTYPED {
            return Some(value);
        }
        if Some(id) == self.quantity {
            return Some(quantity::canonical(value));
        }
        let schema = self.schema;
        Some(match (schema.atom(id).deduce(Some(&value)).form(), value) {
            (Form::Map(map), Value::Object(object)) if map.fields.is_empty() => {
                let item = map.item.unwrap_or(DEDUCED);
                let keep = |(key, value): (String, Value)| {
                    let at = format!("{path}.{key}");
                    let value = self.shape(item, value, &at).or_else(|| self.zero(item))?;
                    Some((key, value))
                };
                Value::Object(object.into_iter().filter_map(keep).collect())
            }
            (Form::Map(map), Value::Object(object)) => self.fields(id, map, object, path),
            (Form::List(list), Value::Array(items)) => {
                let keep = |(index, value): (usize, Value)| {
                    let at = format!("{path}[{index}]");
                    self.shape(list.item, value, &at)
                        .or_else(|| self.zero(list.item))
                };
                Value::Array(items.into_iter().enumerate().filter_map(keep).collect())
            }
            (_, value) => value,
        })
    }

    fn fields(
        &mut self,
        id: TypeId,
        map: &Map,
        mut object: Object<String, Value>,
        path: &str,
    ) -> Value {
        let mut out = Object::new();
        for (name, field) in &map.fields {
            let given = object.remove(name);
            let at = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let value = given.and_then(|v| self.shape(field.kind, v, &at));
            let value = value.or_else(|| {
                let default = field.default.clone()?;
                // A struct that Go prints as a scalar (a time) is null when it is zero.
                let open_struct = default.as_object().is_some_and(Object::is_empty);
                match self.is_container(field.kind) {
                    false if open_struct => Some(Value::Null),
                    _ => self.shape(field.kind, default, &at),
                }
            });
            let listed = self.nulls.contains(&(id, name));
            match value {
                Some(value)
                    if !field.required && !listed && self.is_omitted(field.kind, &value) => {}
                Some(value) => {
                    out.insert(name.clone(), value);
                }
                None if listed || (field.required && self.is_container(field.kind)) => {
                    out.insert(name.clone(), Value::Null);
                }
                None => {}
            }
        }
        for name in object.keys() {
            let dot = if path.is_empty() { "" } else { "." };
            self.unknown.push(format!("{path}{dot}{name}"));
        }
        Value::Object(out)
    }

    fn is_container(&self, id: TypeId) -> bool {
        let atom = self.schema.atom(id);
        atom.scalar.is_none() && (atom.map.is_some() || atom.list.is_some())
    }

    /// Whether an optional field of this type is left out when it holds this.
    fn is_omitted(&self, id: TypeId, value: &Value) -> bool {
        match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(object) => {
                let map = self.schema.atom(id).map.as_ref();
                let plain = map.is_some_and(|m| {
                    m.fields.is_empty() && m.item != Some(DEDUCED) && m.item != Some(UNTYPED)
                });
                plain && object.is_empty()
            }
            _ => false,
        }
    }

    /// What Go makes of a null inside a map or list.
    fn zero(&self, id: TypeId) -> Option<Value> {
        use super::schema::Scalar;
        match self.schema.atom(id).scalar? {
            Scalar::Text => Some(Value::from("")),
            Scalar::Number => Some(Value::from(0)),
            Scalar::Flag => Some(Value::from(false)),
            Scalar::Any => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Kinds;
    use super::*;
    use serde_json::json;

    fn shaped(group: &str, plural: &str, value: Value) -> (Value, Vec<String>) {
        let kind = Kinds::built_in().at(group, "v1", plural).unwrap();
        shape(kind.typed(), value)
    }

    #[test]
    fn unknown_fields_go_and_are_named() {
        let (out, unknown) = shaped(
            "",
            "configmaps",
            json!({"metadata": {"nmae": "x"}, "data": {}, "extra": 1}),
        );
        assert_eq!(out, json!({"metadata": {}}));
        assert_eq!(unknown, ["metadata.nmae", "extra"]);
    }

    #[test]
    fn required_lists_are_null_and_roles_always_have_rules() {
        assert_eq!(
            shaped(
                "rbac.authorization.k8s.io",
                "roles",
                json!({"metadata": {"name": "r"}})
            )
            .0,
            json!({"metadata": {"name": "r"}, "rules": null})
        );
    }

    #[test]
    fn ports_get_their_protocol_and_quantities_their_canonical_form() {
        let container = json!({"name": "c", "ports": [{"containerPort": 80}], "env": [],
            "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}, "securityContext": {}});
        let (out, _) = shaped("", "pods", json!({"spec": {"containers": [container]}}));
        assert_eq!(
            out["spec"]["containers"][0],
            json!({"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "securityContext": {}})
        );
    }
}
