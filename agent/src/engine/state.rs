//! The state of the engine, changed by its one task alone: every object it tracks, and what the whole is held by.
//!
//! In: an opening, accepted states, events, outcomes. Out: keys in the [`Queue`], changes for the ledger, rows.
//! [`super::launch`] starts what is queued; [`super::seen`], [`super::outcomes`] and [`super::kinds`] take in what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use kube::Client;
use muster_proto::{Desired, Digest, Generation, ObjectKey, Rows};
use tokio::time::Instant;

use super::object::Tracked;
use super::opening::Opening;
use super::queue::{Key, Queue};
use super::work::Flight;
use super::{Cluster, Held, Refused, mending, opening};
use crate::clock::Clock;
use crate::desired::wanted::Wanted;
use crate::desired::{self, Verdict, resolved};
use crate::discovery::{Catalogue, Kind};
use crate::graph::removal::Holds;
use crate::graph::{self, Graph, Need};
use crate::inventory::{self, Entry};
use crate::ledger::{Change, Ledger, LedgerError};
use crate::live::watches::{Event, KindId, Scope, Watches};
use crate::plan::{self, Guards};
use crate::since;
use crate::walk::Walk;

/// Everything the engine knows.
pub(crate) struct State {
    pub(super) client: Client,
    pub(super) ledger: Ledger,
    pub(super) cluster: Cluster,
    pub(super) desired: Arc<Desired>,
    /// Generation and digest of the accepted state, also when the state itself was lost.
    floor: (Generation, Digest),
    whole: bool,
    /// What is wrong with the ledger and could not be mended: nothing is removed.
    pub(super) damaged: Option<String>,
    /// When that is tried again.
    pub(super) rebuild_at: Option<Instant>,
    pub(super) catalogue: Catalogue,
    pub(super) resolved: resolved::Resolved,
    pub(super) guards: Guards,
    /// The time of day.
    pub(super) clock: Clock,
    /// When the pauses are looked at again; none stands when there is none.
    pub(super) pauses_at: Option<Instant>,
    pub(super) objects: BTreeMap<Key, Tracked>,
    pub(super) queue: Queue,
    /// Who must be gone before whom.
    pub(super) holds: Holds,
    pub(super) watches: Watches,
    pub(super) listings: BTreeMap<Scope, Listing>,
    /// Namespaced kinds that the agent may not see in the whole cluster.
    pub(super) by_namespace: BTreeSet<KindId>,
    /// Changes that the ledger does not have yet.
    pub(super) unsaved: Change,
    /// The ledger is not tried before.
    pub(super) save_not_before: Option<Instant>,
    /// How often in a row it could not be written, and why the last time.
    pub(super) save_failures: u32,
    pub(super) save_failure: String,
    pub(super) flying: FuturesUnordered<Flight>,
    /// No call about an object starts before.
    pub(super) brake: Option<Instant>,
    /// When to ask again which kinds there are, and how long to wait after that.
    pub(super) discovery_at: Option<Instant>,
    pub(super) discovery_wait: Duration,
    pub(super) discovering: bool,
    /// The newest; at first rows that only say since when.
    pub(super) rows: Arc<Rows>,
    pub(super) rows_changed: bool,
    /// Nobody was told of them yet.
    pub(super) rows_untold: bool,
    /// The rows whose times the ledger has.
    pub(super) kept_rows: Arc<Rows>,
    /// Somebody was told of rows since the start.
    pub(super) spoke: bool,
    /// How the newest commit ended is not in the ledger yet.
    pub(super) commit_goes_on: bool,
}

/// How far the watch of a kind is.
#[derive(Default)]
pub(super) struct Listing {
    /// A list was complete once.
    pub(super) listed: bool,
    /// How often in a row the watch has failed.
    pub(super) failures: u32,
    /// Seen in the list that runs now.
    pub(super) seen: Option<BTreeSet<ObjectKey>>,
}

