//! What a reviewer is told, commit by commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::DigestKey;
use serde_json::json;

use super::*;
use crate::placement::Placed;
use crate::render::{Cache, Tools};
use crate::snapshot::{Snapshot, Sources};

/// A fleet as it was last decided.
#[derive(Default)]
struct Hub {
    last_good: LastGood,
}

const MEMBERS: [(&str, &str); 4] = [
    ("dev-1", "dev"),
    ("eu-1", "prod"),
    ("eu-2", "prod"),
    ("eu-3", "prod"),
];

impl Hub {
    fn would(&self, files: &[(&str, &str)]) -> Decision {
        let sources = Sources::from(Snapshot::of("r", files.iter().copied()));
        let members = MEMBERS.map(|(name, stage)| {
            let labels = BTreeMap::from([("stage".to_owned(), stage.to_owned())]);
            (name.parse().unwrap(), Arc::new(labels))
        });
        let fleet = crate::model::read(&sources.fleet);
        let placed = Placed::new(fleet, &members.into(), &self.last_good);
        let mut cache = Cache::knowing([], Tools::default());
        crate::decide(
            &sources,
            &placed,
            &self.last_good,
            &BTreeSet::new(),
            &DigestKey::new([1; 32]),
            &mut cache,
        )
        .unwrap()
    }

    fn plan(&self, files: &[(&str, &str)]) -> Plan {
        Plan::new(&self.last_good, &self.would(files))
    }

    fn merge(&mut self, files: &[(&str, &str)]) {
        self.last_good = self.would(files).last_good;
    }
}

fn shown(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for diff in &plan.diffs {
        let clusters: Vec<_> = diff.clusters.iter().map(|name| name.as_str()).collect();
        let clusters = clusters.join(" ");
        lines.push(format!(
            "{} {:?} on {clusters}",
            diff.application, diff.kind
        ));
        let fields = |changes: &[FieldChange]| -> Vec<String> {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
            let changes = changes.iter().map(|change| {
                let stands = if change.immutable { " (immutable)" } else { "" };
                let (before, after) = (value(&change.before), value(&change.after));
                format!("    {}: {before} -> {after}{stands}", change.path)
            });
            changes.collect()
        };
        lines.extend(fields(&diff.settings));
        for change in &diff.objects {
            lines.push(format!("  {:?} {}", change.action, change.object));
            lines.extend(fields(&change.fields));
        }
        let waits = diff.removals_wait.iter();
        lines.extend(waits.map(|why| format!("  removals wait: {why}")));
    }
    lines.extend(plan.problems.iter().map(ToString::to_string));
    lines.join("\n")
}

const WEB: &str = "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: web}
spec:
  namespace: shop
  targets:
  - {name: prod, clusters: {matchLabels: {stage: prod}}, path: prod}
  - {name: dev, path: dev}
";
const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue, size: '1'}\n";
const TOKEN: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: token, labels: {a: b}}\nstringData: {token: hunter2}\n";

fn workload(image: &str, selector: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: {selector}}}}}\n  template:\n    metadata: {{labels: {{app: {selector}}}}}\n    spec: {{containers: [{{name: web, image: {image}}}, {{name: proxy, image: p}}]}}\n"
    )
}

