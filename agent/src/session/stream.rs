//! One connection to the hub, from Hello to its end.
//!
//! In: the hub's messages, the engine's rows. Out: Accepted, reports, requests for certificates, and in the end why it
//! ended. What is to be said is state, not a queue: a message is made when the stream has room for it, so a slow hub
//! gets fewer and newer ones.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use muster_proto::wire::digest_bytes;
use muster_proto::wire::v1::agent_service_client::AgentServiceClient;
use muster_proto::wire::v1::{self, agent_message, hub_message};
use muster_proto::{DesiredApplication, Rows};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;

use super::Session;
use super::ended::{Ended, ended};
use super::transfer::Transfer;
use crate::asking;
use crate::backoff::{Backoff, Waits};
use crate::credentials::CertificateRequest;
use crate::engine::{Cluster, Held, Refused, Standing};
use crate::serving;

/// A hub that has not answered a Hello by then is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Reports follow each other no faster; rows change in bursts.
const REPORT_PACE: Duration = Duration::from_millis(100);
/// Questions that are answered at once; the hub sends no more.
const QUESTIONS: usize = 4;
/// A Begin names every object of the cluster, 34 bytes each.
const LARGEST_MESSAGE: usize = 32 * 1024 * 1024;

/// One session. Cancel-safe: dropped at any time, nothing is half done but a state that was not accepted.
pub(super) async fn serve(
    session: &mut Session,
    transfer: &mut Transfer,
    hindered: &mut Hindered,
) -> Ended {
    let cluster = match session.engine.loaded().await {
        Ok(cluster) => cluster,
        Err(why) => return Ended::Stopped(why),
    };
    let hindrance = Told::now(session.engine.hindrance());
    let unkept = Told::now(session.keeping.unkept());
    let why = Some(&hindrance.told).filter(|told| !told.is_empty());
    let hello = v1::Hello {
        hindrance: why.unwrap_or(&hindered.why).clone(),
        unkept: unkept.told.clone(),
        ..hello(session, &cluster, transfer.whole())
    };
    let (outgoing, incoming) = match open(session, hello).await {
        Ok(streams) => streams,
        Err(ended) => return ended,
    };
    tracing::info!(cluster = %session.credentials.cluster, hub = session.credentials.hub, "in session with the hub");
    let open = Open {
        rows: session.engine.rows(),
        standing: session.engine.standing(),
        hindrance,
        unkept,
        session,
        transfer,
        hindered,
        again_at: None,
        incoming,
        to_say: ToSay {
            report: true,
            ..ToSay::default()
        },
        reported: None,
        renewal: None,
        in_hand: None,
        answering: JoinSet::new(),
        serving: stream::pending().boxed(),
    };
    match open.run(outgoing).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

/// Whether the hub lets this cluster in; says Hello with nothing held, and leaves again.
pub(super) async fn probe(session: &Session, cluster_uid: &str) -> Result<(), Ended> {
    let hello = v1::Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_uid: cluster_uid.to_owned(),
        instance: session.instance.clone(),
        ..v1::Hello::default()
    };
    let (_outgoing, mut incoming) = open(session, hello).await?;
    // A hub that has nothing to say to a newcomer is silent; one that refuses says so at once.
    match tokio::time::timeout(ANSWER_TIMEOUT, incoming.message()).await {
        Ok(Err(status)) => Err(ended(&status)),
        Ok(Ok(None)) => Err(Ended::Lost("the hub closed the session".into())),
        Ok(Ok(Some(_))) | Err(_) => Ok(()),
    }
}

/// What keeps a desired state from being kept in the cluster.
#[derive(Debug)]
pub(super) struct Hindered {
    /// For people; empty when nothing does.
    why: String,
    backoff: Backoff,
}

impl Hindered {
    /// By nothing.
    pub(super) fn new(waits: Waits) -> Self {
        Self {
            why: String::new(),
            backoff: Backoff::new(waits),
        }
    }

    /// It could not be kept; how long to wait before it is tried again.
    fn by(&mut self, why: &Refused, random: fn() -> f64) -> Duration {
        self.why = why.to_string();
        let pause = self.backoff.next(random());
        tracing::error!(reason = self.why, retry_in = ?pause, "nothing new is taken: the cluster is kept as it was last told");
        pause
    }
}

