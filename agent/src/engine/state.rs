//! The state of the engine, changed by its one task alone: every object it tracks, and what the whole is held by.
//!
//! In: an opening, accepted states, events, outcomes. Out: keys in the [`Queue`], changes for the ledger, rows.
//! [`super::launch`] starts what is queued.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use kube::core::DynamicObject;
use kube::{Client, ResourceExt as _};
use muster_proto::{
    ApplicationName, Desired, Digest, DriftKind, Generation, HealthStatus, ObjectKey, Rows,
    SyncStatus, Timestamp,
};
use tokio::time::Instant;

use super::object::Tracked;
use super::opening::Opening;
use super::queue::{Key, Queue};
use super::work::{self, Flight};
use super::{Cluster, Held, Refused, opening};
use crate::desired::{self, Verdict, resolved};
use crate::discovery::{Catalogue, Kind, Kinds};
use crate::graph;
use crate::inventory::{self, Entry};
use crate::ledger::{Change, Ledger, LedgerError};
use crate::live::watches::{self, Event, KindId, Watches};
use crate::live::{self, Sight};
use crate::plan::{self, Guards, Step};
use crate::report;
use crate::{drift, health};

/// How long an unfinished discovery may keep an offered state waiting.
const DISCOVERY: Duration = Duration::from_secs(5);

/// Everything the engine knows.
pub(crate) struct State {
    pub(super) client: Client,
    pub(super) ledger: Ledger,
    pub(super) cluster: Cluster,
    pub(super) desired: Arc<Desired>,
    /// Generation and digest of the accepted state, also when the state itself was lost.
    floor: (Generation, Digest),
    whole: bool,
    damaged: Option<String>,
    pub(super) catalogue: Catalogue,
    pub(super) resolved: resolved::Resolved,
    pub(super) guards: Guards,
    pub(super) objects: BTreeMap<Key, Tracked>,
    pub(super) queue: Queue,
    pub(super) watches: Watches,
    listings: BTreeMap<KindId, Listing>,
    /// Changes that the ledger does not have yet.
    pub(super) unsaved: Change,
    /// The ledger is not tried before.
    pub(super) save_not_before: Option<Instant>,
    pub(super) flying: FuturesUnordered<Flight>,
    /// When to ask again which kinds there are, and how long to wait after that.
    pub(super) discovery_at: Option<Instant>,
    pub(super) discovery_wait: Duration,
    pub(super) discovering: bool,
    pub(super) rows: Arc<Rows>,
    pub(super) rows_changed: bool,
}

/// How far the watch of a kind is.
#[derive(Default)]
struct Listing {
    /// A list was complete once.
    listed: bool,
    /// Seen in the list that runs now.
    seen: Option<BTreeSet<ObjectKey>>,
}

/// The time, as status rows have it.
pub(super) fn clock() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

impl State {
    /// The state that an opening gives, and where the events of its watches come out.
    pub(super) async fn new(
        client: Client,
        opening: Opening,
    ) -> (Self, tokio::sync::mpsc::Receiver<Event>) {
        let (watches, events) = Watches::new(client.clone());
        let mut objects: BTreeMap<Key, Tracked> = BTreeMap::new();
        for (key, entry) in opening.inventory {
            objects.entry(Arc::new(key)).or_default().entry = Some(entry);
        }
        for (key, drift) in opening.drifts {
            objects.entry(Arc::new(key)).or_default().drift = Some(drift);
        }
        let mut state = Self {
            client,
            floor: opening.ledger.accepted(),
            ledger: opening.ledger,
            cluster: opening.cluster,
            desired: Arc::new(opening.desired),
            whole: opening.whole,
            damaged: opening.damaged,
            catalogue: Catalogue::default(),
            resolved: resolved::Resolved::default(),
            guards: Guards::default(),
            objects,
            queue: Queue::default(),
            watches,
            listings: BTreeMap::new(),
            unsaved: Change::new(),
            save_not_before: None,
            flying: FuturesUnordered::new(),
            discovery_at: None,
            discovery_wait: Duration::from_millis(100),
            discovering: false,
            rows: Arc::new(Rows::default()),
            rows_changed: true,
        };
        let desired = state.desired.clone();
        state.discover_for(&desired).await;
        let placed = state.place(&desired);
        state.take_on(desired, placed);
        (state, events)
    }

