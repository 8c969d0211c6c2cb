//! Every variant of every application, rendered once, and what stands in for those that do not render.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_proto::{
    ApplicationName, ClusterName, DesiredApplication, Digest, DigestKey, Object, ObjectKey,
    Settings,
};

use super::cases::Case;
use crate::foreign::Foreign;
use crate::last_good::{LastGood, Placement, Renderings, side_by_side};
use crate::model::{Application, Kind};
use crate::placement::{Group, Placed, Seen};
use crate::problem::{Location, Problem};
use crate::render::{Cache, Subject, Varied, Wrong, filled};
use crate::snapshot::{Snapshot, Sources};
use crate::specialise::Facts;

/// What a commit makes of something, or what is wrong with it.
pub(super) type Made<T> = Result<T, Arc<Vec<Wrong>>>;

/// A variant as this commit renders it.
#[derive(Debug)]
enum Variant {
    /// Every cluster gets the same.
    Same(Arc<DesiredApplication>),
    /// Its objects hold placeholders: what each cluster fills in is in `filled`.
    ByCluster,
}

/// Of one application, by place of the target and how it sees its clusters.
type Rendered = BTreeMap<(usize, Seen), Made<Variant>>;

/// Renderings of this commit.
pub(super) struct Variants<'a> {
    placed: &'a Placed,
    last_good: &'a LastGood,
    rendered: BTreeMap<ApplicationName, Rendered>,
    /// Per cluster, what is made of each variant with placeholders, in the order of applications.
    filled: Vec<Vec<Made<Arc<DesiredApplication>>>>,
    /// What placeholders of each cluster stand for, once anything asks.
    facts: Option<Vec<Facts<'a>>>,
    /// Where each object of an application is written, by identity with the namespace filled in.
    written: BTreeMap<ApplicationName, HashMap<ObjectKey, Location>>,
    /// What applications hold for other tools.
    foreign: BTreeMap<ApplicationName, Foreign>,
}

impl<'a> Variants<'a> {
    pub(super) fn of(placed: &'a Placed, last_good: &'a LastGood) -> Self {
        Self {
            placed,
            last_good,
            rendered: BTreeMap::new(),
            filled: vec![Vec::new(); placed.labels.len()],
            facts: None,
            written: BTreeMap::new(),
            foreign: BTreeMap::new(),
        }
    }

    /// Renders the targets of an application that any cluster takes. Applications come in the order of their names.
    pub(super) fn render(
        &mut self,
        sources: &Sources,
        application: &Application,
        key: &DigestKey,
        cache: &mut Cache,
    ) {
        let name = &application.name;
        let rendered = self.rendered.entry(name.clone()).or_default();
        if application.unsupported.is_some() {
            return;
        }
        let placed = self.placed;
        let last = self.last_good.applications.get(name);
        let none = Renderings::new();
        let known = last.map_or(&none, |last| &last.renderings);
        let had_objects = known.values().any(|last| !last.objects().is_empty());
        let settings = &application.settings;
        let namespace = &settings.namespace;
        // Targets that come to the same are one allocation.
        let mut new = Renderings::new();
        let variants = match sources.of(application) {
            Ok(snapshot) => placed.variants(application, snapshot),
            Err(_) => placed.variants(application, &Snapshot::default()),
        };
        for (target, seen) in variants {
            if seen == Seen::Unknown {
                continue;
            }
            let of = &application.targets[target];
            let wrong = |message: String| {
                let location = of.location.clone();
                Arc::new(vec![Wrong { location, message }])
            };
            let variant = sources.of(application).map_err(wrong).and_then(|snapshot| {
                let subject = Subject::of(sources, placed, application, snapshot, target, &seen);
                let manifests = cache.render(&subject, key)?;
                let varied = cache.vary(manifests, of, &sources.fleet, namespace, key)?;
                let (Varied::Same(manifests) | Varied::ByCluster { manifests, .. }) = &varied;
                if manifests.is_empty() && had_objects {
                    let folder = if of.path.is_empty() { "the repository" } else { &of.path };
                    return Err(wrong(format!(
                        "{folder} holds no manifest any more: to remove the application, remove its document"
                    )));
                }
                let written = self.written.entry(name.clone()).or_default();
                let mut note = |key: &ObjectKey, location: &Location| {
                    let written = written.entry(filled(key, namespace));
                    written.or_insert_with(|| location.clone());
                };
                let foreign = self.foreign.entry(name.clone()).or_default();
                foreign.folder(snapshot, &of.path);
                for manifest in manifests.iter() {
                    note(&manifest.object.key, &manifest.location);
                    foreign.object(&manifest.object.key, &manifest.location);
                }
                let making = Making {
                    name,
                    revision: &snapshot.revision,
                    settings,
                    known,
                };
                let (template, moves) = match &varied {
                    Varied::ByCluster { template, moves, .. } => (template, *moves),
                    Varied::Same(manifests) => {
                        let objects = manifests.iter();
                        let objects = objects.map(|manifest| manifest.object.clone());
                        let made = making.made(objects.collect());
                        return Ok(Variant::Same(making.remembered(&made, &mut new)));
                    }
                };
                let mut specialised = cache.specialised((name.clone(), target, making.over(template, &seen)));
                let facts = self.facts.get_or_insert_with(|| {
                    let clusters = placed.clusters();
                    clusters.map(|(cluster, ..)| placed.facts(cluster)).collect()
                });
                let takes = placed.groups().map(|group| {
                    let takes = placed.target(group, name) == Some(target);
                    takes && (seen == Seen::Any || placed.seen(group, of) == seen)
                });
                let takes: Vec<bool> = takes.collect();
                for (at, (_, _, group)) in placed.clusters().enumerate() {
                    if !takes[group] {
                        continue;
                    }
                    let objects = cache.fill(template, &facts[at]);
                    let application = objects.map(|objects| {
                        if moves {
                            for (manifest, object) in manifests.iter().zip(objects.iter()) {
                                note(&object.key, &manifest.location);
                            }
                        }
                        let make = |objects: &Vec<_>| making.made(objects.clone());
                        specialised.of(&objects, make, |made| making.remembered(made, &mut new))
                    });
                    self.filled[at].push(application);
                }
                cache.keep_specialised(specialised);
                Ok(Variant::ByCluster)
            });
            rendered.insert((target, seen), variant);
        }
    }

