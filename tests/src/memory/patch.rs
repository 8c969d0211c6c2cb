//! JSON merge patch (RFC 7396) and JSON patch (RFC 6902).
//!
//! In: a document and a patch. Out: the patched document, or why not, in the words of the real server where
//! clients look at them.

use serde_json::{Map, Value};

/// Merges a patch into the document.
pub fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(object) = document else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                object.remove(key);
            }
            Value::Object(_) => merge(object.entry(key.clone()).or_insert(Value::Null), value),
            _ => {
                object.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Runs the operations of a JSON patch, all or none.
pub fn json(document: &Value, operations: &Value) -> Result<Value, String> {
    let Value::Array(operations) = operations else {
        return Err("a JSON patch is a list of operations".to_owned());
    };
    let mut out = document.clone();
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let path = text("path").ok_or("an operation without a path")?;
        let from = || {
            let from = text("from").ok_or("an operation without from")?;
            Ok::<_, String>((from, get(&out, from)?.clone()))
        };
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        match text("op").unwrap_or_default() {
            "add" => add(&mut out, path, value())?,
            "remove" => drop(remove(&mut out, path)?),
            "replace" => {
                remove(&mut out, path)
                    .map_err(|_| format!("replace operation does not apply: doc is missing key: {path}: missing value"))?;
                add(&mut out, path, value())?;
            }
            "move" => {
                let (from, value) = from()?;
                remove(&mut out, from)?;
                add(&mut out, path, value)?;
            }
            "copy" => {
                let (_, value) = from()?;
                add(&mut out, path, value)?;
            }
            "test" => {
                let found = get(&out, path).ok().filter(|v| !v.is_null());
                if found.cloned().unwrap_or(Value::Null) != value() {
                    return Err(format!("testing value {path} failed: test failed"));
                }
            }
            other => return Err(format!("Unexpected kind: {other}")),
        }
    }
    Ok(out)
}

fn get<'a>(document: &'a Value, path: &str) -> Result<&'a Value, String> {
    document
        .pointer(path)
        .ok_or_else(|| format!("doc is missing path: {path}: missing value"))
}

fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let (above, last) = path
        .rsplit_once('/')
        .ok_or_else(|| format!("bad path: {path}"))?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let parent = document
        .pointer_mut(above)
        .ok_or_else(|| format!("doc is missing path: {path}: missing value"))?;
    Ok((parent, last))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (parent, key) = parent(document, path)?;
    match parent {
        Value::Object(object) => {
            object.insert(key, value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let index: usize = key.parse().map_err(|_| format!("bad index: {path}"))?;
            if index > items.len() {
                return Err(format!(
                    "Unable to access invalid index: {index}: invalid index referenced"
                ));
            }
            items.insert(index, value);
        }
        _ => return Err(format!("doc is missing path: {path}: missing value")),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let (parent, key) = parent(document, path)?;
    let removed = match parent {
        Value::Object(object) => object.remove(&key),
        Value::Array(items) => {
            let index = key.parse::<usize>().ok().filter(|i| *i < items.len());
            index.map(|i| items.remove(i))
        }
        _ => None,
    };
    removed.ok_or_else(|| {
        format!("remove operation does not apply: doc is missing path: {path}: missing value")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_adds_replaces_and_removes() {
        let mut document = json!({"a": {"x": 1, "y": 1}, "b": [1]});
        merge(
            &mut document,
            &json!({"a": {"x": null, "z": {"n": null, "m": 2}}, "b": [2]}),
        );
        assert_eq!(document, json!({"a": {"y": 1, "z": {"m": 2}}, "b": [2]}));
    }

    #[test]
    fn json_patch_operations_do_what_the_rfc_says() {
        let document = json!({"a": {"k/1": 1}, "l": [1, 2]});
        let run = |operations: Value| super::json(&document, &operations);
        let cases = [
            (
                json!([{"op": "add", "path": "/a/n", "value": 2}]),
                json!({"a": {"k/1": 1, "n": 2}, "l": [1, 2]}),
            ),
            (
                json!([{"op": "replace", "path": "/a/k~11", "value": 3}]),
                json!({"a": {"k/1": 3}, "l": [1, 2]}),
            ),
            (
                json!([{"op": "add", "path": "/l/0", "value": 0}]),
                json!({"a": {"k/1": 1}, "l": [0, 1, 2]}),
            ),
            (
                json!([{"op": "add", "path": "/l/-", "value": 3}]),
                json!({"a": {"k/1": 1}, "l": [1, 2, 3]}),
            ),
            (
                json!([{"op": "move", "from": "/l/0", "path": "/m"}]),
                json!({"a": {"k/1": 1}, "l": [2], "m": 1}),
            ),
            (
                json!([{"op": "copy", "from": "/l", "path": "/m"}]),
                json!({"a": {"k/1": 1}, "l": [1, 2], "m": [1, 2]}),
            ),
            (
                json!([{"op": "test", "path": "/l/1", "value": 2}, {"op": "remove", "path": "/a"}]),
                json!({"l": [1, 2]}),
            ),
        ];
        for (operations, expected) in cases {
            assert_eq!(run(operations.clone()), Ok(expected), "{operations}");
        }
        assert!(run(json!([{"op": "test", "path": "/l/1", "value": 9}])).is_err());
        assert!(run(json!([{"op": "remove", "path": "/none"}])).is_err());
    }
}
