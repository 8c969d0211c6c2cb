//! Taking over fields that were applied before us, so that what leaves Git leaves the object too. Pure.
//!
//! In: managedFields of an object, and whose fields are ours to take. Out: managedFields in which they belong to our
//! own entry. Otherwise two managers hold a field, and dropping it from Git removes nothing, for ever
//! (kubernetes/kubernetes#99003).

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use muster_proto::Additions;
use serde_json::{Value, json};

use crate::desired::wanted::Wanted;
use crate::drift::{self, MANAGER};
use crate::fields;
use crate::ignore::Ignore;
use crate::marks;

/// Where `kubectl apply` keeps what it applied.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What the API server calls fields that were there before the first server-side apply.
const BEFORE: &str = "before-first-apply";
/// `kubectl rollout restart` marks the Pod template: taken over and dropped, all Pods would be rolled again.
const ROLLOUT: &str = "kubectl-rollout";

/// Whose fields are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Whose<'a> {
    /// Those of `kubectl`, in all its commands but `rollout`.
    pub(crate) kubectl: bool,
    /// And those of these.
    pub(crate) named: &'a [String],
    /// Git states `spec.replicas`. Where it does not, they stay with whoever set them last: taken over and dropped
    /// they would fall back to 1 under an autoscaler (kubernetes/kubernetes#67135).
    pub(crate) replicas: bool,
    /// What the application leaves to others stays with them, people at `kubectl` too: taken over and, as it is left out
    /// of what is applied, dropped, it would fall back to a default.
    pub(crate) ignore: Option<&'a Ignore>,
}

/// managedFields with the fields of others in our entry; `None` when there is nothing to take.
///
/// Paths of one version mean nothing in another, so what is held in other versions than ours is taken one version at a
/// time: our entry becomes one of that version, and holds what others held in it and nothing else. The apply that must
/// follow brings our own back: the API server converts, and removes what the entry before held and the new one does not.
pub(crate) fn taken_over(
    managed: &[ManagedFieldsEntry],
    api_version: &str,
    whose: Whose<'_>,
) -> Option<Vec<ManagedFieldsEntry>> {
    let own = drift::our_entry(managed).map_or(api_version, version);
    let others: BTreeSet<&str> = managed.iter().map(version).collect();
    let others = others.into_iter().filter(|other| *other != own);
    let mut versions =
        std::iter::once(own).chain(others.filter(|_| whose.reaches_other_versions()));
    versions.find_map(|version| taken_in(managed, version, whose))
}

/// Of what is held in one version.
fn taken_in(
    managed: &[ManagedFieldsEntry],
    version: &str,
    whose: Whose<'_>,
) -> Option<Vec<ManagedFieldsEntry>> {
    let ours = drift::our_entry(managed);
    let same = ours.filter(|ours| self::version(ours) == version);
    let mut fields = same.map_or_else(|| json!({}), set);
    let mut rest = Vec::new();
    let mut took = false;
    for entry in managed.iter().filter(|entry| Some(*entry) != ours) {
        if !whose.takes(entry) || self::version(entry) != version {
            rest.push(entry.clone());
            continue;
        }
        let (taken, left) = whose.split(&set(entry));
        if !fields::is_nothing(&taken) {
            took = true;
            fields = fields::union(&fields, &taken);
        }
        if !fields::is_nothing(&left) {
            rest.push(with(entry, left));
        }
    }
    if !took {
        return None;
    }
    let template = same.cloned().unwrap_or_else(|| ManagedFieldsEntry {
        manager: Some(MANAGER.into()),
        operation: Some("Apply".into()),
        api_version: Some(version.to_owned()),
        fields_type: Some("FieldsV1".into()),
        time: rest
            .iter()
            .chain(managed)
            .find_map(|entry| entry.time.clone()),
        ..ManagedFieldsEntry::default()
    });
    rest.insert(0, with(&template, fields));
    Some(rest)
}

