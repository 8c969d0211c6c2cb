//! What two runs of a tool wrote differently: a rendering must be a function of what it reads.

use crate::yaml::{self, Node, Value};

/// Names the first object and field in which two outputs differ, without any value; `None` when they say the same.
pub fn difference(first: &[u8], second: &[u8]) -> Option<String> {
    if first == second {
        return None;
    }
    let (Ok(first), Ok(second)) = (yaml::documents(first), yaml::documents(second)) else {
        return Some("what is no YAML".to_owned());
    };
    if first.len() != second.len() {
        return Some("the number of its objects".to_owned());
    }
    first.iter().zip(&second).find_map(|(first, second)| {
        let mut path = Vec::new();
        let differ = differ(first, second, &mut path);
        differ.then(|| {
            let text = |path: &[&str]| first.text(path).unwrap_or_default();
            let (kind, name) = (text(&["kind"]), text(&["metadata", "name"]));
            format!("{kind} {name} in {}", path.join("."))
        })
    })
}

/// Whether two values differ, and where first.
fn differ(first: &Node, second: &Node, path: &mut Vec<String>) -> bool {
    match (&first.value, &second.value) {
        (Value::Map(one), Value::Map(two)) => {
            let keys = one.iter().chain(two).map(|(key, _)| key.text.as_str());
            keys.into_iter().any(|key| {
                path.push(key.to_owned());
                let differ = match (first.get(key), second.get(key)) {
                    (Some(first), Some(second)) => differ(first, second, path),
                    _ => true,
                };
                if !differ {
                    path.pop();
                }
                differ
            })
        }
        (Value::List(one), Value::List(two)) if one.len() == two.len() => {
            let mut items = one.iter().zip(two).enumerate();
            items.any(|(index, (first, second))| {
                path.push(index.to_string());
                let differ = differ(first, second, path);
                if !differ {
                    path.pop();
                }
                differ
            })
        }
        (first, second) => first != second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_object_and_field_are_named_and_no_value() {
        let one = "kind: A\nmetadata: {name: a}\n---\nkind: Secret\nmetadata: {name: s}\ndata: {x: same, y: [1, hunter2]}\n";
        for (from, to, named) in [
            ("hunter2", "swordfish", Some("Secret s in data.y.1")),
            ("x: same, ", "", Some("Secret s in data.x")),
            ("[1, hunter2]", "[1]", Some("Secret s in data.y")),
            ("kind: A", "kind: B", Some("A a in kind")),
            (
                "---\n",
                "---\nkind: B\n---\n",
                Some("the number of its objects"),
            ),
            ("x: same", "[", Some("what is no YAML")),
            // The same, written in another way.
            ("x: same", "\"x\": 'same'", None),
            ("", "", None),
        ] {
            let two = one.replace(from, to);
            let found = difference(one.as_bytes(), two.as_bytes());
            assert_eq!(found.as_deref(), named, "{from:?} -> {to:?}");
        }
    }
}
