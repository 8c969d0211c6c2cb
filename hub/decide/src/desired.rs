//! What every cluster should run.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::{
    ApplicationName, Approval, ClusterName, Desired, DigestKey, Generation, Removals,
};

use crate::Labels;
use crate::last_good::{LastGood, Placement};
use crate::problem::{Location, Problem};
use crate::render::Cache;
use crate::snapshot::Snapshot;

/// The enrolled clusters with the labels of their join tokens.
pub type Members = BTreeMap<ClusterName, Labels>;

/// What one commit means for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Every cluster that is enrolled or has a document.
    pub clusters: BTreeMap<ClusterName, ClusterDecision>,
    /// Every application that is declared, or kept because its document can't be read, and where its document is.
    pub applications: BTreeMap<ApplicationName, Location>,
    /// To be stored before anything of this is published.
    pub last_good: LastGood,
    /// What people should mend; sorted, each once.
    pub problems: Vec<Problem>,
    /// Every document parsed, every application rendered, none is held: the commit is adopted.
    pub complete: bool,
}

/// What one cluster should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDecision {
    /// Of the join token, overlaid with those of its document in Git.
    pub labels: Arc<Labels>,
    /// By application name.
    pub placements: Vec<Placement>,
    /// Whether what is no longer here may go.
    pub removals: Removals,
}

impl ClusterDecision {
    /// The desired state to send under a generation.
    pub fn desired(&self, generation: Generation, approvals: Vec<Approval>) -> Desired {
        let applications = self.placements.iter().map(|p| p.application.clone());
        Desired::new(
            generation,
            applications.collect(),
            self.removals.clone(),
            approvals,
        )
    }
}

/// The commit is refused whole; the last good state stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "commit {revision} holds no Application at all, where there were {before}: nothing is changed or removed"
)]
pub struct Refused {
    /// The commit.
    pub revision: String,
    /// How many applications the last good state has.
    pub before: usize,
}

/// Decides what every cluster should run at this commit.
///
/// # Errors
/// [`Refused`] when the commit has no application and the last good state has some.
pub fn decide(
    _snapshot: &Snapshot,
    _members: &Members,
    last_good: &LastGood,
    _key: &DigestKey,
    _cache: &mut Cache,
) -> Result<Decision, Refused> {
    Ok(Decision {
        clusters: BTreeMap::new(),
        applications: BTreeMap::new(),
        last_good: last_good.clone(),
        problems: Vec::new(),
        complete: false,
    })
}
