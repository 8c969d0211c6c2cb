//! What patches do, beside what `kustomize` does, and what is said of those that do not fit.

use muster_proto::{DigestKey, Object};
use serde_json::json;

use super::*;

fn key() -> DigestKey {
    DigestKey::new([1; 32])
}

fn manifest(value: &Value, line: u32) -> Manifest {
    Manifest {
        object: Arc::new(Object::new(value, &key()).unwrap()),
        location: Location::new("web/all.yaml", line),
    }
}

fn objects(text: &str) -> Vec<Manifest> {
    let documents = yaml::documents(text.as_bytes()).unwrap();
    let manifests = documents.iter();
    manifests
        .map(|node| manifest(&node.to_json(), node.line))
        .collect()
}

fn stated(text: &str, target: Option<PatchTarget>) -> Stated {
    Stated {
        target,
        text: Text::Inline(text.to_owned(), Location::new("muster.yaml", 10)),
        location: Location::new("muster.yaml", 8),
    }
}

fn target(of: &str) -> Option<PatchTarget> {
    let documents = yaml::documents(of.as_bytes()).unwrap();
    Some(yaml::read::typed(&documents[0], "target").unwrap())
}

fn patched(
    objects: &[Manifest],
    patches: &[(&str, Option<PatchTarget>)],
) -> Result<Vec<Manifest>, Vec<Wrong>> {
    let read = patches.iter().map(|(text, target)| {
        let stated = stated(text, target.clone());
        read(&stated, &Snapshot::default()).map_err(|wrong| vec![wrong])
    });
    apply(
        &read.collect::<Result<Vec<_>, _>>()?,
        objects,
        "shop",
        &key(),
    )
}

fn said(objects: &[Manifest], patch: &str, target: Option<PatchTarget>) -> String {
    let wrong = patched(objects, &[(patch, target)]).unwrap_err();
    let lines: Vec<_> = wrong
        .iter()
        .map(|wrong| format!("{}: {}", wrong.location, wrong.message))
        .collect();
    lines.join("\n")
}

fn values(manifests: &[Manifest]) -> Vec<Value> {
    manifests
        .iter()
        .map(|manifest| manifest.object.value())
        .collect()
}

#[test]
fn strategic_merge_does_what_kustomize_does() {
    let table = yaml::documents(include_bytes!("tests/kustomize.yaml")).unwrap();
    assert!(table.len() > 35, "{}", table.len());
    for case in table {
        let part = |name| case.get(name).unwrap().to_json();
        let says = case.text(&["says"]).unwrap();
        let objects = [manifest(&part("object"), 1)];
        let found = patched(&objects, &[(&part("patch").to_string(), None)]);
        assert_eq!(values(&found.expect(says)), [part("result")], "{says}");
    }
}

/// `kubectl kustomize` v1.37.2 loses the patch, or writes `$patch` into the object, in these.
#[test]
fn where_kustomize_loses_a_patch_it_means_what_it_says() {
    let pod = |spec: &str| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {spec}}}")
    };
    let cases = [
        (
            "{containers: [{name: a, ports: [{containerPort: 80, protocol: TCP}]}]}",
            "{containers: [{name: a, ports: [{containerPort: 80, name: http}]}]}",
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]}]}),
        ),
        (
            "{nodeName: x}",
            "{containers: [{$patch: replace}, {name: a}]}",
            json!({"nodeName": "x", "containers": [{"name": "a"}]}),
        ),
        (
            "{nodeName: x}",
            "{hostNetwork: true}, $patch: replace",
            json!({"hostNetwork": true}),
        ),
    ];
    for (object, patch, spec) in cases {
        let found = patched(&objects(&pod(object)), &[(&pod(patch), None)]).unwrap();
        assert_eq!(found[0].object.value()["spec"], spec, "{patch}");
        assert_eq!(found[0].object.key.name, "web");
    }
}

#[test]
fn what_only_the_api_server_knows_means_what_it_means_to_it() {
    let cases = [
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "a", "tty": true}]}}),
            json!({"spec": {"containers": [{"name": "b"}, {"name": "c"}, {"name": "a", "tty": true}]}}),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"], "$setElementOrder/finalizers": ["c", "d"]}}),
            json!({"metadata": {"finalizers": ["a", "c", "d"]}}),
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}}),
        ),
        (
            json!({"spec": {"securityContext": {"fsGroup": 1, "runAsUser": 2}}}),
            json!({"spec": {"securityContext": {"$retainKeys": ["runAsUser"]}}}),
            json!({"spec": {"securityContext": {"runAsUser": 2}}}),
        ),
    ];
    for (object, patch, wanted) in cases {
        let shape = Shape::of("v1", "Pod");
        let found = merge::merged(Some(object), &patch, shape, "").unwrap();
        assert_eq!(found, Some(wanted), "{patch}");
    }
}

