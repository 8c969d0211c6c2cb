//! Starts removals, last stage first, each when nothing of ours needs the object any more. Part of the engine's task.

use muster_proto::ObjectKey;

use super::launch::CONCURRENCY;
use super::object::Tracked;
use super::queue::Key;
use super::state::State;
use super::work;
use crate::graph;
use crate::inventory::Entry;
use crate::live::Sight;

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
            let lives_on = self.lives_on_as(&key);
            let Some(object) = self.objects.get_mut(&key) else {
                continue;
            };
            let Some(entry) = object.entry.clone() else {
                continue;
            };
            if let Some(other) = &lives_on {
                tracing::info!(object = %key, %other, "an object that left Git lives on as another");
                self.forget(&key);
                continue;
            }
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
        if let Some(other) = self.unseen_namesake(key) {
            return Some(format!("waits for a look at {other}"));
        }
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

    /// The wanted object that this one is too: one object shows under several API groups, with one UID. To remove it
    /// under the group that left Git would remove it under the other.
    fn lives_on_as(&self, key: &ObjectKey) -> Option<Key> {
        let uid = uid(self.objects.get(key)?)?;
        let same = |(other, object): &(&Key, &Tracked)| {
            other.name == key.name && object.wanted.is_some() && self::uid(object) == Some(uid)
        };
        self.objects
            .iter()
            .find(same)
            .map(|(other, _)| other.clone())
    }

    /// A wanted object of this kind and name in another API group that nobody has looked at yet.
    fn unseen_namesake(&self, key: &ObjectKey) -> Option<&Key> {
        let namesake = |(other, object): &(&Key, &Tracked)| {
            other.name == key.name
                && other.kind == key.kind
                && other.namespace == key.namespace
                && object.wanted.is_some()
                && object.sight == Sight::Unknown
        };
        self.objects.iter().find(namesake).map(|(other, _)| other)
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

/// By what was seen, else by what was applied.
fn uid(object: &Tracked) -> Option<&str> {
    let applied = || object.entry.as_ref()?.uid.as_deref();
    let seen = object.sight.object().map(|seen| seen.uid.as_str());
    seen.or_else(applied)
}