/// Why this process does not run the cluster.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    /// For people.
    pub(super) why: String,
    /// It would not run it either if nobody else did.
    pub(super) for_good: bool,
    /// UID of the cluster it is in, where it knows.
    pub(super) cluster_uid: String,
}

/// Lets the hub know that this process is there and does not run the cluster, for as long as the hub listens.
pub(super) async fn wait(session: &Session, idle: &Idle) -> Ended {
    let hello = v1::Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_uid: idle.cluster_uid.clone(),
        instance: session.instance.clone(),
        idle: idle.why.clone(),
        idle_for_good: idle.for_good,
        ..v1::Hello::default()
    };
    let (_outgoing, mut incoming) = match open(session, hello).await {
        Ok(streams) => streams,
        Err(ended) => return ended,
    };
    loop {
        match incoming.message().await {
            // A newer hub's message; it knows our version.
            Ok(Some(_)) => {}
            Ok(None) => return Ended::Lost("the hub closed the session".into()),
            Err(status) => return ended(&status),
        }
    }
}

type Streams = (mpsc::Sender<v1::AgentMessage>, Streaming<v1::HubMessage>);

async fn open(session: &Session, hello: v1::Hello) -> Result<Streams, Ended> {
    let credentials = &session.credentials;
    let channel = (session.dial)(credentials)
        .await
        .map_err(|error| Ended::Lost(error.to_string()))?;
    let mut client = AgentServiceClient::new(channel)
        .send_compressed(CompressionEncoding::Zstd)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(LARGEST_MESSAGE);
    let (outgoing, messages) = mpsc::channel(1);
    let _room_for_one = outgoing.try_send(say(agent_message::Message::Hello(hello)));
    let answer = client.session(ReceiverStream::new(messages));
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(response)) => Ok((outgoing, response.into_inner())),
        Ok(Err(status)) => Err(ended(&status)),
        Err(_) => Err(Ended::Lost(format!(
            "the hub at {} does not answer",
            credentials.hub
        ))),
    }
}

fn hello<'a>(
    session: &'a Session,
    cluster: &Cluster,
    whole: impl Iterator<Item = &'a Arc<DesiredApplication>>,
) -> v1::Hello {
    let held = session.engine.held().borrow().clone();
    let name = |application: &Arc<DesiredApplication>| v1::HeldApplication {
        name: application.name.to_string(),
        digest: digest_bytes(application.digest()),
    };
    v1::Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kubernetes_version: cluster.kubernetes_version.clone(),
        cluster_uid: cluster.uid.clone(),
        instance: session.instance.clone(),
        generation: held.generation,
        desired_digest: match held.generation {
            0 => bytes::Bytes::new(),
            _ => digest_bytes(held.digest()),
        },
        applications: held
            .applications
            .iter()
            .map(name)
            .chain(whole.map(name))
            .collect(),
        answers: true,
        tries: true,
        serves: true,
        ..v1::Hello::default()
    }
}

/// An open session.
struct Open<'a> {
    session: &'a mut Session,
    transfer: &'a mut Transfer,
    hindered: &'a mut Hindered,
    /// What could not be kept is asked for again then.
    again_at: Option<Instant>,
    incoming: Streaming<v1::HubMessage>,
    rows: watch::Receiver<Arc<Rows>>,
    standing: watch::Receiver<Standing>,
    /// Why the engine can't write its ledger.
    hindrance: Told,
    /// Why the certificate is not kept.
    unkept: Told,
    to_say: ToSay,
    /// What the hub holds of the rows; `None`: it must be told everything.
    reported: Option<Arc<Rows>>,
    /// The key that a renewed certificate will be for.
    renewal: Option<CertificateRequest>,
    /// While something is being stored, no further message is read.
    in_hand: Option<BoxFuture<'static, Result<Held, Refused>>>,
    /// What people asked; it ends with the session.
    answering: JoinSet<v1::Answer>,
    /// What the cluster serves, of what the hub asked about in this session.
    serving: BoxStream<'static, v1::ApiVersions>,
}

/// A reason that a Hello told as it was then.
struct Told {
    newest: watch::Receiver<String>,
    told: String,
}

impl Told {
    fn now(mut newest: watch::Receiver<String>) -> Self {
        let told = newest.borrow_and_update().clone();
        Self { newest, told }
    }

    /// Returns when it is another one. Cancel-safe.
    async fn is_old(&mut self) {
        if self.newest.wait_for(|why| *why != self.told).await.is_err() {
            // Nobody is left to tell another one.
            std::future::pending::<()>().await;
        }
    }
}

