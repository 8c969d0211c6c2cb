//! What was last decided for good: where every application runs, and with which objects.
//!
//! The hub stores it as rows, one a document and one a rendering, and reads it back when it starts, so that a restart
//! with a broken commit at HEAD changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use muster_proto::{
    ApplicationName, ClusterName, Content, DesiredApplication, Digest, Object, Settings,
};
use serde::{Deserialize, Serialize};

use crate::Labels;
use crate::desired::Members;
use crate::model::Cluster;
use crate::placement;
use crate::problem::Location;

/// The last good state of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastGood {
    pub(crate) applications: BTreeMap<ApplicationName, Arc<LastApplication>>,
    pub(crate) clusters: BTreeMap<ClusterName, Arc<Cluster>>,
}

/// One application as it was last decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LastApplication {
    pub(crate) location: Location,
    pub(crate) placements: BTreeMap<ClusterName, Placement>,
    /// Of these clusters, those where it only stays because its removal waits for a person's word.
    pub(crate) waiting: BTreeSet<ClusterName>,
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
pub enum DocumentRow {
    /// Of an `Application`.
    Application {
        /// Where its document was.
        location: Location,
        /// What runs where.
        placements: Vec<PlacementRow>,
        /// Clusters where it only stays because its removal waits for a person's word.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        waiting: BTreeSet<ClusterName>,
    },
    /// A `Cluster`.
    Cluster(Cluster),
}

/// Clusters on which the same variant of an application runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRow {
    target: Arc<str>,
    digest: Digest,
    clusters: Vec<ClusterName>,
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

/// A row of the store: objects of one rendering. Holds manifests, Secrets among them: never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderingRow {
    /// The commit it comes from.
    pub revision: String,
    /// How it is applied.
    pub settings: Settings,
    /// Digest and canonical JSON of every object.
    pub objects: Vec<(Digest, String)>,
}

impl std::fmt::Debug for RenderingRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.objects.len();
        write!(f, "RenderingRow({}, {count} objects)", self.revision)
    }
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
    /// What each cluster ran: for publishing while no commit can be read.
    pub fn clusters(&self) -> BTreeMap<ClusterName, Vec<Placement>> {
        let mut clusters: BTreeMap<ClusterName, Vec<Placement>> = BTreeMap::new();
        for application in self.applications.values() {
            for (cluster, placement) in &application.placements {
                clusters
                    .entry(cluster.clone())
                    .or_default()
                    .push(placement.clone());
            }
        }
        clusters
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
        let placements = self
            .applications
            .values()
            .flat_map(|last| last.placements.values());
        let mut seen = HashSet::new();
        placements
            .map(|placement| &placement.application)
            .filter(move |rendering| seen.insert(Arc::as_ptr(rendering)))
            .flat_map(|rendering| rendering.objects())
    }

    /// What changed since `older`; [`LastGood::default`] gives every row.
    pub fn changes_since(&self, older: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, application) in &self.applications {
            let before = older.applications.get(name);
            if before == Some(application) {
                continue;
            }
            let row = application.row();
            changes.put.documents.insert(application_key(name), row);
            let stored = before.map(|before| before.renderings()).unwrap_or_default();
            for (digest, rendering) in application.renderings() {
                let key = rendering_key(name, digest);
                if stored.get(&digest) != Some(&rendering)
                    && let Some(row) = RenderingRow::of(&rendering)
                {
                    changes.put.renderings.insert(key, row);
                }
            }
        }
        for (name, before) in &older.applications {
            let now = self.applications.get(name);
            if now.is_none() {
                changes.removed_documents.push(application_key(name));
            }
            let kept = now.map(|now| now.renderings()).unwrap_or_default();
            let gone = before.renderings().into_keys();
            let gone = gone.filter(|digest| !kept.contains_key(digest));
            changes
                .removed_renderings
                .extend(gone.map(|digest| rendering_key(name, digest)));
        }
        for (name, cluster) in &self.clusters {
            if older.clusters.get(name) != Some(cluster) {
                let row = DocumentRow::Cluster((**cluster).clone());
                changes.put.documents.insert(cluster_key(name), row);
            }
        }
        let gone = older.clusters.keys();
        let gone = gone.filter(|name| !self.clusters.contains_key(*name));
        changes.removed_documents.extend(gone.map(cluster_key));
        changes
    }

    /// Reads rows back. A rendering that is missing or damaged is kept as it is in the clusters until it renders.
    pub fn from_rows(rows: Rows) -> Self {
        let mut last_good = Self::default();
        let mut renderings: BTreeMap<RenderingKey, Arc<DesiredApplication>> = BTreeMap::new();
        for (key, row) in rows.renderings {
            if let Some(read) = row.read(&key) {
                renderings.insert(key, Arc::new(read));
            }
        }
        for (key, row) in rows.documents {
            match row {
                DocumentRow::Cluster(cluster) => {
                    last_good
                        .clusters
                        .insert(cluster.name.clone(), Arc::new(cluster));
                }
                DocumentRow::Application {
                    location,
                    placements,
                    waiting,
                } => {
                    let name = key.strip_prefix("Application/").map(str::parse);
                    let Some(Ok(name)) = name else { continue };
                    let application =
                        LastApplication::read(&name, location, placements, waiting, &renderings);
                    last_good.applications.insert(name, Arc::new(application));
                }
            }
        }
        last_good
    }
}

