//! Reading a body: who it is, and what the server makes of it.
//!
//! In: JSON as it was sent. Out: an object of the target's kind and name, typed, with defaults; or a refusal.

use serde_json::{Value, json};

use super::super::defaults;
use super::super::normal;
use super::super::status::Refusal;
use super::super::typed::{faults, print_faults};
use super::Target;

/// A body with the identity that its path gives it; what contradicts the path is refused.
pub(super) fn identified(target: &Target, mut body: Value) -> Result<Value, Refusal> {
    let kind = &target.kind;
    if !body.is_object() {
        return Err(Refusal::bad("the body of the request is not an object"));
    }
    let version = kind.api_version();
    for (field, expected, what) in [
        ("kind", &kind.kind, "kind"),
        ("apiVersion", &version, "API version"),
    ] {
        match body[field].as_str() {
            None | Some("") => body[field] = json!(expected),
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(Refusal::bad(format!(
                    "the {what} in the data ({found}) does not match the expected {what} ({expected})"
                )));
            }
        }
    }
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    let meta = &mut body["metadata"];
    let text = |meta: &Value, key: &str| meta[key].as_str().unwrap_or_default().to_owned();
    let namespace = text(meta, "namespace");
    if namespace.is_empty() {
        if kind.namespaced {
            meta["namespace"] = json!(target.namespace);
        }
    } else if namespace != target.namespace {
        return Err(Refusal::bad(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = text(meta, "name");
    if !target.name.is_empty() {
        if name.is_empty() {
            meta["name"] = json!(target.name);
        } else if name != target.name {
            return Err(Refusal::bad(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
    }
    Ok(body)
}

/// An applied configuration: it says its kind, and no managed fields.
pub(super) fn configuration(target: &Target, config: Value) -> Result<Value, Refusal> {
    let mut config = identified(target, config)?;
    if config["metadata"]
        .get("managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(Refusal::bad("metadata.managedFields must be nil"));
    }
    if let Some(meta) = config["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    Ok(config)
}

/// A body as the server reads it: typed, without unknown fields, with defaults.
pub(super) fn read(target: &Target, body: Value, strict: bool) -> Result<Value, Refusal> {
    let kind = &target.kind;
    let (mut out, unknown) = match &kind.custom {
        Some(custom) => custom.shape(body),
        None => {
            let wrong: Vec<_> = faults(&kind.schema, kind.id, &body, true)
                .into_iter()
                .filter(|(_, what)| what.starts_with("expected"))
                .collect();
            if !wrong.is_empty() {
                return Err(Refusal::bad(format!(
                    "{} in version {:?} cannot be handled as a {}: json: cannot unmarshal: {}",
                    kind.kind,
                    kind.version,
                    kind.kind,
                    print_faults(&wrong)
                )));
            }
            normal::shape(kind.typed(), body)
        }
    };
    if strict && !unknown.is_empty() {
        let list: Vec<String> = unknown
            .iter()
            .map(|f| format!("unknown field {f:?}"))
            .collect();
        return Err(Refusal::bad(format!(
            "strict decoding error: {}",
            list.join(", ")
        )));
    }
    if kind.custom.is_none() {
        defaults::on_read(kind, &mut out);
    }
    Ok(out)
}
