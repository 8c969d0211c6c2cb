//! Decides what is dirty and starts what is queued, in order and a few at a time. Part of the engine's task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::DriftKind;
use tokio::time::Instant;

use super::outcomes::LOOK_AGAIN;
use super::queue::{Blocker, Key};
use super::state::{State, planned};
use super::waiting::Stages;
use super::work::{self};
use crate::apply::Order;
use crate::discovery::Kind;
use crate::graph;
use crate::inventory::{self, Entry};
use crate::ledger::{Change, LedgerError};
use crate::live::Sight;
use crate::plan::Step;

/// Calls on their way at once. More are faster, by less and less, and the API server is not ours alone.
pub(super) const CONCURRENCY: usize = 16;
/// After a failed write of the ledger; each time it takes double as long.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// As many failed writes in a row don't pass in a moment: people should know.
const SAVES_FAIL: u32 = 3;

impl State {
    /// Decides about what is dirty, writes ahead what is new, and starts as much as may be on its way.
    ///
    /// # Errors
    /// [`LedgerError::Lost`]: nothing may be written any more.
    pub(super) async fn launch(&mut self) -> Result<(), LedgerError> {
        let now = Instant::now();
        self.queue.ring(now);
        if self.pauses_at.is_some_and(|at| at <= now) {
            self.look_at_pauses(now);
        }
        while let Some(key) = self.queue.dirty.pop_first() {
            self.decide(key, now);
        }
        self.discover_when_due(now);
        self.rebuild_when_due(now);
        self.write_ahead(now).await?;
        let may_call = self.may_call(now);
        if may_call {
            self.confirm().await?;
            self.start_fetches();
            self.start_looks();
            self.start_compares();
            self.start_applies();
        }
        let applying = !self.queue.applies.is_empty()
            || !self.queue.looks.is_empty()
            || !self.queue.applying.is_empty();
        if may_call && !applying {
            self.start_prunes();
        }
        let quiet = self.queue.is_quiet() && !self.is_flying();
        if quiet || self.unsaved.len() > 500 || self.ledger.is_torn() {
            self.settle(now).await?;
        }
        if quiet {
            self.ledger.rests();
        }
        Ok(())
    }

