//! Ownership of fields through writes: server-side apply, and every other write.
//!
//! In: the live object, the configuration or new object, and who owned what. Out: the merged object and who
//! owns what now, or the conflicts. Pure: the caller brings the time, the schema, and stores the outcome.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::{Difference, compare};
use super::fieldset::{Set, Step, print_path};
use super::managed::{Manager, Managers, Operation, Owned, cap_updaters};
use super::merge::merge;
use super::remove::{remove, with_named_fields};
use super::schema::{Schema, TypeId};
use super::typed::{faults, print_faults, same, stated};

/// The type of one kind in one version.
#[derive(Debug, Clone, Copy)]
pub struct Typed<'a> {
    /// Where it is declared.
    pub schema: &'a Schema,
    /// Which of its types.
    pub id: TypeId,
}

/// What a write is about, besides the objects.
pub struct Write<'a> {
    /// The version of the request.
    pub version: &'a str,
    /// The subresource written through, or empty.
    pub subresource: &'a str,
    /// The field manager.
    pub manager: &'a str,
    /// Now, RFC 3339 in seconds.
    pub now: &'a str,
    /// Fields that this request can't write: the server resets them.
    pub reset: &'a Set,
    /// The kind's type in each served version; versions no longer served lose their owners.
    pub types: &'a dyn Fn(&str) -> Option<Typed<'a>>,
    /// The object with nothing in it, as the server sees it before a create.
    pub empty: &'a Value,
}

/// Why an apply did not happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// Others own fields that the configuration would change.
    Conflicts(Vec<(Manager, Vec<Step>)>),
    /// The configuration does not fit the type.
    Unfit(String),
}

/// Fields that are never owned: identity and what the server writes.
fn never_owned() -> Set {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut out = Set::from_iter([&["apiVersion"][..], &["kind"][..], &["metadata"][..]]);
    for field in metadata {
        out.insert(&[Step::Field("metadata".into()), Step::Field(field.into())]);
    }
    out
}

/// Who owns what after a create, update or patch made `new` out of `live`.
pub fn update(write: &Write<'_>, live: &Value, new: &Value, managers: Managers) -> Managers {
    let me = Manager::new(
        write.manager,
        Operation::Update,
        write.version,
        write.subresource,
    );
    let Some(typed) = (write.types)(write.version) else {
        return managers;
    };
    let (mut managers, difference) = settle(write, typed, live, new, managers, None)
        .unwrap_or_else(|_| unreachable!("an update is never in conflict"));
    let fields = difference
        .modified
        .union(&difference.added)
        .recursive_difference(write.reset)
        .difference(&never_owned());
    if !fields.is_empty() {
        let before = managers
            .get(&me)
            .map(|o| o.fields.clone())
            .unwrap_or_default();
        let owned = Owned {
            api_version: write.version.to_owned(),
            fields: before.union(&fields),
            time: Some(write.now.to_owned()),
        };
        managers.insert(me, owned);
    }
    cap_updaters(&mut managers);
    managers
}

/// Applies a configuration. The object is `None` when nothing of it changed.
pub fn apply(
    write: &Write<'_>,
    live: &Value,
    config: &Value,
    mut managers: Managers,
    force: bool,
) -> Result<(Option<Value>, Managers), Refused> {
    let typed = (write.types)(write.version)
        .ok_or_else(|| Refused::Unfit(format!("no type for version {}", write.version)))?;
    let Typed { schema, id } = typed;
    let wrong = faults(schema, id, config, false);
    if !wrong.is_empty() {
        return Err(Refused::Unfit(print_faults(&wrong)));
    }
    if managers.is_empty() {
        // Somebody wrote this before anybody applied it.
        let before = Write {
            manager: "before-first-apply",
            ..*write
        };
        managers = update(&before, write.empty, live, managers);
    }
    let merged =
        merge(schema, id, live, config).map_err(|fault| Refused::Unfit(print_faults(&[fault])))?;
    let me = Manager::new(
        write.manager,
        Operation::Apply,
        write.version,
        write.subresource,
    );
    let last = managers.get(&me).cloned();
    let owned = Owned {
        api_version: write.version.to_owned(),
        fields: stated(schema, id, config).recursive_difference(write.reset),
        time: last.as_ref().and_then(|o| o.time.clone()),
    };
    managers.insert(me.clone(), owned);
    let new = match &last {
        Some(last) if !last.fields.is_empty() => prune(write, merged, &managers, last),
        _ => merged,
    };
    let (mut managers, _) = settle(write, typed, live, &new, managers, Some((&me, force)))
        .map_err(Refused::Conflicts)?;
    let changed = !same(live, &new);
    if let Some(mine) = managers.get_mut(&me) {
        mine.fields = mine.fields.difference(&never_owned());
        if changed {
            mine.time = Some(write.now.to_owned());
        }
        if mine.fields.is_empty() {
            managers.remove(&me);
        }
    }
    Ok((changed.then_some(new), managers))
}

