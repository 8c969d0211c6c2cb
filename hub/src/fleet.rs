//! The one owner of the fleet's state, and the handle everyone else holds.
//!
//! In: commits from [`muster_git`], sessions and their reports, people's commands. Out: one `watch<Arc<Desired>>` a
//! cluster and one `watch<Arc<View>>` for people. Every change that must survive is in the store before anyone
//! hears of it.
//!
//! Every caller waits for its answer (and a session's end comes once), so the queue to the task never holds more than
//! a few entries a session.

mod admission;
mod approving;
mod commands;
mod contents;
mod deciding;
mod idle;
mod member;
mod pauses;
mod planning;
mod rendering;
mod rows;
mod serving;
mod sessions;
mod showing;
mod stored;
mod task;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_decide::LastGood;
use muster_git::{Git, Which};
use muster_proto::wire::v1;
use muster_proto::{
    ApplicationName, ClusterName, Desired, DesiredApplication, Digest, Generation, Report,
    Timestamp,
};
use muster_render::Renderer;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::ca::Issued;
use crate::clock::Clock;
use crate::store::Store;
use crate::view::View;

pub use pauses::{Paused, Where};
pub(crate) use planning::{Decided, NotPlanned, Only, Origins, Standing};
pub(crate) use serving::Served;

/// The handle. Clones are cheap and all speak to the same task.
#[derive(Clone)]
pub struct Fleet {
    requests: mpsc::UnboundedSender<Request>,
    view: watch::Receiver<Arc<View>>,
}

/// Who dials and what it holds. Cluster and certificate come from the handshake, the rest from its Hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who the certificate says it is.
    pub cluster: ClusterName,
    /// The certificate it showed.
    pub certificate: Certificate,
    /// Semantic version of the agent.
    pub agent_version: String,
    /// Of its API server.
    pub kubernetes_version: String,
    /// UID of its namespace kube-system.
    pub cluster_uid: String,
    /// Random per process: tells a reconnect from a second agent.
    pub instance: String,
    /// Of the accepted desired state; 0 when none was ever accepted.
    pub generation: Generation,
    /// Of the accepted desired state.
    pub desired_digest: Option<Digest>,
    /// The application digests it holds whole.
    pub applications: Vec<(ApplicationName, Digest)>,
    /// What its version knows.
    pub knows: Knows,
    /// Why it could not keep what it was sent last; empty when nothing is in its way.
    pub hindrance: String,
    /// Why the renewed certificate that it uses is not kept; empty when nothing is in its way.
    pub unkept: String,
}

/// What can be asked of an agent of some version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Knows {
    /// What an apply would change.
    pub comparisons: bool,
    /// Whether its API server takes what is not merged.
    pub dry_runs: bool,
    /// What its cluster serves.
    pub api_versions: bool,
}

/// Why an agent does not run its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// For people.
    pub why: String,
    /// It would not run it either if nobody else did.
    pub for_good: bool,
}

/// The session of an agent that does not run its cluster.
pub struct Waiting {
    /// Dropping it ends the session.
    pub session: Session,
    /// Resolves when the session has to end.
    pub closed: oneshot::Receiver<Closed>,
}

/// What the hub keeps of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Its end.
    pub not_after: Timestamp,
}

impl From<&Issued> for Certificate {
    fn from(issued: &Issued) -> Self {
        Self {
            serial: issued.serial.clone(),
            not_after: issued.ends,
        }
    }
}

/// A session that may go on.
pub struct Grant {
    /// What the session says to the fleet; dropping it ends the session.
    pub session: Session,
    /// The newest desired state. Generation 0: nothing is decided, send nothing.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// Of what Hello named, the content that the hub still knows.
    pub known: Vec<Arc<DesiredApplication>>,
    /// API versions that charts ask about; the agent is asked whether its cluster serves them.
    pub api_versions: watch::Receiver<Arc<BTreeSet<String>>>,
    /// What people ask of the agent.
    pub asked: mpsc::Receiver<Asked>,
    /// Resolves when the session has to end.
    pub closed: oneshot::Receiver<Closed>,
}

