//! The agent's engine alone on a real API server: what it applies, repairs, removes and remembers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use muster_agent::engine::{self, EngineOptions, Standing, Stop};
use muster_proto::{DriftKind, HealthStatus, Settings, SyncStatus};
use muster_tests::cluster::real;
use muster_tests::wait;
use serde_json::{Value, json};

use super::bed::{Bed, PATIENCE, application, bed, bed_in, config, start};

mod detecting;
mod dying;
mod impersonating;
mod narrowed;
mod ordering;
mod rewritten;
mod versions;

#[tokio::test]
async fn applies_changes_repairs_and_prunes() -> Result<()> {
    let bed = bed("engine-life").await?;
    let shop = |objects: &[Value]| application("shop", bed.settings(), objects);
    bed.accept(1, vec![shop(&[config("a", "1"), config("b", "1")])?])
        .await?;
    bed.holds("a", "1").await?;
    let row = bed.synced("shop").await?;
    assert_eq!(
        (row.objects, row.synced, row.health),
        (2, 2, HealthStatus::Current)
    );

    bed.accept(2, vec![shop(&[config("a", "2"), config("b", "1")])?])
        .await?;
    bed.holds("a", "2").await?;

    bed.synced("shop").await?;
    bed.edit("a", "by hand").await?;
    bed.holds("a", "2").await?;
    wait::until("the drift is reported as repaired", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        let drift = rows
            .objects()
            .values()
            .find_map(|row| row.last_drift.clone())
            .context("no drift")?;
        ensure!(drift.repaired_at.is_some(), "{drift:?}");
        assert_eq!(
            (drift.kind, drift.manager.as_str(), drift.count),
            (DriftKind::Changed, "kubectl-edit", 1)
        );
        assert_eq!(drift.fields, [".data.value"]);
        Ok(())
    })
    .await?;

    bed.maps().delete("b", &DeleteParams::default()).await?;
    bed.holds("b", "1").await?;

    bed.synced("shop").await?;
    bed.accept(3, vec![shop(&[config("a", "2")])?]).await?;
    wait::until("b is gone", PATIENCE, async || {
        ensure!(bed.maps().get_opt("b").await?.is_none());
        Ok(())
    })
    .await?;
    bed.accept(4, Vec::new()).await?;
    wait::until("everything is gone", PATIENCE, async || {
        ensure!(bed.maps().get_opt("a").await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn orders_a_namespace_a_definition_and_what_needs_them() -> Result<()> {
    let bed = bed("engine-order").await?;
    let group = format!("{}.example.com", bed.namespace);
    let inner = format!("{}-inner", bed.namespace);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("carts.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let cart = json!({"apiVersion": format!("{group}/v1"), "kind": "Cart",
        "metadata": {"name": "c", "namespace": inner}, "spec": {"size": 3}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner}});
    let denied =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_A_Name"}});
    let objects = [cart, denied, config("beside", "1"), definition, namespace];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    // One object's failure is reported and blocks nothing else.
    let row = bed.row("shop", |row| row.synced == 4).await?;
    assert_eq!(row.sync, SyncStatus::Failed);
    assert!(row.message.contains("Not_A_Name"), "{}", row.message);

    // All of it goes again, custom resource first, namespace last.
    bed.accept(2, Vec::new()).await?;
    wait::until(
        "the namespace is gone",
        Duration::from_secs(60),
        async || {
            let namespaces: Api<Namespace> = Api::all(bed.client.clone());
            ensure!(namespaces.get_opt(&inner).await?.is_none());
            Ok(())
        },
    )
    .await?;
    wait::until(
        "nothing is reported any more",
        Duration::from_secs(30),
        async || {
            let rows = bed.engine.rows().borrow().clone();
            ensure!(
                rows.applications().is_empty() && rows.objects().is_empty(),
                "{rows:?}"
            );
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn repairs_after_a_restart_without_any_hub_and_writes_nothing_that_is_right() -> Result<()> {
    let bed = bed("engine-restart").await?;
    let objects: Vec<Value> = (0..20).map(|n| config(&format!("c{n}"), "1")).collect();
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    let versions = async || -> Result<Vec<Option<String>>> {
        let list = bed
            .maps()
            .list(&ListParams::default().labels("muster.dev/application"))
            .await?;
        Ok(list
            .items
            .into_iter()
            .map(|map| map.metadata.resource_version)
            .collect())
    };
    bed.engine.stop(Stop::Because("restarted".into())).await;
    bed.task.abort();
    bed.edit("c7", "while nobody looked").await?;
    let before = versions().await?;

    let (engine, _task) =
        start(&bed.cluster, &format!("{}-ledger", bed.namespace), "second").await?;
    assert_eq!(engine.held().borrow().generation, 1);
    let bed = Bed { engine, ..bed };
    bed.holds("c7", "1").await?;
    bed.synced("shop").await?;
    let list = bed
        .maps()
        .list(&ListParams::default().labels("muster.dev/application"))
        .await?;
    let after: Vec<_> = list
        .items
        .into_iter()
        .map(|map| map.metadata.resource_version)
        .collect();
    let written = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .count();
    assert_eq!(written, 1);
    Ok(())
}

#[tokio::test]
async fn hands_an_object_over_between_applications_without_deleting_it() -> Result<()> {
    let bed = bed("engine-move").await?;
    let shop = |name: &str, objects: &[Value]| application(name, bed.settings(), objects);
    bed.accept(
        1,
        vec![
            shop("a", &[config("x", "1"), config("y", "1")])?,
            shop("b", &[])?,
        ],
    )
    .await?;
    bed.synced("a").await?;
    let uid = bed.maps().get("x").await?.metadata.uid;
    bed.accept(
        2,
        vec![
            shop("a", &[config("y", "1")])?,
            shop("b", &[config("x", "1")])?,
        ],
    )
    .await?;
    bed.row("b", |row| row.synced == 1).await?;
    let moved = bed.maps().get("x").await?;
    assert_eq!(moved.metadata.uid, uid);
    assert_eq!(
        moved.metadata.labels.unwrap_or_default()["muster.dev/application"],
        "b"
    );

    // Two claim it: the owner keeps it, the newcomer is held and both are named.
    bed.accept(
        3,
        vec![
            shop("a", &[config("x", "2")])?,
            shop("b", &[config("x", "3")])?,
        ],
    )
    .await?;
    bed.holds("x", "3").await?;
    let held = bed.row("a", |row| row.sync == SyncStatus::Kept).await?;
    assert!(
        held.message
            .contains("belongs to application b: a can't claim"),
        "{}",
        held.message
    );
    Ok(())
}

#[tokio::test]
async fn an_application_waits_for_the_one_it_depends_on() -> Result<()> {
    let bed = bed("engine-depends").await?;
    let late = || {
        let settings = Settings {
            depends_on: vec!["early".parse()?],
            ..bed.settings()
        };
        application("late", settings, &[config("late", "1")])
    };
    let early = |objects: &[Value]| application("early", bed.settings(), objects);
    let unknown = json!({"apiVersion": "no.such/v1", "kind": "Thing", "metadata": {"name": "t"}});
    bed.accept(1, vec![early(&[config("early", "1"), unknown])?, late()?])
        .await?;
    bed.holds("early", "1").await?;
    let row = bed.row("late", |row| !row.message.is_empty()).await?;
    assert_eq!(row.sync, SyncStatus::Progressing);
    assert!(
        row.message.contains("waits for application early"),
        "{}",
        row.message
    );
    let early_row = bed
        .row("early", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        early_row
            .message
            .contains("does not serve Thing in no.such/v1"),
        "{}",
        early_row.message
    );
    ensure!(bed.maps().get_opt("late").await?.is_none());

    bed.accept(2, vec![early(&[config("early", "1")])?, late()?])
        .await?;
    bed.holds("late", "1").await
}

#[tokio::test]
async fn rebuilds_a_damaged_ledger_from_what_is_there() -> Result<()> {
    // A cluster of its own: a rebuild takes everything that an agent applied for its own.
    let bed = bed_in(real::start("engine-damage").await?, "engine-damage").await?;
    // Large enough to be folded into shards.
    let mut noise = String::new();
    for n in 0..55_000_u64 {
        noise.push_str(&format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
    let state = || {
        application(
            "shop",
            bed.settings(),
            &[config("a", "1"), config("big", &noise)],
        )
    };
    bed.accept(1, vec![state()?]).await?;
    bed.synced("shop").await?;
    bed.engine
        .stop(Stop::Because("damaged by a test".into()))
        .await;
    let ledger = format!("{}-ledger", bed.namespace);
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), &ledger);
    let shards = ListParams::default().labels("muster.dev/ledger=shard");
    let found = secrets.list(&shards).await?;
    ensure!(!found.items.is_empty(), "nothing was folded");
    secrets
        .delete_collection(&DeleteParams::default(), &shards)
        .await?;

    let (engine, _task) = start(&bed.cluster, &ledger, "second").await?;
    assert_eq!(engine.held().borrow().generation, 0);
    let bed = Bed { engine, ..bed };
    // Same generation and content are taken again, and what left Git is still known to be ours.
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[config("a", "1"), config("big", &noise)],
        )?],
    )
    .await?;
    bed.accept(
        2,
        vec![application("shop", bed.settings(), &[config("a", "1")])?],
    )
    .await?;
    wait::until("big is gone", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        ensure!(bed.maps().get_opt("big").await?.is_none(), "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_second_agent_takes_the_cluster_and_the_first_stops_writing() -> Result<()> {
    let bed = bed("engine-two").await?;
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[config("a", "1")])?],
    )
    .await?;
    bed.synced("shop").await?;
    let ledger = format!("{}-ledger", bed.namespace);
    let (_second, _task) = start(&bed.cluster, &ledger, "second").await?;
    // The first notices without having anything to write.
    let mut standing = bed.engine.standing();
    let stopped = standing.wait_for(|standing| matches!(standing, Standing::Stopped(_)));
    tokio::time::timeout(PATIENCE, stopped).await??;
    let new = application("shop", bed.settings(), &[config("a", "2")])?;
    let refused = bed.accept(2, vec![new]).await;
    let why = refused.expect_err("the cluster was taken").to_string();
    assert!(why.contains("another agent took this cluster"), "{why}");
    assert_eq!(bed.value("a").await?, "1");

    let options = EngineOptions {
        namespace: ledger,
        hub: "other.test/def".into(),
        cluster: "eu-1".parse()?,
        instance: "third".into(),
    };
    let (foreign, task) = engine::start(bed.cluster.client()?, options);
    let _task = tokio::spawn(task);
    let why = foreign.loaded().await.expect_err("another hub owns it");
    assert!(
        why.contains("belongs to another hub (hub.test/abc)"),
        "{why}"
    );
    Ok(())
}

#[tokio::test]
async fn follows_a_rollout_until_it_is_healthy() -> Result<()> {
    let bed = bed("engine-health").await?;
    bed.cluster.run_workloads().await?;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}});
    bed.accept(1, vec![application("shop", bed.settings(), &[deployment])?])
        .await?;
    let row = bed
        .row("shop", |row| {
            row.health == HealthStatus::Current && row.synced == 1
        })
        .await?;
    assert_eq!(row.healthy, 1);
    let pods: Api<DynamicObject> = Api::namespaced_with(
        bed.client.clone(),
        &bed.namespace,
        &kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
    );
    assert_eq!(pods.list(&ListParams::default()).await?.items.len(), 2);
    Ok(())
}
