//! What changed between two values of one type, path by path.
//!
//! In: the value before and after. Out: three sets of paths; a changed leaf is in exactly one of them.
//! A missing value and a null are two things here: only the first counts as added or removed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fieldset::{Set, Step};
use super::schema::{Deduced, Form, List, Map, Relation, Schema, TypeId};
use super::typed::{same, scalar_fault, step_of};

/// The paths that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only in the value before.
    pub removed: Set,
    /// In both, with another content.
    pub modified: Set,
    /// Only in the value after.
    pub added: Set,
}

/// Compares two values of a type.
#[must_use]
pub fn compare(schema: &Schema, id: TypeId, before: &Value, after: &Value) -> Difference {
    walk(schema, id, Some(before), Some(after)).below
}

impl Difference {
    /// Without these paths and all below them.
    #[must_use]
    pub fn without(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            removed: self.removed.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            added: self.added.recursive_difference(ignored),
        }
    }

    fn attach(&mut self, step: &Step, found: Found) {
        let Found { mark, below } = found;
        self.removed
            .attach(step.clone(), mark.removed, below.removed);
        self.modified
            .attach(step.clone(), mark.modified, below.modified);
        self.added.attach(step.clone(), mark.added, below.added);
    }
}

/// What was found at one place: about itself, and below it.
#[derive(Default)]
struct Found {
    mark: Mark,
    below: Difference,
}

#[derive(Default)]
struct Mark {
    removed: bool,
    modified: bool,
    added: bool,
}

fn walk(schema: &Schema, id: TypeId, before: Option<&Value>, after: Option<&Value>) -> Found {
    let atom = schema.atom(id);
    let (old, new) = (atom.deduce(before), atom.deduce(after));
    let mut found = Found::default();
    let leaf = match (before, after) {
        (None, None) => return found,
        (_, None) => by_form(schema, old, before, after, &mut found),
        (None, _) => by_form(schema, new, before, after, &mut found),
        _ if old == new => by_form(schema, new, before, after, &mut found),
        _ => {
            // An open type that changed its form: what the old form had goes, what the new one has comes.
            by_form(schema, old, before, after, &mut found);
            by_form(schema, new, before, after, &mut found)
        }
    };
    if !leaf {
        found.mark.added |= before.is_none();
        found.mark.removed |= after.is_none();
    }
    found
}

/// Walks by one form; says whether the place is a leaf.
fn by_form(
    schema: &Schema,
    form: Deduced<'_>,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Found,
) -> bool {
    match form.form() {
        Form::Scalar(scalar) => {
            let wrong = |v: Option<&Value>| v.is_some_and(|v| scalar_fault(scalar, v).is_some());
            if !(wrong(before) && wrong(after)) {
                leaf(before, after, found);
            }
            true
        }
        Form::Map(map) => {
            let old = before.and_then(Value::as_object);
            let new = after.and_then(Value::as_object);
            let nothing = |m: Option<&serde_json::Map<_, _>>| m.is_none_or(|m| m.is_empty());
            if map.atomic || (nothing(old) && nothing(new)) {
                leaf(before, after, found);
                return true;
            }
            fields(schema, map, old, new, found);
            false
        }
        Form::List(list) => {
            let old = before
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let new = after
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            if list.relation == Relation::Atomic || (old.is_empty() && new.is_empty()) {
                leaf(before, after, found);
                return true;
            }
            items(schema, list, old, new, found);
            false
        }
    }
}

fn leaf(before: Option<&Value>, after: Option<&Value>, found: &mut Found) {
    match (before, after) {
        (None, _) => found.mark.added = true,
        (_, None) => found.mark.removed = true,
        (Some(before), Some(after)) => found.mark.modified |= !same(before, after),
    }
}

fn fields(
    schema: &Schema,
    map: &Map,
    old: Option<&serde_json::Map<String, Value>>,
    new: Option<&serde_json::Map<String, Value>>,
    found: &mut Found,
) {
    let keys: BTreeSet<&String> = old.into_iter().chain(new).flat_map(|m| m.keys()).collect();
    for key in keys {
        let before = old.and_then(|m| m.get(key));
        let after = new.and_then(|m| m.get(key));
        if before == after {
            continue;
        }
        let Some(id) = map.child(key) else { continue };
        let inner = walk(schema, id, before, after);
        found.below.attach(&Step::Field(key.clone()), inner);
    }
}

