//! What placeholders become, and every byte that stays.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::yaml;

fn key() -> DigestKey {
    DigestKey::new([1; 32])
}

fn manifest(value: &Value, line: u32) -> Manifest {
    Manifest {
        object: Arc::new(Object::new(value, &key()).unwrap()),
        location: Location::new("web/all.yaml", line),
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

/// A cluster with its labels and values.
struct Cluster {
    name: ClusterName,
    labels: Labels,
    values: Map<String, Value>,
}

fn cluster(name: &str) -> Cluster {
    let labels = [("region", "eu"), ("example.com/tier", "7")];
    Cluster {
        name: name.parse().unwrap(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        values: map(json!({
            "replicas": 3, "debug": false, "ratio": 0.5, "none": null, "zones": ["a", "b"],
            "network": {"cidr": "10.0.0.0/8", "a.b": {"c": 1}}, "quote": "\"\\\n",
        })),
    }
}

impl Cluster {
    fn facts(&self) -> Facts<'_> {
        Facts {
            name: &self.name,
            labels: &self.labels,
            values: Some(&self.values),
        }
    }
}

fn variables_() -> Map<String, Value> {
    map(
        json!({"host": "shop.example.com", "port": 8080, "on": true, "db": {"name": "orders"}, "nested": "${cluster.name}"}),
    )
}

fn template(objects: &[Value]) -> Result<Template, Vec<Wrong>> {
    let places = (1..).step_by(10);
    let manifests = objects.iter().zip(places);
    let manifests: Vec<_> = manifests.map(|(it, line)| manifest(it, line)).collect();
    Template::of(&manifests, &variables_(), "shop", &key())
}

fn filled(objects: &[Value]) -> Result<Vec<Value>, Vec<Wrong>> {
    let one = cluster("eu-1");
    let filled = template(objects)?.filled(&one.facts(), &mut Objects::default());
    let filled = filled.map_err(|wrong| (*wrong).clone())?;
    Ok(filled.iter().map(|object| object.value()).collect())
}

fn said(objects: &[Value]) -> String {
    let wrong = filled(objects).unwrap_err();
    let lines: Vec<_> = wrong
        .iter()
        .map(|wrong| format!("{}: {}", wrong.location, wrong.message))
        .collect();
    lines.join("\n")
}

/// An object of a kind nobody knows, where nothing is text by its place.
fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "web"}, "spec": spec})
}

#[test]
fn a_scalar_that_is_one_placeholder_takes_the_type_of_the_value() {
    let cases = [
        ("${cluster.name}", json!("eu-1")),
        ("${cluster.labels.region}", json!("eu")),
        ("${cluster.labels.example.com/tier}", json!("7")),
        ("${cluster.values.replicas}", json!(3)),
        ("${cluster.values.debug}", json!(false)),
        ("${cluster.values.ratio}", json!(0.5)),
        ("${cluster.values.zones}", json!(["a", "b"])),
        ("${cluster.values.network.cidr}", json!("10.0.0.0/8")),
        ("${cluster.values.network.a.b.c}", json!(1)),
        (
            "${cluster.values.network}",
            json!({"cidr": "10.0.0.0/8", "a.b": {"c": 1}}),
        ),
        ("${cluster.values.quote}", json!("\"\\\n")),
        ("${vars.port}", json!(8080)),
        ("${vars.on}", json!(true)),
        ("${vars.db}", json!({"name": "orders"})),
        ("${vars.db.name}", json!("orders")),
        // Defaults are read as YAML.
        ("${vars.no:=3}", json!(3)),
        ("${vars.no:=yes}", json!(true)),
        ("${vars.no:=\"3\"}", json!("3")),
        ("${vars.no:=[a, 2]}", json!(["a", 2])),
        ("${vars.no:=a: b # c}", json!("a: b # c")),
        ("${vars.no:=}", json!("")),
        ("${vars.no:=*}", json!("*")),
        ("${cluster.labels.no:=0x10}", json!(16)),
        ("${cluster.values.none:=x}", json!("x")),
        ("${cluster.values.replicas:=5}", json!(3)),
        // Not alone: text.
        ("n${cluster.values.replicas}", json!("n3")),
        ("${cluster.values.replicas}${vars.on}", json!("3true")),
        (
            "https://${cluster.name}.${vars.host}:${vars.port}/",
            json!("https://eu-1.shop.example.com:8080/"),
        ),
        (
            "${vars.no:=\"a\"}-${cluster.labels.no:=b c}",
            json!("\"a\"-b c"),
        ),
        ("${cluster.values.quote}!", json!("\"\\\n!")),
    ];
    for (text, wanted) in cases {
        let found = filled(&[thing(
            json!({"list": [{"at": text}], "z": "${cluster.name}"}),
        )]);
        assert_eq!(found.unwrap()[0]["spec"]["list"][0]["at"], wanted, "{text}");
    }
}

