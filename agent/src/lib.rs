//! The agent: makes one cluster match its desired state, keeps it so, and reports.
//!
//! | task | owns | started by |
//! |---|---|---|
//! | [`run`] | the order of life: credentials, then engine and session, then the end | [`program`], a test |
//! | [`engine`] | ledger, live state, every write to the API server | [`run`] |
//! | [`session`] (within [`run`]) | the connection to the hub, credentials and their renewal | [`run`] |
//! | [`credentials::keep`] | where credentials are kept, once the agent is a member | [`run`] |
//! | [`asking`], one a question | nothing: it reads, and tries by dry runs | [`session`] |
//!
//! | channel | kind | from -> to | carries |
//! |---|---|---|---|
//! | accept, stop | mpsc of 1 with an answer | session -> engine | a desired state; the word to stop writing |
//! | about | mpsc of 1 with an answer | asking -> engine | which objects; copies of what is known of them |
//! | held | watch | engine -> session | the accepted desired state |
//! | rows | watch | engine -> session | status rows, newest wins |
//! | standing | watch | engine -> session | whether the engine works here, and why not |
//! | hindrance | watch | engine -> session | why the ledger can't be written, newest wins |
//! | newest | watch | session -> keep | renewed credentials |
//! | unkept | watch | keep -> session | why they are not kept yet, newest wins |
//! | Session | one gRPC stream each way | session <-> hub | `muster.v1` messages |
//!
//! The engine never waits for the session: with the hub away it goes on by what the ledger in the cluster holds. A task
//! that ends, ends the agent, saying which and why. No global state: any number of agents run in one process.

mod apply;
pub mod asking;
pub mod backoff;
mod body;
pub mod clock;
pub mod cluster_access;
pub mod config;
pub mod credentials;
mod desired;
mod discovery;
mod drift;
pub mod engine;
pub mod enrol;
mod fields;
mod graph;
mod health;
mod ignore;
mod inventory;
pub mod ledger;
mod live;
mod marks;
pub mod membership;
mod plan;
pub mod program;
mod prune;
mod report;
mod serving;
pub mod session;
mod since;
mod takeover;
mod walk;

#[cfg(test)]
mod scripted;

use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, Options};
use crate::engine::EngineOptions;
use crate::session::Session;

/// How long the engine may finish what is in flight when the agent is told to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs an agent until `shutdown` resolves.
///
/// # Errors
/// When the cluster can't be joined, or a task ended that should not.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    muster_proto::tls::install_crypto();
    let client = config.cluster.client().await?;
    run_in(client, config.options, shutdown).await
}

/// [`run`] in the cluster behind a ready-made client.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    client: kube::Client,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    muster_proto::tls::install_crypto();
    let mut shutdown = pin!(shutdown);
    let way = enrol::by_tls(options.proxies.clone());
    let mut credentials = tokio::select! {
        biased;
        credentials = membership::credentials(&client, &options, &way) => credentials?,
        () = &mut shutdown => return Ok(()),
    };
    let (keeping, keep) = credentials::keep(
        options.credentials.clone(),
        client.clone(),
        options.waits,
        backoff::random,
    );
    let _keep = AbortOnDropHandle::new(tokio::spawn(keep));
    loop {
        let instance = uuid::Uuid::new_v4().to_string();
        let (engine, task) = engine::start_at(
            client.clone(),
            EngineOptions {
                namespace: options.namespace.clone(),
                hub: credentials.hub_identity(),
                cluster: credentials.cluster.clone(),
                instance: instance.clone(),
            },
            options.clock.clone(),
        );
        let mut task = AbortOnDropHandle::new(tokio::spawn(task));
        let session = Session {
            credentials,
            keeping: keeping.clone(),
            client: client.clone(),
            dial: session::by_tls(options.proxies.clone()),
            engine,
            instance,
            waits: options.waits,
            random: backoff::random,
        };
        let next = tokio::select! {
            biased;
            ended = &mut task => bail!("the engine has ended: {}", match ended {
                Ok(()) => "nobody told it to".to_owned(),
                Err(error) => error.to_string(),
            }),
            credentials = session::run(session) => Some(credentials),
            () = &mut shutdown => None,
        };
        // The session is gone and with it the last handle: the engine finishes what it does.
        if tokio::time::timeout(FAREWELL, task).await.is_err() {
            tracing::warn!(
                "the engine was still writing and was cut off; it goes on from its ledger at the next start"
            );
        }
        match next {
            Some(again) => credentials = again,
            None => return Ok(()),
        }
    }
}
