//! `muster drift`: who changed what behind Git's back, how often, and whether it is put right.

use muster_proto::wire::v1;

use super::{Look, words};
use crate::text::{Cell, Text, Tone};

/// The table; field names, and with more columns the values that the agent told (it masks those of Secrets).
pub(crate) fn drift(rows: &[v1::ClusterObject], look: Look) -> Text {
    let rows = rows
        .iter()
        .filter_map(|row| Some(cells(&row.cluster, row.object.as_ref()?, look)));
    let mut columns = vec![
        "CLUSTER",
        "APPLICATION",
        "NAMESPACE",
        "OBJECT",
        "DRIFT",
        "BY",
        "SEEN",
        "REPAIRED",
        "TIMES",
    ];
    columns.push(if look.wide {
        "FIELDS (GIT -> FOUND)"
    } else {
        "FIELDS"
    });
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
        words::or_dash(&drift.kind).into(),
        words::or_dash(&drift.manager).into(),
        words::age(drift.at_ms, look.now).into(),
        repaired,
        drift.count.to_string().into(),
    ];
    cells.push(match look.wide {
        true => fields(&with_values(&drift), usize::MAX, "; ").into(),
        false => fields(&drift.fields, 3, " ").into(),
    });
    cells
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

fn fields(fields: &[String], shown: usize, between: &str) -> String {
    let some: Vec<&str> = fields.iter().take(shown).map(String::as_str).collect();
    match fields.len().saturating_sub(shown) {
        0 => words::or_dash(&some.join(between)),
        more => format!("{} and {more} more", some.join(between)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn drift_names_the_fields_and_who_holds_them() {
        let table = drift(&example::drift(), example::look());
        insta::assert_snapshot!(table.paint(Paper::default()), @r"
        CLUSTER   APPLICATION   NAMESPACE   OBJECT                DRIFT     BY             SEEN    REPAIRED   TIMES   FIELDS
        eu-1      shop          shop        deployment.apps/web   changed   kubectl-edit   5m      no         3       .spec.replicas .spec.paused
        eu-1      shop          shop        configmap/settings    missing   -              3h11m   3h10m      1       -
        ");
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
