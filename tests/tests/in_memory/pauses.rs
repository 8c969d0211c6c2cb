//! A paused application: nothing is written, everything is seen, and time ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use muster_agent::clock::Clock;
use muster_agent::engine::{self, Engine};
use muster_proto::{Desired, Pause, SyncStatus, Timestamp};
use muster_tests::memory::{Options, Server};
use muster_tests::wait;
use serde_json::json;

use super::super::{PATIENCE, count, desired, options, row, synced};

const HOUR: i64 = 3_600_000;

/// A time of day that the test sets.
#[derive(Clone, Default)]
struct Time(Arc<AtomicI64>);

impl Time {
    fn pass(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

async fn start(server: &Arc<Server>, instance: &str, time: &Time) -> Result<Engine> {
    let time = time.clone();
    let clock = Clock::new(move || Timestamp(time.0.load(Ordering::SeqCst)));
    let (engine, task) = engine::start_at(server.client(), options(instance)?, clock);
    tokio::spawn(task);
    engine.loaded().await.map_err(anyhow::Error::msg)?;
    Ok(engine)
}

fn paused(state: Desired) -> Result<Desired> {
    Ok(state.with_pauses(vec![Pause {
        application: "shop".parse()?,
        until: Timestamp(HOUR),
        since: Timestamp(0),
        by: "anna".into(),
        reason: "looking".into(),
    }]))
}

async fn edit(server: &Arc<Server>, name: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let edit = json!({"data": {"value": "by hand"}});
    let by_hand = PatchParams::apply("kubectl-edit");
    let by_hand = PatchParams {
        field_manager: by_hand.field_manager,
        ..PatchParams::default()
    };
    maps.patch(name, &by_hand, &Patch::Merge(&edit)).await?;
    Ok(())
}

async fn value(server: &Arc<Server>, name: &str) -> Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let map = maps.get(name).await?;
    Ok(map.data.unwrap_or_default()["value"].clone())
}

async fn becomes(server: &Arc<Server>, name: &str, expected: &str) -> Result<()> {
    wait::until(&format!("{name} is {expected}"), PATIENCE, async || {
        let value = value(server, name).await?;
        ensure!(value == expected, "{value}");
        Ok(())
    })
    .await
}

/// Waits until the application's row says so.
async fn says(engine: &Engine, sync: SyncStatus, part: &str) -> Result<()> {
    wait::until(&format!("{sync}: {part}"), PATIENCE, async || {
        let row = row(engine)?;
        ensure!(row.sync == sync && row.message.contains(part), "{row:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn while_paused_nothing_is_written_and_drift_is_shown_until_a_resume() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first", &Time::default()).await?;
    engine.accept(desired(1, 4, 0)?).await?;
    synced(&engine, 1).await?;
    engine.accept(paused(desired(2, 4, 0)?)?).await?;
    let (objects, _) = count(&server);
    edit(&server, "c0").await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    maps.delete("c1", &DeleteParams::default()).await?;
    let people = objects.load(Ordering::SeqCst);
    says(&engine, SyncStatus::Drifted, "not repaired: paused until").await?;
    wait::until("both drifts are reported", PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let drifts = rows.objects().values().filter(|row| {
            let drift = row.last_drift.as_ref();
            row.sync == SyncStatus::Drifted
                && drift.is_some_and(|drift| drift.repaired_at.is_none())
        });
        ensure!(drifts.count() == 2, "{rows:?}");
        Ok(())
    })
    .await?;

    // A commit that changes one object and drops another waits.
    engine.accept(paused(desired(3, 3, 1)?)?).await?;
    says(&engine, SyncStatus::Drifted, "").await?;
    wait::until("the commit is seen to wait", PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let says = |name: &str| {
            let rows = rows.objects().iter();
            let row = rows.into_iter().find(|(key, _)| key.name == name);
            row.map(|(_, row)| row.message.clone()).unwrap_or_default()
        };
        ensure!(says("c0").contains("what Git states waits"), "{rows:?}");
        ensure!(says("c3").contains("waits to be removed"), "{rows:?}");
        Ok(())
    })
    .await?;
    ensure!(objects.load(Ordering::SeqCst) == people, "somebody wrote");
    ensure!(value(&server, "c0").await? == "by hand");
    ensure!(value(&server, "c3").await? == "old");

    engine.accept(desired(4, 3, 1)?).await?;
    synced(&engine, 4).await?;
    becomes(&server, "c0", "new").await?;
    becomes(&server, "c1", "old").await?;
    ensure!(maps.get_opt("c3").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_pause_is_kept_across_a_restart_without_a_hub_and_ends_by_itself() -> Result<()> {
    let server = Server::new(Options::default());
    let time = Time::default();
    let engine = start(&server, "first", &time).await?;
    engine.accept(desired(1, 2, 0)?).await?;
    synced(&engine, 1).await?;
    engine.accept(paused(desired(2, 2, 0)?)?).await?;
    engine.stop(engine::Stop::Because("restarted".into())).await;
    edit(&server, "c0").await?;

    let engine = start(&server, "second", &time).await?;
    says(&engine, SyncStatus::Drifted, "not repaired: paused until").await?;
    ensure!(value(&server, "c0").await? == "by hand");
    time.pass(HOUR - 1);
    edit(&server, "c1").await?;
    wait::until("the second drift is reported", PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        ensure!(rows.objects().len() == 2, "{rows:?}");
        Ok(())
    })
    .await?;
    ensure!(value(&server, "c1").await? == "by hand");

    time.pass(1);
    becomes(&server, "c0", "old").await?;
    becomes(&server, "c1", "old").await?;
    synced(&engine, 2).await
}
