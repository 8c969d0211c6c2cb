//! Fields that are left to others: by the application's `ignoreDifferences`, and replicas under an autoscaler. Pure.
//!
//! The same rule holds twice. In drift: [`left`] says what our entry holds apart from such fields. In an apply onto an
//! object that is there: [`fit`] takes such a field out of the body when somebody else owns it, and keeps the live
//! value when nobody does. An object is created as Git states it, and made [`anew`] so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use muster_proto::{Digest, IgnoreRule, ObjectKey};
use serde_json::{Value, json};

use crate::drift::{self, MANAGER};
use crate::fields::{self, Path};
use crate::live;

/// What one object's application leaves to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ignore {
    paths: Vec<Path>,
    managers: Vec<String>,
    /// As the object states it, for numbers of list items in paths.
    object: Value,
    /// Of the rules, so that an object is applied again when they change.
    pub(crate) digest: Digest,
}

/// What is left to others on a live object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// What managers own that are let do as they like.
    others: Value,
    /// Replicas among it: something scales the object.
    scaled: bool,
    /// Of our own field set without all that is left to others.
    pub(crate) ours: Digest,
}

/// What the rules of an application say of one object; `None` when nothing.
pub(crate) fn ignore(rules: &[IgnoreRule], key: &ObjectKey, object: &Value) -> Option<Ignore> {
    let rules: Vec<&IgnoreRule> = rules.iter().filter(|rule| rule.matches(key)).collect();
    if rules.is_empty() {
        return None;
    }
    let pointers = rules.iter().flat_map(|rule| &rule.json_pointers);
    let items = rules.iter().flat_map(|rule| &rule.list_items);
    let paths = pointers.map(|pointer| Path::pointer(pointer));
    let paths = paths.chain(items.map(|item| Path::item(&item.list, &item.key)));
    let text = serde_json::to_vec(&rules).expect("rules can be written");
    Some(Ignore {
        paths: paths.collect(),
        managers: rules
            .iter()
            .flat_map(|rule| rule.managers.iter().cloned())
            .collect(),
        object: object.clone(),
        digest: Digest::of([text]),
    })
}

impl Ignore {
    /// The part of a field set that the rules name by field or list item.
    pub(crate) fn of_rules(&self, set: &Value) -> Value {
        let parts = self.paths.iter().map(|path| path.only(set, &self.object));
        parts.fold(json!({}), |all, part| fields::union(&all, &part))
    }

    /// Does it name fields or list items, and not managers alone?
    pub(crate) fn names_fields(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Is whatever this manager owns left to it?
    pub(crate) fn is_let(&self, manager: &str) -> bool {
        self.managers.iter().any(|named| named == manager)
    }
}

/// What is left to others on an object with these managedFields; `None` when nothing.
pub(crate) fn left(ignore: Option<&Ignore>, managed: &[ManagedFieldsEntry]) -> Option<Left> {
    let others = of_others(ignore, managed);
    if fields::is_nothing(&others) && ignore.is_none_or(|ignore| ignore.paths.is_empty()) {
        return None;
    }
    let ours = drift::our_entry(managed).map_or_else(|| json!({}), set);
    let ours = live::fields_digest(&text(&apart(&ours, ignore, &others)));
    let scaled = managed.iter().any(scales);
    Some(Left {
        others,
        scaled,
        ours,
    })
}

impl Left {
    /// The field set to remember of an apply onto such an object. Replicas that Git states belong to it, although they
    /// were left out: when nothing scales the object any more they are missed.
    pub(crate) fn remembered(&self, fields: String, states_replicas: bool) -> String {
        if !(self.scaled && states_replicas) {
            return fields;
        }
        let set = serde_json::from_str(&fields).unwrap_or_else(|_| json!({}));
        text(&fields::union(&set, &replicas()))
    }

    /// A stored field set of ours without all that is left to others.
    pub(crate) fn apart(&self, stored: &str, ignore: Option<&Ignore>) -> String {
        let stored = serde_json::from_str(stored).unwrap_or_else(|_| json!({}));
        text(&self.of_set(&stored, ignore))
    }

