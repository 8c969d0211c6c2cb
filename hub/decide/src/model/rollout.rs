//! `Rollout`: a strategy by name, how a change goes through the fleet.

use std::time::Duration;

use serde::Deserialize;

use super::scalar::{Amount, duration};
use crate::placement::ClusterSelector;

/// `spec` of a `Rollout`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// One after the other; clusters that no wave selects come last.
    pub waves: Vec<Wave>,
    /// What must hold before the next batch may move.
    #[serde(default)]
    pub gate: Gate,
    /// How many clusters may fail before the rollout stops; none when it says nothing.
    #[serde(default)]
    pub failure_budget: Option<Amount>,
    /// When clusters may move; always when it says nothing.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// What happens when the budget is spent.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Clusters that move together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wave {
    /// For people.
    pub name: String,
    /// Which clusters.
    #[serde(default)]
    pub clusters: ClusterSelector,
    /// How many of them at a time; all when it says nothing.
    #[serde(default)]
    pub batch_size: Option<Amount>,
    /// How long they must stay healthy before the next may move.
    #[serde(default, deserialize_with = "duration")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "super::scalar::duration_schema")
    )]
    pub soak: Option<Duration>,
    /// A person must promote the rollout into this wave.
    #[serde(default)]
    pub approval: bool,
}

/// What must hold before the next batch may move.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gate {
    /// Every object must be Current.
    pub healthy: bool,
    /// A cluster that is not healthy by then has failed.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "super::scalar::duration_schema")
    )]
    pub timeout: Option<Duration>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            healthy: true,
            timeout: None,
        }
    }
}

/// A time in which clusters may move.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Which days; all when it says nothing.
    #[serde(default)]
    pub days: Vec<Day>,
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`; the next day when it is not after the start.
    pub end: String,
    /// Such as `Europe/Berlin`; UTC when it says nothing.
    #[serde(default)]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// What happens when too many clusters fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Nobody moves any more until a person says so.
    #[default]
    Pause,
    /// Those that moved go back.
    Rollback,
}
