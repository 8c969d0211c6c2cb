//! Which cluster takes which variant of which application.
//!
//! In: the [`Application`]s of a commit and the labels of every cluster. Out: per application the target of every
//! cluster that it goes to. The first target that matches wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::ClusterName;
use serde::{Deserialize, Serialize};

use crate::Labels;
use crate::desired::Members;
use crate::labels::{Expression, Selector};
use crate::model::Cluster;

/// Clusters by labels, expressions and names; all that is stated must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
) -> BTreeMap<ClusterName, usize> {
    let target_of = |name: &ClusterName, labels: &Labels| {
        let mut targets = targets.clone().into_iter();
        targets.position(|selector| selector.matches(name, labels))
    };
    clusters
        .iter()
        .filter_map(|(name, labels)| Some((name.clone(), target_of(name, labels)?)))
        .collect()
}
