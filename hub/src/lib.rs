//! The hub: follows Git, decides what every cluster should run, serves agents and people.
//!
//! [`Hub::start`] takes a checked [`Config`] and returns a [`Running`] hub; [`program`] is a thin shell around it. The
//! tasks, each the one owner of its state, and what goes between them:
//!
//! | task | owns | hears | tells |
//! |---|---|---|---|
//! | `git` ([`muster_git`]) | the mirrors | "fetch now", what the newest commit names (`Git` handle) | `watch<Arc<Tracked>>` and `watch<Arc<Others>>` to the fleet |
//! | `fleet` ([`fleet`]) | the store, all decided state | `Tracked`; sessions, people (`Fleet` handle, each call answered) | `watch<Arc<Desired>>` a cluster, `watch<Arc<View>>` |
//! | `agents` | one session a connected agent | agents (mTLS gRPC), `watch<Arc<Desired>>` | agents, `Fleet` |
//! | `enrolment` | how often an address guessed wrong | new clusters (TLS gRPC) | `Fleet` |
//! | `api` | nothing | people (TLS, gRPC and JSON), `watch<Arc<View>>` | people, `Fleet`, [`plans`], the webhook task |
//! | `webhook` | whose fetch is wanted | "somebody pushed there" (`watch`) | `Fleet` |
//! | `certificates` ([`ca`]) | the hub's own certificate | the clock | `watch<Arc<ServerConfig>>` to the listeners |
//!
//! A task that ends before the hub is told to stop, ends the hub, saying which and why.

pub mod agents;
mod api;
pub mod ca;
pub mod clock;
pub mod config;
pub mod enrolment;
pub mod fleet;
mod listen;
mod plans;
pub mod program;
pub mod store;
mod tasks;
pub mod view;
mod webhook;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use muster_git::Repository;
use muster_proto::Timestamp;
use muster_proto::tls::acceptor::accept;
use muster_proto::tls::install_crypto;
use muster_render::Renderer;
use tempfile::TempDir;

use agents::Agents;
use api::{AdminToken, Api, Invitation, Tokens};
use ca::Ca;
use clock::Clock;
use enrolment::Enrolment;
use fleet::Threads;
use listen::Http;
use plans::Plans;
use store::{ApiToken, Store};
use tasks::Tasks;
use webhook::Webhook;

pub use config::Config;

/// The name under which the admin token's hash is stored.
const ADMIN: &str = "admin";

/// Starts hubs.
pub struct Hub;

/// A hub that serves. Dropping it stops the hub at once; [`Running::stop`] does so in order.
#[derive(Debug)]
pub struct Running {
    /// Where agents connect.
    pub agents_addr: SocketAddr,
    /// Where new clusters enrol.
    pub enrolment_addr: SocketAddr,
    /// Where people ask.
    pub api_addr: SocketAddr,
    /// Holds the token that the API takes.
    pub admin_token_file: PathBuf,
    /// The CA's certificate, to trust this hub by.
    pub ca_pem_file: PathBuf,
    tasks: Tasks,
    /// Of the environment, as files.
    _credentials: Option<TempDir>,
}

impl Hub {
    /// Opens the data folder, binds the listeners, and serves. When it returns, connections are accepted and what was
    /// decided before is published again.
    ///
    /// # Errors
    /// When the data folder is damaged or in use, or a port is taken: says what to do.
    pub async fn start(config: Config) -> anyhow::Result<Running> {
        Self::start_at(config, clock::system()).await
    }

