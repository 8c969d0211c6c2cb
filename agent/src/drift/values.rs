//! What Git states of a drifted field and what was found there. Pure.
//!
//! In: paths, the body we apply, the live object. Out: [`FieldChange`]s, few and short, because they are kept and
//! reported. Nothing a Secret holds is among them.

use muster_proto::{FieldChange, MASK, ObjectKey, shortened};
use serde_json::Value;

use super::paths::{Path, shown, value};

/// Fields whose values are told; the others are named only.
const TOLD: usize = 10;
/// Characters of one value.
const LONGEST: usize = 120;

/// Desired and live values of the first few paths.
pub(crate) fn changes(
    key: &ObjectKey,
    paths: &[Path],
    desired: &Value,
    live: &Value,
) -> Vec<FieldChange> {
    let told = paths.iter().take(TOLD).map(|path| {
        let secret = is_secret(key, path);
        let text = |object| value(object, path).map(|value| told(value, secret));
        FieldChange {
            path: shown(path),
            desired: text(desired),
            live: text(live),
        }
    });
    told.collect()
}

fn told(value: &Value, secret: bool) -> String {
    if secret {
        return MASK.into();
    }
    shortened(value.to_string(), LONGEST)
}

/// Of a Secret, only its labels and its type are nobody's secret: annotations quote what was applied.
pub(crate) fn is_secret(key: &ObjectKey, path: &Path) -> bool {
    let harmless = match path.first().map(String::as_str) {
        Some("f:type") => true,
        Some("f:metadata") => path.get(1).is_some_and(|step| step == "f:labels"),
        _ => false,
    };
    key.is_secret() && !harmless
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(kind: &str) -> ObjectKey {
        ObjectKey {
            group: String::new(),
            kind: kind.into(),
            namespace: "n".into(),
            name: "x".into(),
        }
    }

    fn path(steps: &[&str]) -> Path {
        steps.iter().map(|step| (*step).to_owned()).collect()
    }

    #[test]
    fn both_values_are_told_and_an_absent_one_is_none() {
        let desired = json!({"data": {"a": "1", "b": "2"}});
        let live = json!({"data": {"a": "x"}});
        let paths = [path(&["f:data", "f:a"]), path(&["f:data", "f:b"])];
        let change = |path: &str, desired: &str, live: Option<&str>| FieldChange {
            path: path.into(),
            desired: Some(desired.into()),
            live: live.map(str::to_owned),
        };
        assert_eq!(
            changes(&key("ConfigMap"), &paths, &desired, &live),
            [
                change(".data.a", "\"1\"", Some("\"x\"")),
                change(".data.b", "\"2\"", None)
            ]
        );
    }

    #[test]
    fn nothing_that_a_secret_holds_is_told() {
        let object = |value: &str| json!({"data": {"p": value}, "metadata": {"annotations": {"a": value}, "labels": {"l": value}}});
        let paths = [
            path(&["f:data", "f:p"]),
            path(&["f:data"]),
            path(&["f:metadata", "f:annotations", "f:a"]),
            path(&["f:metadata"]),
        ];
        let changes_of = |paths: &[Path]| {
            changes(
                &key("Secret"),
                paths,
                &object("aHVudGVyMg"),
                &object("b3RoZXI"),
            )
        };
        let told = serde_json::to_string(&changes_of(&paths)).unwrap();
        assert!(
            !told.contains("aHVudGVyMg") && !told.contains("b3RoZXI"),
            "{told}"
        );
        assert_eq!(told.matches("(secret)").count(), 8);
        let label = changes_of(&[path(&["f:metadata", "f:labels", "f:l"])]);
        assert_eq!(label[0].live.as_deref(), Some("\"b3RoZXI\""));
    }

    #[test]
    fn long_values_are_cut_and_many_are_named_only() {
        let long = json!({"data": {"a": "ä".repeat(500)}});
        let told = changes(&key("ConfigMap"), &[path(&["f:data", "f:a"])], &long, &long);
        let text = told[0].live.as_ref().unwrap();
        assert_eq!(text.chars().count(), LONGEST + 1);
        let many: Vec<Path> = (0..40)
            .map(|n| path(&["f:data", &format!("f:{n}")]))
            .collect();
        assert_eq!(changes(&key("ConfigMap"), &many, &long, &long).len(), TOLD);
    }
}
