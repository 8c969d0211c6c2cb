//! `muster status`: the fleet on one screen, what is wrong first.

use muster_proto::wire::v1;

use super::applications::application_columns;
use super::clusters::cluster_columns;
use super::pauses::pauses;
use super::rows::{SCREENFUL, more, problems, waiting};
use super::words::{self, CONNECTED, NEVER_JOINED, REMOVED, REMOVING, SILENT};
use super::{Look, applications, clusters};
use crate::text::{Cell, Text, Tone};

/// The page.
pub(crate) fn status(fleet: &v1::Fleet, look: Look) -> Text {
    let mut page = Text::fields(source(fleet, look));
    page.paragraph(repository_table(fleet, look));
    page.paragraph(application_table(fleet, look));
    page.paragraph(cluster_table(fleet, look));
    page.paragraph(waiting(&fleet.waiting, look));
    page.paragraph(pauses(&fleet.pauses, look));
    page.paragraph(problems(&fleet.problems, look));
    page
}

/// Is Git read, adopted and true everywhere? What `status --check` answers.
pub(crate) fn is_well(fleet: &v1::Fleet) -> bool {
    let source = fleet.source.clone().unwrap_or_default();
    source.error.is_empty()
        && !source.revision.is_empty()
        && source.revision == source.adopted_revision
        && fleet.problems.is_empty()
        && fleet.waiting.is_empty()
        && fleet.repositories.iter().all(repository_is_well)
        && fleet.clusters.iter().all(cluster_is_well)
        && fleet.applications.iter().all(application_is_well)
}

/// A cluster that was told nothing yet has nothing to be wrong about; one that is silent is not known to be well.
fn cluster_is_well(cluster: &v1::ClusterSummary) -> bool {
    let as_told = cluster.sync == "Synced" && cluster.health == "Current";
    let speaks = cluster.connection == CONNECTED;
    let nothing_to_tell = cluster.applications == 0 && !speaks;
    match cluster.connection.as_str() {
        REMOVING | REMOVED => true,
        SILENT => false,
        _ => cluster.removals_held.is_empty() && (nothing_to_tell || (speaks && as_told)),
    }
}

fn repository_is_well(repository: &v1::Repository) -> bool {
    repository.error.is_empty() && !repository.revision.is_empty()
}

fn application_is_well(application: &v1::ApplicationSummary) -> bool {
    let as_told = application.sync == "Synced" && application.health == "Current";
    application.clusters == 0 || (as_told && application.clusters_unknown == 0)
}

fn source(fleet: &v1::Fleet, look: Look) -> Vec<(&'static str, Cell)> {
    let source = fleet.source.clone().unwrap_or_default();
    let mut fields = vec![(
        "Repository",
        format!("{} ({})", source.url, source.branch).into(),
    )];
    match source.revision.as_str() {
        "" => fields.push(("Revision", Cell::new("none fetched yet", Tone::Busy))),
        revision => {
            let subject = format!("{} {}", words::revision(revision), source.subject);
            fields.push(("Revision", subject.into()));
            let ago = format!("{} ago", words::age(source.fetched_at_ms, look.now));
            fields.push(("Fetched", ago.into()));
        }
    }
    if !source.error.is_empty() {
        fields.push(("Fetch error", Cell::new(&source.error, Tone::Bad)));
    }
    if source.adopted_revision != source.revision {
        let adopted = match source.adopted_revision.as_str() {
            "" => "none yet".to_owned(),
            revision if fleet.problems.is_empty() && !fleet.waiting.is_empty() => format!(
                "{}: what waits for approval stays as it was there",
                words::revision(revision)
            ),
            revision => format!(
                "{}: what is broken in the newest stays as it was there, and nothing is removed",
                words::revision(revision)
            ),
        };
        fields.push(("Adopted", Cell::new(adopted, Tone::Bad)));
    }
    fields.push(("Clusters", clusters_in_words(fleet).into()));
    fields.push(("Applications", applications_in_words(fleet).into()));
    fields
}

