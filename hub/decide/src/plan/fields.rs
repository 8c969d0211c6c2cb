//! Which fields two versions of an object differ in. Nothing that a Secret holds is told.
//!
//! Lists whose items have names are compared item by item, as the API server merges them; other lists as a whole.

use std::collections::BTreeSet;

use muster_proto::{MASK, ObjectKey, Settings, shortened};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::immutable;
use crate::builtin::Shape;

/// Characters of one value.
const LONGEST: usize = 200;

/// A field before and after. Values of Secrets are masked, long ones are cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Such as `.spec.containers[name="web"].image`.
    pub path: String,
    /// As JSON; `None` when it was not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// As JSON; `None` when it is not stated any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The API server does not let it change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub immutable: bool,
}

/// The fields of two versions of an object, by path.
pub(super) fn of_objects(key: &ObjectKey, before: &Value, after: &Value) -> Vec<FieldChange> {
    let text = |field: &str| after.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut compare = Compare {
        secret: key.is_secret(),
        changes: Vec::new(),
    };
    let shape = Shape::of(text("apiVersion"), text("kind"));
    compare.values("", shape, Some(before), Some(after));
    for change in &mut compare.changes {
        change.immutable = immutable::is_immutable(key, &change.path, before, after);
    }
    compare.changes
}

/// The settings that an application's agent is told, by path.
pub(super) fn of_settings(before: &Settings, after: &Settings) -> Vec<FieldChange> {
    let json = |settings| serde_json::to_value(settings).unwrap_or_default();
    let mut compare = Compare {
        secret: false,
        changes: Vec::new(),
    };
    let nothing = Shape::of("", "");
    compare.values("", nothing, Some(&json(before)), Some(&json(after)));
    compare.changes
}

struct Compare {
    secret: bool,
    changes: Vec<FieldChange>,
}

impl Compare {
    fn values(&mut self, path: &str, shape: Shape, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (before, after) if before == after => {}
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                for name in names {
                    let path = format!("{path}{}", step(name));
                    self.values(&path, shape.field(name), before.get(name), after.get(name));
                }
            }
            (Some(Value::Array(had)), Some(Value::Array(has))) => {
                match (items(had, shape), items(has, shape)) {
                    (Some(had), Some(has)) => self.items(path, shape, &had, &has),
                    _ => self.say(path, before, after),
                }
            }
            _ => self.say(path, before, after),
        }
    }

    fn items(&mut self, path: &str, shape: Shape, before: &[Item<'_>], after: &[Item<'_>]) {
        let of = |items: &[Item<'_>], name: &str| {
            let item = items.iter().position(|(found, _)| found == name);
            item.map(|at| items[at].1.clone())
        };
        let mut names: Vec<&String> = after.iter().map(|(name, _)| name).collect();
        names.extend(before.iter().map(|(name, _)| name));
        let mut seen = BTreeSet::new();
        for name in names.into_iter().filter(|name| seen.insert(*name)) {
            let path = format!("{path}[{name}]");
            let (before, after) = (of(before, name), of(after, name));
            self.values(&path, shape.item(), before.as_ref(), after.as_ref());
        }
    }

    fn say(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        let secret = self.secret && !is_harmless(path);
        let text = |value: &Value| if secret { MASK.to_owned() } else { told(value) };
        self.changes.push(FieldChange {
            path: path.to_owned(),
            before: before.map(text),
            after: after.map(text),
            immutable: false,
        });
    }
}

/// Of a Secret, only its labels and its type are nobody's secret: annotations quote what was applied.
fn is_harmless(path: &str) -> bool {
    let below = |field: &str| {
        let rest = path.strip_prefix(field);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    [".type", ".apiVersion", ".immutable", ".metadata.labels"]
        .into_iter()
        .any(below)
}

/// A list's item with the text that tells it apart.
type Item<'v> = (String, Value);

/// The items of a list that tells them apart by names; `None` when it is compared as a whole.
fn items<'v>(list: &'v [Value], shape: Shape) -> Option<Vec<Item<'v>>> {
    let known = shape.merge_keys();
    let keys: &[&str] = if known.is_empty() { &["name"] } else { known };
    // Of lists that we know to be replaced whole, too, people want to see the item.
    let mut items = Vec::new();
    let mut names = BTreeSet::new();
    for item in list {
        let fields: &Map<String, Value> = item.as_object()?;
        let told = keys.iter().filter_map(|key| {
            let value = fields.get(*key)?;
            Some(format!("{key}={value}"))
        });
        let name = told.collect::<Vec<_>>().join(",");
        if name.is_empty() || !names.insert(name.clone()) {
            return None;
        }
        items.push((name, item.clone()));
    }
    Some(items)
}

fn step(name: &str) -> String {
    match name.contains(['.', '/', '[']) {
        true => format!("[{name:?}]"),
        false => format!(".{name}"),
    }
}

fn told(value: &Value) -> String {
    shortened(value.to_string(), LONGEST)
}