/// What the hub is to be told, made into a message when there is room.
#[derive(Debug, Default)]
struct ToSay {
    accepted: Option<v1::Accepted>,
    renew: bool,
    report: bool,
    /// At most [`QUESTIONS`].
    answers: Vec<v1::Answer>,
    api_versions: Option<v1::ApiVersions>,
}

impl ToSay {
    fn anything(&self) -> bool {
        self.accepted.is_some()
            || self.renew
            || self.report
            || self.api_versions.is_some()
            || !self.answers.is_empty()
    }
}

impl Open<'_> {
    async fn run(
        mut self,
        outgoing: mpsc::Sender<v1::AgentMessage>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut rows_changed = false;
        let mut next_report = Instant::now();
        loop {
            let speak = self.to_say.anything();
            let busy = self.in_hand.is_some();
            let again_at = self.again_at.unwrap_or(next_report);
            let stored = async {
                match &mut self.in_hand {
                    Some(work) => work.await,
                    None => std::future::pending().await,
                }
            };
            // Every arm may be dropped: messages stay in the stream, changes in their watch, work in its place. In this
            // order, so that the same events give the same messages.
            tokio::select! {
                biased;
                _ = self.standing.changed() => {
                    if let Standing::Stopped(why) = &*self.standing.borrow_and_update() {
                        return Err(Ended::Stopped(why.clone()));
                    }
                }
                // A Hello says so, and that it is over.
                () = self.hindrance.is_old() => return Err(Ended::Hindered),
                () = self.unkept.is_old() => return Err(Ended::Hindered),
                stored = stored => {
                    self.in_hand = None;
                    self.stored(stored)?;
                }
                // One that panicked is logged by itself, and nobody waits longer than the hub's deadline.
                Some(answered) = self.answering.join_next() => {
                    self.to_say.answers.extend(answered.ok());
                }
                Some(served) = self.serving.next() => self.to_say.api_versions = Some(served),
                message = self.incoming.message(), if !busy => match message {
                    Ok(Some(message)) => self.heard(message)?,
                    Ok(None) => return Err(Ended::Lost("the hub closed the session".into())),
                    Err(status) => return Err(ended(&status)),
                },
                permit = outgoing.reserve(), if speak => match permit {
                    Ok(permit) => {
                        if let Some(message) = next(&mut self.to_say, &self.renewal, &mut self.reported, &mut self.rows) {
                            if matches!(message, agent_message::Message::Report(_)) {
                                next_report = Instant::now() + REPORT_PACE;
                            }
                            permit.send(say(message));
                        }
                    }
                    // The connection is gone; the stream that comes in knows why.
                    Err(_) => self.to_say = ToSay::default(),
                },
                changed = self.rows.changed(), if !rows_changed => match changed {
                    Ok(()) => rows_changed = true,
                    Err(_) => return Err(Ended::Stopped("the engine has ended".into())),
                },
                () = tokio::time::sleep_until(next_report), if rows_changed => {
                    rows_changed = false;
                    self.to_say.report = true;
                }
                () = tokio::time::sleep_until(again_at), if self.again_at.is_some() => {
                    return Err(Ended::Hindered);
                }
            }
        }
    }

    fn heard(&mut self, message: v1::HubMessage) -> Result<(), Ended> {
        use hub_message::Message;
        match message.message {
            Some(Message::Begin(begin)) => self.transfer.begin(begin),
            Some(Message::Objects(objects)) => {
                let taken = self.transfer.objects(objects);
                taken.map_err(|error| Ended::Lost(error.to_string()))?;
            }
            Some(Message::Done(done)) => {
                let held = self.session.engine.held().borrow().clone();
                let desired = self.transfer.done(&done, &held).map_err(|error| {
                    // Whatever the hub believes we hold: the next Hello tells.
                    *self.transfer = Transfer::default();
                    Ended::Lost(error.to_string())
                })?;
                let engine = self.session.engine.clone();
                self.in_hand = Some(async move { engine.accept(desired).await }.boxed());
            }
            Some(Message::FullReportWanted(_)) => {
                self.reported = None;
                self.to_say.report = true;
            }
            Some(Message::RenewalDue(_)) => self.renewal_due(),
            Some(Message::Renewed(renewed)) => self.renewed(renewed),
            Some(Message::Ask(ask)) => self.asked(ask),
            Some(Message::ApiVersionsAsked(asked)) => {
                let client = self.session.client.clone();
                self.to_say.api_versions = None;
                self.serving = serving::answers(client, &asked.api_versions).boxed();
            }
            // A newer hub's message; it knows our version.
            None => {}
        }
        Ok(())
    }

    fn asked(&mut self, ask: v1::Ask) {
        if self.answering.len() + self.to_say.answers.len() < QUESTIONS {
            let engine = self.session.engine.clone();
            let client = self.session.client.clone();
            self.answering.spawn(asking::answer(engine, client, ask));
        } else {
            // The hub waits for the others first.
            tracing::warn!("more is asked at once than is answered: a question is dropped");
        }
    }

    fn renewal_due(&mut self) {
        if self.renewal.is_none() {
            match CertificateRequest::new() {
                Ok(request) => self.renewal = Some(request),
                Err(error) => return tracing::error!(%error, "no new key can be made"),
            }
        }
        self.to_say.renew = true;
    }

    fn renewed(&mut self, renewed: v1::Renewed) {
        let Some(request) = self.renewal.take() else {
            return tracing::warn!("the hub sent a certificate that was not asked for");
        };
        let certificates = renewed
            .certificates_der
            .iter()
            .map(|der| der.to_vec())
            .collect();
        match request.renewed(certificates, &self.session.credentials) {
            Err(error) => {
                tracing::error!(%error, "the renewed certificate can't be used; the old one stays")
            }
            Ok(credentials) => {
                tracing::info!("the certificate was renewed; the next connection uses it");
                self.session.keeping.put(credentials.clone());
                self.session.credentials = credentials;
            }
        }
    }

    fn stored(&mut self, stored: Result<Held, Refused>) -> Result<(), Ended> {
        match stored {
            Ok(held) => {
                self.transfer.accepted();
                *self.hindered = Hindered::new(self.session.waits);
                tracing::info!(generation = held.generation, "a desired state was accepted");
                self.accepted(held, String::new());
            }
            Err(refused) => match refused {
                Refused::Older { .. } | Refused::OtherContent(_) => {
                    tracing::warn!(%refused, "a desired state was refused");
                    let held = self.session.engine.held().borrow().clone();
                    let held = Held {
                        generation: held.generation,
                        digest: held.digest(),
                    };
                    self.accepted(held, refused.to_string());
                }
                // The next Hello says so, and asks for what is the newest then. Until then this session reports.
                Refused::NotStored(_) => {
                    let pause = self.hindered.by(&refused, self.session.random);
                    self.again_at = Some(Instant::now() + pause);
                }
                Refused::Stopped(why) => return Err(Ended::Stopped(why)),
            },
        }
        Ok(())
    }

    fn accepted(&mut self, held: Held, refused: String) {
        self.to_say.accepted = Some(v1::Accepted {
            generation: held.generation,
            desired_digest: digest_bytes(held.digest),
            refused,
        });
    }
}

