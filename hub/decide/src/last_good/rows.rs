//! The last good state as rows of the store, so that a commit writes what it changes.
//!
//! One row a document and one a rendering. What runs where: one row for all clusters that run the same, which names
//! some parts, and one a part. Applications are spread over parts by their names, so that a commit which changes one
//! application of clusters that differ all writes one part of each. Parts and lists are named by what they hold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use muster_proto::{
    ApplicationName, ClusterName, Content, DesiredApplication, Digest, Object, Settings,
};
use serde::{Deserialize, Serialize};

use super::{
    LastApplication, LastGood, Placement, Placements, Renderings, distinct, renderings,
    side_by_side,
};
use crate::model::Cluster;
use crate::problem::Location;

/// Over so many parts are the applications of a cluster spread.
const PARTS: u8 = 16;

/// A row of the store: what a document said, or what runs where. The value is opaque to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DocumentRow {
    /// Of an `Application`.
    Application {
        /// Where its document was.
        location: Location,
        /// What runs where, in stores from before there were [`Self::Placements`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        placements: Vec<PlacementRow>,
        /// Clusters where it only stays because its removal waits for a person's word.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        waiting: BTreeSet<ClusterName>,
    },
    /// A `Cluster`.
    Cluster(Cluster),
    /// Clusters that run the same.
    Placements {
        /// Which.
        clusters: Vec<ClusterName>,
        /// Names of the [`Self::Part`]s that say what.
        parts: Vec<Digest>,
    },
    /// Some of the applications of a cluster: those whose names fall to one part.
    Part(Vec<PlacementsRow>),
}

/// One application of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementsRow {
    application: ApplicationName,
    target: Arc<str>,
    digest: Digest,
}

/// Clusters on which the same variant of an application runs, as older stores say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRow {
    target: Arc<str>,
    digest: Digest,
    clusters: Vec<ClusterName>,
}

/// Which document: `Application/web` or `Cluster/eu-1`; `Placements/` and `Part/` go on with a digest.
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

impl Rows {
    /// Whether they are of a store from before clusters that run the same had one row: to be written anew.
    pub fn are_older(&self) -> bool {
        let of_old = |row: &DocumentRow| match row {
            DocumentRow::Application { placements, .. } => !placements.is_empty(),
            _ => false,
        };
        self.documents.values().any(of_old)
    }
}

impl LastGood {
    /// What changed since `older`; [`LastGood::default`] gives every row.
    pub fn changes_since(&self, older: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, application) in &self.applications {
            let before = older.applications.get(name);
            if before.is_some_and(|before| Arc::ptr_eq(before, application)) {
                continue;
            }
            let row = application.row();
            if before.map(|before| before.row()).as_ref() != Some(&row) {
                changes.put.documents.insert(application_key(name), row);
            }
            let nothing = Renderings::new();
            let had = before.map_or(&nothing, |before| &before.renderings);
            let each = side_by_side(
                had.iter(),
                application.renderings.iter(),
                |(a, _), (b, _)| a.cmp(b),
            );
            for (had, has) in each {
                match (had, has) {
                    (Some((digest, _)), None) => {
                        changes
                            .removed_renderings
                            .push(rendering_key(name, *digest));
                    }
                    (had, Some((digest, rendering))) => {
                        if had.map(|(_, had)| had) != Some(rendering)
                            && let Some(row) = RenderingRow::of(rendering)
                        {
                            let key = rendering_key(name, *digest);
                            changes.put.renderings.insert(key, row);
                        }
                    }
                    (None, None) => {}
                }
            }
        }
        for (name, before) in &older.applications {
            if self.applications.contains_key(name) {
                continue;
            }
            changes.removed_documents.push(application_key(name));
            let gone = before.renderings.keys();
            changes
                .removed_renderings
                .extend(gone.map(|digest| rendering_key(name, *digest)));
        }
        self.placements_since(older, &mut changes);
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

