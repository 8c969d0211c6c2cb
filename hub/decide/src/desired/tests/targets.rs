//! What targets make of a rendering: patches, variables, placeholders; commit after commit.

use serde_json::{Value, json};

use super::*;

fn cluster(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn object(decision: &Decision, cluster: &str, name: &str) -> Value {
    let placements = &decision.clusters[cluster].placements;
    let mut objects = placements.iter().flat_map(|it| it.application.objects());
    let found = objects.find(|object| object.key.name == name);
    found.map_or(Value::Null, |object| object.value())
}

fn web(targets: &str) -> Vec<(&'static str, String)> {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  template: {spec: {containers: [{name: web, image: 'web:1'}, {name: log}]}}\n";
    vec![
        ("web/muster.yaml", application("web", targets)),
        ("web/web.yaml", deployment.to_owned()),
        ("web/x.yaml", config_map("x", "one")),
    ]
}

const PATCHED: &str = "  targets:
  - name: production
    clusters: {matchLabels: {stage: production}}
    patches:
    - patch: |
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {containers: [{name: log, $patch: delete}, {name: web, tty: true}]}}}
    - target: {kind: Deployment}
      path: patches/more.yaml
  - name: rest
";

fn patched() -> Vec<(&'static str, String)> {
    let mut files = web(PATCHED);
    let more = "- {op: replace, path: /spec/replicas, value: 3}\n";
    files.push(("web/patches/more.yaml", more.into()));
    files
}

#[test]
fn patches_are_laid_over_the_objects_of_their_target_and_their_files_are_no_manifests() {
    let mut hub = Hub::with(&[("one", "production"), ("two", "test")]);
    let decision = hub.commit("r1", &patched()).unwrap();
    assert_eq!(problems(&decision), [""; 0]);
    assert_eq!(
        object(&decision, "one", "web")["spec"],
        json!({"replicas": 3, "template": {"spec": {"containers": [{"name": "web", "image": "web:1", "tty": true}]}}})
    );
    assert_eq!(
        object(&decision, "two", "web")["spec"]["replicas"],
        json!(1)
    );
    // What no patch is for is the very same object.
    let object = |cluster: &str| {
        let application = &decision.clusters[cluster].placements[0].application;
        application.objects()[1].clone()
    };
    assert_eq!(object("one").key.name, "x");
    assert!(Arc::ptr_eq(&object("one"), &object("two")));
    // Another patch is another rendering.
    let mut files = patched();
    files[3].1 = files[3].1.replace("value: 3", "value: 4");
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(
        super::targets::object(&decision, "one", "web")["spec"]["replicas"],
        json!(4)
    );
}

#[test]
fn a_patch_that_does_not_fit_leaves_its_target_as_it_was_and_says_its_line() {
    let mut hub = Hub::with(&[("one", "production"), ("two", "test")]);
    hub.commit("r1", &patched()).unwrap();
    let mut files = patched();
    files[0].1 = files[0]
        .1
        .replace("name: web}\n        spec", "name: wbe}\n        spec");
    files[2].1 = config_map("x", "two");
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(
        problems(&decision),
        [
            "web/muster.yaml:12: the patch is for apps/v1 Deployment shop/wbe, which is not rendered; did you mean \"web\"?"
        ]
    );
    assert_eq!(
        decision.problems[0].application,
        Some("web".parse().unwrap())
    );
    assert_eq!(shown(&decision, "one"), "web/web=? web/x=one held");
    assert_eq!(shown(&decision, "two"), "web/web=? web/x=two held");
    let mut files = patched();
    files[3].1 = "# none\n- {op: remove, path: /spec/paused}\n".into();
    let decision = hub.commit("r3", &files).unwrap();
    assert_eq!(
        problems(&decision),
        ["web/patches/more.yaml:2: does not fit Deployment.apps web: there is no /spec/paused"]
    );
}

