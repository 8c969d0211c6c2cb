//! What a session does, without a wire: says what the agent holds, offers what the hub decided, tells what came of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_agent::engine::{Engine, Refused};
use tokio::sync::watch;

use super::hub::Hub;
use super::{Log, locked, pass};

/// Runs until the engine stops.
pub(super) async fn run(
    engine: Engine,
    hub: Arc<Mutex<Hub>>,
    mut up: watch::Receiver<bool>,
    log: Arc<Log>,
) {
    if let Err(why) = engine.loaded().await {
        log.say(&format!("the engine does not work: {why}"));
        return;
    }
    loop {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        let mut newest = {
            let held = engine.held().borrow().clone();
            let mut hub = locked(&hub);
            hub.hello(held.generation, held.digest());
            hub.newest()
        };
        while *up.borrow_and_update() {
            let offered = newest.borrow_and_update().clone();
            if offered.generation > 0 && offered.generation != engine.held().borrow().generation {
                // A cut in the middle leaves the answer unheard, not the state unaccepted.
                let answer = tokio::select! {
                    biased;
                    answer = engine.accept((*offered).clone()) => answer,
                    _ = up.changed() => break,
                };
                match answer {
                    Ok(held) => log.say(&format!("accepted {}", held.generation)),
                    Err(Refused::NotStored(_)) => {
                        pass(Duration::from_secs(1)).await;
                        continue;
                    }
                    Err(Refused::Stopped(why)) => {
                        log.say(&format!("the engine stopped: {why}"));
                        return;
                    }
                    Err(why) => {
                        log.say(&format!("refused: {why}"));
                        let held = engine.held().borrow().clone();
                        locked(&hub).hello(held.generation, held.digest());
                    }
                }
            }
            tokio::select! {
                biased;
                _ = up.changed() => break,
                _ = newest.changed() => {}
            }
        }
    }
}
