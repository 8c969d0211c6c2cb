//! Taking owned items out of a value, and out of a set the fields that only stand for structs.
//!
//! In: a value and a set of paths. Out: the value without them; leaves inside atomic parts stay, and what
//! becomes empty goes.

use serde_json::Value;

use super::fieldset::{Set, Step};
use super::schema::{Form, Relation, Schema, TypeId};
use super::typed::step_of;

/// The value without the items and fields of the set.
#[must_use]
pub fn remove(schema: &Schema, id: TypeId, value: &Value, set: &Set) -> Value {
    match schema.atom(id).deduce(Some(value)).form() {
        Form::Scalar(_) => value.clone(),
        Form::Map(map) => {
            let Value::Object(object) = value else {
                return Value::Null;
            };
            if object.is_empty() || map.atomic {
                return Value::Null;
            }
            let mut out = serde_json::Map::new();
            for (key, child) in object {
                let step = Step::Field(key.clone());
                if set.has(&step) {
                    continue;
                }
                let kept = match (set.below(&step), map.child(key)) {
                    (Some(below), Some(id)) => remove(schema, id, child, below),
                    _ => child.clone(),
                };
                out.insert(key.clone(), kept);
            }
            if out.is_empty() {
                Value::Null
            } else {
                Value::Object(out)
            }
        }
        Form::List(list) => {
            let Value::Array(items) = value else {
                return Value::Null;
            };
            if items.is_empty() || list.relation == Relation::Atomic {
                return Value::Null;
            }
            let mut out = Vec::new();
            for item in items {
                let Ok(step) = step_of(schema, list, item) else {
                    continue;
                };
                if set.has(&step) {
                    continue;
                }
                out.push(match set.below(&step) {
                    Some(below) => remove(schema, list.item, item, below),
                    None => item.clone(),
                });
            }
            if out.is_empty() {
                Value::Null
            } else {
                Value::Array(out)
            }
        }
    }
}

/// The set with every declared struct field on the way to a member made a member too: an owner of
/// `spec.replicas` counts as owning `spec`, but not as owning the map that holds one of its keys.
#[must_use]
pub fn with_named_fields(schema: &Schema, id: Option<TypeId>, set: &Set) -> Set {
    let atom = id.map(|id| schema.atom(id));
    let map = atom.and_then(|a| a.map.as_ref());
    let list = atom.and_then(|a| a.list.as_ref());
    let mut out = Set::default();
    for (step, member, below) in set.steps() {
        let (named, child) = match step {
            Step::Field(name) => {
                let declared = map.is_some_and(|m| m.fields.contains_key(name));
                (
                    declared && !below.is_empty(),
                    map.and_then(|m| m.child(name)),
                )
            }
            Step::Key(_) => (false, list.map(|l| l.item)),
            Step::Value(_) | Step::Index(_) => (false, None),
        };
        let inner = with_named_fields(schema, child, below);
        out.attach(step.clone(), member || named, inner);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "type t\n\
        \x20data {text}\n\
        \x20spec @spec\n\
        type spec\n\
        \x20list [name:@item]\n\
        \x20n number\n\
        type item\n\
        \x20name text\n\
        \x20v number\n";

    #[test]
    fn owned_items_go_and_emptied_parents_become_null() {
        let schema = Schema::parse(TABLE).unwrap();
        let id = schema.named("t").unwrap();
        let cut =
            |value: Value, set: Value| remove(&schema, id, &value, &Set::from_json(&set).unwrap());
        assert_eq!(
            cut(
                json!({"data": {"a": "1", "b": "2"}, "spec": {"n": 1}}),
                json!({"f:data": {"f:a": {}}})
            ),
            json!({"data": {"b": "2"}, "spec": {"n": 1}})
        );
        assert_eq!(
            cut(json!({"data": {"a": "1"}}), json!({"f:data": {"f:a": {}}})),
            json!({"data": null})
        );
        assert_eq!(
            cut(
                json!({"spec": {"list": [{"name": "x", "v": 1}, {"name": "y", "v": 2}]}}),
                json!({"f:spec": {"f:list": {"k:{\"name\":\"x\"}": {},
                    "k:{\"name\":\"y\"}": {"f:v": {}}}}})
            ),
            json!({"spec": {"list": [{"name": "y"}]}})
        );
    }

    #[test]
    fn structs_on_the_way_count_as_owned_and_maps_do_not() {
        let schema = Schema::parse(TABLE).unwrap();
        let set = Set::from_json(&json!({"f:spec": {"f:list": {"k:{\"name\":\"x\"}":
            {"f:v": {}}}}, "f:data": {"f:a": {}}}))
        .unwrap();
        assert_eq!(
            with_named_fields(&schema, schema.named("t"), &set).to_json(),
            json!({"f:data": {".": {}, "f:a": {}}, "f:spec": {".": {}, "f:list": {".": {},
                "k:{\"name\":\"x\"}": {"f:v": {}}}}})
        );
    }
}
