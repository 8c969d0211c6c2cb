//! Which cluster takes which variant of which application.
//!
//! In: the [`Fleet`] of a commit and the enrolled clusters. Out: [`Placed`]: the target of every application that each
//! cluster takes. The first target that matches wins. Clusters that take the same targets are one group, so that what
//! follows is worked out once for all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName};
use serde::{Deserialize, Serialize};

use crate::desired::Members;
use crate::labels::{Expression, Selector};
use crate::model::{Application, Cluster, Fleet, Kind, Target};
use crate::plan::Unheard;
use crate::render::is_chart;
use crate::snapshot::Snapshot;
use crate::specialise::Facts;
use crate::{Labels, LastGood, Sources};

/// The documents of a commit and where its applications go; nothing is rendered yet.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The documents.
    pub fleet: Fleet,
    /// Documents of clusters; one that can't be read is as it was.
    pub(crate) documents: BTreeMap<ClusterName, Arc<Cluster>>,
    /// Labels of every cluster that is enrolled or has a document.
    pub(crate) labels: BTreeMap<ClusterName, Arc<Labels>>,
    /// The place in `lists` of each application's targets; many applications have the same.
    list_of: BTreeMap<ApplicationName, usize>,
    /// Per list of targets, those that any cluster takes.
    lists: Vec<BTreeSet<usize>>,
    /// Per group of clusters: the target of each list that they take.
    groups: Vec<Vec<Option<usize>>>,
    /// Per group, what they can do, once their agents have said so.
    can: Vec<Option<Arc<Capabilities>>>,
    /// The place in `groups` of each cluster, in the order of `labels`.
    group_of: Vec<usize>,
    /// What charts see where nobody takes their target; `None`: such a target is not rendered.
    unplaced: Option<Capabilities>,
}

/// Names clusters that take the same targets of every application, and that no chart tells apart.
pub(crate) type Group = usize;

/// What charts may ask of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Capabilities {
    /// Minor version of its Kubernetes, such as `1.37`.
    pub kubernetes: String,
    /// What its agent was asked about, `apps/v1` and `apps/v1/Deployment`, and whether it is served.
    pub api_versions: BTreeMap<String, bool>,
}

/// The minor version of a Kubernetes, which is all that a chart may look at: `1.37` of `v1.37.2-eks-1`, and of `1.37`.
pub fn minor(version: &str) -> Option<String> {
    let mut numbers = version.strip_prefix('v').unwrap_or(version).split('.');
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let digits = minor.bytes().take_while(u8::is_ascii_digit).count();
    (major.parse::<u32>().is_ok() && digits > 0).then(|| format!("{major}.{}", &minor[..digits]))
}

impl Capabilities {
    /// Of what is known, what is asked.
    fn of(&self, asked: &BTreeSet<String>) -> Arc<Self> {
        let known = self
            .api_versions
            .iter()
            .filter(|(it, _)| asked.contains(*it));
        Arc::new(Self {
            kubernetes: self.kubernetes.clone(),
            api_versions: known.map(|(it, served)| (it.clone(), *served)).collect(),
        })
    }
}

/// How a rendering sees the clusters that it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// It does not look.
    Any,
    /// All as one that can this, of what the target asks.
    As(Capabilities),
    /// It looks, and their agents have not said yet.
    Unknown,
}

/// What is rendered of an application: the places of targets, and how they see their clusters.
pub(crate) type Variants = BTreeSet<(usize, Seen)>;

impl Placed {
    /// Places every application of a fleet.
    pub fn new(fleet: Fleet, members: &Members, last_good: &LastGood) -> Self {
        let documents = documents(&fleet, last_good);
        let labels = clusters(members, &documents);
        let mut known: BTreeMap<Vec<&ClusterSelector>, usize> = BTreeMap::new();
        let mut list_of = BTreeMap::new();
        for (name, application) in &fleet.applications {
            let targets = application.targets.iter();
            let next = known.len();
            let list = known.entry(targets.map(|target| &target.clusters).collect());
            list_of.insert(name.clone(), *list.or_insert(next));
        }
        let mut selectors: Vec<Vec<&ClusterSelector>> = vec![Vec::new(); known.len()];
        for (list, place) in known {
            selectors[place] = list;
        }
        let (groups, group_of) = grouped(&selectors, &labels);
        let mut lists = vec![BTreeSet::new(); selectors.len()];
        for (list, target) in groups.iter().flat_map(|group| group.iter().enumerate()) {
            lists[list].extend(target);
        }
        Self {
            fleet,
            documents,
            labels,
            list_of,
            lists,
            can: vec![None; groups.len()],
            groups,
            group_of,
            unplaced: None,
        }
    }

    /// With every target rendered, also those that no known cluster takes: charts then see a cluster that can this. For
    /// who looks at documents without knowing the fleet.
    #[must_use]
    pub fn in_full(mut self, unplaced: Capabilities) -> Self {
        for (name, list) in &self.list_of {
            self.lists[*list].extend(0..self.fleet.applications[name].targets.len());
        }
        self.unplaced = Some(unplaced);
        self
    }

