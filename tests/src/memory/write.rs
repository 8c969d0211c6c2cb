//! Writes: from a request's body to a stored object, or a refusal.
//!
//! In: a [`Target`], a [`Change`], the state. Out: the object as it is now. One path for all verbs: find the
//! live object, make the new one, shape it as the server does, settle who owns what, keep what a client can't
//! change, store it if anything differs. A write that changes nothing has no revision and no time.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::apply::{self, Refused, Write};
use super::defaults;
use super::fieldset::Set;
use super::kinds::Kind;
use super::managed::{self, Managers};
use super::patch;
use super::state::{State, has_finalizers, is_dying};
use super::status::Refusal;
use super::store::Key;
use super::strategic;

mod keep;
mod read;
mod valid;

use keep::{
    has_generation, keep_what_clients_cannot_write, moves_generation, same_but_for_times,
    unchanged_identity,
};
use read::{configuration, identified, read};
use valid::{unconditional, valid, valid_name};

/// What is written to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The kind, in the version of the request.
    pub kind: Arc<Kind>,
    /// The namespace of the path; empty for cluster-wide kinds.
    pub namespace: String,
    /// The name of the path; empty on create.
    pub name: String,
    /// `status`, `scale`, or empty.
    pub subresource: String,
}

/// How a write behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The field manager.
    pub manager: String,
    /// Whether apply takes fields from others.
    pub force: bool,
    /// Whether nothing is kept.
    pub dry_run: bool,
    /// Whether unknown fields are refused instead of dropped.
    pub strict: bool,
}

/// What a write does.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new object.
    Create(Value),
    /// The whole object.
    Replace(Value),
    /// A JSON merge patch.
    Merge(Value),
    /// A JSON patch.
    Json(Value),
    /// A strategic merge patch.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// What a write brought about.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object.
    pub object: Arc<Value>,
    /// Whether it is new.
    pub created: bool,
}

impl Target {
    fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }
}

/// Runs a write.
pub fn write(
    state: &mut State,
    target: &Target,
    change: Change,
    options: &Options,
) -> Result<Written, Refusal> {
    match change {
        Change::Create(body) => create(state, target, body, options),
        change => match state.store.get(&target.kind.store(), &target.key()) {
            Some(live) => modify(state, target, &live, change, options),
            None => match change {
                Change::Apply(config) if target.subresource.is_empty() => {
                    apply_new(state, target, config, options)
                }
                _ => Err(Refusal::not_found(&target.kind, &target.name)),
            },
        },
    }
}

fn create(
    state: &mut State,
    target: &Target,
    body: Value,
    options: &Options,
) -> Result<Written, Refusal> {
    let kind = &target.kind;
    let mut target = target.clone();
    let mut body = identified(&target, body)?;
    let meta = &mut body["metadata"];
    if meta["name"].as_str().unwrap_or_default().is_empty()
        && let Some(prefix) = meta["generateName"].as_str().filter(|p| !p.is_empty())
    {
        let name = format!("{prefix}{}", state.suffix());
        meta["name"] = json!(name);
    }
    target.name = meta["name"].as_str().unwrap_or_default().to_owned();
    let new = read(&target, body, options.strict)?;
    let empty = kind.empty();
    let managers = decode_or_empty(&new);
    let reset = reset(kind, "");
    let now = state.now();
    let managers = with_write(state, &target, options, &reset, &now, &empty, |w| {
        apply::update(w, &empty, &without_managers(&new), managers)
    });
    store_new(state, &target, new, managers, options)
}

