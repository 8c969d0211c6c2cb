//! A plan with one of everything, for tests.

use muster_decide::plan::{
    Action, Diff, DiffKind, DryRun, FieldChange, ObjectChange, Outcome, Plan, Tried,
};
use muster_decide::problem::Problem;
use muster_decide::{Location, Waiting};
use muster_proto::{Approval, ClusterName, Digest, ObjectKey};

/// What it is of.
pub(crate) const OF: &str = "the merge of raise-replicas (4be1c2a) into main (1fe08d3)";

/// Of a fleet of 12,431 clusters.
pub(crate) fn plan() -> Plan {
    Plan {
        clusters: 12_431,
        diffs: vec![
            Diff {
                application: "shop".parse().unwrap(),
                kind: DiffKind::Changed,
                clusters: clusters(12_000),
                settings: vec![field(".prune", Some("true"), Some("false"))],
                objects: vec![
                    change("Deployment", "web", vec![
                        field(".spec.replicas", Some("3"), Some("5")),
                        field(".metadata.labels.tier", None, Some("\"front\"")),
                    ]),
                    change("Secret", "token", vec![field(
                        ".data.token",
                        Some("(secret)"),
                        Some("(secret)"),
                    )]),
                    object("ConfigMap", "settings", Action::Create),
                    object("ConfigMap", "old", Action::Prune),
                    object("ConfigMap", "kept", Action::Leave),
                    ObjectChange {
                        action: Action::Refused,
                        ..change("StatefulSet", "db", vec![FieldChange {
                            immutable: true,
                            ..field(".spec.serviceName", Some("\"a\""), Some("\"b\""))
                        }])
                    },
                    object("Job", "migrate", Action::Replace),
                ],
                removals_wait: Some("application web does not render".into()),
                dry_run: None,
            },
            Diff {
                application: "monitoring".parse().unwrap(),
                kind: DiffKind::Gained,
                clusters: clusters(2),
                settings: Vec::new(),
                objects: vec![object("DaemonSet", "agent", Action::Create)],
                removals_wait: None,
                dry_run: None,
            },
            Diff {
                application: "old".parse().unwrap(),
                kind: DiffKind::Lost,
                clusters: clusters(1),
                settings: Vec::new(),
                objects: vec![object("ConfigMap", "old", Action::Prune)],
                removals_wait: None,
                dry_run: None,
            },
        ],
        waiting: vec![Waiting {
            approval: Approval {
                application: "logging".parse().unwrap(),
                digest: Digest::of(["logging"]),
            },
            clusters: clusters(40),
            message: "application logging would leave 40 of 40 clusters: it stays until `muster approve logging`".into(),
        }],
        problems: vec![Problem {
            variants: Vec::new(),
            application: Some("web".parse().unwrap()),
            cluster: None,
            location: Some(Location::new("apps/web/muster.yaml", 8)),
            message: "the repository has no folder dev".into(),
        }],
        unheard: Vec::new(),
    }
}

/// The same, put to API servers.
pub(crate) fn tried() -> Plan {
    let mut plan = plan();
    plan.problems.clear();
    let tried = |kind: &str, name: &str, outcome, message: &str| Tried {
        object: object(kind, name, Action::Change).object,
        outcome,
        message: message.into(),
    };
    plan.diffs[0].objects.truncate(3);
    plan.diffs[0].dry_run = Some(DryRun {
        cluster: Some("eu-00002".parse().unwrap()),
        taken: 1,
        objects: vec![
            tried(
                "Deployment",
                "web",
                Outcome::Refused,
                "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'all' denied request: at most 4 replicas",
            ),
            tried(
                "ConfigMap",
                "settings",
                Outcome::NotTried,
                "its Namespace shop is created by this plan",
            ),
        ],
        incomplete: None,
    });
    plan.diffs[1].dry_run = Some(DryRun {
        incomplete: Some("none of its 2 clusters is connected".into()),
        ..DryRun::default()
    });
    plan
}

fn clusters(count: usize) -> Vec<ClusterName> {
    let names = (1..=count).map(|at| format!("eu-{at:05}").parse().unwrap());
    names.collect()
}

fn field(path: &str, before: Option<&str>, after: Option<&str>) -> FieldChange {
    FieldChange {
        path: path.into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        immutable: false,
    }
}

fn change(kind: &str, name: &str, fields: Vec<FieldChange>) -> ObjectChange {
    ObjectChange {
        fields,
        ..object(kind, name, Action::Change)
    }
}

fn object(kind: &str, name: &str, action: Action) -> ObjectChange {
    let group = match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" => "apps",
        "Job" => "batch",
        _ => "",
    };
    ObjectChange {
        object: ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: "shop".into(),
            name: name.into(),
        },
        action,
        fields: Vec::new(),
    }
}
