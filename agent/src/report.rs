//! Status rows from what is known of each object. Pure; time is an argument.
//!
//! In: one [`Line`] an object, the desired state, the rows before. Out: [`Rows`]: one row per application, and a row
//! for each object that needs a person's eye. `since` is kept as long as sync and health stay the same; what changed
//! while nobody looked is told since the newest time that the objects themselves state.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::{
    ApplicationName, ApplicationStatus, Desired, Digest, Drift, Generation, HealthStatus,
    ObjectKey, ObjectStatus, Rows, SyncStatus, Timestamp,
};

use crate::desired::resolved::{Resolved, Unplaced};

/// What is known of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Which object.
    pub(crate) key: Arc<ObjectKey>,
    /// Whose it is.
    pub(crate) application: ApplicationName,
    /// In the desired state, or on its way out.
    pub(crate) wanted: bool,
    /// It goes once a person approves.
    pub(crate) unapproved: bool,
    /// Is it as desired?
    pub(crate) sync: SyncStatus,
    /// Does it work?
    pub(crate) health: HealthStatus,
    /// Why, for a person.
    pub(crate) message: String,
    /// What last happened to it.
    pub(crate) drift: Option<Drift>,
    /// By its own word; stated only of what nobody has watched until now.
    pub(crate) changed: Option<Timestamp>,
}

impl Line {
    /// Does a person want to see it? What is merely queued is counted, not shown.
    fn needs_an_eye(&self) -> bool {
        let queued = self.sync == SyncStatus::Progressing && self.message.is_empty();
        self.drift.is_some() || !(queued || self.is_fine())
    }

    /// Whatever else is to be said of it is a remark to who asks for it by name.
    fn is_fine(&self) -> bool {
        self.sync == SyncStatus::Synced && self.health == HealthStatus::Current
    }
}

/// All rows. `generation` is the one that the lines speak of.
pub(crate) fn rows(
    generation: Generation,
    desired: &Desired,
    resolved: &Resolved,
    lines: impl IntoIterator<Item = Line>,
    before: &Rows,
    now: Timestamp,
) -> Rows {
    let mut applications: BTreeMap<ApplicationName, Tally> = BTreeMap::new();
    for application in &desired.applications {
        applications.insert(application.name.clone(), Tally::default());
    }
    let mut objects = Vec::new();
    let mut take = |line: Line, applications: &mut BTreeMap<ApplicationName, Tally>| {
        applications
            .entry(line.application.clone())
            .or_default()
            .count(&line);
        if line.needs_an_eye() {
            objects.push(object_row(line, before, now));
        }
    };
    for line in lines {
        take(line, &mut applications);
    }
    for unplaced in &resolved.unplaced {
        take(self::unplaced(unplaced), &mut applications);
    }
    let applications = applications
        .into_iter()
        .map(|(name, tally)| application_row(name, tally, desired, resolved, before, now));
    Rows::new(generation, applications.collect::<Vec<_>>(), objects)
}

/// What is to be said of an object that has no place.
pub(crate) fn unplaced(unplaced: &Unplaced) -> Line {
    let (sync, health) = match unplaced.awaited {
        true => (SyncStatus::Progressing, HealthStatus::InProgress),
        false => (SyncStatus::Failed, HealthStatus::NotFound),
    };
    Line {
        key: Arc::new(unplaced.key.clone()),
        application: unplaced.application.clone(),
        wanted: true,
        unapproved: false,
        sync,
        health,
        message: unplaced.why.clone(),
        drift: None,
        changed: None,
    }
}

/// Counts of one application, and its worst line.
#[derive(Default)]
struct Tally {
    sync: Option<(SyncStatus, String)>,
    health: Option<(HealthStatus, String)>,
    synced: u32,
    healthy: u32,
    waiting: u32,
    unapproved: u32,
    changed: Option<Timestamp>,
}

impl Tally {
    fn count(&mut self, line: &Line) {
        self.changed = self.changed.max(line.changed);
        let said = || match line.message.as_str() {
            "" => String::new(),
            _ if line.is_fine() => String::new(),
            message => format!("{}: {message}", line.key),
        };
        if line.wanted {
            // What is left alone by its mark is as Git wants it.
            self.synced += u32::from(matches!(line.sync, SyncStatus::Synced | SyncStatus::Kept));
            self.healthy += u32::from(line.health == HealthStatus::Current);
        } else {
            self.waiting += 1;
            self.unapproved += u32::from(line.unapproved);
        }
        // What stays or is left alone on purpose is no trouble of the application.
        let counts = line.sync != SyncStatus::Kept;
        let worse = self.sync.as_ref().is_none_or(|(sync, _)| line.sync > *sync);
        if counts && worse {
            self.sync = Some((line.sync, said()));
        }
        let worse = self
            .health
            .as_ref()
            .is_none_or(|(health, _)| line.health > *health);
        if line.wanted && worse {
            self.health = Some((line.health, said()));
        }
    }
}

