//! Who changed which field of ours. Pure.
//!
//! Every foreign write that changes a value of ours takes that field out of our managedFields entry, so comparing the
//! field set stored at our last apply with the one there now tells what was changed, without any value. In: both
//! sets and the live managedFields. Out: field paths, and the manager that wrote last. [`stated`] tells of the few
//! writes that field sets do not show. [`delay`] says how long to wait before correcting the same object again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use muster_proto::Timestamp;
use muster_proto::object::canonical;
use serde_json::Value;

mod added;
mod paths;
pub(crate) mod stated;
mod values;

pub(crate) use added::added;
pub(crate) use paths::{Path, leaves, shown, value};
pub(crate) use values::{changes, is_secret};

/// Our one field manager.
pub(crate) const MANAGER: &str = "muster";

/// Fields of ours that somebody else changed or took out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changed {
    /// Which.
    pub(crate) paths: Vec<Path>,
    /// Who holds them now, or wrote last; empty when nobody can be named.
    pub(crate) manager: String,
    /// When that one wrote, to the second, where the API server noted it.
    pub(crate) at: Option<Timestamp>,
}

impl Changed {
    /// Paths such as `.spec.replicas` or `.spec.containers[name="web"].image`.
    pub(crate) fn fields(&self) -> Vec<String> {
        self.paths.iter().map(paths::shown).collect()
    }
}

/// Our entry: what we applied.
pub(crate) fn our_entry(managed: &[ManagedFieldsEntry]) -> Option<&ManagedFieldsEntry> {
    managed.iter().find(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && is_of_whole(entry)
    })
}

/// Is it of writes to the object itself, and of no subresource?
pub(crate) fn is_of_whole(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref().unwrap_or_default().is_empty()
}

/// An entry's field set as canonical text.
pub(crate) fn field_set(entry: &ManagedFieldsEntry) -> String {
    let fields = entry
        .fields_v1
        .as_ref()
        .map_or(&Value::Null, |fields| &fields.0);
    String::from_utf8(canonical(fields)).expect("JSON is UTF-8")
}

/// Compares the field set of our last apply with what the object says now.
pub(crate) fn compare(stored: &str, managed: &[ManagedFieldsEntry]) -> Changed {
    let stored = serde_json::from_str(stored)
        .map(|set| leaves(&set))
        .unwrap_or_default();
    let held_by = |entry: &ManagedFieldsEntry| {
        entry
            .fields_v1
            .as_ref()
            .map(|fields| leaves(&fields.0))
            .unwrap_or_default()
    };
    let ours = our_entry(managed).map(held_by).unwrap_or_default();
    let lost: BTreeSet<&Path> = stored.difference(&ours).collect();
    let foreign = || {
        managed
            .iter()
            .filter(|entry| entry.manager.as_deref() != Some(MANAGER))
    };
    let holders =
        &mut foreign().filter(|entry| held_by(entry).iter().any(|path| lost.contains(path)));
    // A value that was taken out is held by nobody: then the newest other writer is the best guess.
    let (manager, at) = newest(holders)
        .or_else(|| newest(&mut foreign()))
        .unwrap_or_default();
    Changed {
        paths: lost.into_iter().cloned().collect(),
        manager,
        at,
    }
}

/// What no field set tells: values in `set` that are not as Git states them. The last writer is named, also when that one
/// calls itself as we do.
pub(crate) fn rewritten(
    set: &Value,
    stated: &Value,
    live: &Value,
    managed: &[ManagedFieldsEntry],
) -> Changed {
    let ours = our_entry(managed);
    let others = managed
        .iter()
        .filter(|entry| is_of_whole(entry) && Some(*entry) != ours);
    // Of writers in the same second the last here.
    let (manager, at) = newest(&mut others.chain(ours)).unwrap_or_default();
    Changed {
        paths: stated::differing(set, stated, live),
        manager,
        at,
    }
}

