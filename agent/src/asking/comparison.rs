//! What is told of one object: as it is against as an apply would leave it. Pure.
//!
//! In: what the engine knows, what was seen and tried. Out: one message, with every value of a Secret masked.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use muster_proto::wire::v1;
use muster_proto::{Additions, MASK, ObjectKey, masked};
use serde_json::{Map, Value, json};

use super::difference::{Fields, differences, is_in, lists, managed, set};
use crate::apply::{Failure, Outcome, Preview};
use crate::desired::wanted::Wanted;
use crate::drift::{self, MANAGER, Path};
use crate::engine::Known;
use crate::fields;
use crate::takeover::{self, Whose};

/// What was seen of an object that left Git.
#[derive(Default)]
pub(super) struct Extra {
    /// As it is there.
    pub(super) live: Option<Value>,
    /// What would go with it.
    pub(super) blocked: Option<String>,
}

/// An object that Git states.
pub(super) fn of_wanted(
    known: &Known,
    wanted: &Wanted,
    preview: &Preview,
    whole: bool,
) -> v1::ObjectComparison {
    let key = &*known.key;
    let mut told = begin(known);
    if whole || preview.live.is_none() {
        told.desired = masked(key, &preview.stated).to_string();
    }
    let Some(live) = &preview.live else {
        told.change = "create".into();
        if let Outcome::Refused(why) = &preview.outcome {
            told.change = "refused".into();
            told.error.clone_from(&why.message);
        }
        return told;
    };
    if whole {
        told.live = masked(key, live).to_string();
    }
    let writers = Writers {
        key,
        managed: managed(live),
        stored: stored(known),
    };
    let (then, compared) = match &preview.outcome {
        Outcome::Applied(dry) => (without_additions(dry, wanted, live), Fields::All),
        Outcome::Replaced | Outcome::Refused(_) => (preview.sent.clone(), Fields::OfTheSecond),
    };
    let lists = lists(&[live, &then]);
    let changed = differences(live, &then, &lists, compared);
    told.change = match &preview.outcome {
        Outcome::Applied(_) if changed.is_empty() => "none",
        Outcome::Applied(_) => "update",
        Outcome::Replaced => "replace",
        Outcome::Refused(_) => "refused",
    }
    .into();
    if let Outcome::Refused(why) = &preview.outcome {
        told.error.clone_from(&why.message);
    }
    let field = |path: &Path, then: &Value, how| writers.field(path, live, then, how);
    for path in &changed {
        let how = match drift::value(&then, path) {
            None if !writers.was_ours(path) => "added",
            _ => "changed",
        };
        told.fields.push(field(path, &then, how));
    }
    let additions = reported(known, wanted, &writers.managed);
    if !additions.is_empty() && told.change == "none" {
        told.change = "update".into();
    }
    for path in additions.iter().filter(|path| !changed.contains(path)) {
        told.fields.push(field(path, &Value::Null, "added"));
    }
    for path in differences(&preview.sent, &preview.stated, &lists, Fields::All) {
        let git = drift::value(&preview.stated, &path);
        if git.is_some() && git != drift::value(live, &path) {
            told.fields.push(field(&path, &preview.stated, "ignored"));
        }
    }
    if whole && let Outcome::Applied(dry) = &preview.outcome {
        let dry = managed(dry);
        let stated = drift::our_entry(&dry).map(|entry| drift::leaves(&set(entry)));
        for path in stated.iter().flatten() {
            let shown = drift::shown(path);
            let told_already = told.fields.iter().any(|field| field.path == shown);
            if !told_already && drift::value(live, path).is_some() && is_value(path) {
                told.fields.push(field(path, live, "same"));
            }
        }
    }
    told.fields.sort_by(|one, other| one.path.cmp(&other.path));
    told
}

/// An object that left Git.
pub(super) fn of_extra(known: &Known, extra: &Extra, whole: bool) -> v1::ObjectComparison {
    let mut told = begin(known);
    if let Some(live) = extra.live.as_ref().filter(|_| whole) {
        told.live = masked(&known.key, live).to_string();
    }
    told.change = match extra.live.is_some() && !known.abandoned {
        true => "delete",
        false => "none",
    }
    .into();
    if let Some(why) = &extra.blocked {
        told.held.clone_from(why);
    }
    told
}

/// An object whose kind the cluster does not serve, or that has no namespace.
pub(super) fn of_unplaced(known: &Known) -> v1::ObjectComparison {
    v1::ObjectComparison {
        change: "refused".into(),
        error: known.held.clone(),
        held: String::new(),
        ..begin(known)
    }
}

/// An object that could not be looked at.
pub(super) fn unknown(known: &Known, failure: &Failure) -> v1::ObjectComparison {
    v1::ObjectComparison {
        change: "unknown".into(),
        error: failure.message.clone(),
        passing: failure.passing,
        ..begin(known)
    }
}

/// Is it as Git says, with nothing to remark?
pub(super) fn says_nothing(told: &v1::ObjectComparison) -> bool {
    told.change == "none" && told.fields.is_empty()
}

fn begin(known: &Known) -> v1::ObjectComparison {
    v1::ObjectComparison {
        status: Some((&known.status).into()),
        held: known.held.clone(),
        ..v1::ObjectComparison::default()
    }
}

