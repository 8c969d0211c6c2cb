//! Objects that several applications, or several people, have to do with.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::{Api, ListParams};
use muster_proto::SyncStatus;
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, config};
use super::super::scenario::{self, Scenario};

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

/// fluxcd/flux2#3316: who renamed a Kustomization saw all its objects deleted and made again. An application with
/// another name and the same objects is a hand-over: nothing is deleted.
#[tokio::test]
async fn everything_was_deleted_because_its_application_got_another_name() -> Result<()> {
    let bed = bed("accident-3316").await?;
    let named = |name: &str| {
        let objects: Vec<_> = (0..15).map(|n| config(&format!("c{n}"), "1")).collect();
        application(name, bed.settings(), &objects)
    };
    bed.accept(1, vec![named("old-name")?]).await?;
    bed.synced("old-name").await?;
    let uids = async || -> Result<Vec<Option<String>>> {
        let label = ListParams::default().labels("muster.dev/application");
        let list = bed.maps().list_metadata(&label).await?;
        Ok(list.items.into_iter().map(|map| map.metadata.uid).collect())
    };
    let before = uids().await?;
    bed.accept(2, vec![named("new-name")?]).await?;
    bed.synced("new-name").await?;
    assert_eq!(before.len(), 15);
    assert_eq!(uids().await?, before);
    Ok(())
}

/// rancher/fleet#935: a cluster moved from one set of bundles to the next by a label, `engine: v1` to `engine: v2`. All
/// releases of the old set were uninstalled before those of the new one were installed from nothing, and what an
/// application had put into its volumes was lost.
/// A cluster that leaves one application for another one with the same objects hands them over: they are changed where
/// the new one says something else, what only the old one had goes, and nothing is deleted to be made again.
#[tokio::test]
async fn a_cluster_that_got_another_label_was_emptied_before_it_was_filled_again() -> Result<()> {
    let label = |version: &str| {
        let document = format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: one\nspec:\n  labels:\n    engine: {version}\n"
        );
        ("clusters/one/muster.yaml".to_owned(), document)
    };
    let engine = |version: &str, namespace: &str| {
        let name = format!("engine-{version}");
        let (path, document) = scenario::application(&name, namespace);
        let target = format!(
            "  targets:\n    - name: all\n      clusters:\n        matchLabels:\n          engine: {version}\n"
        );
        let volume = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: data\nspec:\n  \
            accessModes: [ReadWriteOnce]\n  resources:\n    requests:\n      storage: 1Gi\n";
        vec![
            (path, document + &target),
            scenario::config_map(&name, "settings", "version", version),
            scenario::config_map(&name, &format!("only-{version}"), "k", "v"),
            (format!("{name}/data.yaml"), volume.to_owned()),
        ]
    };
    let scenario = Scenario::start(|namespace| {
        let both = engine("v1", namespace)
            .into_iter()
            .chain(engine("v2", namespace));
        both.chain([label("v1")]).collect()
    })
    .await?;
    scenario.becomes("settings", "version", "v1").await?;
    scenario.becomes("only-v1", "k", "v").await?;
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(scenario.cluster.client()?, &scenario.namespace);
    wait::until("the volume is claimed", PATIENCE, async || {
        claims.get("data").await?;
        Ok(())
    })
    .await?;
    let uids = async || -> Result<_> {
        let map = scenario.config_maps()?.get("settings").await?.metadata;
        Ok([map.uid, claims.get("data").await?.metadata.uid])
    };
    let before = uids().await?;

    scenario::push(&scenario.world, "Move to the next engine", &[label("v2")]).await?;
    scenario.becomes("settings", "version", "v2").await?;
    scenario.becomes("only-v2", "k", "v").await?;
    scenario.goes("only-v1").await?;
    assert_eq!(uids().await?, before, "deleted and made again");
    let labels = claims
        .get("data")
        .await?
        .metadata
        .labels
        .unwrap_or_default();
    let owner = labels.get("muster.dev/application").map(String::as_str);
    assert_eq!(owner, Some("engine-v2"));
    Ok(())
}

/// fluxcd/flux2#3949: a Namespace in Git came to stand for the namespace of the tool itself. When it was taken out of
/// Git again, the tool deleted its own namespace with everything in it.
/// A namespace that holds what is not the application's stays, and its row says what that is.
#[tokio::test]
async fn the_tool_deleted_its_own_namespace() -> Result<()> {
    let bed = bed("accident-3949").await?;
    let own = format!("{}-ledger", bed.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}});
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[namespace, config("a", "1")],
        )?],
    )
    .await?;
    bed.synced("shop").await?;
    bed.accept(
        2,
        vec![application("shop", bed.settings(), &[config("a", "2")])?],
    )
    .await?;
    let row = bed
        .object(&own, |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    assert!(row.message.contains("muster-ledger"), "{}", row.message);
    bed.holds("a", "2").await?;
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    assert!(
        namespaces
            .get(&own)
            .await?
            .metadata
            .deletion_timestamp
            .is_none()
    );
    Ok(())
}