    /// Judges an offered state, stores it with the objects it adds to the inventory, and begins to act on it.
    ///
    /// # Errors
    /// By the generation rule, or when it could not be stored; [`LedgerError::Lost`] ends all writing.
    pub(super) async fn accept(
        &mut self,
        offered: Desired,
    ) -> Result<Result<Held, Refused>, LedgerError> {
        match desired::judge(self.floor, self.whole, &offered) {
            Err(refused) => return Ok(Err(refused)),
            Ok(Verdict::Held) => return Ok(Ok(self.held())),
            Ok(Verdict::New) => {}
        }
        let offered = Arc::new(offered);
        self.discover_for(&offered).await;
        let placed = self.place(&offered);
        let mut change = std::mem::take(&mut self.unsaved);
        change.extend(desired::change(&self.desired, &offered));
        let planned: Vec<(Key, Entry)> = placed
            .wanted
            .iter()
            .filter(|(key, _)| {
                self.objects
                    .get(*key)
                    .is_none_or(|object| object.entry.is_none())
            })
            .map(|(key, wanted)| (key.clone(), planned(wanted)))
            .collect();
        change.extend(
            planned
                .iter()
                .map(|(key, entry)| (inventory::item(key), Some(entry.write()))),
        );
        let accepted = (offered.generation, offered.digest());
        let everything = || {
            let kept = self
                .objects
                .iter()
                .filter_map(|(key, object)| Some((&**key, object.entry.as_ref()?)));
            let planned = planned.iter().map(|(key, entry)| (&**key, entry));
            opening::items(&offered, kept.chain(planned), drifts(&self.objects))
        };
        match self.ledger.append(accepted, &change, everything).await {
            Ok(()) => {}
            Err(LedgerError::Lost(why)) => return Err(LedgerError::Lost(why)),
            Err(error) => {
                // What was unsaved still is; the offered state was not taken.
                let still = change.into_iter().filter(|(item, _)| is_bookkeeping(item));
                self.unsaved.extend(still);
                return Ok(Err(Refused::NotStored(error.to_string())));
            }
        }
        for (key, entry) in planned {
            self.objects.entry(key).or_default().entry = Some(entry);
        }
        self.floor = accepted;
        self.whole = true;
        self.take_on(offered, placed);
        Ok(Ok(self.held()))
    }

    pub(super) fn held(&self) -> Held {
        Held {
            generation: self.floor.0,
            digest: self.floor.1,
        }
    }

