//! JSON Patch to the letter of RFC 6902: `add`, `remove`, `replace`, `move`, `copy`, `test`.
//!
//! In: the operations of a document, each with its line, and a value. Out: the changed value, or the operation that
//! can't be done. Messages name pointers, never values.

use serde_json::Value;

use crate::nearest::did_you_mean;
use crate::yaml::{Fault, Node, Value as Written};

/// One operation and the line it begins at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    pub(super) line: u32,
    act: Act,
}

#[derive(Debug, Clone, PartialEq)]
enum Act {
    Add(Pointer, Value),
    Remove(Pointer),
    Replace(Pointer, Value),
    Move { from: Pointer, to: Pointer },
    Copy { from: Pointer, to: Pointer },
    Test(Pointer, Value),
}

/// A JSON pointer (RFC 6901): as written, and its steps unescaped.
#[derive(Debug, Clone, PartialEq)]
struct Pointer {
    text: String,
    steps: Vec<String>,
}

const OPERATIONS: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];

/// Reads the items of a patch document.
pub(super) fn read(items: &[Node]) -> Result<Vec<Operation>, Fault> {
    items.iter().map(operation).collect()
}

fn operation(node: &Node) -> Result<Operation, Fault> {
    let fault = |message: String| Fault {
        line: node.line,
        message,
    };
    if !matches!(node.value, Written::Map(_)) {
        let message = "an operation is a mapping with op and path, found";
        return Err(fault(format!("{message} {}", node.value.what())));
    }
    let Some(name) = node.text(&["op"]) else {
        return Err(fault(format!(
            "an operation needs an op: one of {}",
            OPERATIONS.join(", ")
        )));
    };
    let pointer = |field: &str| {
        let Some(text) = node.text(&[field]) else {
            return Err(fault(format!("{name} needs a {field}")));
        };
        Pointer::read(text).map_err(fault)
    };
    let value = || {
        let value = node.get("value").map(Node::to_json);
        value.ok_or_else(|| fault(format!("{name} needs a value")))
    };
    let act = match name {
        "add" => Act::Add(pointer("path")?, value()?),
        "remove" => Act::Remove(pointer("path")?),
        "replace" => Act::Replace(pointer("path")?, value()?),
        "move" | "copy" => {
            let (from, to) = (pointer("from")?, pointer("path")?);
            match name {
                "copy" => Act::Copy { from, to },
                _ if to.is_inside(&from) => {
                    let message = format!("{} can't be moved into itself", from.text);
                    return Err(fault(message));
                }
                _ => Act::Move { from, to },
            }
        }
        "test" => Act::Test(pointer("path")?, value()?),
        unknown => {
            return Err(fault(format!(
                "unknown op {unknown:?}: known are {}{}",
                OPERATIONS.join(", "),
                did_you_mean(unknown, OPERATIONS)
            )));
        }
    };
    Ok(Operation {
        line: node.line,
        act,
    })
}

impl Operation {
    /// Does it.
    ///
    /// # Errors
    /// Why it can't be done; the value may be changed then. `copies` is how many values may still be copied.
    pub(super) fn apply(&self, root: &mut Value, copies: &mut usize) -> Result<(), String> {
        match &self.act {
            Act::Add(at, value) => add(root, at, value.clone()),
            Act::Remove(at) => take(root, at).map(drop),
            Act::Replace(at, value) => {
                *find_mut(root, at)? = value.clone();
                Ok(())
            }
            Act::Move { from, to } => {
                let value = take(root, from)?;
                add(root, to, value)
            }
            Act::Copy { from, to } => {
                let value = find_mut(root, from)?;
                // A value that is copied into itself doubles.
                *copies = copies
                    .checked_sub(size(value))
                    .ok_or("it copies too much")?;
                let value = value.clone();
                add(root, to, value)
            }
            Act::Test(at, value) => match equal(find_mut(root, at)?, value) {
                true => Ok(()),
                false => Err(format!(
                    "the test of {} fails: it holds another value",
                    at.text
                )),
            },
        }
    }
}

/// How many values a value is.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// Equal as JSON: numbers by what they are worth.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || (left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64()
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| equal(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(name, value): (&String, &Value)| {
                right.get(name).is_some_and(|other| equal(value, other))
            };
            left.len() == right.len() && left.iter().all(same)
        }
        (left, right) => left == right,
    }
}

fn add(root: &mut Value, at: &Pointer, value: Value) -> Result<(), String> {
    let Some((last, above)) = at.steps.split_last() else {
        *root = value;
        return Ok(());
    };
    match follow(root, above, at)? {
        Value::Object(fields) => {
            fields.insert(last.clone(), value);
            Ok(())
        }
        Value::Array(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
            let place = index(last).filter(|place| *place <= items.len());
            let place = place.ok_or_else(|| at.absent(above.len()))?;
            items.insert(place, value);
            Ok(())
        }
        _ => Err(at.absent(above.len())),
    }
}

