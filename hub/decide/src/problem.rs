//! What is wrong and where: one sentence for people, with file and line.

use std::fmt;
use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName};
use serde::{Deserialize, Serialize};

/// Something a person should mend. Ordered, so that lists of problems are the same for the same commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The application it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationName>,
    /// The targets of the application that it concerns; empty when it is about all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Arc<str>>,
    /// The cluster it concerns, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Where in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// One sentence a person can act on; quotes no values of manifests.
    pub message: String,
}

/// A line of a file of the snapshot. Shown as `apps/web/muster.yaml:7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Path from the root of the repository.
    pub file: Arc<str>,
    /// First line is 1; 0: the file as a whole.
    pub line: u32,
}

impl Location {
    /// A line of a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self {
            file: file.into(),
            line,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// `apps/web/muster.yaml:7: unknown field ...`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}
