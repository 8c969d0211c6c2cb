//! What every cluster should run.
//!
//! In: a commit, the enrolled clusters and the last good state. Out: a [`Decision`]. What is broken stays at its last
//! good state, everything else moves, and removals wait where something that is broken could be what an object moved
//! to (DESIGN.md, invariant 6).
//!
//! Clusters that take the same targets, fill placeholders alike and ran the same before have the same outcome: it is
//! worked out once for each such case ([`cases`]), so that the cost of a commit does not grow with the fleet.

mod alike;
mod cases;
mod claims;
mod losses;
#[cfg(test)]
mod tests;
mod variants;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use muster_proto::{
    ApplicationName, Approval, ClusterName, DesiredApplication, Digest, DigestKey, Removals,
};

use crate::Labels;
use crate::last_good::{
    LastApplication, LastGood, Placement, Placements, Renderings, distinct, side_by_side,
};
use crate::model::Cluster;
use crate::placement::Placed;
use crate::problem::{Location, Problem};
use crate::render::Cache;
use crate::snapshot::Sources;
use cases::both;
use claims::Claims;
use variants::Variants;

pub use alike::{Alike, word_for};
pub use losses::Waiting;

/// The enrolled clusters with the labels of their join tokens.
pub type Members = BTreeMap<ClusterName, Arc<Labels>>;

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
    /// What people should know of applications, and need not mend.
    pub notes: BTreeMap<ApplicationName, String>,
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
    /// One allocation for all clusters that run the same.
    pub placements: Arc<Placements>,
    /// Whether what is no longer here may go.
    pub removals: Removals,
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
    let mut problems = fleet.problems.clone();
    // Why removals wait, for all clusters.
    let unread = problems.first().map(|problem| format!("{problem}"));
    let mut locations: BTreeMap<ApplicationName, Location> = BTreeMap::new();
    let mut variants = Variants::of(placed, last_good);
    for (name, application) in &fleet.applications {
        locations.insert(name.clone(), application.location.clone());
        variants.render(sources, application, key, cache);
        if let Some((location, message)) = &application.unsupported {
            problems.push(Problem {
                application: Some(name.clone()),
                variants: Vec::new(),
                cluster: None,
                location: Some(location.clone()),
                message: message.clone(),
            });
        }
    }
    for (name, last) in &last_good.applications {
        if variants.is_hidden(name) {
            locations.insert(name.clone(), last.location.clone());
        }
    }
    let (mut cases, case_of) = variants.cases();
    problems.extend(variants.problems(&cases));
    let notes = variants.notes();
    let waiting = match emptied {
        true => Vec::new(),
        false => losses::guard(last_good, &mut cases, approved),
    };
    for waiting in &waiting {
        let name = &waiting.approval.application;
        let location = &last_good.applications[name].location;
        locations
            .entry(name.clone())
            .or_insert_with(|| location.clone());
    }

    let mut claims = Claims::new(&variants, &locations);
    let contested = claims.are_possible(&cases);
    let outcomes = cases.iter_mut().map(|case| {
        // What they ran has no object twice.
        let wished = std::mem::take(&mut case.wishes).into_list();
        let (settled, newcomer) = match wished {
            Some(wished) if contested => {
                let (settled, newcomer) = claims.settle(wished, case.before());
                (Some(settled), newcomer)
            }
            wished => (wished, None),
        };
        if let Some(newcomer) = newcomer {
            let why = || format!("application {newcomer} is held");
            case.held.get_or_insert_with(why);
        }
        let removals = match unread.as_ref().or(case.held.as_ref()) {
            None => Removals::Released,
            Some(why) => Removals::Held(why.clone()),
        };
        ((settled, case.before), removals)
    });
    let (lists, removals): (Vec<_>, Vec<_>) = outcomes.unzip();
    let lists = one_each(lists);
    problems.extend(claims.into_problems());
    problems.sort();
    problems.dedup();
    let clusters = placed.clusters().zip(&case_of);
    let clusters = clusters.map(|((cluster, labels, _), case)| {
        let decision = ClusterDecision {
            labels: labels.clone(),
            placements: lists[*case].clone(),
            removals: removals[*case].clone(),
        };
        (cluster.clone(), decision)
    });
    let clusters: BTreeMap<ClusterName, ClusterDecision> = clusters.collect();
    let pairs = cases.iter().map(|case| case.before).zip(&lists);
    let renderings = renderings_of(last_good, &clusters, pairs);
    let last_good = remember(
        &locations,
        &clusters,
        renderings,
        &waiting,
        &placed.documents,
        last_good,
        unread.is_some(),
    );
    cache.end_of_commit();
    Ok(Decision {
        clusters,
        last_good,
        applications: locations,
        complete: problems.is_empty() && waiting.is_empty(),
        problems,
        notes,
        waiting,
    })
}

/// What clusters of a case run now, `None` when that is what they ran before; and that.
type Settled<'a> = (Option<Vec<Placement>>, Option<&'a Arc<Placements>>);

