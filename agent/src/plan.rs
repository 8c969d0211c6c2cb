//! What to do with each object: desired x inventory x live. Pure; no plan deletes what the desired state contains.
//!
//! In: for one object what is wanted, what the inventory says and what was seen, and the [`guards`] of the whole. Out:
//! one [`Step`] with its reason. The order between steps is [`crate::graph`]'s, doing them is the engine's.

use std::collections::BTreeMap;

use muster_proto::{
    Additions, Adoption, ApplicationName, Approval, Content, Desired, DriftKind, ObjectKey,
    Removals,
};

use crate::desired::resolved::Resolved;
use crate::desired::wanted::Wanted;
use crate::graph::Trouble;
use crate::inventory::Entry;
use crate::live::{self, LiveObject, Sight};
use crate::marks::{self, Applying};

mod detect;
mod guards;
mod pauses;

pub(crate) use detect::{Found, detect};
pub(crate) use guards::{Guards, Stay, guards};
pub(crate) use pauses::{Paused, under_pause};

/// What to do with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is as desired.
    InSync,
    /// Nobody has looked whether it is there.
    Look,
    /// Git says something that was not applied yet.
    Apply,
    /// It was as desired and is not any more: apply again.
    Repair(DriftKind),
    /// It differs, and its application wants that reported and not repaired.
    Leave(DriftKind),
    /// Its application only detects: ask what an apply would change.
    Compare,
    /// It differs, and its application only detects; the text says how.
    Differs(String),
    /// Somebody else has it: nothing is done. The text names them.
    Conflict(String),
    /// It is marked so that it is left alone; the text is the mark.
    Exempt(String),
    /// It can't be applied as it is stated; the text says why.
    Refused(String),
    /// It can't be done now; an event will tell.
    Wait(String),
    /// It left Git: remove it.
    Prune,
    /// It left Git and may not be removed yet.
    Blocked(String),
    /// It left Git, with more than its application may lose: it goes once a person approves.
    Unapproved(String),
    /// It left Git and stays because its application does not prune.
    Stays(String),
    /// It is ours no longer: take it out of the inventory and leave it alone.
    Abandon(String),
}

/// Decides about one object.
pub(crate) fn step(
    key: &ObjectKey,
    wanted: Option<&Wanted>,
    entry: Option<&Entry>,
    sight: &Sight,
    guards: &Guards,
) -> Step {
    let step = unpaused(key, wanted, entry, sight, guards);
    match guards.paused.any(owners(wanted, entry)) {
        Some(why) => under_pause(step, why),
        None => step,
    }
}

/// Whose an object is, and was.
pub(crate) fn owners<'a>(
    wanted: Option<&'a Wanted>,
    entry: Option<&'a Entry>,
) -> impl Iterator<Item = &'a ApplicationName> {
    let wanted = wanted.map(|wanted| &wanted.application);
    let entry = entry.map(|entry| &entry.application);
    wanted.into_iter().chain(entry)
}

fn unpaused(
    key: &ObjectKey,
    wanted: Option<&Wanted>,
    entry: Option<&Entry>,
    sight: &Sight,
    guards: &Guards,
) -> Step {
    match (wanted, entry) {
        (Some(wanted), entry) => match (want(wanted, entry, sight), &wanted.trouble) {
            (Step::Apply, Some(Trouble::Wrong(why))) => Step::Refused(why.clone()),
            (Step::Apply, Some(Trouble::Early(why))) => Step::Wait(why.clone()),
            (step, _) => step,
        },
        (None, Some(entry)) => unwant(key, entry, sight, guards),
        (None, None) => Step::InSync,
    }
}

fn want(wanted: &Wanted, entry: Option<&Entry>, sight: &Sight) -> Step {
    let live = sight.object().map(|object| &object.applying);
    match (&wanted.applying, live) {
        (Applying::Unclear(why), _) => return Step::Refused(why.clone()),
        (Applying::Disabled, _) | (_, Some(Applying::Disabled)) => {
            return Step::Exempt(format!("{}: disabled", marks::APPLY));
        }
        (Applying::CreateOnly, Some(_)) | (_, Some(Applying::CreateOnly)) => {
            return Step::Exempt(format!("{}: create-only", marks::APPLY));
        }
        _ => {}
    }
    // An entry without UID was written before an apply whose answer we never got.
    let applied = entry.filter(|entry| entry.uid.is_some());
    let changed = applied.is_none_or(|entry| entry.digest != Some(wanted.digest));
    let repair = |kind| match (changed, wanted.settings.self_heal) {
        (true, _) => Step::Apply,
        (false, true) => Step::Repair(kind),
        (false, false) => Step::Leave(kind),
    };
    let object = match sight {
        Sight::Unknown => return Step::Look,
        Sight::Absent => return repair(DriftKind::Missing),
        Sight::Present(object) => object,
    };
    let same = applied.is_some_and(|entry| entry.uid.as_ref() == Some(&object.uid));
    // The answer to our first apply was lost, and this came of it; since then it may have moved between applications.
    let unanswered = entry.is_some_and(|entry| {
        let label = object.application.as_deref();
        entry.uid.is_none() && object.ours.is_some() && label == Some(entry.application.as_str())
    });
    if !same && let Some(conflict) = conflict(wanted, object, unanswered) {
        return Step::Conflict(conflict);
    }
    if object.terminating {
        return Step::Wait("it is being deleted, and applied again when it is gone".into());
    }
    let held = same && applied.is_some_and(|entry| holds(wanted, entry, object));
    if same
        && !held
        && let Some(conflict) = of_another_tool(wanted, object, true)
    {
        return Step::Conflict(conflict);
    }
    match applied {
        Some(_) if changed => Step::Apply,
        Some(entry) if entry.application != wanted.application => Step::Apply,
        Some(_) if !held => repair(DriftKind::Changed),
        Some(_) if object.added => match wanted.settings.additions {
            Additions::Repair => repair(DriftKind::Added),
            Additions::Report => Step::Leave(DriftKind::Added),
            Additions::Ignore => Step::InSync,
        },
        Some(_) => Step::InSync,
        None => Step::Apply,
    }
}