    /// A field set without all that is left to others.
    pub(crate) fn of_set(&self, set: &Value, ignore: Option<&Ignore>) -> Value {
        apart(set, ignore, &self.others)
    }
}

/// A field set without all that may be left to others at some time; `None` when that may be any field.
pub(crate) fn never_left(set: &Value, ignore: Option<&Ignore>) -> Option<Value> {
    let lets_managers = ignore.is_some_and(|ignore| !ignore.managers.is_empty());
    (!lets_managers).then(|| apart(set, ignore, &replicas()))
}

/// A body fit to be applied onto `live`.
pub(crate) fn fit(mut body: Value, live: &Value, ignore: Option<&Ignore>) -> Value {
    let managed = managed(live);
    let free = of_others(ignore, &managed);
    let held = managed
        .iter()
        .filter(|entry| entry.manager.as_deref() != Some(MANAGER))
        .fold(json!({}), |all, entry| fields::union(&all, &set(entry)));
    for path in ignore.iter().flat_map(|ignore| &ignore.paths) {
        if path.get(&body).is_none() {
            continue;
        }
        match path.get(live) {
            Some(value) => path.replace(&mut body, value.clone()),
            None => path.take_out(&mut body),
        }
        take_out(&mut body, &path.only(&held, live));
    }
    take_out(&mut body, &free);
    body
}

/// A body to make an object anew in place of `live`: as Git states it, but for replicas under an autoscaler, of which
/// there are as many as before.
pub(crate) fn anew(mut body: Value, live: &Value) -> Value {
    if managed(live).iter().any(scales)
        && let Some(replicas) = live.pointer("/spec/replicas")
    {
        body["spec"]["replicas"] = replicas.clone();
    }
    body
}

fn managed(live: &Value) -> Vec<ManagedFieldsEntry> {
    live.pointer("/metadata/managedFields")
        .and_then(|managed| serde_json::from_value(managed.clone()).ok())
        .unwrap_or_default()
}

/// Is this an autoscaler's, or of anything but a person at `kubectl`, and holds replicas?
fn scales(entry: &ManagedFieldsEntry) -> bool {
    let manager = entry.manager.as_deref().unwrap_or_default();
    entry.subresource.as_deref() == Some("scale")
        && !manager.starts_with("kubectl")
        && manager != MANAGER
        && set(entry).pointer("/f:spec/f:replicas").is_some()
}

fn of_others(ignore: Option<&Ignore>, managed: &[ManagedFieldsEntry]) -> Value {
    let scaled = managed.iter().any(scales);
    let named = managed.iter().filter(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        ignore.is_some_and(|ignore| ignore.is_let(manager))
    });
    let all = if scaled { replicas() } else { json!({}) };
    named.fold(all, |all, entry| fields::union(&all, &set(entry)))
}

fn replicas() -> Value {
    json!({"f:spec": {"f:replicas": {}}})
}

fn apart(set: &Value, ignore: Option<&Ignore>, others: &Value) -> Value {
    let mut left = fields::minus(set, others);
    if let Some(ignore) = ignore {
        for path in &ignore.paths {
            left = path.without(&left, &ignore.object);
        }
    }
    left
}

/// Takes out of a body what a set owns.
fn take_out(body: &mut Value, set: &Value) {
    let Some(children) = set.as_object() else {
        return;
    };
    for (name, below) in children {
        let whole = below.as_object().is_none_or(|below| below.is_empty());
        match (name.split_once(':'), &mut *body) {
            (Some(("f", field)), Value::Object(fields)) => {
                if whole {
                    fields.remove(field);
                } else if let Some(value) = fields.get_mut(field) {
                    take_out(value, below);
                }
            }
            (Some((how @ ("k" | "v"), item)), Value::Array(items)) => {
                let Ok(item) = serde_json::from_str::<Value>(item) else {
                    continue;
                };
                let is = |value: &Value| match item.as_object() {
                    Some(keys) if how == "k" => keys
                        .iter()
                        .all(|(name, key)| value.get(name).is_none_or(|own| own == key)),
                    _ => *value == item,
                };
                if whole {
                    items.retain(|value| !is(value));
                } else if let Some(value) = items.iter_mut().find(|value| is(value)) {
                    // Its keys tell which item it is.
                    let keys = item.as_object().cloned().unwrap_or_default();
                    take_out(value, below);
                    for (name, key) in keys {
                        value[name] = key;
                    }
                }
            }
            _ => {}
        }
    }
}

fn set(entry: &ManagedFieldsEntry) -> Value {
    let fields = entry.fields_v1.as_ref();
    fields.map_or_else(|| json!({}), |fields| fields.0.clone())
}

