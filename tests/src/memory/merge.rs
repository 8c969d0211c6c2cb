//! Laying an applied configuration over the live object.
//!
//! In: the live value and the configuration, of one type. Out: the value with both, the configuration's
//! leaves winning; order of list items follows the configuration for what it states.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fieldset::Step;
use super::schema::{Deduced, Form, List, Map, Relation, Schema, TypeId};
use super::typed::{Fault, scalar_fault, step_of};

/// Merges `config` over `live`. A fault is a configuration that no merge can read (duplicate items).
pub fn merge(schema: &Schema, id: TypeId, live: &Value, config: &Value) -> Result<Value, Fault> {
    Ok(walk(schema, id, Some(live), Some(config))?.unwrap_or(Value::Null))
}

fn walk(
    schema: &Schema,
    id: TypeId,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Result<Option<Value>, Fault> {
    let atom = schema.atom(id);
    let form = match config {
        None => atom.deduce(live),
        Some(_) => atom.deduce(config),
    };
    by_form(schema, form, live, config)
}

fn by_form(
    schema: &Schema,
    form: Deduced<'_>,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Result<Option<Value>, Fault> {
    let leaf = || config.or(live).cloned();
    match form.form() {
        Form::Scalar(scalar) => {
            let fault = |v: Option<&Value>| v.and_then(|v| scalar_fault(scalar, v));
            match (fault(live), fault(config)) {
                (Some(_), Some(what)) => Err((String::new(), what)),
                _ => Ok(leaf()),
            }
        }
        Form::Map(map) => {
            let old = live.and_then(Value::as_object);
            let new = config.and_then(Value::as_object);
            let nothing = |m: Option<&serde_json::Map<_, _>>| m.is_none_or(|m| m.is_empty());
            if map.atomic || (nothing(old) && nothing(new)) {
                return Ok(leaf());
            }
            fields(schema, map, old, new)
        }
        Form::List(list) => {
            let items =
                |v: Option<&Value>| v.and_then(Value::as_array).cloned().unwrap_or_default();
            let (old, new) = (items(live), items(config));
            if list.relation == Relation::Atomic || (old.is_empty() && new.is_empty()) {
                return Ok(leaf());
            }
            merge_items(schema, list, &old, &new)
        }
    }
}

fn fields(
    schema: &Schema,
    map: &Map,
    old: Option<&serde_json::Map<String, Value>>,
    new: Option<&serde_json::Map<String, Value>>,
) -> Result<Option<Value>, Fault> {
    let mut out = serde_json::Map::new();
    for (key, live) in old.into_iter().flatten() {
        let config = new.and_then(|m| m.get(key));
        let merged = match map.child(key) {
            Some(id) => walk(schema, id, Some(live), config).map_err(|f| under(f, key))?,
            None => Some(config.unwrap_or(live).clone()),
        };
        out.extend(merged.map(|v| (key.clone(), v)));
    }
    for (key, config) in new.into_iter().flatten() {
        if old.is_some_and(|m| m.contains_key(key)) {
            continue;
        }
        let merged = match map.child(key) {
            Some(id) => walk(schema, id, None, Some(config)).map_err(|f| under(f, key))?,
            None => Some(config.clone()),
        };
        out.extend(merged.map(|v| (key.clone(), v)));
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

fn under(fault: Fault, key: &str) -> Fault {
    (format!(".{key}{}", fault.0), fault.1)
}

/// Items of two lists, by what tells them apart. Shared items stand in the order of the configuration,
/// live items that it does not state keep their place relative to their neighbours.
fn merge_items(
    schema: &Schema,
    list: &List,
    old: &[Value],
    new: &[Value],
) -> Result<Option<Value>, Fault> {
    let steps = |items: &[Value]| -> Result<Vec<Step>, Fault> {
        let step = |(index, item)| {
            step_of(schema, list, item)
                .map_err(|e| (String::new(), format!("element {index}: {e}")))
        };
        items.iter().enumerate().map(step).collect()
    };
    let (old_steps, new_steps) = (steps(old)?, steps(new)?);
    let mut config: BTreeMap<&Step, &Value> = BTreeMap::new();
    for (step, item) in new_steps.iter().zip(new) {
        if config.insert(step, item).is_some() {
            return Err((String::new(), format!("duplicate entries for key {step}")));
        }
    }
    // Live items that are there twice merge with nothing.
    let mut live: BTreeMap<&Step, &Value> = BTreeMap::new();
    const TWICE: &Value = &Value::Null;
    for (step, item) in old_steps.iter().zip(old) {
        live.entry(step).and_modify(|v| *v = TWICE).or_insert(item);
    }

    let mut shared = new_steps.iter().filter(|s| live.contains_key(s));
    let mut next_shared = shared.next();
    let mut merged: Vec<&Step> = Vec::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    let put = |out: &mut Vec<Value>, live, config| -> Result<(), Fault> {
        out.extend(walk(schema, list.item, live, config)?);
        Ok(())
    };
    while l < old_steps.len() || r < new_steps.len() {
        if l < old_steps.len() && r < new_steps.len() {
            let step = &old_steps[l];
            if *step == new_steps[r] {
                merged.push(step);
                put(&mut out, live.get(step).copied(), config.get(step).copied())?;
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if config.contains_key(step) && next_shared.is_some_and(|s| s != step) {
                // A shared item whose turn has not come.
                l += 1;
                continue;
            }
        }
        if l < old_steps.len() {
            let step = &old_steps[l];
            if !config.contains_key(step) {
                put(&mut out, Some(&old[l]), None)?;
                l += 1;
                continue;
            }
            if merged.contains(&step) {
                l += 1;
            }
        }
        if r < new_steps.len() {
            let step = &new_steps[r];
            merged.push(step);
            put(&mut out, live.get(step).copied(), config.get(step).copied())?;
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "type t\n\
        \x20data {text}\n\
        \x20list [name:@item]\n\
        \x20marks [set,text]\n\
        \x20one [text]\n\
        \x20whole @whole!\n\
        type item\n\
        \x20name text\n\
        \x20v number\n\
        \x20w number\n\
        type whole\n\
        \x20a text\n\
        \x20b text\n";

    fn merged(live: Value, config: Value) -> Result<Value, Fault> {
        let schema = Schema::parse(TABLE).unwrap();
        merge(&schema, schema.named("t").unwrap(), &live, &config)
    }

    #[test]
    fn configuration_wins_leaf_by_leaf() {
        let cases = [
            (
                json!({"data": {"a": "1", "b": "1"}}),
                json!({"data": {"b": "2", "c": "2"}}),
                json!({"data": {"a": "1", "b": "2", "c": "2"}}),
            ),
            (
                json!({"list": [{"name": "x", "v": 1}, {"name": "y"}]}),
                json!({"list": [{"name": "z"}, {"name": "x", "w": 2}]}),
                json!({"list": [{"name": "z"}, {"name": "x", "v": 1, "w": 2}, {"name": "y"}]}),
            ),
            (
                json!({"marks": ["a", "b"]}),
                json!({"marks": ["c", "a"]}),
                json!({"marks": ["c", "a", "b"]}),
            ),
            (
                json!({"one": ["a"]}),
                json!({"one": ["b"]}),
                json!({"one": ["b"]}),
            ),
            (
                json!({"whole": {"a": "1", "b": "1"}}),
                json!({"whole": {"a": "2"}}),
                json!({"whole": {"a": "2"}}),
            ),
        ];
        for (live, config, expected) in cases {
            assert_eq!(
                merged(live.clone(), config.clone()),
                Ok(expected),
                "{live} + {config}"
            );
        }
    }

    #[test]
    fn a_configuration_that_states_an_item_twice_is_refused() {
        let fault = merged(json!({}), json!({"marks": ["a", "a"]})).unwrap_err();
        assert_eq!(
            fault,
            (".marks".into(), "duplicate entries for key [=\"a\"]".into())
        );
    }
}
