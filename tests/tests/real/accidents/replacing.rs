//! Fields that can't be changed.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::api::Api;
use muster_proto::{Settings, SyncStatus};
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{Bed, PATIENCE, application, bed};

fn replacing(bed: &Bed) -> Settings {
    Settings {
        replace: true,
        ..bed.settings()
    }
}

/// fluxcd/kustomize-controller#734: with `force` any refusal counted as an immutable field. A Service with an empty
/// list of ports was refused, deleted, and could not be made again: an outage from a typing error.
/// We replace only what is refused for immutability alone, and what a dry run shows could be made anew.
#[tokio::test]
async fn a_running_service_was_deleted_because_its_new_manifest_was_wrong() -> Result<()> {
    let bed = bed("accident-734").await?;
    let service = |ports: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"app": "front"}, "ports": ports}})
    };
    bed.accept(
        1,
        vec![application(
            "shop",
            replacing(&bed),
            &[service(json!([{"port": 80}]))],
        )?],
    )
    .await?;
    let services: Api<Service> = bed.api();
    bed.row("shop", |row| row.synced == 1).await?;
    let uid = services.get("front").await?.metadata.uid;

    bed.accept(
        2,
        vec![application(
            "shop",
            replacing(&bed),
            &[service(json!([{"port": 70_000}]))],
        )?],
    )
    .await?;
    let row = bed
        .object("front", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        row.message.contains("must be between 1 and 65535"),
        "{}",
        row.message
    );
    assert_eq!(services.get("front").await?.metadata.uid, uid);

    // Wrong and immutable at once: still there.
    let mut both = service(json!([{"port": 70_000}]));
    both["spec"]["clusterIP"] = json!("None");
    bed.accept(3, vec![application("shop", replacing(&bed), &[both])?])
        .await?;
    bed.object("front", |row| {
        row.sync == SyncStatus::Failed && row.message != *""
    })
    .await?;
    assert_eq!(services.get("front").await?.metadata.uid, uid);
    Ok(())
}

/// A Service whose cluster IP is taken out of Git can't be changed in place; it is made anew, also when it holds the
/// node port that the new one wants.
#[tokio::test]
async fn a_service_is_made_anew_with_the_port_that_it_holds_itself() -> Result<()> {
    let bed = bed("replace-service").await?;
    let service = |headless: bool| {
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
            "spec": {"type": "NodePort", "selector": {"app": "front"}, "ports": [{"port": 80, "nodePort": 30_917}]}});
        if headless {
            service["spec"] =
                json!({"clusterIP": "None", "selector": {"app": "front"}, "ports": [{"port": 80}]});
        }
        service
    };
    let services: Api<Service> = bed.api();
    bed.accept(
        1,
        vec![application("shop", replacing(&bed), &[service(false)])?],
    )
    .await?;
    bed.row("shop", |row| row.synced == 1).await?;
    let uid = services.get("front").await?.metadata.uid;
    bed.accept(
        2,
        vec![application("shop", replacing(&bed), &[service(true)])?],
    )
    .await?;
    wait::until("it is another Service", PATIENCE, async || {
        let found = services.get("front").await?;
        ensure!(
            found.metadata.uid != uid,
            "{:?}",
            bed.engine.rows().borrow().objects()
        );
        ensure!(found.spec.and_then(|spec| spec.cluster_ip).as_deref() == Some("None"));
        Ok(())
    })
    .await?;
    bed.row("shop", |row| {
        row.sync == SyncStatus::Synced && row.synced == 1
    })
    .await?;
    Ok(())
}

/// A Job's template is immutable. Without leave it is reported and stays; with leave on the object alone it is made
/// anew.
#[tokio::test]
async fn a_job_is_made_anew_only_where_that_was_allowed() -> Result<()> {
    let bed = bed("replace-job").await?;
    let job = |image: &str, allowed: Option<&str>| {
        let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}, "spec": {"template": {
            "spec": {"nodeSelector": {"no": "such"}, "restartPolicy": "Never", "containers": [{"name": "m", "image": image}]}}}});
        if let Some(allowed) = allowed {
            job["metadata"]["annotations"] = json!({"muster.dev/replace": allowed});
        }
        job
    };
    let jobs: Api<Job> = bed.api();
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[job("one", None)])?],
    )
    .await?;
    bed.row("shop", |row| row.synced == 1).await?;
    let uid = jobs.get("migrate").await?.metadata.uid;

    bed.accept(
        2,
        vec![application("shop", bed.settings(), &[job("two", None)])?],
    )
    .await?;
    let row = bed
        .object("migrate", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        row.message.contains("field is immutable")
            && row.message.contains("muster.dev/replace: enabled"),
        "{}",
        row.message
    );
    assert_eq!(jobs.get("migrate").await?.metadata.uid, uid);

    bed.accept(
        3,
        vec![application(
            "shop",
            bed.settings(),
            &[job("two", Some("enabled"))],
        )?],
    )
    .await?;
    let anew = wait::until("it is another Job", PATIENCE, async || {
        let found = jobs.get("migrate").await?;
        ensure!(
            found.metadata.uid != uid,
            "{:?}",
            bed.engine.rows().borrow().objects()
        );
        Ok(found)
    })
    .await?;
    let image = anew
        .spec
        .and_then(|spec| spec.template.spec?.containers.first()?.image.clone());
    assert_eq!(image.as_deref(), Some("two"));
    bed.row("shop", |row| row.synced == 1).await?;
    Ok(())
}

