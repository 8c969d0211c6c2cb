//! What every cluster should run.
//!
//! In: a commit, the enrolled clusters and the last good state. Out: a [`Decision`]. What is broken stays at its last
//! good state, everything else moves, and removals wait where something that is broken could be what an object moved
//! to (DESIGN.md, invariant 6).

mod claims;
mod losses;
#[cfg(test)]
mod tests;
mod variants;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{
    ApplicationName, Approval, ClusterName, Desired, Digest, DigestKey, Generation, Removals,
};

use crate::Labels;
use crate::last_good::{LastApplication, LastGood, Placement};
use crate::model::{Cluster, Kind};
use crate::placement::Placed;
use crate::problem::{Location, Problem};
use crate::render::Cache;
use crate::snapshot::Sources;
use claims::Claims;
use variants::Variants;

pub use losses::Waiting;

/// What each cluster is to run, before two applications can be in each other's way.
type Wishes = BTreeMap<ClusterName, BTreeMap<ApplicationName, Placement>>;

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
    /// What stays until a person approves that it goes; by application.
    pub waiting: Vec<Waiting>,
    /// Every document parsed, every application rendered, none is held and nothing waits: the commit is adopted.
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
    "commit {revision} holds no Application at all, where there were {before}: nothing is changed or removed until `muster approve --emptied {revision}`",
    before = .applications.len()
)]
pub struct Refused {
    /// The commit.
    pub revision: String,
    /// The applications of the last good state.
    pub applications: Vec<ApplicationName>,
}

impl Refused {
    /// A person's word that this very commit is meant: all of these let it pass, and nothing else.
    pub fn approvals(&self) -> Vec<Approval> {
        let digest = emptied(&self.revision);
        let names = self.applications.iter().cloned();
        names
            .map(|application| Approval {
                application,
                digest,
            })
            .collect()
    }
}

/// What is approved when every application may go.
fn emptied(revision: &str) -> Digest {
    Digest::of(["emptied", revision])
}

/// Decides what every cluster should run at this commit, whose documents are `placed`. `approved` is what people have
/// given their word for.
///
/// # Errors
/// [`Refused`] when the commit has no application and the last good state has some, unless that was approved.
pub fn decide(
    sources: &Sources,
    placed: &Placed,
    last_good: &LastGood,
    approved: &BTreeSet<Approval>,
    key: &DigestKey,
    cache: &mut Cache,
) -> Result<Decision, Refused> {
    let fleet = &placed.fleet;
    let emptied = !fleet.has_applications() && !last_good.applications.is_empty();
    if emptied {
        let refused = Refused {
            revision: sources.fleet.revision.clone(),
            applications: last_good.applications.keys().cloned().collect(),
        };
        if !refused
            .approvals()
            .iter()
            .all(|word| approved.contains(word))
        {
            return Err(refused);
        }
    }
    let labels = &placed.labels;
    let mut problems = fleet.problems.clone();
    // Why removals wait, for all clusters and for some.
    let unread = problems.first().map(|problem| format!("{problem}"));
    let mut held: BTreeMap<ClusterName, String> = BTreeMap::new();

    // Every application's wish for each cluster, before two of them can be in each other's way.
    let mut locations: BTreeMap<ApplicationName, Location> = BTreeMap::new();
    let mut wishes = Wishes::new();
    let mut variants = Variants::default();
    for (name, application) in &fleet.applications {
        locations.insert(name.clone(), application.location.clone());
        let last = last_good.applications.get(name).map(|last| &**last);
        let places = placed.places(name);
        variants.render(sources, placed, application, last, key, cache);
        if let Some((location, message)) = &application.unsupported {
            problems.push(Problem {
                application: Some(name.clone()),
                cluster: None,
                location: Some(location.clone()),
                message: message.clone(),
            });
        }
        for (cluster, target) in places {
            let (wish, failed) = variants.wish(application, *target, cluster, last);
            if let Some(wish) = wish {
                let wishes = wishes.entry(cluster.clone()).or_default();
                wishes.insert(name.clone(), wish);
            }
            if failed {
                held.entry(cluster.clone())
                    .or_insert_with(|| format!("application {name} does not render"));
            }
        }
        // Placed there before, and broken now: an object of it may have moved.
        if variants.failed(application) {
            for cluster in last.iter().flat_map(|last| last.placements.keys()) {
                held.entry(cluster.clone())
                    .or_insert_with(|| format!("application {name} does not render"));
            }
        }
        // Nor does it leave a cluster before it renders: that, too, is a removal, and the next decision must still
        // know that it was there.
        if variants.failed(application) {
            keep(name, last, labels, &mut wishes);
        }
    }
    for (name, last) in &last_good.applications {
        let is_hidden = !fleet.applications.contains_key(name)
            && fleet.may_hide(Kind::Application, name.as_str());
        if is_hidden {
            locations.insert(name.clone(), last.location.clone());
            keep(name, Some(last), labels, &mut wishes);
        }
    }
    problems.extend(variants.problems());
    let waiting = match emptied {
        true => Vec::new(),
        false => losses::guard(last_good, labels, &mut wishes, approved),
    };
    for waiting in &waiting {
        let name = &waiting.approval.application;
        let location = &last_good.applications[name].location;
        locations
            .entry(name.clone())
            .or_insert_with(|| location.clone());
    }

    let mut claims = Claims::new(&variants, &locations);
    let contested = claims::are_possible(wishes.values().flat_map(BTreeMap::values));
    let mut clusters = BTreeMap::new();
    let mut placements: BTreeMap<ApplicationName, BTreeMap<ClusterName, Placement>> =
        BTreeMap::new();
    for (cluster, labels) in labels {
        let wished = wishes.remove(cluster).unwrap_or_default();
        let (settled, newcomer) = match contested {
            true => claims.settle(wished, placed_before(cluster, last_good)),
            false => (wished, None),
        };
        if let Some(newcomer) = newcomer {
            held.entry(cluster.clone())
                .or_insert_with(|| format!("application {newcomer} is held"));
        }
        let removals = match unread.as_ref().or(held.get(cluster)) {
            None => Removals::Released,
            Some(why) => Removals::Held(why.clone()),
        };
        for (name, placement) in &settled {
            let of_application = placements.entry(name.clone()).or_default();
            of_application.insert(cluster.clone(), placement.clone());
        }
        let decision = ClusterDecision {
            labels: labels.clone(),
            placements: settled.into_values().collect(),
            removals,
        };
        clusters.insert(cluster.clone(), decision);
    }
    problems.extend(claims.into_problems());
    problems.sort();
    problems.dedup();
    cache.end_of_commit();
    Ok(Decision {
        clusters,
        last_good: remember(
            &locations,
            placements,
            &waiting,
            &placed.documents,
            last_good,
        ),
        applications: locations,
        complete: problems.is_empty() && waiting.is_empty(),
        problems,
        waiting,
    })
}

