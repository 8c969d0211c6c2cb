//! Objects by kind, and the log of changes that watches read.
//!
//! In: objects to keep, each write under the next revision. Out: objects, lists, changes since a revision.
//! Everything is ordered by namespace and name. What a change may have consequences for ([`Store::next_touched`])
//! is for the garbage collector. A watch holds a place in its kind's log, and a wake-up
//! channel with the newest revision; a log forgets its oldest changes, and a watch that was further back
//! has to list again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::kinds::Resource;

/// How many changes a kind's log holds.
const LOG: usize = 2048;

/// All objects of one server.
#[derive(Debug, Default)]
pub struct Store {
    revision: u64,
    tables: BTreeMap<Resource, Table>,
    by_uid: BTreeMap<String, Place>,
    /// The owner's uid, and where it is named.
    dependents: BTreeSet<(String, Place)>,
    touched: BTreeSet<Place>,
}

/// Where an object is.
pub type Place = (Resource, Key);

/// Namespace (empty for cluster-wide kinds) and name.
pub type Key = (String, String);

#[derive(Debug)]
struct Table {
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    forgotten: u64,
    newest: watch::Sender<u64>,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its revision.
    pub revision: u64,
    /// The object after it; for a deletion, as it was, at this revision.
    pub object: Arc<Value>,
    /// The object before it, unless it was created.
    pub before: Option<Arc<Value>>,
    /// Whether the object is gone.
    pub deleted: bool,
}

/// A watch came too late: what it wants to know is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// The oldest revision one can still start from.
    pub oldest: u64,
}

impl Store {
    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    #[must_use]
    pub fn get(&self, resource: &Resource, key: &Key) -> Option<Arc<Value>> {
        self.tables.get(resource)?.objects.get(key).cloned()
    }

    /// The objects of a kind, in one namespace or (with an empty one) in all, by namespace and name.
    pub fn list<'a>(
        &'a self,
        resource: &Resource,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let table = self.tables.get(resource);
        let objects = table
            .into_iter()
            .flat_map(move |t| t.objects.range((namespace.to_owned(), String::new())..));
        objects.take_while(move |((ns, _), _)| namespace.is_empty() || ns == namespace)
    }

    /// Where anything lives in a namespace.
    #[must_use]
    pub fn contents(&self, namespace: &str) -> Vec<(Resource, Key)> {
        let of = |(resource, _): (&Resource, &Table)| {
            let keys = self.list(resource, namespace).map(|(key, _)| key.clone());
            keys.map(|key| (resource.clone(), key)).collect::<Vec<_>>()
        };
        self.tables.iter().flat_map(of).collect()
    }

    /// Keeps an object under the next revision, which is written into it.
    pub fn put(&mut self, resource: &Resource, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let revision = self.revision;
        let table = self.table(resource);
        let before = table.objects.insert(key.clone(), object.clone());
        table.record(Change {
            revision,
            object: object.clone(),
            before: before.clone(),
            deleted: false,
        });
        let place = (resource.clone(), key);
        if let Some(before) = &before {
            self.unindex(before, &place);
        }
        self.index(&object, place);
        object
    }

    /// Removes an object.
    pub fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Value>> {
        let before = self.table(resource).objects.remove(key)?;
        self.revision += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let last = Arc::new(last);
        let revision = self.revision;
        self.table(resource).record(Change {
            revision,
            object: last.clone(),
            before: Some(before),
            deleted: true,
        });
        self.unindex(&last, &(resource.clone(), key.clone()));
        if let Some(uid) = last["metadata"]["uid"].as_str() {
            self.by_uid.remove(uid);
            let dependents = self.dependents(uid);
            self.touched.extend(dependents);
        }
        // Its namespace or its definition may have waited for it.
        let waits = [
            (("", "namespaces"), key.0.clone()),
            (
                ("apiextensions.k8s.io", "customresourcedefinitions"),
                format!("{}.{}", resource.1, resource.0),
            ),
        ];
        for ((group, plural), name) in waits {
            let place = ((group.to_owned(), plural.to_owned()), (String::new(), name));
            if self.get(&place.0, &place.1).is_some() {
                self.touched.insert(place);
            }
        }
        Some(last)
    }

    /// The objects that name this one as their owner.
    #[must_use]
    pub fn dependents(&self, uid: &str) -> Vec<Place> {
        let start = (uid.to_owned(), Place::default());
        self.dependents
            .range(start..)
            .take_while(|(owner, _)| owner == uid)
            .map(|(_, place)| place.clone())
            .collect()
    }

    /// One object that a change may have consequences for; each is given out once a change.
    pub fn next_touched(&mut self) -> Option<Place> {
        self.touched.pop_first()
    }

    /// Has the garbage collector look at an object.
    pub fn touch(&mut self, place: Place) {
        self.touched.insert(place);
    }

    fn index(&mut self, object: &Value, place: Place) {
        let metadata = &object["metadata"];
        if let Some(uid) = metadata["uid"].as_str() {
            self.by_uid.insert(uid.to_owned(), place.clone());
            if metadata.get("deletionTimestamp").is_some() {
                let dependents = self.dependents(uid);
                self.touched.extend(dependents);
                self.touched.insert(place.clone());
            }
        }
        for uid in owners(object) {
            self.dependents.insert((uid.to_owned(), place.clone()));
            self.touched.extend(self.by_uid.get(uid).cloned());
            self.touched.insert(place.clone());
        }
    }

    fn unindex(&mut self, object: &Value, place: &Place) {
        for uid in owners(object) {
            self.dependents.remove(&(uid.to_owned(), place.clone()));
            self.touched.extend(self.by_uid.get(uid).cloned());
        }
    }

    /// The objects of a kind as they were at a revision.
    pub fn at(
        &self,
        resource: &Resource,
        namespace: &str,
        revision: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, Forgotten> {
        let mut objects: BTreeMap<Key, Arc<Value>> = self
            .list(resource, namespace)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for change in self.since(resource, revision)?.into_iter().rev() {
            let text = |field: &str| {
                let value = change.object["metadata"][field].as_str();
                value.unwrap_or_default().to_owned()
            };
            let key = (text("namespace"), text("name"));
            if !namespace.is_empty() && key.0 != namespace {
                continue;
            }
            match change.before {
                Some(before) => objects.insert(key, before),
                None => objects.remove(&key),
            };
        }
        Ok(objects)
    }

    /// Opens the log of a kind that begins to be served: nothing before now is known of it.
    pub fn open(&mut self, resource: &Resource) {
        if !self.tables.contains_key(resource) {
            let revision = self.revision;
            self.table(resource).forgotten = revision;
        }
    }

    /// The changes of a kind after a revision.
    pub fn since(&self, resource: &Resource, revision: u64) -> Result<Vec<Change>, Forgotten> {
        let Some(table) = self.tables.get(resource) else {
            return Ok(Vec::new());
        };
        if revision < table.forgotten {
            return Err(Forgotten {
                oldest: table.forgotten,
            });
        }
        let first = table.log.partition_point(|c| c.revision <= revision);
        Ok(table.log.range(first..).cloned().collect())
    }

    /// Wakes at each change of a kind.
    pub fn subscribe(&mut self, resource: &Resource) -> watch::Receiver<u64> {
        self.table(resource).newest.subscribe()
    }

    /// Forgets all logs: watches from an older revision must list again.
    pub fn forget(&mut self) {
        for table in self.tables.values_mut() {
            table.log.clear();
            table.forgotten = self.revision;
            // Wakes watches that lag, so that they learn it now.
            table.newest.send_replace(self.revision);
        }
    }

    fn table(&mut self, resource: &Resource) -> &mut Table {
        self.tables
            .entry(resource.clone())
            .or_insert_with(|| Table {
                objects: BTreeMap::new(),
                log: VecDeque::new(),
                forgotten: 0,
                newest: watch::Sender::new(0),
            })
    }
}

