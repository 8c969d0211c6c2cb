//! Which cluster takes which variant of which application.
//!
//! In: the [`Fleet`] of a commit and the enrolled clusters. Out: [`Placed`]: per application the target of every
//! cluster that it goes to. The first target that matches wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName};
use serde::{Deserialize, Serialize};

use crate::desired::Members;
use crate::labels::{Expression, Selector};
use crate::model::{Application, Cluster, Fleet, Kind, Target};
use crate::render::is_chart;
use crate::snapshot::Snapshot;
use crate::specialise::Facts;
use crate::{Labels, LastGood};

/// The documents of a commit and where its applications go; nothing is rendered yet.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The documents.
    pub fleet: Fleet,
    /// Documents of clusters; one that can't be read is as it was.
    pub(crate) documents: BTreeMap<ClusterName, Arc<Cluster>>,
    /// Labels of every cluster that is enrolled or has a document.
    pub(crate) labels: BTreeMap<ClusterName, Arc<Labels>>,
    places: BTreeMap<ApplicationName, Arc<Places>>,
    capabilities: BTreeMap<ClusterName, Arc<Capabilities>>,
}

/// What charts may ask of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Capabilities {
    /// Minor version of its Kubernetes, such as `1.37`.
    pub kubernetes: String,
    /// What it serves: `apps/v1` and `apps/v1/Deployment`.
    pub api_versions: BTreeSet<String>,
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

/// Clusters that get one rendering: the place of their target, and how it sees them.
pub(crate) type Variants<'p> = BTreeMap<(usize, Seen), Vec<&'p ClusterName>>;

/// Where one application goes: the place in its list of the target that each cluster takes.
pub type Places = BTreeMap<ClusterName, usize>;

impl Placed {
    /// Places every application of a fleet.
    pub fn new(fleet: Fleet, members: &Members, last_good: &LastGood) -> Self {
        let documents = documents(&fleet, last_good);
        let labels = clusters(members, &documents);
        // Many applications have the same targets.
        let mut known: Vec<(Vec<&ClusterSelector>, Arc<Places>)> = Vec::new();
        let mut places = BTreeMap::new();
        for (name, application) in &fleet.applications {
            let targets = application.targets.iter();
            let selectors: Vec<_> = targets.map(|target| &target.clusters).collect();
            let same = known.iter().find(|(known, _)| *known == selectors);
            let placed = match same {
                Some((_, placed)) => placed.clone(),
                None => {
                    let placed = Arc::new(place(selectors.iter().copied(), &labels));
                    known.push((selectors, placed.clone()));
                    placed
                }
            };
            places.insert(name.clone(), placed);
        }
        Self {
            fleet,
            documents,
            labels,
            places,
            capabilities: BTreeMap::new(),
        }
    }

    /// With what is known of clusters, for charts that ask. Agents say it: one that never came has none.
    #[must_use]
    pub fn knowing(self, capabilities: BTreeMap<ClusterName, Arc<Capabilities>>) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    /// Where an application of the fleet goes.
    ///
    /// # Panics
    /// When it is none of this fleet.
    pub fn places(&self, application: &ApplicationName) -> &Places {
        &self.places[application]
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

    /// The clusters of an application, by what is rendered for them. `snapshot` holds its manifests.
    pub(crate) fn variants(&self, application: &Application, snapshot: &Snapshot) -> Variants<'_> {
        let targets = application.targets.iter();
        let is_chart: Vec<bool> = targets
            .map(|target| is_chart(snapshot, &target.path))
            .collect();
        let mut variants = Variants::new();
        for (cluster, target) in self.places(&application.name) {
            let seen = match is_chart[*target] {
                false => Seen::Any,
                true => self.seen(cluster, &application.targets[*target]),
            };
            variants.entry((*target, seen)).or_default().push(cluster);
        }
        variants
    }

    /// How a chart sees a cluster: nothing but what it may look at, so that clusters are alike.
    fn seen(&self, cluster: &ClusterName, target: &Target) -> Seen {
        match self.capabilities.get(cluster) {
            None => Seen::Unknown,
            Some(all) => Seen::As(Capabilities {
                kubernetes: all.kubernetes.clone(),
                api_versions: all
                    .api_versions
                    .intersection(&target.release.api_versions)
                    .cloned()
                    .collect(),
            }),
        }
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    let mut clusters: BTreeMap<ClusterName, Labels> = members.clone();
    for (name, cluster) in documents {
        let labels = clusters.entry(name.clone()).or_default();
        labels.extend(cluster.spec.labels.clone());
    }
    clusters
        .into_iter()
        .map(|(name, labels)| (name, Arc::new(labels)))
        .collect()
}

/// Every cluster that a list of targets selects, with the place of the first target that does.
pub fn place<'a>(
    targets: impl IntoIterator<Item = &'a ClusterSelector> + Clone,
    clusters: &BTreeMap<ClusterName, Arc<Labels>>,
) -> Places {
    let target_of = |name: &ClusterName, labels: &Labels| {
        let mut targets = targets.clone().into_iter();
        targets.position(|selector| selector.matches(name, labels))
    };
    clusters
        .iter()
        .filter_map(|(name, labels)| Some((name.clone(), target_of(name, labels)?)))
        .collect()
}
