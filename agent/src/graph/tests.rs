//! Edges as a table, and what must hold for every order.

use muster_proto::DigestKey;
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug)]
struct Given {
    key: Key,
    application: ApplicationName,
    names: Option<Names>,
    object: Object,
}

fn given(application: &str, object: Value) -> Given {
    let object = Object::new(&object, &DigestKey::new([1; 32])).unwrap();
    let key = Arc::new(object.key.clone());
    Given {
        application: application.parse().unwrap(),
        names: names::names(&object.value(), &key),
        key,
        object,
    }
}

fn graph(given: &[Given]) -> Graph {
    let definitions = given.iter().filter(|given| is_definition(&given.key));
    let definitions = definitions
        .filter_map(|given| Some((defines(&given.object.value())?, (*given.key).clone())))
        .collect();
    let nodes = given.iter().map(|given| Node {
        key: &given.key,
        application: &given.application,
        names: given.names.as_ref(),
        object: &given.object,
    });
    Graph::of(nodes, &definitions, &BTreeSet::new())
}

fn needs(graph: &Graph, given: &Given) -> Vec<String> {
    let needs = graph.needs(&given.key);
    needs
        .map(|need| format!("{} {:?}", need.key, need.until))
        .collect()
}

fn manifest(kind: &str, name: &str, rest: Value) -> Value {
    let (api_version, kind) = kind.rsplit_once('/').unwrap();
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "web"}});
    let cluster_wide = [
        "Namespace",
        "CustomResourceDefinition",
        "ValidatingWebhookConfiguration",
    ];
    if cluster_wide.contains(&kind) {
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("namespace");
    }
    for (field, value) in rest.as_object().unwrap() {
        if field == "annotations" {
            object["metadata"]["annotations"] = value.clone();
        } else {
            object[field] = value.clone();
        }
    }
    object
}

/// An object that names others by annotation, and its stage.
fn marked(name: &str, depends_on: &[&str], stage: Option<i32>) -> Given {
    let mut annotations = json!({});
    let others: Vec<String> = depends_on
        .iter()
        .map(|other| format!("ConfigMap/{other}"))
        .collect();
    if !others.is_empty() {
        annotations["muster.dev/depends-on"] = json!(others.join(","));
    }
    if let Some(stage) = stage {
        annotations["muster.dev/stage"] = json!(stage.to_string());
    }
    given(
        "shop",
        manifest("v1/ConfigMap", name, json!({"annotations": annotations})),
    )
}

fn order(graph: &Graph, given: &[Given]) -> Vec<String> {
    let mut done: BTreeSet<Key> = BTreeSet::new();
    let mut order = Vec::new();
    loop {
        let next = given.iter().find(|given| {
            let is_met = |need: &Need<'_>| done.contains(need.key);
            let stage = graph.stage(&given.application, &given.key);
            let free = graph
                .needs(&given.key)
                .find(|need| !is_met(need))
                .or_else(|| graph.first_unmet_before(&given.application, stage?, is_met));
            !done.contains(&given.key) && !graph.troubles.contains_key(&given.key) && free.is_none()
        });
        let Some(next) = next else { return order };
        done.insert(next.key.clone());
        order.push(next.key.name.clone());
    }
}

