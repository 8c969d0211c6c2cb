//! Objects that were deleted and should have stayed, or stayed and should have gone.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
use kube::api::{Api, DeleteParams, PostParams};
use muster_proto::{Desired, DesiredApplication, Removals, SyncStatus};
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{Bed, PATIENCE, application, bed, config};
use super::super::scenario::Scenario;

async fn generation(bed: &Bed, generation: u64) -> Result<()> {
    wait::until("the newest state is looked at", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        ensure!(rows.generation() == generation, "{}", rows.generation());
        ensure!(
            rows.applications()
                .values()
                .all(|row| row.sync != SyncStatus::Progressing),
            "{rows:?}"
        );
        Ok(())
    })
    .await
}

async fn is_gone(bed: &Bed, name: &str) -> Result<()> {
    wait::until(&format!("{name} is gone"), PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        ensure!(bed.maps().get_opt(name).await?.is_none(), "{rows:?}");
        Ok(())
    })
    .await
}

/// argoproj/argo-cd#3473: while GitHub was away no chart could be fetched; no chart meant no manifests, no manifests
/// meant that nothing was wanted, and every application of two environments was deleted.
/// Here an application without a rendering is *kept*, and while one is missing nothing is removed anywhere: neither
/// its objects nor those of an application that seems to have left. What is damaged by hand meanwhile is repaired.
#[tokio::test]
async fn while_github_was_away_every_application_was_deleted() -> Result<()> {
    let bed = bed("accident-3473").await?;
    let apps = |names: &[&str]| -> Result<Vec<Arc<DesiredApplication>>> {
        let app = |name: &&str| application(name, bed.settings(), &[config(name, "1")]);
        names.iter().map(app).collect()
    };
    bed.accept(1, apps(&["backend", "frontend", "healthy"])?)
        .await?;
    for name in ["backend", "frontend", "healthy"] {
        bed.synced(name).await?;
    }
    let mut outage = apps(&["healthy"])?;
    let why = "the chart repository does not answer";
    let kept = DesiredApplication::keep("backend".parse()?, "abc".into(), why.into());
    outage.push(Arc::new(kept));
    let held = Removals::Held("backend has no rendering".into());
    let state = Desired::new(2, outage, held, Vec::new());
    bed.engine.accept(state).await?;
    generation(&bed, 2).await?;
    let row = bed
        .row("frontend", |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    assert!(row.message.contains("backend has no rendering"), "{row:?}");
    bed.edit("healthy", "by hand").await?;
    bed.holds("healthy", "1").await?;
    for name in ["backend", "frontend"] {
        bed.maps().get(name).await?;
    }

    // GitHub is back, and what really left goes.
    bed.accept(3, apps(&["backend", "healthy"])?).await?;
    is_gone(&bed, "frontend").await?;
    bed.maps().get("backend").await?;
    Ok(())
}

/// argoproj/argo-cd#24408: the cache of rendered manifests answered with nothing for a commit that had plenty. Every
/// object of every application was shown as no part of Git any more, and went where pruning was automatic; a hard
/// refresh of the same commit found them all again.
/// An application whose folder has its document and no manifest has no good rendering: the last one stays, whatever its
/// size. And an agent that is told of an application with nothing in it waits for a person's word before it removes
/// more than a few objects. When the manifests are back, nothing was ever away.
#[tokio::test]
async fn a_rendering_without_anything_in_it_took_every_object_along() -> Result<()> {
    let scenario = Scenario::shop_and_cellar().await?;
    let maps = scenario.config_maps()?;
    let uids = async || -> Result<_> {
        let shop = maps.get("settings").await?.metadata.uid;
        Ok((shop, maps.get("wine").await?.metadata.uid))
    };
    let before = uids().await?;
    let nothing = scenario
        .world
        .push_removal(
            "Lose all manifests",
            &["shop/settings.yaml", "cellar/wine.yaml"],
        )
        .await?;
    scenario.world.seen(&nothing).await?;
    scenario.shows("shop holds no manifest any more").await?;
    scenario.shows("cellar holds no manifest any more").await?;
    // Both are still run.
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;
    scenario.edit("wine", "year", "1066").await?;
    scenario.becomes("wine", "year", "1982").await?;
    scenario.world.push_revert().await?;
    scenario.shows_no_more("no manifest").await?;
    scenario.world.synced("shop", 1).await?;
    scenario.world.synced("cellar", 1).await?;
    assert_eq!(uids().await?, before);

    // A hub that believes it all the same, and says that removals are right.
    let bed = bed("accident-24408").await?;
    let names: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    let objects: Vec<Value> = names.iter().map(|name| config(name, "1")).collect();
    let app = |objects: &[Value]| application("shop", bed.settings(), objects);
    bed.accept(1, vec![app(&objects)?]).await?;
    bed.synced("shop").await?;
    let uid = bed.maps().get("c7").await?.metadata.uid;
    bed.accept(2, vec![app(&[])?]).await?;
    let row = bed
        .row("shop", |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    assert_eq!(row.waiting, 12);
    assert!(row.message.contains("muster approve shop"), "{row:?}");
    bed.accept(3, vec![app(&objects)?]).await?;
    bed.synced("shop").await?;
    for name in &names {
        bed.maps().get(name).await?;
    }
    assert_eq!(bed.maps().get("c7").await?.metadata.uid, uid);
    Ok(())
}

/// fluxcd/kustomize-controller#409: the inventory was written after a successful apply. When the first apply failed
/// half way, what it had created was in no inventory, and stayed for ever after it was taken out of Git.
/// We write what we are about to create before we create it.
#[tokio::test]
async fn what_a_failed_first_apply_had_created_was_never_removed() -> Result<()> {
    let bed = bed("accident-409").await?;
    let refused = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "no-selector"}, "spec": {}});
    let objects = [config("created", "1"), refused];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.row("shop", |row| {
        row.sync == SyncStatus::Failed && row.synced == 1
    })
    .await?;
    bed.maps().get("created").await?;
    // It never succeeded, and the agent starts anew before it leaves Git.
    let bed = bed.restarted().await?;
    bed.accept(2, Vec::new()).await?;
    is_gone(&bed, "created").await
}

