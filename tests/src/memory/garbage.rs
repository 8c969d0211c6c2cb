//! The garbage collector, and the two controllers that empty namespaces and definitions.
//!
//! In: the objects that a change may have consequences for, as the store names them. Out: deletions and patches as
//! the real controllers make them, until nothing is left to do. It runs after each write, so that a test need not
//! wait, or only when told ([`super::Server::hold_garbage`]), so that a test can look in between.

use serde_json::{Value, json};

use super::delete::{self, CLEANUP, FOREGROUND, ORPHAN, Policy, Preconditions};
use super::kinds::Kind;
use super::state::{State, has_finalizers, is_definition, is_dying};
use super::store::{Key, Place};
use super::write::{self, Change, Options, Target};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Does all there is to do.
pub fn collect(state: &mut State) {
    while let Some(place) = state.store.next_touched() {
        attempt(state, &place);
    }
}

fn attempt(state: &mut State, place: &Place) {
    let (Some(kind), Some(object)) = (kind_of(state, place), get(state, place)) else {
        return;
    };
    if is_dying(&object) {
        if kind.is("", "Namespace") {
            return empty_namespace(state, &kind, &object);
        }
        let finalizers = delete::names(&object["metadata"]);
        let held = |finalizer: &str| finalizers.iter().any(|f| f == finalizer);
        if is_definition(&kind) && held(CLEANUP) {
            return empty_definition(state, place, &object);
        }
        if held(ORPHAN) {
            return orphan(state, place, &object);
        }
        if held(FOREGROUND) {
            wait_for_dependents(state, place, &object);
        }
        return;
    }
    judge(state, place, &object);
}

/// An object whose owners are all gone goes too; an owner that is gone while others stay is forgotten.
fn judge(state: &mut State, place: &Place, object: &Value) {
    let owners = owners(object);
    let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), Vec::new());
    for owner in &owners {
        let uid = text(owner, "uid");
        match find(state, place, owner) {
            Found::Unknown => return,
            Found::Absent => dangling.push(uid),
            Found::Waits => waiting.push(uid),
            Found::There => solid += 1,
        }
    }
    if owners.is_empty() || (dangling.is_empty() && waiting.is_empty()) {
        return;
    }
    if solid > 0 {
        dangling.extend(waiting);
        forget_owners(state, place, object, &dangling);
        return;
    }
    let uid = text(&object["metadata"], "uid");
    let dependents = state.store.dependents(&uid);
    let finalizers = delete::names(&object["metadata"]);
    let held = |finalizer: &str| finalizers.iter().any(|f| f == finalizer);
    let policy = if !waiting.is_empty() && !dependents.is_empty() {
        let cycle = dependents
            .iter()
            .filter_map(|dependent| get(state, dependent))
            .any(|dependent| waits_for_dependents(&dependent));
        if cycle {
            let mut owners = owners;
            for owner in &mut owners {
                owner["blockOwnerDeletion"] = json!(false);
            }
            let patch = json!({"metadata": {"ownerReferences": owners}});
            merge(state, place, patch);
        }
        Policy::Foreground
    } else if held(ORPHAN) {
        Policy::Orphan
    } else if held(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    };
    remove(state, place, policy);
}

/// What there is of an owner.
enum Found {
    There,
    /// It is dying, and waits for those it owns.
    Waits,
    Absent,
    /// Its kind is not served, or it lives where this object can't have an owner.
    Unknown,
}

fn find(state: &State, place: &Place, owner: &Value) -> Found {
    let (version, name) = (text(owner, "apiVersion"), text(owner, "kind"));
    let kind = state
        .kinds
        .all()
        .find(|k| k.kind == name && k.api_version() == version);
    let Some(kind) = kind else {
        return Found::Unknown;
    };
    let namespace = if !kind.namespaced {
        String::new()
    } else if place.1.0.is_empty() {
        return Found::Unknown;
    } else {
        place.1.0.clone()
    };
    match state
        .store
        .get(&kind.store(), &(namespace, text(owner, "name")))
    {
        Some(found) if found["metadata"]["uid"] == owner["uid"] => {
            if waits_for_dependents(&found) {
                Found::Waits
            } else {
                Found::There
            }
        }
        _ => Found::Absent,
    }
}

fn waits_for_dependents(object: &Value) -> bool {
    let finalizers = delete::names(&object["metadata"]);
    is_dying(object) && finalizers.iter().any(|f| f == FOREGROUND)
}

/// Lets the dependents of a dying object go on without it.
fn orphan(state: &mut State, place: &Place, object: &Value) {
    let uid = text(&object["metadata"], "uid");
    for dependent in state.store.dependents(&uid) {
        if let Some(found) = get(state, &dependent) {
            forget_owners(state, &dependent, &found, std::slice::from_ref(&uid));
        }
    }
    release(state, place, ORPHAN);
}

/// Lets a dying object go once nothing that blocks it is left.
fn wait_for_dependents(state: &mut State, place: &Place, object: &Value) {
    let uid = text(&object["metadata"], "uid");
    let dependents = state.store.dependents(&uid);
    let blocks = |dependent: &Place| {
        get(state, dependent).is_some_and(|found| {
            owners(&found)
                .iter()
                .any(|o| o["uid"] == uid.as_str() && o["blockOwnerDeletion"] == true)
        })
    };
    if !dependents.iter().any(blocks) {
        release(state, place, FOREGROUND);
    }
}

