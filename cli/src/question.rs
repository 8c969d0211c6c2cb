//! Questions to the hub: a command line in, one call, an [`Answer`] out.

use std::time::Duration;

use muster_proto::wire::v1;
use tonic::Code;

use crate::answer::{Answer, now};
use crate::args::{Command, GetCommand, ListArgs, ViewArgs};
use crate::failure::Failure;
use crate::hub::{Session, call};

/// What a person wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// The fleet on one screen; clusters by label selector.
    Status(String),
    /// Clusters by label selector.
    Clusters(String),
    /// Applications on the clusters of a label selector.
    Apps(String),
    /// One cluster.
    Cluster(String),
    /// One application.
    App(String),
    /// What was changed behind Git's back.
    Drift {
        /// On which clusters.
        selector: String,
        /// Of which application; empty: all.
        app: String,
        /// How far back; none: all that is known.
        since: Option<Duration>,
    },
}

/// The question a command asks, how to show the answer, and whether the answer decides the exit code.
///
/// # Panics
/// With a command that asks nothing.
pub(crate) fn of(command: Command) -> (Question, ViewArgs, bool) {
    let list = |question: fn(String) -> Question, args: ListArgs, check| {
        (question(args.selector), args.view, check)
    };
    match command {
        Command::Status(args) => list(Question::Status, args.list, args.check),
        Command::Clusters(args) => list(Question::Clusters, args, false),
        Command::Apps(args) => list(Question::Apps, args, false),
        Command::Get(GetCommand::Cluster(args)) => (Question::Cluster(args.name), args.view, false),
        Command::Get(GetCommand::App(args)) => (Question::App(args.name), args.view, false),
        Command::Drift(args) => {
            let question = Question::Drift {
                selector: args.list.selector,
                app: args.app,
                since: args.since,
            };
            (question, args.list.view, false)
        }
        _ => unreachable!("this command asks nothing"),
    }
}

/// Asks.
pub(crate) async fn ask(session: &mut Session, question: &Question) -> Result<Answer, Failure> {
    match question {
        Question::Status(selector) | Question::Clusters(selector) | Question::Apps(selector) => {
            let answer = session.client.get_fleet(call(fleet_request(selector)));
            let fleet = answer.await;
            Ok(of_fleet(question, session.answer(fleet)?))
        }
        Question::Cluster(name) => {
            let request = call(v1::GetClusterRequest { name: name.clone() });
            let answer = session.client.get_cluster(request).await;
            let detail = session.answer(answer).map_err(unknown_cluster)?;
            Ok(Answer::Cluster(detail))
        }
        Question::App(name) => {
            let request = call(v1::GetApplicationRequest { name: name.clone() });
            let answer = session.client.get_application(request).await;
            let detail = session.answer(answer).map_err(unknown_app)?;
            Ok(Answer::App(detail))
        }
        Question::Drift {
            selector,
            app,
            since,
        } => {
            let ago = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
            let request = call(v1::ListDriftRequest {
                cluster_selector: selector.clone(),
                application: app.clone(),
                since_ms: since.map_or(0, |since| now().0.saturating_sub(ago(since))),
            });
            let answer = session.client.list_drift(request).await;
            let list = session.answer(answer).map_err(unknown_app)?;
            Ok(Answer::Drift(list))
        }
    }
}

/// The answer to a question about the whole fleet, from the fleet as it is; `None`: it has to be asked on its own.
pub(crate) fn from_fleet(question: &Question, fleet: v1::Fleet) -> Option<Answer> {
    match question {
        Question::Status(_) | Question::Clusters(_) | Question::Apps(_) => {
            Some(of_fleet(question, fleet))
        }
        _ => None,
    }
}

fn of_fleet(question: &Question, fleet: v1::Fleet) -> Answer {
    match question {
        Question::Clusters(_) => Answer::Clusters {
            clusters: fleet.clusters,
        },
        Question::Apps(_) => Answer::Apps {
            applications: fleet.applications,
        },
        _ => Answer::Status(fleet),
    }
}

/// What to watch for an answer that may have changed.
pub(crate) fn fleet_request(selector: &str) -> v1::GetFleetRequest {
    v1::GetFleetRequest {
        cluster_selector: selector.to_owned(),
    }
}

impl Question {
    /// Does the fleet itself answer it?
    pub(crate) fn is_about_the_fleet(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Clusters(_) | Self::Apps(_))
    }

    /// The label selector in it; empty where there is none.
    pub(crate) fn selector(&self) -> &str {
        match self {
            Self::Status(selector) | Self::Clusters(selector) | Self::Apps(selector) => selector,
            Self::Drift { selector, .. } => selector,
            Self::Cluster(_) | Self::App(_) => "",
        }
    }
}

/// The hub names the nearest cluster; this adds where they all are. Any other failure as it is.
pub(crate) fn unknown_cluster(failure: Failure) -> Failure {
    unknown(failure, "muster clusters")
}

pub(crate) fn unknown_app(failure: Failure) -> Failure {
    unknown(failure, "muster apps")
}

fn unknown(failure: Failure, list_with: &str) -> Failure {
    match &failure {
        Failure::Hub { status, .. } if status.code() == Code::NotFound => {
            Failure::told(format!("{} (`{list_with}` lists all)", status.message()))
        }
        _ => failure,
    }
}
