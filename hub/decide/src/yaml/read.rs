//! Our own formats out of nodes, strictly: an unknown field is an error that names the nearest known one, and every
//! error says in which line and field.
//!
//! Plain `#[derive(Deserialize)]` with `deny_unknown_fields` and `rename_all = "camelCase"` is all a format needs.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Fault, Key, Node, Value};
use crate::nearest::nearest;

/// Reads a value of ours; `under` is the path of the node, such as `spec`, for messages.
pub(crate) fn typed<T: de::DeserializeOwned>(node: &Node, under: &str) -> Result<T, Fault> {
    T::deserialize(Reader(node)).map_err(|error| {
        let mut path = under.to_owned();
        for step in error.path.iter().rev() {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        let message = match path.as_str() {
            "" => error.message,
            path => format!("{path}: {}", error.message),
        };
        Fault {
            line: error.line.unwrap_or(node.line),
            message,
        }
    })
}

/// What serde calls the numbers of our formats.
const INTEGERS: [&str; 4] = ["u8", "u16", "u32", "u64"];

struct Reader<'de>(&'de Node);

#[derive(Debug)]
struct Error {
    line: Option<u32>,
    path: Vec<Step>,
    message: String,
}

#[derive(Debug)]
enum Step {
    Field(String),
    Item(usize),
}

impl Error {
    fn at(mut self, line: u32) -> Self {
        self.line.get_or_insert(line);
        self
    }

    fn under(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What to say of a field that nobody knows.
pub(crate) fn unknown_field(field: &str, known: &[&str]) -> String {
    match nearest(field, known.iter().copied()) {
        Some(nearest) => format!("unknown field {field:?}: did you mean {nearest:?}?"),
        None => format!("unknown field {field:?}: known are {}", known.join(", ")),
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            line: None,
            path: Vec::new(),
            message: message.to_string(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Str(_) => "text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a mapping",
            Unexpected::Unit => "nothing",
            _ => "something else",
        };
        let expected = match expected.to_string() {
            text if text == "a string" => "text".into(),
            text if text == "a boolean" => "true or false".into(),
            text if text.starts_with("struct ") => "a mapping".into(),
            text if text == "a sequence" => "a list".into(),
            text if text == "a map" => "a mapping".into(),
            text if INTEGERS.contains(&&*text) => "a whole number".into(),
            other => other,
        };
        let hint = match (expected.as_str(), found) {
            ("text", "a number" | "true or false") => ": put it in quotes",
            _ => "",
        };
        Self::custom(format_args!("must be {expected}, found {found}{hint}"))
    }

    fn invalid_value(_found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match expected.to_string() {
            text if INTEGERS.contains(&&*text) => {
                Self::custom("must be a whole number that is not negative")
            }
            expected => Self::custom(format_args!("must be {expected}")),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::custom(unknown_field(field, known))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format_args!("{word:?} is none of {}", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("needs {field:?}"))
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self(node) = self;
        let read = match &node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Map(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                current: None,
            }),
        };
        read.map_err(|error| error.at(node.line))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A mapping that is there but empty (`spec:`) has every field at its default.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self(node) = self;
        match &node.value {
            Value::Null => visitor
                .visit_map(Entries {
                    rest: [].iter(),
                    current: None,
                })
                .map_err(|error| error.at(node.line)),
            Value::Map(_) => self.deserialize_any(visitor),
            other => Err(
                Error::custom(format_args!("must be a mapping, found {}", other.what()))
                    .at(node.line),
            ),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor
            .visit_enum(Word(self.0))
            .map_err(|error| error.at(self.0.line))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader(node))
            .map(Some)
            .map_err(|error| error.at(node.line).under(Step::Item(index)))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    current: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.current = self.rest.next();
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        let text: de::value::BorrowedStrDeserializer<'de, Error> =
            de::value::BorrowedStrDeserializer::new(&key.text);
        seed.deserialize(text)
            .map(Some)
            .map_err(|error| error.at(key.line))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self.current.expect("a value is asked for after its key");
        seed.deserialize(Reader(node)).map_err(|error| {
            let line = if node.line == 0 { key.line } else { node.line };
            error.at(line).under(Step::Field(key.text.clone()))
        })
    }
}

/// Enums of our formats are plain words.
struct Word<'de>(&'de Node);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let Value::Text(text) = &self.0.value else {
            return Err(de::Error::custom(format_args!(
                "must be a word, found {}",
                self.0.value.what()
            )));
        };
        let text: de::value::StrDeserializer<'_, Error> = text.as_str().into_deserializer();
        Ok((seed.deserialize(text)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Error> {
        Err(de::Error::custom("must be a word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("must be a word"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom("must be a word"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Format {
        name: String,
        #[serde(default)]
        self_heal: Option<bool>,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        parts: Vec<Part>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        #[default]
        Always,
        IfEqual,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Part {
        size: u32,
    }

    fn read(yaml: &str) -> Result<Format, String> {
        let node = super::super::documents(yaml.as_bytes()).unwrap().remove(0);
        typed(&node, "spec").map_err(|fault| format!("{}: {}", fault.line, fault.message))
    }

    #[test]
    fn what_is_known_is_read() {
        let yaml =
            "name: web\nselfHeal: false\nmode: if-equal\nparts: [{size: 1}]\nlabels: {a: b}\n";
        let read = read(yaml).unwrap();
        assert_eq!(read.parts, [Part { size: 1 }]);
        assert_eq!((read.self_heal, read.mode), (Some(false), Mode::IfEqual));
    }

    #[test]
    fn errors_say_line_field_and_what_was_meant() {
        let cases = [
            "name: web\nselfheal: true\n",
            "name: web\nparts:\n- size: 1\n- sise: 2\n",
            "name: web\nparts:\n- size: big\n",
            "name: web\nparts:\n- size: -1\n",
            "name: web\nparts:\n-\n",
            "name: web\nmode: sometimes\n",
            "name: web\nmode: [always]\n",
            "name: web\nlabels: {a: 1}\n",
            "name: web\nlabels:\n  a: yes\n",
            "name: web\nlabels: [a]\n",
            "labels: {}\n",
            "name: web\nutterly: different\n",
            "- name\n",
        ];
        let errors: Vec<String> = cases.iter().map(|yaml| read(yaml).unwrap_err()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        2: spec: unknown field "selfheal": did you mean "selfHeal"?
        4: spec.parts[1]: unknown field "sise": did you mean "size"?
        3: spec.parts[0].size: must be a whole number, found text
        3: spec.parts[0].size: must be a whole number that is not negative
        3: spec.parts[0]: needs "size"
        2: spec.mode: "sometimes" is none of always, if-equal
        2: spec.mode: must be a word, found a list
        2: spec.labels.a: must be text, found a number: put it in quotes
        3: spec.labels.a: must be text, found true or false: put it in quotes
        2: spec.labels: must be a mapping, found a list
        1: spec: needs "name"
        2: spec: unknown field "utterly": known are name, selfHeal, mode, parts, labels
        1: spec: must be a mapping, found a list
        "#);
    }
}
