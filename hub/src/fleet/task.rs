//! The fleet task: one loop that owns all state. What blocks or takes long (deciding, fetching, writing reports) runs
//! beside it; what must survive is awaited before anyone hears of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use muster_decide::render::Cache;
use muster_decide::{Alike, LastGood};
use muster_git::Git;
use muster_proto::{Approval, ClusterName, Timestamp};
use muster_render::Renderer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::contents::Contents;
use super::deciding::{Basis, Decided, Outcome};
use super::member::Member;
use super::rendering::Renders;
use super::serving::Serving;
use super::{Fleet, Request, SessionId, Threads};
use crate::clock::Clock;
use crate::store::{Store, StoreError, StoredCertificate};
use crate::view::{Board, ClusterView, View};

/// Under load the view is published this often; after a quiet moment at once.
const VIEW_EVERY: Duration = Duration::from_millis(100);
/// How often silence is looked for, reports are written, and what failed is tried again.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Task {
    pub(super) store: Store,
    pub(super) git: Git,
    clock: Clock,
    pub(super) threads: Threads,
    shutdown: CancellationToken,
    pub(super) started: Timestamp,
    requests: mpsc::UnboundedReceiver<Request>,
    /// For the sessions that begin.
    pub(super) sender: mpsc::UnboundedSender<Request>,
    pub(super) publish: watch::Sender<Arc<View>>,

    pub(super) members: BTreeMap<ClusterName, Member>,
    /// Clusters that only Git names.
    pub(super) declared: BTreeMap<ClusterName, ClusterView>,
    pub(super) certificates: HashMap<String, StoredCertificate>,
    /// What people have given their word for.
    pub(super) approvals: Arc<BTreeSet<Approval>>,
    pub(super) last_session: SessionId,
    pub(super) serving: Serving,

    pub(super) last_good: LastGood,
    pub(super) contents: Contents,
    pub(super) cache: Cache,
    pub(super) alike: Alike,
    pub(super) deciding: Option<(Basis, JoinHandle<Outcome>)>,
    pub(super) renders: Renders,
    /// Decide again when the present decision is made.
    pub(super) members_changed: bool,
    /// The commit of the newest decision, and whether it was complete.
    pub(super) decided_revision: Option<(String, bool)>,
    pub(super) adopted_revision: String,
    /// A decision that could not be stored.
    pub(super) unwritten: Option<Box<Decided>>,

    pub(super) board: Board,
    /// Clusters to show anew.
    pub(super) dirty: BTreeSet<ClusterName>,
    pub(super) all_dirty: bool,
    /// Something else to show anew.
    pub(super) view_dirty: bool,
    pub(super) viewed_at: Instant,
    /// Clusters whose report is not written yet.
    pub(super) unstored: BTreeSet<ClusterName>,
    pub(super) writing: Option<JoinHandle<Result<(), StoreError>>>,
}

/// Reads everything back and publishes what the store says.
pub(super) async fn start(
    store: Store,
    git: Git,
    renderer: Renderer,
    clock: Clock,
    threads: Threads,
    shutdown: CancellationToken,
) -> Result<(Fleet, Task), StoreError> {
    let now = clock();
    let (sender, requests) = mpsc::unbounded_channel();
    let (publish, view) = watch::channel(Arc::new(View::default()));
    let mut rows = store.clusters().await?;
    let mut serving = Serving::new();
    for row in &mut rows {
        row.api_versions = serving.share(std::mem::take(Arc::make_mut(&mut row.api_versions)));
    }
    let approvals = store.approvals().await?;
    let stored = store.decided().await?;
    let is_older = stored.are_older();
    let last_good = LastGood::from_rows(stored);
    if is_older {
        // What is decided later writes what changes, so the rest must be as this hub writes it.
        let all = last_good.changes_since(&LastGood::default());
        store.put_decided(&all, &[], None, &[]).await?;
        tracing::info!("the store was written anew by what clusters run alike");
    }
    let mut task = Task {
        git,
        clock,
        threads,
        shutdown,
        started: now,
        requests,
        sender: sender.clone(),
        publish,
        members: rows
            .into_iter()
            .map(|row| (row.name.clone(), Member::new(row)))
            .collect(),
        declared: BTreeMap::new(),
        certificates: HashMap::new(),
        approvals: Arc::new(approvals),
        last_session: 0,
        serving,
        cache: Cache::knowing(last_good.objects(), renderer.tools()),
        alike: Alike::default(),
        renders: Renders::new(renderer),
        last_good,
        contents: Contents::default(),
        deciding: None,
        members_changed: false,
        decided_revision: store.last_decided().await?,
        adopted_revision: store.last_adopted().await?,
        unwritten: None,
        board: Board::default(),
        dirty: BTreeSet::new(),
        all_dirty: true,
        view_dirty: true,
        viewed_at: Instant::now(),
        unstored: BTreeSet::new(),
        writing: None,
        store,
    };
    for certificate in task.store.certificates(now).await? {
        task.remember_certificate(certificate);
    }
    for (name, reported_at, rows) in task.store.reports().await? {
        if let Some(member) = task.members.get_mut(&name) {
            member.rows = Arc::new(rows);
            member.reported_at = reported_at;
        }
    }
    task.board.put_approved(task.approvals.clone());
    for (name, pause) in task.store.pauses().await? {
        if let Some(member) = task.members.get_mut(&name) {
            member.pauses.push(pause);
        }
    }
    task.publish_stored(now);
    let tracked = task.git.tracked.borrow().clone();
    task.see_source(&tracked);
    task.show(now);
    let fleet = Fleet {
        requests: sender,
        view,
    };
    Ok((fleet, task))
}

