//! Does it work? Told from what controllers of a real cluster write, and from what the application says of its kinds.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::{HealthRule, HealthStatus, Settings};
use muster_tests::wait;
use serde_json::{Value, json};

use super::bed::{PATIENCE, application, bed, config};

#[tokio::test]
async fn an_application_says_when_its_custom_resource_works() -> Result<()> {
    let bed = bed("health-rules").await?;
    let group = format!("{}.example.com", bed.namespace);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("carts.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let cart = json!({"apiVersion": format!("{group}/v1"), "kind": "Cart", "metadata": {"name": "c"}, "spec": {"size": 3}});
    let rule = |current: &str| HealthRule {
        group: group.clone(),
        kind: "Cart".into(),
        current: Some(current.into()),
        in_progress: None,
        failed: Some("self.status.phase == 'Broken'".into()),
    };
    let of_map = HealthRule {
        group: String::new(),
        kind: "ConfigMap".into(),
        current: None,
        in_progress: None,
        failed: Some("self.data.value == 'bad'".into()),
    };
    let state = |current: &str, value: &str| {
        let settings = Settings {
            health: vec![rule(current), of_map.clone()],
            ..bed.settings()
        };
        let objects = [definition.clone(), cart.clone(), config("m", value)];
        application("shop", settings, &objects)
    };
    bed.accept(1, vec![state("self.status.phase == 'Rolling'", "good")?])
        .await?;
    bed.synced("shop").await?;
    bed.object("c", |row| row.health == HealthStatus::InProgress)
        .await?;

    let gvk = GroupVersionKind::gvk(&group, "v1", "Cart");
    let carts: Api<DynamicObject> = Api::namespaced_with(
        bed.client.clone(),
        &bed.namespace,
        &ApiResource::from_gvk_with_plural(&gvk, "carts"),
    );
    let phase = async |phase: &str| {
        let status = json!({"status": {"phase": phase}});
        let patch = Patch::Merge(&status);
        carts
            .patch_status("c", &PatchParams::default(), &patch)
            .await
    };
    phase("Broken").await?;
    let row = bed
        .object("c", |row| row.health == HealthStatus::Failed)
        .await?;
    assert_eq!(row.message, "by its health rule it failed");
    phase("Rolling").await?;
    bed.row("shop", |row| {
        row.health == HealthStatus::Current && row.healthy == 3
    })
    .await?;

    // Another rule judges what is there anew, and a kind that is otherwise known by its metadata alone has one too.
    bed.accept(2, vec![state("self.status.phase == 'Parked'", "bad")?])
        .await?;
    bed.object("c", |row| row.health == HealthStatus::InProgress)
        .await?;
    bed.object("m", |row| row.health == HealthStatus::Failed)
        .await?;
    Ok(())
}

/// A workload of Pods that no controller of this cluster makes ready.
fn workload(name: &str, spec: Value) -> Value {
    let mut pod = json!({"containers": [{"name": "web", "image": "web"}]});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod[field] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}})
}

#[tokio::test]
async fn why_a_workload_is_not_ready_is_told_by_its_pods() -> Result<()> {
    let bed = bed("health-pods").await?;
    bed.cluster.run_workloads().await?;
    // The scheduler says of one why it goes nowhere; of the other a node says that its image can't be had.
    let nowhere = workload("nowhere", json!({"nodeSelector": {"no": "such"}}));
    let image = workload("image", json!({"schedulerName": "nobody"}));
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[nowhere, image])?],
    )
    .await?;
    let row = bed
        .object("nowhere", |row| row.message.contains("Pod "))
        .await?;
    assert_eq!(row.health, HealthStatus::InProgress);
    assert!(
        row.message.starts_with("Pod nowhere-") && row.message.contains("Unschedulable: 0/"),
        "{}",
        row.message
    );

    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), &bed.namespace);
    let pod = wait::until("the Pod is there", PATIENCE, async || {
        let of_image = ListParams::default().labels("app=image");
        let found = pods.list(&of_image).await?.items;
        let pod = found.into_iter().next().context("no Pod")?;
        pod.metadata.name.context("no name")
    })
    .await?;
    let status = json!({"status": {"phase": "Pending", "containerStatuses": [{"name": "web", "image": "web", "imageID": "",
        "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"web\""}}}]}});
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    let row = bed
        .object("image", |row| row.message.contains("ImagePullBackOff"))
        .await?;
    assert_eq!(
        row.message,
        format!("Pod {pod}: container web: ImagePullBackOff: Back-off pulling image \"web\"")
    );
    let row = bed.row("shop", |row| row.message.contains("Pod ")).await?;
    assert_eq!(row.health, HealthStatus::InProgress);
    Ok(())
}
