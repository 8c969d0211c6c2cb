//! The engine makes one cluster match its desired state and keeps it so, hub or no hub.
//!
//! In: desired states ([`Engine::accept`]), events of the API server. Out: writes to the API server, the accepted state
//! ([`Engine::held`]) and status rows ([`Engine::rows`]), both as `watch`: newest wins. One task owns all of it;
//! [`Engine`] is a cheap handle to that task.

use std::sync::Arc;

use muster_proto::{ClusterName, Desired, Digest, Generation, Rows};
use tokio::sync::{mpsc, oneshot, watch};

use crate::asking::Subject;
use crate::clock::Clock;

mod asked;
mod braking;
mod detecting;
mod kinds;
mod launch;
mod mending;
mod object;
mod opening;
mod outcomes;
mod pauses;
mod pods;
mod queue;
mod removals;
mod reporting;
mod running;
mod seen;
mod state;
mod waiting;
mod work;

pub(crate) use asked::{About, Known};

/// What the engine must be told before it starts.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Namespace of the ledger; created when absent.
    pub namespace: String,
    /// Which hub decides here: trust domain and fingerprint of its CA. Another value in the ledger means that another
    /// hub owns this cluster.
    pub hub: String,
    /// Name of this cluster, from the certificate.
    pub cluster: ClusterName,
    /// Random per process: tells two agents of one name apart.
    pub instance: String,
}

/// What the agent holds after a desired state was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Of the accepted state.
    pub generation: Generation,
    /// Of the accepted state.
    pub digest: Digest,
}

/// Why a desired state was not accepted. The state held before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Generations never decrease.
    #[error("generation {offered} is older than {held}, which this cluster holds")]
    Older {
        /// What came.
        offered: Generation,
        /// What is held.
        held: Generation,
    },
    /// A generation names one content.
    #[error("same generation, other content: generation {0} was accepted with another digest")]
    OtherContent(Generation),
    /// The cluster could not keep it: nothing is wrong with the state, offer it again later.
    #[error("the desired state could not be stored in the cluster: {0}")]
    NotStored(String),
    /// The engine does not write any more.
    #[error("{0}")]
    Stopped(String),
}

/// Where the engine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The ledger has not been read yet, or nobody has looked at what is there; the text says what is in the way, empty when nothing is.
    Starting(String),
    /// The cluster is ours and was looked at; [`Engine::held`] is what the ledger holds.
    Working(Cluster),
    /// Nothing is written any more; the text says why and what to do. The newest of two agents goes on working.
    Stopped(String),
}

/// What the API server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// UID of the namespace kube-system.
    pub uid: String,
    /// Version of the API server, such as `v1.37.2`.
    pub kubernetes_version: String,
}

/// Why the engine is told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The cluster was removed from the fleet and keeps its objects: the ledger is emptied and given up, so that
    /// another hub or name may take the cluster.
    Removed,
    /// Anything else; nothing in the cluster changes.
    Because(String),
}

/// Handle to the engine's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    held: watch::Receiver<Arc<Desired>>,
    rows: watch::Receiver<Arc<Rows>>,
    standing: watch::Receiver<Standing>,
    hindrance: watch::Receiver<String>,
}

/// What the handle asks of the task.
#[derive(Debug)]
pub(crate) enum Request {
    Accept(Box<Desired>, oneshot::Sender<Result<Held, Refused>>),
    Stop(Stop, oneshot::Sender<()>),
    About(Subject, oneshot::Sender<Result<About, String>>),
}

impl Engine {
    /// Offers a desired state; answers when it is stored in the cluster, before it is acted on.
    ///
    /// # Errors
    /// By the generation rule, when it can't be stored, or when the engine has stopped.
    pub async fn accept(&self, desired: Desired) -> Result<Held, Refused> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Accept(Box::new(desired), answer);
        let ended = || Refused::Stopped("the engine has ended".into());
        self.requests.send(request).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The accepted state; [`Desired::none`] at first.
    pub fn held(&self) -> watch::Receiver<Arc<Desired>> {
        self.held.clone()
    }

    /// What to report.
    pub fn rows(&self) -> watch::Receiver<Arc<Rows>> {
        self.rows.clone()
    }

    /// Where the engine stands.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Why the ledger can't be written for some time now; empty when it can.
    pub(crate) fn hindrance(&self) -> watch::Receiver<String> {
        self.hindrance.clone()
    }

    /// Waits until the ledger was read, so that [`Engine::held`] is what this cluster holds.
    ///
    /// # Errors
    /// Why the engine does not work here, with the remedy.
    pub async fn loaded(&self) -> Result<Cluster, String> {
        let mut standing = self.standing.clone();
        let settled = standing
            .wait_for(|standing| !matches!(standing, Standing::Starting(_)))
            .await;
        match settled.as_deref() {
            Ok(Standing::Working(cluster)) => Ok(cluster.clone()),
            Ok(Standing::Stopped(why)) => Err(why.clone()),
            Ok(Standing::Starting(_)) | Err(_) => Err("the engine has ended".into()),
        }
    }

    /// Copies of what the engine knows of some objects; it goes on with its work.
    ///
    /// # Errors
    /// When none is meant, or the engine does not work here.
    pub(crate) async fn about(&self, subject: Subject) -> Result<About, String> {
        let (answer, answered) = oneshot::channel();
        let ended = || "the engine has ended".to_owned();
        let request = Request::About(subject, answer);
        self.requests.send(request).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Stops all writing; returns when nothing is in flight any more.
    pub async fn stop(&self, why: Stop) {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request::Stop(why, answer)).await.is_ok() {
            let _ = answered.await;
        }
    }
}

/// Makes the engine: a handle, and the task to run. The task ends when every handle is dropped.
///
/// It starts from what the ledger in the cluster holds, without any hub.
pub fn start(
    client: kube::Client,
    options: EngineOptions,
) -> (Engine, impl Future<Output = ()> + Send + 'static) {
    start_at(client, options, Clock::system())
}

/// [`start`] with a clock of one's own: it judges when what people asked for is over.
pub fn start_at(
    client: kube::Client,
    options: EngineOptions,
    clock: Clock,
) -> (Engine, impl Future<Output = ()> + Send + 'static) {
    let (engine, inbox, publish) = channel();
    (engine, running::run(client, options, clock, inbox, publish))
}

/// The two ends: the handle, and what the task holds.
pub(crate) fn channel() -> (Engine, mpsc::Receiver<Request>, Publish) {
    let (requests, inbox) = mpsc::channel(1);
    let (held_tx, held) = watch::channel(Arc::new(Desired::none()));
    let (rows_tx, rows) = watch::channel(Arc::new(Rows::default()));
    let (standing_tx, standing) = watch::channel(Standing::Starting(String::new()));
    let (hindrance_tx, hindrance) = watch::channel(String::new());
    let engine = Engine {
        requests,
        held,
        rows,
        standing,
        hindrance,
    };
    let publish = Publish {
        held: held_tx,
        rows: rows_tx,
        standing: standing_tx,
        hindrance: hindrance_tx,
    };
    (engine, inbox, publish)
}

/// What the task tells everybody.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) held: watch::Sender<Arc<Desired>>,
    pub(crate) rows: watch::Sender<Arc<Rows>>,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) hindrance: watch::Sender<String>,
}