/// The uids an object names as its owners.
fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let list = object["metadata"]["ownerReferences"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(|owner| owner["uid"].as_str())
}

impl Table {
    fn record(&mut self, change: Change) {
        let revision = change.revision;
        self.log.push_back(change);
        while self.log.len() > LOG {
            if let Some(old) = self.log.pop_front() {
                self.forgotten = old.revision;
            }
        }
        self.newest.send_replace(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> Resource {
        (String::new(), "configmaps".to_owned())
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn lists_are_ordered_and_kept_to_a_namespace() {
        let mut store = Store::default();
        for (namespace, name) in [("b", "1"), ("a", "2"), ("a", "1"), ("ab", "1")] {
            store.put(&resource(), key(namespace, name), json!({"metadata": {}}));
        }
        let names = |ns: &str| -> Vec<String> {
            store
                .list(&resource(), ns)
                .map(|((ns, n), _)| format!("{ns}/{n}"))
                .collect()
        };
        assert_eq!(names("a"), ["a/1", "a/2"]);
        assert_eq!(names(""), ["a/1", "a/2", "ab/1", "b/1"]);
        assert_eq!(store.contents("b"), [(resource(), key("b", "1"))]);
    }

    #[test]
    fn changes_are_read_from_a_revision_until_they_are_forgotten() {
        let mut store = Store::default();
        let first = store.put(&resource(), key("a", "1"), json!({"metadata": {}}));
        assert_eq!(first["metadata"]["resourceVersion"], "1");
        store.put(
            &resource(),
            key("a", "1"),
            json!({"metadata": {"labels": {"x": "y"}}}),
        );
        store.remove(&resource(), &key("a", "1"));
        let changes = store.since(&resource(), 1).unwrap();
        assert_eq!(
            changes.iter().map(|c| c.revision).collect::<Vec<_>>(),
            [2, 3]
        );
        assert!(changes[1].deleted);
        assert_eq!(changes[1].object["metadata"]["resourceVersion"], "3");
        store.forget();
        assert_eq!(store.since(&resource(), 2).unwrap_err().oldest, 3);
        assert!(store.since(&resource(), 3).unwrap().is_empty());
    }

    #[test]
    fn a_long_log_forgets_its_beginning() {
        let mut store = Store::default();
        for _ in 0..LOG + 2 {
            store.put(&resource(), key("a", "1"), json!({"metadata": {}}));
        }
        assert_eq!(store.since(&resource(), 1).unwrap_err().oldest, 2);
        assert_eq!(store.since(&resource(), 2).unwrap().len(), LOG);
    }
}