type Conflicts = Vec<(Manager, Vec<Step>)>;

/// Takes from everybody what the change took from them. An applier that does not force is told instead.
fn settle<'a>(
    write: &Write<'a>,
    typed: Typed<'a>,
    live: &Value,
    new: &Value,
    managers: Managers,
    applier: Option<(&Manager, bool)>,
) -> Result<(Managers, Difference), Conflicts> {
    let of = |t: Typed<'_>| compare(t.schema, t.id, live, new);
    let main = of(typed).without(write.reset);
    let mut others: BTreeMap<String, Difference> = BTreeMap::new();
    let mut out = Managers::new();
    let mut conflicts = Vec::new();
    for (manager, mut owned) in managers {
        if applier.is_some_and(|(me, _)| *me == manager) {
            out.insert(manager, owned);
            continue;
        }
        let difference = if owned.api_version == write.version {
            &main
        } else {
            let Some(typed) = (write.types)(&owned.api_version) else {
                continue;
            };
            others
                .entry(owned.api_version.clone())
                .or_insert_with(|| of(typed))
        };
        let changed = difference.modified.union(&difference.added);
        let lost = owned.fields.intersection(&changed);
        if applier.is_some_and(|(_, force)| !force) {
            conflicts.extend(lost.paths().into_iter().map(|path| (manager.clone(), path)));
        }
        owned.fields = owned
            .fields
            .difference(&lost)
            .difference(&difference.removed);
        if !owned.fields.is_empty() {
            out.insert(manager, owned);
        }
    }
    out.retain(|_, owned| !owned.fields.is_empty());
    if conflicts.is_empty() {
        Ok((out, main))
    } else {
        Err(conflicts)
    }
}

/// Removes what the applier stated last time, does not state now, and nobody else owns.
fn prune(write: &Write<'_>, merged: Value, managers: &Managers, last: &Owned) -> Value {
    let Some(typed) = (write.types)(&last.api_version) else {
        return merged;
    };
    let Typed { schema, id } = typed;
    let named = |t: Typed<'_>, set: &Set| with_named_fields(t.schema, Some(t.id), set);
    let stated_in = |t: Typed<'_>, value: &Value| named(t, &stated(t.schema, t.id, value));

    let mut pruned = remove(schema, id, &merged, &named(typed, &last.fields));
    // Put back what somebody owns, this applier's new configuration included; the version of the
    // last apply goes first.
    let mut owned_in: BTreeMap<(bool, &str), Set> = BTreeMap::new();
    for owned in managers.values() {
        let place = (
            owned.api_version != last.api_version,
            owned.api_version.as_str(),
        );
        let all = owned_in.entry(place).or_default();
        *all = all.union(&owned.fields);
    }
    for ((_, version), owned) in owned_in {
        let Some(typed) = (write.types)(version) else {
            continue;
        };
        let keep = stated_in(typed, &pruned).union(&named(typed, &owned));
        let gone = stated_in(typed, &merged).difference(&keep);
        pruned = remove(typed.schema, typed.id, &merged, &gone);
    }
    // And what went along without having been the applier's.
    let gone = stated_in(typed, &merged)
        .difference(&stated_in(typed, &pruned))
        .intersection(&named(typed, &last.fields));
    remove(schema, id, &merged, &gone)
}

/// The message and the causes of a conflict, as the real server words them.
#[must_use]
pub fn print_conflicts(conflicts: &Conflicts) -> (String, Vec<(String, String)>) {
    let causes = conflicts
        .iter()
        .map(|(m, path)| (format!("conflict with {}", m.printed()), print_path(path)))
        .collect();
    if let [(manager, path)] = conflicts.as_slice() {
        let (manager, path) = (manager.printed(), print_path(path));
        return (
            format!("Apply failed with 1 conflict: conflict with {manager}: {path}"),
            causes,
        );
    }
    let mut by_manager: BTreeMap<&Manager, Vec<String>> = BTreeMap::new();
    for (manager, path) in conflicts {
        by_manager
            .entry(manager)
            .or_default()
            .push(print_path(path));
    }
    let mut lines = Vec::new();
    for (manager, paths) in by_manager {
        lines.push(format!("conflicts with {}:", manager.printed()));
        lines.extend(paths.into_iter().map(|p| format!("- {p}")));
    }
    let count = conflicts.len();
    (
        format!("Apply failed with {count} conflicts: {}", lines.join("\n")),
        causes,
    )
}

#[cfg(test)]
mod tests;
