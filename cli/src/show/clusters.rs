//! Clusters: the list, and one in detail.

use muster_proto::wire::v1;

use super::Look;
use super::pauses;
use super::rows::{PLACEMENT, objects, placement, problems};
use super::words::{self, SILENT};
use crate::text::{Cell, Text, Tone};

/// `muster clusters`.
pub(crate) fn clusters(clusters: &[v1::ClusterSummary], look: Look) -> Text {
    let rows = clusters.iter().map(|cluster| row(cluster, look)).collect();
    Text::table(look.headers, &cluster_columns("NAME", look), rows).or_say(
        look.headers,
        "No clusters; `muster cluster join NAME` lets one in.",
    )
}

/// The columns of [`row`]; the first one is named by the page.
pub(super) fn cluster_columns(name: &'static str, look: Look) -> Vec<&'static str> {
    let mut columns = vec![name, "CONNECTION", "SYNC", "HEALTH", "SYNCED", "HEALTHY"];
    if look.wide {
        columns.extend([
            "SINCE",
            "SEEN",
            "GENERATION",
            "KUBERNETES",
            "AGENT",
            "LABELS",
        ]);
    }
    columns.push("MESSAGE");
    columns
}

pub(super) fn row(cluster: &v1::ClusterSummary, look: Look) -> Vec<Cell> {
    let heard = |count| match words::is_heard(&cluster.connection) {
        true => words::part(count, cluster.applications),
        false => Cell::from(format!("-/{}", cluster.applications)),
    };
    let mut cells = vec![
        cluster.name.as_str().into(),
        words::connection(&cluster.connection, cluster.since_ms, look.now),
        words::status_if_heard(&cluster.connection, &cluster.sync),
        words::status_if_heard(&cluster.connection, &cluster.health),
        heard(cluster.applications_synced),
        heard(cluster.applications_healthy),
    ];
    if look.wide {
        cells.extend([
            words::age(cluster.since_ms, look.now).into(),
            words::age(cluster.last_seen_ms, look.now).into(),
            generation(cluster).into(),
            words::or_dash(&cluster.kubernetes_version).into(),
            words::or_dash(&cluster.agent_version).into(),
            words::labels(&cluster.labels).into(),
        ]);
    }
    let held = match cluster.removals_held.as_str() {
        "" => String::new(),
        why => format!("removals wait: {why}"),
    };
    let paused = match cluster.applications_paused {
        0 => String::new(),
        1 => "1 application is paused".to_owned(),
        count => format!("{count} applications are paused"),
    };
    cells.push(words::sentences([cluster.message.as_str(), &held, &paused]).into());
    cells
}

/// `42`, or `41 of 42` while the agent has not accepted the newest.
fn generation(cluster: &v1::ClusterSummary) -> String {
    match cluster.accepted_generation {
        accepted if accepted == cluster.generation => accepted.to_string(),
        accepted => format!("{accepted} of {}", cluster.generation),
    }
}

/// `muster get cluster NAME`.
pub(crate) fn cluster(detail: &v1::ClusterDetail, look: Look) -> Text {
    let summary = detail.summary.clone().unwrap_or_default();
    let mut page = Text::fields(fields(&summary, detail, look));
    let mut columns = vec!["APPLICATION", "TARGET"];
    columns.extend(PLACEMENT);
    let rows = detail.placements.iter().map(|row| {
        let target = words::or_dash(&row.target);
        let mut cells = vec![row.application.as_str().into(), target.into()];
        cells.extend(placement(row, look));
        cells
    });
    page.paragraph(Text::table(look.headers, &columns, rows.collect()));
    let rows = detail
        .objects
        .iter()
        .map(|row| (row.application.as_str(), row));
    page.paragraph(objects("APPLICATION", rows, look));
    page.paragraph(pauses::pauses(&detail.pauses, look));
    page.paragraph(problems(&detail.problems, look));
    page
}

fn fields(
    summary: &v1::ClusterSummary,
    detail: &v1::ClusterDetail,
    look: Look,
) -> Vec<(&'static str, Cell)> {
    let ago = |ms| format!("{} ago", words::age(ms, look.now));
    let mut fields: Vec<(&'static str, Cell)> = vec![
        ("Name", summary.name.as_str().into()),
        ("Labels", words::labels(&summary.labels).into()),
        (
            "Connection",
            words::connection(&summary.connection, summary.since_ms, look.now),
        ),
        (
            "Sync",
            words::status_if_heard(&summary.connection, &summary.sync),
        ),
        (
            "Health",
            words::status_if_heard(&summary.connection, &summary.health),
        ),
        ("Generation", generation(summary).into()),
    ];
    if summary.last_seen_ms != 0 {
        fields.push(("Last seen", ago(summary.last_seen_ms).into()));
        let versions = (
            words::or_dash(&summary.agent_version),
            words::or_dash(&summary.kubernetes_version),
        );
        fields.push(("Agent", versions.0.into()));
        fields.push(("Kubernetes", versions.1.into()));
        fields.push(("Cluster UID", words::or_dash(&detail.cluster_uid).into()));
    }
    if detail.certificate_expires_ms != 0 {
        fields.push(("Certificate", certificate(detail, look)));
    }
    if !summary.removals_held.is_empty() {
        let why = format!("wait: {}", summary.removals_held);
        fields.push(("Removals", Cell::new(why, Tone::Bad)));
    }
    if !summary.message.is_empty() {
        let tone = match summary.connection.as_str() {
            SILENT => Tone::Bad,
            _ => Tone::Plain,
        };
        fields.push(("Message", Cell::new(&summary.message, tone)));
    }
    fields
}

fn certificate(detail: &v1::ClusterDetail, look: Look) -> Cell {
    let left = (detail.certificate_expires_ms - look.now.0) / 1000;
    let until = words::moment(detail.certificate_expires_ms);
    match left {
        ..=0 => Cell::new(
            format!("expired {until}: join the cluster again"),
            Tone::Bad,
        ),
        left => format!("valid for {}, until {until}", words::span(left)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn silent_clusters_show_since_when_and_never_their_last_green() {
        let fleet = example::fleet();
        let table = clusters(&fleet.clusters, example::look());
        insta::assert_snapshot!(table.paint(Paper::default()), @r"
        NAME   CONNECTION            SYNC      HEALTH    SYNCED   HEALTHY   MESSAGE
        eu-1   Connected             Drifted   Current   1/2      2/2       shop: 1 of 12 objects differs; removals wait: commit 4be1c2a did not render whole
        us-1   Connected             Synced    Current   2/2      2/2
        us-2   Unknown (since 12m)   Unknown   Unknown   -/2      -/2
        us-3   Never joined          Unknown   Unknown   -/1      -/1
        ");
    }

    #[test]
    fn wide_has_versions_generations_and_labels() {
        let look = Look {
            wide: true,
            headers: false,
            ..example::look()
        };
        let table = clusters(&example::fleet().clusters, look);
        insta::assert_snapshot!(table.paint(Paper::default()), @r"
        eu-1   Connected             Drifted   Current   1/2   2/2   3h12m   3s    41 of 42   v1.37.1   0.1.0   region=eu   shop: 1 of 12 objects differs; removals wait: commit 4be1c2a did not render whole
        us-1   Connected             Synced    Current   2/2   2/2   3h12m   3s    42         v1.37.1   0.1.0   region=us
        us-2   Unknown (since 12m)   Unknown   Unknown   -/2   -/2   12m     12m   42         v1.37.1   0.1.0   region=us
        us-3   Never joined          Unknown   Unknown   -/1   -/1   2d2h    -     0          -         -       -
        ");
    }

    #[test]
    fn one_cluster_in_detail() {
        let page = cluster(&example::cluster(), example::look());
        insta::assert_snapshot!(page.paint(Paper::default()), @r"
        Name:          eu-1
        Labels:        region=eu
        Connection:    Connected
        Sync:          Drifted
        Health:        Current
        Generation:    41 of 42
        Last seen:     3s ago
        Agent:         0.1.0
        Kubernetes:    v1.37.1
        Cluster UID:   7d9c1f5e-8a52-4a0e-bb0e-0f2f2f1f9a11
        Certificate:   valid for 27d, until 2026-12-20T11:06:40Z
        Removals:      wait: commit 4be1c2a did not render whole
        Message:       shop: 1 of 12 objects differs

        APPLICATION   TARGET       SYNC          HEALTH    OBJECTS   REVISION   SINCE   MESSAGE
        monitoring    production   Progressing   Current   12/12     1fe08d3    1h15m   has not reported the newest state yet
        shop          production   Drifted       Current   11/12     4be1c2a    1h15m   1 of 12 objects differs

        OBJECT                NAMESPACE   APPLICATION   SYNC      HEALTH       SINCE   MESSAGE
        deployment.apps/web   shop        shop          Drifted   InProgress   5m      repair is off; .spec.replicas and 1 more changed by kubectl-edit
        ");
    }

    #[test]
    fn a_silent_cluster_in_detail_knows_nothing_to_be_good() {
        let mut detail = example::cluster();
        let summary = detail.summary.as_mut().unwrap();
        summary.connection = SILENT.into();
        summary.sync = "Synced".into();
        for placement in &mut detail.placements {
            placement.connection = SILENT.into();
        }
        detail.objects.clear();
        let page = cluster(&detail, example::look()).paint(Paper::default());
        assert!(
            !page.contains("Synced") && !page.contains("Current"),
            "{page}"
        );
        assert!(page.contains("Unknown (since 3h12m)"), "{page}");
    }
}
