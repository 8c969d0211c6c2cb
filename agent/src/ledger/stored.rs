//! A ledger as its Secrets are stored, read by somebody who does not own it: what was accepted, and what is in the
//! inventory. Pure.
//!
//! In: the values of a Secret by its name. Out: a [`Stored`]. Nothing is guessed: what is damaged is an error.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{Desired, ObjectKey};

use super::format::{self, Root, Shard};
use super::{Items, ROOT, apply};
use crate::{desired, inventory};

/// What a ledger says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The accepted state; [`Desired::none`] at first.
    pub desired: Desired,
    /// What the agent created or took over, or is about to.
    pub inventory: BTreeSet<ObjectKey>,
}

/// Reads the ledger whose Secrets have these values; `None` when there is no root.
///
/// # Errors
/// What is missing or can't be read.
pub fn read(
    secret: impl Fn(&str) -> Option<BTreeMap<String, Vec<u8>>>,
) -> Result<Option<Stored>, String> {
    let Some(data) = secret(ROOT) else {
        return Ok(None);
    };
    let root = Root::read(data.get("root").ok_or("the root is empty")?)?;
    let mut items = Items::new();
    for part in &root.parts {
        let mut bytes = Vec::new();
        for shard in part {
            let found = secret(&shard.name).and_then(|mut data| data.remove("shard"));
            let found = found.filter(|bytes| Shard::of(bytes) == *shard);
            bytes.extend(found.ok_or_else(|| format!("shard {} is missing", shard.name))?);
        }
        apply(&mut items, format::read_frame(&bytes)?);
    }
    for (name, frame) in data.iter().filter(|(name, _)| name.starts_with("journal-")) {
        let change = format::read_frame(frame).map_err(|error| format!("{name}: {error}"))?;
        apply(&mut items, change);
    }
    let entries = items
        .iter()
        .filter_map(|(item, value)| inventory::read(item, value));
    let inventory = entries.map(|entry| entry.map(|(key, _)| key));
    Ok(Some(Stored {
        inventory: inventory.collect::<Result<_, _>>()?,
        desired: desired::read(&items, root.digest)?.unwrap_or_else(Desired::none),
    }))
}

#[cfg(test)]
mod tests {
    use muster_proto::Removals;

    use super::super::Change;
    use super::super::format::Owner;
    use super::*;
    use crate::inventory::Entry;

    fn key(name: &str) -> ObjectKey {
        ObjectKey {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: "web".into(),
            name: name.into(),
        }
    }

    #[test]
    fn shards_and_journal_are_read_in_their_order_and_a_lost_shard_is_an_error() {
        let state = Desired::new(3, Vec::new(), Removals::Released, Vec::new());
        let entry = Entry::planned("v1", &"shop".parse().unwrap()).write();
        let mut items = desired::items(&state);
        items.insert(inventory::item(&key("kept")), entry.clone());
        items.insert(inventory::item(&key("gone")), entry.clone());
        let bytes = format::partition(&items).remove(0).remove(0);
        let shard = Shard::of(&bytes);
        let mut root = Root::new(Owner {
            hub: "h".into(),
            cluster: "c".into(),
            kube_system: "u".into(),
            instance: "i".into(),
        });
        (root.generation, root.digest) = (3, state.digest());
        root.parts.push(vec![shard.clone()]);
        let change = Change::from([
            (inventory::item(&key("gone")), None),
            (inventory::item(&key("new")), Some(entry)),
        ]);
        let data = BTreeMap::from([
            ("root".to_owned(), root.write()),
            (
                "journal-0000000001".to_owned(),
                format::write_frame(&change),
            ),
        ]);
        let secret = |name: &str| match name {
            ROOT => Some(data.clone()),
            _ if name == shard.name => Some(BTreeMap::from([("shard".into(), bytes.clone())])),
            _ => None,
        };
        let stored = Stored {
            desired: state,
            inventory: BTreeSet::from([key("kept"), key("new")]),
        };
        assert_eq!(read(secret), Ok(Some(stored)));
        let lost = |name: &str| secret(name).filter(|_| name == ROOT);
        assert!(read(lost).is_err());
        assert_eq!(read(|_| None), Ok(None));
    }
}