    /// Keeps what changed since the last time.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub(super) async fn save(&mut self, change: &Change) -> Result<(), LedgerError> {
        let everything = || {
            let kept = self
                .objects
                .iter()
                .filter_map(|(key, object)| Some((&**key, object.entry.as_ref()?)));
            let mut items = opening::items(&self.desired, kept, drifts(&self.objects));
            crate::ledger::apply(&mut items, change.clone());
            items
        };
        self.ledger.append(self.floor, change, everything).await
    }

    fn place(&self, desired: &Desired) -> resolved::Resolved {
        let owner = |key: &ObjectKey| {
            let entry = self.objects.get(key)?.entry.as_ref()?;
            Some(entry.application.clone())
        };
        resolved::resolve(desired, &self.catalogue, owner, &self.resolved)
    }

    /// Acts on a desired state from now on.
    fn take_on(&mut self, desired: Arc<Desired>, placed: resolved::Resolved) {
        self.desired = desired;
        self.resolved = placed;
        for object in self.objects.values_mut() {
            object.wanted = None;
            object.forgive();
        }
        for (key, wanted) in &self.resolved.wanted {
            self.objects.entry(key.clone()).or_default().wanted = Some(wanted.clone());
        }
        self.objects
            .retain(|_, object| !object.is_idle() || object.flying);
        let inventory = self
            .objects
            .iter()
            .filter_map(|(key, object)| Some((&**key, object.entry.as_ref()?)));
        self.guards = plan::guards(
            &self.desired,
            &self.resolved,
            inventory,
            self.damaged.as_deref(),
        );
        self.watch_what_is_used();
        self.queue.dirty.extend(self.objects.keys().cloned());
        let unplaced = self
            .resolved
            .unplaced
            .iter()
            .any(|unplaced| !unplaced.key.kind.is_empty());
        if !unplaced {
            self.discovery_at = None;
        } else if self.discovery_at.is_none() {
            self.discovery_wait = Duration::from_millis(100);
            self.discovery_at = Some(Instant::now() + self.discovery_wait);
        }
        self.rows_changed = true;
    }

    fn watch_what_is_used(&mut self) {
        let mut used: BTreeMap<KindId, Arc<Kind>> = BTreeMap::new();
        for (key, object) in &self.objects {
            let wanted = object.wanted.as_ref().map(|wanted| wanted.kind.clone());
            let owned = || {
                let entry = object.entry.as_ref()?;
                self.catalogue.kind(&entry.api_version, &key.kind).cloned()
            };
            if let Some(kind) = wanted.or_else(owned) {
                let id = (
                    kind.resource.api_version.clone(),
                    kind.resource.kind.clone(),
                );
                used.entry(id).or_insert(kind);
            }
        }
        for ended in self.watches.set(&used) {
            self.listings.remove(&ended);
        }
    }

    /// Asks for API versions that nothing is known of, in one go and not for long.
    async fn discover_for(&mut self, desired: &Desired) {
        let unknown: Vec<String> = self.api_versions(desired).into_iter().collect();
        if unknown.is_empty() {
            return;
        }
        let asked = work::discover(&self.client, unknown);
        if let Ok(answers) = tokio::time::timeout(DISCOVERY, asked).await {
            self.learn(answers);
        }
    }

    /// API versions in use whose kinds are not all known.
    pub(super) fn api_versions(&self, desired: &Desired) -> BTreeSet<String> {
        let mut unknown = BTreeSet::new();
        for application in &desired.applications {
            for object in application.objects() {
                if self
                    .catalogue
                    .kind(&object.api_version, &object.key.kind)
                    .is_none()
                {
                    unknown.insert(object.api_version.clone());
                }
            }
        }
        for object in self.objects.values() {
            if let Some(entry) = object
                .entry
                .as_ref()
                .filter(|entry| !self.catalogue.knows(&entry.api_version))
            {
                unknown.insert(entry.api_version.clone());
            }
        }
        unknown
    }

    fn learn(&mut self, answers: Vec<(String, Result<Kinds, kube::Error>)>) -> bool {
        let mut news = false;
        for (api_version, answer) in answers {
            match answer {
                Ok(kinds) => news |= self.catalogue.learn(&api_version, kinds),
                Err(error) => {
                    tracing::warn!(%api_version, %error, "the kinds of an API version can't be read")
                }
            }
        }
        news
    }

    /// Takes in which kinds there are.
    pub(super) fn discovered(&mut self, answers: Vec<(String, Result<Kinds, kube::Error>)>) {
        self.discovering = false;
        if self.learn(answers) {
            let desired = self.desired.clone();
            let placed = self.place(&desired);
            self.take_on(desired, placed);
        }
        if !self.api_versions(&self.desired).is_empty() {
            self.discovery_wait = (self.discovery_wait * 2).min(Duration::from_secs(30));
            self.discovery_at = Some(Instant::now() + self.discovery_wait);
        }
    }

    /// Takes in what a watch tells.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Listing(id) => self.listings.entry(id).or_default().seen = Some(BTreeSet::new()),
            Event::Seen(id, object) => {
                let Some(kind) = self.watches.kind(&id).cloned() else {
                    return;
                };
                let key = watches::key(&kind, &object);
                if let Some(seen) = self
                    .listings
                    .get_mut(&id)
                    .and_then(|listing| listing.seen.as_mut())
                {
                    seen.insert(key.clone());
                }
                self.seen(&key, &kind, &object);
            }
            Event::Left(id, key) => {
                if let (Some(kind), Some((key, _))) = (
                    self.watches.kind(&id).cloned(),
                    self.objects.get_key_value(&key),
                ) {
                    self.fetch(key.clone(), kind);
                }
            }
            Event::Listed(id) => self.listed(&id),
            Event::Trouble((api_version, kind), error) => {
                tracing::debug!(%api_version, %kind, %error, "a watch fails, and is tried again");
            }
        }
    }

    /// A list is complete: what was not in it is gone, or has lost its label.
    fn listed(&mut self, id: &KindId) {
        let Some(kind) = self.watches.kind(id).cloned() else {
            return;
        };
        let listing = self.listings.entry(id.clone()).or_default();
        let first = !std::mem::replace(&mut listing.listed, true);
        let seen = listing.seen.take().unwrap_or_default();
        let mut missing = Vec::new();
        for (key, object) in &mut self.objects {
            let same = key.group == kind.resource.group && key.kind == kind.resource.kind;
            if !same || seen.contains(&**key) {
                continue;
            }
            if object.sight.object().is_some() {
                missing.push(key.clone());
            } else if first
                && object
                    .entry
                    .as_ref()
                    .is_some_and(|entry| entry.uid.is_some())
            {
                object.sight = Sight::Absent;
                note_missing(object);
            }
            self.queue.dirty.insert(key.clone());
        }
        for key in missing {
            self.fetch(key, kind.clone());
        }
        self.rows_changed = true;
    }

    /// Is the watch of this kind up to date?
    pub(super) fn is_listed(&self, id: &KindId) -> bool {
        self.listings.get(id).is_some_and(|listing| listing.listed)
    }

    /// Looks at one object, unless that is under way.
    pub(super) fn fetch(&mut self, key: Key, kind: Arc<Kind>) {
        if let Some(object) = self.objects.get_mut(&key)
            && !std::mem::replace(&mut object.looking, true)
        {
            self.flying
                .push(work::fetch(self.client.clone(), key, kind));
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
        let now = live::look(object, kind);
        if let Sight::Present(before) = &tracked.sight {
            let older = before.uid == now.uid && now.resource_version < before.resource_version;
            if older {
                return;
            }
            if *before == now {
                return;
            }
        }
        if let Some(at) = now.health.settles_at {
            let left = at.0.saturating_sub(clock().0);
            if let Ok(left) = u64::try_from(left) {
                self.queue
                    .at(Instant::now() + Duration::from_millis(left), key.clone());
            }
        }
        tracked.sight = Sight::Present(now);
        if !tracked.flying
            && let Step::Repair(kind) | Step::Leave(kind) = tracked.step(&key, &self.guards)
        {
            let managed = object.managed_fields();
            let stored = tracked
                .entry
                .as_ref()
                .and_then(|entry| entry.fields.as_deref());
            let changed = drift::compare(stored.unwrap_or("{}"), managed);
            if tracked.note_drift(kind, changed, clock()) {
                let drift = tracked.drift.as_ref().expect("noted above");
                tracing::info!(object = %key, manager = %drift.manager, fields = ?drift.fields, "drift: the object was changed in the cluster");
                self.unsaved.insert(
                    inventory::drift_item(&key),
                    Some(inventory::write_drift(drift)),
                );
            }
        }
        self.after_change(key);
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
        if !tracked.flying && note_missing(tracked) {
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
        self.after_change(key.clone());
        self.queue.unblock();
    }

    /// Something about an object changed: decide about it again, and about what depends on it.
    pub(super) fn after_change(&mut self, key: Key) {
        if graph::is_namespace(&key) || graph::is_definition(&key) {
            self.queue.unblock();
        }
        if graph::is_definition(&key) && !self.resolved.unplaced.is_empty() {
            self.discovery_wait = Duration::from_millis(50);
            self.discovery_at = Some(Instant::now());
        }
        self.queue.dirty.insert(key);
        self.rows_changed = true;
    }

    /// Rows of everything, when something changed.
    pub(super) fn report(&mut self) -> Option<Arc<Rows>> {
        if !std::mem::take(&mut self.rows_changed)
            || self.desired.generation == 0 && self.objects.is_empty()
        {
            return None;
        }
        let now = clock();
        let lines = self
            .objects
            .iter()
            .filter_map(|(key, object)| object.line(key, &self.guards, now));
        let rows = report::rows(
            self.desired.generation,
            &self.desired,
            &self.resolved,
            lines,
            &self.rows,
            now,
        );
        if rows == *self.rows {
            return None;
        }
        self.rows = Arc::new(rows);
        // Some application may wait for another.
        self.queue.unblock();
        Some(self.rows.clone())
    }

    /// May this object be applied now? Otherwise what it waits for. Only what Git changed waits for other
    /// applications; what was right before is repaired at once.
    pub(super) fn waits_for(&self, key: &ObjectKey) -> Option<String> {
        let object = self.objects.get(key)?;
        if object.standing_drift().is_none()
            && let Some(wanted) = &object.wanted
        {
            let waits = wanted
                .settings
                .depends_on
                .iter()
                .find(|name| !self.is_ready(name));
            if let Some(name) = waits {
                return Some(format!("waits for application {name}"));
            }
        }
        for needed in graph::needs(key, &self.resolved.definitions) {
            if !self.resolved.wanted.contains_key(&needed) {
                continue;
            }
            let Some(tracked) = self.objects.get(&needed) else {
                continue;
            };
            let there = tracked.sight.object().is_some_and(|object| {
                let works = object.health.status == HealthStatus::Current;
                !object.terminating && (works || !health::reads_status(&needed.group, &needed.kind))
            });
            let applied = tracked
                .entry
                .as_ref()
                .is_some_and(|entry| entry.uid.is_some());
            if !(there && applied) {
                return Some(format!("waits for {needed}"));
            }
        }
        None
    }
}

impl State {
    /// Is an application as desired and healthy, by its newest row? One that is not placed here counts as ready.
    fn is_ready(&self, name: &ApplicationName) -> bool {
        let Some(application) = self.desired.application(name.as_str()) else {
            return true;
        };
        let row = self.rows.applications().get(name);
        row.is_some_and(|row| {
            row.digest == application.digest()
                && row.sync == SyncStatus::Synced
                && row.synced == row.objects
                && matches!(row.health, HealthStatus::Current | HealthStatus::Suspended)
        })
    }
}

/// The entry of an object that is about to be applied for the first time.
pub(super) fn planned(wanted: &resolved::Wanted) -> Entry {
    Entry::planned(&wanted.object.api_version, &wanted.application)
}

fn note_missing(object: &mut Tracked) -> bool {
    let ours = object
        .entry
        .as_ref()
        .is_some_and(|entry| entry.uid.is_some());
    let changed = drift::Changed::default();
    object.wanted.is_some() && ours && object.note_drift(DriftKind::Missing, changed, clock())
}

/// Of the inventory, and not of the accepted state.
fn is_bookkeeping(item: &str) -> bool {
    item.starts_with("inventory/") || item.starts_with("drift/")
}

fn drifts(
    objects: &BTreeMap<Key, Tracked>,
) -> impl Iterator<Item = (&ObjectKey, &muster_proto::Drift)> {
    objects
        .iter()
        .filter_map(|(key, object)| Some((&**key, object.drift.as_ref()?)))
}