fn take(root: &mut Value, at: &Pointer) -> Result<Value, String> {
    let Some((last, above)) = at.steps.split_last() else {
        return Err("the whole object can't be removed by an operation: use $patch: delete".into());
    };
    let taken = match follow(root, above, at)? {
        Value::Object(fields) => fields.remove(last),
        Value::Array(items) => index(last)
            .filter(|place| *place < items.len())
            .map(|place| items.remove(place)),
        _ => None,
    };
    taken.ok_or_else(|| at.absent(above.len()))
}

fn find_mut<'v>(root: &'v mut Value, at: &Pointer) -> Result<&'v mut Value, String> {
    follow(root, &at.steps, at)
}

fn follow<'v>(
    root: &'v mut Value,
    steps: &[String],
    at: &Pointer,
) -> Result<&'v mut Value, String> {
    let mut value = root;
    for (depth, step) in steps.iter().enumerate() {
        let next = match value {
            Value::Object(fields) => fields.get_mut(step),
            Value::Array(items) => index(step).and_then(|place| items.get_mut(place)),
            _ => None,
        };
        value = next.ok_or_else(|| at.absent(depth))?;
    }
    Ok(value)
}

/// A place in a list: digits without leading zeros.
fn index(step: &str) -> Option<usize> {
    let digits = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let plain = step == "0" || !step.starts_with('0');
    (digits && plain).then(|| step.parse().ok()).flatten()
}

impl Pointer {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no JSON pointer, such as /spec/replicas");
        let steps = match text.strip_prefix('/') {
            None if text.is_empty() => Vec::new(),
            None => return Err(wrong()),
            Some(rest) => rest
                .split('/')
                .map(|step| unescaped(step).ok_or_else(wrong))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            text: text.to_owned(),
            steps,
        })
    }

    fn is_inside(&self, other: &Self) -> bool {
        self.steps.len() > other.steps.len() && self.steps.starts_with(&other.steps)
    }

    /// What is said when the step at this depth leads nowhere.
    fn absent(&self, depth: usize) -> String {
        let steps = self.text.split('/').skip(1).take(depth + 1);
        let missing: String = steps.map(|step| format!("/{step}")).collect();
        match missing == self.text {
            true => format!("there is no {}", self.text),
            false => format!("there is no {missing}, so no {}", self.text),
        }
    }
}

