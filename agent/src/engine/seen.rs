//! Takes in what is seen of objects: events of the watches, looks, answers. Part of the engine's task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use muster_proto::{DriftKind, ObjectKey, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

use super::detecting::SOON;
use super::object::Tracked;
use super::queue::Key;
use super::state::{Listing, State};
use crate::discovery::Kind;
use crate::live::watches::{self, Event, Scope, Trouble};
use crate::live::{self, Sight};
use crate::plan::Step;
use crate::{body, drift, graph, inventory};

/// A watch that failed this often in a row (some seconds) is not waited for any more.
const WAITED_FOR: u32 = 3;

impl State {
    /// Takes in what a watch tells.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Listing(scope) => {
                self.listings.entry(scope).or_default().seen = Some(BTreeSet::new());
            }
            Event::Seen(scope, object) => {
                let Some(kind) = self.watches.kind(&scope.kind).cloned() else {
                    return;
                };
                let key = watches::key(&kind, &object);
                if let Some(seen) = self
                    .listings
                    .get_mut(&scope)
                    .and_then(|listing| listing.seen.as_mut())
                {
                    seen.insert(key.clone());
                }
                self.seen(&key, &kind, &object);
            }
            Event::Left(scope, key) => {
                if let Some(kind) = self.watches.kind(&scope.kind).cloned() {
                    self.look_again(&key, kind);
                }
            }
            Event::Listed(scope) => self.listed(&scope),
            Event::Trouble(scope, trouble) => self.watch_failed(scope, &trouble),
        }
    }

    /// A list is complete: what was not in it is gone, or has lost its label.
    pub(super) fn listed(&mut self, scope: &Scope) {
        let Some(kind) = self.watches.kind(&scope.kind).cloned() else {
            return;
        };
        let listing = self.listings.entry(scope.clone()).or_default();
        listing.listed = true;
        listing.failures = 0;
        let seen = listing.seen.take().unwrap_or_default();
        let mut unseen = Vec::new();
        for key in self.objects.keys() {
            let same = key.group == kind.resource.group && key.kind == kind.resource.kind;
            if same && scope.covers(&key.namespace) && !seen.contains(&**key) {
                unseen.push(key.clone());
            }
        }
        for key in unseen {
            if self.objects[&key].sight.object().is_some() {
                self.look_again(&key, kind.clone());
            }
            self.queue.dirty.insert(key);
        }
        self.rows_changed = true;
    }

    /// An object left what is watched: it is gone, or lost its label. All that left at once are looked for in one call;
    /// one that nobody wants any more is asked for by itself, because that is how its removal ends.
    fn look_again(&mut self, key: &ObjectKey, kind: Arc<Kind>) {
        let Some((key, _)) = self.objects.get_key_value(key) else {
            return;
        };
        let key = key.clone();
        match self.objects.get_mut(&key) {
            Some(object) if object.wanted.is_some() && !object.flying && !object.looking => {
                object.sight = Sight::Unknown;
                self.queue.dirty.insert(key);
            }
            _ => self.fetch(key, kind),
        }
    }

    /// A watch fails, and is tried again. Where the agent may not see a kind in the whole cluster, it looks into the
    /// namespaces in use instead. A watch that fails for good, of a kind that this agent may not list or that the
    /// API server can't read, must not hold up everything else: its objects are looked at one by one, and what is said
    /// then stands in their rows.
    fn watch_failed(&mut self, scope: Scope, trouble: &Trouble) {
        let (api_version, kind) = &scope.kind;
        let error = &trouble.error;
        let namespaced = |kind: &Arc<Kind>| kind.namespaced;
        if trouble.forbidden
            && scope.namespace.is_none()
            && self.watches.kind(&scope.kind).is_some_and(namespaced)
        {
            tracing::info!(
                api_version,
                kind,
                error,
                "this kind is watched in each namespace by itself: the agent may not see it in the whole cluster"
            );
            self.by_namespace.insert(scope.kind);
            self.watch_what_is_used();
            return;
        }
        let listing = self.listings.entry(scope.clone()).or_default();
        listing.failures = listing.failures.saturating_add(1);
        let namespace = scope.namespace.as_deref();
        match listing.failures {
            WAITED_FOR => {
                tracing::warn!(
                    api_version,
                    kind,
                    namespace,
                    error,
                    "what people change in objects of this kind is not seen: watching it fails, and is tried again"
                );
                self.rows_changed = true;
                // Nobody will say that they are gone, or judge them by other rules than before.
                let shown = |key: &&Key| key.kind == *kind && scope.covers(&key.namespace);
                let keys = self.objects.keys().filter(shown);
                self.queue.dirty.extend(keys.cloned());
            }
            _ => tracing::debug!(
                api_version,
                kind,
                namespace,
                error,
                "a watch fails, and is tried again"
            ),
        }
    }

    /// Has this watch said what there is, or failed too often to be waited for?
    pub(super) fn is_settled(&self, scope: &Scope) -> bool {
        let settled = |listing: &Listing| listing.listed || listing.failures >= WAITED_FOR;
        self.listings.get(scope).is_some_and(settled)
    }

    /// Will no watch say what becomes of this object?
    pub(super) fn is_unwatched(&self, kind: &Kind, namespace: &str) -> bool {
        let fails = |listing: &Listing| listing.failures >= WAITED_FOR;
        let scope = self.watches.over(&kind.id(), namespace);
        scope.is_none_or(|scope| self.listings.get(scope).is_some_and(fails))
    }

    /// Has one object looked at, unless that is under way.
    pub(super) fn fetch(&mut self, key: Key, kind: Arc<Kind>) {
        if let Some(object) = self.objects.get_mut(&key)
            && !std::mem::replace(&mut object.looking, true)
        {
            self.queue.fetches.insert(key, kind);
        }
    }

    /// An object as it is now, by an event or an answer.
    pub(super) fn seen(&mut self, key: &ObjectKey, kind: &Kind, object: &DynamicObject) {
        let Some((key, tracked)) = self
            .objects
            .get_key_value(key)
            .map(|(key, _)| key.clone())
            .and_then(|key| {
                let tracked = self.objects.get_mut(&key)?;
                Some((key, tracked))
            })
        else {
            return;
        };
        let mut now = live::look(object, kind, tracked.rule());
        if let Some(wanted) = &tracked.wanted {
            now.wanted(wanted, object);
        }
        if let Sight::Present(before) = &tracked.sight {
            let older = before.uid == now.uid && now.resource_version < before.resource_version;
            if older {
                return;
            }
            if *before == now {
                // A look at the whole of what an event showed a part of.
                self.notice(&key, kind, object);
                return;
            }
        }
        tracked.sight = Sight::Present(now);
        if tracked.found.is_some() {
            tracked.compare_at = Some(Instant::now() + SOON);
        }
        self.wonder(&key);
        self.notice(&key, kind, object);
        self.after_change(key);
    }

    /// Notes who changed what, before it is overwritten. An event of metadata names the fields; for their values the
    /// object is asked for, once.
    fn notice(&mut self, key: &Key, kind: &Kind, object: &DynamicObject) {
        let Some(tracked) = self.objects.get_mut(key) else {
            return;
        };
        if tracked.flying || tracked.looking {
            return;
        }
        let (Step::Repair(how) | Step::Leave(how)) = tracked.step(key, &self.guards) else {
            return;
        };
        let stored = tracked
            .entry
            .as_ref()
            .and_then(|entry| entry.fields.as_deref());
        let stored = stored.unwrap_or("{}");
        // What is left to others is no change.
        let ignore = tracked
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.ignore.as_deref());
        let left = tracked.sight.object().and_then(|now| now.left.as_ref());
        let apart = left.map(|left| left.apart(stored, ignore));
        let managed = object.managed_fields();
        let mut changed = match (how, tracked.sight.object(), &tracked.wanted) {
            (DriftKind::Added, Some(now), Some(wanted)) => now.additions(wanted, managed),
            _ => drift::compare(apart.as_deref().unwrap_or(stored), managed),
        };
        let known = tracked
            .standing_drift()
            .is_some_and(|standing| standing.kind == how && standing.fields == changed.fields());
        if object.data.is_null() {
            if !known {
                self.fetch(key.clone(), Arc::new(kind.clone()));
            }
            return;
        }
        let live = serde_json::to_value(object).unwrap_or_default();
        let mut desired = Value::Null;
        if let Some(wanted) = &tracked.wanted {
            let body = body::of(&wanted.object, key, &wanted.application);
            desired = serde_json::from_slice(&body.bytes).unwrap_or_default();
            if how == DriftKind::Changed && changed.paths.is_empty() {
                changed = live::rewritten(wanted, &desired, &live, managed);
            }
        }
        let changes = drift::changes(key, &changed.paths, &desired, &live);
        if tracked.note_drift(how, changed, changes, self.clock.now()) {
            let drift = tracked.drift.as_ref().expect("noted above");
            tracing::info!(object = %key, manager = %drift.manager, fields = ?drift.fields, "drift: the object was changed in the cluster");
            self.unsaved.insert(
                inventory::drift_item(key),
                Some(inventory::write_drift(drift)),
            );
            self.rows_changed = true;
        }
    }

    /// An object is not there.
    pub(super) fn gone(&mut self, key: &Key) {
        let Some(tracked) = self.objects.get_mut(key) else {
            return;
        };
        tracked.sight = Sight::Absent;
        if tracked.wanted.is_none() && tracked.entry.is_some() {
            self.forget(key);
            return;
        }
        if !tracked.flying && note_missing(tracked, self.clock.now()) {
            tracing::info!(object = %key, "drift: the object was deleted in the cluster");
        }
        self.after_change(key.clone());
    }

    /// Takes an object out of the inventory: it is gone, or was left on purpose.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(tracked) = self.objects.get_mut(key) {
            if tracked.entry.take().is_some() {
                self.unsaved.insert(inventory::item(key), None);
            }
            if tracked.wanted.is_none() {
                if tracked.drift.take().is_some() {
                    self.unsaved.insert(inventory::drift_item(key), None);
                }
                if !tracked.flying {
                    self.objects.remove(key);
                    self.queue.take_out(key);
                }
            }
        }
        self.holds.set(key, BTreeSet::new());
        self.after_change(key.clone());
        self.queue.release_prunes();
    }

    /// Something about an object changed: decide about it again, and about what depends on it.
    pub(super) fn after_change(&mut self, key: Key) {
        if graph::is_definition(&key) && !self.resolved.unplaced.is_empty() {
            self.discovery_wait = Duration::from_millis(50);
            self.discovery_at = Some(Instant::now());
        }
        self.queue.dirty.insert(key);
        self.rows_changed = true;
    }
}

fn note_missing(object: &mut Tracked, now: Timestamp) -> bool {
    let ours = object
        .entry
        .as_ref()
        .is_some_and(|entry| entry.uid.is_some());
    let changed = drift::Changed::default();
    object.wanted.is_some()
        && ours
        && object.note_drift(DriftKind::Missing, changed, Vec::new(), now)
}
