//! Every variant of every application, rendered once, and what stands in for those that do not render.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_proto::{
    ApplicationName, ClusterName, DesiredApplication, DigestKey, Object, ObjectKey,
};

use crate::last_good::{LastApplication, Placement};
use crate::model::Application;
use crate::placement::{Placed, Seen};
use crate::problem::{Location, Problem};
use crate::render::{Cache, Subject, Varied, Wrong, filled};
use crate::snapshot::{Snapshot, Sources};

/// What a commit makes of something, or what is wrong with it.
type Made<T> = Result<T, Arc<Vec<Wrong>>>;

/// A variant as this commit renders it.
#[derive(Debug)]
enum Variant {
    /// Every cluster gets the same.
    Same(Arc<DesiredApplication>),
    /// Its objects hold placeholders that clusters fill.
    ByCluster(BTreeMap<ClusterName, Made<Arc<DesiredApplication>>>),
}

/// Renderings of this commit, by application, place of the target, and how it sees its clusters.
#[derive(Debug, Default)]
pub(super) struct Variants {
    rendered: BTreeMap<(ApplicationName, usize, Seen), Made<Variant>>,
    /// How charts see clusters, where they look.
    seen: BTreeMap<ApplicationName, BTreeMap<ClusterName, Seen>>,
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
        let name = &application.name;
        let variants = match sources.of(application) {
            Ok(snapshot) => placed.variants(application, snapshot),
            Err(_) => placed.variants(application, &Snapshot::default()),
        };
        for ((target, seen), clusters) in variants {
            let of = &application.targets[target];
            if seen != Seen::Any {
                let seen = clusters
                    .iter()
                    .map(|cluster| ((*cluster).clone(), seen.clone()));
                self.seen.entry(name.clone()).or_default().extend(seen);
            }
            if seen == Seen::Unknown {
                continue;
            }
            let wrong = |message: String| {
                let location = of.location.clone();
                Arc::new(vec![Wrong { location, message }])
            };
            let rendered = sources.of(application).map_err(wrong).and_then(|snapshot| {
                let manifests = cache.render(
                    &Subject {
                        snapshot,
                        fleet: &sources.fleet,
                        homes,
                        target: of,
                        seen: &seen,
                        namespace,
                    },
                    key,
                )?;
                let varied = cache.vary(manifests, of, &sources.fleet, namespace, key)?;
                let (Varied::Same(manifests) | Varied::ByCluster(manifests, _)) = &varied;
                if manifests.is_empty() && had_objects {
                    let folder = if of.path.is_empty() { "the repository" } else { &of.path };
                    return Err(wrong(format!(
                        "{folder} holds no manifest any more: to remove the application, remove its document"
                    )));
                }
                let written = self.written.entry(application.name.clone()).or_default();
                let mut note = |key: &ObjectKey, location: &Location| {
                    let written = written.entry(filled(key, namespace));
                    written.or_insert_with(|| location.clone());
                };
                for manifest in manifests.iter() {
                    note(&manifest.object.key, &manifest.location);
                }
                let made = |objects: Vec<Arc<Object>>| {
                    let made = DesiredApplication::new(
                        application.name.clone(),
                        snapshot.revision.clone(),
                        application.settings.clone(),
                        objects,
                    );
                    // What did not change keeps the commit it came with.
                    let same = known.get(&made.digest()).cloned();
                    same.unwrap_or_else(|| Arc::new(made))
                };
                let template = match &varied {
                    Varied::ByCluster(_, template) => template,
                    Varied::Same(manifests) => {
                        let objects = manifests.iter();
                        let objects = objects.map(|manifest| manifest.object.clone());
                        return Ok(Variant::Same(made(objects.collect())));
                    }
                };
                // Clusters that agree in what is asked get one and the same list of objects.
                let mut distinct: HashMap<*const Vec<Arc<Object>>, Arc<DesiredApplication>> =
                    HashMap::new();
                let clusters = clusters.into_iter().map(|cluster| {
                    let objects = cache.fill(template, &placed.facts(cluster));
                    let application = objects.map(|objects| {
                        let same = distinct.entry(Arc::as_ptr(&objects));
                        let same = same.or_insert_with(|| {
                            for (manifest, object) in manifests.iter().zip(objects.iter()) {
                                if manifest.object.key != object.key {
                                    note(&object.key, &manifest.location);
                                }
                            }
                            made(objects.to_vec())
                        });
                        same.clone()
                    });
                    (cluster.clone(), application)
                });
                Ok(Variant::ByCluster(clusters.collect()))
            });
            self.rendered.insert((name.clone(), target, seen), rendered);
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
        let of = &application.targets[target];
        let name = application.name.clone();
        let seen = self.seen.get(&name).and_then(|seen| seen.get(cluster));
        let seen = seen.cloned().unwrap_or(Seen::Any);
        if seen == Seen::Unknown {
            // What it has stays. One that never came gets it when its agent has said what the cluster can.
            let own = last.and_then(|last| last.placements.get(cluster));
            return (own.cloned(), own.is_some());
        }
        let rendered = match self.rendered.get(&(name, target, seen)) {
            Some(Ok(Variant::Same(rendered))) => Some(rendered),
            Some(Ok(Variant::ByCluster(clusters))) => clusters[cluster].as_ref().ok(),
            Some(Err(_)) => None,
            // The application asks for what can't be done yet.
            None => return (None, true),
        };
        match rendered {
            Some(rendered) => {
                let placement = Placement {
                    target: of.name.clone(),
                    application: rendered.clone(),
                };
                (Some(placement), false)
            }
            None => {
                let targets = application.spec.targets.as_ref();
                let named = targets.is_none_or(|targets| targets[target].name.is_some());
                // What placeholders made of it elsewhere is meant for others.
                let shared = of.variables.is_none();
                (stand_in(&of.name, named, shared, cluster, last), true)
            }
        }
    }