/// `5: 3 connected, 1 unknown, 1 never joined; all that is known is Synced and Current`.
fn clusters_in_words(fleet: &v1::Fleet) -> String {
    let count = |word: &str| {
        fleet
            .clusters
            .iter()
            .filter(|c| c.connection == word)
            .count()
    };
    let parts: Vec<String> = [
        (CONNECTED, "connected"),
        (SILENT, "unknown"),
        (NEVER_JOINED, "never joined"),
        (REMOVING, "being removed"),
        (REMOVED, "removed"),
    ]
    .into_iter()
    .map(|(word, text)| (count(word), text))
    .filter(|(count, _)| *count > 0)
    .map(|(count, text)| format!("{count} {text}"))
    .collect();
    in_words(fleet.clusters.len(), &parts.join(", "))
}

fn applications_in_words(fleet: &v1::Fleet) -> String {
    let all = fleet.applications.len();
    let idle = fleet.applications.iter().filter(|a| a.clusters == 0);
    let (idle, well) = (idle.count(), |a: &&_| application_is_well(a));
    let well = fleet.applications.iter().filter(well).count() - idle;
    let well = match well {
        well if well == all => "all Synced and Current".to_owned(),
        well => format!("{well} Synced and Current"),
    };
    match idle {
        0 => in_words(all, &well),
        idle if idle == all => in_words(all, "on no cluster yet"),
        idle => in_words(all, &format!("{well}, {idle} on no cluster")),
    }
}

fn in_words(count: usize, parts: &str) -> String {
    match count {
        0 => "none".to_owned(),
        count => format!("{count}: {parts}"),
    }
}

