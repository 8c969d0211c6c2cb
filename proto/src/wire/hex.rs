//! Digests as JSON: hexadecimal text, as people see them everywhere else.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serializer};

use crate::Digest;

pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    match Digest::from_slice(bytes) {
        Some(digest) => serializer.collect_str(&digest),
        None => serializer.serialize_str(""),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    let digest: Digest = text.parse().map_err(serde::de::Error::custom)?;
    Ok(super::digest_bytes(digest))
}