    fn placements_since(&self, older: &Self, changes: &mut Changes) {
        let touched = touched(&older.placements, &self.placements);
        if touched.is_empty() {
            return;
        }
        let (lists, before) = (lists(self, &touched), lists(older, &touched));
        let mut come: Vec<&Placements> = Vec::new();
        for (name, (list, clusters)) in &lists {
            let had = before.get(name);
            if had.is_some_and(|(_, had)| had == clusters) {
                continue;
            }
            let row = DocumentRow::Placements {
                clusters: clusters.iter().copied().cloned().collect(),
                parts: list.parts.clone(),
            };
            changes.put.documents.insert(placements_key(name), row);
            if had.is_none() {
                come.push(list);
            }
        }
        let new = not_in(older, come.iter().copied());
        for list in come {
            if !list.parts.iter().any(|part| new.contains(part)) {
                continue;
            }
            for part in parts(list).into_values() {
                let name = part_name(&part);
                if new.contains(&name) {
                    let rows = &mut changes.put.documents;
                    rows.entry(part_key(&name))
                        .or_insert_with(|| part_row(&part));
                }
            }
        }
        let gone = before.iter().filter(|(name, _)| !lists.contains_key(*name));
        let gone: Vec<_> = gone.collect();
        let names = gone.iter().map(|(name, _)| placements_key(name));
        changes.removed_documents.extend(names);
        let parts = not_in(self, gone.iter().map(|(_, (list, _))| &***list));
        changes.removed_documents.extend(parts.iter().map(part_key));
    }

    /// Reads rows back. A rendering that is missing or damaged is kept as it is in the clusters until it renders.
    pub fn from_rows(rows: Rows) -> Self {
        let mut last_good = Self::default();
        let mut stored: BTreeMap<RenderingKey, Arc<DesiredApplication>> = BTreeMap::new();
        for (key, row) in rows.renderings {
            if let Some(read) = row.read(&key) {
                stored.insert(key, Arc::new(read));
            }
        }
        let mut rendering = |application: &ApplicationName, digest| {
            let key = rendering_key(application, digest);
            let kept = || {
                let why = "its last good rendering is not in the hub's store any more";
                let name = application.clone();
                Arc::new(DesiredApplication::keep(name, String::new(), why.into()))
            };
            stored.entry(key).or_insert_with(kept).clone()
        };
        let mut applications = BTreeMap::new();
        let mut parts: HashMap<DocumentKey, Vec<Placement>> = HashMap::new();
        let mut of_lists = Vec::new();
        let mut of_old: BTreeMap<ClusterName, Vec<Placement>> = BTreeMap::new();
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
                    for row in placements {
                        let placement = Placement {
                            application: rendering(&name, row.digest),
                            target: row.target,
                        };
                        for cluster in row.clusters {
                            let list = of_old.entry(cluster).or_default();
                            list.push(placement.clone());
                        }
                    }
                    applications.insert(name, (location, waiting));
                }
                DocumentRow::Part(row) => {
                    let placements = row.into_iter().map(|row| Placement {
                        application: rendering(&row.application, row.digest),
                        target: row.target,
                    });
                    parts.insert(key, placements.collect());
                }
                DocumentRow::Placements { clusters, parts } => of_lists.push((clusters, parts)),
            }
        }
        for (clusters, names) in of_lists {
            let held = names.iter().filter_map(|part| parts.get(&part_key(part)));
            // Rows that were damaged may say one twice.
            let list: Arc<Placements> = Arc::new(held.flatten().cloned().collect());
            let clusters = clusters.into_iter();
            last_good
                .placements
                .extend(clusters.map(|cluster| (cluster, list.clone())));
        }
        let mut known: HashMap<Digest, Arc<Placements>> = HashMap::new();
        for (cluster, list) in of_old {
            let list: Placements = list.into_iter().collect();
            let list = known.entry(list.name()).or_insert_with(|| Arc::new(list));
            last_good.placements.insert(cluster, list.clone());
        }
        let lists = distinct(last_good.placements.values());
        let applications = applications.into_iter().map(|(name, (location, waiting))| {
            let application = LastApplication {
                location,
                renderings: Arc::new(renderings(&lists, &name)),
                waiting,
            };
            (name, Arc::new(application))
        });
        last_good.applications = applications.collect();
        last_good
    }
}

