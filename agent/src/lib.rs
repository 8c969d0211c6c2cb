//! The agent: makes one cluster match its desired state, keeps it so, and reports.
//!
//! | task | owns | started by |
//! |---|---|---|
//! | [`run`] | the order of life: credentials, then engine and session, then the end | `main`, a test |
//! | [`engine`] | ledger, live state, every write to the API server | [`run`] |
//! | [`session`] (within [`run`]) | the connection to the hub, credentials and their renewal | [`run`] |
//!
//! | channel | kind | from -> to | carries |
//! |---|---|---|---|
//! | accept, stop | mpsc of 1 with an answer | session -> engine | a desired state; the word to stop writing |
//! | held | watch | engine -> session | the accepted desired state |
//! | rows | watch | engine -> session | status rows, newest wins |
//! | standing | watch | engine -> session | whether the engine works here, and why not |
//! | Session | one gRPC stream each way | session <-> hub | `muster.v1` messages |
//!
//! The engine never waits for the session: with the hub away it goes on by what the ledger in the cluster holds. A task
//! that ends, ends the agent, saying which and why. No global state: any number of agents run in one process.

pub mod backoff;
pub mod cluster_access;
pub mod config;
pub mod credentials;
pub mod engine;
pub mod enrol;
pub mod session;

#[cfg(test)]
mod scripted;

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::backoff::{Backoff, random};
use crate::config::{Config, Join, Options};
use crate::credentials::Credentials;
use crate::engine::EngineOptions;
use crate::session::Session;

/// How long the engine may finish what is in flight when the agent is told to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a new join token is tried by an agent that has credentials already.
const JOIN_AGAIN: Duration = Duration::from_secs(60);

/// Runs an agent until `shutdown` resolves.
///
/// # Errors
/// When the cluster can't be joined, or a task ended that should not.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
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
    let mut credentials = tokio::select! {
        credentials = identity(&client, &options) => credentials?,
        () = &mut shutdown => return Ok(()),
    };
    loop {
        let instance = uuid::Uuid::new_v4().to_string();
        let (engine, task) = engine::start(
            client.clone(),
            EngineOptions {
                namespace: options.namespace.clone(),
                hub: credentials.hub_identity(),
                cluster: credentials.cluster.clone(),
                instance: instance.clone(),
            },
        );
        let mut task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(task));
        let session = Session {
            credentials,
            place: options.credentials.clone(),
            client: client.clone(),
            proxies: options.proxies.clone(),
            engine,
            instance,
            waits: options.waits,
        };
        let next = tokio::select! {
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

/// Who this agent is: by its store, or by its join token.
async fn identity(client: &kube::Client, options: &Options) -> anyhow::Result<Credentials> {
    let place = &options.credentials;
    let held = load(client, options).await?;
    match (held, &options.join) {
        (Some(held), Join::Absent(_)) => Ok(held),
        (Some(held), Join::Token(token)) if held.joined_with == enrol::token_digest(token) => {
            Ok(held)
        }
        (Some(held), Join::Token(_)) => {
            tracing::info!(cluster = %held.cluster, "there is a new join token: joining again");
            // A token that is used up or expired must not take down a cluster that is a member.
            let why = match tokio::time::timeout(JOIN_AGAIN, join(client, options)).await {
                Ok(Ok(joined)) => return Ok(joined),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "the hub could not be reached".to_owned(),
            };
            tracing::warn!(cluster = %held.cluster, reason = why, "the new join token does not work: going on with the credentials in {place}");
            Ok(held)
        }
        (None, Join::Absent(why)) => bail!(
            "this cluster is not a member yet (nothing is kept in {place}), and {why}: get a token by `muster cluster join NAME` and pass it with --join-token"
        ),
        (None, Join::Token(_)) => join(client, options).await,
    }
}

/// What is kept. An API server that is away for now is asked again.
async fn load(client: &kube::Client, options: &Options) -> anyhow::Result<Option<Credentials>> {
    let mut backoff = Backoff::new(options.waits);
    loop {
        match options.credentials.load(client).await {
            Ok(held) => {
                return Ok(held.map(|mut held| {
                    if let Some(hub) = &options.hub {
                        held.hub.clone_from(hub);
                    }
                    held
                }));
            }
            Err(error) if error.may_pass() => retry(&error, &mut backoff).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn join(client: &kube::Client, options: &Options) -> anyhow::Result<Credentials> {
    let Join::Token(token) = &options.join else {
        bail!("joining needs a token");
    };
    options.credentials.prepare().await?;
    let mut backoff = Backoff::new(options.waits);
    let uid = loop {
        match cluster_access::cluster_uid(client).await {
            Ok(uid) => break uid,
            Err(error) => retry(&format!("{error:#}"), &mut backoff).await,
        }
    };
    let credentials = enrol::enrol(token, options, &uid)
        .await
        .context("enrolment")?;
    // The token is spent: what came for it is not given up.
    while let Err(error) = options.credentials.save(client, &credentials).await {
        retry(&error, &mut backoff).await;
    }
    tracing::info!(cluster = %credentials.cluster, place = %options.credentials, "joined the fleet");
    Ok(credentials)
}

async fn retry(error: &impl std::fmt::Display, backoff: &mut Backoff) {
    let wait = backoff.next(random());
    tracing::warn!(%error, retry_in = ?wait, "trying again");
    tokio::time::sleep(wait).await;
}