fn items(schema: &Schema, list: &List, old: &[Value], new: &[Value], found: &mut Found) {
    let by_step = |items: &[Value]| -> Vec<(Step, usize)> {
        let step = |(index, item)| step_of(schema, list, item).ok().map(|s| (s, index));
        items.iter().enumerate().filter_map(step).collect()
    };
    let (old_steps, new_steps) = (by_step(old), by_step(new));
    let steps: BTreeSet<&Step> = old_steps.iter().chain(&new_steps).map(|(s, _)| s).collect();
    for step in steps {
        let of = |steps: &[(Step, usize)]| -> Vec<usize> {
            steps
                .iter()
                .filter(|(s, _)| s == step)
                .map(|(_, i)| *i)
                .collect()
        };
        let before: Vec<&Value> = of(&old_steps).into_iter().map(|i| &old[i]).collect();
        let after: Vec<&Value> = of(&new_steps).into_iter().map(|i| &new[i]).collect();
        let below = &mut found.below;
        match (before.len(), after.len()) {
            (0 | 1, 0 | 1) => {
                let (before, after) = (before.first().copied(), after.first().copied());
                below.attach(step, walk(schema, list.item, before, after));
            }
            // Items that are there twice are compared as one leaf.
            (2.., 2..) => {
                let equal = before.len() == after.len()
                    && before.iter().zip(&after).all(|(a, b)| same(a, b));
                if !equal {
                    below.modified.attach(step.clone(), true, Set::default());
                }
            }
            (2.., _) => {
                if let Some(after) = after.first() {
                    below.attach(step, walk(schema, list.item, None, Some(after)));
                }
                below.removed.attach(step.clone(), true, Set::default());
            }
            (_, _) => {
                if let Some(before) = before.first() {
                    below.attach(step, walk(schema, list.item, Some(before), None));
                }
                below.added.attach(step.clone(), true, Set::default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "type t\n\
        \x20data {text}\n\
        \x20free open\n\
        \x20list [name:@item]\n\
        \x20one [text]\n\
        type item\n\
        \x20name text\n\
        \x20v number\n";

    fn diff(before: Value, after: Value) -> [Value; 3] {
        let schema = Schema::parse(TABLE).unwrap();
        let found = compare(&schema, schema.named("t").unwrap(), &before, &after);
        [
            found.removed.to_json(),
            found.modified.to_json(),
            found.added.to_json(),
        ]
    }

    #[test]
    fn changes_are_told_apart_by_path() {
        let none = json!({});
        let cases = [
            (
                "a new map is added with its keys",
                json!({}),
                json!({"data": {"a": "1"}}),
                [
                    none.clone(),
                    none.clone(),
                    json!({"f:data": {".": {}, "f:a": {}}}),
                ],
            ),
            (
                "a key is changed",
                json!({"data": {"a": "1", "b": "1"}}),
                json!({"data": {"a": "2", "b": "1"}}),
                [none.clone(), json!({"f:data": {"f:a": {}}}), none.clone()],
            ),
            (
                "a keyed item goes with its fields",
                json!({"list": [{"name": "x", "v": 1}, {"name": "y"}]}),
                json!({"list": [{"name": "y"}]}),
                [
                    json!({"f:list": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:v": {}}}}),
                    none.clone(),
                    none.clone(),
                ],
            ),
            (
                "a list that was null is not itself added",
                json!({"list": null}),
                json!({"list": [{"name": "x"}]}),
                [
                    none.clone(),
                    none.clone(),
                    json!({"f:list": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}}}}),
                ],
            ),
            (
                "an atomic list is one leaf",
                json!({"one": ["a"]}),
                json!({"one": ["a", "b"]}),
                [none.clone(), json!({"f:one": {}}), none.clone()],
            ),
            (
                "free content that changes its form is modified and loses what it had",
                json!({"free": {"k": {"a": 1}}}),
                json!({"free": {"k": 3}}),
                [
                    json!({"f:free": {"f:k": {"f:a": {}}}}),
                    json!({"f:free": {"f:k": {}}}),
                    none.clone(),
                ],
            ),
        ];
        for (name, before, after, expected) in cases {
            assert_eq!(diff(before, after), expected, "{name}");
        }
    }
}