    /// With what is known of clusters, for charts that ask. Agents say it: one that never came has none.
    #[must_use]
    pub fn knowing(mut self, capabilities: &BTreeMap<ClusterName, Arc<Capabilities>>) -> Self {
        let asked = self.asked();
        // Many clusters have one and the same: it is looked at once, and told apart by its place.
        let mut known: HashMap<*const Capabilities, usize> = HashMap::new();
        let mut alike: BTreeMap<Arc<Capabilities>, usize> = BTreeMap::new();
        let mut split: HashMap<(Group, Option<usize>), Group> = HashMap::new();
        let (mut groups, mut can) = (Vec::new(), Vec::new());
        for (cluster, group) in self.labels.keys().zip(&mut self.group_of) {
            let all = capabilities.get(cluster);
            let place = all.map(|all| {
                *known.entry(Arc::as_ptr(all)).or_insert_with(|| {
                    let next = alike.len();
                    *alike.entry(all.of(&asked)).or_insert(next)
                })
            });
            *group = *split.entry((*group, place)).or_insert_with(|| {
                groups.push(self.groups[*group].clone());
                can.push(all.map(|all| all.of(&asked)));
                groups.len() - 1
            });
        }
        Self {
            groups,
            can,
            ..self
        }
    }

    /// The API versions that any application's charts ask about.
    pub fn asked(&self) -> BTreeSet<String> {
        let applications = self.fleet.applications.values();
        let targets = applications.flat_map(|application| &application.targets);
        let asked = targets.flat_map(|target| &target.release.api_versions);
        asked.cloned().collect()
    }

    /// Every cluster with its group.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (&ClusterName, &Arc<Labels>, Group)> {
        let clusters = self.labels.iter().zip(&self.group_of);
        clusters.map(|((name, labels), group)| (name, labels, *group))
    }

    /// Every group.
    pub(crate) fn groups(&self) -> std::ops::Range<Group> {
        0..self.groups.len()
    }

    /// The targets of an application that any cluster takes.
    ///
    /// # Panics
    /// When it is none of this fleet.
    pub(crate) fn taken(&self, application: &ApplicationName) -> &BTreeSet<usize> {
        &self.lists[self.list_of[application]]
    }

    /// The target of an application that a group of clusters takes.
    ///
    /// # Panics
    /// When the application is none of this fleet.
    pub(crate) fn target(&self, group: Group, application: &ApplicationName) -> Option<usize> {
        self.groups[group][self.list_of[application]]
    }

    /// The targets that a group takes, in the order of applications.
    pub(crate) fn targets(&self, group: Group) -> impl Iterator<Item = Option<usize>> + '_ {
        self.list_of
            .values()
            .map(move |list| self.groups[group][*list])
    }

    /// Folders whose manifests belong to other applications, in the repository of this one.
    pub(crate) fn homes(&self, application: &Application) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        match application.origin {
            None => &self.fleet.homes,
            Some(_) => &NONE,
        }
    }

    /// What placeholders of a cluster stand for.
    ///
    /// # Panics
    /// When it is none of this fleet.
    pub(crate) fn facts<'f>(&'f self, cluster: &'f ClusterName) -> Facts<'f> {
        let document = self.documents.get(cluster);
        Facts {
            name: cluster,
            labels: &self.labels[cluster],
            values: document.map(|document| &document.spec.values),
        }
    }

    /// What is rendered of an application. `snapshot` holds its manifests.
    pub(crate) fn variants(&self, application: &Application, snapshot: &Snapshot) -> Variants {
        let mut variants = Variants::new();
        for target in self.taken(&application.name) {
            if !is_chart(snapshot, &application.targets[*target].path) {
                variants.insert((*target, Seen::Any));
                continue;
            }
            let groups = self.groups();
            let takes = |group: &Group| self.target(*group, &application.name) == Some(*target);
            let seen = groups
                .filter(takes)
                .map(|group| self.seen(group, &application.targets[*target]));
            let mut seen = seen.peekable();
            if let (None, Some(unplaced)) = (seen.peek(), &self.unplaced) {
                let of = &application.targets[*target];
                variants.insert((*target, as_asked(unplaced, of)));
            }
            variants.extend(seen.map(|seen| (*target, seen)));
        }
        variants
    }

    /// Where agents have not said yet whether their clusters serve what charts ask: nothing is decided of these there.
    /// A cluster that never came is not among them.
    pub fn unheard(&self, sources: &Sources) -> Vec<Unheard> {
        let mut unheard = Vec::new();
        for application in self.fleet.applications.values() {
            let Ok(snapshot) = sources.of(application) else {
                continue;
            };
            for (place, seen) in self.variants(application, snapshot) {
                let target = &application.targets[place];
                let asked = &target.release.api_versions;
                if seen != Seen::Unknown || asked.is_empty() {
                    continue;
                }
                let clusters = self.clusters().filter(|(_, _, group)| {
                    self.target(*group, &application.name) == Some(place)
                        && self.can[*group].is_some()
                        && self.seen(*group, target) == Seen::Unknown
                });
                let clusters: Vec<_> = clusters.map(|(name, ..)| name.clone()).collect();
                if !clusters.is_empty() {
                    unheard.push(Unheard {
                        application: application.name.clone(),
                        variant: target.name.clone(),
                        api_versions: asked.iter().cloned().collect(),
                        clusters,
                    });
                }
            }
        }
        unheard
    }

    /// How a chart sees the clusters of a group: nothing but what it may look at, so that clusters are alike.
    pub(crate) fn seen(&self, group: Group, target: &Target) -> Seen {
        let seen = self.can[group]
            .as_ref()
            .map(|all| all.of(&target.release.api_versions));
        match seen {
            // An agent that was asked just now says it in a moment; until then it is not taken for a no.
            Some(seen) if seen.api_versions.len() == target.release.api_versions.len() => {
                Seen::As(Arc::unwrap_or_clone(seen))
            }
            _ => Seen::Unknown,
        }
    }
}

