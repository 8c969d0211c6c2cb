//! What stands in the fields of ours that Git states, where the whole object is at hand. Pure.
//!
//! Field sets tell of every writer but two: one that uses our own field manager's name, and an admission webhook that
//! changes a value while somebody else writes; both leave our managedFields entry as it is. In: our field set, the
//! object as Git states it, and as it is. Out: one digest, or the paths that differ. What the API server defaults and
//! others add inside of what is ours does not count: Git does not state it.

use muster_proto::Digest;
use muster_proto::object::canonical;
use serde_json::{Value, json};

use super::paths::{Path, leaves, value};

/// Of all that stands in the fields of `set`. `live`: the object, or its parts.
pub(crate) fn digest(set: &Value, stated: &Value, live: &[&Value]) -> Digest {
    let found: Vec<Value> = leaves(set)
        .iter()
        .filter_map(|path| Some(json!([path, found(path, stated, live)?])))
        .collect();
    Digest::of([canonical(&Value::Array(found))])
}

/// Fields of `set` that do not hold what Git states, as text. A quantity that the API server spells in its own way is
/// among them.
pub(crate) fn differing(set: &Value, stated: &Value, live: &Value) -> Vec<Path> {
    let differs = |path: &Path| {
        value(stated, path).is_some()
            && found(path, stated, &[stated]) != found(path, stated, &[live])
    };
    leaves(set).into_iter().filter(differs).collect()
}

/// What stands at a path; `None` when nothing does.
fn found(path: &Path, stated: &Value, live: &[&Value]) -> Option<Value> {
    let found = live.iter().find_map(|part| value(part, path))?;
    Some(part(found, value(stated, path)))
}

/// The part of a value that Git states. Of a mapping or list that it states as empty, or not at all, only that it is
/// there.
fn part(live: &Value, stated: Option<&Value>) -> Value {
    match (live, stated) {
        (Value::Object(live), Some(Value::Object(stated))) => stated
            .iter()
            .filter_map(|(name, below)| Some((name.clone(), part(live.get(name)?, Some(below)))))
            .collect(),
        (Value::Array(live), Some(Value::Array(stated))) if live.len() == stated.len() => {
            let items = live.iter().zip(stated);
            items
                .map(|(item, stated)| part(item, Some(stated)))
                .collect()
        }
        (Value::Array(_), Some(Value::Array(stated))) if !stated.is_empty() => live.clone(),
        (Value::Object(_) | Value::Array(_), _) => Value::Null,
        _ => live.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::shown;

    fn set() -> Value {
        json!({"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:paused": {}, "f:selector": {},
            "f:template": {"f:securityContext": {}, "f:containers": {"k:{\"name\":\"web\"}":
                {".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:emptyDir": {}}}}}})
    }

    fn stated() -> Value {
        json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"paused": false, "selector": {"matchLabels": {"a": "b"}},
            "template": {"securityContext": {}, "containers":
                [{"name": "web", "image": "web:1", "args": ["-v", {"file": "x"}], "emptyDir": {}}]}}})
    }

    fn of(live: &Value) -> Digest {
        digest(&set(), &stated(), &[live])
    }

    #[test]
    fn a_changed_value_tells_and_is_named() {
        let table = [
            (
                "/metadata/labels/app",
                json!("other"),
                ".metadata.labels.app",
            ),
            ("/spec/paused", json!(true), ".spec.paused"),
            ("/spec/selector/matchLabels/a", json!("c"), ".spec.selector"),
            (
                "/spec/template/containers/0/image",
                json!("web:2"),
                ".spec.template.containers[name=\"web\"].image",
            ),
            (
                "/spec/template/containers/0/args/1/file",
                json!("y"),
                ".spec.template.containers[name=\"web\"].args",
            ),
            (
                "/spec/template/containers/0/args",
                json!(["-v"]),
                ".spec.template.containers[name=\"web\"].args",
            ),
        ];
        for (pointer, other, path) in table {
            let mut live = stated();
            *live.pointer_mut(pointer).unwrap() = other;
            assert_ne!(of(&live), of(&stated()), "{pointer}");
            let named = differing(&set(), &stated(), &live);
            let named: Vec<String> = named.iter().map(shown).collect();
            assert_eq!(named, [path]);
        }
        let mut less = stated();
        less["spec"].as_object_mut().unwrap().remove("paused");
        assert_ne!(of(&less), of(&stated()));
    }

    #[test]
    fn what_git_does_not_state_does_not_count() {
        let mut live = stated();
        live["metadata"]["labels"]["added"] = json!("x");
        live["spec"]["replicas"] = json!(9);
        live["spec"]["selector"]["defaulted"] = json!([]);
        let template = &mut live["spec"]["template"];
        template["securityContext"]["runAsUser"] = json!(1);
        template["containers"][0]["env"] = json!([{"name": "ADDED"}]);
        template["containers"][0]["args"][1]["defaulted"] = json!("y");
        template["containers"][0]["emptyDir"]["sizeLimit"] = json!("1Gi");
        let sidecar = json!({"name": "sidecar", "image": "proxy"});
        template["containers"]
            .as_array_mut()
            .unwrap()
            .insert(0, sidecar);
        assert_eq!(of(&live), of(&stated()));
        assert!(differing(&set(), &stated(), &live).is_empty());
    }

    #[test]
    fn an_object_in_two_parts_is_the_same_as_in_one() {
        let metadata = json!({"metadata": stated()["metadata"]});
        let spec = json!({"spec": stated()["spec"]});
        assert_eq!(
            digest(&set(), &stated(), &[&metadata, &spec]),
            of(&stated())
        );
    }
}
