//! `Cluster`: what Git says about one cluster. It may also exist by enrolment only.

use muster_proto::ClusterName;
use serde::{Deserialize, Serialize};

use super::document::{Broken, Document};
use crate::Labels;
use crate::problem::Location;

/// One cluster as Git describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The name it enrols with.
    pub name: ClusterName,
    /// Where its document is.
    pub location: Location,
    /// What it says.
    pub spec: ClusterSpec,
}

/// `spec` of a `Cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterSpec {
    /// Laid over the labels of its join token.
    #[serde(deserialize_with = "crate::labels::labels")]
    pub labels: Labels,
    /// What `${cluster.values.PATH}` stands for.
    pub values: serde_json::Map<String, serde_json::Value>,
}

pub(super) fn read(document: &Document) -> Result<Cluster, Broken> {
    Ok(Cluster {
        name: document
            .name
            .parse()
            .expect("names are checked with the head of the document"),
        location: document.location(),
        spec: document.spec()?,
    })
}
