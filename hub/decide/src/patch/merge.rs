//! Strategic merge: a partial object laid over a whole one.
//!
//! In: an object, a patch, and the [`Shape`] of the object. Out: the merged object, or nothing when the patch deletes
//! it. What it means is what `kustomize` makes of it: items of lists that merge are told by their keys and those of
//! the patch come first, other lists are replaced, `null` takes away, `$patch` says `merge`, `replace` or `delete`.
//! Of custom resources nothing is known, so all their lists are replaced. The directives that `kustomize` does not
//! know (`$setElementOrder`, `$deleteFromPrimitiveList`, `$retainKeys`) mean what they mean to the API server
//! (kubernetes community, contributors/devel/sig-api-machinery/strategic-merge-patch.md).

use serde_json::{Map, Value};

use super::{scalar_text, what};
use crate::builtin::Shape;

/// Why a patch does not fit, and at which field. Names fields, never values.
pub(super) type Unfit = String;

/// The word that says how one mapping or list is merged.
const DIRECTIVE: &str = "$patch";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

/// The merged value; nothing when there is none any more.
pub(super) fn merged(
    object: Option<Value>,
    patch: &Value,
    shape: Shape,
    path: &str,
) -> Result<Option<Value>, Unfit> {
    let object = object.filter(|value| !value.is_null());
    match (patch, object) {
        (Value::Null, _) => Ok(None),
        (Value::Object(patch), None) => mapping(None, patch, shape, path),
        (Value::Object(patch), Some(Value::Object(fields))) => {
            mapping(Some(fields), patch, shape, path)
        }
        (Value::Array(patch), None) => list(None, patch, shape, path),
        (Value::Array(patch), Some(Value::Array(items))) => list(Some(items), patch, shape, path),
        (patch, Some(object)) if is_scalar(patch) != is_scalar(&object) || !is_scalar(patch) => {
            Err(format!(
                "{path} is {} in the object and {} in the patch",
                what(&object),
                what(patch)
            ))
        }
        (patch, _) => Ok(Some(patch.clone())),
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

fn mapping(
    object: Option<Map<String, Value>>,
    patch: &Map<String, Value>,
    shape: Shape,
    path: &str,
) -> Result<Option<Value>, Unfit> {
    let mut fields = match directive(patch, path)? {
        Directive::Delete => return Ok(None),
        Directive::Replace => Map::new(),
        Directive::Merge => object.unwrap_or_default(),
    };
    if let Some(retained) = patch.get("$retainKeys") {
        retain(&mut fields, retained, patch, path)?;
    }
    for (name, value) in patch {
        if name == DIRECTIVE || name == "$retainKeys" || name.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let (gone, at) = (scalars(value, path, name)?, below(path, list));
            match fields.get_mut(list) {
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => items.retain(|item| !gone.contains(&item)),
                Some(other) => return Err(format!("{at} is {}, not a list", what(other))),
            }
            continue;
        }
        let at = below(path, name);
        // A null that the object itself holds stays when the patch does not speak of it.
        match merged(fields.remove(name), value, shape.field(name), &at)? {
            Some(value) => fields.insert(name.clone(), value),
            None => None,
        };
    }
    for (name, order) in patch {
        if let Some(list) = name.strip_prefix("$setElementOrder/") {
            let stated = patch.get(list).and_then(Value::as_array);
            reorder(&mut fields, list, order, stated, shape.field(list), path)?;
        }
    }
    Ok(Some(Value::Object(fields)))
}

/// What is said beside the fields of a mapping.
fn directive(patch: &Map<String, Value>, path: &str) -> Result<Directive, Unfit> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None | Some(Some("merge")) => Ok(Directive::Merge),
        Some(Some("replace")) => Ok(Directive::Replace),
        Some(Some("delete")) => Ok(Directive::Delete),
        Some(_) => Err(format!(
            "{} must be merge, replace or delete",
            below(path, DIRECTIVE)
        )),
    }
}

fn list(
    object: Option<Vec<Value>>,
    patch: &[Value],
    shape: Shape,
    path: &str,
) -> Result<Option<Value>, Unfit> {
    // An item with nothing but a directive speaks of the whole list.
    let mut whole = Directive::Merge;
    let mut stated = Vec::new();
    for item in patch {
        match item.as_object() {
            Some(only) if only.len() == 1 && only.contains_key(DIRECTIVE) => {
                whole = directive(only, path)?;
            }
            _ => stated.push(item),
        }
    }
    let keys = shape.merge_keys();
    let items = match whole {
        Directive::Delete => return Ok(None),
        Directive::Replace => Vec::new(),
        Directive::Merge => object.unwrap_or_default(),
    };
    if shape.is_set() {
        let mut union: Vec<Value> = Vec::new();
        for item in stated.into_iter().chain(&items) {
            if !union.contains(item) {
                union.push(item.clone());
            }
        }
        return Ok(Some(Value::Array(union)));
    }
    if keys.is_empty() {
        let says = |item: &&Value| item.get(DIRECTIVE).is_some();
        return match stated.iter().any(says) {
            true => Err(format!(
                "the items of {path} can't be told apart, so the list is replaced whole: take {DIRECTIVE} out"
            )),
            false => Ok(Some(stated.into_iter().cloned().collect())),
        };
    }
    keyed(items, &stated, keys, shape, path).map(Some)
}

