//! What the agent of the example's drifted cluster answers.

use muster_proto::wire::v1;

use super::{NEWEST, ago, drifted_object};

fn field(path: &str, live: Option<&str>, desired: Option<&str>, how: &str) -> v1::FieldComparison {
    let manager = match how {
        "same" => "muster",
        "ignored" => "tuner",
        _ => "kubectl-edit",
    };
    v1::FieldComparison {
        path: path.into(),
        desired: desired.map(str::to_owned),
        live: live.map(str::to_owned),
        manager: manager.into(),
        at_ms: ago(5),
        how: how.into(),
        cut: false,
    }
}

fn of(kind: &str, name: &str, change: &str) -> v1::ObjectComparison {
    v1::ObjectComparison {
        status: Some(v1::ObjectStatus {
            key: Some(v1::ObjectKey {
                group: String::new(),
                kind: kind.into(),
                namespace: "shop".into(),
                name: name.into(),
            }),
            application: "shop".into(),
            sync: "Drifted".into(),
            ..v1::ObjectStatus::default()
        }),
        change: change.into(),
        ..v1::ObjectComparison::default()
    }
}

/// `shop` on `eu-1`, one of each thing that can be found.
pub(crate) fn comparison() -> v1::Comparison {
    let web = v1::ObjectComparison {
        status: Some(drifted_object()),
        change: "update".into(),
        held: "self-heal is off (sync.selfHeal)".into(),
        fields: vec![
            field(".spec.paused", Some("false"), Some("false"), "same"),
            field(".spec.replicas", Some("5"), Some("3"), "changed"),
            field(
                ".spec.template.spec.containers[name=\"debug\"]",
                Some("{\"image\":\"busybox\",\"name\":\"debug\"}"),
                None,
                "added",
            ),
            field(".spec.minReadySeconds", Some("9"), Some("1"), "ignored"),
        ],
        live: "{\"kind\":\"Deployment\",\"spec\":{\"replicas\":5}}".into(),
        ..v1::ObjectComparison::default()
    };
    let settings = v1::ObjectComparison {
        desired: "{\"data\":{\"a\":\"1\"},\"kind\":\"ConfigMap\"}".into(),
        ..of("ConfigMap", "settings", "create")
    };
    let secret = v1::ObjectComparison {
        fields: vec![field(
            ".data.password",
            Some("(secret)"),
            Some("(secret)"),
            "changed",
        )],
        ..of("Secret", "login", "update")
    };
    let refused = v1::ObjectComparison {
        error: "spec.ports: Required value".into(),
        ..of("Service", "web", "refused")
    };
    v1::Comparison {
        cluster: "eu-1".into(),
        revision: NEWEST.into(),
        objects: vec![
            web,
            settings,
            secret,
            of("ConfigMap", "old", "delete"),
            refused,
        ],
        equal: 8,
        left_out: 2,
        message: String::new(),
    }
}
