//! Every variant of every application, rendered once, and what stands in for those that do not render.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName, DesiredApplication, DigestKey, ObjectKey};

use crate::last_good::{LastApplication, Placement};
use crate::model::Application;
use crate::placement::Placed;
use crate::problem::{Location, Problem};
use crate::render::{Cache, Wrong, filled};
use crate::snapshot::Sources;

/// A variant as this commit renders it, or what is wrong with it.
type Variant = Result<Arc<DesiredApplication>, Arc<Vec<Wrong>>>;

/// Renderings of this commit, by application and place of the target.
#[derive(Debug, Default)]
pub(super) struct Variants {
    rendered: BTreeMap<(ApplicationName, usize), Variant>,
    /// Where each object of an application is written, by identity with the namespace filled in.
    written: BTreeMap<ApplicationName, BTreeMap<ObjectKey, Location>>,
}

impl Variants {
    /// Renders the targets of an application that any cluster takes.
    pub(super) fn render(
        &mut self,
        sources: &Sources,
        placed: &Placed,
        application: &Application,
        last: Option<&LastApplication>,
        key: &DigestKey,
        cache: &mut Cache,
    ) {
        if application.unsupported.is_some() {
            return;
        }
        let known = last.map(LastApplication::renderings).unwrap_or_default();
        let had_objects = known.values().any(|last| !last.objects().is_empty());
        let namespace = &application.settings.namespace;
        let homes = placed.homes(application);
        let places = placed.places(&application.name);
        for target in places.values().copied().collect::<BTreeSet<usize>>() {
            let of = &application.targets[target];
            let wrong = |message: String| {
                let location = of.location.clone();
                Arc::new(vec![Wrong { location, message }])
            };
            let rendered = sources.of(application).map_err(wrong).and_then(|snapshot| {
                let manifests = cache.render(snapshot, homes, of, namespace, key)?;
                if manifests.is_empty() && had_objects {
                    let folder = if of.path.is_empty() { "the repository" } else { &of.path };
                    return Err(wrong(format!(
                        "{folder} holds no manifest any more: to remove the application, remove its document"
                    )));
                }
                let written = self.written.entry(application.name.clone()).or_default();
                for manifest in manifests.iter() {
                    let identity = filled(&manifest.object.key, namespace);
                    written
                        .entry(identity)
                        .or_insert_with(|| manifest.location.clone());
                }
                let objects = manifests.iter();
                let made = DesiredApplication::new(
                    application.name.clone(),
                    snapshot.revision.clone(),
                    application.settings.clone(),
                    objects.map(|manifest| manifest.object.clone()).collect(),
                );
                // What did not change keeps the commit it came with.
                let same = known.get(&made.digest()).cloned();
                Ok(same.unwrap_or_else(|| Arc::new(made)))
            });
            self.rendered
                .insert((application.name.clone(), target), rendered);
        }
    }

    /// What a cluster should get of an application, and whether that is not what the commit says.
    pub(super) fn wish(
        &self,
        application: &Application,
        target: usize,
        cluster: &ClusterName,
        last: Option<&LastApplication>,
    ) -> (Option<Placement>, bool) {
        let name = &application.targets[target].name;
        match self.rendered.get(&(application.name.clone(), target)) {
            Some(Ok(rendered)) => {
                let placement = Placement {
                    target: name.clone(),
                    application: rendered.clone(),
                };
                (Some(placement), false)
            }
            Some(Err(_)) => {
                let targets = application.spec.targets.as_ref();
                let named = targets.is_none_or(|targets| targets[target].name.is_some());
                (stand_in(name, named, cluster, last), true)
            }
            // The application asks for what can't be done yet.
            None => (None, true),
        }
    }

    /// Whether any variant of the application failed.
    pub(super) fn failed(&self, application: &Application) -> bool {
        application.unsupported.is_some()
            || application.targets.iter().enumerate().any(|(target, _)| {
                let rendered = self.rendered.get(&(application.name.clone(), target));
                matches!(rendered, Some(Err(_)))
            })
    }

    /// Where an object of an application is written, by identity with the namespace filled in.
    pub(super) fn written(
        &self,
        application: &ApplicationName,
        key: &ObjectKey,
    ) -> Option<&Location> {
        self.written.get(application)?.get(key)
    }

    /// Everything that is wrong with any variant.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        let wrong = self.rendered.iter().filter_map(|((name, _), rendered)| {
            let wrong = rendered.as_ref().err()?;
            Some(wrong.iter().map(|wrong| Problem {
                application: Some(name.clone()),
                cluster: None,
                location: Some(wrong.location.clone()),
                message: wrong.message.clone(),
            }))
        });
        wrong.flatten()
    }
}

/// The last good rendering of that variant: the cluster's own, else another cluster's, else whatever the cluster had.
///
/// A target without a name is called by its place in the list, and one put before it takes that name over: a cluster
/// that has anything keeps it then, rather than taking what was meant for others.
fn stand_in(
    target: &Arc<str>,
    named: bool,
    cluster: &ClusterName,
    last: Option<&LastApplication>,
) -> Option<Placement> {
    let last = last?;
    let own = last.placements.get(cluster);
    let own_variant = own.filter(|placement| !named || placement.target == *target);
    let of_others = || {
        last.placements
            .values()
            .find(|placement| placement.target == *target)
    };
    own_variant.or_else(of_others).or(own).cloned()
}
