//! The calls that the engine has on their way, and what comes back of them. Each carries copies of what it needs; the
//! engine's task alone changes state.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::Client;
use kube::core::DynamicObject;
use muster_proto::{Digest, ObjectKey};

use crate::apply::{self, Failure, Removed, Writer};
use crate::desired::resolved::Wanted;
use crate::discovery::{self, Kind, Kinds};
use crate::graph;
use crate::inventory::Entry;
use crate::live::watches::KindId;
use crate::live::{self, Sight};
use crate::{body, plan};

/// A call on its way.
pub(crate) type Flight = BoxFuture<'static, Outcome>;

/// What came of a call.
pub(crate) enum Outcome {
    /// Server-side apply of one object; the digest is of the bytes sent.
    Applied {
        key: Arc<ObjectKey>,
        kind: Arc<Kind>,
        digest: Digest,
        result: Result<Box<DynamicObject>, Failure>,
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
    /// Kinds of API versions.
    Discovered(Vec<(String, Result<Kinds, kube::Error>)>),
}

/// What a removal led to.
pub(crate) enum Pruned {
    /// Confirmed: it is not there.
    Gone,
    /// It is being deleted.
    Going,
    /// It must stay; the text says why.
    Blocked(String),
    /// It is not ours.
    NotOurs(String),
}

/// Applies one object.
pub(crate) fn apply(
    client: Client,
    key: Arc<ObjectKey>,
    wanted: &Wanted,
    make_namespace: bool,
) -> Flight {
    let writer = Writer {
        client,
        service_account: wanted.settings.service_account.clone(),
    };
    let body = body::of(&wanted.object, &key, &wanted.application);
    let kind = wanted.kind.clone();
    Box::pin(async move {
        let result = apply::apply(&writer, &kind, &key, body.bytes, make_namespace).await;
        Outcome::Applied {
            key,
            kind,
            digest: body.digest,
            result: result.map(Box::new),
        }
    })
}

/// Removes one object of the inventory.
pub(crate) fn prune(client: Client, key: Arc<ObjectKey>, entry: Entry, sight: Sight) -> Flight {
    Box::pin(async move {
        let result = prune_one(client, &key, &entry, sight).await;
        Outcome::Pruned { key, result }
    })
}

async fn prune_one(
    client: Client,
    key: &ObjectKey,
    entry: &Entry,
    sight: Sight,
) -> Result<Pruned, Failure> {
    let unknown = |error: kube::Error| Failure {
        message: format!("the kinds of {} can't be read: {error}", entry.api_version),
        passing: true,
        code: 0,
    };
    let found = discovery::find(&client, &entry.api_version, &key.kind)
        .await
        .map_err(unknown)?;
    let Some(kind) = found else {
        // Its kind is gone, and all objects of it.
        return Ok(Pruned::Gone);
    };
    // What no watch shows may have lost its label only.
    let object = match sight {
        Sight::Present(object) => object,
        Sight::Absent | Sight::Unknown => match apply::get(&client, &kind, key).await? {
            Some(object) => live::look(&object, &kind),
            None => return Ok(Pruned::Gone),
        },
    };
    if object.terminating {
        return Ok(Pruned::Going);
    }
    if let Some(why) = plan::judge_removal(entry, &object) {
        return Ok(Pruned::NotOurs(why));
    }
    if graph::is_namespace(key) {
        match apply::namespace::foreign(&client, &key.name).await {
            Ok(None) => {}
            Ok(Some(objects)) => {
                return Ok(Pruned::Blocked(format!(
                    "the namespace holds objects that are not ours: {objects}"
                )));
            }
            Err(error) => {
                return Ok(Pruned::Blocked(format!(
                    "what the namespace holds can't be read: {error}"
                )));
            }
        }
    }
    let writer = Writer {
        client,
        service_account: String::new(),
    };
    match apply::remove(&writer, &kind, key, &object.uid).await? {
        Removed::Gone => Ok(Pruned::Gone),
        Removed::Going => Ok(Pruned::Going),
        Removed::Other => Err(Failure {
            message: "it changed while it was being removed".into(),
            passing: true,
            code: 409,
        }),
    }
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