    /// Whether any variant of the application failed for all its clusters. One that can't be filled for some concerns
    /// those alone: no object moves from one cluster to another.
    pub(super) fn failed(&self, application: &Application) -> bool {
        application.unsupported.is_some()
            || self.of(&application.name).any(|rendered| rendered.is_err())
    }

    fn of(&self, name: &ApplicationName) -> impl Iterator<Item = &Made<Variant>> {
        let first = (name.clone(), 0, Seen::Any);
        let from = self.rendered.range(first..);
        let of_it = from.take_while(move |((of, ..), _)| of == name);
        of_it.map(|(_, rendered)| rendered)
    }

    /// Where an object of an application is written, by identity with the namespace filled in.
    pub(super) fn written(
        &self,
        application: &ApplicationName,
        key: &ObjectKey,
    ) -> Option<&Location> {
        self.written.get(application)?.get(key)
    }

    /// Everything that is wrong with any variant; what is wrong alike on many clusters, once.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        let mut alike: BTreeMap<(&ApplicationName, &Wrong), Vec<&ClusterName>> = BTreeMap::new();
        for ((name, ..), rendered) in &self.rendered {
            match rendered {
                Ok(Variant::Same(_)) => {}
                Ok(Variant::ByCluster(clusters)) => {
                    for (cluster, made) in clusters {
                        for wrong in made.as_ref().err().iter().flat_map(|wrong| wrong.iter()) {
                            alike.entry((name, wrong)).or_default().push(cluster);
                        }
                    }
                }
                Err(wrong) => {
                    for wrong in wrong.iter() {
                        alike.entry((name, wrong)).or_default();
                    }
                }
            }
        }
        alike.into_iter().map(|((name, wrong), clusters)| Problem {
            application: Some(name.clone()),
            cluster: match clusters[..] {
                [only] => Some(only.clone()),
                _ => None,
            },
            location: Some(wrong.location.clone()),
            message: match clusters[..] {
                [] | [_] => wrong.message.clone(),
                [first, ..] => {
                    let many = clusters.len();
                    format!("{} (on {many} clusters, such as {first})", wrong.message)
                }
            },
        })
    }
}

/// The last good rendering of that variant: the cluster's own, else another cluster's where all get the same, else
/// whatever the cluster had.
///
/// A target without a name is called by its place in the list, and one put before it takes that name over: a cluster
/// that has anything keeps it then, rather than taking what was meant for others.
fn stand_in(
    target: &Arc<str>,
    named: bool,
    shared: bool,
    cluster: &ClusterName,
    last: Option<&LastApplication>,
) -> Option<Placement> {
    let last = last?;
    let own = last.placements.get(cluster);
    let own_variant = own.filter(|placement| !named || placement.target == *target);
    let of_others = || {
        last.placements
            .values()
            .find(|placement| shared && placement.target == *target)
    };
    own_variant.or_else(of_others).or(own).cloned()
}
