//! What would an apply change? Asks the API server by a dry run, which applies defaults and admission as the real
//! one does, and compares the answer with what is there.

use muster_proto::ObjectKey;
use serde_json::Value;

use super::{Failure, Writer};
use crate::body::APPLICATION_LABEL;
use crate::discovery::Kind;

/// How many fields are named.
const NAMED: usize = 5;

/// Paths in which `live` would change; none when an apply would change nothing.
///
/// # Errors
/// When the API server refuses the apply, or does not answer.
pub(crate) async fn compare(
    writer: &Writer,
    kind: &Kind,
    key: &ObjectKey,
    body: &[u8],
    live: &Value,
) -> Result<Vec<String>, Failure> {
    let dry = super::apply_dry(writer, kind, key, body.to_vec()).await?;
    Ok(differences(live, &dry))
}

/// The first few paths, in words.
pub(crate) fn shown(paths: &[String]) -> String {
    match paths.len() {
        few if few <= NAMED => paths.join(", "),
        many => format!("{} and {} more", paths[..NAMED].join(", "), many - NAMED),
    }
}

/// Where two objects differ, but for what the API server counts and the label that tells what is ours.
fn differences(live: &Value, dry: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    walk(live, dry, "", &mut paths);
    paths
}

fn walk(one: &Value, other: &Value, path: &str, paths: &mut Vec<String>) {
    const COUNTED: [&str; 3] = [
        ".metadata.managedFields",
        ".metadata.resourceVersion",
        ".metadata.generation",
    ];
    if one == other || COUNTED.contains(&path) {
        return;
    }
    let empty = serde_json::Map::new();
    let fields = |value: &Value| value.as_object().cloned();
    match (fields(one), fields(other)) {
        (None, None) => {}
        // A mapping that is not there is one without anything in it.
        (one_fields, other_fields)
            if one.is_null()
                || other.is_null()
                || one_fields.is_some() && other_fields.is_some() =>
        {
            let one = one_fields.unwrap_or_else(|| empty.clone());
            let other = other_fields.unwrap_or(empty);
            let names: std::collections::BTreeSet<&String> =
                one.keys().chain(other.keys()).collect();
            for name in names {
                if path == ".metadata.labels" && name == APPLICATION_LABEL {
                    continue;
                }
                let null = Value::Null;
                let below = if name.contains(['.', '/']) {
                    format!("{path}[{name:?}]")
                } else {
                    format!("{path}.{name}")
                };
                walk(
                    one.get(name).unwrap_or(&null),
                    other.get(name).unwrap_or(&null),
                    &below,
                    paths,
                );
            }
            return;
        }
        _ => {}
    }
    match (one, other) {
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                walk(one, other, &format!("{path}[{index}]"), paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named_and_what_every_apply_changes_is_none() {
        let live = json!({"metadata": {"resourceVersion": "1", "generation": 1, "managedFields": [], "labels": {"a": "b"}},
            "data": {"same": "1", "changed": "1", "a.b": "1"}, "list": [1, {"x": 1}], "gone": 1});
        let dry = json!({"metadata": {"resourceVersion": "2", "generation": 2, "managedFields": [1],
            "labels": {"a": "b", "muster.dev/application": "shop"}},
            "data": {"same": "1", "changed": "2"}, "list": [1, {"x": 2}]});
        assert_eq!(
            differences(&live, &dry),
            [".data[\"a.b\"]", ".data.changed", ".gone", ".list[1].x"]
        );
        let bare = json!({"metadata": {}});
        let labelled = json!({"metadata": {"labels": {"muster.dev/application": "shop"}}});
        assert_eq!(differences(&bare, &labelled), Vec::<String>::new());
    }

    #[test]
    fn a_long_list_is_cut() {
        let paths: Vec<String> = (0..7).map(|n| format!(".{n}")).collect();
        assert_eq!(shown(&paths), ".0, .1, .2, .3, .4 and 2 more");
    }
}
