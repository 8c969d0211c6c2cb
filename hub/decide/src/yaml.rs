//! YAML and JSON as Kubernetes tools read them, with the line of every value.
//!
//! In: the text of a file. Out: its documents as [`Node`]s; empty ones are left out. [`read::typed`] makes values of
//! our own formats out of nodes, [`Node::to_json`] makes manifests.
//!
//! `kubectl`, Helm and the API server read YAML 1.1 through Go: `yes` is true, `0644` is 420, `1e3` is 1000 and merge
//! keys are merged. So do we.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

pub(crate) mod read;

/// One value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// First line of the file is 1.
    pub(crate) line: u32,
    pub(crate) value: Value,
}

/// What stands there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and its line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) line: u32,
    pub(crate) text: String,
}

/// What is wrong in a file. Quotes keys and words, never values: they may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) message: String,
}

/// The documents of a YAML file.
pub(crate) fn documents(bytes: &[u8]) -> Result<Vec<Node>, Fault> {
    let text = text(bytes)?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 20_000,
            max_events: 10_000_000,
            max_nodes: 5_000_000,
        },
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        Fault {
            line: error.location().map_or(0, |location| line(location.line())),
            message: format!("not YAML: {}", UserMessageFormatter.format_message(error)),
        }
    })
}

/// The documents of a JSON file. Only they have a line of their own; what is in them has the line of its document.
pub(crate) fn json_documents(bytes: &[u8]) -> Result<Vec<Node>, Fault> {
    let text = text(bytes)?;
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let mut documents = Vec::new();
    let mut offset = 0;
    while let Some(next) = stream.next() {
        let gap = text[offset..].len() - text[offset..].trim_start().len();
        let line = 1 + text[..offset + gap].matches('\n').count();
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let value = next.map_err(|error| Fault {
            line: u32::try_from(error.line()).unwrap_or(u32::MAX),
            message: format!("not JSON: {:?} error", error.classify()),
        })?;
        documents.push(Node::from_json(value, line));
        offset = stream.byte_offset();
    }
    documents.retain(|node| node.value != Value::Null);
    Ok(documents)
}

impl Node {
    /// The value of a key, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|(found, _)| found.text == key);
        entry.map(|(_, node)| node)
    }

    /// The text under a chain of keys.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        let node = path.iter().try_fold(self, |node, key| node.get(key))?;
        match &node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key.text.clone(), node.to_json()))
                .collect(),
        }
    }

    fn from_json(value: serde_json::Value, line: u32) -> Self {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => Value::float(float),
                _ => Value::Number(number),
            },
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| Self::from_json(item, line))
                    .collect(),
            ),
            serde_json::Value::Object(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(text, value)| (Key { line, text }, Self::from_json(value, line)))
                    .collect(),
            ),
        };
        Self { line, value }
    }
}

impl Value {
    /// What it is, for messages.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// Go's encoder writes whole floats as integers.
    #[expect(clippy::cast_possible_truncation)] // whole and below 2^53
    fn float(value: f64) -> Self {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() < EXACT {
            return Self::Number((value as i64).into());
        }
        Number::from_f64(value).map_or(Self::Null, Self::Number)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| Fault {
        line: line(
            1 + bytes[..error.valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count() as u64,
        ),
        message: "not UTF-8 text".into(),
    })
}

fn line(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: line(spanned.referenced.line()),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self {
            line: line(spanned.referenced.line()),
            text: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn json_of(yaml: &str) -> serde_json::Value {
        documents(yaml.as_bytes()).unwrap()[0].to_json()
    }

    #[test]
    fn scalars_mean_what_they_mean_to_kubectl() {
        let cases = [
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("1_000", json!(1000)),
            ("1e3", json!(1000)),
            ("08", json!(8)),
            ("1.50", json!(1.5)),
            ("3.0", json!(3)),
            ("0x1F", json!(31)),
            (
                "18446744073709551615",
                json!(18_446_744_073_709_551_615_u64),
            ),
            ("28446744073709551615", json!(2.844_674_407_370_955e19)),
            ("~", json!(null)),
            ("", json!(null)),
            ("\"0644\"", json!("0644")),
            ("1.2.3", json!("1.2.3")),
            ("2026-01-01", json!("2026-01-01")),
            ("!!binary aGk=", json!("hi")),
            ("|\n    a\n    b", json!("a\nb\n")),
        ];
        for (text, value) in cases {
            assert_eq!(
                json_of(&format!("k: {text}\n")),
                json!({"k": value}),
                "{text}"
            );
        }
    }

    #[test]
    fn anchors_are_filled_in_and_merge_keys_merged() {
        let yaml = "base: &b {a: 1, b: 2}\nuse:\n  <<: *b\n  b: 3\nsame: *b\n";
        assert_eq!(
            json_of(yaml),
            json!({"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 3}, "same": {"a": 1, "b": 2}})
        );
    }

    #[test]
    fn every_document_has_its_own_lines_and_empty_ones_are_left_out() {
        let found = documents(b"# one\na: 1\n---\n---\n# two\n\nb:\n  c: 2\n---\n").unwrap();
        let lines: Vec<_> = found.iter().map(|node| node.line).collect();
        assert_eq!(lines, [2, 7]);
        assert_eq!(found[1].get("b").unwrap().line, 8);
    }

    #[test]
    fn faults_name_the_line_and_no_values() {
        let cases = [
            "a: 1\n---\nb: [hunter2\n",
            "a: 1\n---\nb: 1\nb: hunter2\n",
            "a: *nobody\n",
            "a: 1\n b: hunter2\n",
            "a: \"hunter2\n",
            "a: b: hunter2\n",
            "a:\n\t- hunter2\n",
            "a: .nan\n",
        ];
        let faults: Vec<String> = cases
            .iter()
            .map(|text| documents(text.as_bytes()).unwrap_err())
            .map(|fault| format!("{}: {}", fault.line, fault.message))
            .collect();
        insta::assert_snapshot!(faults.join("\n"), @r"
        3: not YAML: unclosed bracket '['
        4: not YAML: duplicate mapping key `b` is not allowed here
        1: not YAML: reference to unknown value
        2: not YAML: mapping values are not allowed in this context
        1: not YAML: unclosed quote
        1: not YAML: mapping values are not allowed in this context
        2: not YAML: tabs disallowed within this context (block indentation)
        1: not YAML: value `.nan` is not a finite number
        ");
    }

    #[test]
    fn json_may_hold_several_documents_and_numbers_fold_as_in_yaml() {
        let found = json_documents(b"{\"a\": 1.0}\n\n{\"b\": \"\\ud83d\\ude00\"} null").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[1].line), (1, 3));
        assert_eq!(found[0].to_json(), json!({"a": 1}));
        assert_eq!(found[1].to_json(), json!({"b": "😀"}));
        let fault = json_documents(b"{\"a\": \n hunter2}").unwrap_err();
        assert_eq!(
            (fault.line, fault.message.as_str()),
            (2, "not JSON: Syntax error")
        );
    }

    #[test]
    fn a_file_that_is_no_text_says_where() {
        let fault = documents(b"a: 1\nb: \xff\n").unwrap_err();
        assert_eq!((fault.line, fault.message.as_str()), (2, "not UTF-8 text"));
    }
}