#[test]
fn every_byte_that_is_not_ours_stays() {
    let cases = [
        ("$${cluster.name}", "${cluster.name}"),
        ("$${vars.x:=y} ${cluster.name}", "${vars.x:=y} eu-1"),
        ("$$${cluster.name}", "$${cluster.name}"),
        ("$$$${cluster.", "$$${cluster."),
        ("${cluster} ${vars} ${CLUSTER.name}", ""),
        ("${ cluster.name } ${clusters.x} $${other} $$ $", ""),
        (
            "${HOME:-/root} $(id) `x` ${__rate_interval} {{ .Values.x }}",
            "",
        ),
        ("ünï ${x} \u{1f600} \"\\\n\t", ""),
        ("cluster.name vars.x }{ $vars.x", ""),
    ];
    for (text, wanted) in cases {
        let wanted = if wanted.is_empty() { text } else { wanted };
        let found = filled(&[thing(json!({"a": text, "z": "${cluster.name}"}))]).unwrap();
        assert_eq!(found[0]["spec"], json!({"a": wanted, "z": "eu-1"}));
    }
}

#[test]
fn where_only_text_may_stand_a_value_is_text() {
    let three = "${cluster.values.replicas}";
    let pod = json!({
        "metadata": {"labels": {"n": three}, "annotations": {"n": "${vars.on}"}},
        "spec": {
            "nodeSelector": {"n": three},
            "activeDeadlineSeconds": three,
            "containers": [{
                "name": "web", "args": [three], "command": ["${vars.no:=7}", "${vars.no:='7'}"],
                "env": [{"name": "N", "value": three}],
                "ports": [{"containerPort": "${vars.port}"}],
            }],
        },
    });
    let objects = [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "n"}, "spec": {
            "replicas": three, "selector": {"matchLabels": {"n": three}}, "template": pod}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"n": three}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}, "stringData": {"n": three}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "n"}, "spec": {
            "selector": {"n": three}, "ports": [{"port": "${vars.port}"}]}}),
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "n", "labels": {"n": three}}, "spec": {
            "replicas": three, "template": {"metadata": {"annotations": {"n": three}}},
            "nodeSelector": {"n": three}, "selector": {"matchLabels": {"n": three}}, "env": [{"name": "N", "value": three}], "value": three}}),
    ];
    let found = filled(&objects).unwrap();
    let at = |object: usize, pointer: &str| found[object].pointer(pointer).unwrap().clone();
    for (object, pointer) in [
        (0, "/spec/selector/matchLabels/n"),
        (0, "/spec/template/metadata/labels/n"),
        (0, "/spec/template/spec/nodeSelector/n"),
        (0, "/spec/template/spec/containers/0/args/0"),
        (0, "/spec/template/spec/containers/0/env/0/value"),
        (1, "/data/n"),
        (2, "/stringData/n"),
        (3, "/spec/selector/n"),
        (4, "/metadata/labels/n"),
        (4, "/spec/template/metadata/annotations/n"),
        (4, "/spec/nodeSelector/n"),
        (4, "/spec/selector/matchLabels/n"),
        (4, "/spec/env/0/value"),
    ] {
        assert_eq!(at(object, pointer), json!("3"), "{pointer}");
    }
    assert_eq!(
        at(0, "/spec/template/metadata/annotations/n"),
        json!("true")
    );
    assert_eq!(
        at(0, "/spec/template/spec/containers/0/command"),
        json!(["7", "7"])
    );
    for (object, pointer, wanted) in [
        (0, "/spec/replicas", json!(3)),
        (0, "/spec/template/spec/activeDeadlineSeconds", json!(3)),
        (
            0,
            "/spec/template/spec/containers/0/ports/0/containerPort",
            json!(8080),
        ),
        (3, "/spec/ports/0/port", json!(8080)),
        (4, "/spec/replicas", json!(3)),
        (4, "/spec/value", json!(3)),
    ] {
        assert_eq!(at(object, pointer), wanted, "{pointer}");
    }
}

