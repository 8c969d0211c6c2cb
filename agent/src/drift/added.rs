//! Fields that people put on an object of ours and Git does not state. Pure.
//!
//! They leave our own managedFields entry as it is, and a forced apply keeps them: a container, an env item,
//! hostNetwork. What people write is written by kubectl, or by a tool that the application names; what controllers and
//! webhooks add is nobody's drift.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use muster_proto::Timestamp;
use serde_json::Value;

use super::paths::{Path, leaves};
use super::{Changed, is_of_whole, our_entry};
use crate::marks;

/// What people added, beside what is left to others. `people`: do they write as this field manager? `reads`: is this
/// entry looked at? `apart` takes what is left to others out of a field set.
pub(crate) fn added(
    managed: &[ManagedFieldsEntry],
    reads: impl Fn(&ManagedFieldsEntry) -> bool,
    people: impl Fn(&str) -> bool,
    apart: impl Fn(&Value) -> Value,
) -> Changed {
    let set = |entry: &ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref();
        fields.map_or(Value::Null, |fields| fields.0.clone())
    };
    let ours = our_entry(managed).map(|entry| leaves(&set(entry)));
    let ours = ours.unwrap_or_default();
    let mut changed = Changed::default();
    let mut all = BTreeSet::new();
    for entry in managed {
        let by_people = people(entry.manager.as_deref().unwrap_or_default());
        if !by_people || !is_of_whole(entry) || !reads(entry) {
            continue;
        }
        let mut theirs = leaves(&apart(&set(entry)));
        theirs.retain(|path| !ours.contains(path) && counts(path));
        if theirs.is_empty() {
            continue;
        }
        let time = entry.time.as_ref();
        let at = time.map(|time| Timestamp(time.0.as_millisecond()));
        if changed.manager.is_empty() || changed.at <= at {
            changed.manager = entry.manager.clone().unwrap_or_default();
            changed.at = at;
        }
        all.extend(theirs);
    }
    changed.paths = all.into_iter().collect();
    changed
}

/// Marks are there to be put on by hand; kubectl's own notes and empty maps are nothing.
fn counts(path: &Path) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["f:metadata", "f:annotations" | "f:labels"] => false,
        ["f:metadata", "f:annotations" | "f:labels", name] => {
            let name = name.trim_start_matches("f:");
            !marks::is_mark(name) && name != "kubectl.kubernetes.io/last-applied-configuration"
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::takeover;
    use serde_json::json;

    fn entry(manager: &str, second: u8, subresource: &str, fields: Value) -> ManagedFieldsEntry {
        let operation = if manager == "muster" {
            "Apply"
        } else {
            "Update"
        };
        serde_json::from_value(
            json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1",
            "subresource": subresource, "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:00:{second:02}Z"), "fieldsV1": fields}),
        )
        .unwrap()
    }

    fn by_people(manager: &str) -> bool {
        takeover::Whose::default().is_of_people(manager)
    }

    fn added_by(entries: &[ManagedFieldsEntry]) -> Changed {
        added(entries, |_| true, by_people, Value::clone)
    }

    #[test]
    fn what_a_person_added_is_named_and_what_controllers_add_is_not() {
        let ours =
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}});
        let sidecar = json!({"f:spec": {"f:hostNetwork": {}, "f:containers": {
            "k:{\"name\":\"web\"}": {"f:image": {}},
            "k:{\"name\":\"debug\"}": {".": {}, "f:image": {}}}}});
        let managed = [
            entry("muster", 1, "", ours),
            entry("kubectl-edit", 5, "", sidecar),
            entry("kubectl-patch", 3, "", json!({"f:spec": {"f:paused": {}}})),
            entry("istio", 9, "", json!({"f:spec": {"f:injected": {}}})),
            entry("kubectl", 9, "scale", json!({"f:spec": {"f:replicas": {}}})),
            entry(
                "kubectl-rollout",
                9,
                "",
                json!({"f:spec": {"f:restartedAt": {}}}),
            ),
        ];
        let added = added_by(&managed);
        assert_eq!(
            added.fields(),
            [
                ".spec.containers[name=\"debug\"].image",
                ".spec.hostNetwork",
                ".spec.paused"
            ]
        );
        assert_eq!(added.manager, "kubectl-edit");
        assert_eq!(added.at, Some(Timestamp(1_767_225_605_000)));
    }

    #[test]
    fn marks_and_notes_are_no_additions_and_what_is_left_to_others_is_not_either() {
        let annotations = json!({"f:metadata": {"f:annotations": {".": {}, "f:muster.dev/apply": {},
            "f:helm.sh/resource-policy": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}}});
        let marked = [entry("kubectl-annotate", 1, "", annotations)];
        assert_eq!(added_by(&marked), Changed::default());
        let label = json!({"f:metadata": {"f:labels": {"f:team": {}}}});
        let labelled = [entry("kubectl-label", 1, "", label)];
        assert_eq!(added_by(&labelled).fields(), [".metadata.labels.team"]);
        let nothing = added(&labelled, |_| true, by_people, |_| json!({}));
        assert_eq!(nothing, Changed::default());
        assert_eq!(
            added(&labelled, |_| false, by_people, Value::clone),
            Changed::default()
        );
    }

    #[test]
    fn a_tool_that_the_application_names_writes_for_people() {
        let managed = [entry("k9s", 1, "", json!({"f:spec": {"f:paused": {}}}))];
        assert_eq!(added_by(&managed), Changed::default());
        let named = ["k9s".to_owned()];
        let whose = takeover::Whose {
            named: &named,
            ..takeover::Whose::default()
        };
        let people = |manager: &str| whose.is_of_people(manager);
        let added = added(&managed, |_| true, people, Value::clone);
        assert_eq!(added.fields(), [".spec.paused"]);
        assert_eq!(added.manager, "k9s");
    }
}