/// Who wrote last of these, and when.
fn newest(
    entries: &mut dyn Iterator<Item = &ManagedFieldsEntry>,
) -> Option<(String, Option<Timestamp>)> {
    let newest = entries.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    let at = newest.time.as_ref().map(|time| time.0.as_millisecond());
    Some((
        newest.manager.clone().unwrap_or_default(),
        at.map(Timestamp),
    ))
}

/// How long to wait before correcting an object that was corrected `streak` times in short order. A few corrections
/// are immediate; then something fights us, and we wait 2 s, doubling to 5 minutes.
pub(crate) fn delay(streak: u32) -> Duration {
    const PATIENCE: u32 = 4;
    match streak.checked_sub(PATIENCE) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs((2_u64 << over.min(8)).min(300)),
    }
}

/// Is a correction this long after the last one still part of the same fight?
pub(crate) fn goes_on(streak: u32, since_last: Duration) -> bool {
    since_last < delay(streak) * 2 + Duration::from_secs(20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, second: u8, fields: Value) -> ManagedFieldsEntry {
        serde_json::from_value(
            json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:00:{second:02}Z"), "fieldsV1": fields}),
        )
        .unwrap()
    }

    #[test]
    fn a_changed_value_is_named_with_the_one_who_holds_it_now() {
        let stored = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}}).to_string();
        let managed = [
            entry("muster", "Apply", 1, json!({"f:spec": {"f:paused": {}}})),
            entry("controller", "Update", 9, json!({"f:status": {}})),
            entry(
                "kubectl-edit",
                "Update",
                5,
                json!({"f:spec": {"f:replicas": {}}}),
            ),
        ];
        let changed = compare(&stored, &managed);
        assert_eq!(changed.fields(), [".spec.replicas"]);
        assert_eq!(changed.manager, "kubectl-edit");
        // 2026-01-01T00:00:05Z, when that manager wrote.
        assert_eq!(changed.at, Some(Timestamp(1_767_225_605_000)));
    }

    #[test]
    fn a_value_taken_out_is_blamed_on_the_newest_other_writer() {
        let stored = json!({"f:data": {"f:a.b": {}, ".": {}}}).to_string();
        let managed = [
            entry("old", "Update", 1, json!({"f:metadata": {}})),
            entry("kubectl-patch", "Update", 5, json!({"f:metadata": {}})),
        ];
        let changed = compare(&stored, &managed);
        assert_eq!(changed.fields(), [".data[\"a.b\"]"]);
        assert_eq!(changed.manager, "kubectl-patch");
    }

    #[test]
    fn list_items_are_shown_by_their_keys() {
        let stored = json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}},
            "f:finalizers": {"v:\"x\"": {}}}});
        let changed = compare(&stored.to_string(), &[]);
        assert_eq!(
            changed.fields(),
            [
                ".spec.containers[name=\"web\"].image",
                ".spec.finalizers[=\"x\"]"
            ]
        );
        assert_eq!(changed.manager, "");
    }

    #[test]
    fn nothing_changed_is_no_field() {
        let fields = json!({"f:data": {"f:a": {}}});
        let managed = [
            entry("muster", "Apply", 1, fields.clone()),
            entry("x", "Update", 2, json!({})),
        ];
        assert_eq!(
            compare(&fields.to_string(), &managed).fields(),
            Vec::<String>::new()
        );
        assert_eq!(field_set(&managed[0]), fields.to_string());
    }

    #[test]
    fn corrections_are_immediate_at_first_and_then_wait_longer_and_longer() {
        let seconds: Vec<u64> = [0, 1, 3, 4, 5, 6, 20, 400]
            .map(|streak| delay(streak).as_secs())
            .to_vec();
        assert_eq!(seconds, [0, 0, 0, 2, 4, 8, 300, 300]);
        assert!(goes_on(10, delay(10)));
        assert!(!goes_on(1, Duration::from_secs(60)));
    }
}
