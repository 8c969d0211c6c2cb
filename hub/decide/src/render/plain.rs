//! Manifests out of what files hold, and out of what tools write.

use std::sync::Arc;

use muster_proto::{DigestKey, ObjectKey};

use super::files::{Files, Found};
use super::{Manifest, Objects, Plain, Rendered, Wrong, hooks};
use crate::identity;
use crate::problem::Location;
use crate::yaml;

/// How many mistakes are told at a time.
const MOST: usize = 20;

/// The objects of all files, in the order of their paths. `namespace` fills the objects that state none, for telling
/// duplicates only; places are as they are `shown`.
///
/// # Errors
/// When a file can't be read, a document is no object, or two are the same object: all of it at once.
pub fn plain(
    closure: &Plain<'_>,
    shown: impl Fn(Location) -> Location,
    namespace: &str,
    key: &DigestKey,
    objects: &mut Objects,
) -> Rendered {
    let mut files = Files::default();
    plain_anew(closure, shown, namespace, key, &mut files, objects).0
}

/// The same, where files may be known; and what they hold, to be kept with the rendering.
pub(super) fn plain_anew(
    closure: &Plain<'_>,
    shown: impl Fn(Location) -> Location,
    namespace: &str,
    key: &DigestKey,
    files: &mut Files,
    objects: &mut Objects,
) -> (Rendered, Vec<Arc<Found>>) {
    let found = closure.files.iter();
    let found: Vec<Arc<Found>> = found.map(|file| files.read(*file, key, objects)).collect();
    let mut gathered = Gathered::default();
    for ((path, ..), found) in closure.files.iter().zip(&found) {
        let path: Arc<str> = (*path).into();
        gathered.take(found, |line| shown(Location::new(Arc::clone(&path), line)));
    }
    (gathered.finish(namespace), found)
}

/// The objects of a tool's output; `at` says where what begins at a line comes from. `hooks` of a chart become stages.
pub(super) fn output(
    bytes: &[u8],
    hooks: bool,
    at: impl Fn(u32) -> Location,
    namespace: &str,
    key: &DigestKey,
    objects: &mut Objects,
) -> Rendered {
    let mut gathered = Gathered::default();
    let documents = yaml::documents(bytes);
    let documents = match hooks {
        false => documents,
        true => documents.map(|documents| {
            let staged = hooks::stages(documents).into_iter();
            let kept = staged.filter_map(|staged| match staged {
                Ok(document) => Some(document),
                Err((line, message)) => {
                    let location = at(line);
                    gathered.wrong.push(Wrong { location, message });
                    None
                }
            });
            kept.collect()
        }),
    };
    gathered.take(&Found::of(documents, key, objects), at);
    gathered.finish(namespace)
}

/// The manifests found so far, and what is wrong with others.
#[derive(Default)]
struct Gathered {
    manifests: Vec<Manifest>,
    wrong: Vec<Wrong>,
}

impl Gathered {
    fn take(&mut self, found: &Found, at: impl Fn(u32) -> Location) {
        let wrong = found.wrong.iter().map(|(line, message)| Wrong {
            location: at(*line),
            message: message.clone(),
        });
        self.wrong.extend(wrong);
        let manifests = found.objects.iter().map(|(line, object)| Manifest {
            object: Arc::clone(object),
            location: at(*line),
        });
        self.manifests.extend(manifests);
    }

    fn finish(mut self, namespace: &str) -> Rendered {
        let written = self.manifests.iter();
        let written = written.map(|manifest| (&*manifest.object, &manifest.location));
        self.wrong.extend(identity::twice(written, namespace));
        if self.wrong.is_empty() {
            return Ok(Arc::new(self.manifests));
        }
        self.wrong
            .sort_by(|one, other| one.location.cmp(&other.location));
        self.wrong.truncate(MOST);
        Err(Arc::new(self.wrong))
    }
}

/// The identity of an object once its application's namespace is filled in. Only the cluster knows whether the kind
/// has namespaces at all; where it has none, both sides of a comparison carry the same useless namespace.
pub(crate) fn filled(key: &ObjectKey, namespace: &str) -> ObjectKey {
    let mut filled = key.clone();
    if filled.namespace.is_empty() {
        namespace.clone_into(&mut filled.namespace);
    }
    filled
}
