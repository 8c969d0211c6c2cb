//! Since when each row has been as it is, kept in the ledger: a restart of the agent must not make everything look new.
//! Pure.
//!
//! In the ledger: `since/application/NAME` and `since/object/GROUP/KIND/NAMESPACE/NAME`, each a [`Standing`]. In: rows.
//! Out: a change of the ledger, and at the start rows that know nothing but since when.

use bytes::Bytes;
use muster_proto::{
    ApplicationName, ApplicationStatus, Digest, HealthStatus, ObjectStatus, Rows, SyncStatus,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::inventory;
use crate::ledger::{Change, Items};

/// All of it stands below.
pub(crate) const PREFIX: &str = "since/";
const APPLICATION: &str = "since/application/";
const OBJECT: &str = "since/object/";

/// How a row stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    sync: SyncStatus,
    health: HealthStatus,
    since: Timestamp,
}

/// What to change in the ledger so that it knows of `new` what it knows of `old`.
pub(crate) fn change(old: &Rows, new: &Rows) -> Change {
    let (old, new) = (items(old), items(new));
    let gone = old.keys().filter(|item| !new.contains_key(*item));
    let mut change: Change = gone.map(|item| (item.clone(), None)).collect();
    for (item, standing) in new {
        if old.get(&item) != Some(&standing) {
            change.insert(item, Some(standing));
        }
    }
    change
}

/// Everything to keep of some rows.
pub(crate) fn items(rows: &Rows) -> Items {
    let applications = rows.applications().values().map(|row| {
        let standing = Standing {
            sync: row.sync,
            health: row.health,
            since: row.since,
        };
        (format!("{APPLICATION}{}", row.application), standing)
    });
    let objects = rows.objects().values().map(|row| {
        let standing = Standing {
            sync: row.sync,
            health: row.health,
            since: row.since,
        };
        (format!("{OBJECT}{}", inventory::path(&row.key)), standing)
    });
    applications
        .chain(objects)
        .map(|(item, standing)| (item, standing.write()))
        .collect()
}

/// Rows that say since when, and nothing else that holds. What can't be read is left out: a time is lost, no more.
pub(crate) fn read(items: &Items) -> Rows {
    let mut applications = Vec::new();
    let mut objects = Vec::new();
    for (item, value) in items.range(PREFIX.to_owned()..) {
        if !item.starts_with(PREFIX) {
            break;
        }
        let Ok(standing) = serde_json::from_slice::<Standing>(value) else {
            continue;
        };
        if let Some(name) = item.strip_prefix(APPLICATION) {
            applications.extend(name.parse().ok().map(|name| standing.application(name)));
        } else if let Some(path) = item.strip_prefix(OBJECT)
            && let Ok(key) = inventory::key_of(path)
        {
            objects.push(ObjectStatus {
                key,
                application: unknown(),
                sync: standing.sync,
                health: standing.health,
                message: String::new(),
                since: standing.since,
                last_drift: None,
            });
        }
    }
    Rows::new(0, applications, objects)
}

/// The rows of before say since when, and nobody reads whose they were.
fn unknown() -> ApplicationName {
    "unknown".parse().expect("a name")
}

impl Standing {
    fn write(self) -> Bytes {
        serde_json::to_vec(&self)
            .expect("plain data can be written")
            .into()
    }

    fn application(self, application: ApplicationName) -> ApplicationStatus {
        ApplicationStatus {
            application,
            digest: Digest::ZERO,
            revision: String::new(),
            sync: self.sync,
            health: self.health,
            message: String::new(),
            objects: 0,
            synced: 0,
            healthy: 0,
            waiting: 0,
            unapproved: 0,
            since: self.since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger;
    use muster_proto::ObjectKey;
    use proptest::prelude::*;

    fn standing() -> impl Strategy<Value = Standing> {
        (any::<bool>(), any::<bool>(), 0i64..3).prop_map(|(synced, works, since)| Standing {
            sync: if synced {
                SyncStatus::Synced
            } else {
                SyncStatus::Failed
            },
            health: if works {
                HealthStatus::Current
            } else {
                HealthStatus::Failed
            },
            since: Timestamp(since),
        })
    }

    prop_compose! {
        fn rows()(
            applications in prop::collection::btree_map(0u8..3, standing(), 0..3),
            objects in prop::collection::btree_map(0u8..3, standing(), 0..3),
        ) -> Rows {
            let applications = applications.into_iter().map(|(name, standing)|
                standing.application(format!("app-{name}").parse().unwrap()));
            let objects = objects.into_iter().map(|(name, standing)| ObjectStatus {
                key: ObjectKey { group: "apps".into(), kind: "Deployment".into(), namespace: "n".into(), name: format!("d{name}") },
                application: unknown(), sync: standing.sync, health: standing.health, message: String::new(),
                since: standing.since, last_drift: None,
            });
            Rows::new(0, applications, objects)
        }
    }

    proptest! {
        #[test]
        fn since_when_reads_back_after_any_change(old in rows(), new in rows()) {
            let mut kept = items(&old);
            prop_assert_eq!(read(&kept), old.clone());
            ledger::apply(&mut kept, change(&old, &new));
            prop_assert_eq!(read(&kept), new);
        }
    }

    #[test]
    fn what_can_not_be_read_is_left_out() {
        let items = Items::from([
            ("since/application/shop".into(), Bytes::from_static(b"{}")),
            ("since/object/a".into(), Bytes::from_static(b"{}")),
            ("sincerely".into(), Bytes::from_static(b"{}")),
        ]);
        assert_eq!(read(&items), Rows::default());
    }
}
