//! Fields that others applied before us, with every write counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_tests::memory::{Options, Server};
use muster_tests::wait;
use serde_json::{Value, json};

use crate::{PATIENCE, count, desired, holding, start, synced};

/// The namespace, before the agent would make it.
async fn make_shop(server: &Arc<Server>) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(server.client());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}}))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_kubectl_applied_costs_one_patch_once_and_then_nothing() -> Result<()> {
    let server = Server::new(Options::default());
    make_shop(&server).await?;
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

#[tokio::test]
async fn what_others_hold_in_another_version_costs_a_patch_and_an_apply_more() -> Result<()> {
    let server = Server::new(Options::default());
    make_shop(&server).await?;
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "carts.shop.io"},
        "spec": {"group": "shop.io", "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [version("v1", true), version("v1beta1", false)]}});
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    definitions
        .create(&PostParams::default(), &serde_json::from_value(definition)?)
        .await?;
    let carts = |version: &str| -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("shop.io", version, "Cart");
        Api::namespaced_with(server.client(), "shop", &ApiResource::from_gvk(&kind))
    };
    let cart = |version: &str, spec: Value| {
        json!({"apiVersion": format!("shop.io/{version}"), "kind": "Cart",
        "metadata": {"name": "c"}, "spec": spec})
    };
    let kubectl = PostParams {
        field_manager: Some("kubectl-client-side-apply".into()),
        ..PostParams::default()
    };
    let before = cart("v1beta1", json!({"size": 1, "bell": "loud"}));
    wait::until("the kind is served", PATIENCE, async || {
        let before = serde_json::from_value(before.clone())?;
        carts("v1beta1").create(&kubectl, &before).await?;
        Ok(())
    })
    .await?;
    let label = json!({"metadata": {"labels": {"team": "shop"}}});
    let by_hand = PatchParams {
        field_manager: Some("kubectl-label".into()),
        ..PatchParams::default()
    };
    carts("v1")
        .patch("c", &by_hand, &Patch::Merge(&label))
        .await?;

    let engine = start(&server, "first").await?;
    let (objects, _) = count(&server);
    let wanted = cart("v1", json!({"size": 2}));
    engine.accept(holding(1, &[wanted])?).await?;
    synced(&engine, 1).await?;
    let taken = carts("v1").get("c").await?;
    assert_eq!(taken.data["spec"], json!({"size": 2}));
    let labels = taken.metadata.labels.unwrap_or_default();
    assert_eq!(
        labels.into_keys().collect::<Vec<_>>(),
        ["muster.dev/application"]
    );
    let managed = taken.metadata.managed_fields.unwrap_or_default();
    let held: Vec<_> = managed
        .iter()
        .map(|entry| (entry.manager.as_deref(), entry.api_version.as_deref()))
        .collect();
    assert_eq!(held, [(Some("muster"), Some("shop.io/v1"))]);
    // What was held in our version is put into our entry before the apply, the rest by a patch and an apply after it.
    assert_eq!(objects.load(Ordering::SeqCst), 4);
    Ok(())
}