/// fluxcd/kustomize-controller#1664: a delete that an admission policy refused was taken for done. The object left the
/// inventory, nobody tried again or said so, and it was found running months later.
/// Here it stays in the inventory, its row says who refused, and it goes as soon as it may; also after a restart.
#[tokio::test]
async fn a_refused_delete_was_forgotten() -> Result<()> {
    let bed = bed("accident-1664").await?;
    let both = [config("guarded", "1"), config("stays", "1")];
    bed.accept(1, vec![application("shop", bed.settings(), &both)?])
        .await?;
    bed.synced("shop").await?;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bed.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bed.client.clone());
    let name = bed.namespace.clone();
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(
        json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}]},
        "validations": [{"expression": "false", "message": "not before the audit"}]}}),
    )?;
    let binding: ValidatingAdmissionPolicyBinding =
        serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]}}))?;
    policies.create(&PostParams::default(), &policy).await?;
    bindings.create(&PostParams::default(), &binding).await?;
    let only_ask = DeleteParams::default().dry_run();
    wait::until("the policy is in force", PATIENCE, async || {
        ensure!(bed.maps().delete("guarded", &only_ask).await.is_err());
        Ok(())
    })
    .await?;

    let rest = || application("shop", bed.settings(), &[config("stays", "1")]);
    bed.accept(2, vec![rest()?]).await?;
    let refused = async |bed: &Bed| {
        bed.row("shop", |row| {
            row.sync == SyncStatus::Failed && row.waiting == 1
        })
        .await
    };
    let row = refused(&bed).await?;
    assert!(row.message.contains("not before the audit"), "{row:?}");
    let bed = bed.restarted().await?;
    refused(&bed).await?;
    bed.maps().get("guarded").await?;

    // The audit is over; nobody commits anything.
    bindings.delete(&name, &DeleteParams::default()).await?;
    policies.delete(&name, &DeleteParams::default()).await?;
    wait::until("it goes", 3 * PATIENCE, async || {
        ensure!(bed.maps().get_opt("guarded").await?.is_none());
        Ok(())
    })
    .await?;
    bed.synced("shop").await?;
    Ok(())
}