/// Merges the items that have the same keys. What the patch states comes first, in its order; where lists have more
/// than one key (ports), `kustomize` keeps the order of the object.
fn keyed(
    items: Vec<Value>,
    patch: &[&Value],
    keys: &[&str],
    shape: Shape,
    path: &str,
) -> Result<Value, Unfit> {
    let all = || items.iter().chain(patch.iter().copied());
    let in_use = keys
        .iter()
        .filter(|key| all().any(|item| item.get(**key).is_some()));
    let keep_order = in_use.count() > 1;
    let mut rest: Vec<Option<Value>> = items.into_iter().map(Some).collect();
    let mut merged_items: Vec<(Option<usize>, Value)> = Vec::new();
    for item in patch {
        let named = keys.iter().filter_map(|key| {
            let value = item.get(*key).and_then(scalar_text)?;
            Some(format!("{key}={value}"))
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() {
            return Err(format!("an item of {path} lacks its {}", keys.join(" or ")));
        }
        let at = format!("{path}[{}]", named.join(","));
        let place = position(&rest, item, keys);
        let object = place.and_then(|place| rest[place].take());
        if let Some(value) = merged(object, item, shape.item(), &at)? {
            merged_items.push((place, value));
        }
    }
    let mut result = Vec::new();
    for (place, value) in merged_items {
        match place.filter(|_| keep_order) {
            Some(place) => rest[place] = Some(value),
            None => result.push(value),
        }
    }
    result.extend(rest.into_iter().flatten());
    Ok(Value::Array(result))
}

/// The item that has the same keys; else one that has some of them and contradicts none.
fn position(items: &[Option<Value>], wanted: &Value, keys: &[&str]) -> Option<usize> {
    let same = |item: &Value, exact: bool| {
        let mut equal = false;
        for key in keys {
            let of = |value: &Value| value.get(*key).and_then(scalar_text);
            match (of(item), of(wanted)) {
                (Some(left), Some(right)) if left == right => equal = true,
                (Some(_), Some(_)) => return false,
                (None, None) => {}
                _ if exact => return false,
                _ => {}
            }
        }
        equal
    };
    let find = |exact| {
        let found = |item: &Option<Value>| item.as_ref().is_some_and(|item| same(item, exact));
        items.iter().position(found)
    };
    find(true).or_else(|| find(false))
}

/// `$retainKeys`: what is not named goes; what the patch states must be named.
fn retain(
    fields: &mut Map<String, Value>,
    retained: &Value,
    patch: &Map<String, Value>,
    path: &str,
) -> Result<(), Unfit> {
    let retained = scalars(retained, path, "$retainKeys")?;
    let is_retained = |name: &String| retained.iter().any(|kept| kept.as_str() == Some(name));
    let stray = patch
        .iter()
        .find(|(name, value)| !name.starts_with('$') && !value.is_null() && !is_retained(name));
    if let Some((stray, _)) = stray {
        let at = below(path, stray);
        return Err(format!("{at} is stated and not in $retainKeys"));
    }
    fields.retain(|name, _| is_retained(name));
    Ok(())
}

/// `$setElementOrder/LIST`: the items that it names in that order, the others where they stood between them.
fn reorder(
    fields: &mut Map<String, Value>,
    list: &str,
    order: &Value,
    stated: Option<&Vec<Value>>,
    shape: Shape,
    path: &str,
) -> Result<(), Unfit> {
    let at = below(path, list);
    let directive = below(path, &format!("$setElementOrder/{list}"));
    let Value::Array(order) = order else {
        return Err(format!("{directive} must be a list"));
    };
    let key = shape.merge_keys().first().copied();
    if key.is_none() && !shape.is_set() {
        return Err(format!(
            "{directive}: {at} has no items that can be told apart"
        ));
    }
    let name = |item: &Value| match key {
        Some(key) => item.get(key).and_then(scalar_text),
        None => scalar_text(item),
    };
    let order: Vec<String> = order.iter().filter_map(name).collect();
    let kept = stated.into_iter().flatten();
    let kept = kept.filter(|item| item.get(DIRECTIVE).is_none());
    for item in kept.filter_map(name) {
        if !order.contains(&item) {
            return Err(format!(
                "{at} states an item that {directive} does not name"
            ));
        }
    }
    let Some(Value::Array(items)) = fields.get_mut(list) else {
        return Ok(());
    };
    let rank = |item: &Value| name(item).and_then(|name| order.iter().position(|at| *at == name));
    let (mut named, others): (Vec<_>, Vec<_>) = std::mem::take(items)
        .into_iter()
        .enumerate()
        .partition(|(_, item)| rank(item).is_some());
    named.sort_by_key(|(_, item)| rank(item));
    let mut named = named.into_iter().peekable();
    for (place, other) in others {
        while let Some((_, item)) = named.next_if(|(before, _)| *before < place) {
            items.push(item);
        }
        items.push(other);
    }
    items.extend(named.map(|(_, item)| item));
    Ok(())
}

fn scalars<'v>(value: &'v Value, path: &str, name: &str) -> Result<Vec<&'v Value>, Unfit> {
    match value.as_array() {
        Some(items) if items.iter().all(is_scalar) => Ok(items.iter().collect()),
        _ => Err(format!("{} must be a list of scalars", below(path, name))),
    }
}

/// The path of a field.
fn below(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}
