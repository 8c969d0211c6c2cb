//! One object with holes: canonical JSON everywhere but where a cluster must be asked.
//!
//! In: a rendered object and the variables. Out: [`Compiled`], and for the answers of a cluster the object's bytes,
//! written in one pass without parsing anything again.

use bytes::Bytes;
use muster_proto::{DigestKey, Object, ObjectKey, canonical};
use serde_json::{Map, Value};

use super::place::Place;
use super::placeholder::{self, Answer, Name};
use crate::patch::what;

mod read;

use read::Reader;

/// No API server takes a larger object: what would become one is refused before it fills the memory.
const MOST_BYTES: usize = 4 << 20;

/// An object and its holes.
#[derive(Debug)]
pub(super) struct Compiled {
    key: ObjectKey,
    api_version: String,
    changes_identity: bool,
    /// About how many bytes it will have.
    size: usize,
    root: Tree,
}

/// Why something can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing stands for the name of this place, and no default is given.
    Undefined { name: usize, at: String },
    /// What stands for it does not fit.
    Unfit(String),
}

#[derive(Debug)]
enum Tree {
    /// JSON that is the same everywhere.
    Fixed(Vec<u8>),
    /// A text with holes in it.
    Text(Vec<Segment>),
    /// A scalar that is one placeholder.
    Whole(Hole),
    /// One after the other.
    Sequence(Vec<Tree>),
    /// A mapping with a hole in a key, so that the order of its keys is known when they are filled only.
    Map {
        at: String,
        entries: Vec<(Vec<Segment>, Tree)>,
    },
}

#[derive(Debug, Clone)]
enum Segment {
    Text(String),
    Hole(Hole),
}

#[derive(Debug, Clone)]
struct Hole {
    /// Place in the names of the template.
    name: usize,
    /// As it is written, without the default.
    shown: String,
    /// Path of the field.
    at: String,
    /// Only text may stand here.
    is_text: bool,
    default: Option<Value>,
}

impl Compiled {
    /// Finds the holes of an object; its variables are filled in at once. `names` grows by what it asks clusters for.
    pub(super) fn of(
        object: &Object,
        variables: &Map<String, Value>,
        names: &mut Vec<Name>,
    ) -> Result<Self, Vec<String>> {
        let value = object.value();
        let mut reader = Reader {
            variables,
            names,
            path: Vec::new(),
            wrong: Vec::new(),
            put_in: 0,
        };
        let place = Place::of(&object.api_version, &object.key.kind);
        let root = reader.tree(&value, place);
        match reader.wrong.is_empty() {
            true => Ok(Self {
                key: object.key.clone(),
                api_version: object.api_version.clone(),
                changes_identity: has_open_identity(&value),
                size: object.body.len() + 64,
                root,
            }),
            false => Err(reader.wrong),
        }
    }

    /// As it is rendered.
    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Whether it may become another object.
    pub(super) fn changes_identity(&self) -> bool {
        self.changes_identity
    }

    /// Whether it is the same everywhere.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.root, Tree::Fixed(_))
    }

    /// The object for the answers to the template's names.
    pub(super) fn filled(
        &self,
        answers: &[Answer],
        key: &DigestKey,
    ) -> Result<Object, Vec<Trouble>> {
        let mut body = Vec::with_capacity(self.size);
        let mut trouble = Vec::new();
        self.root.write(answers, &mut body, &mut trouble);
        if body.len() > MOST_BYTES {
            trouble.push(Trouble::Unfit(too_large("its end")));
        }
        trouble.truncate(super::MOST);
        if !trouble.is_empty() {
            return Err(trouble);
        }
        if self.changes_identity {
            let value: Value = serde_json::from_slice(&body).expect("a tree writes JSON");
            return Object::new(&value, key)
                .map_err(|invalid| vec![Trouble::Unfit(invalid.to_string())]);
        }
        Ok(Object {
            key: self.key.clone(),
            api_version: self.api_version.clone(),
            digest: key.digest(&body),
            body: Bytes::from(body),
        })
    }
}

/// Whether a placeholder stands in what tells which object it is.
fn has_open_identity(object: &Value) -> bool {
    let open = |text: &str| placeholder::may_be_in(text.as_bytes());
    let texts = [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/namespace",
    ];
    let mut texts = texts.iter().filter_map(|at| object.pointer(at)?.as_str());
    let keys = [Some(object), object.get("metadata")];
    let mut keys = keys.into_iter().flatten().filter_map(Value::as_object);
    texts.any(open) || keys.any(|fields| fields.keys().any(|key| open(key)))
}

impl Tree {
    fn list(items: Vec<Tree>) -> Self {
        let mut parts = Vec::new();
        for item in items {
            let before = if parts.is_empty() { "[" } else { "," };
            parts.extend([Self::fixed(before), item]);
        }
        parts.push(Self::fixed(if parts.is_empty() { "[]" } else { "]" }));
        Self::sequence(parts)
    }

    /// Entries in the order of their keys, as far as those are fixed.
    fn map(at: String, entries: Vec<(Vec<Segment>, Tree)>) -> Self {
        if entries.iter().any(|(key, _)| fixed(key).is_none()) {
            return Self::Map { at, entries };
        }
        let mut parts = Vec::new();
        for (key, value) in entries {
            let before = if parts.is_empty() { "{" } else { "," };
            let key = quoted(fixed(&key).unwrap_or_default());
            parts.extend([
                Self::fixed(before),
                Self::Fixed(key),
                Self::fixed(":"),
                value,
            ]);
        }
        parts.push(Self::fixed(if parts.is_empty() { "{}" } else { "}" }));
        Self::sequence(parts)
    }