fn apply_new(
    state: &mut State,
    target: &Target,
    config: Value,
    options: &Options,
) -> Result<Written, Refusal> {
    let kind = &target.kind;
    let config = configuration(target, config)?;
    let empty = kind.empty();
    let reset = reset(kind, "");
    let now = state.now();
    let (new, managers) = with_write(state, target, options, &reset, &now, &empty, |w| {
        apply::apply(w, &empty, &config, Managers::new(), options.force)
    })
    .map_err(|refused| refusal(target, refused))?;
    let mut new = read(target, new.unwrap_or(config), false)?;
    // An apply may state a revision, and creates all the same.
    if let Some(meta) = new["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    store_new(state, target, new, managers, options)
}

/// The last steps of a create: what only the server writes.
fn store_new(
    state: &mut State,
    target: &Target,
    mut new: Value,
    managers: Managers,
    options: &Options,
) -> Result<Written, Refusal> {
    let kind = &target.kind;
    valid_name(kind, &target.name)?;
    state.admits(kind, &target.namespace, &target.name)?;
    let uid = new["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Refusal::conflict(kind, &target.name, &why));
    }
    if kind.status
        && let Some(object) = new.as_object_mut()
    {
        object.remove("status");
        if let Some(status) = kind.empty().get("status") {
            object.insert("status".to_owned(), status.clone());
        }
    }
    let stated = new["metadata"]["resourceVersion"].as_str();
    let stated = !["", "0"].contains(&stated.unwrap_or_default());
    let number = state.next_number();
    let meta = new["metadata"]
        .as_object_mut()
        .expect("shaped objects have metadata");
    for field in [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        meta.remove(field);
    }
    meta.insert("uid".to_owned(), json!(state.uid(number)));
    meta.insert("creationTimestamp".to_owned(), json!(state.now()));
    meta.insert("name".to_owned(), json!(target.name));
    if kind.namespaced {
        meta.insert("namespace".to_owned(), json!(target.namespace));
    }
    meta.remove("generation");
    if has_generation(kind) {
        meta.insert("generation".to_owned(), json!(1));
    }
    defaults::on_create(kind, &mut new, number);
    valid(kind, &target.name, None, &new)?;
    managed::encode(&managers, &mut new);
    state.check_definition(kind, &new)?;
    if stated && !options.dry_run {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "", message));
    }
    if let Some(live) = state.store.get(&kind.store(), &target.key()) {
        let mut refusal = Refusal::exists(kind, &target.name);
        if is_dying(&live) {
            refusal.message = format!("object is being deleted: {}", refusal.message);
        }
        return Err(refusal);
    }
    if options.dry_run {
        return Ok(Written {
            object: Arc::new(new),
            created: true,
        });
    }
    let object = state.store.put(&kind.store(), target.key(), new);
    state.after_write(kind, &target.key());
    Ok(Written {
        object,
        created: true,
    })
}