    /// Clusters that have the same outcome, with what they are wished to run; and the place of each cluster's case.
    pub(super) fn cases(&mut self) -> (Vec<Case<'a>>, Vec<usize>) {
        let mut cases: Vec<Case> = Vec::new();
        let mut known = HashMap::new();
        let mut others = Others::new();
        let filled = std::mem::take(&mut self.filled);
        let choices: Vec<_> = self.placed.groups().map(|it| self.choices(it)).collect();
        let clusters = self.placed.clusters().zip(filled);
        let had = self.last_good.placements.iter();
        let clusters = side_by_side(had, clusters, |(had, _), ((now, ..), _)| had.cmp(now));
        let clusters = clusters.filter_map(|(had, now)| Some((had.map(|(_, had)| had), now?)));
        let case_of = clusters.map(|(before, ((cluster, _, group), filled))| {
            let contents: Vec<usize> = filled.iter().map(address).collect();
            let case = (group, before.map(Arc::as_ptr), contents);
            let place = *known.entry(case).or_insert_with(|| {
                let mut case = Case::of(before);
                self.wish(&mut case, &choices[group], filled, &mut others);
                cases.push(case);
                cases.len() - 1
            });
            cases[place].clusters.push(cluster);
            place
        });
        let case_of = case_of.collect();
        (cases, case_of)
    }

