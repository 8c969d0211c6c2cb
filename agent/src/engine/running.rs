//! The engine's task: opens the ledger, then answers requests, events, outcomes and timers until it is stopped.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::state::State;
use super::{EngineOptions, Publish, Refused, Request, Standing, Stop, opening};
use crate::clock::Clock;
use crate::ledger::LedgerError;
use crate::ledger::shown::{Shown, shown};
use crate::live::watches::Event;

/// Rows are published at most this often.
const ROWS_EVERY: Duration = Duration::from_millis(100);
/// What is there is looked at before anything is said of it, unless that takes longer.
const LOOKS_AROUND: Duration = Duration::from_secs(10);

/// Runs the engine until every handle is dropped.
pub(super) async fn run(
    client: Client,
    options: EngineOptions,
    clock: Clock,
    mut inbox: mpsc::Receiver<Request>,
    publish: Publish,
) {
    let why = match begin(&client, &options, &clock, &mut inbox, &publish).await {
        Ok(Some((state, events))) => {
            let shown = shown(client.clone(), &options.namespace);
            work(state, events, shown, &mut inbox, &publish).await
        }
        Ok(None) => None,
        Err(why) => Some(why),
    };
    let Some(why) = why else { return };
    tracing::warn!(%why, "the engine has stopped: nothing is written any more");
    publish
        .standing
        .send_replace(Standing::Stopped(why.clone()));
    while let Some(request) = inbox.recv().await {
        match request {
            Request::Accept(_, answer) => {
                let _ = answer.send(Err(Refused::Stopped(why.clone())));
            }
            Request::Stop(_, answer) => {
                let _ = answer.send(());
            }
            Request::About(_, answer) => {
                let _ = answer.send(Err(why.clone()));
            }
        }
    }
}

/// Opens the ledger, however long that takes; `None` when every handle is gone before.
async fn begin(
    client: &Client,
    options: &EngineOptions,
    clock: &Clock,
    inbox: &mut mpsc::Receiver<Request>,
    publish: &Publish,
) -> Result<Option<(State, mpsc::Receiver<Event>)>, String> {
    let mut wait = Duration::from_millis(500);
    loop {
        match opening::open(client, options).await {
            Ok(opening) => {
                starts(publish, String::new());
                let (state, events) = State::new(client.clone(), opening, clock.clone()).await;
                publish.held.send_replace(state.desired.clone());
                return Ok(Some((state, events)));
            }
            Err(LedgerError::Lost(why)) => return Err(why),
            Err(error) => {
                tracing::warn!(%error, "the ledger can't be opened; tried again");
                let namespace = &options.namespace;
                starts(
                    publish,
                    format!("its ledger in namespace {namespace} can't be opened: {error}"),
                );
            }
        }
        let again = tokio::time::sleep(wait);
        tokio::pin!(again);
        loop {
            tokio::select! {
                biased;
                () = &mut again => break,
                request = inbox.recv() => match request {
                    None => return Ok(None),
                    Some(Request::Accept(_, answer)) => {
                        let _ = answer.send(Err(Refused::NotStored("the ledger is not open yet".into())));
                    }
                    Some(Request::Stop(why, answer)) => {
                        let _ = answer.send(());
                        return Err(reason(why));
                    }
                    Some(Request::About(_, answer)) => {
                        let _ = answer.send(Err("the agent's ledger is not open yet".into()));
                    }
                },
            }
        }
        wait = (wait * 2).min(Duration::from_secs(30));
    }
}

/// What is in the way of the start now; nobody is woken when it is the same as before.
fn starts(publish: &Publish, why: String) {
    let now = Standing::Starting(why);
    publish.standing.send_if_modified(|standing| {
        let news = *standing != now;
        *standing = now;
        news
    });
}

/// Works until stopped; the reason, or `None` when every handle is gone.
async fn work(
    mut state: State,
    mut events: mpsc::Receiver<Event>,
    shown: impl Stream<Item = Shown>,
    inbox: &mut mpsc::Receiver<Request>,
    publish: &Publish,
) -> Option<String> {
    let mut rows_at = Instant::now() + LOOKS_AROUND;
    tokio::pin!(shown);
    loop {
        // Whatever else has come is taken in before anything is decided.
        while let Ok(event) = events.try_recv() {
            state.event(event);
        }
        if state.spoke
            && rows_at <= Instant::now()
            && let Some(rows) = state.news()
        {
            publish.rows.send_replace(rows);
            rows_at = Instant::now() + ROWS_EVERY;
        }
        if let Err(error) = state.launch().await {
            return Some(error.to_string());
        }
        publish.hindrance.send_if_modified(|told| {
            let news = told != state.hindrance();
            if news {
                state.hindrance().clone_into(told);
            }
            news
        });
        if !state.spoke && (rows_at <= Instant::now() || state.has_looked_around()) {
            rows_at = Instant::now() + ROWS_EVERY;
            if let Some(rows) = state.news() {
                publish.rows.send_replace(rows);
            }
            state.spoke = true;
            publish
                .standing
                .send_replace(Standing::Working(state.cluster.clone()));
        }
        let wake = state.next_wake(rows_at);
        // In this order, so that the same events give the same calls.
        tokio::select! {
            biased;
            request = inbox.recv() => {
                let Some(request) = request else {
                    state.farewell().await;
                    return None;
                };
                match request {
                    Request::Accept(offered, answer) => match state.accept(*offered).await {
                        Ok(answered) => {
                            publish.held.send_replace(state.desired.clone());
                            let _ = answer.send(answered);
                        }
                        Err(error) => {
                            let _ = answer.send(Err(Refused::Stopped(error.to_string())));
                            return Some(error.to_string());
                        }
                    },
                    Request::Stop(why, answer) => {
                        // What is on its way ends; nothing new begins.
                        while state.flying.next().await.is_some() {}
                        if why == Stop::Removed
                            && let Err(error) = state.ledger.release().await
                        {
                            tracing::warn!(%error, "the ledger could not be given up");
                        }
                        let _ = answer.send(());
                        return Some(reason(why));
                    }
                    Request::About(subject, answer) => {
                        let _ = answer.send(state.about(&subject));
                    }
                }
            }
            Some(shown) = shown.next() => if let Err(why) = state.look_at_ledger(&shown).await {
                return Some(why);
            },
            Some(event) = events.recv() => state.event(event),
            Some(outcome) = state.flying.next() => state.outcome(outcome),
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

fn reason(why: Stop) -> String {
    match why {
        Stop::Removed => {
            "this cluster was removed from the fleet; its objects stay as they are".into()
        }
        Stop::Because(why) => why,
    }
}

impl State {
    /// When there is something to do without an event.
    fn next_wake(&self, rows_at: Instant) -> Instant {
        let dirty = (!self.queue.dirty.is_empty()).then(Instant::now);
        let untold = self.rows_changed || self.rows_untold || !self.spoke;
        let rows = untold.then_some(rows_at);
        let discovery = self.discovery_at.filter(|_| !self.discovering);
        let unsaved = self.save_not_before.filter(|at| *at > Instant::now());
        let idle = Instant::now() + Duration::from_secs(3600);
        let due = [
            dirty,
            rows,
            discovery,
            unsaved,
            self.brake,
            self.pauses_at,
            self.rebuild_at,
            self.queue.next_timer(),
        ];
        due.into_iter().flatten().min().unwrap_or(idle)
    }
}
