//! Applications: the list, and one in detail.

use muster_proto::wire::v1;

use super::Look;
use super::pauses;
use super::rows::{PLACEMENT, objects, placement, problems};
use super::words;
use crate::text::{Cell, Text, Tone};

/// `muster apps`.
pub(crate) fn applications(applications: &[v1::ApplicationSummary], look: Look) -> Text {
    let rows = applications.iter().map(|row_of| row(row_of, look));
    Text::table(
        look.headers,
        &application_columns("NAME", look),
        rows.collect(),
    )
    .or_say(look.headers, "No applications.")
}

/// The columns of [`row`]; the first one is named by the page.
pub(super) fn application_columns(name: &'static str, look: Look) -> Vec<&'static str> {
    let mut columns = vec![
        name, "SYNC", "HEALTH", "SYNCED", "HEALTHY", "UNKNOWN", "REVISION",
    ];
    if look.wide {
        columns.push("LOCATION");
    }
    columns.push("MESSAGE");
    columns
}

pub(super) fn row(application: &v1::ApplicationSummary, look: Look) -> Vec<Cell> {
    let unknown = match application.clusters_unknown {
        0 => Cell::from("0"),
        count => Cell::new(count.to_string(), Tone::Bad),
    };
    let mut cells = vec![
        application.name.as_str().into(),
        status(application, &application.sync),
        status(application, &application.health),
        words::part(application.clusters_synced, application.clusters),
        words::part(application.clusters_healthy, application.clusters),
        unknown,
        words::revision(&application.revision).into(),
    ];
    if look.wide {
        cells.push(words::or_dash(&application.location).into());
    }
    let paused = pauses::counted(application.clusters_paused, application.clusters);
    let message = [paused.as_str(), &application.message, &application.note];
    cells.push(words::sentences(message).into());
    cells
}

/// An application that runs nowhere is neither in sync nor out of it.
fn status(application: &v1::ApplicationSummary, word: &str) -> Cell {
    match application.clusters {
        0 => "-".into(),
        _ => words::status(word),
    }
}

/// `muster get app NAME`.
pub(crate) fn application(detail: &v1::ApplicationDetail, look: Look) -> Text {
    let summary = detail.summary.clone().unwrap_or_default();
    let mut fields: Vec<(&'static str, Cell)> = vec![
        ("Name", summary.name.as_str().into()),
        ("Location", words::or_dash(&summary.location).into()),
        ("Revision", words::or_dash(&summary.revision).into()),
        ("Sync", status(&summary, &summary.sync)),
        ("Health", status(&summary, &summary.health)),
        ("Clusters", clusters_in_words(&summary).into()),
    ];
    if !summary.message.is_empty() {
        fields.push(("Message", summary.message.as_str().into()));
    }
    if !summary.note.is_empty() {
        fields.push(("Note", summary.note.as_str().into()));
    }
    let mut page = Text::fields(fields);
    let mut columns = vec!["CLUSTER", "CONNECTION", "TARGET"];
    columns.extend(PLACEMENT);
    let rows = detail.placements.iter().map(|row| {
        let mut cells = vec![
            row.cluster.as_str().into(),
            words::connection(&row.connection, row.known_since_ms, look.now),
            words::or_dash(&row.target).into(),
        ];
        cells.extend(placement(row, look));
        cells
    });
    page.paragraph(Text::table(look.headers, &columns, rows.collect()));
    let rows = detail
        .objects
        .iter()
        .filter_map(|row| Some((row.cluster.as_str(), row.object.as_ref()?)));
    page.paragraph(objects("CLUSTER", rows, look));
    page.paragraph(pauses::pauses(&detail.pauses, look));
    page.paragraph(problems(&detail.problems, look));
    page
}

/// `5: 4 Synced, 3 Current, 1 unknown`.
fn clusters_in_words(summary: &v1::ApplicationSummary) -> String {
    let v1::ApplicationSummary {
        clusters,
        clusters_synced,
        clusters_healthy,
        clusters_unknown,
        ..
    } = summary;
    match clusters {
        0 => "none: no target selects a cluster".to_owned(),
        _ => format!(
            "{clusters}: {clusters_synced} Synced, {clusters_healthy} Current, {clusters_unknown} unknown"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn sync_and_health_are_two_columns() {
        let look = Look {
            wide: true,
            ..example::look()
        };
        let table = applications(&example::fleet().applications, look);
        insta::assert_snapshot!(table.paint(Paper::default()), @r"
        NAME         SYNC      HEALTH    SYNCED   HEALTHY   UNKNOWN   REVISION   LOCATION                        MESSAGE
        monitoring   Synced    Current   2/2      2/2       0         4be1c2a    apps/monitoring/muster.yaml:1
        shop         Drifted   Current   1/4      2/4       2         4be1c2a    apps/shop/muster.yaml:1         eu-1: 1 of 12 objects differs
        ");
    }

    #[test]
    fn a_note_is_beside_the_message_and_alarms_nobody() {
        let mut detail = example::application();
        let summary = detail.summary.as_mut().unwrap();
        summary.note = "Flux's HelmRelease are applied as objects".into();
        let row = applications(std::slice::from_ref(summary), example::look());
        let row = row.paint(Paper::default());
        let both = "eu-1: 1 of 12 objects differs; Flux's HelmRelease are applied as objects";
        assert!(row.contains(both), "{row}");
        let page = application(&detail, example::look()).paint(Paper::default());
        assert!(page.contains("\nNote:       Flux's HelmRelease"), "{page}");
    }

    #[test]
    fn one_application_in_detail() {
        let page = application(&example::application(), example::look());
        insta::assert_snapshot!(page.paint(Paper::default()), @r"
        Name:       shop
        Location:   apps/shop/muster.yaml:1
        Revision:   4be1c2a900fe4be1c2a900fe4be1c2a900fe4be1
        Sync:       Drifted
        Health:     Current
        Clusters:   4: 1 Synced, 2 Current, 2 unknown
        Message:    eu-1: 1 of 12 objects differs

        CLUSTER   CONNECTION            TARGET       SYNC      HEALTH    OBJECTS   REVISION   SINCE   MESSAGE
        eu-1      Connected             production   Drifted   Current   11/12     4be1c2a    1h15m   1 of 12 objects differs
        us-1      Connected             production   Synced    Current   12/12     4be1c2a    1h15m
        us-2      Unknown (since 12m)   production   Unknown   Unknown   -         4be1c2a    12m
        us-3      Never joined          production   Unknown   Unknown   -         4be1c2a    -

        OBJECT                NAMESPACE   CLUSTER   SYNC      HEALTH       SINCE   MESSAGE
        deployment.apps/web   shop        eu-1      Drifted   InProgress   5m      repair is off; .spec.replicas and 1 more changed by kubectl-edit
        ");
    }
}
