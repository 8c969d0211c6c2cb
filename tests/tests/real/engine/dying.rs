//! Objects and namespaces that are being deleted while Git wants them.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams};
use muster_proto::SyncStatus;
use muster_tests::cluster::real;
use muster_tests::proxy::Proxy;
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, bed_with, config};

/// An apply onto a dying object answers 200 and is then gone: it counts for nothing, and is done again.
#[tokio::test]
async fn an_object_that_is_being_deleted_is_waited_for_and_made_again() -> Result<()> {
    let bed = bed("dying-object").await?;
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[config("a", "1")])?],
    )
    .await?;
    bed.synced("shop").await?;
    let uid = bed.dies("a").await?;
    // It has been told, so that the commit finds it dying.
    let dies = "it is being deleted, and applied again when it is gone";
    bed.object("a", |row| row.message.contains(dies)).await?;

    bed.accept(
        2,
        vec![application("shop", bed.settings(), &[config("a", "2")])?],
    )
    .await?;
    wait::until("the commit is looked at", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        ensure!(rows.generation() == 2, "{}", rows.generation());
        Ok(())
    })
    .await?;
    let row = bed.object("a", |row| row.message.contains(dies)).await?;
    assert_eq!(row.sync, SyncStatus::Progressing);
    assert_eq!(bed.value("a").await?, "1");

    bed.released("a").await?;
    bed.holds("a", "2").await?;
    let made_again = bed.maps().get("a").await?.metadata.uid;
    ensure!(made_again != Some(uid), "it is the same object");
    bed.synced("shop").await?;
    Ok(())
}

/// The same when the commit is faster than the news: the apply is taken by what is dying, and made good afterwards.
#[tokio::test]
async fn an_apply_that_an_object_took_into_its_grave_is_done_again() -> Result<()> {
    let cluster = real::shared("one").await?;
    let proxy = Proxy::start(&cluster).await?;
    proxy.blind(true);
    let bed = bed_with(cluster, proxy.client().await?, "dying-unseen").await?;
    let state = |value: &str| application("shop", bed.settings(), &[config("a", value)]);
    bed.accept(1, vec![state("1")?]).await?;
    bed.synced("shop").await?;
    let uid = bed.dies("a").await?;

    bed.accept(2, vec![state("2")?]).await?;
    let row = bed
        .object("a", |row| row.message.contains("it is being deleted"))
        .await?;
    assert_eq!(row.sync, SyncStatus::Progressing);
    assert_eq!(bed.value("a").await?, "2");
    bed.released("a").await?;
    ensure!(bed.maps().get_opt("a").await?.is_none(), "it is not gone");
    proxy.blind(false);
    bed.holds("a", "2").await?;
    ensure!(bed.maps().get("a").await?.metadata.uid != Some(uid));
    bed.synced("shop").await?;
    Ok(())
}

/// What Git wants in a namespace that somebody deletes comes back with the namespace.
#[tokio::test]
async fn a_namespace_that_is_being_deleted_is_waited_for_and_comes_back_with_all_that_is_in_it()
-> Result<()> {
    let bed = bed("dying-namespace").await?;
    let inner = format!("{}-inner", bed.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner}});
    let mut map = config("a", "1");
    map["metadata"]["namespace"] = json!(inner);
    // One that Git states, and one that it does not.
    let unstated = format!("{}-unstated", bed.namespace);
    let mut other = config("b", "1");
    other["metadata"]["namespace"] = json!(unstated);
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[namespace, map, other],
        )?],
    )
    .await?;
    bed.synced("shop").await?;
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    for (name, object) in [(&inner, "a"), (&unstated, "b")] {
        let uid = namespaces.get(name).await?.metadata.uid;
        namespaces.delete(name, &DeleteParams::default()).await?;
        let maps: Api<ConfigMap> = Api::namespaced(bed.client.clone(), name);
        wait::until("it is back", PATIENCE * 3, async || {
            let rows = bed.engine.rows().borrow().clone();
            let found = namespaces.get_opt(name).await?;
            ensure!(
                found.is_some_and(|found| found.metadata.uid != uid),
                "{:?}",
                rows.objects()
            );
            ensure!(
                maps.get_opt(object).await?.is_some(),
                "{:?}",
                rows.objects()
            );
            Ok(())
        })
        .await?;
    }
    bed.synced("shop").await?;
    Ok(())
}
