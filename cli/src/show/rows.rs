//! Rows that several pages share: placements, objects that need a look, problems.

use muster_proto::wire::v1;

use super::{Look, pauses, words};
use crate::text::{Cell, Text};

/// Rows of one section of a page that fits a screen; the rest is counted.
pub(crate) const SCREENFUL: usize = 10;

/// Sync, health, objects, revision, since and message of a placement.
///
/// Nothing is shown as good that is not known to be: a silent cluster's row is unknown, and a row that speaks of an
/// older desired state is still on its way to the newest.
pub(crate) fn placement(placement: &v1::Placement, look: Look) -> Vec<Cell> {
    let heard = words::is_heard(&placement.connection);
    let paused = pauses::in_words(placement.paused_until_ms, look);
    let Some(status) = placement.status.as_ref().filter(|_| heard) else {
        let message = if heard { "no report yet" } else { "" };
        return vec![
            words::status("Unknown"),
            words::status("Unknown"),
            "-".into(),
            words::revision(&placement.desired_revision).into(),
            words::age(placement.known_since_ms, look.now).into(),
            words::sentences([paused.as_str(), message]).into(),
        ];
    };
    let (sync, waits) = match placement.current {
        false if status.sync == "Synced" => {
            ("Progressing", "has not reported the newest state yet")
        }
        _ => (status.sync.as_str(), ""),
    };
    vec![
        words::status(sync),
        words::status(&status.health),
        words::part(status.synced, status.objects),
        words::revision(&status.revision).into(),
        words::age(status.since_ms, look.now).into(),
        words::sentences([paused.as_str(), &status.message, waits]).into(),
    ]
}

/// The columns that [`placement`] fills.
pub(crate) const PLACEMENT: [&str; 6] =
    ["SYNC", "HEALTH", "OBJECTS", "REVISION", "SINCE", "MESSAGE"];

/// A table of objects; the first column says where (a cluster or an application).
pub(crate) fn objects<'a>(
    place: &'static str,
    rows: impl Iterator<Item = (&'a str, &'a v1::ObjectStatus)>,
    look: Look,
) -> Text {
    let rows = rows.map(|(place, object)| {
        let key = object.key.clone().unwrap_or_default();
        vec![
            words::object(&key).into(),
            words::or_dash(&key.namespace).into(),
            place.into(),
            words::status(&object.sync),
            words::status(&object.health),
            words::age(object.since_ms, look.now).into(),
            words::sentences([object.message.as_str(), &last_drift(object, look)]).into(),
        ]
    });
    let columns = [
        "OBJECT",
        "NAMESPACE",
        place,
        "SYNC",
        "HEALTH",
        "SINCE",
        "MESSAGE",
    ];
    Text::table(look.headers, &columns, rows.collect())
}

/// `.spec.replicas changed by kubectl-edit, repaired 5m ago`.
pub(crate) fn last_drift(object: &v1::ObjectStatus, look: Look) -> String {
    let Some(drift) = &object.last_drift else {
        return String::new();
    };
    let what = match drift.fields.as_slice() {
        [] => drift.kind.clone(),
        [field] => format!("{field} {}", drift.kind),
        [field, more @ ..] => format!("{field} and {} more {}", more.len(), drift.kind),
    };
    let who = match drift.manager.as_str() {
        "" => String::new(),
        manager => format!(" by {manager}"),
    };
    let then = match drift.repaired_at_ms {
        0 => String::new(),
        at => format!(", repaired {} ago", words::age(at, look.now)),
    };
    format!("{what}{who}{then}")
}

/// A table of problems: where in Git, whose, what.
pub(crate) fn problems(problems: &[v1::Problem], look: Look) -> Text {
    let rows = problems.iter().take(SCREENFUL).map(|problem| {
        vec![
            words::or_dash(&problem.location).into(),
            words::or_dash(&problem.application).into(),
            words::or_dash(&problem.variants.join(", ")).into(),
            words::or_dash(&problem.cluster).into(),
            words::age(problem.since_ms, look.now).into(),
            Cell::new(&problem.message, crate::text::Tone::Bad),
        ]
    });
    let columns = [
        "PROBLEM AT",
        "APPLICATION",
        "VARIANT",
        "CLUSTER",
        "SINCE",
        "MESSAGE",
    ];
    let mut text = Text::table(look.headers, &columns, rows.collect());
    text.append(more(problems.len(), "muster status -o json"));
    text
}

/// A table of what waits for a person's word.
pub(crate) fn waiting(waiting: &[v1::Waiting], look: Look) -> Text {
    let rows = waiting.iter().take(SCREENFUL).map(|waiting| {
        let clusters = match waiting.clusters.as_slice() {
            [] => "all".to_owned(),
            [one] => one.clone(),
            many => many.len().to_string(),
        };
        vec![
            waiting.what.as_str().into(),
            words::or_dash(&waiting.application).into(),
            clusters.into(),
            words::age(waiting.since_ms, look.now).into(),
            Cell::new(&waiting.message, crate::text::Tone::Bad),
        ]
    });
    let columns = ["WAITS", "APPLICATION", "CLUSTERS", "SINCE", "MESSAGE"];
    let mut text = Text::table(look.headers, &columns, rows.collect());
    text.append(more(waiting.len(), "muster status -o json"));
    text
}

/// `... and 17 more: COMMAND`, when a section is longer than a screenful.
pub(crate) fn more(rows: usize, command: &str) -> Text {
    let mut text = Text::default();
    if rows > SCREENFUL {
        text.line([format!("... and {} more: {command}", rows - SCREENFUL).into()]);
    }
    text
}
