//! Plain YAML and JSON manifests.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::{DigestKey, Object, ObjectKey};

use super::{Closure, Manifest, Objects, Rendered, Wrong};
use crate::model::document::API_VERSION;
use crate::problem::Location;
use crate::yaml::{self, Node, Value};

/// How many mistakes are told at a time.
const MOST: usize = 20;

/// The objects of all files, in the order of their paths. A `List` is its items; empty documents are left out.
/// `namespace` fills the objects that state none, for telling duplicates only.
///
/// # Errors
/// When a file can't be read, a document is no object, or two are the same object: all of it at once.
pub fn plain(
    closure: &Closure<'_>,
    namespace: &str,
    key: &DigestKey,
    objects: &mut Objects,
) -> Rendered {
    let mut manifests: Vec<Manifest> = Vec::new();
    let mut places: BTreeMap<ObjectKey, Location> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (path, _, bytes) in &closure.files {
        let path: Arc<str> = (*path).into();
        let at = |line| Location::new(Arc::clone(&path), line);
        let documents = match path.ends_with(".json") {
            true => yaml::json_documents(bytes),
            false => yaml::documents(bytes),
        };
        let documents = documents.unwrap_or_else(|fault| {
            wrong.push(Wrong {
                location: at(fault.line),
                message: fault.message,
            });
            Vec::new()
        });
        for node in documents.iter().flat_map(items) {
            let location = at(node.line);
            let object = match object(node, key) {
                Ok(object) => object,
                Err(message) => {
                    wrong.push(Wrong { location, message });
                    continue;
                }
            };
            let identity = filled(&object.key, namespace);
            if let Some(first) = places.get(&identity) {
                let message = format!("{identity} is at {first} already");
                wrong.push(Wrong { location, message });
                continue;
            }
            places.insert(identity, location.clone());
            manifests.push(Manifest {
                object: objects.share(Arc::new(object)),
                location,
            });
        }
    }
    if wrong.is_empty() {
        return Ok(Arc::new(manifests));
    }
    wrong.truncate(MOST);
    Err(Arc::new(wrong))
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