#[test]
fn kinds_follow_the_order_people_expect() {
    let order = [
        ("", "Namespace"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("storage.k8s.io", "StorageClass"),
        ("rbac.authorization.k8s.io", "RoleBinding"),
        ("", "Service"),
        ("apps", "Deployment"),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
        ),
    ];
    let stages = order.map(|(group, kind)| stage(group, kind));
    assert!(stages.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn what_stands_in_a_namespace_or_is_of_a_definition_waits_until_it_is_ready() {
    let definition = json!({"spec": {"group": "shop.io", "names": {"kind": "Cart"}}});
    let objects = [
        given("shop", manifest("v1/Namespace", "web", json!({}))),
        given(
            "other",
            manifest(
                "apiextensions.k8s.io/v1/CustomResourceDefinition",
                "carts.shop.io",
                definition,
            ),
        ),
        given("shop", manifest("shop.io/v1/Cart", "c", json!({}))),
    ];
    let graph = graph(&objects);
    let cart = needs(&graph, &objects[2]);
    assert_eq!(
        cart,
        [
            "Namespace web Ready",
            "CustomResourceDefinition.apiextensions.k8s.io carts.shop.io Ready"
        ]
    );
    assert_eq!(needs(&graph, &objects[0]), Vec::<String>::new());
}

#[test]
fn a_name_is_an_edge_when_git_states_the_object() {
    let pod = json!({"serviceAccountName": "robot", "volumes": [{"configMap": {"name": "files"}}, {"secret": {"secretName": "made-by-others"}}]});
    let objects = [
        given(
            "shop",
            manifest(
                "apps/v1/Deployment",
                "d",
                json!({"spec": {"template": {"spec": pod}}}),
            ),
        ),
        given("shop", manifest("v1/ConfigMap", "files", json!({}))),
        given("base", manifest("v1/ServiceAccount", "robot", json!({}))),
    ];
    let named = needs(&graph(&objects), &objects[0]);
    assert_eq!(
        named,
        [
            "ConfigMap web/files Applied",
            "ServiceAccount web/robot Applied"
        ]
    );
}

#[test]
fn a_webhook_waits_for_the_workload_behind_its_service() {
    let template = |app: &str| json!({"spec": {"template": {"metadata": {"labels": {"app": app, "more": "x"}}}}});
    let objects = [
        given(
            "shop",
            manifest(
                "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration",
                "guard",
                json!({"webhooks": [{"clientConfig": {"service": {"namespace": "web", "name": "hook"}}}]}),
            ),
        ),
        given(
            "shop",
            manifest(
                "v1/Service",
                "hook",
                json!({"spec": {"selector": {"app": "hook"}}}),
            ),
        ),
        given(
            "shop",
            manifest("apps/v1/Deployment", "hook", template("hook")),
        ),
        given(
            "shop",
            manifest("apps/v1/Deployment", "other", template("other")),
        ),
    ];
    let waits = needs(&graph(&objects), &objects[0]);
    assert_eq!(
        waits,
        ["Service web/hook Applied", "Deployment.apps web/hook Ready"]
    );
}

#[test]
fn a_cycle_is_an_error_that_names_it_and_blocks_only_what_hangs_on_it() {
    let objects = [
        marked("a", &["b"], None),
        marked("b", &["c"], None),
        marked("c", &["a"], None),
        marked("hangs", &["a"], None),
        marked("free", &[], None),
    ];
    let graph = graph(&objects);
    let Trouble::Wrong(why) = &graph.troubles[&objects[0].key] else {
        panic!("{graph:?}")
    };
    assert!(
        why.contains("ConfigMap web/a -> ConfigMap web/b -> ConfigMap web/c -> ConfigMap web/a"),
        "{why}"
    );
    assert_eq!(graph.troubles.len(), 3);
    assert_eq!(order(&graph, &objects), ["free"]);
}

#[test]
fn stages_wait_for_the_stages_before_and_take_along_what_they_need() {
    let objects = [
        marked("last", &[], Some(5)),
        marked("usual", &[], None),
        marked("first", &["needed"], Some(-1)),
        marked("needed", &[], None),
    ];
    let graph = graph(&objects);
    assert_eq!(
        order(&graph, &objects),
        ["needed", "first", "usual", "last"]
    );
    assert!(graph.troubles.is_empty());
}

#[test]
fn a_stage_that_contradicts_a_dependency_is_named_as_a_cycle() {
    let objects = [
        marked("early", &["late"], Some(1)),
        marked("late", &[], Some(2)),
    ];
    let graph = graph(&objects);
    let Trouble::Wrong(why) = &graph.troubles[&objects[0].key] else {
        panic!("{graph:?}")
    };
    assert!(
        why.contains("ConfigMap web/early -> ConfigMap web/late -> what is before stage 2 of shop"),
        "{why}"
    );
}

#[test]
fn a_dependency_that_git_does_not_state_is_an_error_unless_it_has_no_place_yet() {
    let object = [marked("a", &["nobody"], None)];
    let wrong = graph(&object).troubles[&object[0].key].clone();
    let Trouble::Wrong(why) = wrong else {
        panic!("{wrong:?}")
    };
    assert!(
        why.contains("names ConfigMap/nobody, which Git does not state for this cluster"),
        "{why}"
    );
    let elsewhere = BTreeSet::from([ObjectKey {
        name: "nobody".into(),
        ..(*object[0].key).clone()
    }]);
    let node = Node {
        key: &object[0].key,
        application: &object[0].application,
        names: object[0].names.as_ref(),
        object: &object[0].object,
    };
    let graph = Graph::of([node], &Definitions::new(), &elsewhere);
    assert!(matches!(graph.troubles[&object[0].key], Trouble::Early(_)));
}

fn objects() -> impl Strategy<Value = Vec<Given>> {
    let one = (
        prop::collection::btree_set(0u8..8, 0..3),
        prop::option::of(-2i32..3),
    );
    prop::collection::vec(one, 1..8).prop_map(|all| {
        let count = all.len();
        let one = |(number, (others, stage)): (usize, (BTreeSet<u8>, Option<i32>))| {
            let others: Vec<String> = others
                .into_iter()
                .filter(|other| usize::from(*other) < count)
                .map(|other| format!("o{other}"))
                .collect();
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            marked(&format!("o{number}"), &others, stage)
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #[test]
    fn the_order_respects_every_edge_and_leaves_out_only_what_is_in_a_cycle_or_hangs_on_one(objects in objects()) {
        let graph = graph(&objects);
        let order = order(&graph, &objects);
        let place = |name: &str| order.iter().position(|other| other == name);
        for given in &objects {
            let at = place(&given.key.name);
            let mut before: Vec<&Key> = graph.needs(&given.key).map(|need| need.key).collect();
            let own = graph.stage(&given.application, &given.key);
            let stages = graph.stages.get(&given.application);
            before.extend(stages.into_iter().flatten().filter(|(stage, _)| Some(**stage) < own).flat_map(|(_, keys)| keys));
            if let Some(at) = at {
                prop_assert!(before.iter().all(|key| place(&key.name).is_some_and(|earlier| earlier < at)), "{order:?}");
            } else if !graph.troubles.contains_key(&given.key) {
                prop_assert!(before.iter().any(|key| place(&key.name).is_none()), "{} waits for nothing: {order:?}", given.key);
            }
        }
    }

    #[test]
    fn the_same_objects_in_any_order_give_the_same_graph(mut objects in objects(), turn in 0usize..8) {
        let one = graph(&objects);
        let turn = turn % objects.len();
        objects.rotate_left(turn);
        prop_assert_eq!(&one, &graph(&objects));
        objects.reverse();
        prop_assert_eq!(&one, &graph(&objects));
    }
}