#[test]
fn keys_and_names_are_filled_like_text() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "${cluster.name}-settings", "namespace": "${vars.db.name}"},
        "data": {"z": "1", "${cluster.name}.json": "2", "${vars.port}": "3"}});
    let one = cluster("eu-1");
    let mut template = template(&[object]).unwrap();
    let found = template
        .filled(&one.facts(), &mut Objects::default())
        .unwrap();
    assert_eq!(found[0].key.to_string(), "ConfigMap orders/eu-1-settings");
    assert_eq!(
        String::from_utf8_lossy(&found[0].body),
        r#"{"apiVersion":"v1","data":{"8080":"3","eu-1.json":"2","z":"1"},"kind":"ConfigMap","metadata":{"name":"eu-1-settings","namespace":"orders"}}"#
    );
}

#[test]
fn what_nothing_stands_for_or_does_not_fit_says_where_and_no_values() {
    let config = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let cases = [
        vec![
            thing(json!({"a": "${cluster.labels.regoin}"})),
            config(
                "two",
                json!({"a": "x ${cluster.values.network.cdir}", "b": "${cluster.values.none}"}),
            ),
        ],
        vec![thing(json!({"a": ["${vars.prot} ${vars.db.nmae}"]}))],
        vec![thing(json!({"a": "${cluster.nmae}"}))],
        vec![thing(json!({"a": "${cluster.label.region}"}))],
        vec![thing(json!({"a": "${cluster.labels.}"}))],
        vec![thing(json!({"a": "${cluster.labels.region:-hunter2}"}))],
        vec![thing(json!({"a": "${vars.}"}))],
        vec![thing(json!({"a": "x ${cluster.name and more"}))],
        vec![thing(json!({"a": "x ${cluster.values.zones}"}))],
        vec![thing(json!({"a": "x ${vars.db}"}))],
        vec![config("a", json!({"a": "${cluster.values.network}"}))],
        vec![config("a", json!({"a": "${vars.db}"}))],
        vec![thing(json!({"a": "${vars.nested}"}))],
        vec![config(
            "a",
            json!({"eu-1": "hunter2", "${cluster.name}": "hunter2"}),
        )],
        vec![config(
            "a",
            json!({"8080": "hunter2", "${vars.port}": "hunter2"}),
        )],
        vec![config("${cluster.labels.no:=}", json!({}))],
        vec![
            config("${cluster.name}", json!({})),
            config("eu-1", json!({})),
        ],
        vec![config("${vars.port}", json!({})), config("8080", json!({}))],
    ];
    let said: Vec<_> = cases.iter().map(|objects| said(objects)).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    web/all.yaml:1: Thing.example.com web: ${cluster.labels.regoin} at spec.a stands for nothing and states no default: the cluster has no such label; did you mean "region"?
    web/all.yaml:11: ConfigMap two: ${cluster.values.network.cdir} at data.a stands for nothing and states no default: the cluster has no such value; did you mean "network.cidr"?
    web/all.yaml:11: ConfigMap two: ${cluster.values.none} at data.b stands for nothing and states no default: the cluster has no such value
    web/all.yaml:1: Thing.example.com web: ${vars.prot} at spec.a[0] stands for nothing and states no default: no such variable is set; did you mean "port"?
    web/all.yaml:1: Thing.example.com web: ${vars.db.nmae} at spec.a[0] stands for nothing and states no default: no such variable is set; did you mean "db.name"?
    web/all.yaml:1: Thing.example.com web: at spec.a: ${cluster.nmae} is no placeholder: known are ${cluster.name}, ${cluster.labels.KEY}, ${cluster.values.PATH} and ${vars.NAME}, and $${cluster.nmae} is the text itself; did you mean "cluster.name"?
    web/all.yaml:1: Thing.example.com web: at spec.a: ${cluster.label.region} is no placeholder: known are ${cluster.name}, ${cluster.labels.KEY}, ${cluster.values.PATH} and ${vars.NAME}, and $${cluster.label.region} is the text itself; did you mean "cluster.labels"?
    web/all.yaml:1: Thing.example.com web: at spec.a: ${cluster.labels.} is no placeholder: known are ${cluster.name}, ${cluster.labels.KEY}, ${cluster.values.PATH} and ${vars.NAME}, and $${cluster.labels.} is the text itself; did you mean "cluster.labels"?
    web/all.yaml:1: Thing.example.com web: at spec.a: ${cluster.labels.region} is no placeholder: known are ${cluster.name}, ${cluster.labels.KEY}, ${cluster.values.PATH} and ${vars.NAME}, and $${cluster.labels.region} is the text itself; a default is written after :=
    web/all.yaml:1: Thing.example.com web: at spec.a: ${vars.} is no placeholder: known are ${cluster.name}, ${cluster.labels.KEY}, ${cluster.values.PATH} and ${vars.NAME}, and $${vars.} is the text itself
    web/all.yaml:1: Thing.example.com web: at spec.a: ${cluster. is not closed by a brace: write $${cluster. for the text itself
    web/all.yaml:1: Thing.example.com web: ${cluster.values.zones} is a list: at spec.a it stands within a text, and can only stand alone
    web/all.yaml:1: Thing.example.com web: ${vars.db} is a mapping: at spec.a it stands within a text, and can only stand alone
    web/all.yaml:1: ConfigMap a: ${cluster.values.network} is a mapping and data.a takes text only
    web/all.yaml:1: ConfigMap a: ${vars.db} is a mapping and data.a takes text only
    web/all.yaml:1: Thing.example.com web: at spec.a: ${vars.nested} holds a placeholder itself, and what is put in is not looked through again
    web/all.yaml:1: ConfigMap a: two keys of data become the same
    web/all.yaml:1: ConfigMap a: two keys of data become the same
    web/all.yaml:1: ConfigMap ${cluster.labels.no:=}: a manifest needs a metadata.name
    web/all.yaml:11: ConfigMap shop/eu-1 is at web/all.yaml:1 already
    web/all.yaml:11: ConfigMap shop/8080 is at web/all.yaml:1 already
    "#);
}

#[test]
fn an_object_that_would_fill_the_memory_is_refused() {
    let mut large = cluster("eu-1");
    large
        .values
        .insert("large".into(), "x".repeat(1 << 20).into());
    for text in ["${cluster.values.large}", "x${cluster.values.large}"] {
        let texts = vec![json!(text.repeat(6)); 6];
        let mut template = template(&[thing(json!(texts))]).unwrap();
        let filled = template.filled(&large.facts(), &mut Objects::default());
        let wrong = filled.unwrap_err();
        assert!(
            wrong[0].message.contains("makes the object larger"),
            "{}",
            wrong[0].message
        );
    }
    let variables = map(json!({"large": "x".repeat(1 << 20)}));
    let object = manifest(&thing(json!(vec!["${vars.large}"; 6])), 1);
    let wrong = Template::of(&[object], &variables, "", &key()).unwrap_err();
    assert!(
        wrong[0].message.contains("makes the object larger"),
        "{}",
        wrong[0].message
    );
}

#[test]
fn what_is_the_same_is_one_allocation() {
    let objects = [
        thing(json!({"a": "${HOME}"})),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vars"}, "data": {"a": "${vars.host}"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "region"}, "data": {"a": "${cluster.labels.region}"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "name"}, "data": {"a": "${cluster.name}"}}),
    ];
    let mut template = template(&objects).unwrap();
    assert!(template.constant().is_none());
    let mut shared = Objects::default();
    let (one, two) = (cluster("eu-1"), cluster("eu-2"));
    let first = template.filled(&one.facts(), &mut shared).unwrap();
    let second = template.filled(&two.facts(), &mut shared).unwrap();
    for place in 0..3 {
        assert!(Arc::ptr_eq(&first[place], &second[place]), "{place}");
    }
    assert_ne!(first[3], second[3]);
    // The same cluster again, though its other labels changed.
    let mut relabelled = cluster("eu-1");
    relabelled.labels.insert("new".into(), "label".into());
    let again = template.filled(&relabelled.facts(), &mut shared).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    // Only what was asked for since is still known.
    template.end_of_commit();
    template.filled(&one.facts(), &mut shared).unwrap();
    template.end_of_commit();
    assert_eq!(template.known.len(), 1);
}

#[test]
fn without_anything_to_ask_every_cluster_gets_the_same() {
    let template = template(&[thing(json!({"a": "${vars.host} $${cluster.name}"}))]).unwrap();
    assert!(template.constant().is_some());
}

#[test]
fn variables_of_a_target_lie_over_those_of_the_application() {
    let of = |value: Value| map(value).into_iter().collect::<Variables>();
    let own = of(json!({"a": 1, "b": {"c": 1}}));
    let target = of(json!({"b": 2}));
    assert_eq!(variables(None, None), None);
    assert_eq!(variables(Some(&Variables::new()), None), Some(Map::new()));
    assert_eq!(
        variables(Some(&own), Some(&target)),
        Some(map(json!({"a": 1, "b": 2})))
    );
    assert_eq!(variables(None, Some(&target)), Some(map(json!({"b": 2}))));
}

/// Texts in which what is ours is likely.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "$",
        "$$",
        "{",
        "}",
        "${",
        "${cluster.",
        "${vars.",
        "cluster.name}",
        "x",
        ":=",
        "\"",
        "é",
        "\n",
        "${cluster.name}",
    ]);
    prop::collection::vec(parts, 0..12).prop_map(|parts| parts.concat())
}

