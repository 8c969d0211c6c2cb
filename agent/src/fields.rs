//! Field sets as managedFields have them, and paths into objects. Pure.
//!
//! A set is the tree of `fieldsV1`: `f:name` is a field, `k:{…}` an item by its keys, `v:…` an item by its value,
//! `.` the thing itself; nothing below means all of it. In: sets, and paths as people write them. Out: what is left,
//! what is shared, the value a path leads to.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A path as people write it: through fields and items of lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A field, or by its number an item of a list.
    Name(String),
    /// The item of a list that has these keys.
    Item(BTreeMap<String, Value>),
}

impl Path {
    /// Reads a JSON pointer.
    pub(crate) fn pointer(pointer: &str) -> Self {
        let steps = pointer.split('/').skip(1);
        let plain = |step: &str| step.replace("~1", "/").replace("~0", "~");
        Self(steps.map(|step| Step::Name(plain(step))).collect())
    }

    /// The item of a list that has these keys.
    pub(crate) fn item(list: &str, key: &BTreeMap<String, Value>) -> Self {
        let mut path = Self::pointer(list);
        path.0.push(Step::Item(key.clone()));
        path
    }

    /// The value it leads to.
    pub(crate) fn get<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(object, |value, step| match value {
            Value::Object(fields) => match step {
                Step::Name(name) => fields.get(name),
                Step::Item(_) => None,
            },
            Value::Array(items) => items.get(step.index(items)?),
            _ => None,
        })
    }

    fn get_mut<'a>(&self, steps: usize, object: &'a mut Value) -> Option<&'a mut Value> {
        let mut steps = self.0[..steps].iter();
        steps.try_fold(object, |value, step| match value {
            Value::Object(fields) => match step {
                Step::Name(name) => fields.get_mut(name),
                Step::Item(_) => None,
            },
            Value::Array(items) => {
                let index = step.index(items)?;
                items.get_mut(index)
            }
            _ => None,
        })
    }

    /// Puts another value where one is.
    pub(crate) fn replace(&self, object: &mut Value, with: Value) {
        if let Some(value) = self.get_mut(self.0.len(), object) {
            *value = with;
        }
    }

    /// Takes the value out, when there is one.
    pub(crate) fn take_out(&self, object: &mut Value) {
        let Some(last) = self.0.last() else { return };
        match (self.get_mut(self.0.len() - 1, object), last) {
            (Some(Value::Object(fields)), Step::Name(name)) => {
                fields.remove(name);
            }
            (Some(Value::Array(items)), step) => {
                if let Some(index) = step.index(items) {
                    items.remove(index);
                }
            }
            _ => {}
        }
    }

    /// Is it, or anything below it, in a set? `object` tells which item a number means.
    pub(crate) fn is_in(&self, set: &Value, object: &Value) -> bool {
        let mut at = vec![set];
        for depth in 0..self.0.len() {
            let mut next = Vec::new();
            for set in at {
                let Some(children) = set.as_object() else {
                    continue;
                };
                if children.is_empty() {
                    // Owned whole.
                    return true;
                }
                next.extend(
                    children
                        .iter()
                        .filter(|(name, _)| self.means(depth, name, object))
                        .map(|(_, below)| below),
                );
            }
            at = next;
        }
        !at.is_empty()
    }

    /// The part of a set that is it, and what is below it.
    pub(crate) fn only(&self, set: &Value, object: &Value) -> Value {
        let rest = self.without(set, object);
        minus(set, &rest)
    }

    /// A set without it and what is below it.
    pub(crate) fn without(&self, set: &Value, object: &Value) -> Value {
        self.strip(0, set, object)
            .unwrap_or_else(|| Value::Object(Map::new()))
    }

    fn strip(&self, depth: usize, set: &Value, object: &Value) -> Option<Value> {
        let Some(children) = set.as_object() else {
            return Some(set.clone());
        };
        if depth == self.0.len() {
            return None;
        }
        if children.is_empty() {
            return Some(set.clone());
        }
        let mut left = Map::new();
        for (name, below) in children {
            let below = match self.means(depth, name, object) {
                true => self.strip(depth + 1, below, object),
                false => Some(below.clone()),
            };
            if let Some(below) = below {
                left.insert(name.clone(), below);
            }
        }
        (!left.is_empty()).then_some(Value::Object(left))
    }

    /// Is `name` in a set the step at this depth?
    fn means(&self, depth: usize, name: &str, object: &Value) -> bool {
        match (&self.0[depth], name.split_once(':')) {
            (Step::Name(step), Some(("f", field))) => step == field,
            (Step::Name(step), Some(("i", index))) => step == index,
            (Step::Item(keys), Some(("k", own))) => {
                let own: Map<String, Value> = serde_json::from_str(own).unwrap_or_default();
                keys.iter()
                    .all(|(name, value)| own.get(name) == Some(value))
            }
            // A number means the item that stands there in the object.
            (Step::Name(_), Some((how @ ("k" | "v"), own))) => {
                let item = Self(self.0[..=depth].to_vec()).get(object).cloned();
                let (Some(item), Ok(own)) = (item, serde_json::from_str::<Value>(own)) else {
                    return false;
                };
                match own.as_object() {
                    Some(own) if how == "k" => own
                        .iter()
                        .all(|(name, value)| item.get(name).is_none_or(|it| it == value)),
                    _ => item == own,
                }
            }
            _ => false,
        }
    }
}

