//! What files of manifests hold, from commit to commit: a commit parses the files that it touches.
//!
//! In: a file, by its path and the id that Git knows it by. Out: its objects, and what is wrong in it, by line. It is
//! kept for as long as a rendering holds it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use muster_proto::{Digest, DigestKey, Object};

use super::Objects;
use crate::foreign;
use crate::model::document::API_VERSION;
use crate::yaml::{self, Fault, Node, Value};

/// What was read, by path and id.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<Digest, Arc<Found>>);

/// What stands in a text, by the line that it begins at.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order that they are written in. A `List` is its items; empty documents are left out.
    pub(super) objects: Vec<(u32, Arc<Object>)>,
    /// One sentence for each mistake.
    pub(super) wrong: Vec<(u32, String)>,
}

impl Files {
    /// What a file holds; `objects` makes equal ones one allocation.
    pub(super) fn read(
        &mut self,
        (path, oid, bytes): (&str, &str, &Bytes),
        key: &DigestKey,
        objects: &mut Objects,
    ) -> Arc<Found> {
        let found = self.0.entry(Digest::of([path, oid]));
        let found = found.or_insert_with(|| Arc::new(read(path, bytes, key, objects)));
        Arc::clone(found)
    }

    /// How many files are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets what no rendering holds.
    pub(super) fn end_of_commit(&mut self) {
        self.0.retain(|_, found| Arc::strong_count(found) > 1);
    }
}

fn read(path: &str, bytes: &[u8], key: &DigestKey, objects: &mut Objects) -> Found {
    let documents = match path.ends_with(".json") {
        true => yaml::json_documents(bytes),
        false => yaml::documents(bytes),
    };
    let mine = |document: &Node| {
        let is_object = ["apiVersion", "kind"]
            .iter()
            .any(|it| document.get(it).is_some());
        !foreign::is_for_fleet(path, is_object)
    };
    let documents = documents.map(|all| all.into_iter().filter(mine).collect());
    Found::of(documents, key, objects)
}

impl Found {
    /// The objects of documents.
    pub(super) fn of(
        documents: Result<Vec<Node>, Fault>,
        key: &DigestKey,
        objects: &mut Objects,
    ) -> Self {
        let mut found = Self::default();
        let documents = documents.unwrap_or_else(|fault| {
            found.wrong.push((fault.line, fault.message));
            Vec::new()
        });
        for node in documents.iter().flat_map(items) {
            match object(node, key) {
                Ok(object) => {
                    let shared = objects.share(Arc::new(object));
                    found.objects.push((node.line, shared));
                }
                Err(message) => found.wrong.push((node.line, message)),
            }
        }
        found
    }
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
