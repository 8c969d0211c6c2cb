//! The bytes of the ledger: root, frames and partitions. Pure. These live in clusters, so they change only together
//! with [`FORMAT`].
//!
//! A *frame* is a change, zstd-compressed: per item the length of the key (u32, little endian), the key, one byte (1
//! put, 0 drop), and for a put the length of the value and the value. A *part* is a frame of puts, cut into shards
//! that fit into a Secret; items are spread over parts by a hash of their key, so that a change touches few of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_proto::{ClusterName, Digest, Generation};
use serde::{Deserialize, Serialize};

use super::{Change, Items};

/// The format this agent writes; it reads every older one, and then writes everything anew.
pub(crate) const FORMAT: u32 = 2;
/// Raw bytes that one part should hold.
const PART_SIZE: usize = 1024 * 1024;
/// Bytes of one shard: well under the 1 MiB that a Secret may hold.
const SHARD_SIZE: usize = 640 * 1024;

/// The head of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Root {
    /// Of all that belongs to this root.
    pub(crate) format: u32,
    /// Whose the cluster is; none when it was given up.
    pub(crate) owner: Option<Owner>,
    /// Counts the writes: tells a write of ours whose answer was lost.
    pub(crate) sequence: u64,
    /// Of the accepted state.
    pub(crate) generation: Generation,
    /// Of the accepted state.
    pub(crate) digest: Digest,
    /// Where everything is but what the journal adds.
    pub(crate) parts: Vec<Part>,
    /// What was lost and is not found again yet: the inventory may lack objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damaged: Option<String>,
}

/// The shards that make one frame, in order.
pub(crate) type Part = Vec<Shard>;

/// One immutable Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// Of the Secret; begins with the digest.
    pub(crate) name: String,
    /// Of its bytes.
    pub(crate) digest: Digest,
}

/// Who owns a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    /// Trust domain and CA fingerprint of the hub.
    pub(crate) hub: String,
    /// Name of the cluster in that hub's fleet.
    pub(crate) cluster: String,
    /// UID of the namespace kube-system: a restored or copied ledger belongs to another cluster.
    pub(crate) kube_system: String,
    /// The process that writes: the newest wins.
    pub(crate) instance: String,
}

impl Owner {
    /// An owner from its parts.
    pub(crate) fn new(
        hub: String,
        cluster: &ClusterName,
        kube_system: String,
        instance: String,
    ) -> Self {
        Self {
            hub,
            cluster: cluster.as_str().to_owned(),
            kube_system,
            instance,
        }
    }
}

impl Root {
    /// The root of an empty ledger.
    pub(crate) fn new(owner: Owner) -> Self {
        Self {
            format: FORMAT,
            owner: Some(owner),
            sequence: 0,
            generation: 0,
            digest: Digest::ZERO,
            parts: Vec::new(),
            damaged: None,
        }
    }

    /// All shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.parts.iter().flatten()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("the root can't be read: {error}"))
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a root can be written")
    }
}

impl Shard {
    /// Name and digest of a shard with these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = Digest::of([bytes]);
        let name = format!("{}-{}", super::ROOT, &digest.to_string()[..32]);
        Self { name, digest }
    }
}

/// A change as bytes.
pub(crate) fn write_frame(change: &Change) -> Vec<u8> {
    let mut raw = Vec::new();
    for (key, value) in change {
        write_item(&mut raw, key, value.as_ref());
    }
    compress(&raw)
}

fn write_item(raw: &mut Vec<u8>, key: &str, value: Option<&Bytes>) {
    let length = |bytes: &[u8]| {
        u32::try_from(bytes.len())
            .expect("items are far below 4 GiB")
            .to_le_bytes()
    };
    raw.extend(length(key.as_bytes()));
    raw.extend(key.as_bytes());
    raw.push(u8::from(value.is_some()));
    if let Some(value) = value {
        raw.extend(length(value));
        raw.extend(value.as_ref());
    }
}

fn compress(raw: &[u8]) -> Vec<u8> {
    zstd::encode_all(raw, 3).expect("compressing memory to memory")
}

