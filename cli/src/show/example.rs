//! A small fleet in which one of everything is wrong, for tests.

mod comparison;
mod plan;

use muster_proto::Timestamp;
use muster_proto::wire::v1;

use super::Look;
pub(crate) use comparison::comparison;
pub(crate) use plan::{OF, plan, tried};

const NOW: i64 = 1_795_432_000_000;
const MINUTE: i64 = 60_000;
const NEWEST: &str = "4be1c2a900fe4be1c2a900fe4be1c2a900fe4be1";
const BEFORE: &str = "1fe08d3a5b1e1fe08d3a5b1e1fe08d3a5b1e1fe0";

/// Plain tables at the example's time.
pub(crate) fn look() -> Look {
    Look {
        wide: false,
        headers: true,
        now: Timestamp(NOW),
    }
}

fn ago(minutes: i64) -> i64 {
    NOW - minutes * MINUTE
}

/// One of each thing that can wait for a person's word.
pub(crate) fn waiting() -> Vec<v1::Waiting> {
    let waiting = |id: &str, application: &str, clusters: &[&str], message: &str| v1::Waiting {
        id: id.into(),
        what: id.split('/').next().unwrap_or_default().into(),
        application: application.into(),
        clusters: clusters.iter().map(ToString::to_string).collect(),
        revision: id.strip_prefix("emptied/").unwrap_or_default().into(),
        message: message.into(),
        since_ms: ago(5),
    };
    vec![
        waiting(
            &format!("emptied/{NEWEST}"),
            "",
            &[],
            "all applications would go",
        ),
        waiting(
            "leaves/shop/1",
            "shop",
            &["eu-1", "us-2"],
            "application shop would leave 2 of 40 clusters",
        ),
        waiting(
            "prune/monitoring/2",
            "monitoring",
            &["eu-1"],
            "30 objects of application monitoring left Git",
        ),
        waiting(
            "restored/eu-1",
            "",
            &["eu-1"],
            "the agent of eu-1 is ahead of the hub's store",
        ),
    ]
}

/// Everything as it should be: two clusters, two applications.
pub(crate) fn well() -> v1::Fleet {
    let cluster = |name: &str, region: &str| v1::ClusterSummary {
        name: name.into(),
        labels: [("region".to_owned(), region.to_owned())].into(),
        connection: "connected".into(),
        since_ms: ago(192),
        last_seen_ms: NOW - 3_000,
        agent_version: "0.1.0".into(),
        kubernetes_version: "v1.37.1".into(),
        generation: 42,
        accepted_generation: 42,
        sync: "Synced".into(),
        health: "Current".into(),
        applications: 2,
        applications_synced: 2,
        applications_healthy: 2,
        message: String::new(),
        removals_held: String::new(),
        applications_paused: 0,
    };
    let application = |name: &str| v1::ApplicationSummary {
        name: name.into(),
        location: format!("apps/{name}/muster.yaml:1"),
        revision: NEWEST.into(),
        clusters: 2,
        clusters_synced: 2,
        clusters_healthy: 2,
        clusters_unknown: 0,
        sync: "Synced".into(),
        health: "Current".into(),
        message: String::new(),
        clusters_paused: 0,
        note: String::new(),
    };
    v1::Fleet {
        source: Some(v1::Source {
            url: "https://git.example/fleet.git".into(),
            branch: "main".into(),
            revision: NEWEST.into(),
            adopted_revision: NEWEST.into(),
            fetched_at_ms: NOW - 12_000,
            error: String::new(),
            subject: "Raise the shop's replicas".into(),
        }),
        clusters: vec![cluster("eu-1", "eu"), cluster("us-1", "us")],
        applications: vec![application("monitoring"), application("shop")],
        problems: Vec::new(),
        waiting: Vec::new(),
        pauses: Vec::new(),
        repositories: Vec::new(),
    }
}

/// One cluster drifts, one is silent, one never came; one application is broken in Git.
pub(crate) fn fleet() -> v1::Fleet {
    let mut fleet = well();
    let source = fleet.source.as_mut().unwrap();
    source.adopted_revision = BEFORE.into();
    fleet.clusters[0].sync = "Drifted".into();
    fleet.clusters[0].applications_synced = 1;
    fleet.clusters[0].accepted_generation = 41;
    fleet.clusters[0].message = "shop: 1 of 12 objects differs".into();
    fleet.clusters[0].removals_held = "commit 4be1c2a did not render whole".into();
    let mut silent = fleet.clusters[1].clone();
    silent.name = "us-2".into();
    silent.connection = "unknown".into();
    silent.since_ms = ago(12);
    silent.last_seen_ms = ago(12);
    let never = v1::ClusterSummary {
        name: "us-3".into(),
        connection: "never-joined".into(),
        since_ms: ago(60 * 50),
        applications: 1,
        sync: "Unknown".into(),
        health: "Unknown".into(),
        ..v1::ClusterSummary::default()
    };
    fleet.clusters.extend([silent, never]);
    let shop = &mut fleet.applications[1];
    shop.clusters = 4;
    shop.clusters_unknown = 2;
    shop.clusters_synced = 1;
    shop.sync = "Drifted".into();
    shop.message = "eu-1: 1 of 12 objects differs".into();
    fleet.problems = vec![v1::Problem {
        application: "monitoring".into(),
        variants: Vec::new(),
        cluster: String::new(),
        location: "apps/monitoring/muster.yaml:12".into(),
        message: "unknown field `namspace`; did you mean `namespace`?".into(),
        since_ms: ago(5),
    }];
    fleet
}

