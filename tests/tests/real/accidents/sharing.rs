//! Objects that several applications, or several people, have to do with.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use muster_proto::SyncStatus;
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, config};

/// argoproj/argo-cd#22607: two applications stated the same Namespace. When one of them was deleted it took the
/// Namespace along, and with it the workloads of the other.
/// Here one owns it and the other is told so; when the owner goes, it is handed over and nothing is deleted.
#[tokio::test]
async fn an_application_that_was_deleted_took_along_what_another_one_used_too() -> Result<()> {
    let bed = bed("accident-22607").await?;
    let shared = format!("{}-shared", bed.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shared}});
    let one = |name: &str| {
        let mut own = config(name, "1");
        own["metadata"]["namespace"] = json!(shared);
        application(name, bed.settings(), &[namespace.clone(), own])
    };
    bed.accept(1, vec![one("first")?]).await?;
    bed.synced("first").await?;
    bed.accept(2, vec![one("first")?, one("second")?]).await?;
    let held = bed
        .row("second", |row| row.sync == SyncStatus::Kept)
        .await?;
    assert!(
        held.message
            .contains("belongs to application first: second can't claim it too"),
        "{}",
        held.message
    );
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    let uid = namespaces.get(&shared).await?.metadata.uid;

    bed.accept(3, vec![one("second")?]).await?;
    bed.synced("second").await?;
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> =
        Api::namespaced(bed.client.clone(), &shared);
    wait::until("what the first alone had is gone", PATIENCE, async || {
        ensure!(maps.get_opt("first").await?.is_none());
        Ok(())
    })
    .await?;
    let found = namespaces.get(&shared).await?;
    assert_eq!(found.metadata.uid, uid);
    assert!(found.metadata.deletion_timestamp.is_none());
    maps.get("second").await?;
    Ok(())
}