impl State {
    /// The state that an opening gives, and where the events of its watches come out.
    pub(super) async fn new(
        client: Client,
        opening: Opening,
        clock: Clock,
    ) -> (Self, tokio::sync::mpsc::Receiver<Event>) {
        let (watches, events) = Watches::new(client.clone());
        let since = Arc::new(opening.since);
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
            rebuild_at: opening
                .damaged
                .is_some()
                .then(|| Instant::now() + mending::AGAIN),
            damaged: opening.damaged,
            catalogue: Catalogue::default(),
            resolved: resolved::Resolved::default(),
            guards: Guards::default(),
            clock,
            pauses_at: None,
            objects,
            queue: Queue::default(),
            holds: Holds::default(),
            watches,
            listings: BTreeMap::new(),
            by_namespace: BTreeSet::new(),
            unsaved: Change::new(),
            save_not_before: None,
            save_failures: 0,
            save_failure: String::new(),
            flying: FuturesUnordered::new(),
            brake: None,
            discovery_at: None,
            discovery_wait: Duration::from_millis(100),
            discovering: false,
            rows: since.clone(),
            rows_changed: true,
            kept_rows: since,
            rows_untold: false,
            spoke: false,
            // It may have ended when this process did not run.
            commit_goes_on: true,
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
        self.keep_times();
        let mut change = std::mem::take(&mut self.unsaved);
        change.extend(desired::change(&self.desired, &offered));
        let mut known = Walk::over(&self.objects);
        let planned: Vec<(Key, Entry)> = placed
            .wanted
            .iter()
            .filter(|(key, _)| {
                known
                    .get(key)
                    .is_none_or(|(_, object)| object.entry.is_none())
            })
            .filter(|(_, wanted)| !wanted.settings.detect_only)
            .map(|(key, wanted)| (key.clone(), planned(key, wanted, &placed.graph)))
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
            let planned = kept.chain(planned);
            opening::items(&offered, planned, drifts(&self.objects), &self.kept_rows)
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
        self.saved();
        for (key, entry) in planned {
            self.objects.entry(key).or_default().entry = Some(entry);
        }
        self.floor = accepted;
        self.whole = true;
        self.commit_goes_on = true;
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
            let mut items =
                opening::items(&self.desired, kept, drifts(&self.objects), &self.kept_rows);
            crate::ledger::apply(&mut items, change.clone());
            items
        };
        self.ledger.append(self.floor, change, everything).await
    }

    pub(super) fn place(&self, desired: &Desired) -> resolved::Resolved {
        let mut known = Walk::over(&self.objects);
        let owner = |key: &ObjectKey| {
            let (_, object) = known.get(key)?;
            Some(object.entry.as_ref()?.application.clone())
        };
        resolved::resolve(desired, &self.catalogue, owner, &self.resolved)
    }

    /// Acts on a desired state from now on.
    pub(super) fn take_on(&mut self, desired: Arc<Desired>, placed: resolved::Resolved) {
        self.desired = desired;
        let reordered = placed.graph != self.resolved.graph;
        self.resolved = placed;
        let mut known = Walk::over(&self.objects);
        let wanted = self.resolved.wanted.keys();
        let new: Vec<Key> = wanted
            .filter(|key| known.get(key).is_none())
            .cloned()
            .collect();
        let new = new.into_iter().map(|key| (key, Tracked::default()));
        self.objects.extend(new);
        let mut wanted = Walk::over(&self.resolved.wanted);
        for (key, object) in &mut self.objects {
            let wanted = wanted.get(key).map(|(_, wanted)| wanted);
            let news = object.want(key, wanted, &self.guards);
            if news {
                self.queue.dirty.insert(key.clone());
            }
            // It need not be applied again for what it is removed by.
            if (news || reordered)
                && let Some(wanted) = wanted
                && let Some(entry) = object.entry.as_mut()
                && entry.digest == Some(wanted.digest)
                && entry.take_order(&planned(key, wanted, &self.resolved.graph))
            {
                self.unsaved
                    .insert(inventory::item(key), Some(entry.write()));
            }
        }
        self.objects
            .retain(|_, object| !object.is_idle() || object.flying);
        let left = self
            .objects
            .iter()
            .filter(|(_, object)| object.wanted.is_none());
        let left = left.filter_map(|(key, object)| Some((&**key, object.entry.as_ref()?)));
        let paused = std::mem::take(&mut self.guards.paused);
        self.guards = plan::guards(&self.desired, &self.resolved, left, self.damaged.as_deref());
        self.guards.paused = paused;
        self.look_at_pauses(Instant::now());
        self.watch_what_is_used();
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

    /// Watches every kind of what is wanted or ours; those of which the agent may not see all, in the namespaces in use.
    pub(super) fn watch_what_is_used(&mut self) {
        let mut used: BTreeMap<Scope, Arc<Kind>> = BTreeMap::new();
        let mut last: Option<(&str, Arc<Kind>)> = None;
        for (key, object) in &self.objects {
            if let Some(kind) = self.kind_of(key, object) {
                // Objects of one kind and namespace stand side by side.
                let place = (key.namespace.as_str(), kind.clone());
                if last.as_ref() == Some(&place) {
                    continue;
                }
                last = Some(place);
                let id = kind.id();
                let narrow = self.by_namespace.contains(&id);
                let scope = Scope {
                    namespace: narrow.then(|| key.namespace.clone()),
                    kind: id,
                };
                let known = used.entry(scope).or_insert_with(|| kind.clone());
                // One application's rule is enough to read the whole object.
                if kind.ruled.is_some() {
                    *known = kind;
                }
            }
        }
        for ended in self.watches.set(&used) {
            self.listings.remove(&ended);
        }
    }

    /// Its kind, as the cluster serves it.
    pub(super) fn kind_of(&self, key: &ObjectKey, object: &Tracked) -> Option<Arc<Kind>> {
        let wanted = object.wanted.as_ref().map(|wanted| wanted.kind.clone());
        wanted.or_else(|| {
            let entry = object.entry.as_ref()?;
            self.catalogue.kind(&entry.api_version, &key.kind).cloned()
        })
    }
}

/// The entry of an object that is about to be applied for the first time.
pub(super) fn planned(key: &ObjectKey, wanted: &Wanted, graph: &Graph) -> Entry {
    let by_name =
        |need: &Need<'_>| !graph::is_namespace(need.key) && !graph::is_definition(need.key);
    Entry {
        needs: graph
            .needs(key)
            .filter(by_name)
            .map(|need| (**need.key).clone())
            .collect(),
        stage: graph.stage(&wanted.application, key).unwrap_or(0),
        after: wanted.settings.depends_on.clone(),
        service_account: wanted.settings.service_account.clone(),
        ..Entry::planned(&wanted.object.api_version, &wanted.application)
    }
}

/// Of the inventory, and not of the accepted state.
fn is_bookkeeping(item: &str) -> bool {
    item.starts_with("inventory/") || item.starts_with("drift/") || item.starts_with(since::PREFIX)
}

fn drifts(
    objects: &BTreeMap<Key, Tracked>,
) -> impl Iterator<Item = (&ObjectKey, &muster_proto::Drift)> {
    objects
        .iter()
        .filter_map(|(key, object)| Some((&**key, object.drift.as_ref()?)))
}