fn is_kubectl(manager: &str) -> bool {
    manager.starts_with("kubectl")
}

impl<'a> Whose<'a> {
    /// On an object that is wanted. One that is not ours yet is taken over from all who applied it; where people's
    /// additions are let be, kubectl's stay with it after that.
    pub(crate) fn of(wanted: &'a Wanted, ours: bool) -> Self {
        Self {
            kubectl: !ours || wanted.settings.additions == Additions::Repair,
            named: &wanted.settings.take_over,
            replicas: wanted.replicas,
            ignore: wanted.ignore.as_deref(),
        }
    }

    /// Is what others hold in another version than ours taken, too? Rules name fields in the version that Git states, and
    /// what they leave to others can't be told from the rest in another one.
    fn reaches_other_versions(&self) -> bool {
        self.ignore.is_none_or(|ignore| !ignore.names_fields())
    }

    /// Is what this entry holds looked at, by its version?
    pub(crate) fn reads(&self, entry: &ManagedFieldsEntry, api_version: &str) -> bool {
        version(entry) == api_version || self.reaches_other_versions()
    }

    /// Is what this entry holds taken, in another version than this one?
    pub(crate) fn reaches(&self, entry: &ManagedFieldsEntry, api_version: &str) -> bool {
        version(entry) != api_version && self.reaches_other_versions() && self.takes(entry)
    }

    /// Does this field manager write for people? kubectl does, but for what `kubectl rollout restart` marks: undone, the
    /// Pods would be rolled again. So does a tool that the application names.
    pub(crate) fn is_of_people(&self, manager: &str) -> bool {
        manager != ROLLOUT && (is_kubectl(manager) || self.names(manager))
    }

    fn names(&self, manager: &str) -> bool {
        self.named.iter().any(|named| named == manager)
    }

    fn takes(&self, entry: &ManagedFieldsEntry) -> bool {
        if !drift::is_of_whole(entry) {
            return false;
        }
        let manager = entry.manager.as_deref().unwrap_or_default();
        match manager {
            ROLLOUT => false,
            BEFORE => true,
            MANAGER => entry.operation.as_deref() == Some("Update"),
            _ if self.ignore.is_some_and(|ignore| ignore.is_let(manager)) => false,
            _ => self.kubectl && is_kubectl(manager) || self.names(manager),
        }
    }

    /// What would be taken of a set.
    pub(crate) fn part(&self, set: &Value) -> Value {
        self.split(set).0
    }

    /// What is taken of a set, and what stays. Marks are put on by hand, and stay until they are taken off by hand.
    fn split(&self, set: &Value) -> (Value, Value) {
        let marks = marks::all().flat_map(|mark| {
            ["annotations", "labels"].map(|map| {
                let pointer = format!("/metadata/{map}/{}", mark.replace('/', "~1"));
                let field = json!({"f:metadata": {format!("f:{map}"): {format!("f:{mark}"): {}}}});
                (pointer, field)
            })
        });
        let replicas = (
            "/spec/replicas".to_owned(),
            json!({"f:spec": {"f:replicas": {}}}),
        );
        let replicas = (!self.replicas).then_some(replicas);
        let (mut taken, mut left) = (set.clone(), json!({}));
        for (pointer, field) in marks.chain(replicas) {
            let path = fields::Path::pointer(&pointer);
            if path.is_in(&taken, &Value::Null) {
                taken = path.without(&taken, &Value::Null);
                left = fields::union(&left, &field);
            }
        }
        if let Some(ignore) = self.ignore {
            let theirs = ignore.of_rules(&taken);
            taken = fields::minus(&taken, &theirs);
            left = fields::union(&left, &theirs);
        }
        (taken, left)
    }
}

fn version(entry: &ManagedFieldsEntry) -> &str {
    entry.api_version.as_deref().unwrap_or_default()
}