/// What a person writes who wants a text as it is.
fn escaped(text: &str) -> String {
    let text = text.replace("${cluster.", "$${cluster.");
    text.replace("${vars.", "$${vars.")
}

proptest! {
    #[test]
    fn a_text_that_is_escaped_comes_back_byte_for_byte(text in texts(), key in "[a-z]{1,8}") {
        let found = filled(&[thing(json!({"text": escaped(&text), key: [escaped(&text)], "z": "${cluster.name}"}))]).unwrap();
        prop_assert_eq!(&found[0]["spec"]["text"], &json!(text));
    }

    #[test]
    fn a_text_between_placeholders_stays(before in texts(), after in texts()) {
        let text = format!("{}-${{cluster.name}}{}", escaped(&before), escaped(&after));
        let found = filled(&[thing(json!({"text": text}))]).unwrap();
        prop_assert_eq!(&found[0]["spec"]["text"], &json!(format!("{before}-eu-1{after}")));
    }

    #[test]
    fn what_a_cluster_gets_does_not_depend_on_who_was_asked_before(order in Just(vec!["a", "b", "c", "d"]).prop_shuffle()) {
        let objects = [thing(json!({"a": "${cluster.name}", "b": "${cluster.labels.region}"}))];
        let mut template = template(&objects).unwrap();
        let mut shared = Objects::default();
        for name in order {
            let one = cluster(name);
            let found = template.filled(&one.facts(), &mut shared).unwrap();
            prop_assert_eq!(found[0].value(), thing(json!({"a": name, "b": "eu"})));
            let canonical = Object::new(&found[0].value(), &key()).unwrap();
            prop_assert_eq!(&*found[0], &canonical);
        }
    }

    #[test]
    fn any_text_is_filled_or_refused_and_never_panics(text in texts()) {
        let _ = filled(&[thing(json!({"text": text, "list": [{"text": text}]}))]);
        let _ = yaml::documents(text.as_bytes());
    }
}