/// Makes equal lists of placements one allocation: that of before, where it is the same.
fn one_each(lists: Vec<Settled<'_>>) -> Vec<Arc<Placements>> {
    let mut known: HashMap<Digest, Arc<Placements>> = HashMap::new();
    if lists.iter().any(|(list, _)| list.is_some()) {
        let before = lists.iter().filter_map(|(_, before)| *before);
        known.extend(before.map(|before| (before.name(), before.clone())));
    }
    let nothing = Arc::new(Placements::default());
    let each = lists
        .into_iter()
        .map(|(list, before)| match (list, before) {
            (None, before) => before.unwrap_or(&nothing).clone(),
            (Some(list), Some(before)) if before[..] == *list => before.clone(),
            (Some(list), _) => {
                let new = Placements::new(list);
                match known.get(&new.name()) {
                    Some(known) if **known == new => known.clone(),
                    // It may hold the same of other commits.
                    _ => {
                        let new = Arc::new(new);
                        known.insert(new.name(), new.clone());
                        new
                    }
                }
            }
        });
    each.collect()
}

/// The distinct renderings of each application; those of one that no cluster changed are as they were. `pairs` are the
/// lists of clusters before and now.
fn renderings_of<'a>(
    before: &LastGood,
    clusters: &BTreeMap<ClusterName, ClusterDecision>,
    pairs: impl Iterator<Item = (Option<&'a Arc<Placements>>, &'a Arc<Placements>)>,
) -> BTreeMap<ApplicationName, Arc<Renderings>> {
    let mut come: BTreeMap<ApplicationName, Vec<&Arc<DesiredApplication>>> = BTreeMap::new();
    let mut gone: BTreeMap<ApplicationName, HashSet<Digest>> = BTreeMap::new();
    let mut goes = |had: &Placement| {
        let all = gone.entry(had.application.name.clone()).or_default();
        all.insert(had.application.digest());
    };
    let mut seen = HashSet::new();
    for (had, now) in pairs {
        let pair = (had.map(Arc::as_ptr), Arc::as_ptr(now));
        if pair.0 == Some(pair.1) || !seen.insert(pair) {
            continue;
        }
        for (had, now) in both(had.map_or(&[], |had| had), now) {
            match (had, now) {
                (Some(had), Some(now)) if Arc::ptr_eq(&had.application, &now.application) => {}
                (had, now) => {
                    had.into_iter().for_each(&mut goes);
                    if let Some(now) = now.map(|now| &now.application) {
                        come.entry(now.name.clone()).or_default().push(now);
                    }
                }
            }
        }
    }
    let each = side_by_side(before.placements.iter(), clusters.keys(), |(a, _), b| {
        a.cmp(b)
    });
    let left = each.filter_map(|(had, now)| had.filter(|_| now.is_none()));
    for list in distinct(left.map(|(_, list)| list)) {
        list.iter().for_each(&mut goes);
    }
    let mut now: BTreeMap<ApplicationName, Arc<Renderings>> = before
        .applications
        .iter()
        .map(|(name, last)| (name.clone(), last.renderings.clone()))
        .collect();
    for (name, come) in come {
        let all = now.entry(name).or_default();
        for rendering in come {
            if all.get(&rendering.digest()) != Some(rendering) {
                Arc::make_mut(all).insert(rendering.digest(), rendering.clone());
            }
        }
    }
    // What left some clusters may still be on others: mostly on one of the first that are looked at.
    // On most it stands in the same place.
    let mut sought: Vec<_> = gone.iter_mut().map(|it| (0, it)).collect();
    for list in distinct(clusters.values().map(|cluster| &cluster.placements)) {
        sought.retain_mut(|(place, (name, digests))| {
            let is_there = |it: &&Placement| it.application.name == **name;
            let there = list.get(*place).filter(is_there).or_else(|| {
                let at = list.binary_search_by(|it| it.application.name.cmp(name));
                *place = at.unwrap_or_else(|at| at);
                list.get(at.ok()?)
            });
            if let Some(placement) = there {
                digests.remove(&placement.application.digest());
            }
            !digests.is_empty()
        });
        if sought.is_empty() {
            break;
        }
    }
    for (name, digests) in gone {
        let all = Arc::make_mut(now.entry(name).or_default());
        all.retain(|digest, _| !digests.contains(digest));
    }
    now
}

/// The next last good state; what did not change is shared with the one before.
fn remember(
    locations: &BTreeMap<ApplicationName, Location>,
    decided: &BTreeMap<ClusterName, ClusterDecision>,
    mut renderings: BTreeMap<ApplicationName, Arc<Renderings>>,
    waiting: &[Waiting],
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
    before: &LastGood,
    removals_wait: bool,
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
    // What left while not every document could be read is known by its name: its objects are still there, and an empty
    // commit that follows takes them away.
    let left = before.applications.iter().filter(|_| removals_wait);
    let left = left.map(|(name, last)| (name, &last.location));
    let known: BTreeMap<_, _> = left.chain(locations).collect();
    let applications = known.into_iter().map(|(name, location)| {
        let now = Arc::new(LastApplication {
            location: location.clone(),
            renderings: renderings.remove(name).unwrap_or_default(),
            waiting: waiting.remove(name).unwrap_or_default(),
        });
        let same = before.applications.get(name).filter(|last| **last == now);
        (name.clone(), same.cloned().unwrap_or(now))
    });
    let placed = decided.iter().filter(|(_, now)| !now.placements.is_empty());
    let placed = placed.map(|(cluster, now)| (cluster.clone(), now.placements.clone()));
    LastGood {
        applications: applications.collect(),
        placements: placed.collect(),
        clusters: clusters.clone(),
    }
}
