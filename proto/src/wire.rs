//! Messages and services as generated, and their conversions to and from the shared values.
//!
//! Messages stop at the module that speaks gRPC: convert once, validate there. A message that breaks a rule is an
//! [`InvalidMessage`] that names the field.

mod base64;
mod desired;
mod hex;
mod ignore;
mod status;

pub use desired::{Incomplete, OBJECTS_FRAME_BYTES, assemble, begin, object_frames};

/// Generated from `muster/v1/*.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}

/// A peer sent a message that its contract does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid message: {field}: {problem}")]
pub struct InvalidMessage {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidMessage {
    /// A broken field.
    pub fn new(field: &'static str, problem: impl ToString) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }
}

impl From<InvalidMessage> for tonic::Status {
    fn from(error: InvalidMessage) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// A digest field: exactly 32 bytes.
///
/// # Errors
/// When there are not 32 bytes.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<crate::Digest, InvalidMessage> {
    crate::Digest::from_slice(bytes)
        .ok_or_else(|| InvalidMessage::new(field, "a digest is 32 bytes"))
}

/// Bytes of a digest for a message.
pub fn digest_bytes(digest: crate::Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}
