//! Where two states of one object differ, field by field, in paths as managedFields spell them. Pure.
//!
//! In: both states, and which lists are keyed and which are sets, as managedFields tell ([`lists`]). Out: paths.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value, json};

use crate::body::APPLICATION_LABEL;
use crate::drift::Path;
use crate::fields;
use crate::takeover::LAST_APPLIED;

/// Which fields are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fields {
    /// All.
    All,
    /// Those that the second state has.
    OfTheSecond,
}

/// Paths in which two states differ, but for what the API server counts, what controllers tell, and our own label.
pub(super) fn differences(one: &Value, other: &Value, lists: &Value, fields: Fields) -> Vec<Path> {
    let mut walk = Walk {
        fields,
        path: Path::new(),
        found: Vec::new(),
    };
    walk.between(one, other, lists);
    walk.found
}

/// Everything that anybody holds of these states of an object.
pub(super) fn lists(objects: &[&Value]) -> Value {
    let entries = objects.iter().flat_map(|object| managed(object));
    entries.fold(json!({}), |all, entry| fields::union(&all, &set(&entry)))
}

/// Who manages what of an object.
pub(super) fn managed(object: &Value) -> Vec<ManagedFieldsEntry> {
    let managed = object.pointer("/metadata/managedFields");
    managed
        .and_then(|managed| serde_json::from_value(managed.clone()).ok())
        .unwrap_or_default()
}

/// What an entry holds.
pub(super) fn set(entry: &ManagedFieldsEntry) -> Value {
    let fields = entry.fields_v1.as_ref();
    fields.map_or_else(|| json!({}), |fields| fields.0.clone())
}

/// Is a path, something above it as a whole, or something below it in a set?
pub(super) fn is_in(path: &Path, set: &Value) -> bool {
    let mut at = set;
    for (depth, step) in path.iter().enumerate() {
        match at.get(step) {
            Some(below) => at = below,
            None => return depth > 0 && at.as_object().is_some_and(Map::is_empty),
        }
    }
    true
}

struct Walk {
    fields: Fields,
    path: Path,
    found: Vec<Path>,
}

impl Walk {
    fn below(&mut self, step: String, one: &Value, other: &Value, set: &Value) {
        let child = set.get(&step).cloned().unwrap_or_default();
        self.path.push(step);
        self.between(one, other, &child);
        self.path.pop();
    }

    fn between(&mut self, one: &Value, other: &Value, set: &Value) {
        let left_alone = self.fields == Fields::OfTheSecond && other.is_null();
        if one == other || left_alone || is_nobodys(&self.path) {
            return;
        }
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => self.mappings(one, other, set),
            // A mapping that is not there is one without anything in it; an item of a list is a whole.
            (Value::Object(one), Value::Null) if !self.is_item() => {
                self.mappings(one, &Map::new(), set);
            }
            (Value::Null, Value::Object(other)) if !self.is_item() => {
                self.mappings(&Map::new(), other, set);
            }
            (Value::Array(one), Value::Array(other)) => self.lists(one, other, set),
            _ => self.found.push(self.path.clone()),
        }
    }

    fn is_item(&self) -> bool {
        self.path.last().is_some_and(|step| !step.starts_with("f:"))
    }

    fn mappings(&mut self, one: &Map<String, Value>, other: &Map<String, Value>, set: &Value) {
        let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for name in names {
            let value = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
            self.below(format!("f:{name}"), &value(one), &value(other), set);
        }
    }

    fn lists(&mut self, one: &[Value], other: &[Value], set: &Value) {
        if let Some(keys) = keys(set)
            && let (Some(one), Some(other)) = (by(&keys, one), by(&keys, other))
        {
            self.items(&one, &other, set);
        } else if is_set(set) {
            let all = |items: &[Value]| -> BTreeMap<String, Value> {
                let step = |item: &Value| (format!("v:{item}"), item.clone());
                items.iter().map(step).collect()
            };
            self.items(&all(one), &all(other), set);
        } else if one.len() == other.len() {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                self.below(format!("i:{index}"), one, other, set);
            }
        } else {
            self.found.push(self.path.clone());
        }
    }

    fn items(
        &mut self,
        one: &BTreeMap<String, Value>,
        other: &BTreeMap<String, Value>,
        set: &Value,
    ) {
        let steps: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for step in steps {
            let value = |items: &BTreeMap<String, Value>| items.get(step).cloned();
            let (one, other) = (value(one), value(other));
            self.below(
                step.clone(),
                &one.unwrap_or_default(),
                &other.unwrap_or_default(),
                set,
            );
        }
    }
}

/// What every write changes, what is no part of what Git states, and what we and kubectl note for ourselves.
fn is_nobodys(path: &Path) -> bool {
    let path: Vec<&str> = path.iter().map(|step| &step[2..]).collect();
    match path[..] {
        ["status"] => true,
        [
            "metadata",
            "managedFields" | "resourceVersion" | "generation",
        ] => true,
        ["metadata", "uid" | "creationTimestamp" | "selfLink"] => true,
        ["metadata", "labels", name] => name == APPLICATION_LABEL,
        ["metadata", "annotations", name] => name == LAST_APPLIED,
        _ => false,
    }
}

