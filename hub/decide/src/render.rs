//! From files to objects: every variant once, whatever the number of clusters.
//!
//! In: the folder of a variant in a [`Snapshot`]. Out: its [`Manifest`]s, or everything that is wrong with them, with
//! file and line. A rendering is a function of the files that it reads ([`Closure`]), so [`Closure::key`] names its
//! result, and [`Cache`] finds it again at the next commit.
//!
//! This version renders plain YAML ([`plain`]); a folder for kustomize or Helm says so and fails.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use muster_proto::{Digest, DigestKey, Object};

use crate::problem::Location;
use crate::snapshot::Snapshot;

mod closure;
mod plain;
#[cfg(test)]
mod tests;

pub use closure::{Closure, closure};
pub(crate) use plain::filled;
pub use plain::plain;

/// One object and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What is applied; equal objects are one allocation.
    pub object: Arc<Object>,
    /// The line it begins at.
    pub location: Location,
}

/// The manifests of one variant in the order of their files, or what is wrong with them.
pub type Rendered = Result<Arc<Vec<Manifest>>, Arc<Vec<Wrong>>>;

/// Why something does not render.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// Where.
    pub location: Location,
    /// One sentence; quotes no values.
    pub message: String,
}

/// Renderings of earlier commits, by content. Losing it costs time, nothing else.
#[derive(Debug, Default)]
pub struct Cache {
    renderings: HashMap<Digest, Rendered>,
    used: BTreeSet<Digest>,
    objects: Objects,
}

/// Objects by digest, so that equal ones are one allocation.
#[derive(Debug, Default)]
pub struct Objects(HashMap<Digest, Arc<Object>>);

impl Objects {
    /// The one allocation of an object.
    pub fn share(&mut self, object: Arc<Object>) -> Arc<Object> {
        let shared = self.0.entry(object.digest).or_insert(object);
        Arc::clone(shared)
    }
}

impl Cache {
    /// An empty cache that knows the objects of what was decided before, so that equal ones are shared with them. Later
    /// on it knows them anyway.
    pub fn knowing<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>>) -> Self {
        let mut cache = Self::default();
        for object in objects {
            cache.objects.share(Arc::clone(object));
        }
        cache
    }

    /// Renders a folder, or finds the rendering of the same files.
    pub(crate) fn render(
        &mut self,
        snapshot: &Snapshot,
        homes: &BTreeSet<String>,
        folder: &Location,
        path: &str,
        namespace: &str,
        key: &DigestKey,
    ) -> Rendered {
        let closure = closure(snapshot, homes, path).map_err(|mut wrong| {
            for wrong in &mut wrong {
                if wrong.location.file.is_empty() {
                    wrong.location = folder.clone();
                }
            }
            Arc::new(wrong)
        })?;
        let digest = closure.key(namespace);
        self.used.insert(digest);
        let objects = &mut self.objects;
        let rendered = self.renderings.entry(digest);
        rendered
            .or_insert_with(|| plain(&closure, namespace, key, objects))
            .clone()
    }

    /// Forgets what was not asked for since the last call.
    pub(crate) fn end_of_commit(&mut self) {
        let used = std::mem::take(&mut self.used);
        self.renderings.retain(|digest, _| used.contains(digest));
        self.objects
            .0
            .retain(|_, object| Arc::strong_count(object) > 1);
    }
}
