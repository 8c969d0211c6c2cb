//! What was last decided for good: where every application runs, and with which objects.
//!
//! Clusters that run the same share one allocation, also from commit to commit: what did not change is found by
//! comparing addresses. The hub stores it as rows ([`rows`]) and reads it back when it starts, so that a restart with a
//! broken commit at HEAD changes nothing.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName, DesiredApplication, Digest, Object};

use crate::Labels;
use crate::desired::Members;
use crate::model::Cluster;
use crate::placement;
use crate::problem::Location;

mod rows;

pub use rows::{
    Changes, DocumentKey, DocumentRow, PlacementRow, PlacementsRow, RenderingKey, RenderingRow,
    Rows,
};

/// The last good state of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastGood {
    pub(crate) applications: BTreeMap<ApplicationName, Arc<LastApplication>>,
    /// Of clusters that run anything.
    pub(crate) placements: BTreeMap<ClusterName, Arc<Placements>>,
    pub(crate) clusters: BTreeMap<ClusterName, Arc<Cluster>>,
}

/// One application as it was last decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastApplication {
    pub(crate) location: Location,
    /// Every distinct one that runs anywhere.
    pub(crate) renderings: Arc<Renderings>,
    /// The clusters where it only stays because its removal waits for a person's word.
    pub(crate) waiting: BTreeSet<ClusterName>,
}

/// By [`DesiredApplication::digest`].
pub(crate) type Renderings = BTreeMap<Digest, Arc<DesiredApplication>>;

/// An application on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Name of the target that selected the cluster.
    pub target: Arc<str>,
    /// What runs there; one allocation for all clusters with the same content.
    pub application: Arc<DesiredApplication>,
}

/// What runs on a cluster, by application name, each once. One allocation for all clusters with the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placements {
    list: Vec<Placement>,
    /// Names of the rows that hold it.
    parts: Vec<Digest>,
    /// Over all that these hold.
    name: Digest,
}

impl std::ops::Deref for Placements {
    type Target = [Placement];

    fn deref(&self) -> &[Placement] {
        &self.list
    }
}

impl FromIterator<Placement> for Placements {
    /// In any order; of those that say an application twice, one.
    fn from_iter<I: IntoIterator<Item = Placement>>(placements: I) -> Self {
        let mut list: Vec<Placement> = placements.into_iter().collect();
        list.sort_by(|a, b| a.application.name.cmp(&b.application.name));
        list.dedup_by(|a, b| a.application.name == b.application.name);
        Self::new(list)
    }
}

impl Default for Placements {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Placements {
    /// `list` is ordered by application name.
    pub(crate) fn new(list: Vec<Placement>) -> Self {
        debug_assert!(list.is_sorted_by_key(|placement| &placement.application.name));
        let parts = rows::part_names(&list);
        Self {
            name: Digest::of(&parts),
            parts,
            list,
        }
    }

    /// What tells it from others: equal for those that hold the same, whichever commits that came from.
    pub(crate) fn name(&self) -> Digest {
        self.name
    }

    /// Of one application.
    pub fn of(&self, application: &ApplicationName) -> Option<&Placement> {
        of(self, application)
    }
}

/// The placement of an application in a list by application name.
pub(crate) fn of<'p>(list: &'p [Placement], name: &ApplicationName) -> Option<&'p Placement> {
    let at = list.binary_search_by(|placement| placement.application.name.cmp(name));
    at.ok().map(|at| &list[at])
}

impl LastGood {
    /// What each cluster ran: for publishing while no commit can be read.
    pub fn clusters(&self) -> &BTreeMap<ClusterName, Arc<Placements>> {
        &self.placements
    }

    /// Every distinct rendering that runs anywhere.
    pub fn renderings(&self) -> impl Iterator<Item = &Arc<DesiredApplication>> {
        let applications = self.applications.values();
        applications.flat_map(|last| last.renderings.values())
    }

    /// Every application, and where its document was.
    pub fn applications(&self) -> BTreeMap<ApplicationName, Location> {
        let applications = self.applications.iter();
        let applications =
            applications.map(|(name, application)| (name.clone(), application.location.clone()));
        applications.collect()
    }

    /// The labels that every cluster had which is enrolled or had a document.
    pub fn labels(&self, members: &Members) -> BTreeMap<ClusterName, Arc<Labels>> {
        placement::clusters(members, &self.clusters)
    }

    /// Every object of every rendering.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.renderings().flat_map(|rendering| rendering.objects())
    }
}

/// Each allocation once, in the order in which they come.
pub(crate) fn distinct<'p>(
    lists: impl Iterator<Item = &'p Arc<Placements>>,
) -> Vec<&'p Arc<Placements>> {
    let mut seen = HashSet::new();
    lists
        .filter(|list| seen.insert(Arc::as_ptr(list)))
        .collect()
}

/// Every distinct rendering of an application in these lists.
pub(crate) fn renderings(lists: &[&Arc<Placements>], application: &ApplicationName) -> Renderings {
    let mut distinct = Renderings::new();
    for placement in lists.iter().filter_map(|list| list.of(application)) {
        let digest = placement.application.digest();
        distinct
            .entry(digest)
            .or_insert_with(|| placement.application.clone());
    }
    distinct
}

/// Two ordered sequences side by side; what only one of them has stands alone.
pub(crate) fn side_by_side<A, B>(
    before: impl Iterator<Item = A>,
    now: impl Iterator<Item = B>,
    order: impl Fn(&A, &B) -> Ordering,
) -> impl Iterator<Item = (Option<A>, Option<B>)> {
    let (mut before, mut now) = (before.peekable(), now.peekable());
    std::iter::from_fn(move || {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(a, b),
        };
        Some((
            order.is_le().then(|| before.next()).flatten(),
            order.is_ge().then(|| now.next()).flatten(),
        ))
    })
}