/// By which fields the items of a list are told apart.
fn keys(set: &Value) -> Option<Vec<String>> {
    let mut steps = set.as_object()?.keys();
    let step = steps.find_map(|step| step.strip_prefix("k:"))?;
    let keys: Map<String, Value> = serde_json::from_str(step).ok()?;
    Some(keys.keys().cloned().collect())
}

fn is_set(set: &Value) -> bool {
    let steps = set.as_object().into_iter().flat_map(Map::keys);
    steps.into_iter().any(|step| step.starts_with("v:"))
}

/// Items by their keys, as managedFields spell them; `None` when two have the same.
fn by(keys: &[String], items: &[Value]) -> Option<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for item in items {
        let fields = keys.iter();
        let fields = fields.filter_map(|key| Some((key, item.get(key)?)));
        let key: BTreeMap<&String, &Value> = fields.collect();
        let key = serde_json::to_string(&key).ok()?;
        if all.insert(format!("k:{key}"), item.clone()).is_some() {
            return None;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::drift::shown;

    fn paths(one: &Value, other: &Value, fields: Fields) -> Vec<String> {
        let lists = lists(&[one, other]);
        let paths = differences(one, other, &lists, fields);
        paths.iter().map(shown).collect()
    }

    fn managed_by(mut object: Value, set: Value) -> Value {
        object["metadata"]["managedFields"] = json!([{"manager": "m", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": set}]);
        object
    }

    #[test]
    fn fields_are_named_and_what_every_write_changes_is_none() {
        let one = json!({"metadata": {"resourceVersion": "1", "generation": 1, "labels": {"a": "b"},
                "annotations": {LAST_APPLIED: "{}"}},
            "data": {"same": "1", "changed": "1", "a.b": "1"}, "list": [1, {"x": 1}], "gone": 1, "status": {"ready": 1}});
        let other = json!({"metadata": {"resourceVersion": "2", "generation": 2,
                "labels": {"a": "b", APPLICATION_LABEL: "shop"}},
            "data": {"same": "1", "changed": "2"}, "list": [1, {"x": 2}], "spec": {}, "status": {"ready": 2}});
        assert_eq!(
            paths(&one, &other, Fields::All),
            [".data[\"a.b\"]", ".data.changed", ".gone", ".list[1].x"]
        );
        assert_eq!(
            paths(&one, &other, Fields::OfTheSecond),
            [".data.changed", ".list[1].x"]
        );
    }

    #[test]
    fn items_of_keyed_lists_are_told_apart_by_their_keys_and_those_of_sets_by_their_values() {
        let set = json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}},
            "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}}}},
            "f:metadata": {"f:finalizers": {"v:\"a\"": {}}}});
        let one = managed_by(
            json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {
                "containers": [{"name": "debug", "image": "busybox"}, {"name": "web", "image": "a"}],
                "ports": [{"port": 80, "protocol": "TCP", "name": "x"}]}}),
            set,
        );
        let other = json!({"metadata": {"finalizers": ["a"]}, "spec": {
            "containers": [{"name": "web", "image": "b"}],
            "ports": [{"port": 80, "protocol": "TCP", "name": "y"}]}});
        assert_eq!(
            paths(&one, &other, Fields::All),
            [
                ".metadata.finalizers[=\"b\"]",
                ".spec.containers[name=\"debug\"]",
                ".spec.containers[name=\"web\"].image",
                ".spec.ports[port=80,protocol=\"TCP\"].name",
            ]
        );
    }

    #[test]
    fn a_list_of_which_nobody_knows_the_items_is_one_field_when_its_length_changes() {
        let (one, other) = (json!({"l": [1, 2]}), json!({"l": [1]}));
        assert_eq!(paths(&one, &other, Fields::All), [".l"]);
    }

    #[test]
    fn a_path_is_in_a_set_that_holds_it_what_is_above_or_what_is_below() {
        let set = json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}});
        let path = |steps: &[&str]| {
            steps
                .iter()
                .map(|step| (*step).to_owned())
                .collect::<Path>()
        };
        for (steps, there) in [
            (vec!["f:spec", "f:a"], true),
            (vec!["f:spec", "f:a", "f:x"], true),
            (vec!["f:spec", "f:b"], true),
            (vec!["f:spec", "f:b", "f:d"], false),
            (vec!["f:other"], false),
        ] {
            assert_eq!(is_in(&path(&steps), &set), there, "{steps:?}");
        }
        assert!(!is_in(&path(&["f:spec"]), &json!({})));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc.]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_object_does_not_differ_from_itself_and_differences_look_the_same_from_both_sides(
            one in json_value(), other in json_value()
        ) {
            let (one, other) = (json!({"spec": one}), json!({"spec": other}));
            let between = |one, other| differences(one, other, &Value::Null, Fields::All);
            prop_assert_eq!(between(&one, &one), Vec::<Path>::new());
            prop_assert_eq!(between(&one, &other), between(&other, &one));
        }
    }
}