    /// What a group is to get of each application that it takes, or that fails.
    fn choices(&self, group: Group) -> Vec<Choice<'_>> {
        let applications = self.placed.fleet.applications.values();
        let targets = applications.zip(self.placed.targets(group));
        let choices = targets.zip(self.rendered.values());
        let choices = choices.map(|((application, target), variants)| {
            // Only charts look at their clusters.
            let variant = |target| {
                let any = variants.get(&(target, Seen::Any));
                let of = &application.targets[target];
                let seen = || self.placed.seen(group, of);
                any.ok_or_else(seen)
                    .or_else(|seen| variants.get(&(target, seen.clone())).ok_or(seen))
            };
            Choice {
                application,
                target,
                same_name: Cell::new(0),
                fails: failed(application, variants),
                gets: match target.map(variant) {
                    Some(Err(Seen::Unknown)) if application.unsupported.is_none() => Gets::Unknown,
                    Some(Ok(Ok(Variant::Same(rendered)))) => Gets::Same(rendered),
                    Some(Ok(Ok(Variant::ByCluster))) => Gets::ByCluster,
                    // It does not render, asks for what can't be done yet, or goes elsewhere.
                    _ => Gets::Nothing,
                },
            }
        });
        // One that goes elsewhere is no more here than one that is gone.
        choices
            .filter(|choice| choice.target.is_some() || choice.fails)
            .collect()
    }

    /// What clusters should get of all applications, and whether that is what the commit says.
    fn wish(
        &self,
        case: &mut Case<'a>,
        choices: &[Choice<'_>],
        filled: Vec<Made<Arc<DesiredApplication>>>,
        others: &mut Others,
    ) {
        let mut filled = filled.into_iter();
        let mut before = case.before().iter().peekable();
        for choice in choices {
            let Choice {
                application,
                target,
                fails,
                ref gets,
                ..
            } = *choice;
            let name = &application.name;
            // Mostly it is what was there.
            if let (Gets::Same(rendered), false) = (gets, fails)
                && case.wishes.push_same(|next| choice.is(next, rendered))
            {
                before.next();
                continue;
            }
            while let Some(gone) = before.next_if(|last| last.application.name < *name) {
                self.keep_hidden(case, gone);
            }
            let own = before.next_if(|last| last.application.name == *name);
            let mut fails = fails;
            let rendered = match gets {
                Gets::Same(rendered) => Some((*rendered).clone()),
                Gets::ByCluster => match filled.next() {
                    Some(Ok(filled)) => Some(filled),
                    Some(Err(wrong)) => {
                        case.wrong.push((name.clone(), target, wrong));
                        None
                    }
                    None => None,
                },
                Gets::Unknown => {
                    // What it has stays. One that never came gets it when its agent has said what the cluster can.
                    if let Some(own) = own {
                        case.keep(own);
                        case.hold_for(name);
                    }
                    continue;
                }
                Gets::Nothing => None,
            };
            match (target, rendered) {
                (Some(target), Some(rendered)) => {
                    case.wishes
                        .push(&application.targets[target].name, &rendered);
                }
                (Some(target), None) => {
                    let stands_in = match application.unsupported {
                        None => self.stand_in(application, target, own, others),
                        Some(_) => own.cloned(),
                    };
                    if let Some(stands_in) = stands_in {
                        case.keep(&stands_in);
                    }
                    case.hold_for(name);
                    fails = false;
                }
                (None, _) => {}
            }
            // Placed there before, and broken now: an object of it may have moved. Nor does it leave a cluster before it
            // renders: that, too, is a removal, and the next decision must still know that it was there.
            if let Some(own) = own.filter(|_| fails) {
                case.hold_for(name);
                if target.is_none() {
                    case.keep(own);
                }
            }
        }
        for gone in before {
            self.keep_hidden(case, gone);
        }
    }

    /// Keeps an application whose document may be one that can't be read.
    fn keep_hidden(&self, case: &mut Case<'a>, gone: &Placement) {
        if self.is_hidden(&gone.application.name) {
            case.keep(gone);
        }
    }

    /// Whether the document of an application that was there may be one that can't be read.
    pub(super) fn is_hidden(&self, application: &ApplicationName) -> bool {
        let fleet = &self.placed.fleet;
        !fleet.applications.contains_key(application)
            && fleet.may_hide(Kind::Application, application.as_str())
    }

    /// Where an object of an application is written, by identity with the namespace filled in.
    pub(super) fn written(
        &self,
        application: &ApplicationName,
        key: &ObjectKey,
    ) -> Option<&Location> {
        self.written.get(application)?.get(key)
    }

    /// The identity of everything that any cluster gets of this commit, in no order.
    pub(super) fn all_written(&self) -> impl Iterator<Item = (&ApplicationName, &ObjectKey)> {
        let written = self.written.iter();
        written.flat_map(|(name, keys)| keys.keys().map(move |key| (name, key)))
    }

    /// What people should know of applications, and need not mend.
    pub(super) fn notes(&self) -> BTreeMap<ApplicationName, String> {
        let notes = self.foreign.iter();
        let notes = notes.filter_map(|(name, foreign)| Some((name.clone(), foreign.note()?)));
        notes.collect()
    }

    /// Everything that is wrong with any variant; what is wrong alike on many clusters, once.
    pub(super) fn problems(&self, cases: &[Case]) -> Vec<Problem> {
        let mut alike: BTreeMap<(&ApplicationName, &Wrong), Concerned> = BTreeMap::new();
        for (name, variants) in &self.rendered {
            for ((target, _), made) in variants {
                for wrong in made.as_ref().err().into_iter().flat_map(|it| it.iter()) {
                    alike.entry((name, wrong)).or_default().0.insert(*target);
                }
            }
        }
        for case in cases {
            for (name, target, wrong) in &case.wrong {
                for wrong in wrong.iter() {
                    let (targets, clusters) = alike.entry((name, wrong)).or_default();
                    targets.extend(target);
                    clusters.extend(&case.clusters);
                }
            }
        }
        let problems = alike
            .into_iter()
            .map(|((name, wrong), (targets, clusters))| {
                let first = clusters.first();
                let application = &self.placed.fleet.applications[name];
                let variants = targets.into_iter();
                Problem {
                    application: Some(name.clone()),
                    variants: variants
                        .map(|target| application.targets[target].name.clone())
                        .collect(),
                    cluster: first.filter(|_| clusters.len() == 1).copied().cloned(),
                    location: Some(wrong.location.clone()),
                    message: match (first, clusters.len()) {
                        (Some(first), many @ 2..) => {
                            format!("{} (on {many} clusters, such as {first})", wrong.message)
                        }
                        _ => wrong.message.clone(),
                    },
                }
            });
        problems.collect()
    }

    /// The last good rendering of a variant: the clusters' own, else another cluster's where all get the same, else
    /// whatever the clusters had.
    ///
    /// A target without a name is called by its place in the list, and one put before it takes that name over: a cluster
    /// that has anything keeps it then, rather than taking what was meant for others.
    fn stand_in(
        &self,
        application: &Application,
        target: usize,
        own: Option<&Placement>,
        others: &mut Others,
    ) -> Option<Placement> {
        let of = &application.targets[target];
        let targets = application.spec.targets.as_ref();
        let named = targets.is_none_or(|targets| targets[target].name.is_some());
        let own_variant = own.filter(|placement| !named || placement.target == of.name);
        // What placeholders made of it elsewhere is meant for others.
        if own_variant.is_none() && of.variables.is_none() {
            let name = &application.name;
            let of_others = others.entry((name.clone(), target)).or_insert_with(|| {
                let lists = self.last_good.placements.values();
                let placed = lists.filter_map(|list| list.of(name));
                let mut placed = placed.filter(|placement| placement.target == of.name);
                placed.next().cloned()
            });
            return of_others.as_ref().or(own).cloned();
        }
        own_variant.or(own).cloned()
    }
}

