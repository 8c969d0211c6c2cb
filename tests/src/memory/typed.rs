//! Reading a value by its type: is it valid, which paths does it state, what tells its list items apart.
//!
//! In: a JSON value and its place in a [`Schema`]. Out: a [`Set`] of paths, or the faults by path.

use serde_json::Value;

use super::fieldset::{Literal, Set, Step};
use super::schema::{Form, List, Relation, Scalar, Schema, TypeId};

/// A fault of a value against its type: where, and what.
pub type Fault = (String, String);

/// The paths a value states: every leaf, every key of a map, every item of a keyed list or set.
#[must_use]
pub fn stated(schema: &Schema, id: TypeId, value: &Value) -> Set {
    states(schema, id, value).below
}

/// What one place states: itself as a leaf, or what is below.
struct Stated {
    leaf: bool,
    below: Set,
}

fn states(schema: &Schema, id: TypeId, value: &Value) -> Stated {
    let mut below = Set::default();
    let leaf = match schema.atom(id).deduce(Some(value)).form() {
        Form::Scalar(_) => true,
        Form::Map(map) if map.atomic => true,
        Form::List(list) if list.relation == Relation::Atomic => true,
        Form::Map(map) => {
            for (key, child) in value.as_object().into_iter().flatten() {
                let inner = match map.child(key) {
                    Some(id) => states(schema, id, child),
                    None => Stated {
                        leaf: true,
                        below: Set::default(),
                    },
                };
                let empty = child.is_null() || child.as_object().is_some_and(|m| m.is_empty());
                let member = inner.leaf || empty || !map.fields.contains_key(key);
                below.attach(Step::Field(key.clone()), member, inner.below);
            }
            false
        }
        Form::List(list) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let steps: Vec<Option<Step>> = items
                .iter()
                .map(|item| step_of(schema, list, item).ok())
                .collect();
            for (step, item) in steps.iter().zip(items) {
                let Some(step) = step else { continue };
                let twice = steps.iter().filter(|s| s.as_ref() == Some(step)).count() > 1;
                let inner = if twice {
                    Set::default()
                } else {
                    states(schema, list.item, item).below
                };
                below.attach(step.clone(), true, inner);
            }
            false
        }
    };
    Stated { leaf, below }
}

/// What tells this item from the others of its list.
pub fn step_of(schema: &Schema, list: &List, item: &Value) -> Result<Step, String> {
    match &list.relation {
        Relation::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        Relation::Set => match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => Err(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            scalar => Ok(Step::Value(Literal(scalar.clone()))),
        },
        Relation::Keyed(keys) => {
            let Value::Object(map) = item else {
                let what = if item.is_null() {
                    "a null element"
                } else {
                    "non-map elements"
                };
                return Err(format!("associative list with keys may not have {what}"));
            };
            let default = |key: &str| {
                let fields = schema.atom(list.item).map.as_ref()?;
                fields.fields.get(key)?.default.as_ref()
            };
            let mut fields: Vec<(String, Literal)> = keys
                .iter()
                .filter_map(|key| {
                    let value = map.get(key).or_else(|| default(key))?;
                    Some((key.clone(), Literal(value.clone())))
                })
                .collect();
            if fields.is_empty() {
                return Err(format!(
                    "associative list with keys has an element that omits all key fields {keys:?} \
                     (and doesn't have default values for any key fields)"
                ));
            }
            fields.sort();
            Ok(Step::Key(fields))
        }
    }
}

/// The faults of a value: fields nobody declared, wrong scalars, and items that are there twice unless
/// `duplicates` are allowed (as in live objects, which may be older than the rule).
#[must_use]
pub fn faults(schema: &Schema, id: TypeId, value: &Value, duplicates: bool) -> Vec<Fault> {
    let mut out = Vec::new();
    check(schema, id, value, duplicates, &mut String::new(), &mut out);
    out
}