fn set(entry: &ManagedFieldsEntry) -> Value {
    let fields = entry.fields_v1.as_ref();
    fields.map_or_else(|| json!({}), |fields| fields.0.clone())
}

fn with(entry: &ManagedFieldsEntry, fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        fields_v1: Some(FieldsV1(fields)),
        ..entry.clone()
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::IgnoreRule;

    use super::*;
    use crate::ignore;

    const ALL: Whose<'static> = Whose {
        kubectl: true,
        named: &[],
        replicas: true,
        ignore: None,
    };

    fn entry(
        manager: &str,
        operation: &str,
        subresource: &str,
        fields: Value,
    ) -> ManagedFieldsEntry {
        serde_json::from_value(json!({"manager": manager, "operation": operation, "subresource": subresource,
            "apiVersion": "v1", "fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}))
        .unwrap()
    }

    /// Managers and their fields, ours first.
    fn after(managed: &[ManagedFieldsEntry], whose: Whose<'_>) -> Option<Vec<(String, Value)>> {
        let after = taken_over(managed, "v1", whose)?;
        Some(
            after
                .iter()
                .map(|entry| (entry.manager.clone().unwrap(), set(entry)))
                .collect(),
        )
    }

    #[test]
    fn who_is_taken_over_and_who_is_not() {
        let table = [
            ("kubectl-client-side-apply", "Update", "", true),
            ("kubectl-edit", "Update", "", true),
            ("kubectl", "Apply", "", true),
            ("before-first-apply", "Update", "", true),
            ("muster", "Update", "", true),
            ("kubectl-rollout", "Update", "", false),
            ("kubectl", "Update", "scale", false),
            ("kubectl-edit", "Update", "status", false),
            ("kube-controller-manager", "Update", "", false),
            ("helm", "Update", "", false),
        ];
        for (manager, operation, subresource, taken) in table {
            let managed = [entry(
                manager,
                operation,
                subresource,
                json!({"f:data": {"f:a": {}}}),
            )];
            let after = after(&managed, ALL);
            let expected =
                taken.then(|| vec![("muster".to_owned(), json!({"f:data": {"f:a": {}}}))]);
            assert_eq!(after, expected, "{manager} {subresource}");
        }
    }

    #[test]
    fn fields_come_together_in_our_entry_and_the_others_stay_as_they_are() {
        let managed = [
            entry(
                "kubectl-client-side-apply",
                "Update",
                "",
                json!({"f:data": {"f:a": {}}}),
            ),
            entry("muster", "Apply", "", json!({"f:data": {"f:b": {}}})),
            entry("controller", "Update", "status", json!({"f:status": {}})),
        ];
        assert_eq!(
            after(&managed, ALL).unwrap(),
            [
                (
                    "muster".to_owned(),
                    json!({"f:data": {"f:a": {}, "f:b": {}}})
                ),
                ("controller".to_owned(), json!({"f:status": {}})),
            ]
        );
        assert_eq!(after(&managed[1..], ALL), None);
    }

    #[test]
    fn named_managers_are_taken_over_and_kubectl_only_where_it_is_wanted() {
        let managed = [
            entry("helm", "Update", "", json!({"f:data": {"f:a": {}}})),
            entry("kubectl-edit", "Update", "", json!({"f:data": {"f:b": {}}})),
        ];
        let named = ["helm".to_owned()];
        let whose = Whose {
            kubectl: false,
            named: &named,
            ..ALL
        };
        let after = after(&managed, whose).unwrap();
        assert_eq!(
            after[0],
            ("muster".to_owned(), json!({"f:data": {"f:a": {}}}))
        );
        assert_eq!(after[1].0, "kubectl-edit");
    }

    #[test]
    fn what_is_held_in_another_version_is_taken_by_an_entry_of_that_version() {
        let in_version = |version: &str, mut entry: ManagedFieldsEntry| {
            entry.api_version = Some(version.into());
            entry
        };
        let kubectl = |version, field: &str| {
            let fields = json!({"f:data": {field: {}}});
            in_version(
                version,
                entry("kubectl-client-side-apply", "Update", "", fields),
            )
        };
        let ours = in_version(
            "v1",
            entry("muster", "Apply", "", json!({"f:data": {"f:b": {}}})),
        );
        // Our own version first.
        let both = [
            ours.clone(),
            kubectl("v1beta1", "f:old"),
            kubectl("v1", "f:new"),
        ];
        let first = taken_over(&both, "v1", ALL).unwrap();
        assert_eq!(version(&first[0]), "v1");
        assert_eq!(set(&first[0]), json!({"f:data": {"f:b": {}, "f:new": {}}}));
        assert_eq!(first[1..], [kubectl("v1beta1", "f:old")]);
        // Then the other one, in place of what we applied: the next apply brings that back.
        let managed = [ours, kubectl("v1beta1", "f:old")];
        let second = taken_over(&managed, "v1", ALL).unwrap();
        assert_eq!(second.len(), 1);
        assert_eq!(version(&second[0]), "v1beta1");
        assert_eq!(set(&second[0]), json!({"f:data": {"f:old": {}}}));
        assert_eq!(taken_over(&second, "v1", ALL), None);

        // A rule that names fields names them in our version.
        let key = crate::graph::namespace_key("n");
        let rule = |rule: Value| {
            let rule: IgnoreRule = serde_json::from_value(rule).unwrap();
            ignore::ignore(&[rule], &key, &json!({})).unwrap()
        };
        let ignoring = |ignore: &Ignore| {
            let whose = Whose {
                ignore: Some(ignore),
                ..ALL
            };
            taken_over(&managed, "v1", whose).is_some()
        };
        assert!(!ignoring(&rule(json!({"jsonPointers": ["/spec/x"]}))));
        assert!(ignoring(&rule(json!({"managers": ["somebody"]}))));
    }

    #[test]
    fn replicas_that_git_does_not_state_stay_with_whoever_set_them() {
        let fields = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let managed = [entry("kubectl-client-side-apply", "Update", "", fields)];
        let whose = Whose {
            replicas: false,
            ..ALL
        };
        let after = after(&managed, whose).unwrap();
        assert_eq!(
            after[0],
            ("muster".to_owned(), json!({"f:spec": {"f:paused": {}}}))
        );
        assert_eq!(
            after[1],
            (
                "kubectl-client-side-apply".to_owned(),
                json!({"f:spec": {"f:replicas": {}}})
            )
        );
        // And then there is nothing to take any more.
        let rest = taken_over(&managed, "v1", whose).unwrap();
        assert_eq!(taken_over(&rest, "v1", whose), None);
    }

    #[test]
    fn what_is_ignored_stays_with_whoever_wrote_it() {
        let key = crate::graph::namespace_key("n");
        let rule = |rule: Value| {
            let rule: IgnoreRule = serde_json::from_value(rule).unwrap();
            ignore::ignore(&[rule], &key, &json!({})).unwrap()
        };
        let fields = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let managed = [entry("kubectl-edit", "Update", "", fields.clone())];
        let field = rule(json!({"jsonPointers": ["/spec/replicas"]}));
        let whose = Whose {
            ignore: Some(&field),
            ..ALL
        };
        let expected = [
            ("muster", json!({"f:spec": {"f:paused": {}}})),
            ("kubectl-edit", json!({"f:spec": {"f:replicas": {}}})),
        ];
        let expected = expected.map(|(manager, fields)| (manager.to_owned(), fields));
        assert_eq!(after(&managed, whose).unwrap(), expected);
        assert_eq!(
            whose.part(&fields),
            json!({"f:spec": {"f:paused": {}}}),
            "nor is it an addition"
        );
        let manager = rule(json!({"managers": ["kubectl-edit"]}));
        let whose = Whose {
            ignore: Some(&manager),
            ..ALL
        };
        assert_eq!(after(&managed, whose), None);
    }
}
