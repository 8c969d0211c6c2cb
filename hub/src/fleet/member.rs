//! One cluster in the fleet task's memory, and what follows from it: what it should be sent, how it stands, how it is
//! shown. Pure; the task writes and publishes.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_decide::{Labels, Placements};
use muster_proto::{
    ApplicationName, ClusterName, Desired, HealthStatus, Pause, Removals, Rows, SyncStatus,
    Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::idle::Idlers;
use super::{Asked, Closed, Knows, SessionId};
use crate::store::{Cluster, ClusterState, Stamp, StoredReport};
use crate::view::{ClusterView, Connection, Problem};

/// A cluster is shown as unknown so long after its last sign of life.
pub(super) const SILENT_AFTER_MS: i64 = 45_000;
/// A removed cluster is shown for so long.
const REMOVED_SHOWN_MS: i64 = 24 * 3_600_000;

const STORE_WAS_OLDER: &str = "the hub's store is older than what this cluster's agent holds (was it put back from a backup?): removals wait for a person's approval";

pub(super) struct Member {
    /// As it is stored.
    pub(super) row: Cluster,
    /// Of its token, overlaid with those of Git.
    pub(super) labels: Arc<Labels>,
    /// What was decided, for people.
    pub(super) placements: Arc<Placements>,
    /// What was decided, before it is stamped.
    pub(super) decided: Option<Arc<Desired>>,
    /// What people paused here, by application; also what is over and was not taken out yet.
    pub(super) pauses: Vec<Pause>,
    /// What is published.
    pub(super) desired: watch::Sender<Arc<Desired>>,
    pub(super) live: Option<Live>,
    /// Agents with its credentials that do not run it.
    pub(super) idlers: Idlers,
    pub(super) rows: Arc<Rows>,
    pub(super) reported_at: Timestamp,
    /// Why the agent refused what it was sent last.
    pub(super) refused: Option<String>,
    /// Why it could not keep what it was sent last; empty when nothing is in its way.
    pub(super) hindrance: String,
    /// Why the renewed certificate that it uses is not kept; empty when nothing is in its way.
    pub(super) unkept: String,
    /// Since when it is connected, in this life of the hub.
    pub(super) connected_since: Option<Timestamp>,
    /// How its connection was shown last.
    pub(super) shown_as: Option<Connection>,
    /// End of its newest good certificate.
    pub(super) certificate_expires: Timestamp,
}

/// The one session that counts.
pub(super) struct Live {
    pub(super) id: SessionId,
    pub(super) instance: String,
    pub(super) close: oneshot::Sender<Closed>,
    pub(super) knows: Knows,
    /// For what people ask.
    pub(super) line: mpsc::Sender<Asked>,
}

impl Member {
    pub(super) fn new(row: Cluster) -> Self {
        Self {
            labels: row.labels.clone(),
            row,
            placements: Arc::default(),
            decided: None,
            pauses: Vec::new(),
            desired: watch::Sender::new(Arc::new(Desired::none())),
            live: None,
            idlers: Idlers::default(),
            rows: Arc::default(),
            reported_at: Timestamp(0),
            refused: None,
            hindrance: String::new(),
            unkept: String::new(),
            connected_since: None,
            shown_as: None,
            certificate_expires: Timestamp(0),
        }
    }

    /// It takes part in decisions.
    pub(super) fn is_in(&self) -> bool {
        matches!(self.row.state, ClusterState::Invited | ClusterState::Member)
    }

    /// An application should run here, or something of it is still there.
    pub(super) fn has(&self, application: &ApplicationName) -> bool {
        self.placements.of(application).is_some()
            || self.rows.applications().contains_key(application)
    }

    /// What it should hold, before it is stamped; `None` when nothing was decided.
    pub(super) fn target(&self) -> Option<Arc<Desired>> {
        match self.row.state {
            ClusterState::Removed => None,
            ClusterState::Removing => {
                let nothing = Desired::new(0, Vec::new(), Removals::Released, Vec::new());
                Some(Arc::new(nothing))
            }
            ClusterState::Invited | ClusterState::Member => {
                let decided = self.decided.clone()?;
                if !self.row.store_was_older && self.pauses.is_empty() {
                    return Some(decided);
                }
                let removals = match self.row.store_was_older {
                    true => Removals::Held(STORE_WAS_OLDER.into()),
                    false => decided.removals.clone(),
                };
                let target = Desired::new(
                    0,
                    decided.applications.clone(),
                    removals,
                    decided.approvals.clone(),
                );
                Some(Arc::new(target.with_pauses(self.pauses.clone())))
            }
        }
    }

    /// The stamp to store when the target is not what was stamped last; `None` when it is.
    pub(super) fn stamp(&self, target: &Desired) -> Option<Stamp> {
        (self.row.desired_digest != Some(target.digest())).then(|| Stamp {
            cluster: self.row.name.clone(),
            generation: self.row.generation + 1,
            digest: target.digest(),
            removals: target.removals.clone(),
        })
    }

    /// Publishes what the stored row says; its digest must be the target's.
    pub(super) fn publish(&self, target: &Desired) {
        debug_assert_eq!(self.row.desired_digest, Some(target.digest()));
        let generation = self.row.generation;
        self.desired.send_if_modified(|published| {
            let news = published.generation != generation;
            if news {
                *published = Arc::new(target.stamped(generation));
            }
            news
        });
    }

    /// Ends its session, if one stands.
    pub(super) fn close(&mut self, why: Closed) {
        if let Some(live) = self.live.take() {
            // It may have ended by itself.
            live.close.send(why).ok();
        }
    }

    /// Ends its session and those of its idle agents.
    pub(super) fn close_all(&mut self, why: Closed) {
        self.close(why);
        self.idlers.close(why);
    }

    /// Nobody runs it, and not just for the moment of a reconnect: also not to a hub that `started` just now.
    pub(super) fn is_deserted(&self, now: Timestamp, started: Timestamp) -> bool {
        self.live.is_none() && self.is_silent(now) && now.0 - started.0 >= SILENT_AFTER_MS
    }

    /// A sign of life, given `at`.
    pub(super) fn heard(&mut self, at: Timestamp, now: Timestamp) {
        let was = self.connection(now);
        self.row.last_seen = self.row.last_seen.max(at);
        if was != Connection::Connected && !self.is_silent(now) {
            self.connected_since = Some(at);
        }
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        now.0 - self.row.last_seen.0 >= SILENT_AFTER_MS
    }

    pub(super) fn connection(&self, now: Timestamp) -> Connection {
        match self.row.state {
            ClusterState::Removed => Connection::Removed,
            ClusterState::Removing => Connection::Removing,
            ClusterState::Invited => Connection::NeverJoined,
            ClusterState::Member if self.row.last_seen == Timestamp(0) => Connection::NeverJoined,
            ClusterState::Member => match self.connected_since {
                Some(_) if !self.is_silent(now) => Connection::Connected,
                _ => Connection::Unknown,
            },
        }
    }

    /// What is wrong with it, the worst first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let name = &self.row.name;
        let problem = |message: String, since| Problem {
            application: None,
            variants: Vec::new(),
            cluster: Some(name.clone()),
            location: String::new(),
            message,
            since,
        };
        let mut problems = Vec::new();
        if !self.is_in() {
            return problems;
        }
        if let Some((message, since)) = self.idlers.problem(name, self.live.is_some()) {
            problems.push(problem(message, since));
        }
        if self.row.store_was_older {
            let message = format!("{STORE_WAS_OLDER}, `muster approve --cluster {name}`");
            problems.push(problem(message, Timestamp(0)));
        }
        if !self.hindrance.is_empty() {
            let message = format!(
                "the agent of {name} takes nothing new, and keeps the cluster as it was last told: {}",
                self.hindrance
            );
            problems.push(problem(message, Timestamp(0)));
        }
        if !self.unkept.is_empty() {
            let message = format!(
                "the agent of {name} uses a renewed certificate that it can't keep; a restart comes with the one before, for as long as that is good: {}",
                self.unkept
            );
            problems.push(problem(message, Timestamp(0)));
        }
        if let Some(why) = &self.refused {
            let message = format!("the agent refused what the hub sent: {why}");
            problems.push(problem(message, Timestamp(0)));
        }
        problems
    }

    /// How people see it; `None` when it was removed long ago.
    pub(super) fn view(&self, now: Timestamp) -> Option<ClusterView> {
        let row = &self.row;
        let connection = self.connection(now);
        if connection == Connection::Removed && now.0 - row.state_since.0 > REMOVED_SHOWN_MS {
            return None;
        }
        let published = self.desired.borrow();
        let message = self.problems().into_iter().next();
        Some(ClusterView {
            name: row.name.clone(),
            labels: (*self.labels).clone(),
            uid: row.uid.clone(),
            connection,
            since: match connection {
                Connection::Connected => self.connected_since.unwrap_or(row.last_seen),
                Connection::Unknown => row.last_seen,
                _ => row.state_since,
            },
            last_seen: row.last_seen,
            agent_version: row.agent_version.clone(),
            kubernetes_version: row.kubernetes_version.clone(),
            generation: row.generation,
            accepted_generation: row.accepted_generation,
            // Filled in from the placements.
            sync: SyncStatus::Unknown,
            health: HealthStatus::Unknown,
            synced: 0,
            healthy: 0,
            message: message.map(|problem| problem.message).unwrap_or_default(),
            store_was_older: self.is_in() && row.store_was_older,
            removals_held: match &published.removals {
                Removals::Held(why) if published.generation > 0 => why.clone(),
                _ => String::new(),
            },
            certificate_expires: self.certificate_expires,
            placements: match self.is_in() {
                true => self.placements.clone(),
                false => Arc::default(),
            },
            pauses: match self.is_in() {
                true => self.pauses.clone(),
                false => Vec::new(),
            },
            rows: self.rows.clone(),
            reported_at: self.reported_at,
        })
    }

    /// What to remember of it between decisions.
    pub(super) fn report(&self) -> StoredReport {
        StoredReport {
            cluster: self.row.name.clone(),
            reported_at: self.reported_at,
            rows: self.rows.clone(),
            last_seen: self.row.last_seen,
            accepted_generation: self.row.accepted_generation,
            agent_version: self.row.agent_version.clone(),
            kubernetes_version: self.row.kubernetes_version.clone(),
            api_versions: self.row.api_versions.clone(),
        }
    }
}

/// How people see a cluster that only Git names.
pub(super) fn declared_view(
    name: &ClusterName,
    labels: &Labels,
    placements: Arc<Placements>,
    since: Timestamp,
) -> ClusterView {
    ClusterView {
        name: name.clone(),
        labels: BTreeMap::clone(labels),
        uid: String::new(),
        connection: Connection::NeverJoined,
        since,
        last_seen: Timestamp(0),
        agent_version: String::new(),
        kubernetes_version: String::new(),
        generation: 0,
        accepted_generation: 0,
        sync: SyncStatus::Unknown,
        health: HealthStatus::Unknown,
        synced: 0,
        healthy: 0,
        message: String::new(),
        removals_held: String::new(),
        store_was_older: false,
        certificate_expires: Timestamp(0),
        placements,
        pauses: Vec::new(),
        rows: Arc::default(),
        reported_at: Timestamp(0),
    }
}
