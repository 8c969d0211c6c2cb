//! Fields that others hold in another version of the API than the one that Git states.

use anyhow::{Result, ensure};
use kube::api::{Api, DynamicObject, Patch, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::DriftKind;
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{Bed, PATIENCE, application, bed, kubectl_apply, manager};

/// Objects of a kind in this version of it.
fn objects(bed: &Bed, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(bed.client.clone(), &bed.namespace, &kind)
}

fn held_by(object: &DynamicObject) -> Vec<(String, String)> {
    let managed = object.metadata.managed_fields.iter().flatten();
    let held = managed.map(|entry| {
        let (manager, version) = (entry.manager.clone(), entry.api_version.clone());
        (manager.unwrap_or_default(), version.unwrap_or_default())
    });
    held.collect()
}

#[tokio::test]
async fn what_kubectl_applied_in_another_version_leaves_with_git() -> Result<()> {
    let bed = bed("versions-hpa").await?;
    let scaler = |version: &str, spec: Value| {
        json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"}, "spec": spec})
    };
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let mut before = scaler(
        "v1",
        json!({"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 80}),
    );
    before["metadata"]["namespace"] = json!(bed.namespace);
    let old = objects(&bed, "autoscaling", "v1", "HorizontalPodAutoscaler");
    kubectl_apply(&old, &before).await?;

    let memory = json!([{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "Utilization", "averageUtilization": 70}}}]);
    let wanted = scaler(
        "v2",
        json!({"scaleTargetRef": target, "maxReplicas": 5, "metrics": memory}),
    );
    bed.accept(1, vec![application("shop", bed.settings(), &[wanted])?])
        .await?;
    bed.synced("shop").await?;
    let found = objects(&bed, "autoscaling", "v2", "HorizontalPodAutoscaler")
        .get("web")
        .await?;
    assert_eq!(
        held_by(&found),
        [("muster".to_owned(), "autoscaling/v2".to_owned())]
    );
    let spec = &found.data["spec"];
    assert_eq!(
        (&spec["metrics"], &spec["maxReplicas"]),
        (&memory, &json!(5))
    );
    // What the API server fills in where nobody says anything.
    assert_eq!(spec["minReplicas"], 1);
    Ok(())
}

/// A kind Cart in some versions, the first of which is stored; `served` says which are.
fn carts(group: &str, versions: &[(&str, bool)]) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer"},
            "colour": {"type": "string"}, "bell": {"type": "string"}, "bag": {"type": "string"}}}}}});
    let versions = versions.iter().enumerate().map(|(place, (name, served))| {
        json!({"name": name, "served": served, "storage": place == 0, "schema": schema})
    });
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("carts.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": versions.collect::<Vec<_>>()}})
}

fn cart(group: &str, version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{group}/{version}"), "kind": "Cart", "metadata": {"name": "c"}, "spec": spec})
}

async fn define(bed: &Bed, definition: &Value) -> Result<()> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> =
        Api::all_with(bed.client.clone(), &ApiResource::from_gvk(&kind));
    let mut parameters = manager("tests");
    parameters.force = true;
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    definitions
        .patch(name, &parameters, &Patch::Apply(definition))
        .await?;
    Ok(())
}

/// Makes an object as kubectl does, as soon as its kind is served.
async fn made_by_kubectl(api: &Api<DynamicObject>, object: &Value) -> Result<()> {
    wait::until("the kind is served", PATIENCE, async || {
        let parameters = PostParams {
            field_manager: Some("kubectl-client-side-apply".into()),
            ..PostParams::default()
        };
        api.create(&parameters, &serde_json::from_value(object.clone())?)
            .await?;
        Ok(())
    })
    .await
}

async fn becomes(api: &Api<DynamicObject>, spec: Value) -> Result<DynamicObject> {
    wait::until("the object is as Git says", PATIENCE, async || {
        let found = api.get("c").await?;
        ensure!(found.data["spec"] == spec, "{found:#?}");
        let held = held_by(&found);
        ensure!(held.len() == 1 && held[0].0 == "muster", "{held:?}");
        Ok(found)
    })
    .await
}

