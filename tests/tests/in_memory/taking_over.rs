//! Fields that others applied before us, with every write counted.

use std::sync::atomic::Ordering;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, Patch, PatchParams, PostParams};
use muster_tests::memory::{Options, Server};
use serde_json::json;

use crate::{count, desired, start, synced};

#[tokio::test]
async fn what_kubectl_applied_costs_one_patch_once_and_then_nothing() -> Result<()> {
    let server = Server::new(Options::default());
    let namespaces: Api<Namespace> = Api::all(server.client());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}}))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let kubectl = PostParams {
        field_manager: Some("kubectl-client-side-apply".into()),
        ..PostParams::default()
    };
    let before = json!({"metadata": {"name": "c0", "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": "{}"}}, "data": {"value": "old", "left": "git"}});
    maps.create(&kubectl, &serde_json::from_value(before)?)
        .await?;

    let engine = start(&server, "first").await?;
    let (objects, _) = count(&server);
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    let taken = maps.get("c0").await?;
    assert_eq!(
        taken
            .data
            .unwrap_or_default()
            .into_keys()
            .collect::<Vec<_>>(),
        ["value"]
    );
    let managed = taken.metadata.managed_fields.unwrap_or_default();
    let managers: Vec<_> = managed
        .iter()
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    assert_eq!(managers, ["muster"]);
    // Three applies and one patch.
    assert_eq!(objects.load(Ordering::SeqCst), 4);

    // What another one adds beside us is not touched, and what changes later is one write again.
    let label = json!({"metadata": {"labels": {"team": "shop"}}});
    let other = PatchParams {
        field_manager: Some("labeller".into()),
        ..PatchParams::default()
    };
    maps.patch("c0", &other, &Patch::Merge(&label)).await?;
    let (objects, _) = count(&server);
    engine.accept(desired(2, 3, 1)?).await?;
    synced(&engine, 2).await?;
    assert_eq!(objects.load(Ordering::SeqCst), 1);
    let labels = maps.get("c0").await?.metadata.labels.unwrap_or_default();
    assert_eq!(labels["team"], "shop");
    Ok(())
}