impl LastApplication {
    fn row(&self) -> DocumentRow {
        DocumentRow::Application {
            location: self.location.clone(),
            waiting: self.waiting.clone(),
            placements: Vec::new(),
        }
    }
}

/// Lists by name, with the clusters that have them.
type Lists<'l> = BTreeMap<Digest, (&'l Arc<Placements>, Vec<&'l ClusterName>)>;

/// What each cluster runs.
type ByCluster = BTreeMap<ClusterName, Arc<Placements>>;

/// Names of the lists that any cluster took or left.
fn touched(before: &ByCluster, now: &ByCluster) -> HashSet<Digest> {
    let each = side_by_side(before.iter(), now.iter(), |(a, _), (b, _)| a.cmp(b));
    let lists = each.map(|(had, has)| (had.map(|(_, list)| list), has.map(|(_, list)| list)));
    let changed = lists.filter(|(had, has)| had.map(Arc::as_ptr) != has.map(Arc::as_ptr));
    let changed = changed.flat_map(|(had, has)| had.into_iter().chain(has));
    changed.map(|list| list.name()).collect()
}

/// Of the lists with these names: who has them.
fn lists<'l>(last_good: &'l LastGood, names: &HashSet<Digest>) -> Lists<'l> {
    let mut lists = Lists::new();
    for (cluster, list) in &last_good.placements {
        if names.contains(&list.name()) {
            let (_, all) = lists
                .entry(list.name())
                .or_insert_with(|| (list, Vec::new()));
            all.push(cluster);
        }
    }
    lists
}

/// The parts of these lists that no list of a fleet has.
fn not_in<'l>(
    last_good: &LastGood,
    lists: impl Iterator<Item = &'l Placements>,
) -> BTreeSet<Digest> {
    let mut parts: HashSet<Digest> = lists.flat_map(|list| list.parts.iter().copied()).collect();
    for list in last_good.placements.values() {
        if parts.is_empty() {
            break;
        }
        for part in &list.parts {
            parts.remove(part);
        }
    }
    parts.into_iter().collect()
}

/// The part that an application falls to.
fn part_of(application: &ApplicationName) -> u8 {
    // Any function of the name would do.
    let sum = application.as_str().bytes();
    sum.fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) % PARTS
}

/// The parts that a list is made of, by number.
fn parts(list: &[Placement]) -> BTreeMap<u8, Vec<&Placement>> {
    let mut parts: BTreeMap<u8, Vec<&Placement>> = BTreeMap::new();
    for placement in list {
        let part = part_of(&placement.application.name);
        parts.entry(part).or_default().push(placement);
    }
    parts
}

/// Names a part by what it holds.
fn part_name(part: &[&Placement]) -> Digest {
    let applications = part.iter().map(|placement| &placement.application);
    let digests: Vec<Digest> = applications.map(|it| it.digest()).collect();
    let bytes = part.iter().zip(&digests).flat_map(|(placement, digest)| {
        let name = placement.application.name.as_str().as_bytes();
        [name, placement.target.as_bytes(), digest.as_bytes()]
    });
    Digest::of(bytes)
}

/// The names of what a list is made of, in their order.
pub(super) fn part_names(list: &[Placement]) -> Vec<Digest> {
    let parts = parts(list).into_values();
    let mut names: Vec<Digest> = parts.map(|part| part_name(&part)).collect();
    names.sort();
    names
}

/// A part as a row.
fn part_row(part: &[&Placement]) -> DocumentRow {
    let rows = part.iter().map(|placement| PlacementsRow {
        application: placement.application.name.clone(),
        target: placement.target.clone(),
        digest: placement.application.digest(),
    });
    DocumentRow::Part(rows.collect())
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

fn placements_key(name: &Digest) -> DocumentKey {
    format!("Placements/{name}")
}

fn part_key(name: &Digest) -> DocumentKey {
    format!("Part/{name}")
}

fn rendering_key(application: &ApplicationName, digest: Digest) -> RenderingKey {
    RenderingKey {
        application: application.clone(),
        digest,
    }
}
