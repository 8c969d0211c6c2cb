//! Strategic merge patch, as `kubectl edit`, `kubectl scale` and `kubectl patch` send it for built-in kinds.
//!
//! In: the live object and a patch. Out: the patched object. Keyed lists merge by their key, sets by value;
//! `$patch: delete`, `$patch: replace`, `$deleteFromPrimitiveList/…` and `$retainKeys` are honoured,
//! `$setElementOrder/…` is not: items keep the order of the live list.

use serde_json::{Map as Object, Value};

use super::schema::{List, Relation, Schema, TypeId};

/// Merges a patch into the live object.
#[must_use]
pub fn merge(schema: &Schema, id: TypeId, live: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    if patch.get("$patch").is_some_and(|p| p == "replace") {
        return Value::Object(plain(patch));
    }
    let mut out = live.as_object().cloned().unwrap_or_default();
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        out.retain(|key, _| kept.iter().any(|k| k == key));
    }
    let map = schema.atom(id).map.as_ref();
    for (key, change) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (out.get_mut(field), change) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        if change.is_null() {
            out.remove(key);
            continue;
        }
        let child = map.and_then(|m| m.child(key));
        let list = child.and_then(|id| schema.atom(id).list.as_ref());
        let old = out.get(key);
        let new = match (change, child, list) {
            (Value::Object(_), Some(id), _) => {
                merge(schema, id, old.unwrap_or(&Value::Null), change)
            }
            (Value::Array(items), _, Some(list)) => {
                let old = old.and_then(Value::as_array).cloned().unwrap_or_default();
                Value::Array(merge_list(schema, list, old, items))
            }
            _ => change.clone(),
        };
        out.insert(key.clone(), new);
    }
    Value::Object(out)
}

fn merge_list(schema: &Schema, list: &List, mut old: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let replaced = patch
        .iter()
        .any(|item| item.get("$patch").is_some_and(|p| p == "replace"));
    let bare = patch
        .iter()
        .filter(|item| item.get("$patch").is_none_or(|p| p != "replace"));
    if replaced || list.relation == Relation::Atomic {
        return bare.cloned().collect();
    }
    for item in patch {
        let place = match &list.relation {
            // The first key alone is the patch merge key of these types.
            Relation::Keyed(keys) => {
                let key = &keys[0];
                old.iter()
                    .position(|o| o.get(key).is_some() && o.get(key) == item.get(key))
            }
            _ => old.iter().position(|o| o == item),
        };
        let delete = item.get("$patch").is_some_and(|p| p == "delete");
        match place {
            Some(place) if delete => drop(old.remove(place)),
            Some(place) if item.is_object() => {
                old[place] = merge(schema, list.item, &old[place], item);
            }
            Some(_) => {}
            None if delete => {}
            None => old.push(match item {
                Value::Object(object) => Value::Object(plain(object)),
                other => other.clone(),
            }),
        }
    }
    old
}

/// Without directives.
fn plain(object: &Object<String, Value>) -> Object<String, Value> {
    let kept = object.iter().filter(|(key, _)| !key.starts_with('$'));
    kept.map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Kinds;
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_merge_by_key_and_directives_are_obeyed() {
        let kind = Kinds::built_in().at("apps", "v1", "deployments").unwrap();
        let live = json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "b:1"}]}}}});
        let cases = [
            (json!({"spec": {"replicas": 3}}), "/spec/replicas", json!(3)),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}}}),
                "/spec/template/spec/containers/0",
                json!({"name": "a", "image": "a:2", "env": [{"name": "X", "value": "1"}]}),
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "a", "$patch": "delete"}]}}}}),
                "/spec/template/spec/containers",
                json!([{"name": "b", "image": "b:1"}]),
            ),
            (
                json!({"spec": {"replicas": null}}),
                "/spec/replicas",
                Value::Null,
            ),
        ];
        for (patch, pointer, expected) in cases {
            let out = merge(&kind.schema, kind.id, &live, &patch);
            let found = out.pointer(pointer).cloned().unwrap_or(Value::Null);
            assert_eq!(found, expected, "{patch}");
        }
    }
}