/// A question of a person on its way to an agent.
#[derive(Debug)]
pub struct Asked {
    /// The question; its id is the session's to give.
    pub ask: v1::Ask,
    /// Dropped without an answer when the session ends.
    pub answer: oneshot::Sender<v1::Answer>,
}

/// Why an agent gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// It has no session.
    Away,
    /// It is of a version that does not know such questions.
    TooOld,
    /// It has many questions to answer already.
    Busy,
    /// Its session ended before it had answered.
    Gone,
    /// It took longer than it may.
    Late,
}

/// Why the hub ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// A newer agent of the same cluster took over.
    #[error("a newer session of this cluster took over")]
    Superseded,
    /// The same agent dialled again.
    #[error("this agent has opened a newer session")]
    Reconnected,
    /// The agent may run the cluster: no other one does.
    #[error("no other agent runs this cluster any more")]
    Free,
    /// A person removed the cluster and keeps its objects.
    #[error("the cluster was removed from the hub; its objects stay as they are")]
    Removed,
    /// A newer join token was redeemed for this name, so this certificate is no longer good.
    #[error("the certificate was revoked: join again with `muster cluster join`")]
    Revoked,
}

/// Why a session can't begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A person removed the cluster.
    #[error("the cluster was removed from the hub; its objects stay as they are")]
    Removed,
    /// The certificate is on the list.
    #[error("the certificate was revoked: join again with `muster cluster join`")]
    Revoked,
    /// Another Kubernetes cluster showed the credentials of this one.
    #[error(
        "two agents claim {cluster}: it was enrolled for the cluster with UID {enrolled}, and this agent runs in {found}; give this one a name of its own with `muster cluster join NAME`, or, if the cluster was rebuilt, join it again with `muster cluster join {cluster}`"
    )]
    OtherCluster {
        /// The name both claim.
        cluster: ClusterName,
        /// UID in the store.
        enrolled: String,
        /// UID in the Hello.
        found: String,
    },
    /// The agent may run the cluster: no other one does.
    #[error("no other agent runs this cluster")]
    Free,
    /// The hub can't write what it must remember, or is stopping.
    #[error("the hub can't take a session now: {0}")]
    Unavailable(String),
}

/// Why a join token lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No such token.
    #[error("this hub made no such join token: make one with `muster cluster join NAME`")]
    Unknown,
    /// It was used.
    #[error(
        "this join token was used already: a token lets one cluster in, once; make another with `muster cluster join {0}`"
    )]
    Used(ClusterName),
    /// Its time is over.
    #[error("this join token has expired: make another with `muster cluster join {0}`")]
    Expired(ClusterName),
    /// The hub can't write what it must remember, or is stopping.
    #[error("the hub can't take a cluster in now: {0}")]
    Unavailable(String),
}

/// Why a person's command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandFailed {
    /// It names something that is not there.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// The hub can't do it now.
    #[error("{0}")]
    Unavailable(String),
}

/// What happens to the objects of a cluster that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// They stay; nobody looks after them any more.
    Keep,
    /// The agent deletes them first.
    Delete,
}

/// A join token's secret and end. The hub keeps only the secret's hash.
pub struct NewToken {
    /// 256 random bits as 64 hex digits.
    pub secret: String,
    /// When it stops being good.
    pub expires: Timestamp,
}

/// What the agent said after a `Done`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What it holds now.
    pub generation: Generation,
    /// What it holds now.
    pub desired_digest: Option<Digest>,
    /// Why it refused what was announced.
    pub refused: Option<String>,
}

/// Names one session of this hub process; higher is newer.
pub(crate) type SessionId = u64;

/// One live session's way to the fleet. Dropping it ends the session.
pub struct Session {
    cluster: ClusterName,
    id: SessionId,
    requests: mpsc::UnboundedSender<Request>,
}

