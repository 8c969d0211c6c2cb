//! One session, from its Hello to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::wire::v1::agent_message::Message as FromAgent;
use muster_proto::wire::v1::hub_message::Message as ToAgent;
use muster_proto::wire::{InvalidMessage, digest, v1};
use muster_proto::{ClusterName, Digest, Report, Timestamp, shortened};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::outgoing::Outgoing;
use super::questions::Questions;
use super::{Agents, Caller, with_reason};
use crate::ca::{self, SigningRequest};
use crate::clock;
use crate::fleet::{self, Certificate, Grant, Idle, Knows, STOPPING, Waiting};

/// An agent that has not said Hello by then is no agent.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a session looks at the clock and at its peer's signs of life.
const TICK: Duration = Duration::from_secs(15);
/// Longest text in a Hello.
const LONGEST_TEXT: usize = 256;
/// Characters of a sentence of an agent: it is cut where it becomes a book.
const LONGEST_SENTENCE: usize = 4 * LONGEST_TEXT;

type Sender = mpsc::Sender<Result<v1::HubMessage, Status>>;

/// Runs a session until the agent leaves (`Ok`) or the hub ends it: the status to end it with.
pub(super) async fn run(
    agents: &Agents,
    caller: Caller,
    mut from_agent: Streaming<v1::AgentMessage>,
    to_agent: &Sender,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, from_agent.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello within 10 seconds"))??;
    let Some(first) = first else {
        return Ok(());
    };
    let Some(FromAgent::Hello(hello)) = first.message else {
        return Err(Status::invalid_argument(
            "the first message of a session is Hello",
        ));
    };
    let idle = (!hello.idle.is_empty()).then(|| Idle {
        why: shortened(printable(&hello.idle), LONGEST_SENTENCE),
        for_good: hello.idle_for_good,
    });
    let hello = read_hello(&caller, hello)?;
    if let Some(idle) = idle {
        return wait(agents, hello, idle, from_agent).await;
    }
    let held = (hello.generation, hello.desired_digest);
    let said_to_hold = hello.applications.clone();
    tracing::info!(
        agent = hello.agent_version,
        kubernetes = hello.kubernetes_version,
        generation = hello.generation,
        "an agent connected"
    );
    let ends = hello.certificate.not_after;
    let Grant {
        session,
        mut desired,
        mut known,
        mut api_versions,
        mut asked,
        mut closed,
    } = agents.fleet.connect(hello).await?;

    // What it says it holds and the newest state has, it surely can be told to keep.
    let newest = desired.borrow_and_update().clone();
    let current = newest.applications.iter().filter(|application| {
        said_to_hold
            .iter()
            .any(|(name, digest)| *name == application.name && *digest == application.digest())
    });
    known.extend(current.cloned());
    drop(said_to_hold);
    let mut outgoing = Outgoing::new(held.0, held.1, known);
    outgoing.offer(newest);

    let mut session = Session {
        agents,
        caller,
        session,
        outgoing,
        ends,
        wanted: Wanted {
            // An agent knows of nothing that is asked until it is told.
            api_versions: Some(api_versions.borrow_and_update().clone())
                .filter(|asked| !asked.is_empty()),
            ..Wanted::default()
        },
        questions: Questions::default(),
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = Duration::ZERO;
    loop {
        // What an agent says comes last: it may talk without end.
        tokio::select! {
            biased;
            reason = &mut closed => {
                return Err(reason.map_or_else(|_| stopping(), Status::from));
            }
            () = agents.shutdown.cancelled() => return Err(stopping()),
            _ = tick.tick() => {
                session.look_at_the_clock()?;
                let peer = &session.caller.peer.heard;
                let last = peer.last();
                if last > heard {
                    heard = last;
                    session.session.alive(peer.ago());
                }
            }
            changed = desired.changed() => {
                changed.map_err(|_| stopping())?;
                session.outgoing.offer(desired.borrow_and_update().clone());
            }
            changed = api_versions.changed() => {
                changed.map_err(|_| stopping())?;
                let newest = api_versions.borrow_and_update().clone();
                session.wanted.api_versions = Some(newest);
            }
            Some(asked) = asked.recv(), if session.questions.has_room() => {
                session.questions.put(asked);
            }
            place = to_agent.reserve(), if session.has_next() => {
                let Ok(place) = place else {
                    return Ok(());
                };
                if let Some(message) = session.next() {
                    place.send(Ok(v1::HubMessage { message: Some(message) }));
                }
            }
            message = from_agent.message() => match message {
                Ok(Some(message)) => session.take(message).await?,
                Ok(None) => return Ok(()),
                Err(status) if broken_connection(&status) => return Ok(()),
                Err(status) => return Err(status),
            },
        }
    }
}

/// The session of an agent that does not run its cluster: nothing is said until it ends.
async fn wait(
    agents: &Agents,
    hello: fleet::Hello,
    idle: Idle,
    mut from_agent: Streaming<v1::AgentMessage>,
) -> Result<(), Status> {
    let (cluster, ends) = (hello.cluster.clone(), hello.certificate.not_after);
    let Waiting {
        session: _session,
        mut closed,
    } = agents.fleet.wait(hello, idle).await?;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            biased;
            reason = &mut closed => {
                return Err(reason.map_or_else(|_| stopping(), Status::from));
            }
            () = agents.shutdown.cancelled() => return Err(stopping()),
            _ = tick.tick() => if (agents.clock)() >= ends {
                return Err(certificate_ended(&cluster));
            },
            message = from_agent.message() => match message {
                Ok(Some(_)) => return Err(Status::invalid_argument(
                    "an agent that does not run its cluster has nothing to say but Hello",
                )),
                Ok(None) => return Ok(()),
                Err(status) if broken_connection(&status) => return Ok(()),
                Err(status) => return Err(status),
            },
        }
    }
}

