//! Fields that others applied before us, with every write counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::SyncStatus;
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

/// Two appliers of one object would undo each other for ever: who comes second and leaves a mark gets it, with a word.
#[tokio::test]
async fn another_tool_that_applies_what_is_ours_is_a_conflict_and_no_fight() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let flux = PatchParams::apply("kustomize-controller").force();
    let applied = |name: &str, value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value},
            "metadata": {"name": name, "labels": {"kustomize.toolkit.fluxcd.io/name": "all"}}})
    };
    // The same value in c1: its mark alone is no conflict.
    for (name, value) in [("c1", "old"), ("c0", "flux")] {
        maps.patch(name, &flux, &Patch::Apply(applied(name, value)))
            .await?;
    }
    for generation in [1, 2] {
        if generation == 2 {
            // Git's next change is not written over it either.
            engine.accept(desired(2, 3, 1)?).await?;
        }
        wait::until("the conflict is told", PATIENCE, async || {
            let rows = engine.rows().borrow().clone();
            ensure!(rows.generation() == generation);
            let shop = &rows.applications()["shop"];
            ensure!(shop.synced == 2, "{shop:?}");
            let of_c0 = rows.objects().iter().find(|(key, _)| key.name == "c0");
            let (_, row) = of_c0.context("no row")?;
            ensure!(row.sync == SyncStatus::Failed, "{row:?}");
            let told = "Flux Kustomization all manages it: take it out of one of the two";
            ensure!(&*row.message == told, "{row:?}");
            Ok(())
        })
        .await?;
        let data = maps.get("c0").await?.data.unwrap_or_default();
        assert_eq!(data["value"], "flux");
    }
    let unmarked = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": null}}});
    maps.patch("c0", &PatchParams::default(), &Patch::Merge(&unmarked))
        .await?;
    synced(&engine, 2).await?;
    let data = maps.get("c0").await?.data.unwrap_or_default();
    assert_eq!(data["value"], "new");
    Ok(())
}

/// Defines a kind Cart in these versions, the first of which is stored.
async fn define_carts(server: &Arc<Server>, versions: &[&str]) -> Result<()> {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    let versions = versions.iter().enumerate().map(|(place, name)| {
        json!({"name": name, "served": true, "storage": place == 0, "schema": schema})
    });
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "carts.shop.io"},
        "spec": {"group": "shop.io", "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": versions.collect::<Vec<_>>()}});
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    let tests = PatchParams::apply("tests").force();
    definitions
        .patch("carts.shop.io", &tests, &Patch::Apply(&definition))
        .await?;
    Ok(())
}

fn carts(server: &Arc<Server>, version: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("shop.io", version, "Cart");
    Api::namespaced_with(server.client(), "shop", &ApiResource::from_gvk(&kind))
}

fn cart(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("shop.io/{version}"), "kind": "Cart", "metadata": {"name": "c"}, "spec": spec})
}

/// As soon as its kind is served.
async fn made_by_kubectl(server: &Arc<Server>, cart: &Value) -> Result<()> {
    let kubectl = PostParams {
        field_manager: Some("kubectl-client-side-apply".into()),
        ..PostParams::default()
    };
    let (_, version) = cart["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
        .unwrap_or_default();
    wait::until("the kind is served", PATIENCE, async || {
        let cart = serde_json::from_value(cart.clone())?;
        carts(server, version).create(&kubectl, &cart).await?;
        Ok(())
    })
    .await
}

/// In the newest version.
async fn labelled_by_hand(server: &Arc<Server>) -> Result<()> {
    let label = json!({"metadata": {"labels": {"team": "shop"}}});
    let by_hand = PatchParams {
        field_manager: Some("kubectl-label".into()),
        ..PatchParams::default()
    };
    carts(server, "v1")
        .patch("c", &by_hand, &Patch::Merge(&label))
        .await?;
    Ok(())
}

/// With a cart that kubectl made in a version that is not the newest.
async fn with_an_old_cart() -> Result<Arc<Server>> {
    let server = Server::new(Options::default());
    make_shop(&server).await?;
    define_carts(&server, &["v1", "v1beta1"]).await?;
    let before = json!({"size": 1, "bell": "loud"});
    made_by_kubectl(&server, &cart("v1beta1", before)).await?;
    labelled_by_hand(&server).await?;
    Ok(server)
}

/// The cart once it is as Git states it, and what that cost in writes of objects.
async fn wanted_by_git(server: &Arc<Server>) -> Result<(DynamicObject, usize)> {
    let engine = start(server, "first").await?;
    let (objects, _) = count(server);
    let wanted = cart("v1", json!({"size": 2}));
    engine.accept(holding(1, &[wanted])?).await?;
    synced(&engine, 1).await?;
    let taken = carts(server, "v1").get("c").await?;
    assert_eq!(taken.data["spec"], json!({"size": 2}));
    Ok((taken, objects.load(Ordering::SeqCst)))
}

#[tokio::test]
async fn what_others_hold_in_another_version_costs_a_patch_and_an_apply_more() -> Result<()> {
    let server = with_an_old_cart().await?;
    let (taken, writes) = wanted_by_git(&server).await?;
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
    assert_eq!(writes, 4);
    Ok(())
}

/// The API server forgets who holds what in a version that it knows nothing of any more, with the first write of all.
#[tokio::test]
async fn what_was_held_in_a_version_that_is_gone_is_taken_before_anything_is_written() -> Result<()>
{
    let server = with_an_old_cart().await?;
    define_carts(&server, &["v1"]).await?;
    let (_, writes) = wanted_by_git(&server).await?;
    // One patch and one apply: nothing is held in another version after that.
    assert_eq!(writes, 2);
    Ok(())
}