fn status(application: &str, sync: &str) -> v1::ApplicationStatus {
    v1::ApplicationStatus {
        application: application.into(),
        revision: NEWEST.into(),
        sync: sync.into(),
        health: "Current".into(),
        objects: 12,
        synced: 12,
        healthy: 12,
        since_ms: ago(75),
        ..v1::ApplicationStatus::default()
    }
}

fn placement(application: &str, cluster: &str, sync: &str) -> v1::Placement {
    v1::Placement {
        application: application.into(),
        cluster: cluster.into(),
        target: "production".into(),
        desired_revision: NEWEST.into(),
        connection: "connected".into(),
        known_since_ms: NOW - 3_000,
        current: true,
        status: Some(status(application, sync)),
        paused_until_ms: 0,
    }
}

fn drifted() -> v1::Placement {
    let mut row = placement("shop", "eu-1", "Drifted");
    let status = row.status.as_mut().unwrap();
    status.synced = 11;
    status.message = "1 of 12 objects differs".into();
    row
}

fn drifted_object() -> v1::ObjectStatus {
    v1::ObjectStatus {
        key: Some(v1::ObjectKey {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "web".into(),
        }),
        application: "shop".into(),
        sync: "Drifted".into(),
        health: "InProgress".into(),
        message: "repair is off".into(),
        since_ms: ago(5),
        last_drift: Some(v1::Drift {
            kind: "changed".into(),
            fields: vec![".spec.replicas".into(), ".spec.paused".into()],
            manager: "kubectl-edit".into(),
            at_ms: ago(5),
            repaired_at_ms: 0,
            count: 3,
            changes: vec![v1::FieldChange {
                path: ".spec.replicas".into(),
                desired: Some("3".into()),
                live: Some("5".into()),
            }],
        }),
    }
}

/// `eu-1` of [`fleet`].
pub(crate) fn cluster() -> v1::ClusterDetail {
    let mut behind = placement("monitoring", "eu-1", "Synced");
    behind.current = false;
    behind.status.as_mut().unwrap().revision = BEFORE.into();
    v1::ClusterDetail {
        summary: Some(fleet().clusters[0].clone()),
        placements: vec![behind, drifted()],
        objects: vec![drifted_object()],
        cluster_uid: "7d9c1f5e-8a52-4a0e-bb0e-0f2f2f1f9a11".into(),
        certificate_expires_ms: NOW + 27 * 24 * 60 * MINUTE,
        problems: Vec::new(),
        pauses: Vec::new(),
    }
}

/// `shop` of [`fleet`].
pub(crate) fn application() -> v1::ApplicationDetail {
    let mut silent = placement("shop", "us-2", "Synced");
    silent.connection = "unknown".into();
    silent.known_since_ms = ago(12);
    let mut never = placement("shop", "us-3", "Synced");
    never.connection = "never-joined".into();
    never.known_since_ms = 0;
    never.status = None;
    v1::ApplicationDetail {
        summary: Some(fleet().applications[1].clone()),
        placements: vec![
            drifted(),
            placement("shop", "us-1", "Synced"),
            silent,
            never,
        ],
        problems: Vec::new(),
        objects: vec![v1::ClusterObject {
            cluster: "eu-1".into(),
            object: Some(drifted_object()),
        }],
        pauses: Vec::new(),
    }
}

/// One drift that stands and one that was repaired.
pub(crate) fn drift() -> Vec<v1::ClusterObject> {
    let mut repaired = drifted_object();
    repaired.key = Some(v1::ObjectKey {
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: "shop".into(),
        name: "settings".into(),
    });
    repaired.last_drift = Some(v1::Drift {
        kind: "missing".into(),
        fields: Vec::new(),
        manager: String::new(),
        at_ms: ago(191),
        repaired_at_ms: ago(190),
        count: 1,
        changes: Vec::new(),
    });
    [drifted_object(), repaired]
        .map(|object| v1::ClusterObject {
            cluster: "eu-1".into(),
            object: Some(object),
        })
        .into()
}
