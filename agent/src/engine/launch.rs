//! Starts what is queued, in order and a few at a time, and takes in what came of it. Part of the engine's task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use muster_proto::{Digest, DriftKind, ObjectKey};
use tokio::time::Instant;

use super::queue::Key;
use super::state::{State, clock, planned};
use super::work::{self, Outcome, Pruned};
use crate::apply::Failure;
use crate::discovery::Kind;
use crate::inventory::{self, Entry};
use crate::ledger::{Change, LedgerError};
use crate::live::watches;
use crate::live::{Sight, look};
use crate::plan::Step;
use crate::{drift, graph};

/// Calls on their way at once.
const CONCURRENCY: usize = 8;
/// After a failed write of the ledger.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// A deletion that goes on is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What blocks the removal of a namespace is looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

impl State {
    /// Decides about what is dirty, writes ahead what is new, and starts as much as may be on its way.
    ///
    /// # Errors
    /// [`LedgerError::Lost`]: nothing may be written any more.
    pub(super) async fn launch(&mut self) -> Result<(), LedgerError> {
        let now = Instant::now();
        self.queue.ring(now);
        while let Some(key) = self.queue.dirty.pop_first() {
            self.decide(key, now);
        }
        self.discover_when_due(now);
        self.write_ahead(now).await?;
        self.start_looks();
        self.start_applies();
        let applying =
            !self.queue.applies.is_empty() || !self.queue.looks.is_empty() || self.is_flying();
        if !applying {
            self.start_prunes();
        }
        if self.queue.is_quiet() && !self.is_flying() || self.unsaved.len() > 500 {
            self.settle(now).await?;
        }
        Ok(())
    }

    fn is_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Puts an object where its step belongs.
    fn decide(&mut self, key: Key, now: Instant) {
        self.queue.take_out(&key);
        let Some(object) = self.objects.get_mut(&key) else {
            return;
        };
        if object.flying || object.looking {
            return;
        }
        let step = object.step(&key, &self.guards);
        if let Some(at) = object.not_before.filter(|at| *at > now) {
            self.queue.at(at, key);
            return;
        }
        match step {
            Step::InSync if object.entry.is_some() && object.standing_drift().is_some() => {
                // Somebody put it back before we did.
                object.applied(false, now, clock());
                self.note_drift_row(&key);
            }
            Step::Look => {
                let Some(wanted) = &object.wanted else { return };
                let resource = &wanted.kind.resource;
                let id = (resource.api_version.clone(), resource.kind.clone());
                self.queue
                    .looks
                    .entry((id, key.namespace.clone()))
                    .or_default()
                    .insert(key);
            }
            Step::Apply => {
                if object.entry.is_none() {
                    self.queue.unwritten.insert(key.clone());
                }
                self.queue.apply(key);
            }
            Step::Repair(DriftKind::Changed) if object.standing_drift().is_none() => {
                // Learn who changed what before it is overwritten.
                if let Some(kind) = object.wanted.as_ref().map(|wanted| wanted.kind.clone()) {
                    object.sight = Sight::Unknown;
                    self.fetch(key, kind);
                }
            }
            Step::Repair(_) => match object.patience(now) {
                Some(at) => self.queue.at(at, key),
                None => self.queue.apply(key),
            },
            Step::Prune => self.queue.prune(key),
            Step::Abandon(why) => {
                tracing::info!(object = %key, %why, "an object that left Git is left alone");
                self.forget(&key);
            }
            // Written ahead, and then somebody else turned out to have it.
            Step::Conflict(_)
                if object
                    .entry
                    .as_ref()
                    .is_some_and(|entry| entry.uid.is_none()) =>
            {
                object.entry = None;
                self.unsaved.insert(inventory::item(&key), None);
            }
            Step::InSync
            | Step::Leave(_)
            | Step::Conflict(_)
            | Step::Wait(_)
            | Step::Blocked(_)
            | Step::Stays(_) => {}
        }
    }

    fn discover_when_due(&mut self, now: Instant) {
        if self.discovering || self.discovery_at.is_none_or(|at| at > now) {
            return;
        }
        self.discovery_at = None;
        let unknown: Vec<String> = self.api_versions(&self.desired).into_iter().collect();
        if unknown.is_empty() {
            return;
        }
        self.discovering = true;
        let client = self.client.clone();
        self.flying.push(Box::pin(async move {
            Outcome::Discovered(work::discover(&client, unknown).await)
        }));
    }

