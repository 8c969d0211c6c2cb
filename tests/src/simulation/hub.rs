//! The hub: its own fleet task and its own listener for agents, over a store in memory and a repository that is handed
//! to it as a value.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_git::Tracked;
use muster_hub::agents::{self, Agents};
use muster_hub::ca::Ca;
use muster_hub::clock::Clock;
use muster_hub::enrolment::{self, Enrolment};
use muster_hub::fleet::{self, Fleet, Objects, Threads};
use muster_hub::store::{ClusterState, HubIdentity, Memory, Store};
use muster_hub::view::View;
use muster_proto::join_token::JoinToken;
use muster_proto::{ClusterName, DigestKey, Timestamp};
use muster_render::Renderer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::chance::Chance;
use super::tree::Tree;
use super::wire::{Door, Wire};

/// Backups that are kept, the newest ones.
const BACKUPS: usize = 8;

/// Where the hub listens, as its join tokens say; the wire asks for the door only.
const AGENTS: &str = "hub.test:7443";
const ENROLMENT: &str = "hub.test:7444";
/// How long a join token is good.
const HOUR: Duration = Duration::from_secs(3600);

/// The hub, running or not.
pub(super) struct Hub {
    /// Made anew for each history, and in no line of it.
    ca: Arc<Ca>,
    cluster: ClusterName,
    wire: Arc<Wire>,
    clock: Clock,
    store: Memory,
    backups: Vec<Memory>,
    tracked: watch::Sender<Arc<Tracked>>,
    running: Option<Running>,
}

/// Dropping it is a crash.
struct Running {
    fleet: Fleet,
    serving: CancellationToken,
    deciding: CancellationToken,
    listeners: [AbortOnDropHandle<Result<()>>; 2],
    task: AbortOnDropHandle<Result<()>>,
}

impl Hub {
    /// A hub that runs, and knows no cluster.
    pub(super) async fn start(
        ca: Arc<Ca>,
        cluster: ClusterName,
        wire: Arc<Wire>,
        clock: Clock,
    ) -> Result<Self> {
        let identity = HubIdentity {
            trust_domain: ca.trust_domain.clone(),
            digest_key: DigestKey::new([5; 32]),
            created: Timestamp(0),
        };
        let store = Memory::new(identity);
        let mut hub = Self {
            ca,
            cluster,
            wire,
            clock,
            // One of before the cluster came.
            backups: vec![store.backup()],
            store,
            tracked: watch::Sender::new(Arc::default()),
            running: None,
        };
        hub.begin().await?;
        Ok(hub)
    }

