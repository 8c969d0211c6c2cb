//! What people see of the fleet: one value, published by the fleet task, read by everyone who answers a question.
//!
//! Sync and health are two axes. Every row says since when it is known; what a silent cluster last said is shown
//! as that, and counted as unknown.

mod board;
mod tally;
mod waiting;

pub(crate) use board::Board;
pub use waiting::{Waiting, What};

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_decide::{Placement, Placements};
use muster_proto::{
    ApplicationName, ApplicationStatus, ClusterName, Generation, HealthStatus, Pause, Rows,
    SyncStatus, Timestamp,
};

/// The whole fleet at one moment. Cheap to clone: parts that did not change are shared with the view before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// The fleet repository.
    pub source: Source,
    /// The others that its documents name, ordered by name and ref.
    pub repositories: Vec<RepositoryView>,
    /// Ordered by name.
    pub clusters: Vec<Arc<ClusterView>>,
    /// Ordered by name.
    pub applications: Vec<Arc<ApplicationView>>,
    /// Of the fleet repository, its applications, clusters and the hub itself.
    pub problems: Vec<Problem>,
    /// What goes on only with a person's word.
    pub waiting: Vec<Waiting>,
}

/// The fleet repository as the hub last saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Without credentials.
    pub url: String,
    /// Which branch is followed.
    pub branch: String,
    /// Newest commit fetched; empty before the first.
    pub revision: String,
    /// Newest commit of which every document parsed and rendered; empty before the first.
    pub adopted_revision: String,
    /// Last successful fetch.
    pub fetched_at: Timestamp,
    /// Why the last fetch failed; empty when it did not.
    pub error: String,
    /// First line of the newest commit's message.
    pub subject: String,
}

/// A repository that documents of the fleet name, at one ref.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryView {
    /// Of its document.
    pub name: String,
    /// Without credentials.
    pub url: String,
    /// Which branch, tag, range or commit is followed.
    pub reference: String,
    /// The tag that a range picked; empty for everything else.
    pub picked: String,
    /// Newest commit that is taken; empty before the first.
    pub revision: String,
    /// First line of its message.
    pub subject: String,
    /// Since when it is the newest, as far as the hub knows.
    pub since: Timestamp,
    /// Last successful fetch.
    pub fetched_at: Timestamp,
    /// Why the last fetch failed; empty when it did not.
    pub error: String,
}

/// Something a person should know, with where to look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Which application, if one.
    pub application: Option<ApplicationName>,
    /// Which of its targets; empty when it is about all of it.
    pub variants: Vec<Arc<str>>,
    /// Which cluster, if one.
    pub cluster: Option<ClusterName>,
    /// `file:line`; empty when it has none.
    pub location: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Since when the hub sees it.
    pub since: Timestamp,
}

/// What the hub knows of a cluster's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connection {
    /// A session stands, or ended less than 45 s ago.
    Connected,
    /// It was here and is silent.
    Unknown,
    /// Git or a join token names it; no agent ever came.
    NeverJoined,
    /// A person asked for its removal with its objects; the agent is at it.
    Removing,
    /// A person removed it.
    Removed,
}

impl Connection {
    /// The word people and the wire see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Unknown => "unknown",
            Self::NeverJoined => "never-joined",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }
}

