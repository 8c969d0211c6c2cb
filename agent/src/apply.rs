//! Writes to the API server, one object at a time: server-side apply, delete, look. Async, without any state.
//!
//! In: a kind, an identity and bytes. Out: what is there afterwards, or a [`Failure`] that a person can read and the
//! engine can time. Values of Secrets are in no failure.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use kube::Client;
use kube::client::Body;
use kube::core::response::StatusDetails;
use kube::core::{DynamicObject, ObjectList, Status};
use muster_proto::ObjectKey;
use serde_json::{Value, json};

use crate::discovery::Kind;
use crate::drift::MANAGER;

mod compare;
mod order;
mod preview;
mod replace;
mod versions;

pub(crate) use compare::shown;
pub(crate) use order::{Order, apply as carry_out, compare as compare_with, not_equal};
pub(crate) use preview::{Outcome, Preview, preview};

/// No single call may take longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Asks for metadata instead of whole objects.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Why a call did not do what it should.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// For people.
    pub(crate) message: String,
    /// The API server is away or busy, and nothing is wrong with the object.
    pub(crate) passing: bool,
    /// HTTP status, 0 when none came.
    pub(crate) code: u16,
    /// The API server wants to be left alone for so long.
    pub(crate) retry_after: Duration,
}

/// What a delete led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It is not there any more.
    Gone,
    /// It is being deleted: finalizers, or a grace period.
    Going,
    /// Another object has its name now, or nobody is sure: look again.
    Other,
}

/// Who does it.
#[derive(Clone)]
pub(crate) struct Writer {
    /// To the API server.
    pub(crate) client: Client,
    /// `namespace/name` of a ServiceAccount to impersonate; empty: ourselves.
    pub(crate) service_account: String,
}

/// What the API server answered instead of doing it.
#[derive(Debug)]
enum Error {
    /// It refused.
    Api(Box<Status>),
    /// It could not be asked.
    Away(kube::Error),
    /// It did not answer in time.
    Late,
}

/// Applies one object by server-side apply and returns it as it is then. `make_namespace` says that Git does not
/// state its namespace, which is then created when it is absent.
async fn apply(
    writer: &Writer,
    kind: &Kind,
    key: &ObjectKey,
    body: &[u8],
    make_namespace: bool,
) -> Result<DynamicObject, Error> {
    let path = apply_path(kind, key);
    let patch = || {
        let request = apply_request(accept(kind));
        send(writer, request, Method::PATCH, &path, body.to_vec())
    };
    match patch().await {
        Err(Error::Api(status)) if make_namespace && misses_namespace(&status, key) => {
            create_namespace(writer, &key.namespace).await?;
            patch().await
        }
        answer => answer,
    }
}

/// What an apply would lead to.
async fn apply_dry(
    writer: &Writer,
    kind: &Kind,
    key: &ObjectKey,
    body: Vec<u8>,
) -> Result<Value, Failure> {
    let answer = try_dry(writer, kind, key, body).await;
    answer.map_err(|error| failure(key, &error))
}

async fn try_dry(
    writer: &Writer,
    kind: &Kind,
    key: &ObjectKey,
    body: Vec<u8>,
) -> Result<Value, Error> {
    let path = format!("{}&dryRun=All", apply_path(kind, key));
    let request = apply_request("application/json");
    send(writer, request, Method::PATCH, &path, body).await
}

fn apply_path(kind: &Kind, key: &ObjectKey) -> String {
    let path = kind.path(&key.namespace, Some(&key.name));
    format!("{path}?fieldManager={MANAGER}&force=true")
}

fn apply_request(accept: &str) -> http::request::Builder {
    http::Request::builder()
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .header(http::header::ACCEPT, accept)
}

/// Changes one object by a JSON patch.
async fn patch(
    writer: &Writer,
    kind: &Kind,
    key: &ObjectKey,
    body: Vec<u8>,
) -> Result<DynamicObject, Failure> {
    let path = kind.path(&key.namespace, Some(&key.name));
    let path = format!("{path}?fieldManager={MANAGER}");
    let request = http::Request::builder()
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .header(http::header::ACCEPT, METADATA);
    call(writer, key, request, Method::PATCH, &path, body).await
}

