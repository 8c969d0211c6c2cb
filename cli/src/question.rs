//! Questions to the hub: a command line in, one call, an [`Answer`] out.

use muster_proto::wire::v1;
use tonic::Code;

use crate::answer::Answer;
use crate::args::{Command, GetCommand, ListArgs, ViewArgs};
use crate::failure::Failure;
use crate::hub::{Session, call};
use crate::nearest;

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
            let (selector, app) = (args.list.selector, args.app);
            (Question::Drift { selector, app }, args.list.view, false)
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
            match session.answer(answer) {
                Ok(detail) => Ok(Answer::Cluster(detail)),
                Err(failure) => Err(unknown_cluster(session, name, failure).await),
            }
        }
        Question::App(name) => {
            let request = call(v1::GetApplicationRequest { name: name.clone() });
            let answer = session.client.get_application(request).await;
            match session.answer(answer) {
                Ok(detail) => Ok(Answer::App(detail)),
                Err(failure) => Err(unknown_app(session, name, failure).await),
            }
        }
        Question::Drift { selector, app } => {
            let request = call(v1::ListDriftRequest {
                cluster_selector: selector.clone(),
                application: app.clone(),
            });
            let answer = session.client.list_drift(request).await;
            match session.answer(answer) {
                Ok(list) => Ok(Answer::Drift(list)),
                Err(failure) => Err(unknown_app(session, app, failure).await),
            }
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

/// "Not found" with the nearest name of a cluster that is there; any other failure as it is.
pub(crate) async fn unknown_cluster(
    session: &mut Session,
    name: &str,
    failure: Failure,
) -> Failure {
    let Some(fleet) = fleet_if_unknown(session, &failure).await else {
        return failure;
    };
    let known: Vec<&str> = fleet.clusters.iter().map(|c| c.name.as_str()).collect();
    let hint = nearest::hint(name, &known, "muster clusters");
    Failure::told(format!("no cluster is called {name:?}{hint}"))
}

async fn unknown_app(session: &mut Session, name: &str, failure: Failure) -> Failure {
    let Some(fleet) = fleet_if_unknown(session, &failure).await else {
        return failure;
    };
    let known: Vec<&str> = fleet.applications.iter().map(|a| a.name.as_str()).collect();
    let hint = nearest::hint(name, &known, "muster apps");
    Failure::told(format!("no application is called {name:?}{hint}"))
}

async fn fleet_if_unknown(session: &mut Session, failure: &Failure) -> Option<v1::Fleet> {
    let unknown = matches!(failure, Failure::Hub { status, .. } if status.code() == Code::NotFound);
    if !unknown {
        return None;
    }
    let answer = session.client.get_fleet(call(fleet_request(""))).await;
    answer.ok().map(tonic::Response::into_inner)
}