/// `~1` is a slash, `~0` a tilde, and nothing else begins with a tilde.
fn unescaped(step: &str) -> Option<String> {
    let mut letters = step.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(object: &Value, patch: &Value) -> Result<Value, String> {
        let nodes = crate::yaml::documents(patch.to_string().as_bytes()).unwrap();
        let Written::List(items) = &nodes[0].value else {
            panic!("a patch is a list")
        };
        let mut value = object.clone();
        let mut copies = 1000;
        for operation in read(items).map_err(|fault| fault.message)? {
            operation.apply(&mut value, &mut copies)?;
        }
        Ok(value)
    }

    /// The examples of RFC 6902, appendix A, by their numbers.
    #[test]
    fn the_examples_of_the_standard_come_out_as_it_says() {
        let cases = [
            (
                "A.1",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux"}]),
                Ok(json!({"baz": "qux", "foo": "bar"})),
            ),
            (
                "A.2",
                json!({"foo": ["bar", "baz"]}),
                json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
                Ok(json!({"foo": ["bar", "qux", "baz"]})),
            ),
            (
                "A.3",
                json!({"baz": "qux", "foo": "bar"}),
                json!([{"op": "remove", "path": "/baz"}]),
                Ok(json!({"foo": "bar"})),
            ),
            (
                "A.4",
                json!({"foo": ["bar", "qux", "baz"]}),
                json!([{"op": "remove", "path": "/foo/1"}]),
                Ok(json!({"foo": ["bar", "baz"]})),
            ),
            (
                "A.5",
                json!({"baz": "qux", "foo": "bar"}),
                json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
                Ok(json!({"baz": "boo", "foo": "bar"})),
            ),
            (
                "A.6",
                json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
                json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
                Ok(json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}})),
            ),
            (
                "A.7",
                json!({"foo": ["all", "grass", "cows", "eat"]}),
                json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
                Ok(json!({"foo": ["all", "cows", "eat", "grass"]})),
            ),
            (
                "A.8",
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
                json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
                Ok(json!({"baz": "qux", "foo": ["a", 2, "c"]})),
            ),
            (
                "A.9",
                json!({"baz": "qux"}),
                json!([{"op": "test", "path": "/baz", "value": "bar"}]),
                Err("the test of /baz fails: it holds another value"),
            ),
            (
                "A.10",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
                Ok(json!({"foo": "bar", "child": {"grandchild": {}}})),
            ),
            (
                "A.11",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
                Ok(json!({"foo": "bar", "baz": "qux"})),
            ),
            (
                "A.12",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz/bat", "value": "qux"}]),
                Err("there is no /baz, so no /baz/bat"),
            ),
            (
                "A.14",
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": 10}]),
                Ok(json!({"/": 9, "~1": 10})),
            ),
            (
                "A.15",
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": "10"}]),
                Err("the test of /~01 fails: it holds another value"),
            ),
            (
                "A.16",
                json!({"foo": ["bar"]}),
                json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
                Ok(json!({"foo": ["bar", ["abc", "def"]]})),
            ),
        ];
        for (number, object, patch, wanted) in cases {
            let wanted = wanted.map_err(str::to_owned);
            assert_eq!(run(&object, &patch), wanted, "{number}");
        }
        // A.13: a member twice is refused where the document is read.
        let twice = br#"[{"op": "add", "path": "/baz", "value": "qux", "op": "remove"}]"#;
        assert!(crate::yaml::documents(twice).is_err());
    }

    #[test]
    fn what_can_not_be_done_says_which_pointer_leads_nowhere() {
        let object = json!({"a": {"b": [1, 2]}, "n": null});
        let cases = [
            (json!({"op": "remove", "path": "/a/c"}), "there is no /a/c"),
            (
                json!({"op": "replace", "path": "/x/y/z", "value": 1}),
                "there is no /x, so no /x/y/z",
            ),
            (
                json!({"op": "add", "path": "/a/b/3", "value": 1}),
                "there is no /a/b/3",
            ),
            (
                json!({"op": "add", "path": "/a/b/01", "value": 1}),
                "there is no /a/b/01",
            ),
            (
                json!({"op": "add", "path": "/a/b/-1", "value": 1}),
                "there is no /a/b/-1",
            ),
            (
                json!({"op": "remove", "path": "/a/b/-"}),
                "there is no /a/b/-",
            ),
            (
                json!({"op": "add", "path": "/n/x", "value": 1}),
                "there is no /n/x",
            ),
            (
                json!({"op": "move", "from": "/a", "path": "/a/b"}),
                "/a can't be moved into itself",
            ),
            (
                json!({"op": "remove", "path": ""}),
                "the whole object can't be removed by an operation: use $patch: delete",
            ),
            (
                json!({"op": "remove", "path": "a"}),
                "\"a\" is no JSON pointer, such as /spec/replicas",
            ),
            (
                json!({"op": "remove", "path": "/~2"}),
                "\"/~2\" is no JSON pointer, such as /spec/replicas",
            ),
            (json!({"op": "add", "path": "/a"}), "add needs a value"),
            (json!({"op": "copy", "path": "/a"}), "copy needs a from"),
            (json!({"op": "test", "value": 1}), "test needs a path"),
            (
                json!({"path": "/a"}),
                "an operation needs an op: one of add, remove, replace, move, copy, test",
            ),
            (
                json!({"op": "repalce", "path": "/a", "value": 1}),
                "unknown op \"repalce\": known are add, remove, replace, move, copy, test; did you mean \"replace\"?",
            ),
            (
                json!("add"),
                "an operation is a mapping with op and path, found text",
            ),
        ];
        for (operation, message) in cases {
            let said = run(&object, &json!([operation]));
            assert_eq!(said, Err(message.to_owned()), "{operation}");
        }
    }

    #[test]
    fn a_patch_that_doubles_an_object_again_and_again_is_stopped() {
        let copy = json!({"op": "copy", "from": "", "path": "/a"});
        let patch = Value::Array(vec![copy; 100]);
        assert_eq!(
            run(&json!({"b": 1}), &patch),
            Err("it copies too much".into())
        );
    }

    #[test]
    fn null_is_a_value_and_numbers_are_equal_by_worth() {
        let object = json!({"n": null, "f": 1.5, "list": [{"x": 1}]});
        for patch in [
            json!({"op": "test", "path": "/n", "value": null}),
            json!({"op": "test", "path": "/f", "value": 1.5}),
            json!({"op": "test", "path": "/list", "value": [{"x": 1.0}]}),
            json!({"op": "move", "from": "/list", "path": "/list"}),
            json!({"op": "copy", "from": "/f", "path": "/f"}),
        ] {
            assert_eq!(run(&object, &json!([patch])), Ok(object.clone()), "{patch}");
        }
        let added = run(
            &object,
            &json!([{"op": "replace", "path": "/f", "value": null}]),
        );
        assert_eq!(added.unwrap()["f"], json!(null));
    }
}
