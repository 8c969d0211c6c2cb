//! The fleet task: one loop that owns all state. What blocks or takes long (deciding, fetching, writing reports) runs
//! beside it; what must survive is awaited before anyone hears of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use muster_decide::render::Cache;
use muster_decide::{LastGood, Members, Refused};
use muster_proto::{Approval, ClusterName, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::deciding::{self, Contents, Decided, Input};
use super::member::Member;
use super::{CommandFailed, Fleet, Request, STOPPING, SessionId};
use crate::clock::Clock;
use crate::git::{Git, Tracked};
use crate::store::{Audit, Cluster, Store, StoreError, StoredCertificate};
use crate::view::{Board, ClusterView, Connection, Problem, Source, View};

/// Under load the view is published this often; after a quiet moment at once.
const VIEW_EVERY: Duration = Duration::from_millis(100);
/// How often silence is looked for, reports are written, and what failed is tried again.
const TICK: Duration = Duration::from_secs(1);

/// What deciding gives back: the cache it was lent, and the outcome.
type Deciding = (Cache, Result<Box<Decided>, Refused>);

pub(super) struct Task {
    pub(super) store: Store,
    git: Git,
    clock: Clock,
    shutdown: CancellationToken,
    requests: mpsc::UnboundedReceiver<Request>,
    /// For the sessions that begin.
    pub(super) sender: mpsc::UnboundedSender<Request>,
    publish: watch::Sender<Arc<View>>,

    pub(super) members: BTreeMap<ClusterName, Member>,
    /// Clusters that only Git names.
    pub(super) declared: BTreeMap<ClusterName, ClusterView>,
    pub(super) certificates: HashMap<String, StoredCertificate>,
    pub(super) approvals: Arc<Vec<(Option<ClusterName>, Approval)>>,
    pub(super) last_session: SessionId,

    pub(super) last_good: LastGood,
    pub(super) contents: Contents,
    cache: Cache,
    deciding: Option<JoinHandle<Deciding>>,
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
    viewed_at: Instant,
    /// How each cluster stood at the last look.
    connections: HashMap<ClusterName, Connection>,
    /// Clusters whose report is not written yet.
    pub(super) unstored: BTreeSet<ClusterName>,
    writing: Option<JoinHandle<Result<(), StoreError>>>,
}

/// Reads everything back and publishes what the store says.
pub(super) async fn start(
    store: Store,
    git: Git,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(Fleet, Task), StoreError> {
    let now = clock();
    let (sender, requests) = mpsc::unbounded_channel();
    let (publish, view) = watch::channel(Arc::new(View::default()));
    let rows = store.clusters().await?;
    let approvals = store.approvals().await?;
    let last_good = LastGood::from_rows(store.decided().await?);
    let mut task = Task {
        git,
        clock,
        shutdown,
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
        last_good,
        contents: Contents::default(),
        cache: Cache::default(),
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
        connections: HashMap::new(),
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
    task.publish_stored(now);
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
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.shutdown.clone();
        loop {
            self.decide_if_due(&tracked);
            let view_at = self.viewed_at + VIEW_EVERY;
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(request) = self.requests.recv() => self.answer(request).await,
                Ok(()) = tracked.changed() => {
                    let newest = tracked.borrow_and_update().clone();
                    self.see_source(&newest);
                    self.members_changed = true;
                }
                decided = finished(&mut self.deciding) => self.decided(decided).await,
                written = finished(&mut self.writing) => self.reports_written(written),
                _ = tick.tick() => self.tick().await,
                () = tokio::time::sleep_until(view_at), if self.is_dirty() => {
                    let now = self.now();
                    self.show(now);
                }
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
            Request::FromSession(cluster, id, what) => self.heard_from(cluster, id, what).await,
            Request::Redeem {
                secret,
                cluster_uid,
                answer,
            } => {
                let redeemed = self.redeem(&secret, &cluster_uid).await;
                answer.send(redeemed).ok();
            }
            Request::CertificateIssued(cluster, certificate, answer) => {
                let issued = self.certificate_issued(cluster, certificate).await;
                answer.send(issued).ok();
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
            Request::ApproveRemovals {
                by,
                cluster,
                answer,
            } => {
                let approved = self.approve_removals(by, cluster).await;
                answer.send(approved).ok();
            }
            Request::SyncNow { by, answer } => self.sync_now(by, answer).await,
        }
    }

    /// The fetch is waited for beside the task.
    async fn sync_now(
        &mut self,
        by: String,
        answer: tokio::sync::oneshot::Sender<Result<String, CommandFailed>>,
    ) {
        let audit = Audit {
            at: self.now(),
            who: by,
            action: "source.sync",
            what: String::new(),
        };
        // A webhook is no person, and comes with every push.
        if audit.who != "webhook"
            && let Err(error) = self.store.audit(&audit).await
        {
            answer.send(Err(error.into())).ok();
            return;
        }
        let git = self.git.clone();
        tokio::spawn(async move {
            let outcome = match git.fetch_now().await.as_deref() {
                None => Err(CommandFailed::Unavailable(STOPPING.into())),
                Some(Tracked {
                    error: Some(error), ..
                }) => Err(CommandFailed::Unavailable(error.clone())),
                Some(tracked) => {
                    let snapshot = tracked.snapshot.as_ref();
                    Ok(snapshot
                        .map(|read| read.revision.clone())
                        .unwrap_or_default())
                }
            };
            answer.send(outcome).ok();
        });
    }

    fn decide_if_due(&mut self, tracked: &watch::Receiver<Arc<Tracked>>) {
        if !self.members_changed || self.deciding.is_some() {
            return;
        }
        let tracked = tracked.borrow().clone();
        let Some(snapshot) = tracked.snapshot.clone() else {
            return;
        };
        self.members_changed = false;
        let input = Input {
            snapshot,
            subject: tracked.subject.clone(),
            members: self.members_in(),
            last_good: self.last_good.clone(),
            key: self.store.hub().digest_key.clone(),
            approvals: self.approvals.clone(),
            cache: std::mem::take(&mut self.cache),
        };
        self.deciding = Some(tokio::task::spawn_blocking(move || deciding::run(input)));
    }

    /// The clusters that take part in decisions, with the labels of their join tokens.
    pub(super) fn members_in(&self) -> Members {
        let members = self.members.iter().filter(|(_, member)| member.is_in());
        members
            .map(|(name, member)| (name.clone(), member.row.labels.clone()))
            .collect()
    }

    async fn decided(&mut self, decided: Result<Deciding, tokio::task::JoinError>) {
        match decided {
            Ok((cache, outcome)) => {
                self.cache = cache;
                self.unwritten = None;
                match outcome {
                    Ok(decided) => self.take_decision(decided).await,
                    Err(refused) => self.refuse_commit(&refused),
                }
            }
            Err(error) => {
                tracing::error!(%error, "deciding ended in a panic; what was decided before stays");
                let now = self.now();
                let problem = hub_problem("deciding what every cluster should run failed inside the hub; what was decided before stays (its log says more)".into());
                self.board.put_problems("commit", [problem], now);
                self.view_dirty = true;
            }
        }
    }

    /// Stores a cluster's row, with a new generation when what it should hold is another than was stamped; then
    /// publishes.
    pub(super) async fn restamp(
        &mut self,
        row: Cluster,
        audit: Option<&Audit>,
    ) -> Result<(), StoreError> {
        let name = row.name.clone();
        let members_changed = !self.members.contains_key(&name);
        let member = self
            .members
            .entry(name.clone())
            .or_insert_with(|| Member::new(row.clone()));
        let before = std::mem::replace(&mut member.row, row);
        let target = member.target();
        let stamped = target.as_ref().and_then(|target| member.stamp(target));
        let row = stamped.unwrap_or_else(|| member.row.clone());
        // Nobody may see it before it is stored.
        member.row = before;
        if let Err(error) = self.store.put_cluster(&row, false, audit).await {
            if members_changed {
                self.members.remove(&name);
            }
            return Err(error);
        }
        self.members_changed |= members_changed;
        let member = self.members.get_mut(&name).expect("it was just there");
        member.row = row;
        if let Some(target) = target {
            member.publish(&target);
        }
        self.dirty.insert(name);
        Ok(())
    }

    /// Takes a row that is stored already.
    pub(super) fn put_row(&mut self, row: Cluster) {
        let name = row.name.clone();
        match self.members.get_mut(&name) {
            Some(member) => member.row = row,
            None => {
                self.members.insert(name.clone(), Member::new(row));
            }
        }
        self.dirty.insert(name);
    }

    pub(super) fn remember_certificate(&mut self, certificate: StoredCertificate) {
        if let Some(member) = self.members.get_mut(&certificate.cluster)
            && !certificate.revoked
        {
            member.certificate_expires = member.certificate_expires.max(certificate.not_after);
            self.dirty.insert(certificate.cluster.clone());
        }
        self.certificates
            .insert(certificate.serial.clone(), certificate);
    }

    /// Marks every certificate of a cluster as revoked, as the store did.
    pub(super) fn revoke(&mut self, name: &ClusterName) {
        let certificates = self.certificates.values_mut();
        for certificate in certificates.filter(|certificate| certificate.cluster == *name) {
            certificate.revoked = true;
        }
        if let Some(member) = self.members.get_mut(name) {
            member.certificate_expires = Timestamp(0);
        }
        self.dirty.insert(name.clone());
    }

    async fn tick(&mut self) {
        let now = self.now();
        for (name, member) in &self.members {
            let connection = member.connection(now);
            if self.connections.get(name) != Some(&connection) {
                self.connections.insert(name.clone(), connection);
                self.dirty.insert(name.clone());
                self.unstored.insert(name.clone());
            }
        }
        self.certificates
            .retain(|_, certificate| certificate.not_after > now);
        self.write_reports();
        if let Some(decided) = self.unwritten.take() {
            self.take_decision(decided).await;
        }
    }

    fn write_reports(&mut self) {
        if self.writing.is_some() || self.unstored.is_empty() {
            return;
        }
        let reports: Vec<_> = std::mem::take(&mut self.unstored)
            .iter()
            .filter_map(|name| self.members.get(name))
            .map(Member::report)
            .collect();
        let store = self.store.clone();
        self.writing = Some(tokio::spawn(
            async move { store.put_reports(&reports).await },
        ));
    }

    fn reports_written(&mut self, written: Result<Result<(), StoreError>, tokio::task::JoinError>) {
        match written {
            Ok(Ok(())) => self.store_works(),
            // Agents say it again; until then the older rows are what a restart shows.
            Ok(Err(error)) => self.store_failed(&error),
            Err(error) => tracing::error!(%error, "writing reports ended in a panic"),
        }
    }

    async fn write_last_reports(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.await.ok();
        }
        self.write_reports();
        if let Some(writing) = self.writing.take()
            && let Ok(Err(error)) = writing.await
        {
            tracing::warn!(%error, "the last reports could not be written");
        }
    }

    pub(super) fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(%error, "the store can't be written");
        let now = self.now();
        let problem = hub_problem(format!("{error}; nothing new is published until it can be"));
        self.board.put_problems("store", [problem], now);
        self.view_dirty = true;
    }

    pub(super) fn store_works(&mut self) {
        if self.board.has_problems("store") {
            let now = self.now();
            self.board.put_problems("store", [], now);
            self.view_dirty = true;
        }
    }

    fn see_source(&mut self, tracked: &Tracked) {
        let revision = tracked.snapshot.as_ref().map(|read| read.revision.clone());
        self.board.put_source(Source {
            url: tracked.url.clone(),
            branch: tracked.branch.clone(),
            revision: revision.unwrap_or_default(),
            adopted_revision: self.adopted_revision.clone(),
            fetched_at: tracked.fetched_at,
            error: tracked.error.clone().unwrap_or_default(),
            subject: tracked.subject.clone(),
        });
        self.view_dirty = true;
    }

    fn is_dirty(&self) -> bool {
        self.view_dirty || self.all_dirty || !self.dirty.is_empty()
    }

    /// Publishes the view of now.
    fn show(&mut self, now: Timestamp) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.all_dirty) {
            dirty.extend(self.members.keys().cloned());
            dirty.extend(self.declared.keys().cloned());
            dirty.extend(self.board.names().cloned());
        }
        for name in &dirty {
            let (view, problems) = match self.members.get(name) {
                Some(member) => (member.view(now), member.problems(now)),
                None => (self.declared.get(name).cloned(), Vec::new()),
            };
            self.board.put_cluster(name, view);
            self.board
                .put_problems(&format!("cluster {name}"), problems, now);
        }
        let source = Source {
            adopted_revision: self.adopted_revision.clone(),
            ..self.board.source().clone()
        };
        self.board.put_source(source);
        self.view_dirty = false;
        self.viewed_at = Instant::now();
        self.publish.send_modify(|view| {
            *view = Arc::new(self.board.view(view));
        });
    }
}

fn hub_problem(message: String) -> Problem {
    Problem {
        application: None,
        cluster: None,
        location: String::new(),
        message,
        since: Timestamp(0),
    }
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
