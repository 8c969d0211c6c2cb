//! What every application wishes to be on each cluster, before two of them can be in each other's way.
//!
//! In: what the documents say, the labels of the clusters, the last good state. Out: a [`Placement`] a wish. What does not
//! render, or may be hidden by a document that can't be read, stays where and as it was.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName, DigestKey};

use super::variants::Variants;
use crate::Labels;
use crate::last_good::{LastApplication, LastGood, Placement};
use crate::model::{Fleet, Kind};
use crate::placement;
use crate::problem::{Location, Problem};
use crate::render::Cache;
use crate::snapshot::Snapshot;

/// What each cluster is to run.
pub(super) type Wishes = BTreeMap<ClusterName, BTreeMap<ApplicationName, Placement>>;

/// All wishes of a commit, and what became known on the way.
#[derive(Default)]
pub(super) struct Wished {
    pub(super) wishes: Wishes,
    pub(super) variants: Variants,
    /// Where the document of each application is, or was.
    pub(super) locations: BTreeMap<ApplicationName, Location>,
    /// Why removals wait on a cluster: an application of it, now or before, does not render.
    pub(super) held: BTreeMap<ClusterName, String>,
    pub(super) problems: Vec<Problem>,
}

/// Renders every variant that a cluster takes, once, and finds what each application wishes.
pub(super) fn wish(
    snapshot: &Snapshot,
    fleet: &Fleet,
    last_good: &LastGood,
    labels: &BTreeMap<ClusterName, Arc<Labels>>,
    key: &DigestKey,
    cache: &mut Cache,
) -> Wished {
    let mut wished = Wished::default();
    let mut known_places: Vec<(Vec<_>, Rc<_>)> = Vec::new();
    for (name, application) in &fleet.applications {
        wished
            .locations
            .insert(name.clone(), application.location.clone());
        let last = last_good.applications.get(name).map(|last| &**last);
        let selectors: Vec<_> = application
            .targets
            .iter()
            .map(|one| &one.clusters)
            .collect();
        // Many applications have the same targets.
        let same = known_places.iter().find(|(known, _)| *known == selectors);
        let placed = match same {
            Some((_, placed)) => Rc::clone(placed),
            None => {
                let placed = Rc::new(placement::place(selectors.iter().copied(), labels));
                known_places.push((selectors, Rc::clone(&placed)));
                placed
            }
        };
        wished
            .variants
            .render(snapshot, fleet, application, &placed, last, key, cache);
        if let Some((location, message)) = &application.unsupported {
            wished.problems.push(Problem {
                application: Some(name.clone()),
                cluster: None,
                location: Some(location.clone()),
                message: message.clone(),
            });
        }
        for (cluster, target) in &*placed {
            let (wish, failed) = wished.variants.wish(application, *target, cluster, last);
            if let Some(wish) = wish {
                let wishes = wished.wishes.entry(cluster.clone()).or_default();
                wishes.insert(name.clone(), wish);
            }
            if failed {
                wished
                    .held
                    .entry(cluster.clone())
                    .or_insert_with(|| format!("application {name} does not render"));
            }
        }
        // Placed there before, and broken now: an object of it may have moved. Nor does it leave a cluster before it
        // renders: that, too, is a removal, and the next decision must still know that it was there.
        if wished.variants.failed(application) {
            for cluster in last.iter().flat_map(|last| last.placements.keys()) {
                wished
                    .held
                    .entry(cluster.clone())
                    .or_insert_with(|| format!("application {name} does not render"));
            }
            keep(name, last, labels, &mut wished.wishes);
        }
    }
    for (name, last) in &last_good.applications {
        let is_hidden = !fleet.applications.contains_key(name)
            && fleet.may_hide(Kind::Application, name.as_str());
        if is_hidden {
            wished.locations.insert(name.clone(), last.location.clone());
            keep(name, Some(last), labels, &mut wished.wishes);
        }
    }
    wished.problems.extend(wished.variants.problems());
    wished
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