#[test]
fn a_merge_that_does_not_fit_names_the_field_and_no_value() {
    let cases = [
        json!({"spec": {"containers": {"name": "hunter2"}}}),
        json!({"spec": {"nodeName": {"a": "hunter2"}}}),
        json!({"spec": {"securityContext": "hunter2"}}),
        json!({"spec": {"containers": [{"image": "hunter2"}]}}),
        json!({"spec": {"containers": [{"name": "a", "env": ["hunter2"]}]}}),
        json!({"spec": {"$patch": "hunter2"}}),
        json!({"spec": {"tolerations": [{"key": "a", "$patch": "delete"}]}}),
        json!({"spec": {"securityContext": {"$retainKeys": ["a"], "b": "hunter2"}}}),
        json!({"spec": {"securityContext": {"$retainKeys": "hunter2"}}}),
        json!({"spec": {"$setElementOrder/tolerations": ["hunter2"]}}),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
        json!({"spec": {"$deleteFromPrimitiveList/nodeName": ["hunter2"]}}),
    ];
    let object = json!({"spec": {"nodeName": "x", "securityContext": {"fsGroup": 1}, "containers": [{"name": "a", "env": []}]}});
    let said = cases.map(|patch| {
        merge::merged(Some(object.clone()), &patch, Shape::of("v1", "Pod"), "").unwrap_err()
    });
    insta::assert_snapshot!(said.join("\n"), @r#"
    spec.containers is a list in the object and a mapping in the patch
    spec.nodeName is text in the object and a mapping in the patch
    spec.securityContext is a mapping in the object and text in the patch
    an item of spec.containers lacks its name
    an item of spec.containers[name=a].env lacks its name
    spec.$patch must be merge, replace or delete
    the items of spec.tolerations can't be told apart, so the list is replaced whole: take $patch out
    spec.securityContext.b is stated and not in $retainKeys
    spec.securityContext.$retainKeys must be a list of scalars
    spec.$setElementOrder/tolerations: spec.tolerations has no items that can be told apart
    spec.containers states an item that spec.$setElementOrder/containers does not name
    spec.nodeName is text, not a list
    "#);
}

const THREE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web, tier: front}}
spec: {replicas: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker, namespace: jobs, labels: {app: worker}, annotations: {note: slow}}
spec: {replicas: 1}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: web}
";

#[test]
fn a_target_selects_as_in_kustomize() {
    let objects = objects(THREE);
    let cases = [
        ("{kind: Deployment}", "1 2"),
        ("{kind: Deploy}", ""),
        ("{kind: Deploy.*}", "1 2"),
        ("{kind: 'Deployment|ClusterRole'}", "1 2 3"),
        ("{group: apps, version: v1}", "1 2"),
        ("{group: app}", ""),
        ("{name: w.*}", "1 2 3"),
        ("{name: we}", ""),
        ("{name: '(web|worker)', kind: Deployment}", "1 2"),
        ("{namespace: shop}", "1"),
        ("{namespace: jobs}", "2"),
        ("{namespace: .*}", "1 2 3"),
        ("{labelSelector: 'app=web'}", "1"),
        ("{labelSelector: 'app in (web,worker),!tier'}", "2"),
        ("{annotationSelector: note}", "2"),
        ("{}", "1 2 3"),
    ];
    for (of, wanted) in cases {
        let read = Target::read(&target(of).unwrap()).unwrap();
        let mut found = Vec::new();
        for (place, object) in objects.iter().enumerate() {
            if read.selects(&mut Candidate::new(object, "shop")) {
                found.push((place + 1).to_string());
            }
        }
        assert_eq!(found.join(" "), wanted, "{of}");
    }
}

#[test]
fn objects_that_no_patch_is_for_are_shared_with_the_rendering() {
    let objects = objects(THREE);
    let patch = "- {op: replace, path: /spec/replicas, value: 3}";
    let found = patched(
        &objects,
        &[(patch, target("{name: web, kind: Deployment}"))],
    )
    .unwrap();
    assert_eq!(found[0].object.value()["spec"]["replicas"], json!(3));
    assert_eq!(found[0].location, objects[0].location);
    for place in [1, 2] {
        assert!(Arc::ptr_eq(&found[place].object, &objects[place].object));
    }
}

#[test]
fn patches_follow_one_another_and_a_merge_changes_no_identity() {
    let objects = objects(THREE);
    let one = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: worker, namespace: jobs}\n$patch: delete\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {new: label}}\n";
    let two = "kind: Other\nmetadata: {name: other, namespace: other}\nspec: {paused: true}";
    let found = patched(
        &objects,
        &[(one, None), (two, target("{labelSelector: new=label}"))],
    );
    assert_eq!(
        values(&found.unwrap())[0],
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web", "tier": "front", "new": "label"}},
            "spec": {"replicas": 1, "paused": true},
        })
    );
}

#[test]
fn a_patch_without_a_namespace_is_for_the_object_in_the_applications() {
    let of = |namespace: &str| {
        objects(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{namespace}}}\n"
        ))
    };
    let patch = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{namespace}}}\ndata: {{a: b}}\n"
        )
    };
    let (none, own, other) = ("", ", namespace: shop", ", namespace: other");
    for (object, stated, fits) in [
        (none, none, true),
        (none, own, true),
        (own, none, true),
        (other, other, true),
        (other, none, false),
        (none, other, false),
    ] {
        let found = patched(&of(object), &[(&patch(stated), None)]);
        assert_eq!(found.is_ok(), fits, "{object:?} {stated:?}");
    }
}

