//! `spec.targets[].patches`: changes laid over rendered objects, as `kustomize` users know them.
//!
//! In: the patches of a target as stated, and what its folder renders to. Out: the changed objects, those that no
//! patch is for shared with the rendering, or everything that does not fit, with file and line.
//!
//! A document that is a mapping is a strategic merge patch ([`merge`]), one that is a list is a JSON 6902 patch
//! ([`operations`]). `target` selects objects ([`target`]); a strategic merge patch without one is for the object
//! that it names. An object keeps its identity whatever a strategic merge patch states. What is for no object, and
//! what does not fit, is an error: `kustomize` lets a target that selects nothing pass without a word.

use std::sync::Arc;

use muster_proto::DigestKey;
use serde_json::Value;

use crate::builtin::Shape;
use crate::identity;
use crate::model::spec::PatchTarget;
use crate::problem::Location;
use crate::render::{Manifest, Wrong};
use crate::snapshot::{FileContent, Snapshot};
use crate::yaml::{self, Fault, Node, Value as Written};

mod merge;
mod operations;
mod target;
#[cfg(test)]
mod tests;

use operations::Operation;
use target::{Candidate, Target};

/// How many values the operations of one patch may copy within an object.
const MOST_COPIED: usize = 100_000;

/// One entry of `patches` as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// Which objects; those that the patch names when it says nothing.
    pub target: Option<PatchTarget>,
    /// What it says.
    pub text: Text,
    /// Where the entry is.
    pub location: Location,
}

/// Where the text of a patch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// In the document itself; with the place of its first line.
    Inline(String, Location),
    /// In a file, by its path from the root of the repository.
    File(String),
}

/// A patch that can be applied.
#[derive(Debug)]
pub struct Patch {
    location: Location,
    target: Option<Target>,
    change: Change,
}

#[derive(Debug)]
enum Change {
    /// One document each.
    Merge(Vec<Merge>),
    Operations(Vec<(Location, Operation)>),
}

#[derive(Debug)]
struct Merge {
    location: Location,
    value: Value,
}

/// Reads a patch.
///
/// # Errors
/// When its file is not there, it is no YAML, neither of the two kinds of patch, or it can't be told what it is for.
pub fn read(stated: &Stated, snapshot: &Snapshot) -> Result<Patch, Wrong> {
    let wrong = |location: &Location, message: String| Wrong {
        location: location.clone(),
        message,
    };
    let (text, first) = match &stated.text {
        Text::Inline(text, first) => (text.as_bytes(), first.clone()),
        Text::File(path) => match snapshot.files.get(path).map(|file| &file.content) {
            Some(FileContent::Bytes(bytes)) => (&bytes[..], Location::new(path.as_str(), 1)),
            Some(FileContent::Unread) => {
                let message = format!("{path}: a patch is a file called *.yaml, *.yml or *.json");
                return Err(wrong(&stated.location, message));
            }
            Some(other) => {
                let message = format!("{path} is {}: put the patch itself there", other.what());
                return Err(wrong(&stated.location, message));
            }
            None => {
                let message = format!("the repository has no file {path}");
                return Err(wrong(&stated.location, message));
            }
        },
    };
    let at = |line: u32| {
        let offset = line.saturating_sub(1);
        Location::new(Arc::clone(&first.file), first.line + offset)
    };
    let fault = |Fault { line, message }| wrong(&at(line), message);
    let target = match &stated.target {
        None => None,
        Some(target) => Some(
            Target::read(target)
                .map_err(|message| wrong(&stated.location, format!("target: {message}")))?,
        ),
    };
    let documents = yaml::documents(text).map_err(fault)?;
    let change = match &documents[..] {
        [] => return Err(wrong(&at(1), "the patch is empty".into())),
        [
            Node {
                value: Written::List(items),
                ..
            },
        ] => {
            let operations = operations::read(items).map_err(fault)?;
            if target.is_none() {
                let message = "a JSON 6902 patch needs a target: it names no object".into();
                return Err(wrong(&stated.location, message));
            }
            let operations = operations.into_iter();
            Change::Operations(operations.map(|one| (at(one.line), one)).collect())
        }
        documents => {
            let merges = documents.iter().map(|node| match &node.value {
                Written::Map(_) => Ok(Merge {
                    location: at(node.line),
                    value: node.to_json(),
                }),
                Written::List(_) => Err(wrong(
                    &at(node.line),
                    "a JSON 6902 patch is the only document of its entry".into(),
                )),
                other => Err(wrong(
                    &at(node.line),
                    format!(
                        "a patch is a mapping (strategic merge) or a list (JSON 6902), found {}",
                        other.what()
                    ),
                )),
            });
            let merges: Vec<Merge> = merges.collect::<Result<_, _>>()?;
            if target.is_some() && merges.len() > 1 {
                let message = "a patch with a target is one document".into();
                return Err(wrong(&merges[1].location, message));
            }
            Change::Merge(merges)
        }
    };
    Ok(Patch {
        location: stated.location.clone(),
        target,
        change,
    })
}

