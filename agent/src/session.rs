//! The session with the hub: dialled by the agent, kept up for ever, and not needed for anything to be repaired.
//!
//! In: credentials and the engine's handle. Out: desired states to the engine, its rows to the hub, a certificate that
//! is renewed in time. One task, [`run`]; what happens on one connection is in `stream`, what arrives in pieces in
//! `transfer`.

mod ended;
mod stream;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use muster_proto::tls::connector::{ConnectError, Trust, connect_through};
use muster_proto::tls::proxy::Proxies;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::backoff::{Backoff, Waits};
use crate::credentials::{Credentials, Keeping};
use crate::engine::{Cluster, Engine, Standing, Stop};
use ended::Ended;
use stream::{Hindered, Idle};
use transfer::Transfer;

/// What a session needs.
pub struct Session {
    /// Who we are; replaced when the hub renews them.
    pub credentials: Credentials,
    /// Keeps renewed credentials.
    pub keeping: Keeping,
    /// For what is asked of the cluster.
    pub client: kube::Client,
    /// The way to the hub.
    pub dial: Dial,
    /// Whose states and rows are moved.
    pub engine: Engine,
    /// Random per process: tells a reconnect from a second agent.
    pub instance: String,
    /// Before it is tried again.
    pub waits: Waits,
    /// Evenly in `0.0..1.0`: spreads the tries of many.
    pub random: fn() -> f64,
}

/// Opens a connection to the hub of these credentials.
pub type Dial =
    Arc<dyn Fn(&Credentials) -> BoxFuture<'static, Result<Channel, ConnectError>> + Send + Sync>;

/// Dials by TCP and TLS, through the proxy where there is one on the way.
pub fn by_tls(proxies: Proxies) -> Dial {
    Arc::new(move |credentials| {
        let (proxies, hub) = (proxies.clone(), credentials.hub.clone());
        let trust = Trust::Ca(credentials.ca().clone());
        let mine = credentials.for_tls();
        async move { connect_through(&proxies, &hub, trust, Some(mine)).await }.boxed()
    })
}

/// Keeps a session up. Returns when the engine was stopped and may work again, because the cluster was let into the fleet
/// again or another agent of it is gone: whoever started the engine starts another one, with the credentials that are
/// returned.
pub async fn run(mut session: Session) -> Credentials {
    let cluster = session.credentials.cluster.clone();
    let mut backoff = Backoff::new(session.waits);
    let mut transfer = Transfer::default();
    let mut hindered = Hindered::new(session.waits);
    let cluster_uid = match begun(&session, &mut backoff).await {
        Ok(cluster) => cluster.uid,
        Err(why) => {
            tracing::error!(%cluster, reason = why, "the agent may not work here");
            let idle = Idle {
                why,
                for_good: true,
                cluster_uid: String::new(),
            };
            wait(&session, &idle, &mut backoff).await;
            return session.credentials;
        }
    };
    let idle = |why| Idle {
        why,
        for_good: false,
        cluster_uid: cluster_uid.clone(),
    };
    loop {
        let dialled = Instant::now();
        let ended = stream::serve(&mut session, &mut transfer, &mut hindered).await;
        transfer.interrupted(&session.engine.held().borrow());
        backoff.worked(dialled.elapsed());
        let pause = match ended {
            Ended::Lost(why) => {
                let pause = backoff.next((session.random)());
                tracing::warn!(%cluster, reason = why, retry_in = ?pause, "no session with the hub; the cluster is kept as it was last told");
                pause
            }
            Ended::Hindered => Duration::ZERO,
            Ended::Free => backoff.next((session.random)()),
            Ended::TurnedAway(why) => {
                let pause = backoff.rarely((session.random)());
                tracing::error!(%cluster, reason = why, retry_in = ?pause, "the hub turns this agent away; the cluster is kept as it was last told. Join again with a new token from `muster cluster join {cluster}`");
                pause
            }
            Ended::Elsewhere(why) => {
                tracing::error!(%cluster, reason = why, "these are the credentials of another cluster; this one is kept as it was last told. Give it a name of its own by a token from `muster cluster join NAME`");
                wait(&session, &idle(why), &mut backoff).await;
                backoff.next((session.random)())
            }
            Ended::Removed(why) => {
                session.engine.stop(Stop::Removed).await;
                tracing::warn!(%cluster, reason = why, "this cluster was removed from the fleet: its objects stay, and nothing is repaired any more. Delete the agent, or join again with a new token");
                let_in_again(&session, &cluster_uid, &backoff).await;
                tracing::info!(%cluster, "the hub lets this cluster in again");
                return session.credentials;
            }
            // Told by the hub or found in the cluster: two who write overwrite each other without any conflict.
            Ended::Superseded(why) | Ended::Stopped(why) => {
                session.engine.stop(Stop::Because(why.clone())).await;
                tracing::error!(%cluster, reason = why, "two agents claim {cluster}: this one writes nothing any more. Stop one of them");
                wait(&session, &idle(why), &mut backoff).await;
                tracing::info!(%cluster, "the other agent is gone: this one takes the cluster");
                return session.credentials;
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Waits until the engine has begun. While something is in its way, the hub is told what: nothing is taken from it yet.
async fn begun(session: &Session, backoff: &mut Backoff) -> Result<Cluster, String> {
    let mut standing = session.engine.standing();
    loop {
        let why = match standing.borrow_and_update().clone() {
            Standing::Working(cluster) => return Ok(cluster),
            Standing::Stopped(why) => return Err(why),
            Standing::Starting(why) => why,
        };
        let idle = Idle {
            why,
            for_good: true,
            cluster_uid: String::new(),
        };
        let told = async {
            wait(session, &idle, backoff).await;
            tokio::time::sleep(backoff.next((session.random)())).await;
        };
        tokio::select! {
            biased;
            changed = standing.changed() => changed.map_err(|_| "the engine has ended")?,
            () = told, if !idle.why.is_empty() => {}
        }
    }
}

/// Lets the hub know that this process is there and does not run the cluster; returns when the hub says that it may.
async fn wait(session: &Session, idle: &Idle, backoff: &mut Backoff) {
    let cluster = &session.credentials.cluster;
    loop {
        let dialled = Instant::now();
        let ended = stream::wait(session, idle).await;
        backoff.worked(dialled.elapsed());
        let pause = match ended {
            Ended::Free => return,
            Ended::TurnedAway(_) | Ended::Removed(_) => backoff.rarely((session.random)()),
            _ => backoff.next((session.random)()),
        };
        tracing::warn!(%cluster, reason = ?ended, retry_in = ?pause, "this agent writes nothing, and can't tell the hub so");
        tokio::time::sleep(pause).await;
    }
}

async fn let_in_again(session: &Session, cluster_uid: &str, backoff: &Backoff) {
    loop {
        tokio::time::sleep(backoff.rarely((session.random)())).await;
        match stream::probe(session, cluster_uid).await {
            Ok(()) => return,
            Err(ended) => {
                tracing::info!(cluster = %session.credentials.cluster, ?ended, "still out of the fleet")
            }
        }
    }
}

#[cfg(test)]
mod tests;
