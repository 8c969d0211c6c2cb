//! The agent's engine on an API server in memory: what needs a look at every call, or a server that fails.

mod in_memory {
    mod asking;
    mod drift;
    mod newer;
    mod ordering;
    mod pauses;
    mod quiet;
    mod replacing;
    mod ruled;
    mod settling;
    mod taken;
    mod taking_over;
    mod times;
    mod unreadable;
    mod unwatchable;
    mod unwritable;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use muster_agent::engine::{self, Engine, EngineOptions};
use muster_proto::{
    ApplicationStatus, Desired, DesiredApplication, DigestKey, HealthStatus, Object, Removals,
    Settings, SyncStatus,
};
use muster_tests::memory::{Call, Fault, Options, Server};
use muster_tests::wait;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn options(instance: &str) -> Result<EngineOptions> {
    Ok(EngineOptions {
        namespace: "muster-system".into(),
        hub: "hub.test/abc".into(),
        cluster: "eu-1".parse()?,
        instance: instance.into(),
    })
}

async fn start(server: &Arc<Server>, instance: &str) -> Result<Engine> {
    let (engine, task) = engine::start(server.client(), options(instance)?);
    tokio::spawn(task);
    engine.loaded().await.map_err(anyhow::Error::msg)?;
    Ok(engine)
}

fn desired(generation: u64, count: usize, changed: usize) -> Result<Desired> {
    let key = DigestKey::new([5; 32]);
    let object = |n: usize| {
        let value = if n < changed { "new" } else { "old" };
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("c{n}")}, "data": {"value": value}});
        Ok(Arc::new(Object::new(&body, &key)?))
    };
    let settings = Settings {
        namespace: "shop".into(),
        ..Settings::default()
    };
    let objects = (0..count).map(object).collect::<Result<_>>()?;
    let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, objects);
    Ok(Desired::new(
        generation,
        vec![Arc::new(shop)],
        Removals::Released,
        Vec::new(),
    ))
}

/// A Deployment of one replica.
fn workload() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "registry.invalid/app:1"}]}}}})
}

/// That Deployment alone.
fn with_workload(generation: u64) -> Result<Desired> {
    holding(generation, &[workload()])
}

/// One application of these objects.
fn holding(generation: u64, objects: &[Value]) -> Result<Desired> {
    with_settings(generation, objects, Settings::default())
}

/// One application of these objects in the namespace shop.
fn with_settings(generation: u64, objects: &[Value], settings: Settings) -> Result<Desired> {
    let key = DigestKey::new([5; 32]);
    let object = |body: &Value| Ok(Arc::new(Object::new(body, &key)?));
    let objects = objects.iter().map(object).collect::<Result<_>>()?;
    let settings = Settings {
        namespace: "shop".into(),
        ..settings
    };
    let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, objects);
    Ok(Desired::new(
        generation,
        vec![Arc::new(shop)],
        Removals::Released,
        Vec::new(),
    ))
}

/// Says of it what its controller would say.
async fn workload_has(server: &Arc<Server>, available: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(server.client(), "shop");
    let generation = deployments.get("web").await?.metadata.generation;
    let status = json!({"status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": available, "availableReplicas": available, "unavailableReplicas": 1 - available}});
    let controller = PatchParams::default();
    deployments
        .patch_status("web", &controller, &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// What is said of the application.
fn row(engine: &Engine) -> Result<ApplicationStatus> {
    let rows = engine.rows().borrow().clone();
    let row = rows.applications().get("shop").cloned();
    row.ok_or_else(|| anyhow::anyhow!("no row"))
}

async fn synced(engine: &Engine, generation: u64) -> Result<()> {
    wait::until("everything is synced", PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let row = rows.applications().get("shop");
        ensure!(
            rows.generation() == generation
                && row
                    .is_some_and(|row| row.sync == SyncStatus::Synced && row.synced == row.objects),
            "{row:?}"
        );
        Ok(())
    })
    .await
}

/// What the first state costs is written down: of that many writes of the ledger.
async fn settled(ledger: &AtomicUsize) -> Result<()> {
    wait::until("the ledger is settled", PATIENCE, async || {
        ensure!(ledger.load(Ordering::SeqCst) >= 2);
        Ok(())
    })
    .await
}

/// Counts writes: of objects, of the ledger.
fn count(server: &Server) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (objects, ledger) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (objects.clone(), ledger.clone());
    server.set_fault(Some(Arc::new(move |call: &Call| {
        if call.writes() {
            let which = if call.path.contains("muster-ledger") {
                &ledger
            } else {
                &objects
            };
            which.fetch_add(1, Ordering::SeqCst);
        }
        None
    })));
    counts
}

#[tokio::test]
async fn one_changed_object_is_one_write_and_two_of_bookkeeping() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 100, 0)?).await?;
    synced(&engine, 1).await?;
    let (objects, ledger) = count(&server);
    engine.accept(desired(2, 100, 1)?).await?;
    synced(&engine, 2).await?;
    settled(&ledger).await?;
    assert_eq!(objects.load(Ordering::SeqCst), 1);
    assert_eq!(ledger.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn a_restart_writes_no_object() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 100, 0)?).await?;
    synced(&engine, 1).await?;
    engine.stop(engine::Stop::Because("restarted".into())).await;
    let (objects, _) = count(&server);
    let engine = start(&server, "second").await?;
    synced(&engine, 1).await?;
    assert_eq!(objects.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test]
async fn failing_writes_are_reported_and_tried_again() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    server.set_fault(Some(Arc::new(|call: &Call| {
        (call.verb == "apply").then_some(Fault::Status(500))
    })));
    engine.accept(desired(1, 3, 0)?).await?;
    wait::until("the failure is reported", PATIENCE, async || {
        let row = row(&engine)?;
        ensure!(row.sync == SyncStatus::Failed, "{row:?}");
        Ok(())
    })
    .await?;
    server.set_fault(None);
    synced(&engine, 1).await
}

#[tokio::test]
async fn a_hand_edit_is_undone_within_a_second_and_later_when_the_history_was_lost() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    for (lost, patience) in [(false, Duration::from_secs(1)), (true, PATIENCE)] {
        if lost {
            // Every watch ends with 410 and lists anew.
            server.forget_history();
        }
        let edit = json!({"data": {"value": "by hand"}});
        maps.patch("c1", &PatchParams::default(), &Patch::Merge(&edit))
            .await?;
        wait::until("the edit is undone", patience, async || {
            let data = maps.get("c1").await?.data.unwrap_or_default();
            ensure!(data["value"] == "old", "{data:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// A simulated history found it: any 409 was taken for a part of the ledger that is there already.
#[tokio::test]
async fn a_part_of_the_ledger_that_was_refused_is_not_taken_for_written() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    let refused = AtomicUsize::new(0);
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let ledger = call.path.contains("/muster-system/secrets");
        let next = ["patch", "create"].get(refused.load(Ordering::SeqCst));
        (ledger && next == Some(&call.verb)).then(|| {
            refused.fetch_add(1, Ordering::SeqCst);
            Fault::Status(409)
        })
    })));
    wait::until("the state is accepted", PATIENCE, async || {
        engine.accept(desired(2, 3, 1)?).await?;
        Ok(())
    })
    .await?;
    synced(&engine, 2).await?;
    engine.stop(engine::Stop::Because("restarted".into())).await;
    let engine = start(&server, "second").await?;
    assert_eq!(engine.held().borrow().generation, 2);
    Ok(())
}