fn check(
    schema: &Schema,
    id: TypeId,
    value: &Value,
    duplicates: bool,
    path: &mut String,
    out: &mut Vec<Fault>,
) {
    let mut fault = |path: &str, what: String| out.push((path.to_owned(), what));
    match schema.atom(id).deduce(Some(value)).form() {
        Form::Scalar(scalar) => {
            if let Some(what) = scalar_fault(scalar, value) {
                fault(path, what);
            }
        }
        Form::Map(map) => match value {
            Value::Null => {}
            Value::Object(object) => {
                for (key, child) in object {
                    let length = path.len();
                    path.push('.');
                    path.push_str(key);
                    match map.child(key) {
                        None => {
                            out.push((path.clone(), "field not declared in schema".to_owned()));
                        }
                        Some(id) => check(schema, id, child, duplicates, path, out),
                    }
                    path.truncate(length);
                }
            }
            other => fault(path, format!("expected map, got {}", go(other))),
        },
        Form::List(list) => match value {
            Value::Null => {}
            Value::Array(items) => {
                let mut seen = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let length = path.len();
                    if list.relation == Relation::Atomic {
                        path.push_str(&format!("[{index}]"));
                    } else {
                        match step_of(schema, list, item) {
                            Err(what) => {
                                out.push((path.clone(), format!("element {index}: {what}")));
                                return;
                            }
                            Ok(step) => {
                                if !duplicates && seen.contains(&step) {
                                    let what = format!("duplicate entries for key {step}");
                                    out.push((path.clone(), what));
                                }
                                path.push_str(&step.to_string());
                                seen.push(step);
                            }
                        }
                    }
                    check(schema, list.item, item, duplicates, path, out);
                    path.truncate(length);
                }
            }
            other => fault(path, format!("expected list, got {}", go(other))),
        },
    }
}

/// What is wrong with a leaf, if anything; null is no fault.
#[must_use]
pub fn scalar_fault(scalar: Scalar, value: &Value) -> Option<String> {
    let fits = match (scalar, value) {
        (_, Value::Null) => true,
        (Scalar::Number, v) => v.is_number(),
        (Scalar::Text, v) => v.is_string(),
        (Scalar::Flag, v) => v.is_boolean(),
        (Scalar::Any, v) => !v.is_array() && !v.is_object(),
    };
    let kind = match scalar {
        _ if fits => return None,
        Scalar::Number => "numeric (int or float)",
        Scalar::Text => "string",
        Scalar::Flag => "boolean",
        Scalar::Any => "any scalar",
    };
    let got = match scalar {
        Scalar::Number => go_type(value).to_owned(),
        Scalar::Text => format!("&value.valueUnstructured{{Value:{}}}", go(value)),
        _ => go(value),
    };
    Some(format!("expected {kind}, got {got}"))
}

/// A value roughly as Go's `%v` prints it, for messages.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Several faults as one message.
#[must_use]
pub fn print_faults(faults: &[Fault]) -> String {
    let print = |(path, what): &Fault| match path.as_str() {
        "" => what.clone(),
        _ => format!("{path}: {what}"),
    };
    match faults {
        [one] => print(one),
        many => {
            let lines: Vec<String> = many.iter().map(|f| format!("\n  {}", print(f))).collect();
            format!("errors:{}", lines.concat())
        }
    }
}

/// Equal as the server compares: 1 and 1.0 are one number.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || (x.is_f64() != y.is_f64() && x.as_f64() == y.as_f64())
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "type t\n\
        \x20data {text}\n\
        \x20spec @spec\n\
        type spec\n\
        \x20count number\n\
        \x20marks [set,text]\n\
        \x20words [text]\n\
        \x20ports [port,protocol:@port]\n\
        \x20empty {text}\n\
        type port\n\
        \x20name text\n\
        \x20port number\n\
        \x20protocol text = \"TCP\"\n";

    fn paths(value: Value) -> Value {
        let schema = Schema::parse(TABLE).unwrap();
        stated(&schema, schema.named("t").unwrap(), &value).to_json()
    }

    #[test]
    fn fields_of_structs_are_not_members_but_keys_of_maps_and_items_are() {
        assert_eq!(
            paths(json!({"data": {"a": "1"}})),
            json!({"f:data": {"f:a": {}}})
        );
        assert_eq!(
            paths(json!({"spec": {"count": 1, "marks": ["x"], "words": ["y"], "empty": {}}})),
            json!({"f:spec": {"f:count": {}, "f:marks": {"v:\"x\"": {}}, "f:words": {},
                "f:empty": {}}})
        );
        assert_eq!(
            paths(json!({"spec": {"ports": [{"port": 80}]}})),
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}":
                {".": {}, "f:port": {}}}}})
        );
    }

    #[test]
    fn faults_name_the_place() {
        let schema = Schema::parse(TABLE).unwrap();
        let id = schema.named("t").unwrap();
        let found = |value| print_faults(&faults(&schema, id, &value, false));
        assert_eq!(
            found(json!({"spec": {"cuont": 1}})),
            ".spec.cuont: field not declared in schema"
        );
        assert_eq!(
            found(json!({"spec": {"marks": ["a", "a"]}})),
            ".spec.marks: duplicate entries for key [=\"a\"]"
        );
        assert!(
            found(json!({"spec": {"count": "1"}})).starts_with(".spec.count: expected numeric")
        );
    }
}