#[test]
fn clusters_with_the_same_change_stand_together_and_secrets_are_masked() {
    let mut hub = Hub::default();
    let before = workload("web:1", "web");
    let files = [
        ("muster.yaml", WEB),
        ("prod/settings.yaml", SETTINGS),
        ("prod/token.yaml", TOKEN),
        ("prod/web.yaml", &before),
        ("dev/settings.yaml", SETTINGS),
    ];
    insta::assert_snapshot!(shown(&hub.plan(&files)), @r"
    web Gained on eu-1 eu-2 eu-3
      Create ConfigMap shop/settings
      Create Secret shop/token
      Create Deployment.apps shop/web
    web Gained on dev-1
      Create ConfigMap shop/settings
    ");
    hub.merge(&files);
    assert!(hub.plan(&files).is_empty());

    let (blue, after) = (SETTINGS.replace("blue", "red"), workload("web:2", "web"));
    let token = TOKEN.replace("hunter2", "hunter3").replace("a: b", "a: c");
    let changed = [
        ("muster.yaml", WEB),
        ("prod/settings.yaml", &blue),
        ("prod/token.yaml", &token),
        ("prod/web.yaml", &after),
    ];
    let plan = hub.plan(&changed);
    insta::assert_snapshot!(shown(&plan), @r#"
    web Changed on eu-1 eu-2 eu-3
      Change ConfigMap shop/settings
        .data.colour: "blue" -> "red"
      Change Secret shop/token
        .metadata.labels.a: "b" -> "c"
        .stringData.token: (secret) -> (secret)
      Change Deployment.apps shop/web
        .spec.template.spec.containers[name="web"].image: "web:1" -> "web:2"
    muster.yaml:8: the repository has no folder dev
    "#);
    let json = serde_json::to_string(&plan.diffs).unwrap();
    assert!(!json.contains("hunter"), "{json}");
}

#[test]
fn what_can_not_be_changed_in_place_is_told() {
    let mut hub = Hub::default();
    let (before, after) = (workload("web:1", "web"), workload("web:1", "other"));
    hub.merge(&[
        ("muster.yaml", WEB),
        ("prod/web.yaml", &before),
        ("dev/x.yaml", SETTINGS),
    ]);
    let plan = |muster: &str, after: &str| {
        let files = [
            ("muster.yaml", muster),
            ("prod/web.yaml", after),
            ("dev/x.yaml", SETTINGS),
        ];
        shown(&hub.plan(&files))
    };
    insta::assert_snapshot!(plan(WEB, &after), @r#"
    web Changed on eu-1 eu-2 eu-3
      Refused Deployment.apps shop/web
        .spec.selector.matchLabels.app: "web" -> "other" (immutable)
        .spec.template.metadata.labels.app: "web" -> "other"
    "#);
    let replacing = WEB.replace("  targets", "  sync: {replace: true}\n  targets");
    insta::assert_snapshot!(plan(&replacing, &after), @r#"
    web Changed on eu-1 eu-2 eu-3
        .replace: - -> true
      Replace Deployment.apps shop/web
        .spec.selector.matchLabels.app: "web" -> "other" (immutable)
        .spec.template.metadata.labels.app: "web" -> "other"
    web Changed on dev-1
        .replace: - -> true
    "#);
}

#[test]
fn what_leaves_git_is_pruned_stays_or_waits() {
    let mut hub = Hub::default();
    let many: Vec<(String, String)> = (0..12)
        .map(|at| {
            (
                format!("prod/{at}.yaml"),
                SETTINGS.replace("settings", &format!("s{at}")),
            )
        })
        .collect();
    let marked = SETTINGS.replace(
        "{name: settings}",
        "{name: kept, annotations: {muster.dev/prune: disabled}}",
    );
    let muster = ("muster.yaml", WEB);
    let dev = ("dev/settings.yaml", SETTINGS);
    let mut files = vec![muster, dev, ("prod/kept.yaml", &*marked)];
    files.extend(
        many.iter()
            .map(|(path, text)| (path.as_str(), text.as_str())),
    );
    hub.merge(&files);

    insta::assert_snapshot!(shown(&hub.plan(&files[..14])), @r"
    web Changed on eu-1 eu-2 eu-3
      Prune ConfigMap shop/s11
    ");
    // More than the budget at once, and what is marked.
    insta::assert_snapshot!(shown(&hub.plan(&[muster, dev, files[3]])), @r"
    web Changed on eu-1 eu-2 eu-3
      Leave ConfigMap shop/kept
      Prune ConfigMap shop/s1
      Prune ConfigMap shop/s10
      Prune ConfigMap shop/s11
      Prune ConfigMap shop/s2
      Prune ConfigMap shop/s3
      Prune ConfigMap shop/s4
      Prune ConfigMap shop/s5
      Prune ConfigMap shop/s6
      Prune ConfigMap shop/s7
      Prune ConfigMap shop/s8
      Prune ConfigMap shop/s9
      removals wait: 11 objects would be removed and 1 stay: that needs `muster approve web`
    ");
    // A commit that is broken elsewhere removes nothing.
    let broken = [muster, dev, files[3], ("dev/broken.yaml", "kind: [")];
    let plan = hub.plan(&broken);
    assert!(
        plan.diffs[0]
            .removals_wait
            .as_ref()
            .unwrap()
            .starts_with("application web does not render")
    );
    // Clusters that one target leaves to the next.
    let elsewhere = WEB.replace("stage: prod", "stage: test");
    insta::assert_snapshot!(shown(&hub.plan(&[("muster.yaml", &elsewhere), dev, ("prod/kept.yaml", &marked)])), @r"
    web Changed on eu-1 eu-2 eu-3
      Leave ConfigMap shop/kept
      Prune ConfigMap shop/s0
      Prune ConfigMap shop/s1
      Prune ConfigMap shop/s10
      Prune ConfigMap shop/s11
      Prune ConfigMap shop/s2
      Prune ConfigMap shop/s3
      Prune ConfigMap shop/s4
      Prune ConfigMap shop/s5
      Prune ConfigMap shop/s6
      Prune ConfigMap shop/s7
      Prune ConfigMap shop/s8
      Prune ConfigMap shop/s9
      Create ConfigMap shop/settings
      removals wait: 12 objects would be removed and 1 stay: that needs `muster approve web`
    ");
}

#[test]
fn lists_are_compared_by_the_names_of_their_items() {
    let object = |containers: serde_json::Value, args: serde_json::Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers, "nodeSelector": args}});
    let key = ObjectKey {
        group: String::new(),
        kind: "Pod".into(),
        namespace: "n".into(),
        name: "p".into(),
    };
    let before = object(
        json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}, {"name": "b", "args": ["x"]}]),
        json!({"a.b/c": "1"}),
    );
    let after = object(
        json!([{"name": "c"}, {"name": "a", "image": "2", "ports": [{"containerPort": 81}]}, {"name": "b", "args": ["x", "y"]}]),
        json!({"a.b/c": "2"}),
    );
    let changes = fields::of_objects(&key, &before, &after);
    let shown: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    .spec.containers[name="c"]
    .spec.containers[name="a"].image
    .spec.containers[name="a"].ports[containerPort=81]
    .spec.containers[name="a"].ports[containerPort=80]
    .spec.containers[name="b"].args
    .spec.nodeSelector["a.b/c"]
    "#);
}
