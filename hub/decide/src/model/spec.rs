//! `spec` of an `Application`, field by field.
//!
//! The format is whole from the start; what this version can't do yet is refused by `unsupported`, never ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_proto::{Additions, Adoption, ApplicationName, HealthRule, IgnoreRule};
use serde::Deserialize;

use super::chart::ChartSource;
use super::repository::GitRef;
#[cfg(feature = "schema")]
use super::scalar::api_versions_schema;
use super::scalar::{api_versions, duration};
use crate::placement::ClusterSelector;

/// `spec` of an `Application`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApplicationSpec {
    /// Where its manifests are; the folder of its file when it says nothing.
    pub source: Source,
    /// Fills namespaced objects that state none.
    pub namespace: Option<String>,
    /// Which clusters take which variant, first match wins; every cluster when it says nothing.
    pub targets: Option<Vec<TargetSpec>>,
    /// Applications that must be healthy first, where they are placed on the same cluster.
    pub depends_on: Vec<ApplicationName>,
    /// How a cluster is made to match.
    pub sync: Sync,
    /// Fields that others may own.
    pub ignore_differences: Vec<IgnoreRule>,
    /// Health of kinds that we don't know.
    pub health: Vec<HealthRule>,
    /// Name of a `Rollout`.
    pub rollout: Option<String>,
    /// `NAME` in the application's namespace, or `NAMESPACE/NAME`: whom the agent impersonates.
    pub service_account: Option<String>,
    /// What to do with objects that exist already.
    pub adoption: Adoption,
    /// Field managers whose fields are taken over, beside kubectl's.
    pub take_over: Vec<String>,
    /// How a Helm chart is rendered.
    pub helm: Option<Helm>,
    /// What `${vars.NAME}` stands for. That it is there, even empty, turns placeholders on.
    pub variables: Option<Variables>,
}

/// Values by name.
pub type Variables = BTreeMap<String, serde_json::Value>;

/// Where manifests are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// A folder: relative to the file of the application, or in the repository below.
    pub path: Option<String>,
    /// Name of a `Repository`; this one when it says nothing.
    pub repository: Option<String>,
    /// Which commit of that repository; its own choice when it says nothing.
    #[serde(rename = "ref")]
    pub reference: Option<GitRef>,
    /// A chart of a repository of charts, instead of a folder.
    pub chart: Option<ChartSource>,
}

/// Clusters that take one variant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Target"))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TargetSpec {
    /// Name of the variant. Give one: a target without is called by its place.
    pub name: Option<String>,
    /// Which clusters; every one when it says nothing.
    pub clusters: ClusterSelector,
    /// Instead of the path of the source.
    pub path: Option<String>,
    /// Beside those of the application.
    pub helm: Option<Helm>,
    /// Laid over the rendered objects.
    pub patches: Vec<Patch>,
    /// Beside those of the application.
    pub variables: Option<Variables>,
}

/// How a Helm chart is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Helm {
    /// The application's name when it says nothing.
    pub release_name: Option<String>,
    /// Over those of the files.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// Later ones win.
    pub value_files: Vec<String>,
    /// API versions that the chart asks for, such as `example.com/v1` or `example.com/v1/Thing`: it sees those that the
    /// cluster serves.
    #[serde(deserialize_with = "api_versions")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "api_versions_schema"))]
    pub api_versions: Vec<String>,
    /// A chart that makes up secrets renders once, and that stays.
    pub keep_first: bool,
}

/// A patch of rendered objects.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Patch {
    /// Which objects; those that the patch names when it says nothing.
    pub target: Option<PatchTarget>,
    /// A strategic merge or JSON 6902 patch.
    pub patch: Option<String>,
    /// A file that holds one.
    pub path: Option<String>,
}

/// Which objects a patch is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs)]
pub struct PatchTarget {
    pub group: Option<String>,
    pub version: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub label_selector: Option<String>,
    pub annotation_selector: Option<String>,
}

/// How a cluster is made to match.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sync {
    /// Objects that leave Git are removed.
    pub prune: bool,
    /// Drift is repaired.
    pub self_heal: bool,
    /// Nothing is applied: differences are reported only.
    pub detect_only: bool,
    /// What the API server does not let change is deleted and made anew.
    pub replace: bool,
    /// What to do with fields that people add.
    pub additions: Option<Additions>,
    /// How a refused apply is tried again.
    pub retry: Option<Retry>,
    /// How long an application may take until it is healthy.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "super::scalar::duration_schema")
    )]
    pub timeout: Option<Duration>,
    /// How much may go without a person's word.
    pub prune_budget: Option<PruneBudget>,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            prune: true,
            self_heal: true,
            detect_only: false,
            replace: false,
            additions: None,
            retry: None,
            timeout: None,
            prune_budget: None,
        }
    }
}

/// How a refused apply is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// How many times; for ever when it says nothing.
    pub limit: Option<u32>,
    /// The first pause; each is double the one before.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "super::scalar::duration_schema")
    )]
    pub initial: Option<Duration>,
    /// The longest pause.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "super::scalar::duration_schema")
    )]
    pub max: Option<Duration>,
}

/// More than both waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PruneBudget {
    /// Of the application's objects.
    pub percent: Option<u8>,
    /// So many.
    pub objects: Option<u32>,
}
