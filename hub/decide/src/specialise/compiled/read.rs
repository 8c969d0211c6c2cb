//! An object is taken apart: its variables filled in at once, its holes found.
//!
//! In: a rendered object's JSON. Out: a [`Tree`], and the names that its holes ask clusters for.

use muster_proto::canonical;
use serde_json::{Map, Value};

use super::{
    Hole, MOST_BYTES, Segment, Tree, as_text, fixed, only_text, only_whole, quoted, same_key,
    too_large, undefined,
};
use crate::nearest::did_you_mean;
use crate::specialise::place::Place;
use crate::specialise::placeholder::{self, Answer, Name, Piece};
use crate::yaml;

/// What is known while an object is taken apart.
pub(super) struct Reader<'r> {
    pub(super) variables: &'r Map<String, Value>,
    pub(super) names: &'r mut Vec<Name>,
    pub(super) path: Vec<String>,
    pub(super) wrong: Vec<String>,
    /// Bytes of variables so far.
    pub(super) put_in: usize,
}

/// What a placeholder is at once: its variable's value, or a hole for clusters.
enum Found {
    Value(Value),
    Hole(Hole),
}

impl Reader<'_> {
    pub(super) fn tree(&mut self, value: &Value, place: Place) -> Tree {
        match value {
            Value::String(text) if placeholder::may_be_in(text.as_bytes()) => {
                self.text(text, place)
            }
            Value::Array(items) => {
                let trees = items.iter().enumerate().map(|(index, item)| {
                    self.below(format!("[{index}]"), |it| it.tree(item, place.item()))
                });
                Tree::list(trees.collect())
            }
            Value::Object(fields) => self.map(fields, place),
            scalar => Tree::Fixed(canonical(scalar)),
        }
    }

    fn map(&mut self, fields: &Map<String, Value>, place: Place) -> Tree {
        let mut trees = Vec::new();
        for (key, value) in fields {
            self.below(format!(".{key}"), |it| {
                let segments = match placeholder::may_be_in(key.as_bytes()) {
                    true => it.segments(key),
                    false => vec![Segment::Text(key.clone())],
                };
                trees.push((segments, it.tree(value, place.field(key))));
            });
        }
        // Keys that variables filled are fixed now; two of them may be one.
        trees.sort_by(|(one, _), (other, _)| fixed(one).cmp(&fixed(other)));
        let mut pairs = trees.windows(2);
        if pairs.any(|pair| fixed(&pair[0].0).is_some() && fixed(&pair[0].0) == fixed(&pair[1].0)) {
            let at = self.at();
            self.wrong.push(same_key(&at));
        }
        Tree::map(self.at(), trees)
    }

    fn text(&mut self, text: &str, place: Place) -> Tree {
        let at = self.at();
        let pieces = match placeholder::parse(text) {
            Ok(pieces) => pieces,
            Err(why) => return self.refuse(format!("at {at}: {why}")),
        };
        if let [Piece::Hole(name, default)] = &pieces[..] {
            return match self.find(name, default.as_deref(), true, place.is_text()) {
                Some(Found::Hole(hole)) => Tree::Whole(hole),
                Some(Found::Value(value)) if place.is_text() => match as_text(&value) {
                    Some(text) => Tree::Fixed(quoted(&text)),
                    None => self.refuse(only_text(&name.to_string(), &at, &value)),
                },
                Some(Found::Value(value)) => Tree::Fixed(canonical(&value)),
                None => Tree::Fixed(Vec::new()),
            };
        }
        Tree::text(self.joined(pieces))
    }

    /// Remembers a complaint about this place.
    fn refuse(&mut self, why: String) -> Tree {
        self.wrong.push(why);
        Tree::Fixed(Vec::new())
    }

    fn segments(&mut self, text: &str) -> Vec<Segment> {
        match placeholder::parse(text) {
            Ok(pieces) => self.joined(pieces),
            Err(why) => {
                let at = self.at();
                self.refuse(format!("at {at}: {why}"));
                Vec::new()
            }
        }
    }

    /// Pieces within a text, with variables filled in.
    fn joined(&mut self, pieces: Vec<Piece>) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        for piece in pieces {
            let next = match piece {
                Piece::Text(text) => Segment::Text(text),
                Piece::Hole(name, default) => {
                    match self.find(&name, default.as_deref(), false, true) {
                        Some(Found::Hole(hole)) => Segment::Hole(hole),
                        Some(Found::Value(value)) => match as_text(&value) {
                            Some(text) => Segment::Text(text),
                            None => {
                                let at = self.at();
                                self.wrong.push(only_whole(&name.to_string(), &at, &value));
                                continue;
                            }
                        },
                        None => continue,
                    }
                }
            };
            match (segments.last_mut(), next) {
                (Some(Segment::Text(before)), Segment::Text(more)) => before.push_str(&more),
                (_, next) => segments.push(next),
            }
        }
        segments
    }

    /// A variable's value, or a hole for what clusters are asked. `None` after a complaint.
    fn find(
        &mut self,
        name: &Name,
        default: Option<&str>,
        is_whole: bool,
        is_text: bool,
    ) -> Option<Found> {
        let default = default.map(|text| default_value(text, is_whole, is_text));
        let Name::Variable(path) = name else {
            let known = self.names.iter().position(|known| known == name);
            let place = known.unwrap_or_else(|| {
                self.names.push(name.clone());
                self.names.len() - 1
            });
            return Some(Found::Hole(Hole {
                name: place,
                shown: name.to_string(),
                at: self.at(),
                is_text,
                default,
            }));
        };
        match placeholder::look_up(self.variables, path) {
            _ if self.put_in > MOST_BYTES => None,
            Answer::Value(value) => {
                let bytes = canonical(value);
                let at = self.at();
                self.put_in += bytes.len();
                if self.put_in > MOST_BYTES {
                    return self.complain(too_large(&at));
                }
                if placeholder::may_be_in(&bytes) {
                    return self.complain(format!(
                        "at {at}: {name} holds a placeholder itself, and what is put in is not looked through again"
                    ));
                }
                Some(Found::Value(value.clone()))
            }
            Answer::Text(_) | Answer::Nothing => match default {
                Some(value) => Some(Found::Value(value)),
                None => {
                    let paths = placeholder::paths(self.variables);
                    let hint = did_you_mean(path, paths.iter().map(String::as_str));
                    let at = self.at();
                    self.complain(undefined(
                        &name.to_string(),
                        &at,
                        &format!("no such variable is set{hint}"),
                    ))
                }
            },
        }
    }

    fn complain(&mut self, why: String) -> Option<Found> {
        self.wrong.push(why);
        None
    }

    fn below<T>(&mut self, step: String, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let found = read(self);
        self.path.pop();
        found
    }

    fn at(&self) -> String {
        self.path.concat().trim_start_matches('.').to_owned()
    }
}

/// A default means what it would mean in the manifest's place: alone it is read as YAML, within a text it is as it
/// stands, and so it is where only text may be, but for quotes around it.
fn default_value(text: &str, is_whole: bool, is_text: bool) -> Value {
    let read = || yaml::documents(text.as_bytes()).ok()?.pop();
    let value = match is_whole && !text.is_empty() {
        true => read().map(|node| node.to_json()),
        false => None,
    };
    match value {
        Some(Value::String(inside)) if text.starts_with(['"', '\'']) => inside.into(),
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_))) if !is_text => value,
        _ => text.into(),
    }
}