/// Deletes one object, and only the one with this UID.
pub(crate) async fn remove(
    writer: &Writer,
    kind: &Kind,
    key: &ObjectKey,
    uid: &str,
) -> Result<Removed, Failure> {
    let path = kind.path(&key.namespace, Some(&key.name));
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": uid},
        "propagationPolicy": "Background",
    });
    let request = http::Request::builder().header(http::header::CONTENT_TYPE, "application/json");
    let body = serde_json::to_vec(&options).expect("plain data can be written");
    match call::<Value>(writer, key, request, Method::DELETE, &path, body).await {
        Ok(answer) if answer.pointer("/metadata/deletionTimestamp").is_some() => Ok(Removed::Going),
        // A Status of success, or the object as it was when it went.
        Ok(_) => Ok(Removed::Gone),
        Err(failure) if failure.code == 404 => Ok(Removed::Gone),
        Err(failure) if failure.code == 409 => Ok(Removed::Other),
        Err(failure) => Err(failure),
    }
}

/// Looks at one object, the whole of it; `None` when it is not there.
pub(crate) async fn get(
    client: &Client,
    kind: &Kind,
    key: &ObjectKey,
) -> Result<Option<DynamicObject>, Failure> {
    let path = kind.path(&key.namespace, Some(&key.name));
    let request = http::Request::builder().header(http::header::ACCEPT, "application/json");
    match call(
        &ourselves(client),
        key,
        request,
        Method::GET,
        &path,
        Vec::new(),
    )
    .await
    {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.code == 404 => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Looks at all of one object; `None` when it is not there.
pub(crate) async fn get_whole(
    client: &Client,
    kind: &Kind,
    key: &ObjectKey,
) -> Result<Option<Value>, Failure> {
    let path = kind.path(&key.namespace, Some(&key.name));
    let request = http::Request::builder();
    let writer = ourselves(client);
    match call(&writer, key, request, Method::GET, &path, Vec::new()).await {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.code == 404 => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Looks which of these names are there (objects without a body), with one metadata-only list (page by page) instead
/// of a call per object.
pub(crate) async fn look(
    client: &Client,
    kind: &Kind,
    namespace: &str,
    names: &BTreeSet<String>,
) -> Result<Vec<DynamicObject>, Failure> {
    let mut found = Vec::new();
    let mut next = String::new();
    let key = ObjectKey {
        group: kind.resource.group.clone(),
        kind: kind.resource.kind.clone(),
        namespace: namespace.to_owned(),
        name: String::new(),
    };
    loop {
        let mut path = format!("{}?limit=500", kind.path(namespace, None));
        if let (Some(only), 1) = (names.first(), names.len()) {
            path.push_str(&format!("&fieldSelector=metadata.name%3D{only}"));
        }
        if !next.is_empty() {
            path.push_str(&format!("&continue={next}"));
        }
        let request = http::Request::builder().header(http::header::ACCEPT, METADATA_LIST);
        let page: ObjectList<DynamicObject> = call(
            &ourselves(client),
            &key,
            request,
            Method::GET,
            &path,
            Vec::new(),
        )
        .await?;
        let wanted = |object: &DynamicObject| {
            object
                .metadata
                .name
                .as_ref()
                .is_some_and(|name| names.contains(name))
        };
        let metadata = |object| DynamicObject {
            data: Value::Null,
            ..object
        };
        found.extend(page.items.into_iter().filter(wanted).map(metadata));
        match page.metadata.continue_ {
            Some(more) if !more.is_empty() => next = more,
            _ => return Ok(found),
        }
    }
}

/// The Pods of a workload, by its selector; a few hundred tell enough.
pub(crate) async fn pods(
    client: &Client,
    key: &ObjectKey,
    selector: &str,
) -> Result<Vec<DynamicObject>, Failure> {
    let query = url_encoded(selector);
    let path = format!(
        "/api/v1/namespaces/{}/pods?limit=200&labelSelector={query}",
        key.namespace
    );
    let request = http::Request::builder().header(http::header::ACCEPT, "application/json");
    let ourselves = ourselves(client);
    let page: ObjectList<DynamicObject> =
        call(&ourselves, key, request, Method::GET, &path, Vec::new()).await?;
    Ok(page.items)
}

/// Everything but letters and digits is escaped.
fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn ourselves(client: &Client) -> Writer {
    Writer {
        client: client.clone(),
        service_account: String::new(),
    }
}

/// Kinds without a health rule are known by their metadata.
fn accept(kind: &Kind) -> &'static str {
    if kind.is_read_whole() {
        "application/json"
    } else {
        METADATA
    }
}

async fn create_namespace(writer: &Writer, name: &str) -> Result<(), Error> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let body = serde_json::to_vec(&body).expect("plain data can be written");
    let request = http::Request::builder().header(http::header::CONTENT_TYPE, "application/json");
    let path = format!("/api/v1/namespaces?fieldManager={MANAGER}");
    match send::<Value>(writer, request, Method::POST, &path, body).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

fn misses_namespace(status: &Status, key: &ObjectKey) -> bool {
    status.code == 404
        && !key.namespace.is_empty()
        && status
            .message
            .contains(&format!("namespaces {:?} not found", key.namespace))
}

async fn call<T: serde::de::DeserializeOwned>(
    writer: &Writer,
    key: &ObjectKey,
    request: http::request::Builder,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Failure> {
    let answer = send(writer, request, method, path, body).await;
    answer.map_err(|error| failure(key, &error))
}

async fn send<T: serde::de::DeserializeOwned>(
    writer: &Writer,
    mut request: http::request::Builder,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Error> {
    if let Some((namespace, name)) = writer.service_account.split_once('/') {
        request = request.header(
            "Impersonate-User",
            format!("system:serviceaccount:{namespace}:{name}"),
        );
    }
    let request = request.method(method).uri(path).body(body);
    let request = request.map_err(|error| Error::Away(kube::Error::HttpError(error)))?;
    match tokio::time::timeout(TIMEOUT, answer(&writer.client, request)).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(status))) => Err(Error::Api(Box::new(status))),
        Ok(Err(error)) => Err(Error::Away(error)),
        Err(_) => Err(Error::Late),
    }
}

/// What the API server answers, or why it does not do it. Who is turned away by priority and fairness reads in a header
/// when to come again.
async fn answer<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<Result<T, Status>, kube::Error> {
    let answer = client.send(request.map(Body::from)).await?;
    let (parts, body) = answer.into_parts();
    let body = body.collect_bytes().await?;
    if !parts.status.is_client_error() && !parts.status.is_server_error() {
        let answer = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        return Ok(Ok(answer));
    }
    let mut status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        let reason = parts.status.canonical_reason().unwrap_or_default();
        Status::failure(text.trim(), reason).with_code(parts.status.as_u16())
    });
    let after = parts.headers.get(http::header::RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
    if let Some(seconds) = after {
        let details = status.details.get_or_insert_with(|| StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        });
        details.retry_after_seconds = details.retry_after_seconds.max(seconds);
    }
    Ok(Err(status))
}

