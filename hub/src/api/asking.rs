//! Questions that only a cluster can answer: passed to its agent over the session that the agent keeps up, and back.
//!
//! In: which application or object on which cluster. Out: the agent's answer, or within seconds one sentence that says
//! why there is none and what is known. Nothing of it is kept.

use std::time::Duration;

use muster_proto::wire::v1;
use muster_proto::{ApplicationName, Timestamp};
use tonic::Status;

use super::Api;
use super::service::{cluster_name, no_application, no_cluster};
use crate::fleet::NotAsked;
use crate::view::{ClusterView, Connection, View};

/// An agent gives up after 15 s by itself.
const DEADLINE: Duration = Duration::from_secs(25);
/// Longest part of an object's name: what Kubernetes takes.
const LONGEST_NAME: usize = 253;
/// Longest sentence of an agent.
const LONGEST_ERROR: usize = 2048;

impl Api {
    /// Asks the agent of a cluster.
    ///
    /// # Errors
    /// When there is no such thing, no agent that could be asked, or none that answers.
    pub(super) async fn ask_agent(
        &self,
        request: v1::CompareRequest,
    ) -> Result<v1::Comparison, Status> {
        let view = self.view();
        let name = &request.cluster;
        let cluster = view.cluster(name).ok_or_else(|| no_cluster(&view, name))?;
        let subject = subject(&view, cluster, &request)?;
        if let Some(why) = is_away(cluster, &subject) {
            return Err(Status::failed_precondition(why));
        }
        let ask = v1::Ask {
            application: request.application,
            object: request.object,
            ..v1::Ask::default()
        };
        let answer = self
            .fleet
            .ask_agent(
                cluster_name(name)?,
                |knows| knows.comparisons,
                ask,
                DEADLINE,
            )
            .await
            .map_err(|not| not_asked(cluster, not))?;
        if !answer.error.is_empty() {
            let error: String = answer.error.chars().take(LONGEST_ERROR).collect();
            return Err(Status::failed_precondition(format!("{name}: {error}")));
        }
        Ok(v1::Comparison {
            cluster: request.cluster,
            revision: answer.revision,
            objects: answer.objects,
            equal: answer.equal,
            left_out: answer.left_out,
            message: answer.message,
        })
    }
}

fn not_asked(cluster: &ClusterView, not: NotAsked) -> Status {
    let name = &cluster.name;
    let message = match not {
        NotAsked::Away => format!("the agent of {name} has just lost its session: try again"),
        NotAsked::TooOld => {
            return Status::failed_precondition(format!(
                "the agent of {name} can't answer: version {} knows no questions; upgrade it",
                cluster.agent_version
            ));
        }
        NotAsked::Busy => {
            format!("too much is asked of {name} already: try again in a moment")
        }
        NotAsked::Gone => format!("the agent of {name} left before it had answered: try again"),
        NotAsked::Late => format!(
            "the agent of {name} did not answer within {} s",
            DEADLINE.as_secs()
        ),
    };
    Status::unavailable(message)
}

/// What is asked about.
enum Subject<'a> {
    Application(ApplicationName),
    Object(&'a v1::ObjectName),
}

fn subject<'a>(
    view: &View,
    cluster: &ClusterView,
    request: &'a v1::CompareRequest,
) -> Result<Subject<'a>, Status> {
    if !request.application.is_empty() {
        let asked = &request.application;
        let name: Option<ApplicationName> = asked.parse().ok();
        let name = name.ok_or_else(|| no_application(view, asked))?;
        // Also one that left Git and whose objects are still there.
        let here =
            cluster.placement(asked).is_some() || cluster.rows.applications().contains_key(&name);
        return match (here, view.application(asked)) {
            (true, _) => Ok(Subject::Application(name)),
            (false, None) => Err(no_application(view, asked)),
            (false, Some(_)) => Err(Status::failed_precondition(format!(
                "application {asked} does not run on {}: `muster get app {asked}` says where it does",
                cluster.name
            ))),
        };
    }
    let unclear = || Status::invalid_argument("name an application, or an object by kind and name");
    let object = request.object.as_ref().ok_or_else(unclear)?;
    if object.kind.is_empty() || object.name.is_empty() {
        return Err(unclear());
    }
    let parts = [&object.kind, &object.group, &object.namespace, &object.name];
    let is_name = |part: &String| part.len() <= LONGEST_NAME && !part.contains(char::is_control);
    match parts.iter().all(|part| is_name(part)) {
        true => Ok(Subject::Object(object)),
        false => Err(Status::invalid_argument(
            "kind, group, namespace and name are 253 printable characters at most",
        )),
    }
}

/// Why nobody can ask a cluster now, with what it said last; `None` when it may be asked.
fn is_away(cluster: &ClusterView, subject: &Subject<'_>) -> Option<String> {
    let name = &cluster.name;
    match cluster.connection {
        Connection::Connected | Connection::Removing => None,
        Connection::NeverJoined => Some(format!("{name} never joined: no agent could be asked")),
        Connection::Removed => Some(format!(
            "{name} was removed from the fleet: no agent could be asked"
        )),
        Connection::Unknown => Some(format!(
            "{name} is unknown since {} and can't be asked; {}",
            moment(cluster.since),
            last_word(cluster, subject)
        )),
    }
}

/// What the agent last reported of it.
fn last_word(cluster: &ClusterView, subject: &Subject<'_>) -> String {
    let row = match subject {
        Subject::Application(name) => cluster
            .rows
            .applications()
            .get(name)
            .map(|row| (row.sync, row.health, row.message.as_str())),
        Subject::Object(asked) => {
            let is = |own: &str, asked: &str| asked.is_empty() || own.eq_ignore_ascii_case(asked);
            let mut rows = cluster.rows.objects().values().filter(|row| {
                row.key.name == asked.name
                    && is(&row.key.kind, &asked.kind)
                    && is(&row.key.group, &asked.group)
                    && is(&row.key.namespace, &asked.namespace)
            });
            rows.next()
                .map(|row| (row.sync, row.health, row.message.as_str()))
        }
    };
    match row {
        None => "its last report says nothing of this".to_owned(),
        Some((sync, health, message)) => {
            let message = match message {
                "" => String::new(),
                message => format!(": {message}"),
            };
            let at = moment(cluster.reported_at);
            format!("its last report, of {at}, says {sync}, {health}{message}")
        }
    }
}

fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.0.div_euclid(1000))
        .map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string())
}
