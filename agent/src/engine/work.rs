//! The calls that the engine has on their way, and what comes back of them. Each carries copies of what it needs; the
//! engine's task alone changes state.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::Client;
use kube::core::DynamicObject;
use muster_proto::{Digest, ObjectKey};

use crate::apply::{self, Failure, Order};
use crate::discovery::{self, Kind, Kinds};
use crate::health;
use crate::inventory::Entry;
use crate::live::Sight;
use crate::live::watches::KindId;
use crate::plan::Found;
use crate::prune::{self, Pruned};

/// A call on its way.
pub(crate) type Flight = BoxFuture<'static, Outcome>;

/// What came of a call.
pub(crate) enum Outcome {
    /// Server-side apply of one object; the digest is of what was wanted.
    Applied {
        key: Arc<ObjectKey>,
        kind: Arc<Kind>,
        digest: Digest,
        result: Result<Box<DynamicObject>, Failure>,
    },
    /// What an apply would change; none when the object is not there.
    Compared {
        key: Arc<ObjectKey>,
        result: Result<Option<Found>, Failure>,
    },
    /// Removal of one object.
    Pruned {
        key: Arc<ObjectKey>,
        result: Result<Pruned, Failure>,
    },
    /// Which of these are there.
    Looked {
        id: KindId,
        keys: BTreeSet<Arc<ObjectKey>>,
        result: Result<Vec<DynamicObject>, Failure>,
    },
    /// One object as it is now.
    Fetched {
        key: Arc<ObjectKey>,
        kind: Arc<Kind>,
        result: Result<Option<Box<DynamicObject>>, Failure>,
    },
    /// Which Pod of a workload is in the way, and why.
    Pods {
        key: Arc<ObjectKey>,
        result: Result<Option<String>, Failure>,
    },
    /// What is ours by its own word, looked for because the ledger had lost it.
    Rebuilt(Result<Vec<(ObjectKey, Entry)>, String>),
    /// Kinds of API versions.
    Discovered(Vec<(String, Result<Kinds, kube::Error>)>),
}

impl Outcome {
    /// Why a call about objects did not do what it should.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Applied { result, .. } => result.as_ref().err(),
            Self::Compared { result, .. } => result.as_ref().err(),
            Self::Pruned { result, .. } => result.as_ref().err(),
            Self::Looked { result, .. } => result.as_ref().err(),
            Self::Fetched { result, .. } => result.as_ref().err(),
            Self::Pods { result, .. } => result.as_ref().err(),
            Self::Rebuilt(_) | Self::Discovered(_) => None,
        }
    }
}

/// Applies one object.
pub(crate) fn apply(order: Order) -> Flight {
    Box::pin(async move {
        let result = apply::carry_out(&order).await;
        Outcome::Applied {
            key: order.key,
            kind: order.wanted.kind,
            digest: order.wanted.digest,
            result: result.map(Box::new),
        }
    })
}

/// Asks what applying one object would change.
pub(crate) fn compare(order: Order) -> Flight {
    Box::pin(async move {
        let found = apply::compare_with(&order).await;
        let wanted = order.wanted.digest;
        Outcome::Compared {
            key: order.key,
            result: found.map(|fields| fields.map(|fields| Found { wanted, fields })),
        }
    })
}

/// Removes one object of the inventory.
pub(crate) fn prune(client: Client, key: Arc<ObjectKey>, entry: Entry, sight: Sight) -> Flight {
    Box::pin(async move {
        let result = prune::prune(client, &key, &entry, sight).await;
        Outcome::Pruned { key, result }
    })
}

/// Looks which objects of one kind and namespace are there.
pub(crate) fn look(
    client: Client,
    id: KindId,
    kind: Arc<Kind>,
    namespace: String,
    keys: BTreeSet<Arc<ObjectKey>>,
) -> Flight {
    Box::pin(async move {
        let names = keys.iter().map(|key| key.name.clone()).collect();
        let result = apply::look(&client, &kind, &namespace, &names).await;
        Outcome::Looked { id, keys, result }
    })
}

/// Looks at one object.
pub(crate) fn fetch(client: Client, key: Arc<ObjectKey>, kind: Arc<Kind>) -> Flight {
    Box::pin(async move {
        let result = apply::get(&client, &kind, &key).await;
        Outcome::Fetched {
            key,
            kind,
            result: result.map(|object| object.map(Box::new)),
        }
    })
}

/// Asks which Pod of a workload is in the way.
pub(crate) fn pods(client: Client, key: Arc<ObjectKey>, selector: String) -> Flight {
    Box::pin(async move {
        let found = apply::pods(&client, &key, &selector).await;
        let result = found.map(|pods| health::pods::reason(&pods));
        Outcome::Pods { key, result }
    })
}

/// Looks for everything that is ours.
pub(crate) fn rebuild(client: Client) -> Flight {
    Box::pin(async move { Outcome::Rebuilt(super::opening::find_ours(&client).await) })
}

/// Asks which kinds some API versions have.
pub(crate) async fn discover(
    client: &Client,
    api_versions: Vec<String>,
) -> Vec<(String, Result<Kinds, kube::Error>)> {
    let ask = |api_version: String| async move {
        let kinds = discovery::ask(client, &api_version).await;
        (api_version, kinds)
    };
    futures::future::join_all(api_versions.into_iter().map(ask)).await
}
