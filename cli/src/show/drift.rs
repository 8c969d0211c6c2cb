//! `muster drift`: who changed what behind Git's back, and whether it is put right.

use muster_proto::wire::v1;

use super::{Look, words};
use crate::text::{Cell, Text, Tone};

/// The table; field names, never values.
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
    ];
    if look.wide {
        columns.push("TIMES");
    }
    columns.push("FIELDS");
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
    ];
    if look.wide {
        cells.push(drift.count.to_string().into());
    }
    let shown = if look.wide { usize::MAX } else { 3 };
    cells.push(fields(&drift.fields, shown).into());
    cells
}

fn fields(fields: &[String], shown: usize) -> String {
    let some: Vec<&str> = fields.iter().take(shown).map(String::as_str).collect();
    match fields.len().saturating_sub(shown) {
        0 => words::or_dash(&some.join(" ")),
        more => format!("{} and {more} more", some.join(" ")),
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
        CLUSTER   APPLICATION   NAMESPACE   OBJECT                DRIFT     BY             SEEN    REPAIRED   FIELDS
        eu-1      shop          shop        deployment.apps/web   changed   kubectl-edit   5m      no         .spec.replicas .spec.paused
        eu-1      shop          shop        configmap/settings    missing   -              3h11m   3h10m      -
        ");
    }
}