impl Task {
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut tracked = self.git.tracked.clone();
        tracked.mark_changed();
        let mut others = self.git.others.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.shutdown.clone();
        loop {
            self.decide_if_due(&tracked);
            let view_at = self.viewed_at + VIEW_EVERY;
            // What comes by the clock or rarely is first: requests may come without end.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = tick.tick() => self.tick().await,
                () = tokio::time::sleep_until(view_at), if self.is_dirty() => {
                    let now = self.now();
                    self.show(now);
                }
                Ok(()) = tracked.changed() => {
                    let newest = tracked.borrow_and_update().clone();
                    self.see_source(&newest);
                    self.members_changed = true;
                }
                Ok(()) = others.changed() => {
                    let newest = others.borrow_and_update().clone();
                    self.see_repositories(&newest);
                    self.members_changed = true;
                }
                (basis, decided) = made(&mut self.deciding) => self.decided(basis, decided).await,
                () = self.renders.turn() => {}
                written = finished(&mut self.writing) => self.reports_written(written),
                Some(request) = self.requests.recv() => self.answer(request).await,
            }
        }
        self.write_last_reports().await;
        self.store.close().await;
        Ok(())
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    async fn answer(&mut self, request: Request) {
        // Nobody waits for an answer any more: nothing to do about it.
        match request {
            Request::Connect(hello, answer) => {
                let granted = self.connect(*hello).await;
                answer.send(granted).ok();
            }
            Request::Wait(hello, idle, answer) => {
                let waiting = self.wait(*hello, idle);
                answer.send(waiting).ok();
            }
            Request::FromSession(cluster, id, what) => self.heard_from(cluster, id, what).await,
            Request::Redeem {
                secret,
                cluster_uid,
                certify,
                answer,
            } => {
                let redeemed = self.redeem(&secret, &cluster_uid, certify).await;
                answer.send(redeemed).ok();
            }
            Request::CreateJoinToken {
                by,
                cluster,
                labels,
                valid,
                answer,
            } => {
                let token = self.create_join_token(by, cluster, labels, valid).await;
                answer.send(token).ok();
            }
            Request::RemoveCluster {
                by,
                cluster,
                objects,
                answer,
            } => {
                let removed = self.remove_cluster(by, cluster, objects).await;
                answer.send(removed).ok();
            }
            Request::Approve { by, ids, answer } => {
                let approved = self.approve(by, &ids).await;
                answer.send(approved).ok();
            }
            Request::Pause {
                by,
                application,
                on,
                length,
                reason,
                answer,
            } => {
                let paused = self.pause(by, application, &on, length, reason).await;
                answer.send(paused).ok();
            }
            Request::Resume {
                by,
                application,
                on,
                answer,
            } => {
                let resumed = self.resume(by, application, &on).await;
                answer.send(resumed).ok();
            }
            Request::SyncNow { by, which, answer } => self.sync_now(by, which, answer).await,
            Request::LineTo(cluster, knows, answer) => {
                answer.send(self.line_to(&cluster, knows)).ok();
            }
            Request::Standing(answer) => {
                answer.send(self.standing()).ok();
            }
            Request::LastGood(answer) => {
                answer.send(self.last_good.clone()).ok();
            }
        }
    }

    async fn tick(&mut self) {
        let now = self.now();
        for (name, member) in &mut self.members {
            if member.is_deserted(now, self.started) && member.idlers.let_in() {
                tracing::info!(cluster = %name, "nobody runs the cluster any more: an agent that waits may");
                self.dirty.insert(name.clone());
            }
            if member.shown_as != Some(member.connection(now)) {
                self.dirty.insert(name.clone());
                self.unstored.insert(name.clone());
            }
        }
        self.certificates
            .retain(|_, certificate| certificate.not_after > now);
        self.write_reports();
        self.end_pauses(now).await;
        if let Some(decided) = self.unwritten.take() {
            self.take_decision(decided).await;
        }
    }
}

/// Waits for the decision that is being made, as [`finished`].
async fn made(
    deciding: &mut Option<(Basis, JoinHandle<Outcome>)>,
) -> (Basis, Result<Outcome, tokio::task::JoinError>) {
    let Some((basis, handle)) = deciding else {
        return std::future::pending().await;
    };
    let made = (basis.clone(), handle.await);
    *deciding = None;
    made
}

/// Waits for what runs beside the task; for ever when nothing does. Cancel-safe: the handle stays until it is done.
async fn finished<T>(beside: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    let Some(handle) = beside else {
        return std::future::pending().await;
    };
    let done = handle.await;
    *beside = None;
    done
}