/// Somebody else's object, or one that the adoption policy leaves alone. `handed_over`: the application it belongs to is
/// the one it moves from.
pub(crate) fn conflict(wanted: &Wanted, object: &LiveObject, handed_over: bool) -> Option<String> {
    if let Some(conflict) = of_another_tool(wanted, object, object.ours.is_some()) {
        return Some(conflict);
    }
    let application = wanted.application.as_str();
    if let Some(other) = object
        .application
        .as_deref()
        .filter(|other| *other != application && !handed_over)
    {
        return Some(format!(
            "it belongs to application {other}: take it out of one of the two"
        ));
    }
    let untouched = object.ours.is_none();
    match wanted.settings.adoption {
        Adoption::Never if untouched => {
            Some("it exists already and its application adopts nothing (adoption: never)".into())
        }
        _ => None,
    }
}

/// Another tool or a controller runs it. `applied`: by us, so that a mark which Git states is ours.
fn of_another_tool(wanted: &Wanted, object: &LiveObject, applied: bool) -> Option<String> {
    let foreign = object.foreign.as_ref()?;
    let stated = || serde_json::from_value(wanted.object.value()).ok();
    if applied && stated().and_then(|stated| live::foreign(&stated)).as_ref() == Some(foreign) {
        return None;
    }
    Some(format!("{foreign}: take it out of one of the two"))
}

/// Is our managedFields entry still the one our last apply left, but for what is left to others, and holds what it held?
fn holds(wanted: &Wanted, entry: &Entry, object: &LiveObject) -> bool {
    let Some(ours) = &object.ours else {
        return entry.fields.is_none();
    };
    let same = entry
        .fields
        .as_deref()
        .is_some_and(|stored| match &object.left {
            Some(left) => {
                live::fields_digest(&left.apart(stored, wanted.ignore.as_deref())) == left.ours
            }
            None => live::fields_digest(stored) == ours.fields,
        });
    let stands = match (entry.values, object.values) {
        (Some(left), Some(now)) => left == now,
        _ => true,
    };
    same && stands && ours.api_version == entry.api_version
}

fn unwant(key: &ObjectKey, entry: &Entry, sight: &Sight, guards: &Guards) -> Step {
    if guards.may_become.contains(key) {
        return Step::Wait("whether it is still wanted shows when its kind is known".into());
    }
    match guards.stay(&entry.application) {
        Some(Stay::Blocked(why)) => return Step::Blocked(why.clone()),
        Some(Stay::Unapproved(why)) => return Step::Unapproved(why.clone()),
        Some(Stay::Kept(why)) => return Step::Stays(why.clone()),
        None => {}
    }
    let Sight::Present(object) = sight else {
        // Gone, or its label was stripped: removing it looks first.
        return Step::Prune;
    };
    if object.terminating {
        return Step::Wait("it is being deleted".into());
    }
    judge_removal(entry, object).map_or(Step::Prune, Step::Abandon)
}

/// Why an object that left Git is not ours to remove; `None` when it is.
pub(crate) fn judge_removal(entry: &Entry, object: &LiveObject) -> Option<String> {
    if let Some(mark) = &object.keep {
        return Some(format!("it is marked {mark}"));
    }
    if let Some(foreign) = &object.foreign {
        return Some(foreign.clone());
    }
    if object.ours.is_none() && (entry.fields.is_some() || entry.uid.as_ref() != Some(&object.uid))
    {
        return Some("nothing in it was applied by this agent".into());
    }
    None
}

/// Everything at once: the step of each object. The same whatever order the inputs come in.
#[cfg(test)]
pub(crate) fn plan<'a>(
    objects: impl IntoIterator<
        Item = (
            &'a ObjectKey,
            Option<&'a Wanted>,
            Option<&'a Entry>,
            &'a Sight,
        ),
    >,
    guards: &Guards,
) -> BTreeMap<ObjectKey, Step> {
    objects
        .into_iter()
        .map(|(key, wanted, entry, sight)| (key.clone(), step(key, wanted, entry, sight, guards)))
        .collect()
}

#[cfg(test)]
mod tests;
