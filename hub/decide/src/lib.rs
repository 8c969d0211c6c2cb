//! What every cluster of a fleet should run: pure values and functions.
//!
//! A commit is **read** ([`model`]), its applications are **placed** on clusters ([`placement`]), every variant is
//! **rendered** once ([`render`]), **specialised** into what each cluster should run and compared with the last good
//! state ([`desired`]), which keeps what broke and holds removals back.
//!
//! In: a [`Snapshot`] of the fleet repository, the enrolled clusters with the labels of their join tokens
//! ([`Members`]), the [`LastGood`] state that the hub stores. Out: a [`Decision`]. No clock, network, file system or
//! environment is touched here, so the same values always decide the same.

pub mod address;
mod builtin;
pub mod desired;
mod foreign;
mod identity;
pub mod labels;
pub mod last_good;
pub mod model;
pub mod nearest;
pub mod patch;
pub mod placement;
pub mod plan;
pub mod problem;
pub mod render;
#[cfg(feature = "schema")]
pub mod schema;
mod shown;
pub mod snapshot;
pub mod specialise;
pub mod version;
mod yaml;

pub use desired::{Alike, ClusterDecision, Decision, Members, Refused, Waiting, decide};
pub use last_good::{LastGood, Placement, Placements};
pub use placement::Placed;
pub use problem::{Location, Problem};
pub use shown::shown;
pub use snapshot::{File, FileContent, Snapshot, Sources};

use std::collections::BTreeMap;

/// Labels of a cluster.
pub type Labels = BTreeMap<String, String>;