impl Step {
    fn index(&self, items: &[Value]) -> Option<usize> {
        match self {
            Self::Name(number) => number.parse().ok(),
            Self::Item(keys) => items.iter().position(|item| {
                keys.iter()
                    .all(|(name, value)| item.get(name) == Some(value))
            }),
        }
    }
}

/// All that is in either set.
pub(crate) fn union(one: &Value, other: &Value) -> Value {
    match (is_nothing(one), is_nothing(other)) {
        (true, _) => other.clone(),
        (_, true) => one.clone(),
        _ => both(one, other),
    }
}

fn both(one: &Value, other: &Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            // Owned whole is more than a part.
            let mut all = one.clone();
            if one.is_empty() != other.is_empty() {
                all.insert(".".into(), Value::Object(Map::new()));
            }
            for (name, below) in other {
                let both = match all.get(name) {
                    Some(own) => self::both(own, below),
                    None => below.clone(),
                };
                all.insert(name.clone(), both);
            }
            Value::Object(all)
        }
        (Value::Object(_), _) => one.clone(),
        _ => other.clone(),
    }
}

/// What is in `one` and not in `other`; nothing below a name in `other` means all of it.
pub(crate) fn minus(one: &Value, other: &Value) -> Value {
    if is_nothing(one) || is_nothing(other) {
        return one.clone();
    }
    less(one, other).unwrap_or_else(|| Value::Object(Map::new()))
}

fn less(one: &Value, other: &Value) -> Option<Value> {
    let (Some(own), Some(taken)) = (one.as_object(), other.as_object()) else {
        return Some(one.clone());
    };
    if taken.is_empty() {
        return None;
    }
    if own.is_empty() {
        return (!taken.contains_key(".")).then(|| one.clone());
    }
    let mut left = Map::new();
    for (name, below) in own {
        let below = match taken.get(name) {
            Some(taken) => less(below, taken),
            None => Some(below.clone()),
        };
        if let Some(below) = below {
            left.insert(name.clone(), below);
        }
    }
    (!left.is_empty()).then_some(Value::Object(left))
}

/// Is nothing in it?
pub(crate) fn is_nothing(set: &Value) -> bool {
    set.as_object().is_none_or(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn containers() -> Value {
        json!({"f:spec": {"f:replicas": {}, "f:containers": {
            "k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}},
            "k:{\"name\":\"proxy\"}": {".": {}, "f:image": {}}}}})
    }

    fn object() -> Value {
        json!({"spec": {"replicas": 3, "containers": [{"name": "web", "image": "a"}, {"name": "proxy", "image": "b"}]},
            "metadata": {"annotations": {"a/b": "c"}}})
    }

    fn proxy() -> Path {
        Path::item(
            "/spec/containers",
            &BTreeMap::from([("name".to_owned(), json!("proxy"))]),
        )
    }

    #[test]
    fn a_path_leads_to_a_value_and_takes_it_out() {
        let mut object = object();
        assert_eq!(
            Path::pointer("/metadata/annotations/a~1b").get(&object),
            Some(&json!("c"))
        );
        assert_eq!(
            Path::pointer("/spec/containers/1/image").get(&object),
            Some(&json!("b"))
        );
        Path::pointer("/spec/replicas").replace(&mut object, json!(9));
        proxy().take_out(&mut object);
        Path::pointer("/not/there").take_out(&mut object);
        assert_eq!(
            object["spec"],
            json!({"replicas": 9, "containers": [{"name": "web", "image": "a"}]})
        );
    }

    #[test]
    fn a_path_is_found_in_a_set_and_taken_out_of_it() {
        let (set, object) = (containers(), object());
        let image = Path::pointer("/spec/containers/0/image");
        assert!(image.is_in(&set, &object) && proxy().is_in(&set, &object));
        assert!(!Path::pointer("/spec/paused").is_in(&set, &object));
        let left = image.without(&set, &object);
        assert_eq!(
            left["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"],
            json!({".": {}, "f:name": {}})
        );
        assert_eq!(
            proxy().without(&left, &object)["f:spec"]["f:containers"]
                .as_object()
                .unwrap()
                .len(),
            1
        );
        // What is empty after it was a part, and is no part any more.
        let alone = json!({"f:spec": {"f:replicas": {}}});
        assert_eq!(
            Path::pointer("/spec/replicas").without(&alone, &object),
            json!({})
        );
    }

    #[test]
    fn sets_are_added_and_taken_away() {
        let one = json!({"f:a": {}, "f:b": {"f:c": {}}});
        let other = json!({"f:b": {".": {}, "f:d": {}}});
        assert_eq!(
            union(&one, &other),
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}})
        );
        assert_eq!(minus(&one, &json!({"f:b": {}})), json!({"f:a": {}}));
        assert_eq!(minus(&one, &other), one);
        assert!(is_nothing(&minus(&one, &one)));
    }

    fn set() -> impl Strategy<Value = Value> {
        let leaf = Just(json!({}));
        leaf.prop_recursive(3, 12, 3, |below| {
            prop::collection::btree_map("f:[abc]", below, 1..3)
                .prop_map(|children| Value::Object(children.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_a_part_of_a_whole(one in set(), other in set()) {
            prop_assume!(!is_nothing(&one) && !is_nothing(&other));
            let all = union(&one, &other);
            prop_assert_eq!(union(&all, &one), all.clone());
            prop_assert!(is_nothing(&minus(&all, &all)));
            let left = minus(&one, &other);
            prop_assert_eq!(union(&union(&left, &other), &one), union(&other, &one));
            prop_assert_eq!(union(&one, &other), union(&other, &one));
        }
    }
}
