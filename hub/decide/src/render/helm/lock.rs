//! What pins the charts that a chart names: `Chart.lock`, as `helm dependency update` writes it.
//!
//! In: the list of a chart's file, and its lock. Out: name, repository and version of each, in the order of the list.
//! A lock that was not written for this very list is refused, as `helm dependency build` refuses it: its `digest` is the
//! sha256 of both lists as Go writes JSON (Helm's `internal/resolver`, `HashReq`).

use sha2::{Digest as _, Sha256};

use crate::yaml::{Node, Value};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Locked {
    pub(super) name: String,
    pub(super) repository: String,
    pub(super) version: String,
}

/// The entries of a lock for the list of the chart's file.
///
/// # Errors
/// When it was written for another list: `LOCK PROBLEM` is a sentence.
pub(super) fn entries(list: &[Node], lock: &Node) -> Result<Vec<Locked>, String> {
    let found = match lock.get("dependencies").map(|node| &node.value) {
        Some(Value::List(found)) => &found[..],
        _ => &[],
    };
    let stated = lock.text(&["digest"]).unwrap_or_default();
    let fits = stated == digest(list, found) || stated == old_digest(list);
    if !fits || found.len() != list.len() {
        return Err(
            "does not fit what the chart depends on: run `helm dependency update` and commit it"
                .to_owned(),
        );
    }
    let text = |node: &Node, field| node.text(&[field]).unwrap_or_default().to_owned();
    let entries = found.iter().map(|node| Locked {
        name: text(node, "name"),
        repository: text(node, "repository"),
        version: text(node, "version"),
    });
    Ok(entries.collect())
}

fn digest(list: &[Node], found: &[Node]) -> String {
    sha256(&format!("[{},{}]", dependencies(list), dependencies(found)))
}

/// Of Helm 2.
fn old_digest(list: &[Node]) -> String {
    sha256(&format!("{{\"dependencies\":{}}}", dependencies(list)))
}

fn sha256(text: &str) -> String {
    let hash = Sha256::digest(text);
    let hex = hash.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", hex.collect::<String>())
}

fn dependencies(list: &[Node]) -> String {
    if list.is_empty() {
        return "null".to_owned();
    }
    let list: Vec<String> = list.iter().map(dependency).collect();
    format!("[{}]", list.join(","))
}

/// The fields that Helm knows, in its order; empty ones are left out, but for two.
fn dependency(node: &Node) -> String {
    let always = ["name", "repository"];
    let order = [
        "name",
        "version",
        "repository",
        "condition",
        "tags",
        "enabled",
        "import-values",
        "alias",
    ];
    let fields = order.into_iter().filter_map(|field| {
        let value = node.get(field).map(Node::to_json);
        let empty = match &value {
            None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => true,
            Some(serde_json::Value::String(text)) => text.is_empty(),
            Some(serde_json::Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        let value = match (empty, always.contains(&field)) {
            (true, false) => return None,
            (true, true) => String::new().into(),
            (false, _) => value.unwrap_or_default(),
        };
        Some(format!("\"{field}\":{}", json(&value)))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// As Go writes it: keys in order, and what could be HTML escaped.
fn json(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields = fields.into_iter().map(|(key, value)| {
                let key = json(&key.as_str().into());
                format!("{key}:{}", json(value))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
        }
        scalar => {
            let mut text = scalar.to_string();
            for (raw, escaped) in [
                ('<', "\\u003c"),
                ('>', "\\u003e"),
                ('&', "\\u0026"),
                ('\u{2028}', "\\u2028"),
                ('\u{2029}', "\\u2029"),
            ] {
                text = text.replace(raw, escaped);
            }
            text
        }
    }
}