/// fluxcd/kustomize-controller#410 (and #415): an operator copied the labels of its custom resource to what it made,
/// Kubernetes itself those of a Service to its Endpoints; the pruning took both for its own and deleted them.
/// A label proves nothing here: only what we applied ourselves, and no controller owns, is ours to remove.
#[tokio::test]
async fn what_an_operator_made_was_deleted_because_it_had_copied_the_labels() -> Result<()> {
    let bed = bed("accident-410").await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]}});
    let objects = [service, config("ours", "1"), config("left", "1")];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    let labels = bed.maps().get("ours").await?.metadata.labels;
    let copied: ConfigMap = serde_json::from_value(
        json!({"metadata": {"name": "of-the-operator", "labels": labels}, "data": {"a": "b"}}),
    )?;
    bed.maps().create(&PostParams::default(), &copied).await?;
    let endpoints: Api<Endpoints> = Api::namespaced(bed.client.clone(), &bed.namespace);
    let of_service: Endpoints =
        serde_json::from_value(json!({"metadata": {"name": "web", "labels": labels}}))?;
    endpoints
        .create(&PostParams::default(), &of_service)
        .await?;

    // Everything of ours leaves, one after the other, and the copies are nobody's business.
    bed.accept(2, vec![application("shop", bed.settings(), &objects[..2])?])
        .await?;
    is_gone(&bed, "left").await?;
    bed.accept(3, Vec::new()).await?;
    is_gone(&bed, "ours").await?;
    wait::until("nothing is reported any more", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        ensure!(rows.applications().is_empty(), "{rows:?}");
        Ok(())
    })
    .await?;
    bed.maps().get("of-the-operator").await?;
    endpoints.get("web").await?;
    Ok(())
}

/// karmada-io/karmada#5406: while a cluster's agent was down, the control plane marked its work for deletion; when the
/// agent came back it deleted everything it ran.
/// An agent that comes back goes on from what it last accepted. A state from before, or an empty one of a hub that has
/// not read anything yet, is refused, and nothing is deleted because of a reconnect.
#[tokio::test]
async fn an_agent_that_came_back_deleted_everything_in_its_cluster() -> Result<()> {
    let bed = bed("accident-5406").await?;
    let names: Vec<String> = (0..5).map(|n| format!("c{n}")).collect();
    let objects: Vec<Value> = names.iter().map(|name| config(name, "1")).collect();
    bed.accept(7, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    let bed = bed.restarted().await?;
    let before = bed.synced("shop").await?;
    assert_eq!(before.synced, 5);

    let older = bed.accept(6, Vec::new()).await;
    let why = older.err().context("an older state was taken")?;
    assert!(why.to_string().contains("older than 7"), "{why}");
    let nothing = bed.engine.accept(Desired::none()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let other = bed.accept(7, Vec::new()).await;
    let why = other.err().context("another content was taken")?;
    assert!(why.to_string().contains("other content"), "{why}");

    // A hub restored from a backup stamps a higher number on what it has, and holds removals.
    let held = Removals::Held("this hub's store is older than its agents".into());
    let state = Desired::new(8, Vec::new(), held, Vec::new());
    bed.engine.accept(state).await?;
    bed.row("shop", |row| {
        row.sync == SyncStatus::PruneBlocked && row.waiting == 5
    })
    .await?;
    for name in &names {
        bed.maps().get(name).await?;
    }
    Ok(())
}