/// Lays the patches over a rendering, one after the other. `namespace` is the application's: it fills objects, and
/// patches, that state none.
///
/// # Errors
/// Everything that is for no object, does not fit, or leaves something that is no object or is there twice.
pub fn apply(
    patches: &[Patch],
    manifests: &[Manifest],
    namespace: &str,
    key: &DigestKey,
) -> Result<Vec<Manifest>, Vec<Wrong>> {
    let mut candidates: Vec<Candidate> = manifests
        .iter()
        .map(|manifest| Candidate::new(manifest, namespace))
        .collect();
    let mut wrong = Vec::new();
    for patch in patches {
        patch.apply(&mut candidates, namespace, &mut wrong);
    }
    let mut patched: Vec<Manifest> = Vec::new();
    for candidate in candidates {
        match candidate.finish(key) {
            Ok(Some(manifest)) => patched.push(manifest),
            Ok(None) => {}
            Err(found) => wrong.push(found),
        }
    }
    let places = patched
        .iter()
        .map(|manifest| (&*manifest.object, &manifest.location));
    wrong.extend(identity::twice(places, namespace));
    match wrong.is_empty() {
        true => Ok(patched),
        false => Err(wrong),
    }
}

impl Patch {
    fn apply(&self, candidates: &mut [Candidate], namespace: &str, wrong: &mut Vec<Wrong>) {
        match (&self.change, &self.target) {
            (Change::Merge(merges), None) => {
                for merge in merges {
                    match target::named(candidates, &merge.value, namespace) {
                        Ok(candidate) => merge.apply(candidate, wrong),
                        Err(message) => wrong.push(merge.wrong(message)),
                    }
                }
            }
            (change, target) => {
                let mut found = false;
                for candidate in candidates.iter_mut() {
                    let selects = |target: &Target| target.selects(candidate);
                    if !target.as_ref().is_none_or(selects) {
                        continue;
                    }
                    found = true;
                    match change {
                        Change::Merge(merges) => {
                            for merge in merges {
                                merge.apply(candidate, wrong);
                            }
                        }
                        Change::Operations(operations) => operate(operations, candidate, wrong),
                    }
                }
                if let Some(target) = target.as_ref().filter(|_| !found) {
                    wrong.push(Wrong {
                        location: self.location.clone(),
                        message: target.nothing(candidates),
                    });
                }
            }
        }
    }
}

impl Merge {
    fn apply(&self, candidate: &mut Candidate, wrong: &mut Vec<Wrong>) {
        let object = candidate.object();
        let shape = Shape::of(&object.api_version, &object.key.kind);
        let name = object.key.to_string();
        let before = candidate.value().clone();
        match merge::merged(Some(before.clone()), &self.value, shape, "") {
            Ok(merged) => {
                let itself = merged.map(|merged| with_identity(merged, &before));
                candidate.change(itself, &self.location);
            }
            Err(unfit) => wrong.push(self.wrong(format!("does not fit {name}: {unfit}"))),
        }
    }

    fn wrong(&self, message: String) -> Wrong {
        Wrong {
            location: self.location.clone(),
            message,
        }
    }
}

fn operate(
    operations: &[(Location, Operation)],
    candidate: &mut Candidate,
    wrong: &mut Vec<Wrong>,
) {
    let mut value = candidate.value().clone();
    let mut copies = MOST_COPIED;
    for (location, operation) in operations {
        if let Err(why) = operation.apply(&mut value, &mut copies) {
            wrong.push(Wrong {
                location: location.clone(),
                message: format!("does not fit {}: {why}", candidate.object().key),
            });
            return;
        }
    }
    if let Some((location, _)) = operations.last() {
        candidate.change(Some(value), location);
    }
}

/// A merged object with the identity that it had.
fn with_identity(mut merged: Value, before: &Value) -> Value {
    for field in ["apiVersion", "kind"] {
        merged[field] = before[field].clone();
    }
    if !merged["metadata"].is_object() {
        merged["metadata"] = Value::Object(serde_json::Map::new());
    }
    for field in ["name", "namespace"] {
        match before["metadata"].get(field) {
            Some(own) => merged["metadata"][field] = own.clone(),
            None => {
                let metadata = merged["metadata"].as_object_mut();
                metadata.and_then(|metadata| metadata.remove(field));
            }
        }
    }
    merged
}

/// The text of a scalar; `None` of anything else.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// What a value is, for messages.
pub(crate) fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
