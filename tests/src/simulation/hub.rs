//! The hub: its own fleet task and its own listener for agents, over a store in memory and a repository that is handed
//! to it as a value.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use muster_agent::credentials::{CertificateRequest, Credentials};
use muster_git::Tracked;
use muster_hub::agents::{self, Agents};
use muster_hub::ca::{Ca, SigningRequest};
use muster_hub::clock::Clock;
use muster_hub::fleet::{self, Certificate, Fleet, Threads};
use muster_hub::store::{HubIdentity, Memory, Store};
use muster_hub::view::View;
use muster_proto::tls::{Identity, Role};
use muster_proto::{ClusterName, Digest, DigestKey, Timestamp};
use muster_render::Renderer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::chance::Chance;
use super::tree::Tree;
use super::wire::Wire;

/// Backups that are kept, the newest ones.
const BACKUPS: usize = 8;

/// Who everybody is: made anew for each history, and in no line of it.
pub(super) struct Names {
    ca: Arc<Ca>,
    /// The cluster.
    pub(super) cluster: ClusterName,
    /// What the agent has from its enrolment.
    pub(super) credentials: Credentials,
    /// The cluster's, as the handshake would tell it.
    pub(super) identity: Identity,
    pub(super) certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Names {
    pub(super) fn new(start: SystemTime) -> Result<Self> {
        let cluster: ClusterName = "one".parse()?;
        let folder = tempfile::tempdir()?;
        let ca = Ca::open(folder.path())?;
        let request = CertificateRequest::new()?;
        let signing = SigningRequest::read(&request.csr_der())?;
        let issued = ca.certify_agent(&signing, &cluster, start);
        let chain = issued.chain.iter().map(|der| der.to_vec()).collect();
        let hub = "hub.test:7443".to_owned();
        let credentials = request.enrolled(chain, &ca.pin(), cluster.clone(), hub, Digest::ZERO)?;
        let identity = Identity {
            trust_domain: ca.trust_domain.clone(),
            role: Role::Cluster(cluster.clone()),
        };
        let certificate = issued.chain.first().context("a chain begins with a leaf")?;
        Ok(Self {
            certificate: certificate.clone(),
            ca: Arc::new(ca),
            cluster,
            credentials,
            identity,
        })
    }
}

/// The hub, running or not.
pub(super) struct Hub {
    names: Arc<Names>,
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
    listener: AbortOnDropHandle<Result<()>>,
    task: AbortOnDropHandle<Result<()>>,
}

impl Hub {
    /// A hub that runs, with one cluster that has joined it.
    pub(super) async fn start(
        names: Arc<Names>,
        wire: Arc<Wire>,
        clock: Clock,
        cluster_uid: String,
    ) -> Result<Self> {
        let identity = HubIdentity {
            trust_domain: names.ca.trust_domain.clone(),
            digest_key: DigestKey::new([5; 32]),
            created: Timestamp(0),
        };
        let store = Memory::new(identity);
        let mut hub = Self {
            names,
            wire,
            clock,
            // One of before the cluster came.
            backups: vec![store.backup()],
            store,
            tracked: watch::Sender::new(Arc::default()),
            running: None,
        };
        hub.begin().await?;
        let fleet = hub.fleet()?.clone();
        let hour = Duration::from_secs(3600);
        let cluster = hub.names.cluster.clone();
        let token = fleet
            .create_join_token("a person", cluster, Default::default(), hour)
            .await?;
        let cluster = fleet.redeem_token(token.secret, cluster_uid).await?;
        let certificate = Certificate {
            serial: muster_hub::ca::serial(&hub.names.certificate),
            not_after: muster_hub::ca::ends(&hub.names.certificate),
        };
        fleet.certificate_issued(cluster, certificate).await?;
        Ok(hub)
    }

    /// Runs, with what is in the store.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.store = self.store.next_life();
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
            ca: self.names.ca.clone(),
            clock: self.clock.clone(),
            shutdown: serving.clone(),
        };
        let listener = agents::serve(agents, self.wire.listen());
        self.running = Some(Running {
            fleet,
            serving,
            deciding,
            task: AbortOnDropHandle::new(tokio::spawn(task)),
            listener: AbortOnDropHandle::new(tokio::spawn(listener)),
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
        tokio::time::timeout(Duration::from_secs(5), running.listener)
            .await
            .ok();
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

    pub(super) fn fleet(&self) -> Result<&Fleet> {
        let running = self.running.as_ref().context("the hub does not run")?;
        let works = !running.task.is_finished() && !running.listener.is_finished();
        anyhow::ensure!(works, "a task of the hub has ended by itself");
        Ok(&running.fleet)
    }

    /// What people see.
    pub(super) fn view(&self) -> Result<Arc<View>> {
        Ok(self.fleet()?.view().borrow().clone())
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