fn modify(
    state: &mut State,
    target: &Target,
    stored: &Arc<Value>,
    change: Change,
    options: &Options,
) -> Result<Written, Refusal> {
    let kind = &target.kind;
    let live = in_version(kind, stored);
    let reset = reset(kind, &target.subresource);
    let now = state.now();
    let empty = kind.empty();
    let (mut new, managers) = match change {
        Change::Apply(config) => {
            let config = configuration(target, config)?;
            let managers = managed::decode(&live)
                .map_err(|e| Refusal::internal(format!("failed to decode managed fields: {e}")))?;
            let bare = without_managers(&live);
            let (new, managers) = with_write(state, target, options, &reset, &now, &empty, |w| {
                apply::apply(w, &bare, &config, managers, options.force)
            })
            .map_err(|refused| refusal(target, refused))?;
            let new = match new {
                Some(new) => read(target, new, false)?,
                None => bare,
            };
            (new, managers)
        }
        change => {
            let new = changed(target, &live, change, options.strict)?;
            let managers = managers_for(target, &live, &new);
            // Objects whose owners were dropped stay without, until somebody applies.
            let managers = if managers.is_empty() {
                managers
            } else {
                let (old, new) = (without_managers(&live), without_managers(&new));
                with_write(state, target, options, &reset, &now, &empty, |w| {
                    apply::update(w, &old, &new, managers)
                })
            };
            (new, managers)
        }
    };
    unchanged_identity(target, &live, &new)?;
    keep_what_clients_cannot_write(target, &live, &mut new);
    defaults::on_update(kind, &live, &mut new);
    valid(kind, &target.name, Some(&live), &new)?;
    managed::encode(&managers, &mut new);
    if has_generation(kind) && moves_generation(kind, &live, &new) {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
    if same_but_for_times(&live, &new) {
        return Ok(Written {
            object: stored.clone(),
            created: false,
        });
    }
    state.check_definition(kind, &new)?;
    if options.dry_run {
        return Ok(Written {
            object: Arc::new(new),
            created: false,
        });
    }
    if is_dying(&new) && !has_finalizers(&new) {
        // Its last finalizer is gone: watches see the object as it was until now go.
        state.remove(kind, &target.key());
        return Ok(Written {
            object: Arc::new(new),
            created: false,
        });
    }
    let object = state.store.put(&kind.store(), target.key(), new);
    state.after_write(kind, &target.key());
    Ok(Written {
        object,
        created: false,
    })
}

/// The new object of everything but apply.
fn changed(target: &Target, live: &Value, change: Change, strict: bool) -> Result<Value, Refusal> {
    let kind = &target.kind;
    let new = match change {
        Change::Create(body) | Change::Replace(body) | Change::Apply(body) => {
            let mut body = identified(target, body)?;
            let revision = body["metadata"]["resourceVersion"].as_str();
            if revision.unwrap_or_default().is_empty() && !unconditional(kind) {
                return Err(Refusal::unconditional(kind, &target.name));
            }
            if target.subresource == "status" {
                // Only the status of the body counts, and the revision it was made from.
                let mut new = live.clone();
                new["status"] = body["status"].take();
                new["metadata"]["resourceVersion"] = body["metadata"]["resourceVersion"].take();
                new["metadata"]["uid"] = body["metadata"]["uid"].take();
                body = new;
            }
            return read(target, body, strict);
        }
        Change::Merge(body) => {
            let mut new = live.clone();
            patch::merge(&mut new, &body);
            new
        }
        Change::Json(operations) => patch::json(live, &operations).map_err(|message| {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        })?,
        Change::Strategic(body) => {
            if kind.custom.is_some() {
                let message = "the body of the request was in an unknown format - accepted media \
                    types include: application/json-patch+json, application/merge-patch+json, \
                    application/apply-patch+yaml";
                let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(Refusal::new(code, "UnsupportedMediaType", message));
            }
            strategic::merge(&kind.schema, kind.id, live, &body)
        }
    };
    read(target, identified(target, new)?, strict)
}

/// The owners an update starts from: those it states itself (to correct them), else those of the live object.
fn managers_for(target: &Target, live: &Value, new: &Value) -> Managers {
    let stated = new["metadata"]
        .get("managedFields")
        .filter(|m| !m.is_null());
    if target.subresource.is_empty()
        && let Some(stated) = stated.and_then(Value::as_array)
    {
        let reset = match stated.as_slice() {
            [] => true,
            [one] => one
                .as_object()
                .is_some_and(|o| o.values().all(|v| v.is_null() || v.as_str() == Some(""))),
            _ => false,
        };
        if reset {
            return Managers::new();
        }
        if let Ok(managers) = managed::decode(new)
            && !managers.is_empty()
        {
            return managers;
        }
    }
    decode_or_empty(live)
}

fn decode_or_empty(object: &Value) -> Managers {
    managed::decode(object).unwrap_or_default()
}

fn without_managers(object: &Value) -> Value {
    let mut out = object.clone();
    if let Some(meta) = out.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    out
}

fn with_write<T>(
    state: &State,
    target: &Target,
    options: &Options,
    reset: &Set,
    now: &str,
    empty: &Value,
    act: impl FnOnce(&Write<'_>) -> T,
) -> T {
    let kind = &target.kind;
    let version = kind.api_version();
    let served: Vec<Arc<Kind>> = state
        .kinds
        .versions(&kind.group, &kind.plural)
        .cloned()
        .collect();
    let types = |asked: &str| {
        let one = served.iter().find(|one| one.api_version() == asked);
        one.map(|one| one.typed())
    };
    act(&Write {
        version: &version,
        subresource: &target.subresource,
        manager: &options.manager,
        now,
        reset,
        types: &types,
        empty,
    })
}

fn refusal(target: &Target, refused: Refused) -> Refusal {
    match refused {
        Refused::Conflicts(conflicts) => {
            let (message, causes) = apply::print_conflicts(&conflicts);
            Refusal::apply_conflict(message, causes)
        }
        Refused::Unfit(what) => {
            let kind = &target.kind;
            let (namespace, name) = (&target.namespace, &target.name);
            Refusal::internal(format!(
                "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {what}",
                kind.api_version(),
                kind.kind
            ))
        }
    }
}

/// The object in the version of the request: definitions without conversion hold the same JSON in all.
pub fn in_version(kind: &Kind, object: &Value) -> Value {
    let mut out = object.clone();
    if kind.custom.is_some() {
        out["apiVersion"] = json!(kind.api_version());
    }
    out
}

/// Fields that a request can't write, and so can't own.
fn reset(kind: &Kind, subresource: &str) -> Set {
    match (subresource, kind.custom.is_some()) {
        ("status", true) => Set::from_iter([&["metadata"][..], &["spec"][..]]),
        ("status", false) => Set::from_iter([&["spec"][..], &["metadata", "labels"][..]]),
        _ if kind.status => Set::from_iter([&["status"][..]]),
        _ => Set::default(),
    }
}
