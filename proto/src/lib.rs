//! The contract between hub, agents and people.
//!
//! * Shared **values** ([`digest`], [`name`], [`object`], [`desired`], [`status`], [`report`]): plain data with
//!   validated constructors, without a runtime. The pure crate `muster-decide` builds on these alone.
//! * **Health rules** (feature `health`): [`health`] compiles the expressions of an application.
//! * The **wire** (feature `wire`): messages and services of `muster/v1/*.proto`, their validated conversions to and
//!   from the values, the join token, and TLS identity.
//!
//! Depends on nothing else of ours.

pub mod desired;
pub mod digest;
#[cfg(feature = "health")]
pub mod health;
pub mod ignore;
pub mod mask;
pub mod name;
pub mod object;
pub mod pause;
pub mod report;
pub mod status;
pub mod text;

#[cfg(feature = "wire")]
pub mod join_token;
#[cfg(feature = "wire")]
pub mod tls;
#[cfg(feature = "wire")]
pub mod wire;

pub use desired::{
    Additions, Adoption, Approval, Content, Desired, DesiredApplication, Generation, HealthRule,
    PruneBudget, Removals, Settings,
};
pub use digest::{Digest, DigestKey};
pub use ignore::{IgnoreRule, ListItem};
pub use mask::{MASK, masked};
pub use name::{ApplicationName, ClusterName, InvalidName};
pub use object::{InvalidObject, Object, ObjectKey, canonical};
pub use pause::Pause;
pub use report::{Report, Rows};
pub use status::{
    ApplicationStatus, Drift, DriftKind, FieldChange, HealthStatus, ObjectStatus, SyncStatus,
    Timestamp,
};
pub use text::shortened;
