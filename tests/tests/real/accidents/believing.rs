//! Health that was told and was not so.

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::{HealthStatus, Settings, SyncStatus};
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, config};

/// fluxcd/kustomize-controller#387: a custom resource counted as ready the moment it was created, because its
/// controller had not written any condition yet; what depended on it was started on nothing.
/// A resource whose definition declares a status gets a minute in which somebody may write one. It is in progress until
/// then, what depends on it waits, and it is current as soon as its controller says so.
#[tokio::test]
async fn a_resource_was_ready_before_its_controller_had_looked_at_it() -> Result<()> {
    let bed = bed("accident-387").await?;
    let group = format!("{}.example.com", bed.namespace);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("databases.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Database", "plural": "databases"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let database = json!({"apiVersion": format!("{group}/v1"), "kind": "Database", "metadata": {"name": "db"}});
    let late = Settings {
        depends_on: vec!["database".parse()?],
        ..bed.settings()
    };
    let state = vec![
        application("database", bed.settings(), &[definition, database])?,
        application("shop", late, &[config("shop", "1")])?,
    ];
    bed.accept(1, state).await?;
    let row = bed
        .row("database", |row| {
            row.sync == SyncStatus::Synced
                && row.synced == 2
                && row.message.contains("has not reported a status yet")
        })
        .await?;
    assert_eq!(row.health, HealthStatus::InProgress);
    bed.row("shop", |row| {
        row.message.contains("waits for application database")
    })
    .await?;
    ensure!(
        bed.maps().get_opt("shop").await?.is_none(),
        "it did not wait"
    );

    let gvk = GroupVersionKind::gvk(&group, "v1", "Database");
    let databases: Api<DynamicObject> = Api::namespaced_with(
        bed.client.clone(),
        &bed.namespace,
        &ApiResource::from_gvk_with_plural(&gvk, "databases"),
    );
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "message": "restoring"}]}});
    let says = async |status: &str| {
        let status = ready(status);
        let patch = Patch::Merge(&status);
        databases
            .patch_status("db", &PatchParams::default(), &patch)
            .await
    };
    says("False").await?;
    bed.row("database", |row| row.message.contains("restoring"))
        .await?;
    says("True").await?;
    wait::until("what depends on it starts", PATIENCE, async || {
        bed.maps().get_opt("shop").await?.context("not yet")
    })
    .await?;
    Ok(())
}
