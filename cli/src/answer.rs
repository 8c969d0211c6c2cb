//! Answers of the hub: its messages, printed in the format that was asked for.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_proto::Timestamp;
use muster_proto::wire::v1;
use serde::Serialize;

use crate::args::{Output, ViewArgs};
use crate::config::Terminal;
use crate::failure::Failure;
use crate::show::{self, Look};
use crate::text::{Paper, Text};

/// What the hub said. As JSON each is the hub's own message (a list is an object with one field).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The fleet on one screen.
    Status(v1::Fleet),
    /// Its clusters.
    Clusters {
        /// By name.
        clusters: Vec<v1::ClusterSummary>,
    },
    /// Its applications.
    Apps {
        /// By name.
        applications: Vec<v1::ApplicationSummary>,
    },
    /// One cluster.
    Cluster(v1::ClusterDetail),
    /// One application.
    App(v1::ApplicationDetail),
    /// What was changed behind Git's back.
    Drift(v1::DriftList),
}

impl Answer {
    /// The answer as text for people.
    pub(crate) fn text(&self, look: Look) -> Text {
        match self {
            Self::Status(fleet) => show::status::status(fleet, look),
            Self::Clusters { clusters } => show::clusters::clusters(clusters, look),
            Self::Apps { applications } => show::applications::applications(applications, look),
            Self::Cluster(detail) => show::clusters::cluster(detail, look),
            Self::App(detail) => show::applications::application(detail, look),
            Self::Drift(list) => show::drift::drift(&list.rows, look),
        }
    }

    /// Is everything it speaks of Synced and Current?
    pub(crate) fn all_is_well(&self) -> bool {
        match self {
            Self::Status(fleet) => show::status::is_well(fleet),
            _ => true,
        }
    }

    /// Prints it once.
    pub(crate) fn print(
        &self,
        view: &ViewArgs,
        terminal: Option<Terminal>,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Failure> {
        match view.output {
            Output::Table | Output::Wide => {
                let paper = Paper {
                    colour: terminal.is_some_and(|terminal| terminal.colour),
                    size: None,
                };
                let text = self.text(Look::of(view, now())).paint(paper);
                out.write_all(text.as_bytes())?;
            }
            Output::Json | Output::Yaml => print_data(self, view.output, out)?,
        }
        Ok(())
    }
}

/// Prints a value as indented JSON or as YAML.
pub(crate) fn print_data(
    value: &impl Serialize,
    output: Output,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
        _ => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string()),
    };
    let text = text.map_err(|error| Failure::told(format!("can't be printed: {error}")))?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// The time by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}
