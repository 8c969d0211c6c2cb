//! Starts removals, last stage first, each when nothing of ours needs the object any more. Part of the engine's task.

use muster_proto::ObjectKey;

use super::launch::CONCURRENCY;
use super::state::State;
use super::work;
use crate::graph;
use crate::inventory::Entry;

impl State {
    pub(super) fn start_prunes(&mut self) {
        let mut stage = None;
        while self.flying.len() < CONCURRENCY {
            let Some((next, key)) = self.queue.prunes.first().cloned() else {
                return;
            };
            if stage.is_some_and(|stage| next != stage) {
                return;
            }
            self.queue.prunes.remove(&(next, key.clone()));
            if self.is_still_used(&key) {
                self.queue.held_prunes.insert(key);
                continue;
            }
            let Some(object) = self.objects.get_mut(&key) else {
                continue;
            };
            let Some(entry) = object.entry.clone() else {
                continue;
            };
            object.flying = true;
            stage = Some(next);
            let sight = object.sight.clone();
            self.flying
                .push(work::prune(self.client.clone(), key, entry, sight));
        }
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