/// Data is never deleted to change a field, whatever was allowed.
#[tokio::test]
async fn a_volume_claim_is_never_deleted_to_be_made_anew() -> Result<()> {
    let bed = bed("replace-never").await?;
    let claim = |mode: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk", "annotations": {"muster.dev/replace": "enabled"}},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let claims: Api<PersistentVolumeClaim> = bed.api();
    bed.accept(
        1,
        vec![application(
            "shop",
            replacing(&bed),
            &[claim("ReadWriteOnce")],
        )?],
    )
    .await?;
    bed.row("shop", |row| row.synced == 1).await?;
    let uid = claims.get("disk").await?.metadata.uid.context("no UID")?;
    bed.accept(
        2,
        vec![application(
            "shop",
            replacing(&bed),
            &[claim("ReadOnlyMany")],
        )?],
    )
    .await?;
    let row = bed
        .object("disk", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        row.message.contains("never deleted to be made anew"),
        "{}",
        row.message
    );
    assert_eq!(claims.get("disk").await?.metadata.uid, Some(uid));
    Ok(())
}

/// The words of the API server for what can't be changed differ from kind to kind.
#[tokio::test]
async fn whatever_words_say_that_it_can_not_be_changed_it_is_made_anew() -> Result<()> {
    let bed = bed("replace-words").await?;
    let pods = json!({"metadata": {"labels": {"app": "a", "tier": "b"}},
        "spec": {"nodeSelector": {"no": "such"}, "containers": [{"name": "m", "image": "m"}]}});
    let role = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let selector = |label: &str, value: &str| json!({"matchLabels": {label: value}});
    let own = |name: &str| format!("{}-{name}", bed.namespace);
    let table = [
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            "/roleRef",
            role("view"),
            role("edit"),
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            "/roleRef",
            role("view"),
            role("edit"),
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            "/value",
            json!(1),
            json!(2),
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            "/provisioner",
            json!("example.com/a"),
            json!("example.com/b"),
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            "/parameters",
            json!({"a": "b"}),
            json!({"a": "c"}),
        ),
        (
            "networking.k8s.io/v1",
            "IngressClass",
            "/spec/controller",
            json!("example.com/a"),
            json!("example.com/b"),
        ),
        (
            "node.k8s.io/v1",
            "RuntimeClass",
            "/handler",
            json!("a"),
            json!("b"),
        ),
        (
            "v1",
            "Secret",
            "/type",
            json!("example.com/a"),
            json!("example.com/b"),
        ),
        (
            "apps/v1",
            "Deployment",
            "/spec/selector",
            selector("app", "a"),
            selector("tier", "b"),
        ),
        (
            "apps/v1",
            "DaemonSet",
            "/spec/selector",
            selector("app", "a"),
            selector("tier", "b"),
        ),
        (
            "apps/v1",
            "StatefulSet",
            "/spec/selector",
            selector("app", "a"),
            selector("tier", "b"),
        ),
        (
            "apps/v1",
            "StatefulSet",
            "/spec/serviceName",
            json!("a"),
            json!("b"),
        ),
        (
            "v1",
            "Pod",
            "/spec/containers/0/command",
            json!(["a"]),
            json!(["b"]),
        ),
    ];
    let of = |place: usize, second: bool| {
        let (version, kind, field, before, after) = &table[place];
        let name = own(&place.to_string());
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        match *kind {
            "PriorityClass" => object["value"] = json!(1),
            "StorageClass" => object["provisioner"] = json!("example.com/a"),
            "Pod" => object["spec"] = pods["spec"].clone(),
            "Deployment" | "DaemonSet" | "StatefulSet" => {
                object["spec"] = json!({"selector": selector("app", "a"), "template": pods});
            }
            "IngressClass" => object["spec"] = json!({}),
            _ => {}
        }
        let (parent, last) = field.rsplit_once('/').unwrap_or_default();
        let parent = object
            .pointer_mut(parent)
            .unwrap_or_else(|| unreachable!("{field}"));
        parent[last] = if second {
            after.clone()
        } else {
            before.clone()
        };
        object
    };
    let all = |second| -> Vec<Value> { (0..table.len()).map(|place| of(place, second)).collect() };
    let accept = async |generation, second| {
        let shop = application("shop", replacing(&bed), &all(second))?;
        bed.accept(generation, vec![shop]).await
    };
    accept(1, false).await?;
    let count = u32::try_from(table.len())?;
    bed.row("shop", |row| row.synced == count).await?;
    accept(2, true).await?;
    wait::until("all are as the second commit says", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        let failed: Vec<_> = rows.objects().values().collect();
        let failed = failed.iter().filter(|row| row.sync == SyncStatus::Failed);
        let failed: Vec<_> = failed
            .map(|row| format!("{}: {}", row.key, row.message))
            .collect();
        ensure!(failed.is_empty(), "{failed:#?}");
        ensure!(rows.generation() == 2 && rows.applications()["shop"].synced == count);
        Ok(())
    })
    .await?;
    // Those outside the namespace go, too.
    bed.accept(3, Vec::new()).await?;
    wait::until("nothing is left", PATIENCE, async || {
        ensure!(bed.engine.rows().borrow().applications().is_empty());
        Ok(())
    })
    .await
}
