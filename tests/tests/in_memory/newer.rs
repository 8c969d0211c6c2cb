//! A newer state: what failed under the one before, or was left, is taken up at once, also where Git says of it what it
//! said before.

use tokio::time::Instant;

use crate::*;

/// Less than what is put off is put off by.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Time is told, and passes only when everything waits.
#[tokio::test(start_paused = true)]
async fn what_failed_again_and_again_is_tried_at_once_under_a_newer_state() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let fails = call.verb == "apply" && call.path.ends_with("/configmaps/c1");
        fails.then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            Fault::Status(422)
        })
    })));
    engine.accept(desired(1, 3, 0)?).await?;
    wait::until("it failed often", 60 * PATIENCE, async || {
        ensure!(tries.load(Ordering::SeqCst) >= 6);
        Ok(())
    })
    .await?;
    server.set_fault(None);
    let asked = Instant::now();
    engine.accept(desired(2, 3, 1)?).await?;
    synced(&engine, 2).await?;
    let took = asked.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn what_was_left_changed_is_repaired_when_only_the_settings_say_so() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let bodies = ["c0", "c1"].map(|name| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": "old"}})
    });
    let state = |generation, self_heal| {
        let settings = Settings {
            self_heal,
            ..Settings::default()
        };
        with_settings(generation, &bodies, settings)
    };
    engine.accept(state(1, false)?).await?;
    synced(&engine, 1).await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let edit = json!({"data": {"value": "by hand"}});
    maps.patch("c1", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    wait::until("the edit is seen and left", PATIENCE, async || {
        let row = row(&engine)?;
        ensure!(row.sync == SyncStatus::Drifted, "{row:?}");
        Ok(())
    })
    .await?;
    let (objects, _) = count(&server);
    engine.accept(state(2, true)?).await?;
    synced(&engine, 2).await?;
    let data = maps.get("c1").await?.data.unwrap_or_default();
    assert_eq!(data["value"], "old");
    assert_eq!(objects.load(Ordering::SeqCst), 1);
    Ok(())
}
