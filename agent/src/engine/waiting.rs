//! What an object waits for before it is applied: what it depends on, and the applications its own depends on.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{ApplicationName, HealthStatus, ObjectKey, SyncStatus};

use super::object::Tracked;
use super::queue::{Blocker, Key};
use super::state::State;
use crate::graph::removal::{self, Hold};
use crate::graph::{Need, Until};
use crate::plan::Step;

/// What the objects of a stage of an application wait for, as long as nothing changes.
pub(super) type Stages = BTreeMap<(ApplicationName, i32), Option<(Blocker, String)>>;

impl State {
    /// What must be waited for before this object is applied, and that in words. What Git changed waits for all of it;
    /// what was right before is repaired as soon as what it needs is there at all.
    pub(super) fn waits_for(
        &self,
        key: &ObjectKey,
        stages: &mut Stages,
    ) -> Option<(Blocker, String)> {
        let object = self.objects.get(key)?;
        let wanted = object.wanted.as_ref()?;
        let repair = object.standing_drift().is_some();
        if !repair {
            let mut others = wanted.settings.depends_on.iter();
            if let Some(name) = others.find(|name| !self.is_ready(name)) {
                let why = format!("waits for application {name}");
                return Some((Blocker::Application(name.clone()), why));
            }
        }
        let graph = &self.resolved.graph;
        let is_met = |need: &Need<'_>| self.is_met(need, repair);
        if let Some(need) = graph.needs(key).find(|need| !is_met(need)) {
            return Some(self.blocker(&need));
        }
        let stage = graph.stage(&wanted.application, key)?;
        if repair {
            let need = graph.first_unmet_before(&wanted.application, stage, is_met)?;
            return Some(self.blocker(&need));
        }
        // Asked once for all objects of a stage: there may be thousands, waiting for thousands.
        let place = (wanted.application.clone(), stage);
        let unmet = stages.entry(place).or_insert_with(|| {
            let need = graph.first_unmet_before(&wanted.application, stage, is_met)?;
            Some(self.blocker(&need))
        });
        unmet.clone()
    }

    fn blocker(&self, need: &Need<'_>) -> (Blocker, String) {
        let why = self.why_unmet(need);
        (Blocker::Object(need.key.clone()), why)
    }

    fn is_met(&self, need: &Need<'_>, repair: bool) -> bool {
        let Some(tracked) = self.objects.get(need.key) else {
            return true;
        };
        let Some(live) = tracked.sight.object().filter(|live| !live.terminating) else {
            return false;
        };
        if repair {
            return true;
        }
        let step = tracked.step(need.key, &self.guards);
        if matches!(
            step,
            Step::Apply | Step::Compare | Step::Look | Step::Wait(_) | Step::Refused(_)
        ) {
            return false;
        }
        if need.until == Until::Applied {
            return true;
        }
        let (health, _) = live.health.at(self.clock.now());
        matches!(health, HealthStatus::Current | HealthStatus::Suspended)
            && !self.is_judged_anew(need.key, tracked)
    }

    /// Other rules stand for its kind than when its health was judged, and its watch will show it again for that.
    fn is_judged_anew(&self, key: &ObjectKey, tracked: &Tracked) -> bool {
        let (Some(wanted), Some(live)) = (&tracked.wanted, tracked.sight.object()) else {
            return false;
        };
        live.ruled != wanted.kind.ruled && !self.is_unwatched(&wanted.kind, &key.namespace)
    }

    fn why_unmet(&self, need: &Need<'_>) -> String {
        let key = need.key;
        let Some(tracked) = self.objects.get(key) else {
            return format!("waits for {key}");
        };
        if let Step::Refused(why) | Step::Conflict(why) = tracked.step(key, &self.guards) {
            return format!("waits for {key}, which is not applied: {why}");
        }
        if let Some(failure) = &tracked.failure {
            return format!("waits for {key}, which failed: {failure}");
        }
        match tracked
            .sight
            .object()
            .map(|live| live.health.at(self.clock.now()))
        {
            Some((HealthStatus::Current, _)) | None => format!("waits for {key}"),
            Some((_, "")) => format!("waits for {key} to be ready"),
            Some((_, why)) => format!("waits for {key} to be ready: {why}"),
        }
    }

    /// Whom an object holds back from being removed, by what is to be done with it.
    pub(super) fn holds_of(&self, key: &Key, object: &Tracked, step: &Step) -> BTreeSet<Hold> {
        let Some(entry) = &object.entry else {
            return BTreeSet::new();
        };
        match (step, &object.wanted) {
            (Step::Apply | Step::Refused(_), Some(_)) => removal::of_changing(entry),
            // Also what goes only once somebody approves: it will need its operator then.
            (Step::Prune | Step::Wait(_) | Step::Unapproved(_), None) => {
                let suffix = format!(".{}", key.group);
                let operators = self.definitions().filter_map(|(definition, tracked)| {
                    let owner = tracked.entry.as_ref()?;
                    definition
                        .name
                        .ends_with(&suffix)
                        .then_some(&owner.application)
                });
                removal::of_leaving(key, entry, operators)
            }
            _ => BTreeSet::new(),
        }
    }

    /// The CustomResourceDefinitions among the objects.
    fn definitions(&self) -> impl Iterator<Item = (&Key, &Tracked)> {
        let first = ObjectKey {
            group: "apiextensions.k8s.io".into(),
            kind: "CustomResourceDefinition".into(),
            namespace: String::new(),
            name: String::new(),
        };
        let range = self.objects.range(Key::new(first)..);
        range.take_while(|(key, _)| crate::graph::is_definition(key))
    }

    /// Is an application as desired and healthy, by its newest row? One that is not placed here counts as ready.
    pub(super) fn is_ready(&self, name: &ApplicationName) -> bool {
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