struct Session<'a> {
    agents: &'a Agents,
    caller: Caller,
    session: fleet::Session,
    outgoing: Outgoing,
    /// End of the newest certificate that the agent has.
    ends: Timestamp,
    wanted: Wanted,
    questions: Questions,
}

/// What waits to be said beside the desired state: each at most once, so nothing queues up.
#[derive(Default)]
struct Wanted {
    full_report: Asked,
    renewal: Asked,
    renewed: Option<v1::Renewed>,
    api_versions: Option<Arc<BTreeSet<String>>>,
}

/// A question to the agent.
#[derive(Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    ToBeSent,
    Sent,
}

impl Session<'_> {
    fn has_next(&self) -> bool {
        self.wanted.renewed.is_some()
            || self.wanted.full_report == Asked::ToBeSent
            || self.wanted.renewal == Asked::ToBeSent
            || self.wanted.api_versions.is_some()
            || self.questions.has_next()
            || self.outgoing.has_next()
    }

    fn next(&mut self) -> Option<ToAgent> {
        if let Some(renewed) = self.wanted.renewed.take() {
            return Some(ToAgent::Renewed(renewed));
        }
        if self.wanted.full_report == Asked::ToBeSent {
            self.wanted.full_report = Asked::Sent;
            return Some(ToAgent::FullReportWanted(v1::FullReportWanted {}));
        }
        if self.wanted.renewal == Asked::ToBeSent {
            self.wanted.renewal = Asked::Sent;
            return Some(ToAgent::RenewalDue(v1::RenewalDue {}));
        }
        if let Some(asked) = self.wanted.api_versions.take() {
            let api_versions = asked.iter().cloned().collect();
            return Some(ToAgent::ApiVersionsAsked(v1::ApiVersionsAsked {
                api_versions,
            }));
        }
        // State comes in many frames, and a person waits.
        if let Some(ask) = self.questions.next() {
            return Some(ToAgent::Ask(ask));
        }
        self.outgoing.next()
    }

    /// Asks for a renewal when it is time, and ends with the certificate.
    fn look_at_the_clock(&mut self) -> Result<(), Status> {
        let left = self.ends.0 - (self.agents.clock)().0;
        if left <= 0 {
            return Err(certificate_ended(&self.caller.cluster));
        }
        let renewed_with = ca::AGENT_LIFE - ca::AGENT_RENEWED_AFTER;
        if i128::from(left) <= renewed_with.as_millis() as i128 && self.wanted.renewal == Asked::No
        {
            self.wanted.renewal = Asked::ToBeSent;
        }
        Ok(())
    }

    async fn take(&mut self, message: v1::AgentMessage) -> Result<(), Status> {
        match message.message {
            Some(FromAgent::Accepted(accepted)) => self.accepted(accepted).await,
            Some(FromAgent::Report(report)) => self.report(report).await,
            Some(FromAgent::Renew(request)) => self.renew(&request).await,
            Some(FromAgent::Answer(answer)) => {
                self.questions.answered(answer);
                Ok(())
            }
            Some(FromAgent::ApiVersions(said)) => {
                let served = said.served.into_iter().map(|it| (it, true));
                let missing = said.missing.into_iter().map(|it| (it, false));
                self.session.serves(served.chain(missing).collect()).await;
                Ok(())
            }
            Some(FromAgent::Hello(_)) => Err(Status::invalid_argument("Hello comes once, first")),
            // An agent newer than this hub says something it does not know: not for us.
            None => Ok(()),
        }
    }

    async fn accepted(&mut self, message: v1::Accepted) -> Result<(), Status> {
        let digest = optional_digest("accepted.desired_digest", &message.desired_digest)?;
        let refused =
            (!message.refused.is_empty()).then(|| shortened(message.refused, LONGEST_SENTENCE));
        if let Some(reason) = &refused {
            tracing::warn!(
                generation = message.generation,
                reason,
                "the agent refused a desired state"
            );
        }
        if !self
            .outgoing
            .answered((message.generation, digest), refused.is_some())
        {
            return Err(Status::invalid_argument(
                "Accepted answers a Done, and none was sent",
            ));
        }
        let accepted = fleet::Accepted {
            generation: message.generation,
            desired_digest: digest,
            refused,
        };
        self.session.accepted(accepted).await;
        Ok(())
    }

    async fn report(&mut self, message: v1::Report) -> Result<(), Status> {
        let report = Report::try_from(message)?;
        let full = report.full;
        let agrees = self.session.report(report).await;
        if full {
            self.wanted.full_report = Asked::No;
            if !agrees {
                // Asking again would get the same again.
                tracing::warn!("a full report disagrees with its own digest");
            }
        } else if !agrees && self.wanted.full_report == Asked::No {
            self.wanted.full_report = Asked::ToBeSent;
        }
        Ok(())
    }

    async fn renew(&mut self, request: &v1::RenewRequest) -> Result<(), Status> {
        if self.wanted.renewal != Asked::Sent {
            return Err(Status::invalid_argument(
                "RenewRequest answers RenewalDue, and none was sent",
            ));
        }
        let cluster = &self.caller.cluster;
        let request = SigningRequest::read(&request.csr_der)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = clock::date((self.agents.clock)());
        let issued = self.agents.ca.certify_agent(&request, cluster, now);
        if let Err(error) = self.session.renewed(Certificate::from(&issued)).await {
            // The old one is good for days: ask again at the next tick.
            tracing::warn!(%error, "a certificate could not be renewed");
            self.wanted.renewal = Asked::No;
            return Ok(());
        }
        tracing::info!("renewed the agent's certificate");
        self.ends = issued.ends;
        self.wanted.renewal = Asked::No;
        let certificates_der = issued.chain.iter().map(|der| der.to_vec().into()).collect();
        self.wanted.renewed = Some(v1::Renewed { certificates_der });
        Ok(())
    }
}

