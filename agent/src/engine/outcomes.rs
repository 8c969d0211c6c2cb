//! Takes in what came of a call. Part of the engine's task.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use muster_proto::Digest;
use tokio::time::Instant;

use super::object::Tracked;
use super::queue::Key;
use super::state::{State, planned};
use super::work::Outcome;
use crate::apply::Failure;
use crate::discovery::Kind;
use crate::inventory::{self, Entry};
use crate::live::watches;
use crate::live::{Sight, look};
use crate::prune::Pruned;
use crate::{drift, graph};

/// A deletion that goes on is looked at again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What blocks a removal is looked at again; each time it takes double as long.
const TRY_AGAIN: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl State {
    /// Takes in what came of a call.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.brake(&outcome);
        match outcome {
            Outcome::Applied {
                key,
                kind,
                digest,
                result,
            } => self.applied(&key, &kind, digest, result),
            Outcome::Compared { key, result } => self.compared(&key, result),
            Outcome::Pruned { key, result } => self.pruned(&key, result),
            Outcome::Looked { id, keys, result } => {
                let kind = self.watches.kind(&id).cloned();
                for key in &keys {
                    if let Some(object) = self.objects.get_mut(key) {
                        object.looking = false;
                    }
                }
                match (result, kind) {
                    (Ok(found), Some(kind)) => {
                        for object in found {
                            self.seen(&watches::key(&kind, &object), &kind, &object);
                        }
                        for key in keys {
                            self.not_found(&key);
                        }
                    }
                    // Watched no longer, so nobody wants to know.
                    (Ok(_), None) => {}
                    (Err(failure), _) => {
                        for key in keys {
                            self.look_failed(key, failure.clone());
                        }
                    }
                }
            }
            Outcome::Fetched { key, kind, result } => {
                let Some(object) = self.objects.get_mut(&key) else {
                    return;
                };
                object.looking = false;
                match result {
                    Ok(Some(found)) => self.seen(&key, &kind, &found),
                    Ok(None) => self.gone(&key),
                    Err(failure) => self.look_failed(key.clone(), failure),
                }
                self.after_change(key);
            }
            Outcome::Pods { key, result } => self.pods_seen(&key, result),
            Outcome::Rebuilt(found) => self.rebuilt(found),
            Outcome::Discovered(answers) => self.discovered(answers),
        }
    }

    /// A look found others and not this one.
    fn not_found(&mut self, key: &Key) {
        let unknown = |object: &Tracked| object.sight == Sight::Unknown;
        if self.objects.get(key).is_some_and(unknown) {
            self.gone(key);
        }
        self.after_change(key.clone());
    }

    fn look_failed(&mut self, key: Key, failure: Failure) {
        if let Some(object) = self.objects.get_mut(&key) {
            object.sight = Sight::Unknown;
            let at = object.failed(failure, Instant::now());
            self.queue.at(at, key.clone());
            self.after_change(key);
        }
    }

    pub(super) fn applied(
        &mut self,
        key: &Key,
        kind: &Arc<Kind>,
        digest: Digest,
        result: Result<Box<DynamicObject>, Failure>,
    ) {
        let stage = graph::stage(&key.group, &key.kind);
        self.queue.applying.remove(&(stage, key.clone()));
        let now = Instant::now();
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.flying = false;
        match result {
            Err(failure) => {
                tracing::warn!(object = %key, error = %failure.message, "an apply failed; tried again");
                let at = object.failed(failure, now);
                self.queue.at(at, key.clone());
            }
            Ok(answer) => {
                let mut seen = look(&answer, kind, object.rule());
                if let Some(wanted) = &object.wanted {
                    seen.wanted(wanted, &answer);
                }
                let states_replicas = object.wanted.as_ref().is_some_and(|wanted| wanted.replicas);
                let ours = drift::our_entry(answer.managed_fields());
                let entry = match (&object.wanted, &object.entry) {
                    (Some(wanted), _) => planned(key, wanted, &self.resolved.graph),
                    (None, Some(entry)) => entry.clone(),
                    (None, None) => return,
                };
                let entry = Entry {
                    api_version: ours
                        .and_then(|ours| ours.api_version.clone())
                        .unwrap_or_else(|| kind.resource.api_version.clone()),
                    uid: Some(seen.uid.clone()),
                    // What is being deleted was applied to no avail: again when it is gone.
                    digest: Some(digest).filter(|_| !seen.terminating),
                    fields: ours.map(drift::field_set).map(|fields| match &seen.left {
                        Some(left) => left.remembered(fields, states_replicas),
                        None => fields,
                    }),
                    values: seen.values,
                    ..entry
                };
                let repair = object.standing_drift().is_some();
                object.applied(repair, now, self.clock.now());
                if object.entry.as_ref() != Some(&entry) {
                    self.unsaved
                        .insert(inventory::item(key), Some(entry.write()));
                    object.entry = Some(entry);
                }
                let newer = object.sight.object().is_none_or(|before| {
                    before.uid != seen.uid || before.resource_version <= seen.resource_version
                });
                if newer {
                    object.sight = Sight::Present(seen);
                }
                if repair {
                    tracing::info!(object = %key, "drift was repaired");
                    self.note_drift_row(key);
                }
            }
        }
        self.after_change(key.clone());
    }

    pub(super) fn note_drift_row(&mut self, key: &Key) {
        if let Some(drift) = self
            .objects
            .get(key)
            .and_then(|object| object.drift.as_ref())
        {
            self.unsaved.insert(
                inventory::drift_item(key),
                Some(inventory::write_drift(drift)),
            );
        }
        self.rows_changed = true;
    }

    pub(super) fn pruned(&mut self, key: &Key, result: Result<Pruned, Failure>) {
        let now = Instant::now();
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.flying = false;
        let stage = graph::stage(&key.group, &key.kind);
        self.queue.pruning.remove(&(Reverse(stage), key.clone()));
        match result {
            Ok(Pruned::Gone) => {
                object.sight = Sight::Absent;
                tracing::info!(object = %key, "removed");
                self.forget(key);
            }
            Ok(Pruned::NotOurs(why)) => {
                tracing::info!(object = %key, %why, "an object that left Git is left alone");
                self.forget(key);
            }
            Ok(Pruned::Going) => {
                object.not_before = Some(now + LOOK_AGAIN);
                self.queue.at(now + LOOK_AGAIN, key.clone());
            }
            Ok(Pruned::Blocked(why)) => {
                object.blocked = Some(why);
                let wait = TRY_AGAIN * (1 << object.failures.min(8));
                object.failures += 1;
                let at = now + wait.min(LONGEST_WAIT);
                object.not_before = Some(at);
                self.queue.at(at, key.clone());
            }
            Err(failure) => {
                tracing::warn!(object = %key, error = %failure.message, "a removal failed; tried again");
                let at = object.failed(failure, now);
                self.queue.at(at, key.clone());
            }
        }
        self.queue.release_prunes();
        self.after_change(key.clone());
    }
}