    /// As [`Hub::start`], with another clock for everything but TLS handshakes.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub async fn start_at(config: Config, clock: Clock) -> anyhow::Result<Running> {
        install_crypto();
        make_data_folder(&config.data)?;
        programs_are_there(&config.repository)?;
        let ca = Arc::new(Ca::open(&config.data)?);
        let store = Store::open(&config.data, Some(&ca.trust_domain), clock()).await?;
        let started = Self::start_on(store.clone(), ca, config, clock).await;
        if started.is_err() {
            // Its connections end now, and not when somebody has put the database right.
            store.close().await;
        }
        started
    }

    async fn start_on(
        store: Store,
        ca: Arc<Ca>,
        config: Config,
        clock: Clock,
    ) -> anyhow::Result<Running> {
        let renderer = Renderer::start(&config.rendering, &config.data).await?;
        let (admin_token_file, tokens) = tokens(&config.data, &store, clock()).await?;

        let (agents_listener, agents_addr) =
            listen::bind("--agents-listen", config.agents_listen).await?;
        let (enrolment_listener, enrolment_addr) =
            listen::bind("--enrolment-listen", config.enrolment_listen).await?;
        let (api_listener, api_addr) = listen::bind("--api-listen", config.api_listen).await?;
        let invitation = Arc::new(Invitation {
            agents_address: config
                .advertise_agents
                .clone()
                .unwrap_or_else(|| agents_addr.to_string()),
            enrolment_address: config
                .advertise_enrolment
                .clone()
                .unwrap_or_else(|| enrolment_addr.to_string()),
            ca_sha256: ca.pin(),
            trust_domain: ca.trust_domain.clone(),
        });

        let mut tasks = Tasks::default();
        let serving = tasks.serving.clone();
        let given = match config.given_credentials.is_empty() {
            true => None,
            false => Some(config.given_credentials.folder()?),
        };
        let given_folder = given.as_ref().map(TempDir::path);
        let credentials = config.credentials.as_deref().or(given_folder);
        let proposals = muster_git::proposals(&config.repository, credentials, &config.data);
        let (git, follow) = muster_git::follow(
            config.repository,
            credentials,
            &config.data,
            clock.clone(),
            tasks.deciding.clone(),
        );
        let (fleet, decide) = fleet::start(
            store,
            git,
            renderer.clone(),
            clock.clone(),
            Threads::Many,
            tasks.deciding.clone(),
        )
        .await?;
        tasks.spawn_deciding("git", follow);
        tasks.spawn_deciding("fleet", decide);
        let (tls, certificates) = ca::serving(
            ca.clone(),
            names(
                &config.advertise_agents,
                &config.advertise_enrolment,
                &[agents_addr, enrolment_addr, api_addr],
            ),
        )?;
        tasks.spawn_helper("certificates", certificates);
        let (webhook, fetch) = Webhook::new(config.webhook_secret.as_ref(), fleet.clone());
        tasks.spawn_helper("webhook", fetch);

        let agents = Agents {
            fleet: fleet.clone(),
            ca: ca.clone(),
            clock: clock.clone(),
            shutdown: serving.clone(),
        };
        let enrolment = Enrolment {
            fleet: fleet.clone(),
            ca: ca.clone(),
            clock,
            shutdown: serving.clone(),
        };
        let api = api::routes(
            Api {
                plans: Plans::new(config.plans, proposals, fleet.clone(), renderer),
                fleet,
                invitation,
                shutdown: serving.clone(),
            },
            tokens,
            webhook,
        );
        tasks.spawn_serving(
            "agents",
            agents::serve(agents, accept(agents_listener, tls.agents)),
        );
        tasks.spawn_serving(
            "enrolment",
            enrolment::serve(enrolment, accept(enrolment_listener, tls.token.clone())),
        );
        tasks.spawn_serving(
            "api",
            listen::serve(
                accept(api_listener, tls.token),
                Http::OneAndTwo,
                api,
                serving,
            ),
        );

        tracing::info!(agents = %agents_addr, enrolment = %enrolment_addr, api = %api_addr, "the hub serves");
        Ok(Running {
            agents_addr,
            enrolment_addr,
            api_addr,
            admin_token_file,
            ca_pem_file: ca.pem_file.clone(),
            tasks,
            _credentials: given,
        })
    }
}

impl Running {
    /// Stops in order: sessions and calls end, then what they said is stored.
    ///
    /// # Errors
    /// When a task failed on the way.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.tasks.stop().await
    }

    /// Waits for a task to end, which none does by itself.
    ///
    /// # Errors
    /// Always, unless the hub was stopped: which task, and why.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        self.tasks.ended().await
    }
}

/// Runs a hub until `shutdown` resolves or a task ends.
///
/// # Errors
/// As [`Hub::start`], or which task ended and why.
pub async fn serve(config: Config, shutdown: impl Future) -> anyhow::Result<()> {
    let mut running = Hub::start(config).await?;
    tokio::select! {
        biased;
        _ = shutdown => {
            tracing::info!("stopping");
            running.stop().await
        }
        ended = running.ended() => {
            // The rest still stops in order; why it has to is what matters.
            let stopped = running.stop().await;
            ended.and(stopped)
        }
    }
}

/// Says now, not at the first fetch, what the policy of the fleet repository lacks.
fn programs_are_there(repository: &Repository) -> anyhow::Result<()> {
    let (ssh, gpg) = (&repository.allowed_signers_file, &repository.gpg_keys_file);
    match muster_git::missing_checker(ssh.is_some(), gpg.is_some()) {
        None => Ok(()),
        Some(program) => anyhow::bail!(
            "signatures of commits are checked by the program {program}, and it is not on the PATH: install it, or leave out --repo-allowed-signers-file and --repo-gpg-keys-file"
        ),
    }
}

fn make_data_folder(data: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut folder = std::fs::DirBuilder::new();
    folder
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| {
            format!(
                "can't make the data folder {}: give one that can be written with --data DIR",
                data.display()
            )
        })
}

/// The tokens in the store; the first start puts the admin token there.
async fn tokens(data: &Path, store: &Store, now: Timestamp) -> anyhow::Result<(PathBuf, Tokens)> {
    let mut tokens: Vec<_> = store
        .api_tokens()
        .await?
        .into_iter()
        .map(|token| (token.name, token.hash))
        .collect();
    if !tokens.iter().any(|(name, _)| name == ADMIN) {
        let hash = AdminToken::provide(data)?;
        let token = ApiToken {
            name: ADMIN.to_owned(),
            hash,
        };
        store.put_api_token(&token, now).await?;
        tokens.push((ADMIN.to_owned(), hash));
    }
    Ok((AdminToken::file(data), Tokens::new(tokens)))
}

/// Everything a client may dial this hub by.
fn names(
    advertise_agents: &Option<String>,
    advertise_enrolment: &Option<String>,
    bound: &[SocketAddr],
) -> Vec<String> {
    let advertised = [advertise_agents, advertise_enrolment]
        .into_iter()
        .flatten();
    let hosts = advertised.filter_map(|address| {
        Some(
            address
                .rsplit_once(':')?
                .0
                .trim_matches(['[', ']'])
                .to_owned(),
        )
    });
    let bound = bound
        .iter()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_unspecified())
        .map(|ip| ip.to_string());
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = hosts.chain(bound).chain(loopback).collect();
    names.sort();
    names.dedup();
    names
}
