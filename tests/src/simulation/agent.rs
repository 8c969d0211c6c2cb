//! The agent: its own engine and its own session.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use muster_agent::backoff::Waits;
use muster_agent::clock::Clock;
use muster_agent::credentials::Place;
use muster_agent::engine::{self, Engine, EngineOptions};
use muster_agent::session::{self, Session};
use muster_proto::Desired;
use muster_proto::tls::connector::connect_over;
use tokio_util::task::AbortOnDropHandle;

use super::hub::Names;
use super::wire::Wire;

/// A running agent. Dropping it is a crash.
pub(super) struct Agent {
    pub(super) engine: Engine,
    engine_task: AbortOnDropHandle<()>,
    session: AbortOnDropHandle<()>,
    /// What comes beside the session.
    offer: Option<AbortOnDropHandle<()>>,
}

impl Agent {
    /// Starts the agent for the so-manieth time.
    pub(super) fn start(
        client: kube::Client,
        names: &Names,
        wire: Arc<Wire>,
        clock: Clock,
        number: u64,
    ) -> Self {
        let instance = format!("instance-{number}");
        let options = EngineOptions {
            namespace: "muster-system".into(),
            hub: "hub.test/abc".into(),
            cluster: names.cluster.clone(),
            instance: instance.clone(),
        };
        let (engine, task) = engine::start_at(client.clone(), options, clock);
        let session = Session {
            credentials: names.credentials.clone(),
            // Nothing is renewed within the days that a history takes.
            place: Place::Directory("/nonexistent".into()),
            client,
            dial: Arc::new(move |credentials| {
                let (wire, hub) = (wire.clone(), credentials.hub.clone());
                let open = move |_| std::future::ready(wire.dial());
                async move { connect_over(&hub, open).await }.boxed()
            }),
            engine: engine.clone(),
            instance,
            waits: Waits::default(),
            random: super::chance::jitter,
        };
        Self {
            engine,
            engine_task: AbortOnDropHandle::new(tokio::spawn(task)),
            session: AbortOnDropHandle::new(tokio::spawn(session::run(session).map(drop))),
            offer: None,
        }
    }

    /// Offers a state that no hub sends now; who hears the calls judges what comes of it.
    pub(super) fn offer(&mut self, desired: Desired) {
        let engine = self.engine.clone();
        let offer = async move { drop(engine.accept(desired).await) };
        self.offer = Some(AbortOnDropHandle::new(tokio::spawn(offer)));
    }

    /// Whether it still does what it should.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(!self.engine_task.is_finished(), "the engine has ended");
        ensure!(!self.session.is_finished(), "the session has given up");
        Ok(())
    }
}
