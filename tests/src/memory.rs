//! A Kubernetes API server in memory, for the demo, for simulation, and for tests that need many clusters.
//!
//! In: API requests, in process (a [`kube::Client`] without a socket) or over HTTP on loopback. Out: what a real
//! kube-apiserver of the pinned version answers, as far as this page says; [`crate::conformance`] asks the same of
//! both.
//!
//! What it does: discovery (plain and aggregated); get, list (pages, label selectors, field selectors) and watch
//! (resourceVersions, bookmarks, initial events, 410 when the log has moved on); create, update, patch (JSON,
//! merge, strategic), delete (UID and resourceVersion preconditions, finalizers, propagation policies), garbage
//! collection by owner references, the emptying of namespaces and definitions ([`garbage`]); server-side apply with the
//! field ownership of the real one for all built-in kinds and for CustomResourceDefinitions; `status` and `scale`;
//! `PartialObjectMetadata`; the defaults named in [`defaults`]; dry-run of every write; faults when asked ([`fault`]).
//! Times, uids and generated names come from an injected clock and a seed.
//!
//! What it does not do: authentication and authorisation, admission plugins and webhooks, validation beyond names, types and the immutable fields that
//! clients meet ([`write`]), conversion between versions, OpenAPI documents, tables for people, kinds that are
//! only asked and not kept (reviews, bindings, evictions), telling an empty list or map from none where Go does
//! (a NetworkPolicy's generation), dropping optional scalars that are zero, Pods that run ([`controller`] writes status only).
//!
//! The pieces, pure ones first: [`fieldset`], [`schema`], [`typed`], [`compare`], [`merge`], [`remove`],
//! [`managed`], [`apply`] know no server; [`normal`], [`quantity`], [`defaults`], [`crd`], [`patch`],
//! [`strategic`], [`select`] shape one object; [`store`] and `state` keep them; [`write`], [`delete`],
//! [`list`], [`watch`] are the verbs, [`garbage`] what follows; `http` routes. [`distil`] makes the table that [`kinds`] and [`schema`] read.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};

pub mod apply;
pub mod compare;
pub mod controller;
pub mod crd;
pub mod defaults;
pub mod delete;
pub mod discovery;
pub mod distil;
pub mod fault;
pub mod fieldset;
pub mod garbage;
mod http;
pub mod kinds;
pub mod list;
pub mod managed;
pub mod merge;
pub mod normal;
pub mod patch;
pub mod quantity;
pub mod remove;
pub mod scale;
pub mod schema;
pub mod select;
mod serve;
mod state;
pub mod status;
pub mod store;
pub mod strategic;
pub mod typed;
pub mod watch;
pub mod write;

pub use controller::Controllers;
pub use fault::{Call, Fault, Faults, Rule};
pub use serve::Serving;
pub use state::{Clock, State};

/// The largest body taken in.
const LARGEST: usize = 16 * 1024 * 1024;

/// How a server is made.
pub struct Options {
    /// What `/version` says.
    pub version: String,
    /// Where uids and generated names come from.
    pub seed: u64,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: "v1.37.2+memory".to_owned(),
            seed: 0,
            clock: Arc::new(jiff::Timestamp::now),
        }
    }
}

/// One API server.
pub struct Server {
    state: Mutex<State>,
    version: String,
    rule: Mutex<Option<Rule>>,
    holds_garbage: AtomicBool,
}

impl Server {
    /// A fresh cluster: four namespaces, nothing else.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(options.clock, options.seed)),
            version: options.version,
            rule: Mutex::new(None),
            holds_garbage: AtomicBool::new(false),
        })
    }

    /// A client in this process, without a socket.
    #[must_use]
    pub fn client(self: &Arc<Self>) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { server.handle(request.map(Body::new)).await }
        });
        kube::Client::new(service, "default")
    }

    /// Serves over HTTP until the answer is dropped.
    pub fn serve(self: &Arc<Self>, listener: tokio::net::TcpListener) -> io::Result<Serving> {
        serve::serve(self, listener)
    }

    /// Makes workloads healthy until the answer is dropped.
    #[must_use]
    pub fn start_controllers(self: &Arc<Self>) -> Controllers {
        controller::start(self)
    }

    /// Lets calls fail by a rule, from now on; `None` ends it.
    pub fn set_fault(&self, rule: Option<Rule>) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Forgets the log of changes: a watch from before answers 410, and its client lists again.
    pub fn forget_history(&self) {
        locked(self).store.forget();
    }

    /// An object of the core group as it is stored now; that is no call.
    #[must_use]
    pub fn stored(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let resource = (String::new(), plural.to_owned());
        let key = (namespace.to_owned(), name.to_owned());
        locked(self).store.get(&resource, &key)
    }

    /// From now on what a deletion entails happens only when told, by [`Server::collect_garbage`]; `false` ends it.
    pub fn hold_garbage(&self, hold: bool) {
        self.holds_garbage.store(hold, Ordering::SeqCst);
    }

    /// Does what deletions entail: dependents go, namespaces and definitions are emptied.
    pub fn collect_garbage(&self) {
        garbage::collect(&mut locked(self));
    }

    fn collect(&self, state: &mut State) {
        if !self.holds_garbage.load(Ordering::SeqCst) {
            garbage::collect(state);
        }
    }

    fn fault(&self, call: &Call<'_>) -> Option<Fault> {
        let rule = self
            .rule
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        rule.and_then(|rule| rule(call))
    }

    fn version_info(&self) -> Value {
        let numbers = self.version.trim_start_matches('v');
        let mut numbers = numbers.split('.');
        json!({
            "major": numbers.next().unwrap_or_default(),
            "minor": numbers.next().unwrap_or_default(),
            "gitVersion": self.version,
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "",
            "platform": "memory",
        })
    }

    async fn handle(self: Arc<Self>, request: Request<Body>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, LARGEST).await else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return Ok(response);
        };
        match http::fault(&self, &parts, &body) {
            None => Ok(http::answer(&self, &parts, &body)),
            Some(Fault::Status(code)) => Ok(http::failed(code)),
            Some(Fault::Late(time)) => {
                pass(time).await;
                Ok(http::answer(&self, &parts, &body))
            }
            Some(Fault::Undelivered) => Err(severed()),
            Some(Fault::Unanswered) => {
                http::answer(&self, &parts, &body);
                Err(severed())
            }
            Some(Fault::Cut(time)) => {
                let answer = http::answer(&self, &parts, &body);
                Ok(answer.map(|body| cut(body, time)))
            }
        }
    }
}

/// A connection that ends without an answer.
fn severed() -> io::Error {
    let what = "the connection was severed by an injected fault";
    io::Error::new(io::ErrorKind::ConnectionReset, what)
}

/// Lets time pass: that of a slow network.
async fn pass(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// A body that breaks off after a time; one that is whole by then is whole.
fn cut(body: Body, time: Duration) -> Body {
    let end = Box::pin(pass(time));
    let rest = futures::stream::once(async { Err::<Bytes, _>(axum::Error::new(severed())) });
    Body::from_stream(body.into_data_stream().take_until(end).chain(rest))
}

/// The state, for the moment of one answer. A panic in another answer left it whole: a write is one `put`.
fn locked(server: &Server) -> MutexGuard<'_, State> {
    server.state.lock().unwrap_or_else(PoisonError::into_inner)
}