/// The next message, the most urgent first; `None` when there was nothing to tell after all.
fn next(
    to_say: &mut ToSay,
    renewal: &Option<CertificateRequest>,
    reported: &mut Option<Arc<Rows>>,
    rows: &mut watch::Receiver<Arc<Rows>>,
) -> Option<agent_message::Message> {
    use agent_message::Message;
    if let Some(accepted) = to_say.accepted.take() {
        return Some(Message::Accepted(accepted));
    }
    if std::mem::take(&mut to_say.renew) {
        let csr_der = renewal.as_ref()?.csr_der();
        return Some(Message::Renew(v1::RenewRequest { csr_der }));
    }
    if let Some(answer) = to_say.answers.pop() {
        return Some(Message::Answer(answer));
    }
    if let Some(api_versions) = to_say.api_versions.take() {
        return Some(Message::ApiVersions(api_versions));
    }
    to_say.report = false;
    let newest = rows.borrow().clone();
    // Before the engine has looked, there are no rows: that is no news of the cluster.
    if newest.generation() == 0 {
        return None;
    }
    let report = match reported {
        None => Some(newest.full_report()),
        Some(reported) => reported.report(&newest),
    };
    *reported = Some(newest);
    report.map(|report| Message::Report((&report).into()))
}

fn say(message: agent_message::Message) -> v1::AgentMessage {
    v1::AgentMessage {
        message: Some(message),
    }
}
