//! `muster drift`: who changed what behind Git's back, how often, and whether it is put right.

use muster_proto::wire::v1;

use super::{Look, values, words};
use crate::text::{Cell, Text, Tone};

/// Characters of a value and of a path where there is little room.
const VALUE: usize = 16;
const PATH: usize = 32;

/// The table: which field, and who. It fits a terminal; with more columns, all that is known.
pub(crate) fn drift(rows: &[v1::ClusterObject], look: Look) -> Text {
    let rows = rows
        .iter()
        .filter_map(|row| Some(cells(&row.cluster, row.object.as_ref()?, look)));
    let mut columns = vec![
        "CLUSTER",
        "APPLICATION",
        "NAMESPACE",
        "OBJECT",
        "BY",
        "SEEN",
        "REPAIRED",
    ];
    match look.wide {
        true => columns.extend(["DRIFT", "TIMES", "FIELDS (GIT -> FOUND)"]),
        false => columns.push("CHANGE (GIT -> FOUND)"),
    }
    Text::table(look.headers, &columns, rows.collect()).or_say(look.headers, "No drift.")
}

fn cells(cluster: &str, object: &v1::ObjectStatus, look: Look) -> Vec<Cell> {
    let key = object.key.clone().unwrap_or_default();
    let drift = object.last_drift.clone().unwrap_or_default();
    let repaired = match drift.repaired_at_ms {
        0 => Cell::new("no", Tone::Bad),
        at => words::age(at, look.now).into(),
    };
    let mut cells = vec![
        cluster.into(),
        object.application.as_str().into(),
        words::or_dash(&key.namespace).into(),
        words::object(&key).into(),
        words::or_dash(&drift.manager).into(),
        words::age(drift.at_ms, look.now).into(),
        repaired,
    ];
    match look.wide {
        true => cells.extend([
            words::or_dash(&drift.kind).into(),
            drift.count.to_string().into(),
            words::or_dash(&with_values(&drift).join("; ")).into(),
        ]),
        false => cells.push(in_short(&drift).into()),
    }
    cells
}

/// `.spec.replicas: 3 -> 5, and 1 more`: the first field, and how many there are.
fn in_short(drift: &v1::Drift) -> String {
    let Some(path) = drift.fields.first() else {
        return match drift.kind.as_str() {
            "missing" => "deleted".to_owned(),
            kind => words::or_dash(kind),
        };
    };
    let change = drift.changes.iter().find(|change| change.path == *path);
    let value = |value: &Option<String>| values::short(value.as_deref(), VALUE);
    let values = match change {
        None => String::new(),
        Some(change) if drift.kind == "added" => format!(": {}", value(&change.live)),
        Some(change) if change.desired == change.live => String::new(),
        Some(change) => format!(": {} -> {}", value(&change.desired), value(&change.live)),
    };
    let kind = match drift.kind.as_str() {
        "added" => "added ",
        _ => "",
    };
    let more = match drift.fields.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{kind}{}{values}{more}", end_of(path))
}

/// The end of a path says which field it is.
fn end_of(path: &str) -> String {
    let start = path.char_indices().rev().nth(PATH - 1);
    match start {
        Some((start, _)) if start > 0 => format!("…{}", &path[start..]),
        _ => path.to_owned(),
    }
}

/// `.spec.replicas: 3 -> 5`, for fields whose values are known.
fn with_values(drift: &v1::Drift) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    let field = |path: &String| {
        let change = drift.changes.iter().find(|change| change.path == *path);
        change.map_or_else(
            || path.clone(),
            |change| {
                format!(
                    "{path}: {} -> {}",
                    value(&change.desired),
                    value(&change.live)
                )
            },
        )
    };
    drift.fields.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn drift_names_the_field_and_who_holds_it() {
        let table = drift(&example::drift(), example::look());
        insta::assert_snapshot!(table.paint(Paper::default()), @r"
        CLUSTER   APPLICATION   NAMESPACE   OBJECT                BY             SEEN    REPAIRED   CHANGE (GIT -> FOUND)
        eu-1      shop          shop        deployment.apps/web   kubectl-edit   5m      no         .spec.replicas: 3 -> 5, and 1 more
        eu-1      shop          shop        configmap/settings    -              3h11m   3h10m      deleted
        ");
    }

    #[test]
    fn a_change_is_told_in_short() {
        let change = |desired: Option<&str>, live: Option<&str>| v1::FieldChange {
            path: ".data.a".into(),
            desired: desired.map(str::to_owned),
            live: live.map(str::to_owned),
        };
        let drift = |kind: &str, fields: &[&str], changes| v1::Drift {
            kind: kind.into(),
            fields: fields.iter().map(ToString::to_string).collect(),
            changes,
            ..v1::Drift::default()
        };
        let long = ".spec.template.spec.containers[name=\"web\"].resources.limits.cpu";
        for (drift, expected) in [
            (
                drift(
                    "changed",
                    &[".data.a", ".b"],
                    vec![change(Some("3"), Some("5"))],
                ),
                ".data.a: 3 -> 5, and 1 more",
            ),
            (
                drift("changed", &[".data.a"], vec![change(Some("3"), None)]),
                ".data.a: 3 -> -",
            ),
            (
                drift(
                    "changed",
                    &[".data.a"],
                    vec![change(Some("(secret)"), Some("(secret)"))],
                ),
                ".data.a",
            ),
            (
                drift(
                    "added",
                    &[".data.a"],
                    vec![change(None, Some("\"0123456789abcdefghij\""))],
                ),
                "added .data.a: \"0123456789abcde…",
            ),
            (drift("missing", &[], vec![]), "deleted"),
            (
                drift("changed", &[long], vec![]),
                "…name=\"web\"].resources.limits.cpu",
            ),
        ] {
            assert_eq!(in_short(&drift), expected);
        }
    }

    #[test]
    fn more_columns_tell_the_values_that_are_known() {
        let change = v1::FieldChange {
            path: ".spec.replicas".into(),
            desired: Some("3".into()),
            live: None,
        };
        let drift = v1::Drift {
            fields: vec![".spec.replicas".into(), ".spec.paused".into()],
            changes: vec![change],
            ..v1::Drift::default()
        };
        assert_eq!(
            with_values(&drift),
            [".spec.replicas: 3 -> (none)", ".spec.paused"]
        );
    }
}