type Answer<T> = oneshot::Sender<T>;

/// Makes a certificate for a name.
type Certify = Box<dyn FnOnce(&ClusterName) -> Issued + Send>;

/// What comes to the task.
pub(crate) enum Request {
    Connect(Box<Hello>, Answer<Result<Grant, Refused>>),
    Wait(Box<Hello>, Idle, Answer<Result<Waiting, Refused>>),
    FromSession(ClusterName, SessionId, FromSession),
    Redeem {
        secret: String,
        cluster_uid: String,
        certify: Certify,
        answer: Answer<Result<(ClusterName, Issued), TokenRefused>>,
    },
    CreateJoinToken {
        by: String,
        cluster: ClusterName,
        labels: BTreeMap<String, String>,
        valid: Duration,
        answer: Answer<Result<NewToken, CommandFailed>>,
    },
    RemoveCluster {
        by: String,
        cluster: ClusterName,
        objects: Objects,
        answer: Answer<Result<String, CommandFailed>>,
    },
    Approve {
        by: String,
        ids: Vec<String>,
        answer: Answer<Result<Vec<String>, CommandFailed>>,
    },
    Pause {
        by: String,
        application: ApplicationName,
        on: Where,
        length: Duration,
        reason: String,
        answer: Answer<Result<Paused, CommandFailed>>,
    },
    Resume {
        by: String,
        application: ApplicationName,
        on: Where,
        answer: Answer<Result<Vec<ClusterName>, CommandFailed>>,
    },
    SyncNow {
        by: String,
        which: Which,
        answer: Answer<Result<String, CommandFailed>>,
    },
    LineTo(
        ClusterName,
        fn(&Knows) -> bool,
        Answer<Result<mpsc::Sender<Asked>, NotAsked>>,
    ),
    Standing(Answer<Option<Standing>>),
    LastGood(Answer<LastGood>),
}

pub(crate) enum FromSession {
    Accepted(Accepted, Answer<()>),
    Report(Report, Answer<bool>),
    Serves(Served, Answer<()>),
    Renewed(Certificate, Answer<Result<(), CommandFailed>>),
    Alive(Duration),
    Ended,
}

/// Where deciding runs, which takes as long as a commit is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Beside the fleet task, which goes on meanwhile.
    Many,
    /// On the one thread of its runtime, so that things come in the same order each time.
    One,
}

/// Reads the store and publishes what it says; the future goes on from there until `shutdown`, and writes out what is
/// left then. Spawn it.
///
/// # Errors
/// When the store can't be read.
pub async fn start(
    store: Store,
    git: Git,
    renderer: Renderer,
    clock: Clock,
    threads: Threads,
    shutdown: CancellationToken,
) -> anyhow::Result<(
    Fleet,
    impl Future<Output = anyhow::Result<()>> + Send + 'static,
)> {
    let (fleet, task) = task::start(store, git, renderer, clock, threads, shutdown).await?;
    Ok((fleet, task.run()))
}

impl Fleet {
    /// Begins a session: the newest of a cluster wins, an older one is closed.
    ///
    /// # Errors
    /// When the cluster may not have one; each reason says what to do.
    pub async fn connect(&self, hello: Hello) -> Result<Grant, Refused> {
        let request = |answer| Request::Connect(Box::new(hello), answer);
        self.ask(request)
            .await
            .unwrap_or_else(|| Err(Refused::Unavailable(STOPPING.into())))
    }

    /// Begins the session of an agent that does not run its cluster: people see that it is there for as long as it
    /// lasts.
    ///
    /// # Errors
    /// When the cluster may not have one, and [`Refused::Free`] when the agent may run the cluster instead.
    pub async fn wait(&self, hello: Hello, idle: Idle) -> Result<Waiting, Refused> {
        let request = |answer| Request::Wait(Box::new(hello), idle, answer);
        self.ask(request)
            .await
            .unwrap_or_else(|| Err(Refused::Unavailable(STOPPING.into())))
    }