#[test]
fn a_patch_that_can_not_be_read_is_a_broken_document() {
    let said = [
        "{}",
        "{patch: a, path: b}",
        "{path: ../../../b.yaml}",
        "{pach: a}",
    ]
    .map(|patch| {
        let targets = format!("  targets:\n  - patches:\n    - {patch}\n");
        let mut hub = Hub::with(&[("one", "test")]);
        problems(&hub.commit("r1", &web(&targets)).unwrap()).join("\n")
    });
    insta::assert_snapshot!(said.join("\n"), @r#"
    web/muster.yaml:9: spec.targets[0].patches[0]: needs a patch, or the path of one
    web/muster.yaml:9: spec.targets[0].patches[0]: has a patch and a path: take one out
    web/muster.yaml:9: spec.targets[0].patches[0]: path: leads out of the repository
    web/muster.yaml:9: spec.targets[0].patches[0]: unknown field "pach": did you mean "patch"?
    "#);
}

fn settings(variables: &str, data: &str) -> Vec<(&'static str, String)> {
    let targets = "  targets:\n  - clusters: {matchLabels: {stage: production}}\n    variables: {tier: gold}\n  - clusters: {}\n";
    vec![
        (
            "a/muster.yaml",
            application("a", &format!("{variables}{targets}")),
        ),
        ("a/x.yaml", config_map("x", data)),
        ("a/z.yaml", config_map("z", "same")),
    ]
}

#[test]
fn each_cluster_gets_its_own_name_labels_values_and_variables() {
    let data = "${cluster.name} ${cluster.labels.stage} ${cluster.values.zone:=none} ${vars.tier}";
    let mut files = settings("  variables: {tier: grey}\n", data);
    files.push((
        "clusters/muster.yaml",
        cluster("two", "{labels: {stage: production}, values: {zone: z1}}"),
    ));
    let mut hub = Hub::with(&[("one", "test"), ("two", "test")]);
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(problems(&decision), [""; 0]);
    assert_eq!(shown(&decision, "one"), "a/x=one test none grey a/z=same");
    // What Git says of a cluster lies over what its join token said.
    assert_eq!(
        shown(&decision, "two"),
        "a/x=two production z1 gold a/z=same"
    );
    let z = |cluster: &str| {
        decision.clusters[cluster].placements[0]
            .application
            .objects()[1]
            .clone()
    };
    assert!(Arc::ptr_eq(&z("one"), &z("two")));
}

#[test]
fn without_variables_nothing_is_a_placeholder() {
    let mut files = settings("", "${cluster.name} $${cluster.name}");
    files[0].1 = application("a", "");
    let mut hub = Hub::with(&[("one", "test")]);
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(
        shown(&decision, "one"),
        "a/x=${cluster.name} $${cluster.name} a/z=same"
    );
}

/// Clusters and the files of their documents.
const CLUSTERS: [(&str, &str); 3] = [
    ("one", "c1/muster.yaml"),
    ("two", "c2/muster.yaml"),
    ("three", "c3/muster.yaml"),
];

#[test]
fn a_label_that_changes_concerns_its_cluster_only() {
    let files = |zone: &str| {
        let mut files = settings("  variables: {}\n", "${cluster.labels.zone}");
        for name in ["one", "two", "three"] {
            let zone = if name == "one" { zone } else { "z" };
            let path = ["c1/muster.yaml", "c2/muster.yaml", "c3/muster.yaml"][name.len() % 3];
            let path = if name == "two" {
                "c4/muster.yaml"
            } else {
                path
            };
            files.push((
                path,
                cluster(name, &format!("{{labels: {{zone: {zone}}}}}")),
            ));
        }
        files
    };
    let mut hub = Hub::with(&[("one", "test"), ("two", "test"), ("three", "test")]);
    let before = hub.commit("r1", &files("z")).unwrap();
    let after = hub.commit("r2", &files("other")).unwrap();
    let of = |decision: &Decision, cluster: &str| {
        decision.clusters[cluster].placements[0].application.clone()
    };
    assert!(Arc::ptr_eq(&of(&before, "one"), &of(&before, "two")));
    assert!(Arc::ptr_eq(&of(&before, "two"), &of(&after, "three")));
    assert_eq!(shown(&after, "one"), "a/x=other a/z=same");
}

#[test]
fn a_cluster_that_lacks_a_label_keeps_what_it_had_and_others_move() {
    let zoned = |data: &str, unzoned: &[&str]| {
        let mut files = settings("  variables: {}\n", data);
        for (name, path) in CLUSTERS {
            let labels = if unzoned.contains(&name) {
                "{}"
            } else {
                "{labels: {zone: z}}"
            };
            files.push((path, cluster(name, labels)));
        }
        files
    };
    let mut hub = Hub::with(&[("one", "test"), ("two", "test"), ("three", "test")]);
    hub.commit("r1", &zoned("${cluster.name} ${cluster.labels.zone}", &[]))
        .unwrap();
    let text = "${cluster.name} now ${cluster.labels.zone}";
    let decision = hub.commit("r2", &zoned(text, &["two"])).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one now z a/z=same");
    assert_eq!(shown(&decision, "two"), "a/x=two z a/z=same held");
    assert_eq!(decision.problems[0].cluster, Some("two".parse().unwrap()));
    assert_eq!(
        problems(&decision),
        [
            "a/x.yaml:1: ConfigMap x: ${cluster.labels.zone} at data.k stands for nothing and states no default: the cluster has no such label"
        ]
    );
    let decision = hub.commit("r3", &zoned(text, &["two", "three"])).unwrap();
    assert_eq!(
        problems(&decision),
        [
            "a/x.yaml:1: ConfigMap x: ${cluster.labels.zone} at data.k stands for nothing and states no default: the cluster has no such label (on 2 clusters, such as three)"
        ]
    );
    // A cluster that comes new gets nothing that was made for another.
    hub.members.insert("four".parse().unwrap(), Arc::default());
    let decision = hub.commit("r4", &zoned(text, &["two", "three"])).unwrap();
    assert_eq!(shown(&decision, "four"), "held");
    // Nor does it when the whole variant breaks.
    let decision = hub.commit("r5", &zoned("${vars.nobody}", &[])).unwrap();
    assert_eq!(shown(&decision, "four"), "held");
    assert_eq!(shown(&decision, "one"), "a/x=one now z a/z=same held");
}

#[test]
fn objects_that_become_one_on_a_cluster_are_refused_there() {
    let mut files = settings("  variables: {}\n", "v");
    files[1].1 = config_map("\"${cluster.name}\"", "v");
    let mut hub = Hub::with(&[("x", "test"), ("z", "test")]);
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(shown(&decision, "x"), "a/x=v a/z=same");
    assert_eq!(shown(&decision, "z"), "held");
    assert_eq!(
        problems(&decision),
        ["a/z.yaml:1: ConfigMap shop/z is at a/x.yaml:1 already"]
    );
}

/// One section of the page: its files by path, and what is said of each cluster.
#[derive(Default)]
struct Example {
    files: Vec<(String, String)>,
    gets: Vec<(String, Vec<Value>)>,
    says: Vec<String>,
}

/// The examples of docs/behaviour/targets.md: blocks that begin with `# FILE`, `# CLUSTER gets` or `# muster status`.
fn examples(page: &str) -> Vec<(&str, Example)> {
    let sections = page.split("\n## ").skip(1);
    let read = sections.map(|section| {
        let title = section.lines().next().unwrap_or_default();
        let mut example = Example::default();
        for block in section.split("\n```yaml\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            let (head, text) = block.split_once('\n').unwrap_or((block, ""));
            let head = head.strip_prefix("# ").unwrap();
            match head.strip_suffix(" gets") {
                Some(cluster) => {
                    let documents = crate::yaml::documents(text.as_bytes()).unwrap();
                    let objects = documents.iter().map(|it| it.to_json()).collect();
                    example.gets.push((cluster.to_owned(), objects));
                }
                None => example.files.push((head.to_owned(), format!("{text}\n"))),
            }
        }
        for block in section.split("\n```text\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            example.says.extend(block.lines().map(str::to_owned));
        }
        (title, example)
    });
    read.filter(|(_, example)| !example.files.is_empty())
        .collect()
}

#[test]
fn the_examples_of_the_documentation_come_out_as_it_says() {
    let page = include_str!("../../../../../docs/behaviour/targets.md");
    let examples = examples(page);
    assert!(examples.len() >= 5, "{}", examples.len());
    for (title, example) in examples {
        let mut hub = Hub::with(&[]);
        let files = example.files.iter();
        let files: Vec<_> = files
            .map(|(path, text)| (path.as_str(), text.clone()))
            .collect();
        let decision = hub.commit("r1", &files).unwrap();
        assert_eq!(problems(&decision), example.says, "{title}");
        for (cluster, wanted) in &example.gets {
            let placements = &decision.clusters[cluster.as_str()].placements;
            let objects = placements.iter().flat_map(|it| it.application.objects());
            let found: Vec<_> = objects.map(|object| object.value()).collect();
            assert_eq!(&found, wanted, "{title}: {cluster}");
        }
        assert!(
            !example.gets.is_empty() || !example.says.is_empty(),
            "{title}"
        );
    }
}