    fn fixed(json: &str) -> Self {
        Self::Fixed(json.as_bytes().to_vec())
    }

    /// Parts in one row, with what is fixed between two holes in one piece.
    fn sequence(parts: Vec<Tree>) -> Self {
        let mut row: Vec<Tree> = Vec::new();
        let inner = parts.into_iter().flat_map(|part| match part {
            Self::Sequence(parts) => parts,
            part => vec![part],
        });
        for part in inner {
            match (row.last_mut(), part) {
                (Some(Self::Fixed(before)), Self::Fixed(more)) => before.extend(more),
                (_, part) => row.push(part),
            }
        }
        match <[Tree; 1]>::try_from(row) {
            Ok([only]) => only,
            Err(row) => Self::Sequence(row),
        }
    }

    fn text(segments: Vec<Segment>) -> Self {
        match fixed(&segments) {
            Some(text) => Self::Fixed(quoted(text)),
            None => Self::Text(segments),
        }
    }

    fn write(&self, answers: &[Answer], to: &mut Vec<u8>, trouble: &mut Vec<Trouble>) {
        if to.len() > MOST_BYTES {
            // Said once the whole is there; what is written no longer matters.
            return;
        }
        match self {
            Self::Fixed(bytes) => to.extend(bytes),
            Self::Text(segments) => to.extend(quoted(&joined(segments, answers, trouble))),
            Self::Whole(hole) => hole.write(answers, to, trouble),
            Self::Sequence(parts) => {
                for part in parts {
                    part.write(answers, to, trouble);
                }
            }
            Self::Map { at, entries } => {
                let mut keys: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| (joined(key, answers, trouble), value))
                    .collect();
                keys.sort_by(|(one, _), (other, _)| one.cmp(other));
                if keys.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    trouble.push(Trouble::Unfit(same_key(at)));
                }
                to.push(b'{');
                for (index, (key, value)) in keys.into_iter().enumerate() {
                    if index > 0 {
                        to.push(b',');
                    }
                    to.extend(quoted(&key));
                    to.push(b':');
                    value.write(answers, to, trouble);
                }
                to.push(b'}');
            }
        }
    }
}

impl Hole {
    /// As a scalar of its own.
    fn write(&self, answers: &[Answer], to: &mut Vec<u8>, trouble: &mut Vec<Trouble>) {
        let value = match (answers[self.name], &self.default) {
            (Answer::Text(text), _) => &Value::from(text),
            (Answer::Value(value), _) => value,
            (Answer::Nothing, Some(default)) => default,
            (Answer::Nothing, None) => return trouble.push(self.undefined()),
        };
        match as_text(value).filter(|_| self.is_text) {
            Some(text) => to.extend(quoted(&text)),
            None if self.is_text => {
                trouble.push(Trouble::Unfit(only_text(&self.shown, &self.at, value)));
            }
            None => to.extend(canonical(value)),
        }
    }

    /// Within a text.
    fn text(&self, answers: &[Answer], to: &mut String, trouble: &mut Vec<Trouble>) {
        let value = match (answers[self.name], &self.default) {
            (Answer::Text(text), _) => &Value::from(text),
            (Answer::Value(value), _) => value,
            (Answer::Nothing, Some(default)) => default,
            (Answer::Nothing, None) => return trouble.push(self.undefined()),
        };
        if to.len() > MOST_BYTES {
            return trouble.push(Trouble::Unfit(too_large(&self.at)));
        }
        match as_text(value) {
            Some(text) => to.push_str(&text),
            None => trouble.push(Trouble::Unfit(only_whole(&self.shown, &self.at, value))),
        }
    }

    fn undefined(&self) -> Trouble {
        Trouble::Undefined {
            name: self.name,
            at: self.at.clone(),
        }
    }
}

fn joined(segments: &[Segment], answers: &[Answer], trouble: &mut Vec<Trouble>) -> String {
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Text(more) => text.push_str(more),
            Segment::Hole(hole) => hole.text(answers, &mut text, trouble),
        }
    }
    text
}

/// A text without holes.
fn fixed(segments: &[Segment]) -> Option<&str> {
    match segments {
        [] => Some(""),
        [Segment::Text(text)] => Some(text),
        _ => None,
    }
}

fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a text can be written")
}

/// A scalar as text; `None` of anything else.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What is said of a name that nothing stands for.
pub(super) fn undefined(shown: &str, at: &str, why: &str) -> String {
    format!("{shown} at {at} stands for nothing and states no default: {why}")
}

fn only_text(shown: &str, at: &str, value: &Value) -> String {
    format!("{shown} is {} and {at} takes text only", what(value))
}

fn only_whole(shown: &str, at: &str, value: &Value) -> String {
    let what = what(value);
    format!("{shown} is {what}: at {at} it stands within a text, and can only stand alone")
}

fn too_large(at: &str) -> String {
    format!("what is put in makes the object larger than {MOST_BYTES} bytes (at {at})")
}

fn same_key(at: &str) -> String {
    format!("two keys of {at} become the same")
}
