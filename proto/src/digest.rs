//! Content digests: 32 bytes of BLAKE3. Equal content has equal digests, so equal parts of two states are found by
//! comparing one value.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A BLAKE3 digest. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Digest([u8; 32]);

/// The hub's secret for digests of objects.
///
/// An unkeyed digest of a Secret lets anyone who sees it guess a short password; a keyed one tells nothing without
/// the key. Agents never get the key: to them an object digest is an opaque name.
#[derive(Clone)]
pub struct DigestKey([u8; 32]);

impl Digest {
    /// The digest of nothing: where a running digest starts.
    pub const ZERO: Self = Self([0; 32]);

    /// Digest of `parts`, each framed by its length, so that moving a byte between parts changes the result.
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            let part = part.as_ref();
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from bytes that came over the wire or out of a store; `None` unless there are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Combines two digests so that order does not matter and combining twice cancels: the running digest of a set.
    #[must_use]
    pub fn xor(self, other: Self) -> Self {
        let mut bytes = self.0;
        for (byte, with) in bytes.iter_mut().zip(other.0) {
            *byte ^= with;
        }
        Self(bytes)
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl DigestKey {
    /// A key from 32 random bytes that the hub keeps in its store.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Keyed digest of one object's canonical JSON.
    pub fn digest(&self, body: &[u8]) -> Digest {
        Digest(blake3::keyed_hash(&self.0, body).into())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

impl Hash for Digest {
    /// Any part of a digest tells it from others as well as the whole does.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: a ledger and a store write tens of thousands of them.
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// Not 64 hex digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Ok(Self(
            *blake3::Hash::from_hex(text)
                .map_err(|_| InvalidDigest)?
                .as_bytes(),
        ))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_parts_changes_the_digest() {
        assert_ne!(Digest::of(["ab", "c"]), Digest::of(["a", "bc"]));
    }

    #[test]
    fn text_reads_back_and_other_text_is_refused() {
        let digest = Digest::of(["x"]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("abc".parse::<Digest>(), Err(InvalidDigest));
    }

    #[test]
    fn the_running_digest_of_a_set_ignores_order_and_forgets_what_is_taken_out() {
        let (a, b) = (Digest::of(["a"]), Digest::of(["b"]));
        assert_eq!(a.xor(b), b.xor(a));
        assert_eq!(a.xor(b).xor(b), a);
    }

    #[test]
    fn the_key_decides_the_digest_and_is_never_printed() {
        let (one, two) = (DigestKey::new([1; 32]), DigestKey::new([2; 32]));
        assert_ne!(one.digest(b"body"), two.digest(b"body"));
        assert_eq!(format!("{one:?}"), "DigestKey(…)");
    }
}