fn application_row(
    name: ApplicationName,
    tally: Tally,
    desired: &Desired,
    resolved: &Resolved,
    before: &Rows,
    now: Timestamp,
) -> ApplicationStatus {
    let wanted = desired.application(name.as_str());
    let (mut sync, mut message) = tally.sync.unwrap_or((SyncStatus::Synced, String::new()));
    let (health, health_message) = tally
        .health
        .unwrap_or((HealthStatus::Current, String::new()));
    if let Some(why) = resolved.held.get(&name) {
        (sync, message) = (SyncStatus::Kept, why.clone());
    }
    if message.is_empty() {
        message = health_message;
    }
    if message.is_empty() && tally.waiting > 0 && sync == SyncStatus::Synced {
        message = format!("{} objects left Git and stay", tally.waiting);
    }
    let old = before.applications().get(&name);
    let old = old.map(|old| ((old.sync, old.health), old.since));
    ApplicationStatus {
        digest: wanted.map_or(Digest::ZERO, |wanted| wanted.digest()),
        revision: wanted.map_or_else(String::new, |wanted| wanted.revision.clone()),
        sync,
        health,
        message,
        objects: wanted.map_or(0, |wanted| {
            u32::try_from(wanted.objects().len()).unwrap_or(u32::MAX)
        }),
        synced: tally.synced,
        healthy: tally.healthy,
        waiting: tally.waiting,
        unapproved: tally.unapproved,
        since: since(old, (sync, health), tally.changed, now),
        application: name,
    }
}

fn object_row(line: Line, before: &Rows, now: Timestamp) -> ObjectStatus {
    let old = before.objects().get(&*line.key);
    let old = old.map(|old| ((old.sync, old.health), old.since));
    ObjectStatus {
        key: (*line.key).clone(),
        application: line.application,
        sync: line.sync,
        health: line.health,
        message: line.message,
        since: since(old, (line.sync, line.health), line.changed, now),
        last_drift: line.drift,
    }
}

