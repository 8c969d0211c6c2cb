//! How placeholders are written, and what they stand for on a cluster.
//!
//! In: a text of a manifest. Out: its pieces: bytes that stay, and holes. Ours are `${cluster.name}`,
//! `${cluster.labels.KEY}`, `${cluster.values.PATH}` and `${vars.NAME}`, each with `:=default` before the brace.
//! `$${cluster.…}` and `$${vars.…}` are those texts themselves, with one dollar sign. Everything else stays as it is,
//! byte for byte; but what begins with `${cluster.` or `${vars.` and is none of ours is a slip, and an error.

use std::fmt;

use muster_proto::canonical;
use serde_json::{Map, Value};

use super::Facts;
use crate::nearest::did_you_mean;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Hole(Name, Option<String>),
}

/// What a placeholder asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Cluster,
    Label(String),
    Value(String),
    Variable(String),
}

/// What a cluster says to a name. Null is nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer<'f> {
    Text(&'f str),
    Value(&'f Value),
    Nothing,
}

const OURS: [&str; 2] = ["${cluster.", "${vars."];
const KNOWN: &str =
    "${cluster.name}, ${cluster.labels.KEY}, ${cluster.values.PATH} and ${vars.NAME}";

/// Whether there is anything of ours in a text. JSON does not escape what placeholders begin with.
pub(super) fn may_be_in(text: &[u8]) -> bool {
    let is_begin = |at: usize| {
        OURS.iter()
            .any(|ours| text[at..].starts_with(ours.as_bytes()))
    };
    let mut dollars = text.iter().enumerate().filter(|(_, byte)| **byte == b'$');
    dollars.any(|(at, _)| is_begin(at))
}

/// Takes a text apart.
///
/// # Errors
/// What looks like ours and is not. Says the name, never the default.
pub(super) fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        plain.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let begins = |text: &str| OURS.iter().any(|ours| text.starts_with(ours));
        if begins(rest) {
            let Some((inside, after)) = rest[2..].split_once('}') else {
                let begin = &rest[1..=rest.find('.').unwrap_or(1)];
                return Err(format!(
                    "${begin} is not closed by a brace: write $${begin} for the text itself"
                ));
            };
            let (name, default) = match inside.split_once(":=") {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (inside, None),
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Hole(Name::read(name)?, default));
            rest = after;
        } else {
            // Of `$${cluster.` the second dollar sign stays.
            let skipped = usize::from(begins(&rest[1..]));
            plain.push_str(&rest[skipped..=skipped]);
            rest = &rest[1 + skipped..];
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

impl Name {
    fn read(text: &str) -> Result<Self, String> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        let after = |prefix: &str| {
            let name = text.strip_prefix(prefix)?;
            (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
        };
        if text == "cluster.name" {
            return Ok(Self::Cluster);
        }
        let found = (after("cluster.labels.").map(Self::Label))
            .or_else(|| after("cluster.values.").map(Self::Value))
            .or_else(|| after("vars.").map(Self::Variable));
        found.ok_or_else(|| {
            // What follows the name may be a default in somebody else's style, and a secret.
            let end = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
            let (shown, more) = text.split_at(end);
            let hint = match more {
                "" => {
                    let first = shown.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
                    did_you_mean(&first, ["cluster.name", "cluster.labels", "cluster.values"])
                }
                _ => "; a default is written after :=".into(),
            };
            format!(
                "${{{shown}}} is no placeholder: known are {KNOWN}, and $${{{shown}}} is the text itself{hint}"
            )
        })
    }

    /// What it stands for on a cluster. Variables are filled in before.
    pub(super) fn ask<'f>(&self, facts: &Facts<'f>) -> Answer<'f> {
        match self {
            Self::Cluster => Answer::Text(facts.name.as_str()),
            Self::Label(key) => match facts.labels.get(key) {
                Some(label) => Answer::Text(label),
                None => Answer::Nothing,
            },
            Self::Value(path) => match facts.values {
                Some(values) => look_up(values, path),
                None => Answer::Nothing,
            },
            Self::Variable(_) => Answer::Nothing,
        }
    }

    /// What is said of it where it stands for nothing.
    pub(super) fn undefined(&self, facts: &Facts) -> String {
        match self {
            Self::Label(key) => {
                let known = facts.labels.keys().map(String::as_str);
                format!("the cluster has no such label{}", did_you_mean(key, known))
            }
            Self::Value(path) => {
                let paths = facts.values.map(paths).unwrap_or_default();
                let hint = did_you_mean(path, paths.iter().map(String::as_str));
                format!("the cluster has no such value{hint}")
            }
            Self::Cluster | Self::Variable(_) => "nothing stands for it".into(),
        }
    }
}

/// The value at a path of keys with dots between them; a key may have dots itself.
pub(super) fn look_up<'v>(values: &'v Map<String, Value>, path: &str) -> Answer<'v> {
    fn found<'v>(values: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
        values.get(path).or_else(|| {
            let mut dots = path.match_indices('.');
            dots.find_map(|(dot, _)| {
                let inner = values.get(&path[..dot])?.as_object()?;
                found(inner, &path[dot + 1..])
            })
        })
    }
    match found(values, path) {
        None | Some(Value::Null) => Answer::Nothing,
        Some(value) => Answer::Value(value),
    }
}

/// Every path that leads to something but null.
pub(super) fn paths(values: &Map<String, Value>) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in values.iter().filter(|(_, value)| !value.is_null()) {
        all.push(name.clone());
        let inner = value.as_object().map(paths).unwrap_or_default();
        all.extend(inner.into_iter().map(|path| format!("{name}.{path}")));
    }
    all
}

impl Answer<'_> {
    /// Bytes that are the same for the same answer and for no other, whatever follows.
    pub(super) fn write_key(&self, to: &mut Vec<u8>) {
        let mut framed = |tag: u8, bytes: &[u8]| {
            to.push(tag);
            to.extend((bytes.len() as u64).to_le_bytes());
            to.extend(bytes);
        };
        match self {
            Answer::Nothing => framed(0, &[]),
            Answer::Text(text) => framed(1, text.as_bytes()),
            Answer::Value(Value::String(text)) => framed(1, text.as_bytes()),
            Answer::Value(value) => framed(2, &canonical(value)),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("${cluster.name}"),
            Self::Label(key) => write!(f, "${{cluster.labels.{key}}}"),
            Self::Value(path) => write!(f, "${{cluster.values.{path}}}"),
            Self::Variable(name) => write!(f, "${{vars.{name}}}"),
        }
    }
}
