//! What was last decided for good: where every application runs, and with which objects.
//!
//! The hub stores it as rows, one an application and one a rendering, and reads it back when it starts, so that a
//! restart with a broken commit at HEAD changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName, DesiredApplication, Digest, Settings};
use serde::{Deserialize, Serialize};

/// The last good state of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastGood {
    pub(crate) applications: BTreeMap<ApplicationName, Arc<LastApplication>>,
}

/// One application as it was last decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LastApplication {
    pub(crate) placements: BTreeMap<ClusterName, Placement>,
    pub(crate) leaving: BTreeSet<ClusterName>,
}

/// An application on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Name of the target that selected the cluster.
    pub target: Arc<str>,
    /// What runs there; one allocation for all clusters with the same content.
    pub application: Arc<DesiredApplication>,
}

/// A row of the store: what a document said and where its application went. The value is opaque to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentRow {
    // Fields follow; a row is written and read as JSON.
}

/// Which document: `Application/web` or `Cluster/eu-1`.
pub type DocumentKey = String;

/// Which rendering: an application may have several at a time, one a target and more while a change is held back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RenderingKey {
    /// Whose.
    pub application: ApplicationName,
    /// [`DesiredApplication::digest`].
    pub digest: Digest,
}

/// A row of the store: objects of one rendering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderingRow {
    /// The commit it comes from.
    pub revision: String,
    /// How it is applied.
    pub settings: Settings,
    /// Digest and canonical JSON of every object.
    pub objects: Vec<(Digest, String)>,
}

/// All rows of a [`LastGood`], as read from the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// By key.
    pub documents: BTreeMap<DocumentKey, DocumentRow>,
    /// By key.
    pub renderings: BTreeMap<RenderingKey, RenderingRow>,
}

/// What to write so that a store with the rows of the older state holds those of the newer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// New and changed rows.
    pub put: Rows,
    /// Rows that are gone.
    pub removed_documents: Vec<DocumentKey>,
    /// Rows that are gone.
    pub removed_renderings: Vec<RenderingKey>,
}

impl LastGood {
    /// What changed since `older`; [`LastGood::default`] gives every row.
    pub fn changes_since(&self, _older: &Self) -> Changes {
        Changes::default()
    }

    /// Reads rows back. A rendering that is missing or damaged is kept as it is in the clusters until it renders.
    pub fn from_rows(_rows: Rows) -> Self {
        Self::default()
    }
}