/// The fields that were ours after our last apply.
fn stored(known: &Known) -> Value {
    let fields = known.entry.as_ref().and_then(|entry| entry.fields.as_ref());
    fields
        .and_then(|fields| serde_json::from_str(fields).ok())
        .unwrap_or_else(|| json!({}))
}

/// What people added, where that is reported and not repaired.
fn reported(known: &Known, wanted: &Wanted, managed: &[ManagedFieldsEntry]) -> Vec<Path> {
    match known.sight.object() {
        Some(object) if wanted.settings.additions == Additions::Report => {
            object.additions(wanted, managed).paths
        }
        _ => Vec::new(),
    }
}

/// Maps and list items as such are no values of their own.
fn is_value(path: &Path) -> bool {
    path.last().is_some_and(|step| step.starts_with("f:"))
}

/// What a dry run would leave once an apply has taken over what people added, and dropped it. That takes two writes, of
/// which a dry run can try the first only.
fn without_additions(dry: &Value, wanted: &Wanted, live: &Value) -> Value {
    let entries = managed(dry);
    let ours = |entries: &[ManagedFieldsEntry]| drift::our_entry(entries).map(set);
    let before = managed(live);
    let whose = Whose::of(wanted, ours(&before).is_some());
    let version = &wanted.kind.resource.api_version;
    let Some(taken) = takeover::taken_over(&entries, version, whose) else {
        return dry.clone();
    };
    let all = ours(&taken).unwrap_or_else(|| json!({}));
    let rest = taken.iter().filter(|entry| {
        entry.manager.as_deref() != Some(MANAGER) || entry.operation.as_deref() != Some("Apply")
    });
    let stated = ours(&entries).unwrap_or_else(|| json!({}));
    let keep = rest.fold(stated, |keep, entry| fields::union(&keep, &set(entry)));
    let mut then = dry.clone();
    take_out(&mut then, &fields::minus(&all, &keep), &keep);
    then
}

/// Takes out of a value what a set owns, and leaves what another one keeps.
fn take_out(value: &mut Value, set: &Value, keep: &Value) {
    let nothing = Value::Null;
    for (step, below) in set.as_object().into_iter().flatten() {
        let kept = keep.get(step);
        let own = below.as_object().is_none_or(Map::is_empty) || below.get(".").is_some();
        let goes = own && kept.is_none();
        let path = vec![step.clone()];
        match (step.split_once(':'), &mut *value) {
            (Some(("f", name)), Value::Object(fields)) => {
                if goes {
                    fields.remove(name);
                } else if let Some(value) = fields.get_mut(name) {
                    take_out(value, below, kept.unwrap_or(&nothing));
                }
            }
            (Some(("k" | "v", _)), list) => {
                let item = drift::value(list, &path).cloned();
                let Value::Array(items) = list else { continue };
                let at = items.iter().position(|it| Some(it) == item.as_ref());
                if let Some(at) = at {
                    if goes {
                        items.remove(at);
                    } else {
                        take_out(&mut items[at], below, kept.unwrap_or(&nothing));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Who wrote what of a live object.
struct Writers<'a> {
    key: &'a ObjectKey,
    managed: Vec<ManagedFieldsEntry>,
    stored: Value,
}

impl Writers<'_> {
    fn field(&self, path: &Path, live: &Value, then: &Value, how: &str) -> v1::FieldComparison {
        let secret = drift::is_secret(self.key, path);
        let text = |object| {
            drift::value(object, path).map(|value| match secret {
                true => MASK.to_owned(),
                false => value.to_string(),
            })
        };
        let live = text(live);
        let (manager, at_ms) = self.of(path, live.is_none()).unwrap_or_default();
        v1::FieldComparison {
            path: drift::shown(path),
            desired: text(then),
            live,
            manager,
            at_ms,
            how: how.to_owned(),
            cut: false,
        }
    }

    /// Did we ever apply it?
    fn was_ours(&self, path: &Path) -> bool {
        let ours = drift::our_entry(&self.managed);
        is_in(path, &self.stored) || ours.is_some_and(|entry| is_in(path, &set(entry)))
    }

    /// Who holds a field, others before us. What was taken out is held by nobody: then the newest other writer is the
    /// best guess.
    fn of(&self, path: &Path, gone: bool) -> Option<(String, i64)> {
        let is_ours = |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(MANAGER);
        let holders = self.managed.iter().filter(|entry| is_in(path, &set(entry)));
        let (ours, others): (Vec<_>, Vec<_>) = holders.partition(|entry| is_ours(entry));
        let foreign = self.managed.iter().filter(|entry| !is_ours(entry));
        let newest = |entries: Vec<&ManagedFieldsEntry>| {
            let time = |entry: &&ManagedFieldsEntry| entry.time.as_ref().map(|time| time.0);
            let newest = entries.into_iter().max_by_key(time)?;
            let at = time(&newest).map_or(0, |at| at.as_millisecond());
            Some((newest.manager.clone().unwrap_or_default(), at))
        };
        newest(others).or_else(|| newest(ours)).or_else(|| {
            let guess = gone && is_in(path, &self.stored);
            newest(foreign.filter(|_| guess).collect())
        })
    }
}

#[cfg(test)]
mod tests;