/// What is wrong, in one line.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            let code = http::StatusCode::from_u16(status.code);
            let name = code.ok().and_then(|code| code.canonical_reason());
            let name = name.unwrap_or(&status.reason);
            format!("{} ({} {name})", one_line(&status.message), status.code)
        }
        error => error.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What people are told. The API server's messages quote values, which a Secret's must not be.
fn failure(key: &ObjectKey, error: &Error) -> Failure {
    match error {
        Error::Api(status) => Failure {
            message: words(key, status),
            passing: status.code == 429 || status.code >= 500 || is_ending(status),
            code: status.code,
            retry_after: retry_after(status),
        },
        Error::Away(error) => Failure {
            message: format!("the API server can't be reached: {}", said(error)),
            passing: true,
            ..Failure::default()
        },
        Error::Late => Failure {
            message: format!(
                "the API server did not answer within {} s",
                TIMEOUT.as_secs()
            ),
            passing: true,
            ..Failure::default()
        },
    }
}

/// How long the API server wants to be left alone.
fn retry_after(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map(|it| it.retry_after_seconds);
    Duration::from_secs(seconds.unwrap_or_default().into())
}

/// Its namespace is being deleted: it can be made again after that.
fn is_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403
        && causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

fn words(key: &ObjectKey, status: &Status) -> String {
    if key.is_secret() {
        nameless(status)
    } else {
        one_line(&status.message)
    }
}