fn certificate_ended(cluster: &ClusterName) -> Status {
    let message =
        format!("the certificate has ended: join again with `muster cluster join {cluster}`");
    with_reason(Code::Unauthenticated, message, "certificate-ended")
}

fn read_hello(caller: &Caller, hello: v1::Hello) -> Result<fleet::Hello, InvalidMessage> {
    let applications = hello.applications.iter().map(|held| {
        let name = held
            .name
            .parse()
            .map_err(|error| InvalidMessage::new("hello.applications.name", error))?;
        Ok((name, digest("hello.applications.digest", &held.digest)?))
    });
    Ok(fleet::Hello {
        cluster: caller.cluster.clone(),
        certificate: Certificate {
            serial: ca::serial(&caller.certificate),
            not_after: ca::ends(&caller.certificate),
        },
        applications: applications.collect::<Result<_, InvalidMessage>>()?,
        agent_version: text("hello.agent_version", hello.agent_version)?,
        kubernetes_version: text("hello.kubernetes_version", hello.kubernetes_version)?,
        cluster_uid: text("hello.cluster_uid", hello.cluster_uid)?,
        instance: text("hello.instance", hello.instance)?,
        generation: hello.generation,
        hindrance: shortened(printable(&hello.hindrance), LONGEST_SENTENCE),
        unkept: shortened(printable(&hello.unkept), LONGEST_SENTENCE),
        knows: Knows {
            comparisons: hello.answers,
            dry_runs: hello.tries,
            api_versions: hello.serves,
        },
        desired_digest: optional_digest("hello.desired_digest", &hello.desired_digest)?,
    })
}

fn text(field: &'static str, text: String) -> Result<String, InvalidMessage> {
    if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        return Err(InvalidMessage::new(
            field,
            "at most 256 printable characters",
        ));
    }
    Ok(text)
}

/// Text of an agent on one line.
fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn optional_digest(field: &'static str, bytes: &[u8]) -> Result<Option<Digest>, InvalidMessage> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        digest(field, bytes).map(Some)
    }
}

/// The agent's process or the network went away, as opposed to an agent that said something wrong.
fn broken_connection(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled | Code::Unknown | Code::Unavailable
    )
}

fn stopping() -> Status {
    Status::unavailable(STOPPING)
}