impl LastApplication {
    /// Every distinct rendering.
    pub(crate) fn renderings(&self) -> BTreeMap<Digest, Arc<DesiredApplication>> {
        let placements = self.placements.values();
        let renderings = placements.map(|placement| &placement.application);
        let mut distinct = BTreeMap::new();
        for rendering in renderings {
            distinct
                .entry(rendering.digest())
                .or_insert_with(|| rendering.clone());
        }
        distinct
    }

    fn row(&self) -> DocumentRow {
        let mut groups: BTreeMap<(Arc<str>, Digest), Vec<ClusterName>> = BTreeMap::new();
        for (cluster, placement) in &self.placements {
            let group = (placement.target.clone(), placement.application.digest());
            groups.entry(group).or_default().push(cluster.clone());
        }
        let groups = groups.into_iter();
        DocumentRow::Application {
            location: self.location.clone(),
            waiting: self.waiting.clone(),
            placements: groups
                .map(|((target, digest), clusters)| PlacementRow {
                    target,
                    digest,
                    clusters,
                })
                .collect(),
        }
    }

    fn read(
        name: &ApplicationName,
        location: Location,
        rows: Vec<PlacementRow>,
        waiting: BTreeSet<ClusterName>,
        renderings: &BTreeMap<RenderingKey, Arc<DesiredApplication>>,
    ) -> Self {
        let mut placements = BTreeMap::new();
        for row in rows {
            let stored = renderings.get(&rendering_key(name, row.digest)).cloned();
            let application = stored.unwrap_or_else(|| {
                let why = "its last good rendering is not in the hub's store any more";
                Arc::new(DesiredApplication::keep(
                    name.clone(),
                    String::new(),
                    why.into(),
                ))
            });
            for cluster in row.clusters {
                let placement = Placement {
                    target: row.target.clone(),
                    application: application.clone(),
                };
                placements.insert(cluster, placement);
            }
        }
        Self {
            location,
            placements,
            waiting,
        }
    }
}

impl RenderingRow {
    fn of(rendering: &DesiredApplication) -> Option<Self> {
        let Content::Objects { settings, objects } = &rendering.content else {
            return None;
        };
        let objects = objects.iter().map(|object| {
            let body = String::from_utf8_lossy(&object.body).into_owned();
            (object.digest, body)
        });
        Some(Self {
            revision: rendering.revision.clone(),
            settings: settings.clone(),
            objects: objects.collect(),
        })
    }

    /// `None` when it is not what its key says.
    fn read(self, key: &RenderingKey) -> Option<DesiredApplication> {
        let objects = self.objects.into_iter().map(|(digest, body)| {
            let object = Object::received(digest, Bytes::from(body)).ok();
            object.map(Arc::new)
        });
        let read = DesiredApplication::new(
            key.application.clone(),
            self.revision,
            self.settings,
            objects.collect::<Option<_>>()?,
        );
        (read.digest() == key.digest).then_some(read)
    }
}

fn application_key(name: &ApplicationName) -> DocumentKey {
    format!("Application/{name}")
}

fn cluster_key(name: &ClusterName) -> DocumentKey {
    format!("Cluster/{name}")
}

fn rendering_key(application: &ApplicationName, digest: Digest) -> RenderingKey {
    RenderingKey {
        application: application.clone(),
        digest,
    }
}
