//! Since when a row stands as it stands outlives the agent's process.

use crate::*;

use muster_proto::Timestamp;

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Ends it as a crash does: nothing is written any more.
async fn restart(
    server: &Arc<Server>,
    task: tokio::task::JoinHandle<()>,
    instance: &str,
) -> Result<Engine> {
    task.abort();
    let _ = task.await;
    start(server, instance).await
}

async fn start_with_task(
    server: &Arc<Server>,
    instance: &str,
) -> Result<(Engine, tokio::task::JoinHandle<()>)> {
    let (engine, task) = engine::start(server.client(), options(instance)?);
    let task = tokio::spawn(task);
    engine.loaded().await.map_err(anyhow::Error::msg)?;
    Ok((engine, task))
}

#[tokio::test]
async fn what_was_synced_before_a_crash_is_synced_since_then() -> Result<()> {
    let server = Server::new(Options::default());
    let (engine, task) = start_with_task(&server, "first").await?;
    let (_, ledger) = count(&server);
    engine.accept(desired(1, 20, 0)?).await?;
    synced(&engine, 1).await?;
    settled(&ledger).await?;
    let since = row(&engine)?.since;
    wait::until("time has passed", PATIENCE, async || {
        ensure!(now() > since);
        Ok(())
    })
    .await?;
    let engine = restart(&server, task, "second").await?;
    // The first thing that is said is said of everything, and nothing was looked new in between.
    let row = row(&engine)?;
    assert_eq!((row.sync, row.synced), (SyncStatus::Synced, 20));
    assert_eq!(row.since, since);
    Ok(())
}

#[tokio::test]
async fn what_failed_before_a_restart_fails_since_then_and_tells_when_it_is_mended() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let ledger = Arc::new(AtomicUsize::new(0));
    let writes = ledger.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let of_ledger = call.writes() && call.path.contains("muster-ledger");
        writes.fetch_add(usize::from(of_ledger), Ordering::SeqCst);
        (call.verb == "apply").then_some(Fault::Status(403))
    })));
    engine.accept(desired(1, 3, 0)?).await?;
    let failed = async |engine: &Engine| {
        wait::until("it is reported as failed", PATIENCE, async || {
            let row = row(engine)?;
            ensure!(row.sync == SyncStatus::Failed, "{row:?}");
            Ok(row.since)
        })
        .await
    };
    let since = failed(&engine).await?;
    // Nothing else is to be written, so how the commit ended is written by itself.
    wait::until("its time is kept", PATIENCE, async || {
        ensure!(ledger.load(Ordering::SeqCst) > 1);
        Ok(())
    })
    .await?;
    engine.stop(engine::Stop::Because("restarted".into())).await;
    let engine = start(&server, "second").await?;
    assert_eq!(failed(&engine).await?, since);
    server.set_fault(None);
    synced(&engine, 1).await?;
    assert!(row(&engine)?.since > since);
    Ok(())
}

/// Nothing is written when a workload turns at rest, and still a restart does not make it look new.
#[tokio::test]
async fn what_turned_at_rest_is_told_since_then_after_an_end_and_since_its_last_write_after_a_crash()
-> Result<()> {
    let server = Server::new(Options::default());
    let (engine, task) = start_with_task(&server, "first").await?;
    engine.accept(with_workload(1)?).await?;
    let turned = async |engine: &Engine, health| {
        wait::until("the turn is seen", PATIENCE, async || {
            let row = row(engine)?;
            ensure!(
                row.sync == SyncStatus::Synced && row.health == health,
                "{row:?}"
            );
            Ok(row.since)
        })
        .await
    };
    turned(&engine, HealthStatus::InProgress).await?;
    workload_has(&server, 1).await?;
    let since = turned(&engine, HealthStatus::Current).await?;
    drop(engine);
    task.await?;
    let (engine, task) = start_with_task(&server, "second").await?;
    assert_eq!(turned(&engine, HealthStatus::Current).await?, since);

    workload_has(&server, 0).await?;
    let since = turned(&engine, HealthStatus::InProgress).await?;
    wait::until("seconds have passed", PATIENCE, async || {
        ensure!(now().0 > since.0 + 2_000);
        Ok(())
    })
    .await?;
    let engine = restart(&server, task, "third").await?;
    // The API server writes whole seconds.
    let told = turned(&engine, HealthStatus::InProgress).await?;
    assert!(
        (since.0 - 1_000..=since.0).contains(&told.0),
        "{told:?} for {since:?}"
    );
    Ok(())
}