    /// Takes a join token's secret against the name it was made for and the certificate that `certify` makes for that
    /// name: from then on the cluster's only good one. Of two at once with one token, one wins; of two tokens of one
    /// cluster, the one that is taken last.
    ///
    /// # Errors
    /// When the token is unknown, used or expired, or can't be marked as used.
    pub async fn redeem_token(
        &self,
        secret: String,
        cluster_uid: String,
        certify: impl FnOnce(&ClusterName) -> Issued + Send + 'static,
    ) -> Result<(ClusterName, Issued), TokenRefused> {
        let request = |answer| Request::Redeem {
            secret,
            cluster_uid,
            certify: Box::new(certify),
            answer,
        };
        self.ask(request)
            .await
            .unwrap_or_else(|| Err(TokenRefused::Unavailable(STOPPING.into())))
    }

    /// Invites a cluster. `by` is who asked, for the audit log (as below).
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn create_join_token(
        &self,
        by: &str,
        cluster: ClusterName,
        labels: BTreeMap<String, String>,
        valid: Duration,
    ) -> Result<NewToken, CommandFailed> {
        let by = by.to_owned();
        self.command(|answer| Request::CreateJoinToken {
            by,
            cluster,
            labels,
            valid,
            answer,
        })
        .await
    }

    /// Lets a cluster go. The answer is a sentence for the person.
    ///
    /// # Errors
    /// When there is no such cluster, or it can't be written.
    pub async fn remove_cluster(
        &self,
        by: &str,
        cluster: ClusterName,
        objects: Objects,
    ) -> Result<String, CommandFailed> {
        let by = by.to_owned();
        self.command(|answer| Request::RemoveCluster {
            by,
            cluster,
            objects,
            answer,
        })
        .await
    }

    /// A person's word that what waits may go on, by the ids that the view gives: of all, or of none when one is not
    /// there. The answer says what was approved, a sentence each.
    ///
    /// # Errors
    /// When one of them does not wait (any more), or it can't be written.
    pub async fn approve(&self, by: &str, ids: Vec<String>) -> Result<Vec<String>, CommandFailed> {
        let by = by.to_owned();
        self.command(|answer| Request::Approve { by, ids, answer })
            .await
    }

    /// Stops all writes to an application's objects on the clusters where it is now, for so long. A pause that stands
    /// there already is replaced.
    ///
    /// # Errors
    /// When the application is on none of them, or it can't be written.
    pub async fn pause(
        &self,
        by: &str,
        application: ApplicationName,
        on: Where,
        length: Duration,
        reason: String,
    ) -> Result<Paused, CommandFailed> {
        let by = by.to_owned();
        self.command(|answer| Request::Pause {
            by,
            application,
            on,
            length,
            reason,
            answer,
        })
        .await
    }

    /// Ends pauses before their time; answers with where.
    ///
    /// # Errors
    /// When nothing is paused there, or it can't be written.
    pub async fn resume(
        &self,
        by: &str,
        application: ApplicationName,
        on: Where,
    ) -> Result<Vec<ClusterName>, CommandFailed> {
        let by = by.to_owned();
        self.command(|answer| Request::Resume {
            by,
            application,
            on,
            answer,
        })
        .await
    }

    /// Fetches every repository at once. Answers with the newest commit of the fleet repository when it is here.
    ///
    /// # Errors
    /// Why the fetch of the fleet repository failed; of the others, the view says it.
    pub async fn sync_now(&self, by: &str) -> Result<String, CommandFailed> {
        self.fetch(by, Which::All).await
    }

    /// As [`Fleet::sync_now`], of some repositories.
    pub(crate) async fn fetch(&self, by: &str, which: Which) -> Result<String, CommandFailed> {
        let by = by.to_owned();
        self.command(|answer| Request::SyncNow { by, which, answer })
            .await
    }

