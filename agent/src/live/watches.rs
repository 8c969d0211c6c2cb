//! One watch per kind in use, or per kind and namespace where the agent may see no more, selected by our label, in the
//! version we apply with: the whole object for kinds with health rules, metadata only for all others. Out: [`Event`]s,
//! over one bounded channel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, PartialObjectMeta};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, ResourceExt as _};
use muster_proto::ObjectKey;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::apply::said;
use crate::body::APPLICATION_LABEL;
use crate::discovery::Kind;

/// A kind in a version: `(apiVersion, kind)`.
pub(crate) type KindId = (String, String);

/// What a watch shows: objects of a kind, everywhere or in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    /// Of which kind.
    pub(crate) kind: KindId,
    /// `None`: in the whole cluster.
    pub(crate) namespace: Option<String>,
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// A list begins: what is not seen until [`Event::Listed`] is not there, or has lost the label.
    Listing(Scope),
    /// An object as it is now.
    Seen(Scope, Box<DynamicObject>),
    /// An object left the watch: deleted, or its label was taken away. Look before you believe.
    Left(Scope, ObjectKey),
    /// The list is complete; from here on changes come.
    Listed(Scope),
    /// The watch fails and is tried again.
    Trouble(Scope, Trouble),
}

/// Why a watch fails.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// In one line.
    pub(crate) error: String,
    /// The agent may not see this much.
    pub(crate) forbidden: bool,
}

/// The running watches. Dropping them ends them.
pub(crate) struct Watches {
    client: Client,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    running: BTreeMap<Scope, (Arc<Kind>, AbortHandle)>,
}

impl Watches {
    /// No watches yet, and where their events come out.
    pub(crate) fn new(client: Client) -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(256);
        let watches = Self {
            client,
            events,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        };
        (watches, received)
    }

    /// Runs exactly these watches; returns those that have ended.
    pub(crate) fn set(&mut self, wanted: &BTreeMap<Scope, Arc<Kind>>) -> BTreeSet<Scope> {
        while self.tasks.try_join_next().is_some() {}
        let mut ended = BTreeSet::new();
        self.running.retain(|scope, (kind, task)| {
            let keep = wanted.get(scope) == Some(kind);
            if !keep {
                task.abort();
                ended.insert(scope.clone());
            }
            keep
        });
        for (scope, kind) in wanted {
            if !self.running.contains_key(scope) && kind.listable {
                let watch = run(
                    self.client.clone(),
                    scope.clone(),
                    kind.clone(),
                    self.events.clone(),
                );
                let task = self.tasks.spawn(watch);
                self.running.insert(scope.clone(), (kind.clone(), task));
            }
        }
        ended
    }

    /// What is watched.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.running.keys()
    }

    /// The watch that shows the objects of a kind in a namespace.
    pub(crate) fn over(&self, kind: &KindId, namespace: &str) -> Option<&Scope> {
        let mut scopes = self.of(kind).map(|(scope, _)| scope);
        scopes.find(|scope| scope.covers(namespace))
    }

    /// What the cluster said of a watched kind.
    pub(crate) fn kind(&self, id: &KindId) -> Option<&Arc<Kind>> {
        self.of(id).next().map(|(_, (kind, _))| kind)
    }

    fn of(&self, kind: &KindId) -> impl Iterator<Item = (&Scope, &(Arc<Kind>, AbortHandle))> {
        let first = Scope {
            kind: kind.clone(),
            namespace: None,
        };
        let from_there = self.running.range(first..);
        from_there.take_while(move |(scope, _)| scope.kind == *kind)
    }
}

impl Scope {
    /// Would it show an object of this namespace?
    pub(crate) fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

async fn run(client: Client, scope: Scope, kind: Arc<Kind>, events: mpsc::Sender<Event>) {
    let resource = &kind.resource;
    let config = watcher::Config::default().labels(APPLICATION_LABEL);
    let mut stream = if kind.is_read_whole() {
        let api: Api<DynamicObject> = match &scope.namespace {
            None => Api::all_with(client, resource),
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
        };
        watcher(api, config).default_backoff().boxed()
    } else {
        let api: Api<PartialObjectMeta<DynamicObject>> = match &scope.namespace {
            None => Api::all_with(client, resource),
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
        };
        watcher(api, config).default_backoff().map_ok(whole).boxed()
    };
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => Event::Listing(scope.clone()),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Event::Seen(scope.clone(), Box::new(object))
            }
            Ok(watcher::Event::Delete(object)) => Event::Left(scope.clone(), key(&kind, &object)),
            Ok(watcher::Event::InitDone) => Event::Listed(scope.clone()),
            Err(error) => Event::Trouble(scope.clone(), trouble(&error)),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// What is wrong with a watch, in one line.
pub(crate) fn trouble(error: &watcher::Error) -> Trouble {
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => &kube::Error::Api(status.clone()),
        error => {
            return Trouble {
                error: error.to_string(),
                forbidden: false,
            };
        }
    };
    Trouble {
        error: said(error),
        forbidden: matches!(error, kube::Error::Api(status) if status.code == 403),
    }
}

/// Identity of a live object.
pub(crate) fn key(kind: &Kind, object: &DynamicObject) -> ObjectKey {
    ObjectKey {
        group: kind.resource.group.clone(),
        kind: kind.resource.kind.clone(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

fn whole(event: watcher::Event<PartialObjectMeta<DynamicObject>>) -> watcher::Event<DynamicObject> {
    match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(metadata_only(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete(metadata_only(object)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(metadata_only(object)),
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

/// Metadata as an object without a body.
pub(crate) fn metadata_only(metadata: PartialObjectMeta<DynamicObject>) -> DynamicObject {
    DynamicObject {
        types: metadata.types,
        metadata: metadata.metadata,
        data: serde_json::Value::Null,
    }
}