    /// Everything that is applied is in the inventory before.
    async fn write_ahead(&mut self, now: Instant) -> Result<(), LedgerError> {
        if self.save_not_before.is_some_and(|at| at > now) {
            return Ok(());
        }
        let mut change = Change::new();
        let mut entries: Vec<(Key, Entry)> = Vec::new();
        for key in &self.queue.unwritten {
            let Some(object) = self.objects.get(key) else {
                continue;
            };
            if let (None, Some(wanted)) = (&object.entry, &object.wanted) {
                let entry = planned(wanted);
                change.insert(inventory::item(key), Some(entry.write()));
                entries.push((key.clone(), entry));
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        if self.try_save(&change, now).await? {
            self.queue.unwritten.clear();
            for (key, entry) in entries {
                if let Some(object) = self.objects.get_mut(&key) {
                    object.entry = Some(entry);
                }
            }
        }
        Ok(())
    }

    /// Writes what is known after the work.
    async fn settle(&mut self, now: Instant) -> Result<(), LedgerError> {
        if self.unsaved.is_empty() || self.save_not_before.is_some_and(|at| at > now) {
            return Ok(());
        }
        let change = std::mem::take(&mut self.unsaved);
        if !self.try_save(&change, now).await? {
            self.unsaved = change;
        }
        Ok(())
    }

    async fn try_save(&mut self, change: &Change, now: Instant) -> Result<bool, LedgerError> {
        match self.save(change).await {
            Ok(()) => {
                self.save_not_before = None;
                Ok(true)
            }
            Err(LedgerError::Lost(why)) => Err(LedgerError::Lost(why)),
            Err(error) => {
                tracing::warn!(%error, "the ledger can't be written; tried again");
                self.save_not_before = Some(now + SAVE_AGAIN);
                Ok(false)
            }
        }
    }

    fn start_looks(&mut self) {
        let ready: Vec<_> = self
            .queue
            .looks
            .keys()
            .filter(|(id, _)| self.is_listed(id))
            .cloned()
            .collect();
        for place in ready {
            if self.flying.len() >= CONCURRENCY {
                return;
            }
            let keys = self.queue.looks.remove(&place).unwrap_or_default();
            let (id, namespace) = place;
            let Some(kind) = self.watches.kind(&id).cloned() else {
                continue;
            };
            let unknown = |key: &Key| {
                let object = self.objects.get(key);
                object
                    .is_some_and(|object| object.wanted.is_some() && object.sight == Sight::Unknown)
            };
            let keys: BTreeSet<Key> = keys.into_iter().filter(unknown).collect();
            if keys.is_empty() {
                continue;
            }
            for key in &keys {
                if let Some(object) = self.objects.get_mut(key) {
                    object.looking = true;
                }
            }
            self.flying
                .push(work::look(self.client.clone(), id, kind, namespace, keys));
        }
    }

    fn start_applies(&mut self) {
        // One stage at a time; what is in flight belongs to a stage too.
        let mut stage = self.queue.applying.first().map(|(stage, _)| *stage);
        while self.flying.len() < CONCURRENCY {
            let unready = |(_, key): &&(u8, Key)| {
                self.objects
                    .get(key)
                    .is_some_and(|object| object.entry.is_some())
            };
            let Some((next, key)) = self.queue.applies.iter().find(unready).cloned() else {
                return;
            };
            if stage.is_some_and(|stage| next > stage) {
                return;
            }
            self.queue.applies.remove(&(next, key.clone()));
            let waits = self.waits_for(&key);
            let make_namespace = !self
                .resolved
                .wanted
                .contains_key(&graph::namespace_key(&key.namespace));
            let Some(object) = self.objects.get_mut(&key) else {
                continue;
            };
            let Some(wanted) = &object.wanted else {
                continue;
            };
            if let Some(waits) = waits {
                object.waits = waits;
                self.queue.blocked.insert(key);
                self.rows_changed = true;
                continue;
            }
            object.waits.clear();
            object.flying = true;
            stage = Some(next);
            self.queue.applying.insert((next, key.clone()));
            self.flying.push(work::apply(
                self.client.clone(),
                key,
                wanted,
                make_namespace,
            ));
        }
    }

    fn start_prunes(&mut self) {
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
    fn is_still_used(&self, key: &ObjectKey) -> bool {
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

    /// Takes in what came of a call.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Applied {
                key,
                kind,
                digest,
                result,
            } => self.applied(&key, &kind, digest, result),
            Outcome::Pruned { key, result } => self.pruned(&key, result),
            Outcome::Looked { id, keys, result } => {
                let kind = self.watches.kind(&id).cloned();
                for key in &keys {
                    let Some(object) = self.objects.get_mut(key) else {
                        continue;
                    };
                    object.looking = false;
                    match &result {
                        Err(failure) => {
                            let at = object.failed(failure.clone(), Instant::now());
                            self.queue.at(at, key.clone());
                        }
                        Ok(_) if object.sight == Sight::Unknown => object.sight = Sight::Absent,
                        Ok(_) => {}
                    }
                    self.after_change(key.clone());
                }
                for object in result.unwrap_or_default() {
                    if let Some(kind) = &kind {
                        self.seen(&watches::key(kind, &object), kind, &object);
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
                    Err(failure) => {
                        object.sight = Sight::Unknown;
                        let at = object.failed(failure, Instant::now());
                        self.queue.at(at, key.clone());
                    }
                }
                self.after_change(key);
            }
            Outcome::Discovered(answers) => self.discovered(answers),
        }
    }

    fn applied(
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
                let seen = look(&answer, kind);
                let ours = drift::our_entry(answer.managed_fields());
                let application = match (&object.wanted, &object.entry) {
                    (Some(wanted), _) => wanted.application.clone(),
                    (None, Some(entry)) => entry.application.clone(),
                    (None, None) => return,
                };
                let entry = Entry {
                    api_version: ours
                        .and_then(|ours| ours.api_version.clone())
                        .unwrap_or_else(|| kind.resource.api_version.clone()),
                    application,
                    uid: Some(seen.uid.clone()),
                    digest: Some(digest),
                    fields: ours.map(drift::field_set),
                };
                let repair = object.standing_drift().is_some();
                object.applied(repair, now, clock());
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

    fn note_drift_row(&mut self, key: &Key) {
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

    fn pruned(&mut self, key: &Key, result: Result<Pruned, Failure>) {
        let now = Instant::now();
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.flying = false;
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
                object.not_before = Some(now + TRY_AGAIN);
                self.queue.at(now + TRY_AGAIN, key.clone());
            }
            Err(failure) => {
                tracing::warn!(object = %key, error = %failure.message, "a removal failed; tried again");
                let at = object.failed(failure, now);
                self.queue.at(at, key.clone());
            }
        }
        self.queue.unblock();
        self.after_change(key.clone());
    }
}
