//! One watch per kind in use, selected by our label, in the version we apply with: the whole object for kinds with
//! health rules, metadata only for all others. Out: [`Event`]s, over one bounded channel.

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

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// A list begins: what is not seen until [`Event::Listed`] is not there, or has lost the label.
    Listing(KindId),
    /// An object as it is now.
    Seen(KindId, Box<DynamicObject>),
    /// An object left the watch: deleted, or its label was taken away. Look before you believe.
    Left(KindId, ObjectKey),
    /// The list is complete; from here on changes come.
    Listed(KindId),
    /// The watch fails and is tried again.
    Trouble(KindId, String),
}

/// The running watches. Dropping them ends them.
pub(crate) struct Watches {
    client: Client,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    running: BTreeMap<KindId, (Arc<Kind>, AbortHandle)>,
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

    /// Runs exactly these watches; returns the kinds that are watched no longer.
    pub(crate) fn set(&mut self, wanted: &BTreeMap<KindId, Arc<Kind>>) -> BTreeSet<KindId> {
        while self.tasks.try_join_next().is_some() {}
        let mut ended = BTreeSet::new();
        self.running.retain(|id, (kind, task)| {
            let keep = wanted.get(id) == Some(kind);
            if !keep {
                task.abort();
                ended.insert(id.clone());
            }
            keep
        });
        for (id, kind) in wanted {
            if !self.running.contains_key(id) && kind.listable {
                let watch = run(
                    self.client.clone(),
                    id.clone(),
                    kind.clone(),
                    self.events.clone(),
                );
                let task = self.tasks.spawn(watch);
                self.running.insert(id.clone(), (kind.clone(), task));
            }
        }
        ended
    }

    /// Which kinds are watched.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &KindId> {
        self.running.keys()
    }

    /// What the cluster said of a watched kind.
    pub(crate) fn kind(&self, id: &KindId) -> Option<&Arc<Kind>> {
        self.running.get(id).map(|(kind, _)| kind)
    }
}

async fn run(client: Client, id: KindId, kind: Arc<Kind>, events: mpsc::Sender<Event>) {
    let resource = &kind.resource;
    let config = watcher::Config::default().labels(APPLICATION_LABEL);
    let mut stream = if kind.is_read_whole() {
        let api: Api<DynamicObject> = Api::all_with(client, resource);
        watcher(api, config).default_backoff().boxed()
    } else {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, resource);
        watcher(api, config).default_backoff().map_ok(whole).boxed()
    };
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => Event::Listing(id.clone()),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Event::Seen(id.clone(), Box::new(object))
            }
            Ok(watcher::Event::Delete(object)) => Event::Left(id.clone(), key(&kind, &object)),
            Ok(watcher::Event::InitDone) => Event::Listed(id.clone()),
            Err(error) => Event::Trouble(id.clone(), why(&error)),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Why a watch fails, in one line.
fn why(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => said(error),
        watcher::Error::WatchError(status) => said(&kube::Error::Api(status.clone())),
        error => error.to_string(),
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