/// What clusters of one group are to get of an application.
struct Choice<'v> {
    application: &'v Application,
    /// The target that they take.
    target: Option<usize>,
    /// The address of a name that was found to be the target's; 0 before.
    same_name: Cell<usize>,
    /// Some variant of it fails for all its clusters.
    fails: bool,
    gets: Gets<'v>,
}

impl Choice<'_> {
    /// Whether a placement is what clusters get of it. Asked of all, so nothing is looked at twice.
    fn is(&self, placement: &Placement, rendered: &Arc<DesiredApplication>) -> bool {
        if !Arc::ptr_eq(&placement.application, rendered) {
            return false;
        }
        let name = Arc::as_ptr(&placement.target).cast::<u8>().addr();
        if name != self.same_name.get() {
            let target = self
                .target
                .map(|target| &self.application.targets[target].name);
            if target != Some(&placement.target) {
                return false;
            }
            self.same_name.set(name);
        }
        true
    }
}

enum Gets<'v> {
    /// All the same.
    Same(&'v Arc<DesiredApplication>),
    /// What each fills in.
    ByCluster,
    /// Their agents have not said what they can.
    Unknown,
    Nothing,
}

/// The targets and clusters that something is wrong with.
type Concerned<'c> = (BTreeSet<usize>, BTreeSet<&'c ClusterName>);

/// What runs somewhere of a variant, by application and target.
type Others = HashMap<(ApplicationName, usize), Option<Placement>>;

/// Whether any variant of an application failed for all its clusters. One that can't be filled for some concerns those
/// alone: no object moves from one cluster to another.
fn failed(application: &Application, variants: &Rendered) -> bool {
    application.unsupported.is_some() || variants.values().any(Result::is_err)
}

/// Tells contents of this commit apart.
fn address(made: &Made<Arc<DesiredApplication>>) -> usize {
    match made {
        Ok(application) => Arc::as_ptr(application).addr(),
        Err(wrong) => Arc::as_ptr(wrong).addr(),
    }
}

/// How objects become an application of this commit.
struct Making<'m> {
    name: &'m ApplicationName,
    revision: &'m str,
    settings: &'m Settings,
    known: &'m Renderings,
}

impl Making<'_> {
    fn made(&self, objects: Vec<Arc<Object>>) -> Arc<DesiredApplication> {
        Arc::new(DesiredApplication::new(
            self.name.clone(),
            self.revision.to_owned(),
            self.settings.clone(),
            objects,
        ))
    }

    /// What did not change keeps the commit it came with. `new` is what did.
    fn remembered(
        &self,
        made: &Arc<DesiredApplication>,
        new: &mut Renderings,
    ) -> Arc<DesiredApplication> {
        if let Some(last) = self.known.get(&made.digest()) {
            return last.clone();
        }
        let new = new.entry(made.digest());
        let new = new.or_insert_with(|| match made.revision == self.revision {
            true => made.clone(),
            false => {
                let mut made = DesiredApplication::clone(made);
                self.revision.clone_into(&mut made.revision);
                Arc::new(made)
            }
        });
        new.clone()
    }

    /// Names what is made of the fillings of a template.
    fn over(&self, template: &Digest, seen: &Seen) -> Digest {
        let settings = serde_json::to_vec(self.settings).expect("settings can be written");
        let seen = format!("{seen:?}").into_bytes();
        Digest::of([template.as_bytes().as_slice(), &settings, &seen])
    }
}
