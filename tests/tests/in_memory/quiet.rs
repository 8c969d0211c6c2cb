//! What the engine costs when nothing happens: no write, and no call for any object.

use std::sync::Mutex;

use crate::*;

/// Longer than anything the engine puts off.
const REST: Duration = Duration::from_secs(12);

/// Every call from now on: verb and path.
fn listen(server: &Server) -> Arc<Mutex<Vec<String>>> {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = calls.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let call = format!("{} {}", call.verb, call.path);
        heard.lock().expect("nobody panics with it").push(call);
        None
    })));
    calls
}

#[tokio::test]
async fn at_rest_there_is_no_call_but_the_watches() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let (_, ledger) = count(&server);
    engine.accept(desired(1, 200, 0)?).await?;
    synced(&engine, 1).await?;
    settled(&ledger).await?;
    let (heard, mut calls) = tokio::sync::mpsc::unbounded_channel();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        if call.verb != "watch" {
            // Nobody listens any more when the test is over.
            let _ = heard.send(format!("{} {}", call.verb, call.path));
        }
        None
    })));
    let next = tokio::time::timeout(REST, calls.recv()).await;
    assert!(next.is_err(), "{next:?}");
    Ok(())
}

/// What becomes healthy, or breaks, by itself changes rows and nothing that must be remembered at once.
#[tokio::test]
async fn a_commit_is_two_writes_of_the_ledger_also_when_its_workload_becomes_ready_later()
-> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let (_, ledger) = count(&server);
    engine.accept(with_workload(1)?).await?;
    wait::until("it is synced and not ready yet", PATIENCE, async || {
        let row = row(&engine)?;
        ensure!(
            row.sync == SyncStatus::Synced && row.health == HealthStatus::InProgress,
            "{row:?}"
        );
        Ok(())
    })
    .await?;
    for (available, health) in [(1, HealthStatus::Current), (0, HealthStatus::InProgress)] {
        workload_has(&server, available).await?;
        wait::until("that is seen", PATIENCE, async || {
            let rows = engine.rows().borrow().clone();
            let row = &rows.applications()["shop"];
            ensure!(row.health == health, "{row:?}");
            Ok(())
        })
        .await?;
    }
    let more = tokio::time::timeout(
        REST,
        wait::until("the ledger is written once more", REST * 2, async || {
            ensure!(ledger.load(Ordering::SeqCst) > 2);
            Ok(())
        }),
    );
    assert!(more.await.is_err(), "a write for a row alone");
    assert_eq!(ledger.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn the_same_state_again_and_a_restart_take_no_call_for_any_object() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 200, 0)?).await?;
    synced(&engine, 1).await?;
    let calls = listen(&server);
    // A commit that changes nothing here is a new generation with the same content.
    engine.accept(desired(2, 200, 0)?).await?;
    synced(&engine, 2).await?;
    engine.stop(engine::Stop::Because("restarted".into())).await;
    let engine = start(&server, "second").await?;
    synced(&engine, 2).await?;
    let calls = calls.lock().expect("nobody panics with it").clone();
    let of_objects: Vec<_> = calls
        .iter()
        .filter(|call| call.contains("/configmaps/"))
        .collect();
    assert!(of_objects.is_empty(), "{of_objects:?}");
    let lists = calls
        .iter()
        .filter(|call| call.starts_with("list ") && call.contains("configmaps"));
    // The second process lists once; the first has its watch.
    assert!(lists.count() <= 1, "{calls:?}");
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_turns_calls_away_is_left_alone_for_a_second() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 1, 0)?).await?;
    synced(&engine, 1).await?;
    let tries: Arc<Mutex<Vec<std::time::Instant>>> = Arc::default();
    let heard = tries.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let mut tries = heard.lock().expect("nobody panics with it");
        let busy = call.verb == "apply" && tries.len() < 2;
        if call.verb == "apply" {
            tries.push(std::time::Instant::now());
        }
        busy.then_some(Fault::Status(429))
    })));
    engine.accept(desired(2, 1, 1)?).await?;
    synced(&engine, 2).await?;
    let tries = tries.lock().expect("nobody panics with it").clone();
    assert_eq!(tries.len(), 3);
    for pair in tries.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_secs(1), "{pause:?}");
    }
    Ok(())
}

/// Its answer holds for all that the engine would ask it, and not for the one object that it was about.
#[tokio::test]
async fn an_api_server_that_turns_one_call_away_is_asked_nothing_else_before_its_time() -> Result<()>
{
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 200, 0)?).await?;
    synced(&engine, 1).await?;
    let calls: Arc<Mutex<Vec<(std::time::Instant, String)>>> = Arc::default();
    let heard = calls.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        // A person patches; the engine does not.
        if matches!(call.verb, "watch" | "patch") || !call.path.contains("/configmaps") {
            return None;
        }
        let mut heard = heard.lock().expect("nobody panics with it");
        heard.push((std::time::Instant::now(), call.verb.to_owned()));
        (heard.len() == 1).then_some(Fault::Status(429))
    })));
    // Applies, removals, and a look at what a person changed.
    engine.accept(desired(2, 150, 100)?).await?;
    wait::until("a call is turned away", PATIENCE, async || {
        ensure!(!calls.lock().expect("nobody panics with it").is_empty());
        Ok(())
    })
    .await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let edit = json!({"data": {"value": "by hand"}});
    maps.patch("c149", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    wait::until("all is done", PATIENCE, async || {
        let maps = maps.list(&Default::default()).await?.items;
        let value = |map: &ConfigMap| map.data.clone().unwrap_or_default()["value"].clone();
        let by_hand = maps.iter().filter(|map| value(map) == "by hand");
        let new = maps.iter().filter(|map| value(map) == "new");
        ensure!(maps.len() == 150 && by_hand.count() == 0 && new.count() == 100);
        Ok(())
    })
    .await?;
    let calls = calls.lock().expect("nobody panics with it").clone();
    let of_agent = calls.iter().filter(|(_, verb)| verb != "list");
    let early = of_agent.filter(|(at, _)| *at - calls[0].0 < Duration::from_secs(1));
    // The sixteen that were on their way when the answer came.
    let early: Vec<_> = early.map(|(_, verb)| verb.as_str()).collect();
    assert_eq!(early, ["apply"; 16]);
    Ok(())
}