/// Since when it stands so: as before when it stood so before. What `changed` when nobody looked was not like this
/// earlier than it was last seen otherwise. Of what fails or is under way no object states since when.
fn since(
    old: Option<((SyncStatus, HealthStatus), Timestamp)>,
    standing: (SyncStatus, HealthStatus),
    changed: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    let by_itself = !matches!(standing.0, SyncStatus::Failed | SyncStatus::Progressing);
    match old {
        Some((before, since)) if before == standing => since,
        _ if !by_itself => now,
        _ => {
            let not_before = old.map_or(Timestamp(0), |(_, since)| since);
            changed.map_or(now, |at| at.max(not_before).min(now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::{DesiredApplication, DigestKey, DriftKind, Object, Removals, Settings};
    use serde_json::json;

    fn desired(objects: usize) -> Desired {
        let object = |n: usize| {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("o{n}")}});
            Arc::new(Object::new(&body, &DigestKey::new([0; 32])).unwrap())
        };
        let objects = (0..objects).map(object).collect();
        let shop = DesiredApplication::new(
            "shop".parse().unwrap(),
            "abc".into(),
            Settings::default(),
            objects,
        );
        Desired::new(3, vec![Arc::new(shop)], Removals::Released, Vec::new())
    }

    fn line(name: &str, sync: SyncStatus, health: HealthStatus, message: &str) -> Line {
        let key = ObjectKey {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: "n".into(),
            name: name.into(),
        };
        Line {
            key: Arc::new(key),
            application: "shop".parse().unwrap(),
            wanted: true,
            unapproved: false,
            sync,
            health,
            message: message.into(),
            drift: None,
            changed: None,
        }
    }

    fn report(lines: Vec<Line>, before: &Rows, now: i64) -> Rows {
        rows(
            3,
            &desired(2),
            &Resolved::default(),
            lines,
            before,
            Timestamp(now),
        )
    }

    #[test]
    fn an_application_is_as_bad_as_its_worst_object_and_says_which() {
        let lines = vec![
            line(
                "a",
                SyncStatus::Synced,
                HealthStatus::InProgress,
                "1 of 2 replicas are available",
            ),
            line("b", SyncStatus::Failed, HealthStatus::NotFound, "denied"),
        ];
        let rows = report(lines, &Rows::default(), 5);
        let row = &rows.applications()["shop"];
        assert_eq!(
            (row.sync, row.health),
            (SyncStatus::Failed, HealthStatus::NotFound)
        );
        assert_eq!(row.message, "ConfigMap n/b: denied");
        assert_eq!((row.objects, row.synced, row.healthy), (2, 1, 0));
        assert_eq!(rows.objects().len(), 2);
    }

    #[test]
    fn objects_that_need_no_eye_have_no_row() {
        let drifted = Drift {
            kind: DriftKind::Changed,
            fields: vec![".data.a".into()],
            manager: "kubectl-edit".into(),
            at: Timestamp(1),
            repaired_at: Some(Timestamp(2)),
            count: 1,
            changes: Vec::new(),
        };
        let mut repaired = line("c", SyncStatus::Synced, HealthStatus::Current, "");
        repaired.drift = Some(drifted);
        let lines = vec![
            line("a", SyncStatus::Synced, HealthStatus::Current, "a remark"),
            line("b", SyncStatus::Progressing, HealthStatus::InProgress, ""),
            repaired,
        ];
        let rows = report(lines, &Rows::default(), 5);
        assert_eq!(rows.applications()["shop"].message, "");
        let names: Vec<_> = rows.objects().keys().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["c"]);
    }

    #[test]
    fn since_is_kept_as_long_as_nothing_changes() {
        let state = |sync| vec![line("a", sync, HealthStatus::Failed, "x")];
        let first = report(state(SyncStatus::Synced), &Rows::default(), 5);
        let second = report(state(SyncStatus::Synced), &first, 9);
        assert_eq!(second, first);
        let third = report(state(SyncStatus::Drifted), &second, 12);
        assert_eq!(third.applications()["shop"].since, Timestamp(12));
        assert_eq!(
            third.objects().values().next().unwrap().since,
            Timestamp(12)
        );
    }

    #[test]
    fn what_changed_while_nobody_looked_is_told_since_its_objects_changed() {
        use {HealthStatus as H, SyncStatus as S};
        let before = report(
            vec![line("a", S::Synced, H::InProgress, "1 of 2")],
            &Rows::default(),
            5,
        );
        let seen = |sync, health, changed, before: &Rows| {
            let mut line = line("a", sync, health, "x");
            line.changed = changed;
            report(vec![line], before, 20).applications()["shop"].since
        };
        let at = |at| Some(Timestamp(at));
        for (sync, health, changed, since) in [
            (S::Synced, H::Current, at(9), 9),
            (S::Synced, H::Failed, at(9), 9),
            (S::Synced, H::Current, None, 20),
            // It was seen otherwise after that; and clocks differ.
            (S::Synced, H::Current, at(3), 5),
            (S::Synced, H::Current, at(30), 20),
            // Nothing says since when.
            (S::Failed, H::Current, at(9), 20),
            // As it stood before.
            (S::Synced, H::InProgress, at(9), 5),
        ] {
            assert_eq!(
                seen(sync, health, changed, &before),
                Timestamp(since),
                "{sync:?} {health:?} {changed:?}"
            );
        }
        // Nothing was kept: a ledger that was lost.
        assert_eq!(
            seen(S::Synced, H::Current, at(9), &Rows::default()),
            Timestamp(9)
        );
    }

    #[test]
    fn what_its_mark_leaves_alone_makes_no_application_worse() {
        let lines = vec![
            line("a", SyncStatus::Synced, HealthStatus::Current, ""),
            line(
                "b",
                SyncStatus::Kept,
                HealthStatus::Current,
                "muster.dev/apply: disabled",
            ),
        ];
        let rows = report(lines, &Rows::default(), 5);
        let row = &rows.applications()["shop"];
        assert_eq!((row.sync, row.synced), (SyncStatus::Synced, 2));
        assert_eq!(rows.objects().len(), 1);
    }

    #[test]
    fn what_waits_to_be_removed_is_counted_also_for_an_application_that_is_gone() {
        let mut waiting = line("a", SyncStatus::PruneBlocked, HealthStatus::Current, "held");
        waiting.wanted = false;
        waiting.unapproved = true;
        waiting.application = "old".parse().unwrap();
        let rows = report(vec![waiting], &Rows::default(), 5);
        let row = &rows.applications()["old"];
        assert_eq!(
            (row.sync, row.waiting, row.unapproved, row.objects),
            (SyncStatus::PruneBlocked, 1, 1, 0)
        );
        assert_eq!(rows.applications()["shop"].sync, SyncStatus::Synced);
    }
}