/// Every repository beside the fleet's, those that are not well first; a screenful of them.
fn repository_table(fleet: &v1::Fleet, look: Look) -> Text {
    let mut rows: Vec<&v1::Repository> = fleet.repositories.iter().collect();
    rows.sort_by_key(|repository| repository_is_well(repository));
    let shown = rows.iter().take(SCREENFUL).map(|repository| {
        let followed = match repository.picked.as_str() {
            "" => repository.r#ref.clone(),
            picked => format!("{picked} ({})", repository.r#ref),
        };
        let message = match repository.error.as_str() {
            "" if repository.revision.is_empty() => Cell::new("not fetched yet", Tone::Busy),
            "" => "".into(),
            error => Cell::new(error, Tone::Bad),
        };
        vec![
            repository.name.as_str().into(),
            repository.url.as_str().into(),
            followed.into(),
            words::revision(&repository.revision).into(),
            words::age(repository.since_ms, look.now).into(),
            message,
        ]
    });
    let columns = ["REPOSITORY", "URL", "REF", "REVISION", "SINCE", "MESSAGE"];
    let mut text = Text::table(look.headers, &columns, shown.collect());
    text.append(more(rows.len(), "muster status -o json"));
    text
}

/// Every application, those that are not well first; a screenful of them.
fn application_table(fleet: &v1::Fleet, look: Look) -> Text {
    let mut rows: Vec<&v1::ApplicationSummary> = fleet.applications.iter().collect();
    rows.sort_by_key(|application| application_is_well(application));
    let shown = rows.iter().take(SCREENFUL);
    let mut text = Text::table(
        look.headers,
        &application_columns("APPLICATION", look),
        shown.map(|row| applications::row(row, look)).collect(),
    );
    text.append(more(rows.len(), "muster apps"));
    text
}

/// The clusters that need a look.
fn cluster_table(fleet: &v1::Fleet, look: Look) -> Text {
    let rows = fleet
        .clusters
        .iter()
        .filter(|cluster| !cluster_is_well(cluster));
    let rows: Vec<&v1::ClusterSummary> = rows.collect();
    let shown = rows.iter().take(SCREENFUL);
    let mut text = Text::table(
        look.headers,
        &cluster_columns("CLUSTER", look),
        shown.map(|row| clusters::row(row, look)).collect(),
    );
    text.append(more(rows.len(), "muster clusters"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;

    fn page(fleet: &v1::Fleet) -> String {
        status(fleet, example::look()).paint(crate::text::Paper::default())
    }

    #[test]
    fn what_is_wrong_is_seen_at_once() {
        insta::assert_snapshot!(page(&example::fleet()), @r"
        Repository:     https://git.example/fleet.git (main)
        Revision:       4be1c2a Raise the shop's replicas
        Fetched:        12s ago
        Adopted:        1fe08d3: what is broken in the newest stays as it was there, and nothing is removed
        Clusters:       4: 2 connected, 1 unknown, 1 never joined
        Applications:   2: 1 Synced and Current

        APPLICATION   SYNC      HEALTH    SYNCED   HEALTHY   UNKNOWN   REVISION   MESSAGE
        shop          Drifted   Current   1/4      2/4       2         4be1c2a    eu-1: 1 of 12 objects differs
        monitoring    Synced    Current   2/2      2/2       0         4be1c2a

        CLUSTER   CONNECTION            SYNC      HEALTH    SYNCED   HEALTHY   MESSAGE
        eu-1      Connected             Drifted   Current   1/2      2/2       shop: 1 of 12 objects differs; removals wait: commit 4be1c2a did not render whole
        us-2      Unknown (since 12m)   Unknown   Unknown   -/2      -/2
        us-3      Never joined          Unknown   Unknown   -/1      -/1

        PROBLEM AT                       APPLICATION   VARIANT   CLUSTER   SINCE   MESSAGE
        apps/monitoring/muster.yaml:12   monitoring    -         -         5m      unknown field `namspace`; did you mean `namespace`?
        ");
    }

    #[test]
    fn an_application_on_no_cluster_is_not_called_synced() {
        let mut fleet = example::well();
        fleet.applications[0].clusters = 0;
        assert_eq!(
            applications_in_words(&fleet),
            "2: 1 Synced and Current, 1 on no cluster"
        );
        fleet.applications[1].clusters = 0;
        assert_eq!(applications_in_words(&fleet), "2: on no cluster yet");
    }

    #[test]
    fn a_fleet_that_is_well_is_a_few_lines() {
        let fleet = example::well();
        insta::assert_snapshot!(page(&fleet), @r"
        Repository:     https://git.example/fleet.git (main)
        Revision:       4be1c2a Raise the shop's replicas
        Fetched:        12s ago
        Clusters:       2: 2 connected
        Applications:   2: all Synced and Current

        APPLICATION   SYNC     HEALTH    SYNCED   HEALTHY   UNKNOWN   REVISION   MESSAGE
        monitoring    Synced   Current   2/2      2/2       0         4be1c2a
        shop          Synced   Current   2/2      2/2       0         4be1c2a
        ");
        assert!(is_well(&fleet));
    }

    #[test]
    fn what_waits_for_a_word_is_listed_and_is_not_well() {
        let mut fleet = example::well();
        fleet.waiting = example::waiting();
        let source = fleet.source.as_mut().unwrap();
        source.adopted_revision = source.revision.replace("4be1", "1fe0");
        insta::assert_snapshot!(page(&fleet), @r"
        Repository:     https://git.example/fleet.git (main)
        Revision:       4be1c2a Raise the shop's replicas
        Fetched:        12s ago
        Adopted:        1fe0c2a: what waits for approval stays as it was there
        Clusters:       2: 2 connected
        Applications:   2: all Synced and Current

        APPLICATION   SYNC     HEALTH    SYNCED   HEALTHY   UNKNOWN   REVISION   MESSAGE
        monitoring    Synced   Current   2/2      2/2       0         4be1c2a
        shop          Synced   Current   2/2      2/2       0         4be1c2a

        WAITS      APPLICATION   CLUSTERS   SINCE   MESSAGE
        emptied    -             all        5m      all applications would go
        leaves     shop          2          5m      application shop would leave 2 of 40 clusters
        prune      monitoring    eu-1       5m      30 objects of application monitoring left Git
        restored   -             eu-1       5m      the agent of eu-1 is ahead of the hub's store
        ");
        source_is_adopted(&mut fleet);
        assert!(!is_well(&fleet));
        fleet.waiting.clear();
        assert!(is_well(&fleet));
    }

    fn source_is_adopted(fleet: &mut v1::Fleet) {
        let source = fleet.source.as_mut().unwrap();
        source.adopted_revision.clone_from(&source.revision);
    }

    #[test]
    fn a_hub_that_has_fetched_nothing_says_why() {
        let fleet = v1::Fleet {
            source: Some(v1::Source {
                url: "https://git.example/fleet.git".into(),
                branch: "main".into(),
                error: "401: the credentials are refused".into(),
                ..v1::Source::default()
            }),
            ..v1::Fleet::default()
        };
        insta::assert_snapshot!(page(&fleet), @r"
        Repository:     https://git.example/fleet.git (main)
        Revision:       none fetched yet
        Fetch error:    401: the credentials are refused
        Clusters:       none
        Applications:   none
        ");
        assert!(!is_well(&fleet));
    }

    #[test]
    fn every_repository_is_shown_and_one_that_is_not_well_first() {
        let repository = |name: &str, error: &str| v1::Repository {
            name: name.into(),
            url: format!("https://git.example/{name}.git"),
            r#ref: ">=1.2 <2".into(),
            picked: "v1.4.0".into(),
            revision: "0123456789".into(),
            since_ms: example::look().now.0 - 60_000,
            error: error.into(),
            ..v1::Repository::default()
        };
        let new = v1::Repository {
            name: "new".into(),
            url: "https://git.example/new.git".into(),
            r#ref: "main".into(),
            ..v1::Repository::default()
        };
        let mut fleet = example::well();
        fleet.repositories = vec![repository("bare", ""), repository("shop", "401")];
        fleet.repositories.push(new);
        let page = page(&fleet);
        let table: Vec<&str> = page
            .lines()
            .skip_while(|line| !line.starts_with("REPOSITORY"))
            .take_while(|line| !line.is_empty())
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        REPOSITORY   URL                            REF                 REVISION   SINCE   MESSAGE
        shop         https://git.example/shop.git   v1.4.0 (>=1.2 <2)   0123456    1m      401
        new          https://git.example/new.git    main                -          -       not fetched yet
        bare         https://git.example/bare.git   v1.4.0 (>=1.2 <2)   0123456    1m
        ");
        assert!(!is_well(&fleet));
        fleet.repositories.truncate(1);
        assert!(is_well(&fleet));
    }

    #[test]
    fn a_large_fleet_stays_one_screen() {
        let mut fleet = example::fleet();
        let silent = fleet.clusters.iter().find(|c| c.connection == SILENT);
        fleet.clusters = vec![silent.unwrap().clone(); 500];
        fleet.applications = vec![fleet.applications[0].clone(); 300];
        let page = page(&fleet);
        assert!(page.lines().count() < 50, "{page}");
        assert!(page.contains("... and 490 more: muster clusters"), "{page}");
        assert!(page.contains("... and 290 more: muster apps"), "{page}");
    }

    #[test]
    fn the_check_fails_for_each_single_thing_that_is_not_well() {
        type Breaks = fn(&mut v1::Fleet);
        let broken: [(&str, Breaks); 9] = [
            ("fetch", |f| f.source.as_mut().unwrap().error = "x".into()),
            ("adopted", |f| {
                f.source.as_mut().unwrap().adopted_revision = "x".into()
            }),
            ("nothing fetched", |f| f.source = None),
            ("problem", |f| f.problems.push(v1::Problem::default())),
            ("silent", |f| f.clusters[0].connection = SILENT.into()),
            ("sync", |f| f.clusters[0].sync = "Drifted".into()),
            ("health", |f| f.clusters[0].health = "Suspended".into()),
            ("held", |f| f.clusters[0].removals_held = "x".into()),
            ("application", |f| {
                f.applications[0].sync = "Progressing".into()
            }),
        ];
        for (what, break_it) in broken {
            let mut fleet = example::well();
            break_it(&mut fleet);
            assert!(!is_well(&fleet), "{what}");
        }
    }

    #[test]
    fn a_cluster_that_never_joined_and_runs_nothing_is_no_alarm() {
        let mut fleet = example::well();
        fleet.clusters.push(v1::ClusterSummary {
            name: "new".into(),
            connection: NEVER_JOINED.into(),
            ..v1::ClusterSummary::default()
        });
        assert!(is_well(&fleet));
        fleet.clusters.last_mut().unwrap().applications = 1;
        assert!(!is_well(&fleet));
    }
}
