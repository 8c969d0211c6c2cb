//! Starts removals, last stage first, each when nothing of ours needs the object any more. Part of the engine's task.

use muster_proto::ObjectKey;

use super::launch::CONCURRENCY;
use super::object::Tracked;
use super::state::State;
use super::work;
use crate::graph;
use crate::inventory::Entry;

impl State {
    pub(super) fn start_prunes(&mut self) {
        // One stage at a time; what is in flight belongs to a stage too.
        let mut stage = self.queue.pruning.first().map(|(stage, _)| *stage);
        while self.flying.len() < CONCURRENCY {
            let Some((next, key)) = self.queue.prunes.first().cloned() else {
                return;
            };
            if stage.is_some_and(|stage| next != stage) {
                return;
            }
            self.queue.prunes.remove(&(next, key.clone()));
            let waits = self.removal_waits_for(&key);
            let Some(object) = self.objects.get_mut(&key) else {
                continue;
            };
            let Some(entry) = object.entry.clone() else {
                continue;
            };
            if let Some(waits) = waits {
                self.rows_changed |= object.waits != waits;
                object.waits = waits;
                self.queue.held_prunes.insert(key);
                continue;
            }
            object.waits.clear();
            object.flying = true;
            stage = Some(next);
            self.queue.pruning.insert((next, key.clone()));
            let sight = object.sight.clone();
            self.flying
                .push(work::prune(self.client.clone(), key, entry, sight));
        }
    }

    /// What must be gone before, in words.
    fn removal_waits_for(&self, key: &ObjectKey) -> Option<String> {
        if self.is_still_used(key) {
            return Some("waits until nothing of ours uses it any more".into());
        }
        let entry = self.objects.get(key)?.entry.as_ref()?;
        let holder = self.holds.holder(key, entry)?;
        let why = match self.objects.get(holder) {
            Some(Tracked {
                wanted: Some(_), ..
            }) => "which still uses it",
            _ => "which goes first",
        };
        Some(format!("waits for {holder}, {why}"))
    }

    /// Does anything of ours still stand in this namespace, or is of this definition?
    pub(super) fn is_still_used(&self, key: &ObjectKey) -> bool {
        let mut ours = self
            .objects
            .iter()
            .filter(|(_, object)| object.entry.is_some());
        if graph::is_namespace(key) {
            return ours.any(|(other, _)| other.namespace == key.name);
        }
        if graph::is_definition(key) {
            let suffix = |other: &ObjectKey| {
                key.name
                    .strip_suffix(&format!(".{}", other.group))
                    .is_some()
            };
            let used = |other: &ObjectKey, entry: &Entry| {
                let kind = self.catalogue.kind(&entry.api_version, &other.kind);
                kind.is_none_or(|kind| {
                    key.name == format!("{}.{}", kind.resource.plural, other.group)
                })
            };
            return ours.any(|(other, object)| {
                !other.group.is_empty()
                    && suffix(other)
                    && object
                        .entry
                        .as_ref()
                        .is_some_and(|entry| used(other, entry))
            });
        }
        false
    }
}
