//! Removes one object that left Git: looks at it, asks every guard that needs the cluster, deletes it by its UID.
//!
//! In: the entry of the inventory, and what was seen. Out: gone, going, or why it stays. What can be decided without
//! the cluster was decided by [`crate::plan`] before.

use kube::Client;
use muster_proto::ObjectKey;

use crate::apply::{self, Failure, Removed, Writer};
use crate::discovery;
use crate::graph;
use crate::inventory::Entry;
use crate::live::{self, Sight};
use crate::plan;

mod definition;
mod namespace;

/// How many objects to name.
const NAMED: usize = 3;

/// What a removal led to.
#[derive(Debug, PartialEq, Eq)]
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

/// Removes one object of the inventory.
///
/// # Errors
/// When the API server refuses or does not answer: it stays in the inventory, and is tried again.
pub(crate) async fn prune(
    client: Client,
    key: &ObjectKey,
    entry: &Entry,
    sight: Sight,
) -> Result<Pruned, Failure> {
    let unknown = |error: kube::Error| Failure {
        message: format!(
            "the kinds of {} can't be read: {}",
            entry.api_version,
            apply::said(&error)
        ),
        passing: true,
        ..Failure::default()
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
            Some(object) => live::look(&object, &kind, None),
            None => return Ok(Pruned::Gone),
        },
    };
    if object.terminating {
        return Ok(Pruned::Going);
    }
    if let Some(why) = plan::judge_removal(entry, &object) {
        return Ok(Pruned::NotOurs(why));
    }
    if let Some(why) = in_use(&client, key).await {
        return Ok(Pruned::Blocked(why));
    }
    let writer = Writer {
        client,
        service_account: entry.service_account.clone(),
    };
    match apply::remove(&writer, &kind, key, &object.uid).await? {
        Removed::Gone => Ok(Pruned::Gone),
        Removed::Going => Ok(Pruned::Going),
        Removed::Other => Err(Failure {
            message: "it changed while it was being removed".into(),
            passing: true,
            code: 409,
            ..Failure::default()
        }),
    }
}

/// Would other people's objects go with it? When nobody can tell, it stays.
pub(crate) async fn in_use(client: &Client, key: &ObjectKey) -> Option<String> {
    let (objects, what) = if graph::is_namespace(key) {
        (
            namespace::staying(client, &key.name).await,
            "the namespace holds objects that would go with it",
        )
    } else if graph::is_definition(key) {
        (
            definition::objects(client, &key.name)
                .await
                .map_err(|error| apply::said(&error)),
            "there are objects of this kind that would go with it",
        )
    } else {
        return None;
    };
    match objects {
        Ok(objects) if objects.is_empty() => None,
        Ok(objects) => Some(format!("{what}: {}", named(&objects))),
        Err(error) => Some(format!(
            "whether other objects would go with it can't be read: {error}"
        )),
    }
}

/// The first few, for people.
fn named(objects: &[String]) -> String {
    if objects.len() > NAMED {
        format!("{} and more", objects[..NAMED].join(", "))
    } else {
        objects.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_objects_are_named_and_no_more() {
        let objects = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(named(&objects[..3]), "a, b, c");
        assert_eq!(named(&objects), "a, b, c and more");
    }
}