    /// Asks the agent of a cluster, if its version `knows` such questions.
    ///
    /// # Errors
    /// When no agent is there, or none that answers in time.
    pub async fn ask_agent(
        &self,
        cluster: ClusterName,
        knows: fn(&Knows) -> bool,
        ask: v1::Ask,
        within: Duration,
    ) -> Result<v1::Answer, NotAsked> {
        let request = |answer| Request::LineTo(cluster, knows, answer);
        let line = self.ask(request).await.unwrap_or(Err(NotAsked::Away))?;
        let (answer, answered) = oneshot::channel();
        line.try_send(Asked { ask, answer })
            .map_err(|error| match error {
                TrySendError::Full(_) => NotAsked::Busy,
                TrySendError::Closed(_) => NotAsked::Gone,
            })?;
        match tokio::time::timeout(within, answered).await {
            Ok(answer) => answer.map_err(|_| NotAsked::Gone),
            Err(_) => Err(NotAsked::Late),
        }
    }

    /// What would be decided from now; `None` before a commit was fetched, and when the hub is stopping.
    pub(crate) async fn standing(&self) -> Option<Standing> {
        self.ask(Request::Standing).await.flatten()
    }

    /// What every cluster gets; `None` when the hub is stopping.
    pub(crate) async fn last_good(&self) -> Option<LastGood> {
        self.ask(Request::LastGood).await
    }

    /// What people see, always the newest.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    async fn command<T>(
        &self,
        request: impl FnOnce(Answer<Result<T, CommandFailed>>) -> Request,
    ) -> Result<T, CommandFailed> {
        self.ask(request)
            .await
            .unwrap_or_else(|| Err(CommandFailed::Unavailable(STOPPING.into())))
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).ok()?;
        answered.await.ok()
    }
}

/// For whoever can't be served any more.
pub(crate) const STOPPING: &str = "the hub is stopping";

impl Session {
    /// Whose session it is.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Says what the agent holds after a `Done`. A refusal for a higher generation makes the hub stamp a new one.
    pub async fn accepted(&self, accepted: Accepted) {
        let (answer, answered) = oneshot::channel();
        self.send(FromSession::Accepted(accepted, answer));
        // No answer: the task ended, and `closed` with it.
        answered.await.ok();
    }

    /// Takes a report in. False: the rows disagree with the agent's, ask for a full report.
    pub async fn report(&self, report: Report) -> bool {
        let (answer, answered) = oneshot::channel();
        self.send(FromSession::Report(report, answer));
        answered.await.unwrap_or(true)
    }

    /// Says whether the cluster serves what was asked about; what it does not speak of stays as it said before.
    pub(crate) async fn serves(&self, served: Served) {
        let (answer, answered) = oneshot::channel();
        self.send(FromSession::Serves(served, answer));
        answered.await.ok();
    }

    /// Remembers a newer certificate of the agent; to be called before it is handed out.
    ///
    /// # Errors
    /// When it can't be written, or the session is over, such as by a newer join token: then don't hand it out.
    pub async fn renewed(&self, certificate: Certificate) -> Result<(), CommandFailed> {
        let (answer, answered) = oneshot::channel();
        self.send(FromSession::Renewed(certificate, answer));
        let stopping = |_| Err(CommandFailed::Unavailable(STOPPING.into()));
        answered.await.unwrap_or_else(stopping)
    }

    /// The peer gave a sign of life, so long ago. 45 s after the last one (messages count) the cluster is shown as
    /// unknown.
    pub fn alive(&self, ago: Duration) {
        self.send(FromSession::Alive(ago));
    }

    fn send(&self, what: FromSession) {
        let request = Request::FromSession(self.cluster.clone(), self.id, what);
        // Nobody listens: the hub is stopping.
        self.requests.send(request).ok();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.send(FromSession::Ended);
    }
}

#[cfg(test)]
mod tests;
