//! Status rows of one cluster, and what to send when they changed.
//!
//! The agent holds the [`Rows`] it last sent and diffs them against the newest; the hub applies the [`Report`] to its
//! own copy. Both keep a running digest of all rows: where they disagree, the hub asks for everything once.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{ApplicationName, ApplicationStatus, Digest, Generation, ObjectKey, ObjectStatus};

/// All status rows of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    generation: Generation,
    applications: BTreeMap<ApplicationName, ApplicationStatus>,
    objects: BTreeMap<ObjectKey, ObjectStatus>,
    digest: Digest,
}

/// What changed from one set of rows to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Everything is in here; rows not named are gone.
    pub full: bool,
    /// The desired state that the rows speak of.
    pub generation: Generation,
    /// New and changed rows.
    pub applications: Vec<ApplicationStatus>,
    /// Rows that are gone.
    pub removed_applications: Vec<ApplicationName>,
    /// New and changed rows.
    pub objects: Vec<ObjectStatus>,
    /// Rows that are gone.
    pub removed_objects: Vec<ObjectKey>,
    /// Of all rows after this report.
    pub digest: Digest,
}

impl Rows {
    /// Rows from scratch.
    pub fn new(
        generation: Generation,
        applications: impl IntoIterator<Item = ApplicationStatus>,
        objects: impl IntoIterator<Item = ObjectStatus>,
    ) -> Self {
        let mut rows = Self {
            generation,
            ..Self::default()
        };
        rows.extend(applications, objects);
        rows
    }

    /// The desired state that the rows speak of.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Application rows by name.
    pub fn applications(&self) -> &BTreeMap<ApplicationName, ApplicationStatus> {
        &self.applications
    }

    /// Object rows by key.
    pub fn objects(&self) -> &BTreeMap<ObjectKey, ObjectStatus> {
        &self.objects
    }

    /// Running digest over all rows; the same for the same rows whatever way they came.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What to send so that a holder of `self` holds `newer`; `None` when there is nothing to say.
    pub fn report(&self, newer: &Self) -> Option<Report> {
        if self == newer {
            return None;
        }
        Some(Report {
            full: false,
            generation: newer.generation,
            applications: changed(&self.applications, &newer.applications),
            removed_applications: gone(&self.applications, &newer.applications),
            objects: changed(&self.objects, &newer.objects),
            removed_objects: gone(&self.objects, &newer.objects),
            digest: newer.digest,
        })
    }

    /// Everything, for a hub that holds nothing or something else.
    pub fn full_report(&self) -> Report {
        Report {
            full: true,
            generation: self.generation,
            applications: self.applications.values().cloned().collect(),
            objects: self.objects.values().cloned().collect(),
            digest: self.digest,
            ..Report::default()
        }
    }

    /// Takes a report in. False when the rows then differ from the sender's: ask for a full report.
    #[must_use]
    pub fn take_in(&mut self, report: Report) -> bool {
        if report.full {
            *self = Self::default();
        }
        self.generation = report.generation;
        for name in &report.removed_applications {
            if let Some(old) = self.applications.remove(name) {
                self.digest = self.digest.xor(row_digest(&old));
            }
        }
        for key in &report.removed_objects {
            if let Some(old) = self.objects.remove(key) {
                self.digest = self.digest.xor(row_digest(&old));
            }
        }
        self.extend(report.applications, report.objects);
        self.digest == report.digest
    }

    fn extend(
        &mut self,
        applications: impl IntoIterator<Item = ApplicationStatus>,
        objects: impl IntoIterator<Item = ObjectStatus>,
    ) {
        for row in applications {
            self.digest = self.digest.xor(row_digest(&row));
            if let Some(old) = self.applications.insert(row.application.clone(), row) {
                self.digest = self.digest.xor(row_digest(&old));
            }
        }
        for row in objects {
            self.digest = self.digest.xor(row_digest(&row));
            if let Some(old) = self.objects.insert(row.key.clone(), row) {
                self.digest = self.digest.xor(row_digest(&old));
            }
        }
    }
}

fn row_digest(row: &impl Serialize) -> Digest {
    Digest::of([serde_json::to_vec(row).expect("rows can be written")])
}

fn changed<K: Ord, R: PartialEq + Clone>(old: &BTreeMap<K, R>, new: &BTreeMap<K, R>) -> Vec<R> {
    let differs = |(key, row): &(&K, &R)| old.get(key) != Some(row);
    new.iter()
        .filter(differs)
        .map(|(_, row)| row.clone())
        .collect()
}

fn gone<K: Ord + Clone, R>(old: &BTreeMap<K, R>, new: &BTreeMap<K, R>) -> Vec<K> {
    old.keys()
        .filter(|key| !new.contains_key(key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HealthStatus, SyncStatus, Timestamp};
    use proptest::prelude::*;

    fn application(name: u8, synced: u32) -> ApplicationStatus {
        ApplicationStatus {
            application: format!("app-{name}").parse().unwrap(),
            digest: Digest::ZERO,
            revision: String::new(),
            sync: SyncStatus::Synced,
            health: HealthStatus::Current,
            message: String::new(),
            objects: 1,
            synced,
            healthy: 0,
            waiting: 0,
            unapproved: 0,
            since: Timestamp(0),
        }
    }

    fn object(name: u8, message: u32) -> ObjectStatus {
        ObjectStatus {
            key: ObjectKey {
                group: String::new(),
                kind: "ConfigMap".into(),
                namespace: "n".into(),
                name: format!("o{name}"),
            },
            application: "a".parse().unwrap(),
            sync: SyncStatus::Failed,
            health: HealthStatus::Unknown,
            message: message.to_string(),
            since: Timestamp(0),
            last_drift: None,
        }
    }

    prop_compose! {
        fn rows()(
            generation in 0u64..4,
            applications in prop::collection::btree_map(0u8..6, 0u32..3, 0..6),
            objects in prop::collection::btree_map(0u8..6, 0u32..3, 0..6),
        ) -> Rows {
            Rows::new(
                generation,
                applications.into_iter().map(|(name, synced)| application(name, synced)),
                objects.into_iter().map(|(name, message)| object(name, message)),
            )
        }
    }

    proptest! {
        #[test]
        fn a_report_turns_the_old_rows_into_the_new(old in rows(), new in rows()) {
            let mut held = old.clone();
            match old.report(&new) {
                None => prop_assert_eq!(&old, &new),
                Some(report) => prop_assert!(held.take_in(report)),
            }
            prop_assert_eq!(held, new);
        }

        #[test]
        fn a_full_report_mends_any_rows(held in rows(), new in rows()) {
            let mut held = held;
            prop_assert!(held.take_in(new.full_report()));
            prop_assert_eq!(held, new);
        }

        #[test]
        fn a_lost_report_shows_in_the_digest(old in rows(), lost in rows(), new in rows()) {
            let mut held = old.clone();
            if let Some(report) = lost.report(&new) {
                let agrees = held.take_in(report);
                prop_assert_eq!(agrees, held.applications == new.applications && held.objects == new.objects);
            }
        }
    }
}