    /// Before the first object of a phase is written: is the cluster still ours? The watch of the ledger tells that too,
    /// but may lag, or be cut off.
    async fn confirm(&mut self) -> Result<(), LedgerError> {
        if self.queue.applies.is_empty() && self.queue.prunes.is_empty() {
            return Ok(());
        }
        match self.ledger.confirm().await {
            Err(LedgerError::Lost(why)) => Err(LedgerError::Lost(why)),
            Err(error) => {
                // What is held goes on being repaired also while the ledger can't be written.
                tracing::debug!(%error, "whether the cluster is still this agent's can't be asked");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn is_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Puts an object where its step belongs.
    fn decide(&mut self, key: Key, now: Instant) {
        self.ask_for_pods(&key, now);
        self.settle_in_time(&key, now);
        self.queue.take_out(&key);
        let Some(object) = self.objects.get_mut(&key) else {
            return;
        };
        if object.flying || object.looking {
            return;
        }
        let step = object.step(&key, &self.guards);
        self.queue.unblock(&Blocker::Object(key.clone()));
        let object = &self.objects[&key];
        let holds = self.holds_of(&key, object, &step);
        if self.holds.set(&key, holds) {
            self.queue.release_prunes();
        }
        if let Some(kind) = self.dies_unseen(&key) {
            self.look_later(key, kind, now);
            return;
        }
        let Some(object) = self.objects.get_mut(&key) else {
            return;
        };
        if let Some(at) = object.not_before.filter(|at| *at > now) {
            self.queue.at(at, key);
            return;
        }
        let detects = object
            .wanted
            .as_ref()
            .is_some_and(|it| it.settings.detect_only);
        if detects && matches!(step, Step::Compare | Step::Differs(_) | Step::InSync) {
            self.queue_compare(key, step == Step::Compare, now);
            return;
        }
        match step {
            Step::InSync if object.entry.is_some() && object.standing_drift().is_some() => {
                // Somebody put it back before we did.
                object.applied(false, now, self.clock.now());
                self.note_drift_row(&key);
            }
            Step::Look => {
                let Some(wanted) = &object.wanted else { return };
                let place = (wanted.kind.id(), key.namespace.clone());
                self.queue.looks.entry(place).or_default().insert(key);
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
            | Step::Compare
            | Step::Differs(_)
            | Step::Exempt(_)
            | Step::Conflict(_)
            | Step::Refused(_)
            | Step::Wait(_)
            | Step::Blocked(_)
            | Step::Unapproved(_)
            | Step::Stays(_) => {}
        }
    }

    /// An object that nobody reports on counts as working from some time on: no event says so.
    fn settle_in_time(&mut self, key: &Key, now: Instant) {
        let seen = self.objects.get(key).and_then(|it| it.sight.object());
        let Some(at) = seen.and_then(|seen| seen.health.settles_at) else {
            return;
        };
        match u64::try_from(at.0 - self.clock.now().0) {
            Ok(left @ 1..) => self
                .queue
                .at(now + Duration::from_millis(left), key.clone()),
            _ => self.rows_changed = true,
        }
    }

    /// The kind of an object that is being deleted where no watch will say that it is gone.
    fn dies_unseen(&self, key: &Key) -> Option<Arc<Kind>> {
        let object = self.objects.get(key)?;
        object.sight.object().filter(|seen| seen.terminating)?;
        let kind = self.kind_of(key, object)?;
        self.is_unwatched(&kind, &key.namespace).then_some(kind)
    }

    /// Looks at an object when its time has come, and sets that time when it is none.
    fn look_later(&mut self, key: Key, kind: Arc<Kind>, now: Instant) {
        let Some(object) = self.objects.get_mut(&key) else {
            return;
        };
        match object.not_before {
            Some(at) if at <= now => {
                object.not_before = None;
                self.fetch(key, kind);
            }
            at => {
                let at = at.unwrap_or(now + LOOK_AGAIN);
                object.not_before = Some(at);
                self.queue.at(at, key);
            }
        }
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
                let entry = planned(key, wanted, &self.resolved.graph);
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
            return Ok(());
        }
        for (key, _) in entries {
            if let Some(object) = self.objects.get_mut(&key) {
                object.waits = format!("waits for the agent: {}", self.save_failure);
            }
        }
        self.rows_changed = true;
        Ok(())
    }

    /// Writes what is known after the work.
    async fn settle(&mut self, now: Instant) -> Result<(), LedgerError> {
        if self.save_not_before.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.note_times();
        if self.unsaved.is_empty() && !self.ledger.is_torn() {
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
                self.saved();
                Ok(true)
            }
            Err(LedgerError::Lost(why)) => Err(LedgerError::Lost(why)),
            Err(error) => {
                let wait = SAVE_AGAIN * (1 << self.save_failures.min(4));
                tracing::warn!(%error, retry_in = ?wait, "the ledger can't be written; tried again");
                self.save_not_before = Some(now + wait);
                self.save_failures = self.save_failures.saturating_add(1);
                self.save_failure = format!("its ledger can't be written: {error}");
                Ok(false)
            }
        }
    }

    /// The ledger could be written.
    pub(super) fn saved(&mut self) {
        self.save_not_before = None;
        self.save_failures = 0;
        self.save_failure.clear();
    }

    /// Why the ledger can't be written for some time now; empty when it can.
    pub(super) fn hindrance(&self) -> &str {
        if self.save_failures < SAVES_FAIL {
            return "";
        }
        &self.save_failure
    }

    /// Looks at single objects.
    fn start_fetches(&mut self) {
        while self.flying.len() < CONCURRENCY {
            let Some((key, kind)) = self.queue.fetches.pop_first() else {
                return;
            };
            if let Some(object) = self.objects.get_mut(&key) {
                object.looking = true;
                let client = self.client.clone();
                self.flying.push(work::fetch(client, key, kind));
            }
        }
    }

    fn start_looks(&mut self) {
        let ready: Vec<_> = self
            .queue
            .looks
            .keys()
            .filter(|(id, namespace)| {
                let scope = self.watches.over(id, namespace);
                scope.is_none_or(|scope| self.is_settled(scope))
            })
            .cloned()
            .collect();
        for place in ready {
            if self.flying.len() >= CONCURRENCY {
                return;
            }
            let keys = self.queue.looks.remove(&place).unwrap_or_default();
            let (id, namespace) = place;
            let served = || self.catalogue.kind(&id.0, &id.1);
            let Some(kind) = self.watches.kind(&id).or_else(served).cloned() else {
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
        let mut stages = Stages::new();
        while self.flying.len() < CONCURRENCY {
            // What is not in the inventory yet is never applied.
            let written = |(_, key): &&(u8, Key)| {
                self.objects
                    .get(key)
                    .is_some_and(|object| object.entry.is_some())
            };
            let Some((stage, key)) = self.queue.applies.iter().find(written).cloned() else {
                return;
            };
            self.queue.applies.remove(&(stage, key.clone()));
            let waits = self.waits_for(&key, &mut stages);
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
            if let Some((blocker, waits)) = waits {
                self.rows_changed |= object.waits != waits;
                object.waits = waits;
                self.queue.block(key, blocker);
                continue;
            }
            object.waits.clear();
            object.flying = true;
            self.queue.applying.insert((stage, key.clone()));
            let client = self.client.clone();
            let order = Order::new(client, key, wanted, &object.sight, make_namespace);
            self.flying.push(work::apply(order));
        }
    }
}