/// Deletes what is in a dying namespace; without contents it has done its part.
fn empty_namespace(state: &mut State, kind: &Arc<Kind>, object: &Value) {
    let name = text(&object["metadata"], "name");
    for place in state.store.contents(&name) {
        if get(state, &place).is_some_and(|found| !is_dying(&found)) {
            remove(state, &place, Policy::Background);
        }
    }
    let left = state.store.contents(&name);
    let key = (String::new(), name.clone());
    let Some(live) = state.store.get(&kind.store(), &key) else {
        return;
    };
    let mut changed = Value::clone(&live);
    if left.is_empty() {
        changed["spec"] = json!({});
    }
    changed["status"]["conditions"] = conditions(state, &live, &left);
    if left.is_empty() && !has_finalizers(&changed) {
        state.remove(kind, &key);
    } else if changed != *live {
        state.store.put(&kind.store(), key, changed);
    }
}

/// What the namespace controller says of a namespace that does not go.
fn conditions(state: &State, namespace: &Value, left: &[Place]) -> Value {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for place in left {
        let (group, plural) = &place.0;
        *kinds.entry(format!("{plural}.{group}")).or_default() += 1;
        for finalizer in get(state, place)
            .iter()
            .flat_map(|o| delete::names(&o["metadata"]))
        {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let counted = |word: &str, counts: &BTreeMap<String, usize>| {
        let of =
            |(name, count): (&String, &usize)| format!("{name} {word} {count} resource instances");
        counts.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    let remain = if kinds.is_empty() {
        "All content successfully removed".to_owned()
    } else {
        format!("Some resources are remaining: {}", counted("has", &kinds))
    };
    let held = if finalizers.is_empty() {
        "All content-preserving finalizers finished".to_owned()
    } else {
        let counts = counted("in", &finalizers);
        format!("Some content in the namespace has finalizers remaining: {counts}")
    };
    let known = namespace["status"]["conditions"].as_array();
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let before = known
            .into_iter()
            .flatten()
            .find(|c| c["type"] == kind && c["status"] == status);
        let since = before.map_or_else(|| json!(state.now()), |c| c["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since})
    };
    let (content, finalizing) = (!kinds.is_empty(), !finalizers.is_empty());
    json!([
        condition(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered"
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed"
        ),
        condition(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization"
        ),
        condition(
            "NamespaceContentRemaining",
            content,
            if content {
                "SomeResourcesRemain"
            } else {
                "ContentRemoved"
            },
            &remain
        ),
        condition(
            "NamespaceFinalizersRemaining",
            finalizing,
            if finalizing {
                "SomeFinalizersRemain"
            } else {
                "ContentHasNoFinalizers"
            },
            &held
        ),
    ])
}

/// Deletes the objects of a dying definition; without any it may go.
fn empty_definition(state: &mut State, place: &Place, object: &Value) {
    let spec = |pointer: &str| {
        let value = object.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let resource = (spec("/spec/group"), spec("/spec/names/plural"));
    let keys = |state: &State| -> Vec<Key> {
        let all = state.store.list(&resource, "");
        all.map(|(key, _)| key.clone()).collect()
    };
    for key in keys(state) {
        let place = (resource.clone(), key);
        if get(state, &place).is_some_and(|found| !is_dying(&found)) {
            remove(state, &place, Policy::Background);
        }
    }
    if keys(state).is_empty() {
        release(state, place, CLEANUP);
    }
}

/// Takes one finalizer away.
fn release(state: &mut State, place: &Place, finalizer: &str) {
    if let Some(object) = get(state, place) {
        let mut finalizers = delete::names(&object["metadata"]);
        finalizers.retain(|f| f != finalizer);
        merge(
            state,
            place,
            json!({"metadata": {"finalizers": finalizers}}),
        );
    }
}

/// Takes owners out of an object.
fn forget_owners(state: &mut State, place: &Place, object: &Value, uids: &[String]) {
    let mut owners = owners(object);
    owners.retain(|owner| !uids.contains(&text(owner, "uid")));
    let patch = match owners.is_empty() {
        true => Value::Null,
        false => json!(owners),
    };
    merge(
        state,
        place,
        json!({"metadata": {"ownerReferences": patch}}),
    );
}

fn owners(object: &Value) -> Vec<Value> {
    let list = object["metadata"]["ownerReferences"].as_array();
    list.cloned().unwrap_or_default()
}

fn kind_of(state: &State, place: &Place) -> Option<Arc<Kind>> {
    let (group, plural) = &place.0;
    state.kinds.versions(group, plural).next().cloned()
}

fn get(state: &State, place: &Place) -> Option<Arc<Value>> {
    state.store.get(&place.0, &place.1)
}

fn target(state: &State, place: &Place) -> Option<Target> {
    Some(Target {
        kind: kind_of(state, place)?,
        namespace: place.1.0.clone(),
        name: place.1.1.clone(),
        subresource: String::new(),
    })
}

fn merge(state: &mut State, place: &Place, patch: Value) {
    let options = Options {
        manager: "kube-controller-manager".to_owned(),
        ..Options::default()
    };
    if let Some(target) = target(state, place) {
        // Refused only if it is gone by now, and then there is nothing left to do.
        let _ = write::write(state, &target, Change::Merge(patch), &options);
    }
}

fn remove(state: &mut State, place: &Place, policy: Policy) {
    let conditions = Preconditions {
        policy: Some(policy),
        ..Preconditions::default()
    };
    if let Some(target) = target(state, place) {
        // As above.
        let _ = delete::delete(state, &target, &conditions);
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