/// Reads a frame back.
pub(crate) fn read_frame(bytes: &[u8]) -> Result<Change, String> {
    let raw = zstd::decode_all(bytes)
        .map_err(|error| format!("a frame can't be decompressed: {error}"))?;
    let mut raw = Bytes::from(raw);
    let mut change = Change::new();
    while !raw.is_empty() {
        let key = take_field(&mut raw)?;
        let key = String::from_utf8(key.to_vec()).map_err(|_| "a key is no text")?;
        let put = take(&mut raw, 1)?[0] == 1;
        // A copy each: a slice would keep the whole frame in memory as long as one value lives.
        let value = put.then(|| take_field(&mut raw)).transpose()?;
        change.insert(key, value.map(|value| Bytes::copy_from_slice(&value)));
    }
    Ok(change)
}

fn take(raw: &mut Bytes, length: usize) -> Result<Bytes, String> {
    if raw.len() < length {
        return Err("a frame ends in the middle".into());
    }
    Ok(raw.split_to(length))
}

fn take_field(raw: &mut Bytes) -> Result<Bytes, String> {
    let length: [u8; 4] = take(raw, 4)?[..].try_into().expect("four bytes were taken");
    take(raw, u32::from_le_bytes(length) as usize)
}

/// Spreads all items over parts, each compressed and cut into shards. The same items always give the same bytes.
pub(crate) fn partition(items: &Items) -> Vec<Vec<Vec<u8>>> {
    let total: usize = items
        .iter()
        .map(|(key, value)| key.len() + value.len() + 9)
        .sum();
    if total == 0 {
        return Vec::new();
    }
    let count = total.div_ceil(PART_SIZE).next_power_of_two();
    let mut parts: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for (key, value) in items {
        let hash = blake3::hash(key.as_bytes());
        let part =
            usize::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) % count;
        write_item(parts.entry(part).or_default(), key, Some(value));
    }
    parts
        .into_values()
        .map(|raw| {
            compress(&raw)
                .chunks(SHARD_SIZE)
                .map(<[u8]>::to_vec)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_back(items: &Items) -> Items {
        let mut read = Items::new();
        for part in partition(items) {
            super::super::apply(&mut read, read_frame(&part.concat()).unwrap());
        }
        read
    }

    fn change() -> impl Strategy<Value = Change> {
        let value =
            prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
        prop::collection::btree_map("[a-d]{1,2}", value, 0..8)
    }

    proptest! {
        #[test]
        fn replaying_a_journal_gives_what_a_snapshot_gives(changes in prop::collection::vec(change(), 0..8)) {
            let (mut direct, mut replayed) = (Items::new(), Items::new());
            for change in changes {
                super::super::apply(&mut replayed, read_frame(&write_frame(&change)).unwrap());
                super::super::apply(&mut direct, change);
            }
            prop_assert_eq!(&replayed, &direct);
            prop_assert_eq!(read_back(&direct), direct);
        }

        #[test]
        fn damaged_bytes_are_an_error_and_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0usize..60) {
            let _ = read_frame(&bytes);
            let mut frame = write_frame(&Change::from([("key".into(), Some(Bytes::from(bytes.clone())))]));
            frame.truncate(cut.min(frame.len().saturating_sub(1)));
            prop_assert!(read_frame(&frame).map_or(true, |change| change.is_empty()));
            bytes.clear();
        }
    }

    #[test]
    fn large_items_are_cut_into_shards_and_read_back() {
        // Bytes that do not compress.
        let mut noise = vec![0; 3_000_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let items: Items = (0..300)
            .map(|n| {
                (
                    format!("k{n}"),
                    Bytes::copy_from_slice(&noise[n * 10_000..][..10_000]),
                )
            })
            .chain([(
                "big".to_owned(),
                Bytes::copy_from_slice(&noise[..1_500_000]),
            )])
            .collect();
        let parts = partition(&items);
        assert!(parts.len() > 1);
        assert!(
            parts
                .iter()
                .flatten()
                .all(|shard| shard.len() <= SHARD_SIZE)
        );
        assert_eq!(read_back(&items), items);
    }

    #[test]
    fn one_changed_item_leaves_other_parts_as_they_are() {
        let mut items: Items = (0..3000)
            .map(|n| (format!("k{n}"), Bytes::from(vec![n as u8; 1000])))
            .collect();
        let before = partition(&items);
        items.insert("k7".into(), Bytes::from_static(b"new"));
        let after = partition(&items);
        assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn the_root_reads_back() {
        let owner = Owner {
            hub: "h".into(),
            cluster: "c".into(),
            kube_system: "u".into(),
            instance: "i".into(),
        };
        let mut root = Root::new(owner);
        root.parts.push(vec![Shard::of(b"bytes")]);
        assert_eq!(Root::read(&root.write()), Ok(root));
    }
}
