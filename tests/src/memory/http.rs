//! The HTTP side: what a path, a query and a body ask for.
//!
//! In: a request, whole. Out: the response; watches stream. No state of its own: it locks the server's state
//! for the moment of one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::delete::{self, Preconditions};
use super::discovery;
use super::fault::{Call, Fault};
use super::list;
use super::scale;
use super::select::Selector;
use super::status::Refusal;
use super::watch;
use super::write::{self, Change, Options, Target, in_version};
use super::{Server, locked};

/// Answers one request.
pub(super) fn answer(server: &Arc<Server>, parts: &Parts, body: &Bytes) -> Response<Body> {
    let request = Request::new(parts, body);
    route(server, &request).unwrap_or_else(|refusal| refused(&refusal))
}

/// The fault of a request, if it is one for objects.
pub(super) fn fault(server: &Arc<Server>, parts: &Parts, body: &Bytes) -> Option<Fault> {
    let request = Request::new(parts, body);
    let path = decoded(request.path);
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let place = match segments.as_slice() {
        ["api", version, rest @ ..] => place(server, "", version, rest),
        ["apis", group, version, rest @ ..] => place(server, group, version, rest),
        _ => None,
    };
    server.fault(&Call {
        verb: request.verb(place?.one),
        path: request.path,
        agent: request.header(header::USER_AGENT),
        manager: request.manager(),
    })
}

/// The answer of a call that fails with this status.
pub(super) fn failed(code: u16) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = match code.as_u16() {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let mut refusal = Refusal::new(code, reason, "an injected fault");
    if code == StatusCode::TOO_MANY_REQUESTS {
        refusal.details = json!({"retryAfterSeconds": 1});
    }
    let mut response = refused(&refusal);
    if code == StatusCode::TOO_MANY_REQUESTS {
        let second = header::HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, second);
    }
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    json_response(refusal.code, "application/json", &refusal.to_json())
}

/// A request, with its query read.
struct Request<'a> {
    method: &'a Method,
    path: &'a str,
    query: BTreeMap<String, String>,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

/// What a path of objects means.
struct Place {
    target: Target,
    /// Whether it names one object.
    one: bool,
}

impl<'a> Request<'a> {
    fn new(parts: &'a Parts, body: &'a Bytes) -> Self {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            query: pairs.map(|q| q.0.into_iter().collect()).unwrap_or_default(),
            headers: &parts.headers,
            body,
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.query
            .get(key)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| v == "true" || v == "1")
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }

    /// Who writes: as the query says, else the first word of the User-Agent.
    fn manager(&self) -> &str {
        let agent = self.header(header::USER_AGENT);
        let agent = agent.split('/').next().unwrap_or_default();
        self.get("fieldManager").unwrap_or(agent)
    }

    fn json(&self) -> Result<Value, Refusal> {
        if self.header(header::CONTENT_TYPE).contains("protobuf") {
            let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let message =
                "only JSON is spoken here; kubectl's imperative commands need a real server";
            return Err(Refusal::new(code, "UnsupportedMediaType", message));
        }
        serde_json::from_slice(self.body)
            .map_err(|e| Refusal::bad(format!("the body of the request is not JSON: {e}")))
    }

    fn selector(&self) -> Result<Selector, Refusal> {
        Selector::parse(self.get("labelSelector"), self.get("fieldSelector"))
    }

    fn options(&self) -> Options {
        Options {
            manager: self.manager().to_owned(),
            force: self.is_set("force"),
            dry_run: self.get("dryRun").is_some(),
            strict: self.get("fieldValidation") == Some("Strict"),
        }
    }

    /// Whether only metadata is wanted.
    fn metadata_only(&self) -> bool {
        let accept = self.header(header::ACCEPT);
        let first = accept.split(',').next().unwrap_or_default();
        first.contains("as=PartialObjectMetadata")
    }

    fn verb(&self, one: bool) -> &'static str {
        match *self.method {
            Method::GET if self.is_set("watch") => "watch",
            Method::GET if one => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH if self.header(header::CONTENT_TYPE).contains("apply-patch") => "apply",
            Method::PATCH => "patch",
            Method::DELETE if one => "delete",
            Method::DELETE => "deletecollection",
            _ => "other",
        }
    }
}

