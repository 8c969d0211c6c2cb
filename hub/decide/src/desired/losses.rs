//! The guard of removals: a commit that takes applications off many clusters at once waits for a person's word.
//!
//! In: what clusters are wished to run, by case, and the last good state. Out: the same wishes, with each placement put
//! back whose loss was not approved, and what waits. What is put back stays in the last good state, marked as waiting,
//! so nothing is forgotten by later commits or a restart, and nothing slips through in parts.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{ApplicationName, Approval, ClusterName, Digest};
use serde::{Deserialize, Serialize};

use super::cases::{Case, both};
use crate::last_good::{LastApplication, LastGood, Placement, of};

/// A loss of at most so many clusters needs no word ...
const FEW_CLUSTERS: usize = 10;
/// ... nor one of at most this part of the placements.
const PART_IN_PERCENT: usize = 10;

/// An application that would leave clusters, and stays until a person approves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Waiting {
    /// To be approved: the application, and a digest over what it would lose.
    #[serde(flatten)]
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
    /// With what ran there.
    clusters: BTreeMap<&'a ClusterName, &'a Placement>,
    /// The places of the cases of these clusters.
    cases: Vec<usize>,
    /// Its placements before; not counted for a loss of few clusters.
    before: usize,
}

/// Puts placements back whose loss needs a word that nobody gave. Clusters that left the fleet are in no case and count
/// nowhere.
pub(super) fn guard<'a>(
    last_good: &'a LastGood,
    cases: &mut [Case<'a>],
    approved: &BTreeSet<Approval>,
) -> Vec<Waiting> {
    let (losses, before) = losses(last_good, cases);
    // What waits already has been counted by an earlier commit.
    let fresh = || losses.iter().filter(|loss| !loss.waits_already());
    let lost = fresh().map(|loss| loss.clusters.len()).sum();
    let on: BTreeSet<_> = fresh().flat_map(|loss| loss.clusters.keys()).collect();
    let together = is_much(on.len(), lost, before);
    let mut waiting = Vec::new();
    for loss in &losses {
        let count = loss.clusters.len();
        let guarded = together || loss.waits_already() || is_much(count, count, loss.before);
        let approval = loss.approval();
        if !guarded || approved.contains(&approval) {
            continue;
        }
        for place in &loss.cases {
            let case = &mut cases[*place];
            if let Some(placement) = of(case.before(), loss.name) {
                case.keep(placement);
            }
        }
        let placed = cases.iter().filter(|case| case.wishes_for(loss.name));
        let placed: usize = placed.map(|case| case.clusters.len()).sum();
        waiting.push(Waiting {
            approval,
            clusters: loss.clusters.keys().copied().cloned().collect(),
            message: format!(
                "application {0} would leave {count} of {placed} clusters: it stays there until `muster approve {0}`, or until Git places it there again",
                loss.name,
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
fn losses<'a>(last_good: &'a LastGood, cases: &[Case<'a>]) -> (Vec<Loss<'a>>, usize) {
    let mut all = 0;
    let mut losses: BTreeMap<&ApplicationName, Loss> = BTreeMap::new();
    for (place, case) in cases.iter().enumerate() {
        all += case.before().len() * case.clusters.len();
        if case.wishes.are_as_before() {
            continue;
        }
        for (before, now) in both(case.before(), &case.wishes) {
            let Some(before) = before.filter(|_| now.is_none()) else {
                continue;
            };
            let name = &before.application.name;
            let Some(last) = last_good.applications.get(name) else {
                continue;
            };
            let loss = losses.entry(name).or_insert_with(|| Loss {
                name,
                last,
                clusters: BTreeMap::new(),
                cases: Vec::new(),
                before: 0,
            });
            let clusters = case.clusters.iter().map(|cluster| (*cluster, before));
            loss.clusters.extend(clusters);
            loss.cases.push(place);
        }
    }
    let mut losses: Vec<Loss> = losses.into_values().collect();
    // Of how many it is a part is asked of a loss that many clusters have.
    let many = |loss: &&mut Loss| loss.clusters.len() > FEW_CLUSTERS;
    let mut many: BTreeMap<_, _> = losses
        .iter_mut()
        .filter(many)
        .map(|loss| (loss.name, &mut loss.before))
        .collect();
    if !many.is_empty() {
        for case in cases {
            for before in case.before() {
                if let Some(count) = many.get_mut(&before.application.name) {
                    **count += case.clusters.len();
                }
            }
        }
    }
    (losses, all)
}

impl Loss<'_> {
    fn waits_already(&self) -> bool {
        self.clusters
            .keys()
            .any(|at| self.last.waiting.contains(*at))
    }

    /// Names the clusters and what would go there: a word for one loss is none for another.
    fn approval(&self) -> Approval {
        let mut parts: Vec<&[u8]> = vec![b"loss", self.name.as_str().as_bytes()];
        let placements = self.clusters.values();
        let digests: Vec<Digest> = placements
            .map(|placement| placement.application.digest())
            .collect();
        for (cluster, digest) in self.clusters.keys().zip(&digests) {
            parts.extend([cluster.as_str().as_bytes(), digest.as_bytes().as_slice()]);
        }
        Approval {
            application: self.name.clone(),
            digest: Digest::of(parts),
        }
    }
}