fn nameless(status: &Status) -> String {
    let missing_namespace = status
        .details
        .as_ref()
        .is_some_and(|details| details.kind == "namespaces");
    if missing_namespace {
        // Names no value of the Secret.
        return status.message.clone();
    }
    if let Some(who) = refuser(&status.message) {
        return format!("{who} ({})", status.code);
    }
    let fields: BTreeSet<&str> = status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .map(|cause| cause.field.as_str())
        .collect();
    let fields = fields.into_iter().collect::<Vec<_>>().join(", ");
    format!(
        "the API server refused it: {} ({}) {fields}",
        status.reason, status.code
    )
    .trim_end()
    .to_owned()
}

/// The API server's own words on who refused something, without what that one says: it may quote what it refused.
fn refuser(message: &str) -> Option<&str> {
    // An authorizer sees no object.
    let (_, who) = message
        .split_once(" is forbidden: ")
        .unwrap_or(("", message));
    if message.starts_with("secrets ") && who.starts_with("User \"system:serviceaccount:") {
        return Some(message);
    }
    let denied = [
        ("admission webhook \"", " denied the request"),
        ("ValidatingAdmissionPolicy '", " denied request"),
    ];
    denied.iter().find_map(|(begins, ends)| {
        let end = who.starts_with(begins).then(|| who.find(ends))??;
        Some(&who[..end + ends.len()])
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::graph;
    use crate::scripted::client_that_answers;

    fn refused(kind: &str) -> Failure {
        let key = ObjectKey {
            group: String::new(),
            kind: kind.into(),
            namespace: "n".into(),
            name: "x".into(),
        };
        let status =
            Status::failure("data[p]: Invalid\n  value: \"hunter2\"", "Invalid").with_code(422);
        failure(&key, &Error::Api(Box::new(status)))
    }

    #[test]
    fn a_failure_carries_the_servers_words_but_no_value_of_a_secret() {
        assert_eq!(
            refused("ConfigMap").message,
            "data[p]: Invalid value: \"hunter2\""
        );
        assert_eq!(
            refused("Secret").message,
            "the API server refused it: Invalid (422)"
        );
    }

    #[test]
    fn who_refused_a_secret_is_told_and_not_what_they_say_of_it() {
        let cases = [
            (
                "secrets \"x\" is forbidden: User \"system:serviceaccount:n:d\" cannot patch resource \"secrets\" in API group \"\" in the namespace \"n\"",
                "secrets \"x\" is forbidden: User \"system:serviceaccount:n:d\" cannot patch resource \"secrets\" in API group \"\" in the namespace \"n\" (403)",
            ),
            (
                "secrets \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: hunter2 is short",
                "ValidatingAdmissionPolicy 'p' with binding 'b' denied request (403)",
            ),
            (
                "admission webhook \"w.example.com\" denied the request: hunter2 denied the request",
                "admission webhook \"w.example.com\" denied the request (403)",
            ),
            (
                "hunter2: admission webhook \"w\" denied the request",
                "the API server refused it: Forbidden (403)",
            ),
        ];
        for (said, told) in cases {
            let status = Status::failure(said, "Forbidden").with_code(403);
            assert_eq!(nameless(&status), told);
        }
    }

    #[test]
    fn an_error_of_the_api_server_is_one_line() {
        let status = Status::failure("no such\nthing", "NotFound").with_code(404);
        let error = kube::Error::Api(Box::new(status));
        assert_eq!(said(&error), "no such thing (404 Not Found)");
    }

    #[test]
    fn a_refusal_stands_and_a_busy_server_passes() {
        assert!(!refused("ConfigMap").passing);
        let busy = Status::failure("later", "TooManyRequests").with_code(429);
        assert!(failure(&graph::namespace_key("n"), &Error::Api(Box::new(busy))).passing);
    }

    #[tokio::test]
    async fn only_the_object_that_was_seen_is_deleted() {
        let (kind, key) = catalogued();
        let client = client_that_answers(|(parts, body)| {
            assert_eq!(parts.method, Method::DELETE);
            let options: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(options["preconditions"], json!({"uid": "seen"}));
            let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409, "message": "another UID"});
            (409, refusal)
        });
        let removed = remove(&ourselves(&client), &kind, &key, "seen").await;
        assert!(matches!(removed, Ok(Removed::Other)), "{removed:?}");
    }

    fn catalogued() -> (Kind, ObjectKey) {
        let kind = Kind::config_map();
        let key = ObjectKey {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: "web".into(),
            name: "c0".into(),
        };
        (kind, key)
    }
}