fn route(server: &Arc<Server>, request: &Request<'_>) -> Result<Response<Body>, Refusal> {
    let path = decoded(request.path);
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let ok = |value: &Value| Ok(json_response(StatusCode::OK, "application/json", value));
    let aggregated = request
        .header(header::ACCEPT)
        .contains("as=APIGroupDiscoveryList");
    let found = |value: Option<Value>| match value {
        Some(value) => ok(&value),
        None => Err(Refusal::no_such_path()),
    };
    match segments.as_slice() {
        ["version"] => ok(&server.version_info()),
        ["healthz" | "readyz" | "livez"] => Ok(Response::new(Body::from("ok"))),
        ["openapi", "v3"] => ok(&discovery::openapi(&locked(server).kinds)),
        ["openapi", "v3", "api", version] => ok(&discovery::openapi_document(
            &locked(server).kinds,
            "",
            version,
        )),
        ["openapi", "v3", "apis", group, version] => ok(&discovery::openapi_document(
            &locked(server).kinds,
            group,
            version,
        )),
        ["api" | "apis"] if aggregated => {
            let value = discovery::aggregated(&locked(server).kinds, segments == ["api"]);
            let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            Ok(json_response(StatusCode::OK, kind, &value))
        }
        ["api"] => ok(&discovery::versions()),
        ["apis"] => ok(&discovery::groups(&locked(server).kinds)),
        ["apis", group] => found(discovery::group(&locked(server).kinds, group)),
        ["api", version] => found(discovery::resources(&locked(server).kinds, "", version)),
        ["apis", group, version] => {
            found(discovery::resources(&locked(server).kinds, group, version))
        }
        ["api", version, rest @ ..] => objects(server, request, "", version, rest),
        ["apis", group, version, rest @ ..] => objects(server, request, group, version, rest),
        _ => Err(Refusal::no_such_path()),
    }
}

/// Finds the kind and name that a path of objects means.
fn place(server: &Arc<Server>, group: &str, version: &str, rest: &[&str]) -> Option<Place> {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, tail @ ..] if !matches!(tail, [] | ["status"] | ["finalize"]) => {
            (*namespace, tail)
        }
        _ => ("", rest),
    };
    let (plural, tail) = rest.split_first()?;
    let kind = locked(server).kinds.at(group, version, plural)?;
    let (name, subresource) = match tail {
        [] => ("", ""),
        [name] => (*name, ""),
        [name, subresource] => (*name, *subresource),
        _ => return None,
    };
    let served = match subresource {
        "" => true,
        "status" => kind.status,
        "scale" => kind.scale,
        "finalize" => kind.is("", "Namespace"),
        _ => false,
    };
    let scoped = if kind.namespaced {
        !namespace.is_empty() || name.is_empty()
    } else {
        namespace.is_empty()
    };
    (served && scoped).then(|| Place {
        one: !name.is_empty(),
        target: Target {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        },
    })
}