    /// Runs, with what is in the store.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.store = self.store.next_life();
        if self.tracked.borrow().error.is_some() {
            // Nothing was fetched in this life, and the mirror is gone.
            self.tracked.send_modify(|tracked| {
                Arc::make_mut(tracked).snapshot = None;
            });
        }
        let (serving, deciding) = (CancellationToken::new(), CancellationToken::new());
        let (fleet, task) = fleet::start(
            Store::Memory(self.store.clone()),
            muster_git::fed(self.tracked.subscribe()),
            Renderer::without_tools(),
            self.clock.clone(),
            Threads::One,
            deciding.clone(),
        )
        .await?;
        let agents = Agents {
            fleet: fleet.clone(),
            ca: self.ca.clone(),
            clock: self.clock.clone(),
            shutdown: serving.clone(),
        };
        let enrolment = Enrolment {
            fleet: fleet.clone(),
            ca: self.ca.clone(),
            clock: self.clock.clone(),
            shutdown: serving.clone(),
        };
        let agents = agents::serve(agents, self.wire.listen(Door::Agents));
        let enrolment = enrolment::serve(enrolment, self.wire.listen(Door::Enrolment));
        self.running = Some(Running {
            fleet,
            serving,
            deciding,
            task: AbortOnDropHandle::new(tokio::spawn(task)),
            listeners: [
                AbortOnDropHandle::new(tokio::spawn(agents)),
                AbortOnDropHandle::new(tokio::spawn(enrolment)),
            ],
        });
        Ok(())
    }

    /// Ends at once: what it was about to write is not written.
    pub(super) fn crash(&mut self) {
        self.running = None;
        self.wire.close();
    }

    /// Ends in order, as when it is told to.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let running = self.running.take().context("the hub does not run")?;
        running.serving.cancel();
        for listener in running.listeners {
            tokio::time::timeout(Duration::from_secs(5), listener)
                .await
                .ok();
        }
        running.deciding.cancel();
        running.task.await??;
        self.wire.close();
        Ok(())
    }

    /// Puts back what was in the store at some time before. To be done while it does not run.
    pub(super) fn restore(&mut self, chance: &mut Chance) {
        self.store = chance.one(&self.backups).backup();
    }

    /// The repository has a new commit.
    pub(super) fn fetched(&mut self, tree: &Tree) {
        if self.backups.len() > BACKUPS {
            self.backups.remove(1);
        }
        self.backups.push(self.store.backup());
        self.tracked.send_replace(Arc::new(Tracked {
            url: "https://git.test/fleet".into(),
            reference: "main".into(),
            snapshot: Some(Arc::new(tree.snapshot())),
            subject: "Change things".into(),
            fetched_at: (self.clock)(),
            ..Tracked::default()
        }));
    }

    /// The repository can't be reached any more.
    pub(super) fn fetch_fails(&mut self) {
        self.tracked.send_modify(|tracked| {
            Arc::make_mut(tracked).error = Some("git.test is away".into());
        });
    }

    pub(super) fn fleet(&self) -> Result<&Fleet> {
        let running = self.running.as_ref().context("the hub does not run")?;
        let served = running.listeners.iter().any(|it| it.is_finished());
        let works = !running.task.is_finished() && !served;
        anyhow::ensure!(works, "a task of the hub has ended by itself");
        Ok(&running.fleet)
    }

    /// What people see.
    pub(super) fn view(&self) -> Result<Arc<View>> {
        Ok(self.fleet()?.view().borrow().clone())
    }

    /// A person invites the cluster.
    pub(super) async fn invite(&self) -> Result<JoinToken> {
        let fleet = self.fleet()?;
        let labels = Default::default();
        let token = fleet.create_join_token("a person", self.cluster.clone(), labels, HOUR);
        Ok(JoinToken {
            cluster: self.cluster.clone(),
            agents_address: AGENTS.into(),
            enrolment_address: ENROLMENT.into(),
            ca_sha256: self.ca.pin(),
            secret: token.await?.secret,
        })
    }

    /// A person lets the cluster go; whether it was there.
    pub(super) async fn remove(&self) -> Result<bool> {
        let fleet = self.fleet()?;
        let removed = fleet.remove_cluster("a person", self.cluster.clone(), Objects::Keep);
        Ok(removed.await.is_ok())
    }

    /// Why an agent with the certificate of this serial number is turned away, if it is.
    pub(super) async fn turns_away(&self, serial: &str) -> Result<Option<&'static str>> {
        let store = Store::Memory(self.store.clone());
        let clusters = store.clusters().await?;
        if clusters
            .iter()
            .any(|row| row.state == ClusterState::Removed)
        {
            return Ok(Some("the cluster was removed"));
        }
        let certificates = store.certificates((self.clock)()).await?;
        let revoked = |serial: &str| {
            certificates
                .iter()
                .any(|it| it.serial == serial && it.revoked)
        };
        Ok(revoked(serial).then_some("its certificate was revoked"))
    }

    /// A person gives the word for all that waits for one.
    pub(super) async fn approve(&self) -> Result<()> {
        let fleet = self.fleet()?;
        let view = self.view()?;
        let ids: Vec<String> = view.waiting.iter().map(|waits| waits.what.id()).collect();
        if !ids.is_empty() {
            // What does not wait any more is not approved; the view follows.
            fleet.approve("a person", ids).await.ok();
        }
        Ok(())
    }
}