/// One cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterView {
    /// Its name.
    pub name: ClusterName,
    /// From Git, else from its join token.
    pub labels: BTreeMap<String, String>,
    /// UID of its namespace kube-system; empty before it joined.
    pub uid: String,
    /// Is it here?
    pub connection: Connection,
    /// Since when `connection` holds.
    pub since: Timestamp,
    /// Last sign of life; 0 when there was none.
    pub last_seen: Timestamp,
    /// As its agent said.
    pub agent_version: String,
    /// As its agent said.
    pub kubernetes_version: String,
    /// Of the published desired state.
    pub generation: Generation,
    /// Of the desired state that its agent holds.
    pub accepted_generation: Generation,
    /// Worst of its placements; Unknown while it is silent.
    pub sync: SyncStatus,
    /// Worst of its placements; Unknown while it is silent.
    pub health: HealthStatus,
    /// Placements that are current and synced; 0 while it is silent.
    pub synced: u32,
    /// Placements that are current and healthy; 0 while it is silent.
    pub healthy: u32,
    /// What a person should know first; empty when all is well.
    pub message: String,
    /// Why nothing is removed there for now; empty when removals are released.
    pub removals_held: String,
    /// Its agent was ahead of the hub's store, and removals wait for a person's word.
    pub store_was_older: bool,
    /// End of its newest certificate; 0 when it has none.
    pub certificate_expires: Timestamp,
    /// What should run there, ordered by application.
    pub placements: Arc<Placements>,
    /// What people paused here, by application.
    pub pauses: Vec<Pause>,
    /// What its agent last said.
    pub rows: Arc<Rows>,
    /// When the agent last said something; the rows are known since then. 0 when it never did.
    pub reported_at: Timestamp,
}

/// One application over all clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationView {
    /// Its name.
    pub name: ApplicationName,
    /// `file:line` of its document.
    pub location: String,
    /// Commit of its newest good rendering.
    pub revision: String,
    /// Placements.
    pub clusters: u32,
    /// Of these, current and synced.
    pub synced: u32,
    /// Of these, current and healthy.
    pub healthy: u32,
    /// Of these, on silent clusters or never reported.
    pub unknown: u32,
    /// Worst placement.
    pub sync: SyncStatus,
    /// Worst placement.
    pub health: HealthStatus,
    /// Its own error, else what the worst placement says; empty when all is well.
    pub message: String,
    /// What people should know of it, and need not mend; empty when there is nothing.
    pub note: String,
}

/// A placement and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementStatus<'a> {
    /// Where.
    pub cluster: &'a ClusterView,
    /// What should run.
    pub placement: &'a Placement,
    /// What the agent last said; `None` before its first report of it.
    pub status: Option<&'a ApplicationStatus>,
    /// The row speaks of the newest desired content.
    pub current: bool,
    /// The last report that could have changed the row; of a silent cluster its last sign of life.
    pub known_since: Timestamp,
}

impl View {
    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<ClusterView>> {
        let at = self
            .clusters
            .binary_search_by(|cluster| cluster.name.as_str().cmp(name));
        at.ok().map(|at| &self.clusters[at])
    }

    /// The application of that name.
    pub fn application(&self, name: &str) -> Option<&Arc<ApplicationView>> {
        let at = self
            .applications
            .binary_search_by(|application| application.name.as_str().cmp(name));
        at.ok().map(|at| &self.applications[at])
    }

    /// Where an application should run, ordered by cluster.
    pub fn placements<'a>(
        &'a self,
        application: &'a str,
    ) -> impl Iterator<Item = PlacementStatus<'a>> {
        self.clusters
            .iter()
            .filter_map(move |cluster| cluster.placement(application))
    }
}

impl ClusterView {
    /// Everything that should run here, ordered by application.
    pub fn placements(&self) -> impl Iterator<Item = PlacementStatus<'_>> {
        self.placements
            .iter()
            .map(|placement| self.status_of(placement))
    }

    /// One application here; `None` when it is not placed.
    pub fn placement(&self, application: &str) -> Option<PlacementStatus<'_>> {
        let name = |placement: &Placement| placement.application.name.as_str().cmp(application);
        let at = self.placements.binary_search_by(name).ok()?;
        Some(self.status_of(&self.placements[at]))
    }

    /// The pause of an application here.
    pub fn pause(&self, application: &ApplicationName) -> Option<&Pause> {
        let of = |pause: &&Pause| pause.application == *application;
        self.pauses.iter().find(of)
    }

    fn status_of<'a>(&'a self, placement: &'a Placement) -> PlacementStatus<'a> {
        let status = self.rows.applications().get(&placement.application.name);
        PlacementStatus {
            cluster: self,
            placement,
            status,
            current: status.is_some_and(|row| row.digest == placement.application.digest()),
            known_since: match self.connection {
                Connection::Connected => self.reported_at,
                _ => self.last_seen,
            },
        }
    }
}
