//! Paths of field sets: which fields a manager owns, and how people write them. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// One path of a field set, as the server spells its steps.
pub(crate) type Path = Vec<String>;

/// Paths that a field set owns: its leaves, and list items and mappings that it owns as such.
pub(crate) fn leaves(set: &Value) -> BTreeSet<Path> {
    fn walk(set: &Value, path: &mut Path, leaves: &mut BTreeSet<Path>) {
        let children = set.as_object().filter(|children| !children.is_empty());
        let Some(children) = children else {
            leaves.insert(path.clone());
            return;
        };
        for (step, below) in children {
            if step == "." {
                continue;
            }
            path.push(step.clone());
            walk(below, path, leaves);
            path.pop();
        }
        if children.len() == 1 && children.contains_key(".") {
            leaves.insert(path.clone());
        }
    }
    let mut found = BTreeSet::new();
    if set.as_object().is_some_and(|set| !set.is_empty()) {
        walk(set, &mut Path::new(), &mut found);
    }
    found
}

/// `f:spec`, `f:containers`, `k:{"name":"web"}` as people write it.
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for step in path {
        match step.split_once(':') {
            Some(("f", name)) if name.contains(['.', '/']) => {
                text.push_str(&format!("[{name:?}]"));
            }
            Some(("f", name)) => {
                text.push('.');
                text.push_str(name);
            }
            Some(("k", keys)) => {
                let keys: Value = serde_json::from_str(keys).unwrap_or_default();
                let keys = keys.as_object().into_iter().flatten();
                let keys: Vec<String> = keys
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
            Some(("v", value)) => text.push_str(&format!("[={value}]")),
            Some(("i", index)) => text.push_str(&format!("[{index}]")),
            _ => text.push_str(step),
        }
    }
    text
}

/// The value that a path leads to.
pub(crate) fn value<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| {
        let (how, what) = step.split_once(':')?;
        match how {
            "f" => value.get(what),
            "i" => value.get(what.parse::<usize>().ok()?),
            "v" => {
                let item: Value = serde_json::from_str(what).ok()?;
                value.as_array()?.iter().find(|found| **found == item)
            }
            "k" => {
                let keys: Value = serde_json::from_str(what).ok()?;
                let keys = keys.as_object()?;
                // A key that Git leaves out has the server's default.
                let means = |item: &&Value| {
                    keys.iter()
                        .all(|(name, value)| item.get(name).is_none_or(|found| found == value))
                };
                value.as_array()?.iter().find(means)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_leads_through_fields_and_items() {
        let object = json!({"data": {"a.b": "x"}, "spec": {"finalizers": ["f"], "list": [1, 2],
            "ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]}});
        let table = [
            (vec!["f:data", "f:a.b"], Some(json!("x"))),
            (vec!["f:data", "f:other"], None),
            (vec!["f:spec", "f:finalizers", "v:\"f\""], Some(json!("f"))),
            (vec!["f:spec", "f:finalizers", "v:\"g\""], None),
            (vec!["f:spec", "f:list", "i:1"], Some(json!(2))),
            (
                vec![
                    "f:spec",
                    "f:ports",
                    "k:{\"port\":2,\"protocol\":\"TCP\"}",
                    "f:name",
                ],
                Some(json!("b")),
            ),
        ];
        for (path, expected) in table {
            let path: Path = path.into_iter().map(str::to_owned).collect();
            assert_eq!(value(&object, &path), expected.as_ref(), "{path:?}");
        }
    }
}
