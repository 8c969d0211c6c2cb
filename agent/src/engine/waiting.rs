//! What an object waits for before it is applied: what it depends on, and the applications its own depends on.

use muster_proto::{ApplicationName, HealthStatus, ObjectKey, SyncStatus};

use super::state::State;
use crate::{graph, health};

impl State {
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