fn objects(
    server: &Arc<Server>,
    request: &Request<'_>,
    group: &str,
    version: &str,
    rest: &[&str],
) -> Result<Response<Body>, Refusal> {
    let Place { target, one } =
        place(server, group, version, rest).ok_or_else(Refusal::no_such_path)?;
    let kind = target.kind.clone();
    let verb = request.verb(one);
    let scaled = target.subresource == "scale";
    let respond = |code: StatusCode, object: &Value| {
        let object = if scaled {
            scale::of(&kind, object)
        } else {
            in_version(&kind, object)
        };
        let object = match request.metadata_only() {
            true => list::metadata_only(&object),
            false => object,
        };
        json_response(code, "application/json", &object)
    };
    match verb {
        "get" => {
            let key = (target.namespace.clone(), target.name.clone());
            let found = locked(server).store.get(&kind.store(), &key);
            let object = found.ok_or_else(|| Refusal::not_found(&kind, &target.name))?;
            Ok(respond(StatusCode::OK, &object))
        }
        "list" => {
            let asked = list::Asked {
                selector: request.selector()?,
                limit: request
                    .get("limit")
                    .and_then(|l| l.parse().ok())
                    .unwrap_or(0),
                after: request.get("continue").map(str::to_owned),
                revision: request.get("resourceVersion").map(str::to_owned),
                exact: request.get("resourceVersionMatch") == Some("Exact"),
                metadata_only: request.metadata_only(),
            };
            let value = list::list(&locked(server), &kind, &target.namespace, &asked)?;
            Ok(json_response(StatusCode::OK, "application/json", &value))
        }
        "watch" => {
            let mut selector = request.selector()?;
            if one {
                selector = Selector::parse(None, Some(&format!("metadata.name={}", target.name)))?;
            }
            let asked = watch::Asked {
                kind,
                namespace: target.namespace,
                selector,
                metadata_only: request.metadata_only(),
                revision: request.get("resourceVersion").map(str::to_owned),
                initial: request.is_set("sendInitialEvents"),
                bookmarks: request.is_set("allowWatchBookmarks"),
                seconds: request.get("timeoutSeconds").and_then(|s| s.parse().ok()),
            };
            let body = Body::from_stream(watch::watch(server, asked)?);
            let mut response = Response::new(body);
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/json"),
            );
            Ok(response)
        }
        "create" if !one => {
            let body = request.json()?;
            let mut state = locked(server);
            let written = write::write(
                &mut state,
                &target,
                Change::Create(body),
                &request.options(),
            )?;
            server.collect(&mut state);
            Ok(respond(StatusCode::CREATED, &written.object))
        }
        "update" | "patch" | "apply" if one => {
            let change = change(request, verb)?;
            let change = if scaled {
                scale::change(change)?
            } else {
                change
            };
            let mut state = locked(server);
            let written = write::write(&mut state, &target, change, &request.options())?;
            server.collect(&mut state);
            let code = if written.created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok(respond(code, &written.object))
        }
        "delete" | "deletecollection" if target.subresource.is_empty() => {
            let body = if request.body.is_empty() {
                Value::Null
            } else {
                request.json()?
            };
            // A body says it all: the query is read only when there is none.
            let bare = body.is_null();
            let dry_run = bare && request.get("dryRun").is_some();
            let policy = request.get("propagationPolicy").filter(|_| bare);
            let conditions = Preconditions::read(&body, dry_run, policy)?;
            let mut state = locked(server);
            let value = if one {
                delete::delete(&mut state, &target, &conditions)?
            } else {
                delete::delete_all(&mut state, &target, &request.selector()?, &conditions)?
            };
            server.collect(&mut state);
            Ok(json_response(StatusCode::OK, "application/json", &value))
        }
        _ => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn change(request: &Request<'_>, verb: &str) -> Result<Change, Refusal> {
    if verb == "update" {
        return Ok(Change::Replace(request.json()?));
    }
    if verb == "apply" && request.get("fieldManager").is_none() {
        let code = StatusCode::UNPROCESSABLE_ENTITY;
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
            required for apply patch";
        return Err(Refusal::new(code, "Invalid", message));
    }
    if verb != "apply" && request.get("force").is_some() {
        let code = StatusCode::UNPROCESSABLE_ENTITY;
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be \
            specified for non-apply patch";
        return Err(Refusal::new(code, "Invalid", message));
    }
    let content = request.header(header::CONTENT_TYPE);
    let media = content.split(';').next().unwrap_or_default().trim();
    Ok(match media {
        "application/apply-patch+yaml" => Change::Apply(request.json()?),
        "application/merge-patch+json" => Change::Merge(request.json()?),
        "application/json-patch+json" => Change::Json(request.json()?),
        "application/strategic-merge-patch+json" => Change::Strategic(request.json()?),
        other => {
            let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let message = format!("the body of the request was in an unknown format: {other}");
            return Err(Refusal::new(code, "UnsupportedMediaType", message));
        }
    })
}

fn json_response(code: StatusCode, kind: &str, value: &Value) -> Response<Body> {
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(value.to_string()))
        .expect("these parts make a response")
}

fn decoded(path: &str) -> Vec<String> {
    let segments = path.split('/').filter(|s| !s.is_empty());
    segments.map(percent_decoded).collect()
}

fn percent_decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = (bytes[index] == b'%')
            .then(|| segment.get(index + 1..index + 3))
            .flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
