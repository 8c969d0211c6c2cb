//! Plain YAML and JSON manifests, and the YAML that tools write.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::{DigestKey, Object, ObjectKey};

use super::{Manifest, Objects, Plain, Rendered, Wrong, hooks};
use crate::foreign;
use crate::model::document::API_VERSION;
use crate::problem::Location;
use crate::yaml::{self, Fault, Node, Value};

/// How many mistakes are told at a time.
const MOST: usize = 20;

/// The objects of all files, in the order of their paths. A `List` is its items; empty documents are left out.
/// `namespace` fills the objects that state none, for telling duplicates only; places are as they are `shown`.
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
    let mut gathered = Gathered::new(namespace, key, objects);
    for (path, _, bytes) in &closure.files {
        let path: Arc<str> = (*path).into();
        let at = |line| shown(Location::new(Arc::clone(&path), line));
        let documents = match path.ends_with(".json") {
            true => yaml::json_documents(bytes),
            false => yaml::documents(bytes),
        };
        let mine = |document: &Node| {
            let is_object = ["apiVersion", "kind"]
                .iter()
                .any(|it| document.get(it).is_some());
            !foreign::is_for_fleet(&path, is_object)
        };
        let documents = documents.map(|all| all.into_iter().filter(mine).collect());
        gathered.take(documents, at);
    }
    gathered.finish()
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
    let mut gathered = Gathered::new(namespace, key, objects);
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
    gathered.take(documents, at);
    gathered.finish()
}

/// The manifests found so far, and what is wrong with others.
struct Gathered<'a> {
    namespace: &'a str,
    key: &'a DigestKey,
    objects: &'a mut Objects,
    manifests: Vec<Manifest>,
    places: BTreeMap<ObjectKey, Location>,
    wrong: Vec<Wrong>,
}

impl<'a> Gathered<'a> {
    fn new(namespace: &'a str, key: &'a DigestKey, objects: &'a mut Objects) -> Self {
        Self {
            namespace,
            key,
            objects,
            manifests: Vec::new(),
            places: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    fn take(&mut self, documents: Result<Vec<Node>, Fault>, at: impl Fn(u32) -> Location) {
        let documents = documents.unwrap_or_else(|fault| {
            self.wrong.push(Wrong {
                location: at(fault.line),
                message: fault.message,
            });
            Vec::new()
        });
        for node in documents.iter().flat_map(items) {
            let location = at(node.line);
            if let Err(message) = self.put(node, &location) {
                self.wrong.push(Wrong { location, message });
            }
        }
    }

    fn put(&mut self, node: &Node, location: &Location) -> Result<(), String> {
        let object = object(node, self.key)?;
        let identity = filled(&object.key, self.namespace);
        if let Some(first) = self.places.get(&identity) {
            return Err(format!("{identity} is at {first} already"));
        }
        self.places.insert(identity, location.clone());
        self.manifests.push(Manifest {
            object: self.objects.share(Arc::new(object)),
            location: location.clone(),
        });
        Ok(())
    }

    fn finish(mut self) -> Rendered {
        if self.wrong.is_empty() {
            return Ok(Arc::new(self.manifests));
        }
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

/// The items of a list as `kubectl get -o yaml` writes it, else the document itself.
fn items(document: &Node) -> &[Node] {
    let is_list = document
        .text(&["kind"])
        .is_some_and(|kind| kind.ends_with("List"))
        && document.text(&["metadata", "name"]).is_none();
    match document.get("items").map(|items| &items.value) {
        Some(Value::List(items)) if is_list => items,
        _ => std::slice::from_ref(document),
    }
}

fn object(node: &Node, key: &DigestKey) -> Result<Object, String> {
    if node.text(&["apiVersion"]) == Some(API_VERSION) {
        return Err(format!(
            "documents of {API_VERSION} stand in files called muster.yaml"
        ));
    }
    Object::new(&node.to_json(), key).map_err(|invalid| invalid.to_string())
}
