//! The guard of removals: a commit that takes applications off many clusters at once waits for a person's word.
//!
//! In: what every cluster is wished to run, and the last good state. Out: the same wishes, with each placement put back
//! whose loss was not approved, and what waits. What is put back stays in the last good state, marked as waiting, so
//! nothing is forgotten by later commits or a restart, and nothing slips through in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, Approval, ClusterName, Digest};

use super::Wishes;
use crate::Labels;
use crate::last_good::{LastApplication, LastGood};

/// A loss of at most so many clusters needs no word ...
const FEW_CLUSTERS: usize = 10;
/// ... nor one of at most this part of the placements.
const PART_IN_PERCENT: usize = 10;

/// An application that would leave clusters, and stays until a person approves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// To be approved: the application, and a digest over what it would lose.
    pub approval: Approval,
    /// The clusters it would leave.
    pub clusters: Vec<ClusterName>,
    /// What waits and what to do, for people.
    pub message: String,
}

/// One application's loss by a commit.
struct Loss<'a> {
    name: &'a ApplicationName,
    last: &'a LastApplication,
    clusters: Vec<&'a ClusterName>,
    /// Its placements before.
    before: usize,
}

/// Puts placements back whose loss needs a word that nobody gave. Clusters that left the fleet count nowhere.
pub(super) fn guard(
    last_good: &LastGood,
    clusters: &BTreeMap<ClusterName, Arc<Labels>>,
    wishes: &mut Wishes,
    approved: &BTreeSet<Approval>,
) -> Vec<Waiting> {
    let (losses, before) = losses(last_good, clusters, wishes);
    // What waits already has been counted by an earlier commit.
    let fresh = || losses.iter().filter(|loss| !loss.waits_already());
    let lost = fresh().map(|loss| loss.clusters.len()).sum();
    let on: BTreeSet<_> = fresh().flat_map(|loss| &loss.clusters).collect();
    let together = is_much(on.len(), lost, before);
    let mut waiting = Vec::new();
    for loss in &losses {
        let count = loss.clusters.len();
        let guarded = together || loss.waits_already() || is_much(count, count, loss.before);
        let approval = loss.approval();
        if !guarded || approved.contains(&approval) {
            continue;
        }
        for cluster in &loss.clusters {
            let placement = loss.last.placements[*cluster].clone();
            let wishes = wishes.entry((*cluster).clone()).or_default();
            wishes.insert(loss.name.clone(), placement);
        }
        let placed = wishes.values().filter(|at| at.contains_key(loss.name));
        waiting.push(Waiting {
            approval,
            clusters: loss.clusters.iter().copied().cloned().collect(),
            message: format!(
                "application {0} would leave {count} of {1} clusters: it stays there until `muster approve {0}`, or until Git places it there again",
                loss.name,
                placed.count()
            ),
        });
    }
    waiting
}

/// Both limits must be passed.
fn is_much(clusters: usize, lost: usize, before: usize) -> bool {
    clusters > FEW_CLUSTERS && lost * 100 > before * PART_IN_PERCENT
}

/// What every application loses, and how many placements there were in all.
fn losses<'a>(
    last_good: &'a LastGood,
    clusters: &BTreeMap<ClusterName, Arc<Labels>>,
    wishes: &Wishes,
) -> (Vec<Loss<'a>>, usize) {
    let mut all = 0;
    let mut losses = Vec::new();
    for (name, last) in &last_good.applications {
        let placed = || {
            last.placements
                .keys()
                .filter(|at| clusters.contains_key(*at))
        };
        let stays = |at: &ClusterName| wishes.get(at).is_some_and(|at| at.contains_key(name));
        let before = placed().count();
        all += before;
        let lost: Vec<_> = placed().filter(|at| !stays(at)).collect();
        if !lost.is_empty() {
            losses.push(Loss {
                name,
                last,
                clusters: lost,
                before,
            });
        }
    }
    (losses, all)
}

impl Loss<'_> {
    fn waits_already(&self) -> bool {
        self.clusters
            .iter()
            .any(|at| self.last.waiting.contains(*at))
    }

    /// Names the clusters and what would go there: a word for one loss is none for another.
    fn approval(&self) -> Approval {
        let mut parts: Vec<&[u8]> = vec![b"loss", self.name.as_str().as_bytes()];
        let digests: Vec<Digest> = self
            .clusters
            .iter()
            .map(|at| self.last.placements[*at].application.digest())
            .collect();
        for (cluster, digest) in self.clusters.iter().zip(&digests) {
            parts.extend([cluster.as_str().as_bytes(), digest.as_bytes().as_slice()]);
        }
        Approval {
            application: self.name.clone(),
            digest: Digest::of(parts),
        }
    }
}