fn placed_before(
    cluster: &ClusterName,
    last_good: &LastGood,
) -> BTreeMap<ApplicationName, Placement> {
    let placed = last_good.applications.iter().filter_map(|(name, last)| {
        let placement = last.placements.get(cluster)?;
        Some((name.clone(), placement.clone()))
    });
    placed.collect()
}

/// Leaves an application where and as it was, on clusters for which nothing better is wished.
fn keep(
    name: &ApplicationName,
    last: Option<&LastApplication>,
    clusters: &BTreeMap<ClusterName, Arc<Labels>>,
    wishes: &mut Wishes,
) {
    let placements = last.iter().flat_map(|last| &last.placements);
    for (cluster, placement) in placements.filter(|(cluster, _)| clusters.contains_key(*cluster)) {
        let wishes = wishes.entry(cluster.clone()).or_default();
        wishes
            .entry(name.clone())
            .or_insert_with(|| placement.clone());
    }
}

/// The next last good state; what did not change is shared with the one before.
fn remember(
    locations: &BTreeMap<ApplicationName, Location>,
    mut placements: BTreeMap<ApplicationName, BTreeMap<ClusterName, Placement>>,
    waiting: &[Waiting],
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
    before: &LastGood,
) -> LastGood {
    let mut waiting: BTreeMap<_, BTreeSet<ClusterName>> = waiting
        .iter()
        .map(|loss| {
            (
                &loss.approval.application,
                loss.clusters.iter().cloned().collect(),
            )
        })
        .collect();
    let applications = locations.iter().map(|(name, location)| {
        let now = Arc::new(LastApplication {
            location: location.clone(),
            placements: placements.remove(name).unwrap_or_default(),
            waiting: waiting.remove(name).unwrap_or_default(),
        });
        let same = before.applications.get(name).filter(|last| **last == now);
        (name.clone(), same.cloned().unwrap_or(now))
    });
    LastGood {
        applications: applications.collect(),
        clusters: clusters.clone(),
    }
}