/// Of what a cluster can, what a target asks about; what is not known to be there is not.
fn as_asked(all: &Capabilities, target: &Target) -> Seen {
    let asked = &target.release.api_versions;
    let mut seen = Arc::unwrap_or_clone(all.of(asked));
    for it in asked {
        seen.api_versions.entry(it.clone()).or_insert(false);
    }
    Seen::As(seen)
}

/// Per group the target of each list, and the group of every cluster. Clusters that agree in all that any selector asks
/// are looked at once.
fn grouped(
    lists: &[Vec<&ClusterSelector>],
    clusters: &BTreeMap<ClusterName, Arc<Labels>>,
) -> (Vec<Vec<Option<usize>>>, Vec<Group>) {
    let selectors: BTreeSet<&ClusterSelector> = lists.iter().flatten().copied().collect();
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    let mut names: BTreeSet<&ClusterName> = BTreeSet::new();
    for selector in selectors {
        keys.extend(selector.match_labels.keys().map(String::as_str));
        let asked = selector.match_expressions.iter();
        keys.extend(asked.map(|expression| expression.key.as_str()));
        names.extend(selector.names.iter().flatten());
    }
    let mut alike: HashMap<(Option<&ClusterName>, Vec<Option<&str>>), Group> = HashMap::new();
    let mut same: HashMap<Vec<Option<usize>>, Group> = HashMap::new();
    let mut groups = Vec::new();
    let of = clusters.iter().map(|(name, labels)| {
        let values = keys.iter().map(|key| labels.get(*key).map(String::as_str));
        let asked = (names.get(name).copied(), values.collect());
        *alike.entry(asked).or_insert_with(|| {
            let takes: Vec<_> = lists
                .iter()
                .map(|list| target(list, name, labels))
                .collect();
            *same.entry(takes).or_insert_with_key(|takes| {
                groups.push(takes.clone());
                groups.len() - 1
            })
        })
    });
    let of = of.collect();
    (groups, of)
}

/// The documents of clusters; one that can't be read stays as it was.
fn documents(fleet: &Fleet, last_good: &LastGood) -> BTreeMap<ClusterName, Arc<Cluster>> {
    let mut documents = fleet.clusters.clone();
    for (name, last) in &last_good.clusters {
        if fleet.may_hide(Kind::Cluster, name.as_str()) {
            documents
                .entry(name.clone())
                .or_insert_with(|| last.clone());
        }
    }
    documents
}

/// Clusters by labels, expressions and names; all that is stated must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSelector {
    /// Labels that must have this value.
    #[serde(
        default,
        deserialize_with = "crate::labels::labels",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub match_labels: Labels,
    /// Further requirements on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Expression>,
    /// Its name must be one of these; any when it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<ClusterName>>,
}

impl ClusterSelector {
    /// Whether a cluster is meant.
    pub fn matches(&self, name: &ClusterName, labels: &Labels) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
            && Selector::holds(&self.match_labels, &self.match_expressions, labels)
    }
}

/// Labels of every cluster that is enrolled or has a document: those of its join token, overlaid with Git's.
pub fn clusters(
    members: &Members,
    documents: &BTreeMap<ClusterName, Arc<Cluster>>,
) -> BTreeMap<ClusterName, Arc<Labels>> {
    let mut clusters = members.clone();
    for (name, cluster) in documents {
        let labels = clusters.entry(name.clone()).or_default();
        if !cluster.spec.labels.is_empty() {
            Arc::make_mut(labels).extend(cluster.spec.labels.clone());
        }
    }
    clusters
}

/// The place of the first target that selects a cluster.
fn target(targets: &[&ClusterSelector], name: &ClusterName, labels: &Labels) -> Option<usize> {
    let mut targets = targets.iter();
    targets.position(|selector| selector.matches(name, labels))
}