#[tokio::test]
async fn what_a_person_adds_in_another_version_is_drift_and_goes() -> Result<()> {
    let bed = bed("versions-cart").await?;
    let group = format!("{}.example.com", bed.namespace);
    define(&bed, &carts(&group, &[("v1", true), ("v1beta1", true)])).await?;
    let (old, new) = (
        objects(&bed, &group, "v1beta1", "Cart"),
        objects(&bed, &group, "v1", "Cart"),
    );
    // Somebody else's are left, whatever the version.
    let before = json!({"size": 1, "bell": "loud"});
    made_by_kubectl(&old, &cart(&group, "v1beta1", before)).await?;
    let wanted = cart(&group, "v1", json!({"size": 2}));
    bed.accept(1, vec![application("shop", bed.settings(), &[wanted])?])
        .await?;
    bed.synced("shop").await?;
    becomes(&new, json!({"size": 2})).await?;

    let bag = json!({"spec": {"bag": "brown"}});
    old.patch("c", &manager("kubectl-edit"), &Patch::Merge(&bag))
        .await?;
    becomes(&new, json!({"size": 2})).await?;
    let row = bed
        .object("c", |row| {
            let drift = row.last_drift.as_ref();
            drift.is_some_and(|drift| drift.repaired_at.is_some())
        })
        .await?;
    let drift = row
        .last_drift
        .unwrap_or_else(|| unreachable!("it was asked for"));
    assert_eq!(
        (drift.kind, drift.manager.as_str()),
        (DriftKind::Added, "kubectl-edit")
    );
    assert_eq!(drift.fields, [".spec.bag"]);

    let other = json!({"spec": {"colour": "red"}});
    old.patch("c", &manager("painter"), &Patch::Merge(&other))
        .await?;
    let bigger = cart(&group, "v1", json!({"size": 3}));
    bed.accept(2, vec![application("shop", bed.settings(), &[bigger])?])
        .await?;
    wait::until("Git's change is there", PATIENCE, async || {
        let found = new.get("c").await?.data;
        ensure!(
            found["spec"] == json!({"size": 3, "colour": "red"}),
            "{found}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_kubectl_applied_in_a_version_that_is_not_served_any_more_leaves_with_git()
-> Result<()> {
    let bed = bed("versions-gone").await?;
    let group = format!("{}.example.com", bed.namespace);
    define(&bed, &carts(&group, &[("v1", true), ("v1alpha1", true)])).await?;
    let old = objects(&bed, &group, "v1alpha1", "Cart");
    let before = json!({"size": 1, "bell": "loud"});
    made_by_kubectl(&old, &cart(&group, "v1alpha1", before)).await?;
    define(&bed, &carts(&group, &[("v1", true), ("v1alpha1", false)])).await?;
    wait::until("the old version is served no more", PATIENCE, async || {
        ensure!(old.get("c").await.is_err());
        Ok(())
    })
    .await?;

    let wanted = cart(&group, "v1", json!({"size": 2}));
    bed.accept(1, vec![application("shop", bed.settings(), &[wanted])?])
        .await?;
    bed.synced("shop").await?;
    becomes(&objects(&bed, &group, "v1", "Cart"), json!({"size": 2})).await?;
    Ok(())
}

/// The same where the API server knows nothing of the old version any more: it drops what is held in it with the first
/// write, whoever that is of.
#[tokio::test]
async fn what_kubectl_applied_in_a_version_that_is_gone_leaves_with_git_beside_what_others_hold()
-> Result<()> {
    let bed = bed("versions-unknown").await?;
    let group = format!("{}.example.com", bed.namespace);
    define(&bed, &carts(&group, &[("v1", true), ("v1alpha1", true)])).await?;
    let (old, new) = (
        objects(&bed, &group, "v1alpha1", "Cart"),
        objects(&bed, &group, "v1", "Cart"),
    );
    let before = json!({"size": 1, "bell": "loud"});
    made_by_kubectl(&old, &cart(&group, "v1alpha1", before)).await?;
    let bag = json!({"spec": {"bag": "brown"}});
    new.patch("c", &manager("kubectl-edit"), &Patch::Merge(&bag))
        .await?;
    let colour = json!({"spec": {"colour": "red"}});
    new.patch("c", &manager("painter"), &Patch::Merge(&colour))
        .await?;
    define(&bed, &carts(&group, &[("v1", true)])).await?;
    wait::until("the old version is served no more", PATIENCE, async || {
        ensure!(old.get("c").await.is_err());
        Ok(())
    })
    .await?;
    let held = held_by(&new.get("c").await?);
    ensure!(
        held.iter()
            .any(|(_, version)| version.ends_with("v1alpha1")),
        "{held:?}"
    );

    let wanted = cart(&group, "v1", json!({"size": 2}));
    bed.accept(1, vec![application("shop", bed.settings(), &[wanted])?])
        .await?;
    bed.synced("shop").await?;
    let found = new.get("c").await?;
    assert_eq!(found.data["spec"], json!({"size": 2, "colour": "red"}));
    let mut held = held_by(&found);
    held.sort();
    let held: Vec<&str> = held.iter().map(|(manager, _)| manager.as_str()).collect();
    assert_eq!(held, ["muster", "painter"]);
    Ok(())
}