#[test]
fn what_is_for_no_object_or_does_not_fit_says_where_and_why() {
    let objects = objects(THREE);
    let web = |api_version: &str, kind: &str, name: &str| {
        format!("# first\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\n")
    };
    let all = || target("{name: web, kind: Deployment}");
    let said = [
        said(&objects, &web("apps/v1", "Deployment", "wbe"), None),
        said(&objects, &web("apps/v1beta1", "Deployment", "web"), None),
        said(&objects, &web("apps/v1", "Deployment", "worker"), None),
        said(&objects, "spec: {}", None),
        said(&objects, &web("v1", "Pod", "web"), target("{name: wbe}")),
        said(&objects, "spec: {}", target("{kind: Deploymnet}")),
        said(&objects, "spec: {}", target("{labelSelector: a=b}")),
        said(&objects, "spec: {}", target("{name: '('}")),
        said(&objects, "spec: {}", target("{labelSelector: 'a in b'}")),
        said(&objects, "a: {}\n---\nb: {}", all()),
        said(&objects, "- {op: remove, path: /a}", None),
        said(
            &objects,
            "- {op: test, path: /kind, value: x}\n\n- {op: rm}",
            all(),
        ),
        said(
            &objects,
            "- {op: add, path: /a, value: 1}\n\n- {op: remove, path: /b/c}",
            all(),
        ),
        said(&objects, "- {op: remove, path: /metadata/name}", all()),
        said(
            &objects,
            "- {op: replace, path: /metadata/name, value: web}\n- {op: add, path: /metadata/namespace, value: shop}",
            target("{kind: Deployment}"),
        ),
        said(&objects, "a: {}\n---\n- {op: remove, path: /a}", None),
        said(&objects, "text", all()),
        said(&objects, "# nothing", all()),
        said(&objects, "a: 1\n b: [hunter2", all()),
        said(&objects, "\n\nspec: [hunter2]", all()),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    muster.yaml:11: the patch is for apps/v1 Deployment shop/wbe, which is not rendered; did you mean "web"?
    muster.yaml:11: the patch is for apps/v1beta1 Deployment shop/web, which is not rendered; there is apps/v1 Deployment.apps web
    muster.yaml:11: the patch is for apps/v1 Deployment shop/worker, which is not rendered; there is apps/v1 Deployment.apps jobs/worker
    muster.yaml:10: a patch without a target names its object: apiVersion, kind and metadata.name
    muster.yaml:8: the target of the patch (with name "wbe") selects no object; did you mean "web"?
    muster.yaml:8: the target of the patch (with kind "Deploymnet") selects no object; did you mean "Deployment"?
    muster.yaml:8: the target of the patch selects no object
    muster.yaml:8: target: name: "(" is no regular expression
    muster.yaml:8: target: labelSelector: label selector "a in b": "a in b" is no label key (such as stage=production,region in (eu,us),!legacy)
    muster.yaml:12: a patch with a target is one document
    muster.yaml:8: a JSON 6902 patch needs a target: it names no object
    muster.yaml:12: unknown op "rm": known are add, remove, replace, move, copy, test
    muster.yaml:12: does not fit Deployment.apps web: there is no /b, so no /b/c
    muster.yaml:10: leaves Deployment.apps web as no object: a manifest needs a metadata.name
    web/all.yaml:7: Deployment.apps shop/web is at web/all.yaml:2 already
    muster.yaml:12: a JSON 6902 patch is the only document of its entry
    muster.yaml:10: a patch is a mapping (strategic merge) or a list (JSON 6902), found text
    muster.yaml:10: the patch is empty
    muster.yaml:11: not YAML: mapping values are not allowed in this context
    muster.yaml:12: does not fit Deployment.apps web: spec is a mapping in the object and a list in the patch
    "#);
}

#[test]
fn a_patch_of_a_file_has_the_lines_of_that_file() {
    let snapshot = Snapshot::of(
        "r",
        [("patches/a.yaml", "# why\n- {op: remove, path: /b}\n")],
    );
    let file = |path: &str| Stated {
        text: Text::File(path.into()),
        ..stated("", target("{kind: Deployment}"))
    };
    let wrong = read(&file("patches/b.yaml"), &snapshot).unwrap_err();
    assert_eq!(
        (wrong.location.to_string(), wrong.message.as_str()),
        (
            "muster.yaml:8".into(),
            "the repository has no file patches/b.yaml"
        )
    );
    let patch = read(&file("patches/a.yaml"), &snapshot).unwrap();
    let wrong = apply(&[patch], &objects(THREE), "", &key()).unwrap_err();
    let (location, message) = (wrong[0].location.to_string(), wrong[0].message.as_str());
    assert_eq!(
        (location.as_str(), message),
        (
            "patches/a.yaml:2",
            "does not fit Deployment.apps web: there is no /b"
        )
    );
}
