//! What the server answers when it refuses: `Status` objects with the real server's codes, reasons and words.

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::Kind;

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: StatusCode,
    /// The machine-readable reason, as `NotFound`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `details`, or null.
    pub details: Value,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        let mut details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            details["group"] = json!(kind.group);
        }
        self.details = details;
        self
    }

    /// 404: no such object.
    #[must_use]
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// 404: nothing is served at this path.
    #[must_use]
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        let mut out = Self::new(StatusCode::NOT_FOUND, "NotFound", message);
        out.details = json!({});
        out
    }

    /// 409: created twice.
    #[must_use]
    pub fn exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// 409: the object is not the one the caller thinks of.
    #[must_use]
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.resource();
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// 400: the request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 403: not now, not here.
    #[must_use]
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", kind.resource());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// 422: the object breaks a rule. Each cause: the field, what is wrong, the machine-readable reason.
    #[must_use]
    pub fn invalid(kind: &Kind, name: &str, causes: &[(String, String, &str)]) -> Self {
        let qualified = match kind.group.as_str() {
            "" => kind.kind.clone(),
            group => format!("{}.{group}", kind.kind),
        };
        let faults: Vec<String> = causes.iter().map(|(f, m, _)| format!("{f}: {m}")).collect();
        let faults = match faults.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{qualified} {name:?} is invalid: {faults}");
        let code = StatusCode::UNPROCESSABLE_ENTITY;
        let mut out = Self::new(code, "Invalid", message).about(kind, name);
        out.details["kind"] = json!(kind.kind);
        out.details["causes"] = causes
            .iter()
            .map(|(field, message, reason)| {
                json!({"reason": reason, "message": message, "field": field})
            })
            .collect();
        out
    }

    /// 422: an update of a kind that wants to know which state it was made from.
    #[must_use]
    pub fn unconditional(kind: &Kind, name: &str) -> Self {
        let cause = (
            "metadata.resourceVersion".to_owned(),
            "Invalid value: 0: must be specified for an update".to_owned(),
            "FieldValueInvalid",
        );
        // The real server names the resource here, not the kind.
        let named = Kind {
            kind: kind.plural.clone(),
            ..kind.clone()
        };
        Self::invalid(&named, name, &[cause])
    }

    /// 409 of server-side apply.
    #[must_use]
    pub fn apply_conflict(message: String, causes: Vec<(String, String)>) -> Self {
        let mut out = Self::new(StatusCode::CONFLICT, "Conflict", message);
        let cause = |(message, field)| json!({"reason": "FieldManagerConflict", "message": message, "field": field});
        let causes: Vec<Value> = causes.into_iter().map(cause).collect();
        out.details = json!({"causes": causes});
        out
    }

    /// 410: that revision is no longer known.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 504: nobody has seen that revision yet.
    #[must_use]
    pub fn too_large(given: u64, newest: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {given}, current: {newest}");
        let mut out = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message);
        out.details = json!({"causes": [{"reason": "ResourceVersionTooLarge",
            "message": "Too large resource version"}], "retryAfterSeconds": 1});
        out
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if !self.details.is_null() {
            out["details"] = self.details.clone();
        }
        out
    }
}