fn text(set: &Value) -> String {
    String::from_utf8(muster_proto::object::canonical(set)).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "web".into(),
            name: "front".into(),
        }
    }

    fn body() -> Value {
        json!({"spec": {"replicas": 2, "paused": false,
            "containers": [{"name": "web", "image": "a"}, {"name": "proxy", "image": "git"}]}})
    }

    fn rule(rule: Value) -> Ignore {
        let rule: IgnoreRule = serde_json::from_value(rule).unwrap();
        ignore(&[rule], &key(), &body()).unwrap()
    }

    fn entry(manager: &str, subresource: &str, fields: Value) -> Value {
        let operation = if manager == MANAGER {
            "Apply"
        } else {
            "Update"
        };
        json!({"manager": manager, "operation": operation, "subresource": subresource,
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn live(spec: Value, managed: &[Value]) -> Value {
        json!({"spec": spec, "metadata": {"managedFields": managed}})
    }

    #[test]
    fn an_autoscalers_replicas_are_left_alone_and_a_persons_are_not() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        for (manager, subresource, free) in [
            ("kube-controller-manager", "scale", true),
            ("keda", "scale", true),
            ("kubectl", "scale", false),
            ("kubectl-edit", "", false),
            ("keda", "", false),
        ] {
            let live = live(
                json!({"replicas": 50}),
                &[entry(manager, subresource, replicas.clone())],
            );
            assert_eq!(
                left(None, &managed(&live)).is_some(),
                free,
                "{manager} {subresource}"
            );
            let sent = fit(body(), &live, None);
            assert_eq!(
                sent["spec"].get("replicas").is_none(),
                free,
                "{manager} {subresource}"
            );
        }
    }

    #[test]
    fn what_was_taken_from_us_is_no_drift_where_it_is_ignored() {
        let stored = r#"{"f:spec":{"f:paused":{},"f:replicas":{}}}"#;
        let now = live(
            json!({}),
            &[
                entry(MANAGER, "", json!({"f:spec": {"f:paused": {}}})),
                entry("operator", "", json!({"f:spec": {"f:replicas": {}}})),
            ],
        );
        let by_path = rule(json!({"jsonPointers": ["/spec/replicas"]}));
        let by_manager = rule(json!({"managers": ["operator"]}));
        for rule in [&by_path, &by_manager] {
            let left = left(Some(rule), &managed(&now)).unwrap();
            let stored = left.apart(stored, Some(rule));
            assert_eq!(live::fields_digest(&stored), left.ours);
        }
        let other = rule(json!({"jsonPointers": ["/spec/other"]}));
        let left = left(Some(&other), &managed(&now)).unwrap();
        assert_ne!(
            live::fields_digest(&left.apart(stored, Some(&other))),
            left.ours
        );
    }

    #[test]
    fn an_ignored_field_is_left_to_its_owner_and_else_kept_as_it_is() {
        let rule = rule(
            json!({"jsonPointers": ["/spec/replicas", "/spec/paused", "/spec/absent"],
            "listItems": [{"list": "/spec/containers", "key": {"name": "proxy"}}]}),
        );
        let injector = json!({"f:spec": {"f:replicas": {}}});
        let spec = json!({"replicas": 7, "paused": true, "containers": [{"name": "web", "image": "a"}, {"name": "proxy", "image": "live"}]});
        let sent = fit(
            body(),
            &live(spec, &[entry("injector", "", injector)]),
            Some(&rule),
        );
        assert_eq!(
            sent["spec"],
            json!({"paused": true,
            "containers": [{"name": "web", "image": "a"}, {"name": "proxy", "image": "live"}]})
        );
    }

    #[test]
    fn of_an_item_that_is_shared_only_what_others_own_is_left_out() {
        let rule =
            rule(json!({"listItems": [{"list": "/spec/containers", "key": {"name": "proxy"}}]}));
        let mesh = json!({"f:spec": {"f:containers": {"k:{\"name\":\"proxy\"}": {"f:image": {}}}}});
        let spec = json!({"containers": [{"name": "proxy", "image": "live", "tty": true}]});
        let sent = fit(body(), &live(spec, &[entry("mesh", "", mesh)]), Some(&rule));
        assert_eq!(
            sent["spec"]["containers"][1],
            json!({"name": "proxy", "tty": true})
        );
    }

    #[test]
    fn replicas_are_missed_when_nothing_scales_any_more() {
        let scale = live(json!({}), &[entry("hpa", "scale", replicas())]);
        let left = left(None, &managed(&scale)).unwrap();
        assert_eq!(
            left.remembered(r#"{"f:data":{}}"#.into(), true),
            r#"{"f:data":{},"f:spec":{"f:replicas":{}}}"#
        );
        assert_eq!(left.remembered("{}".into(), false), "{}");
    }

    #[test]
    fn what_a_named_manager_owns_is_taken_out_of_the_body() {
        let rule = rule(json!({"managers": ["mesh"]}));
        let mesh = json!({"f:spec": {"f:paused": {}, "f:containers": {
            "k:{\"name\":\"proxy\"}": {".": {}, "f:image": {}, "f:name": {}}}}});
        let sent = fit(
            body(),
            &live(json!({}), &[entry("mesh", "", mesh)]),
            Some(&rule),
        );
        assert_eq!(
            sent["spec"],
            json!({"replicas": 2, "containers": [{"name": "web", "image": "a"}, {"name": "proxy"}]})
        );
    }

    #[test]
    fn rules_for_others_say_nothing_and_other_rules_are_another_digest() {
        let other: IgnoreRule =
            serde_json::from_value(json!({"kind": "Service", "jsonPointers": ["/spec"]})).unwrap();
        assert_eq!(ignore(&[other], &key(), &body()), None);
        let one = rule(json!({"jsonPointers": ["/spec/a"]})).digest;
        assert_ne!(one, rule(json!({"jsonPointers": ["/spec/b"]})).digest);
    }
}
