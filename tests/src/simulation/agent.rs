//! The agent: its own way into the fleet, its own engine and its own session, one after the other as its program has
//! them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use muster_agent::backoff::Waits;
use muster_agent::clock::Clock;
use muster_agent::config::{Join, Options};
use muster_agent::credentials::{self, Place};
use muster_agent::engine::{self, Engine, EngineOptions};
use muster_agent::enrol::Way;
use muster_agent::membership;
use muster_agent::session::{self, Session};
use muster_proto::join_token::JoinToken;
use muster_proto::tls::connector::connect_over;
use muster_proto::tls::proxy::Proxies;
use muster_proto::{Desired, Rows};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::chance::jitter;
use super::judge::Judge;
use super::wire::{Door, Wire};

/// Where its own Secrets are.
pub(super) const NAMESPACE: &str = "muster-system";
/// The one that holds its key and certificate.
pub(super) const CREDENTIALS: &str = "muster-agent";

/// What an agent is started with.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) client: kube::Client,
    pub(super) wire: Arc<Wire>,
    pub(super) clock: Clock,
    /// Hears what it accepts.
    pub(super) judge: Arc<Judge>,
}

/// A running agent. Dropping it is a crash.
pub(super) struct Agent {
    life: watch::Receiver<Life>,
    task: AbortOnDropHandle<()>,
    /// What comes beside the session.
    offer: Option<AbortOnDropHandle<()>>,
}

/// How far it came.
#[derive(Clone)]
enum Life {
    Joining,
    Member(Engine),
    /// It has ended, and why.
    Over(String),
}

impl Agent {
    /// Starts the agent for the so-manieth time.
    pub(super) fn start(home: &Home, token: JoinToken, number: u64) -> Self {
        let (tell, life) = watch::channel(Life::Joining);
        let home = home.clone();
        let task = async move {
            let why = live(&home, token, number, &tell).await;
            tell.send_replace(Life::Over(format!("{why:#}")));
        };
        Self {
            life,
            task: AbortOnDropHandle::new(tokio::spawn(task)),
            offer: None,
        }
    }

    /// What works in the cluster, once it is a member.
    pub(super) fn engine(&self) -> Option<Engine> {
        match &*self.life.borrow() {
            Life::Member(engine) => Some(engine.clone()),
            Life::Joining | Life::Over(_) => None,
        }
    }

    /// What it holds.
    pub(super) fn held(&self) -> Arc<Desired> {
        let held = self.engine().map(|engine| engine.held().borrow().clone());
        held.unwrap_or_else(|| Arc::new(Desired::none()))
    }

    /// What it says of the cluster.
    pub(super) fn rows(&self) -> Arc<Rows> {
        let rows = self.engine().map(|engine| engine.rows().borrow().clone());
        rows.unwrap_or_default()
    }

    /// Whether it could not join.
    pub(super) fn was_refused(&self) -> bool {
        matches!(&*self.life.borrow(), Life::Over(why) if why.starts_with("cluster one can't join: "))
    }

    /// Offers a state that no hub sends now; who hears the calls judges what comes of it.
    pub(super) fn offer(&mut self, desired: Desired) {
        let engine = self.engine();
        let offer = async move {
            if let Some(engine) = engine {
                drop(engine.accept(desired).await);
            }
        };
        self.offer = Some(AbortOnDropHandle::new(tokio::spawn(offer)));
    }

    /// Whether it still does what it should.
    pub(super) fn check(&self) -> Result<()> {
        if let Life::Over(why) = &*self.life.borrow() {
            ensure!(self.was_refused(), "the agent has ended: {why}");
        } else {
            ensure!(!self.task.is_finished(), "the agent has ended");
        }
        Ok(())
    }
}

/// The order of life as [`muster_agent::run_in`] has it; why it ends.
async fn live(
    home: &Home,
    token: JoinToken,
    number: u64,
    tell: &watch::Sender<Life>,
) -> anyhow::Error {
    let options = options(home, token);
    let mut credentials =
        match membership::credentials(&home.client, &options, &way(&home.wire)).await {
            Ok(credentials) => credentials,
            Err(why) => return why,
        };
    let (keeping, keep) = credentials::keep(
        options.credentials.clone(),
        home.client.clone(),
        options.waits,
        jitter,
    );
    let _keep = AbortOnDropHandle::new(tokio::spawn(keep));
    for turn in 1_u32.. {
        let instance = format!("instance-{number}.{turn}");
        let (engine, task) = engine::start_at(
            home.client.clone(),
            EngineOptions {
                namespace: NAMESPACE.into(),
                hub: credentials.hub_identity(),
                cluster: credentials.cluster.clone(),
                instance: instance.clone(),
            },
            home.clock.clone(),
        );
        let mut task = AbortOnDropHandle::new(tokio::spawn(task));
        home.judge.follow(engine.held());
        tell.send_replace(Life::Member(engine.clone()));
        let wire = home.wire.clone();
        let session = Session {
            credentials,
            keeping: keeping.clone(),
            client: home.client.clone(),
            dial: Arc::new(move |credentials| {
                let (wire, hub) = (wire.clone(), credentials.hub.clone());
                let chain = credentials.for_tls().chain;
                let open = move |_| std::future::ready(wire.dial(Door::Agents, &chain));
                async move { connect_over(&hub, open).await }.boxed()
            }),
            engine,
            instance,
            waits: Waits::default(),
            random: jitter,
        };
        tokio::select! {
            biased;
            _ = &mut task => break,
            again = session::run(session) => credentials = again,
        }
    }
    anyhow::anyhow!("the engine has ended")
}

pub(super) fn options(home: &Home, token: JoinToken) -> Options {
    Options {
        join: Join::Token(token),
        credentials: Place::Secret {
            namespace: NAMESPACE.into(),
            name: CREDENTIALS.into(),
        },
        namespace: NAMESPACE.into(),
        hub: None,
        enrolment: None,
        proxies: Proxies::default(),
        waits: Waits::default(),
        clock: home.clock.clone(),
    }
}

/// To the hub, for one who is no member yet.
pub(super) fn way(wire: &Arc<Wire>) -> Way {
    let wire = wire.clone();
    Way {
        dial: Arc::new(move |address, _| {
            let (wire, address) = (wire.clone(), address.to_owned());
            let open = move |_| std::future::ready(wire.dial(Door::Enrolment, &[]));
            async move { connect_over(&address, open).await }.boxed()
        }),
        random: jitter,
    }
}
