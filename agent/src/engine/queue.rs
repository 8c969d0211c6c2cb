//! What waits to be done, in order. A plain value: objects to decide about again, to apply, to remove, to look for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, ObjectKey};
use tokio::time::Instant;

use crate::discovery::Kind;
use crate::graph::{self, Stage};
use crate::live::watches::KindId;

/// Identity, shared.
pub(crate) type Key = Arc<ObjectKey>;

/// What an object waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blocker {
    /// Another object.
    Object(Key),
    /// Another application, by its row.
    Application(ApplicationName),
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// To be decided about (again).
    pub(crate) dirty: BTreeSet<Key>,
    /// To be applied, first stage first.
    pub(crate) applies: BTreeSet<(Stage, Key)>,
    /// Of these, not in the inventory yet.
    pub(crate) unwritten: BTreeSet<Key>,
    /// Being applied.
    pub(crate) applying: BTreeSet<(Stage, Key)>,
    /// To be applied when what they wait for has changed.
    blocked: BTreeMap<Blocker, BTreeSet<Key>>,
    blocked_by: BTreeMap<Key, Blocker>,
    /// To be removed, last stage first.
    pub(crate) prunes: BTreeSet<(Reverse<Stage>, Key)>,
    /// Being removed.
    pub(crate) pruning: BTreeSet<(Reverse<Stage>, Key)>,
    /// To be removed when what depends on them is gone.
    pub(crate) held_prunes: BTreeSet<Key>,
    /// To be compared with what an apply would make of them.
    pub(crate) compares: BTreeSet<Key>,
    /// To be looked for, by kind and namespace.
    pub(crate) looks: BTreeMap<(KindId, String), BTreeSet<Key>>,
    /// To be looked at by themselves.
    pub(crate) fetches: BTreeMap<Key, Arc<Kind>>,
    /// To be decided about again at a time.
    timers: BTreeSet<(Instant, Key)>,
}

impl Queue {
    /// Forgets where an object stood, before it is decided about anew.
    pub(crate) fn take_out(&mut self, key: &Key) {
        let stage = graph::stage(&key.group, &key.kind);
        self.applies.remove(&(stage, key.clone()));
        self.prunes.remove(&(Reverse(stage), key.clone()));
        self.unwritten.remove(key);
        self.compares.remove(key);
        if let Some(blocker) = self.blocked_by.remove(key)
            && let Some(keys) = self.blocked.get_mut(&blocker)
        {
            keys.remove(key);
        }
        self.held_prunes.remove(key);
    }

    /// Queues an apply.
    pub(crate) fn apply(&mut self, key: Key) {
        self.applies
            .insert((graph::stage(&key.group, &key.kind), key));
    }

    /// Queues a removal.
    pub(crate) fn prune(&mut self, key: Key) {
        self.prunes
            .insert((Reverse(graph::stage(&key.group, &key.kind)), key));
    }

    /// Decides about an object again at `at`.
    pub(crate) fn at(&mut self, at: Instant, key: Key) {
        self.timers.insert((at, key));
    }

    /// When the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Moves what is due to `dirty`.
    pub(crate) fn ring(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let (_, key) = self.timers.pop_first().expect("there is a first one");
            self.dirty.insert(key);
        }
    }

    /// Puts an object aside until [`Queue::unblock`] is called for what it waits for.
    pub(crate) fn block(&mut self, key: Key, blocker: Blocker) {
        self.blocked_by.insert(key.clone(), blocker.clone());
        self.blocked.entry(blocker).or_default().insert(key);
    }

    /// What others wait for has changed: they are decided about again.
    pub(crate) fn unblock(&mut self, blocker: &Blocker) {
        for key in self.blocked.remove(blocker).unwrap_or_default() {
            self.blocked_by.remove(&key);
            self.dirty.insert(key);
        }
    }

    /// Rows have changed: what waits for applications is decided about again.
    pub(crate) fn unblock_applications(&mut self) {
        let is_application = |blocker: &&Blocker| matches!(blocker, Blocker::Application(_));
        let blockers: Vec<Blocker> = self
            .blocked
            .keys()
            .filter(is_application)
            .cloned()
            .collect();
        for blocker in blockers {
            self.unblock(&blocker);
        }
    }

    /// Something is gone, or needs less than before: what could not be removed is decided about again.
    pub(crate) fn release_prunes(&mut self) {
        self.dirty.append(&mut self.held_prunes);
    }

    /// Nothing is left to decide, apply or remove.
    pub(crate) fn is_quiet(&self) -> bool {
        self.dirty.is_empty()
            && self.applies.is_empty()
            && self.prunes.is_empty()
            && self.compares.is_empty()
            && self.looks.is_empty()
            && self.fetches.is_empty()
    }
}
