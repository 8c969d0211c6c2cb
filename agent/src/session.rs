//! The session with the hub: dialled by the agent, kept up for ever, and not needed for anything to be repaired.
//!
//! In: credentials and the engine's handle. Out: desired states to the engine, its rows to the hub, a certificate that
//! is renewed in time. One task, [`run`]; what happens on one connection is in `stream`, what arrives in pieces in
//! `transfer`.

mod ended;
mod stream;
mod transfer;

use muster_proto::tls::proxy::Proxies;
use tokio::time::Instant;

use crate::backoff::{Backoff, Waits, random};
use crate::credentials::{Credentials, Place};
use crate::engine::{Engine, Stop};
use ended::Ended;
use transfer::Transfer;

/// What a session needs.
pub struct Session {
    /// Who we are; replaced when the hub renews them.
    pub credentials: Credentials,
    /// Where renewed credentials are kept before they are used.
    pub place: Place,
    /// For a place in the cluster.
    pub client: kube::Client,
    /// The way out.
    pub proxies: Proxies,
    /// Whose states and rows are moved.
    pub engine: Engine,
    /// Random per process: tells a reconnect from a second agent.
    pub instance: String,
    /// Before it is tried again.
    pub waits: Waits,
}

/// Keeps a session up. Returns when the cluster was removed from the fleet and later let in again: the engine was
/// stopped in between, and whoever started it starts another one, with the credentials that are returned.
pub async fn run(mut session: Session) -> Credentials {
    let cluster = session.credentials.cluster.clone();
    let mut backoff = Backoff::new(session.waits);
    let mut transfer = Transfer::default();
    loop {
        let dialled = Instant::now();
        let ended = stream::serve(&mut session, &mut transfer).await;
        transfer.interrupted(&session.engine.held().borrow());
        backoff.worked(dialled.elapsed());
        let wait = match ended {
            Ended::Lost(why) => {
                let wait = backoff.next(random());
                tracing::warn!(%cluster, reason = why, retry_in = ?wait, "no session with the hub; the cluster is kept as it was last told");
                wait
            }
            Ended::Superseded(why) => {
                backoff.lengthen();
                let wait = backoff.next(random());
                tracing::error!(%cluster, reason = why, retry_in = ?wait, "two agents claim {cluster}: stop one of them");
                wait
            }
            Ended::TurnedAway(why) => {
                let wait = backoff.rarely(random());
                tracing::error!(%cluster, reason = why, retry_in = ?wait, "the hub turns this agent away; the cluster is kept as it was last told. Join again with a new token from `muster cluster join {cluster}`");
                wait
            }
            Ended::Removed(why) => {
                session.engine.stop(Stop::Removed).await;
                tracing::warn!(%cluster, reason = why, "this cluster was removed from the fleet: its objects stay, and nothing is repaired any more. Delete the agent, or join again with a new token");
                let_in_again(&session, &backoff).await;
                tracing::info!(%cluster, "the hub lets this cluster in again");
                return session.credentials;
            }
            Ended::Stopped(why) => {
                tracing::error!(%cluster, reason = why, "the agent has stopped");
                std::future::pending().await
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn let_in_again(session: &Session, backoff: &Backoff) {
    loop {
        tokio::time::sleep(backoff.rarely(random())).await;
        match stream::probe(session).await {
            Ok(()) => return,
            Err(ended) => {
                tracing::info!(cluster = %session.credentials.cluster, ?ended, "still out of the fleet")
            }
        }
    }
}

#[cfg(test)]
mod tests;
