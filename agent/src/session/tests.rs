//! The session against a scripted hub, with the test playing the engine.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::tls::proxy::Proxies;
use muster_proto::wire::v1::{self, agent_message, hub_message};
use muster_proto::wire::{begin, digest_bytes, object_frames};
use muster_proto::{
    ApplicationStatus, Desired, DesiredApplication, Digest, DigestKey, HealthStatus, Object,
    Removals, Report, Rows, Settings, SyncStatus, Timestamp,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::{Session, by_tls, run};
use crate::backoff::{Waits, random};
use crate::credentials::{Credentials, Keeping, Place, keep};
use crate::engine::{self, Cluster, Held, Publish, Refused, Request, Standing, Stop};
use crate::scripted::{DEADLINE, ScriptedHub, Visit, client_that_answers, eventually};

/// An agent whose engine is the test.
struct Agent {
    asked: mpsc::Receiver<Request>,
    publish: Publish,
    instance: String,
    place: Place,
    _folder: tempfile::TempDir,
    session: AbortOnDropHandle<Credentials>,
    _keep: AbortOnDropHandle<()>,
}

impl Agent {
    /// Dials; its engine works.
    fn of(hub: &ScriptedHub) -> Self {
        Self::dialling(hub, hub.agents.to_string(), Proxies::default())
    }

    fn dialling(hub: &ScriptedHub, address: String, proxies: Proxies) -> Self {
        Self::with(hub, address, proxies, works())
    }

    /// Dials; its engine stands so.
    fn standing(hub: &ScriptedHub, standing: Standing) -> Self {
        Self::with(hub, hub.agents.to_string(), Proxies::default(), standing)
    }

    fn with(hub: &ScriptedHub, address: String, proxies: Proxies, standing: Standing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (engine, asked, publish) = engine::channel();
        publish.standing.send_replace(standing);
        let place = Place::Directory(folder.path().to_owned());
        let instance = uuid::Uuid::new_v4().to_string();
        let waits = Waits {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(20),
            rarely: Duration::from_millis(20),
            ..Waits::default()
        };
        let (keeping, keep) = keep(place.clone(), no_api_server(), waits, random);
        let session = Session {
            credentials: hub.ca.credentials("eu-1", &address),
            keeping,
            client: no_api_server(),
            dial: by_tls(proxies),
            engine,
            instance: instance.clone(),
            waits,
            random,
        };
        Self {
            asked,
            publish,
            instance,
            place,
            _folder: folder,
            session: AbortOnDropHandle::new(tokio::spawn(run(session))),
            _keep: AbortOnDropHandle::new(tokio::spawn(keep)),
        }
    }

    /// The next state that the engine is offered.
    async fn offered(&mut self) -> (Desired, oneshot::Sender<Result<Held, Refused>>) {
        match asked(&mut self.asked).await {
            Request::Accept(desired, answer) => (*desired, answer),
            Request::Stop(..) | Request::About(..) => panic!("no state was offered"),
        }
    }

    /// The certificate that is kept.
    async fn kept(&self) -> Option<Vec<u8>> {
        let kept = self.place.load(&no_api_server()).await.unwrap()?;
        Some(kept.for_tls().chain[0].to_vec())
    }

    /// Takes the next state, as the engine does.
    async fn accepts(&mut self) -> Desired {
        let (desired, answer) = self.offered().await;
        let held = Held {
            generation: desired.generation,
            digest: desired.digest(),
        };
        self.publish.held.send_replace(Arc::new(desired.clone()));
        answer.send(Ok(held)).unwrap();
        desired
    }
}

fn no_api_server() -> kube::Client {
    client_that_answers(|_| panic!("a session asks no API server"))
}

/// Of a session that is renewed nothing.
fn keeps_nothing() -> Keeping {
    let nowhere = Place::Directory("unused".into());
    keep(nowhere, no_api_server(), Waits::default(), random).0
}

fn works() -> Standing {
    Standing::Working(Cluster {
        uid: "uid-1".into(),
        kubernetes_version: "v1.37.2".into(),
    })
}

async fn asked(requests: &mut mpsc::Receiver<Request>) -> Request {
    let request = tokio::time::timeout(DEADLINE, requests.recv()).await;
    request
        .expect("the engine is asked nothing")
        .expect("the session holds its handle")
}

fn application(name: &str, data: &str) -> Arc<DesiredApplication> {
    let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": data}});
    let object = Arc::new(Object::new(&value, &DigestKey::new([0; 32])).unwrap());
    Arc::new(DesiredApplication::new(
        name.parse().unwrap(),
        "r1".into(),
        Settings::default(),
        vec![object],
    ))
}

fn desired(generation: u64, applications: &[Arc<DesiredApplication>]) -> Desired {
    Desired::new(
        generation,
        applications.to_vec(),
        Removals::Released,
        Vec::new(),
    )
}

fn rows(generation: u64, synced: &[(&str, u32)]) -> Rows {
    let row = |(name, synced): &(&str, u32)| ApplicationStatus {
        application: name.parse().unwrap(),
        digest: Digest::ZERO,
        revision: "r1".into(),
        sync: SyncStatus::Synced,
        health: HealthStatus::Current,
        message: String::new(),
        objects: 1,
        synced: *synced,
        healthy: 1,
        waiting: 0,
        unapproved: 0,
        since: Timestamp(0),
    };
    Rows::new(generation, synced.iter().map(row), [])
}

/// Sends a whole state of which the agent holds `held`.
async fn send(visit: &Visit, state: &Desired, held: &[&str]) {
    let has = |application: &DesiredApplication| held.contains(&application.name.as_str());
    visit
        .say(hub_message::Message::Begin(begin(state, has)))
        .await;
    let lacking = state
        .applications
        .iter()
        .filter(|application| !has(application));
    for frame in object_frames(lacking.flat_map(|application| application.objects())) {
        visit.say(hub_message::Message::Objects(frame)).await;
    }
    visit.say(done(state)).await;
}

fn done(state: &Desired) -> hub_message::Message {
    hub_message::Message::Done(v1::Done {
        digest: digest_bytes(state.digest()),
    })
}

async fn accepted(visit: &mut Visit) -> v1::Accepted {
    match visit.hear().await {
        agent_message::Message::Accepted(accepted) => accepted,
        other => panic!("expected Accepted, heard {other:?}"),
    }
}

async fn report(visit: &mut Visit) -> Report {
    match visit.hear().await {
        agent_message::Message::Report(report) => report.try_into().unwrap(),
        other => panic!("expected a report, heard {other:?}"),
    }
}

#[tokio::test]
async fn states_come_in_and_are_answered() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    let identity = visit.peer.identity.as_ref().unwrap().to_string();
    assert_eq!(identity, "spiffe://muster.test/cluster/eu-1");
    assert_eq!(
        visit.hello,
        v1::Hello {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            kubernetes_version: "v1.37.2".into(),
            cluster_uid: "uid-1".into(),
            instance: agent.instance.clone(),
            answers: true,
            tries: true,
            serves: true,
            ..Default::default()
        }
    );

    let (a, b) = (application("a", "1"), application("b", "1"));
    for (state, held) in [
        (desired(1, std::slice::from_ref(&a)), [].as_slice()),
        (desired(2, &[a.clone(), b.clone()]), &["a"]),
        (desired(3, &[a, application("b", "2")]), &["a"]),
        (desired(4, &[b]), &[]),
    ] {
        send(&visit, &state, held).await;
        assert_eq!(agent.accepts().await, state);
        let expected = v1::Accepted {
            generation: state.generation,
            desired_digest: digest_bytes(state.digest()),
            refused: String::new(),
        };
        assert_eq!(accepted(&mut visit).await, expected);
    }
}

#[tokio::test]
async fn a_refused_state_is_answered_with_the_one_that_is_held() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    let held = desired(5, &[application("a", "1")]);
    send(&visit, &held, &[]).await;
    agent.accepts().await;
    accepted(&mut visit).await;

    send(&visit, &desired(4, &[application("a", "1")]), &["a"]).await;
    let (_, answer) = agent.offered().await;
    let older = Refused::Older {
        offered: 4,
        held: 5,
    };
    answer.send(Err(older.clone())).unwrap();
    let expected = v1::Accepted {
        generation: 5,
        desired_digest: digest_bytes(held.digest()),
        refused: older.to_string(),
    };
    assert_eq!(accepted(&mut visit).await, expected);
}

#[tokio::test]
async fn reports_say_what_changed_and_everything_when_it_is_wanted() {
    let mut hub = ScriptedHub::start().await;
    let agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    let mut held = Rows::default();

    let first = rows(1, &[("a", 0), ("b", 0)]);
    agent.publish.rows.send_replace(Arc::new(first.clone()));
    let full = report(&mut visit).await;
    assert!(full.full);
    assert!(held.take_in(full));

    // Of a burst, the newest arrives.
    for synced in 0..50 {
        let newer = rows(1, &[("a", 0), ("b", synced)]);
        agent.publish.rows.send_replace(Arc::new(newer));
    }
    let last = rows(1, &[("a", 0), ("b", 49)]);
    let mut reports = 0;
    while held != last {
        let delta = report(&mut visit).await;
        assert!(!delta.full);
        assert_eq!(delta.applications.len(), 1, "only b changed");
        assert!(held.take_in(delta));
        reports += 1;
    }
    assert!(reports < 10, "{reports} reports for one burst");

    visit
        .say(hub_message::Message::FullReportWanted(
            v1::FullReportWanted {},
        ))
        .await;
    let full = report(&mut visit).await;
    assert_eq!((full.full, full.applications.len()), (true, 2));
}

#[tokio::test]
async fn rows_are_no_news_before_the_engine_has_looked() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    let state = desired(1, &[application("a", "1")]);
    send(&visit, &state, &[]).await;
    agent.accepts().await;
    // Would be the second message if the empty rows had been reported.
    accepted(&mut visit).await;
    agent
        .publish
        .rows
        .send_replace(Arc::new(rows(1, &[("a", 1)])));
    let first = report(&mut visit).await;
    assert_eq!((first.full, first.applications.len()), (true, 1));
}

#[tokio::test]
async fn an_interrupted_transfer_goes_on_where_it_was_and_the_first_report_is_full_again() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let (a, b) = (application("a", "1"), application("b", "1"));
    let state = desired(1, &[a.clone(), b.clone()]);
    agent
        .publish
        .rows
        .send_replace(Arc::new(rows(1, &[("a", 0)])));

    let mut visit = hub.visit().await;
    assert!(report(&mut visit).await.full);
    visit
        .say(hub_message::Message::Begin(begin(&state, |_| false)))
        .await;
    for frame in object_frames(a.objects()) {
        visit.say(hub_message::Message::Objects(frame)).await;
    }
    let lost = Status::unavailable("the hub restarts");
    visit.end(lost, "none").await;

    let mut visit = hub.visit().await;
    let named = v1::HeldApplication {
        name: "a".into(),
        digest: digest_bytes(a.digest()),
    };
    assert_eq!(visit.hello.applications, [named]);
    assert_eq!(visit.hello.generation, 0);
    assert!(report(&mut visit).await.full);
    send(&visit, &state, &["a"]).await;
    assert_eq!(agent.accepts().await, state);
    accepted(&mut visit).await;
    drop(visit);

    let visit = hub.visit().await;
    assert_eq!(visit.hello.generation, 1);
    assert_eq!(visit.hello.desired_digest, digest_bytes(state.digest()));
    assert_eq!(visit.hello.applications.len(), 2);
}

#[tokio::test]
async fn a_hub_that_was_away_is_found_again() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    drop(hub.visit().await);
    let mut hub = hub.restart().await;
    let visit = hub.visit().await;
    let state = desired(1, &[application("a", "1")]);
    send(&visit, &state, &[]).await;
    assert_eq!(agent.accepts().await, state);
}

#[tokio::test]
async fn a_hub_that_counts_on_what_is_not_here_is_told_by_the_next_hello() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let visit = hub.visit().await;
    let state = desired(1, &[application("a", "1")]);
    send(&visit, &state, &["a"]).await;
    visit.gone().await;
    let visit = hub.visit().await;
    assert_eq!(visit.hello.applications, []);
    send(&visit, &state, &[]).await;
    assert_eq!(agent.accepts().await, state);
}

#[tokio::test]
async fn a_state_that_the_cluster_can_not_store_is_asked_for_again() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let visit = hub.visit().await;
    let state = desired(1, &[application("a", "1")]);
    send(&visit, &state, &[]).await;
    let (_, answer) = agent.offered().await;
    answer
        .send(Err(Refused::NotStored("no API server".into())))
        .unwrap();
    visit.gone().await;
    let mut visit = hub.visit().await;
    assert_eq!(
        visit.hello.hindrance,
        "the desired state could not be stored in the cluster: no API server"
    );
    assert_eq!(visit.hello.generation, 0);
    send(&visit, &state, &[]).await;
    assert_eq!(agent.accepts().await, state);
    assert_eq!(accepted(&mut visit).await.generation, 1);
    drop(visit);
    assert_eq!(hub.visit().await.hello.hindrance, "");
}

#[tokio::test]
async fn what_keeps_the_ledger_from_being_written_is_told_while_it_does() {
    let mut hub = ScriptedHub::start().await;
    let agent = Agent::of(&hub);
    let visit = hub.visit().await;
    assert_eq!(visit.hello.hindrance, "");
    for why in ["no room", "no right", ""] {
        agent.publish.hindrance.send_replace(why.into());
        let visit = hub.visit().await;
        assert_eq!(visit.hello.hindrance, why);
        assert_eq!(visit.hello.idle, "");
    }
}

#[tokio::test]
async fn what_keeps_an_agent_from_beginning_is_told_until_it_begins() {
    let mut hub = ScriptedHub::start().await;
    let agent = Agent::standing(&hub, Standing::Starting("no room".into()));
    let visit = hub.visit().await;
    assert_eq!(
        (visit.hello.idle.as_str(), visit.hello.idle_for_good),
        ("no room", true)
    );
    assert_eq!(visit.hello.generation, 0);
    let other = Standing::Starting("no right".into());
    agent.publish.standing.send_replace(other);
    visit.gone().await;
    let visit = hub.visit().await;
    assert_eq!(visit.hello.idle, "no right");
    agent.publish.standing.send_replace(works());
    visit.gone().await;
    assert_eq!(hub.visit().await.hello.idle, "");
}

#[tokio::test]
async fn a_renewed_certificate_is_kept_and_used_by_the_next_connection() {
    let mut hub = ScriptedHub::start().await;
    let agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    let first = visit.peer.certificate.clone().unwrap();
    let mut asked = Vec::new();
    // Asked twice, it offers the same key.
    for _ in 0..2 {
        visit
            .say(hub_message::Message::RenewalDue(v1::RenewalDue {}))
            .await;
        match visit.hear().await {
            agent_message::Message::Renew(request) => asked.push(request.csr_der),
            other => panic!("expected a request, heard {other:?}"),
        }
    }
    assert_eq!(asked[0], asked[1]);
    let certificates = hub.ca.sign(&asked[0], "eu-1");
    let leaf = certificates[0].clone();
    assert_ne!(leaf, first.to_vec());
    visit.say(renewed(certificates)).await;
    let lost = Status::unavailable("the hub restarts");
    visit.end(lost, "none").await;

    let visit = hub.visit().await;
    assert_eq!(visit.peer.certificate.unwrap().to_vec(), leaf);
    eventually("it is kept", async || {
        (agent.kept().await? == leaf).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_renewed_certificate_that_can_not_be_kept_is_used_and_told_until_it_is_kept() {
    let mut hub = ScriptedHub::start().await;
    let agent = Agent::of(&hub);
    let Place::Directory(directory) = &agent.place else {
        panic!("its credentials are in a directory");
    };
    let in_the_way = directory.join("credentials.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut visit = hub.visit().await;
    assert_eq!(visit.hello.unkept, "");
    let leaf = renew(&hub, &mut visit).await;

    visit.gone().await;
    let visit = hub.visit().await;
    let told = format!("the credentials can't be kept in {}", agent.place);
    assert!(
        visit.hello.unkept.starts_with(&told),
        "{}",
        visit.hello.unkept
    );
    assert_eq!((&*visit.hello.hindrance, &*visit.hello.idle), ("", ""));
    assert_eq!(visit.peer.certificate.as_ref().unwrap().to_vec(), leaf);
    std::fs::remove_dir(in_the_way).unwrap();

    visit.gone().await;
    let visit = hub.visit().await;
    assert_eq!(visit.hello.unkept, "");
    assert_eq!(visit.peer.certificate.unwrap().to_vec(), leaf);
    assert_eq!(agent.kept().await.unwrap(), leaf);
}

/// Renews the agent's certificate; the new one.
async fn renew(hub: &ScriptedHub, visit: &mut Visit) -> Vec<u8> {
    visit
        .say(hub_message::Message::RenewalDue(v1::RenewalDue {}))
        .await;
    let agent_message::Message::Renew(request) = visit.hear().await else {
        panic!("expected a request");
    };
    let certificates = hub.ca.sign(&request.csr_der, "eu-1");
    let leaf = certificates[0].clone();
    visit.say(renewed(certificates)).await;
    leaf
}

fn renewed(certificates: Vec<Vec<u8>>) -> hub_message::Message {
    hub_message::Message::Renewed(v1::Renewed {
        certificates_der: certificates.into_iter().map(Into::into).collect(),
    })
}

#[tokio::test]
async fn a_renewed_certificate_in_another_name_is_not_used() {
    let mut hub = ScriptedHub::start().await;
    let _agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    let first = visit.peer.certificate.clone().unwrap();
    visit
        .say(hub_message::Message::RenewalDue(v1::RenewalDue {}))
        .await;
    let agent_message::Message::Renew(request) = visit.hear().await else {
        panic!("expected a request");
    };
    visit
        .say(renewed(hub.ca.sign(&request.csr_der, "us-1")))
        .await;
    visit
        .end(Status::unavailable("the hub restarts"), "none")
        .await;
    assert_eq!(hub.visit().await.peer.certificate.unwrap(), first);
}

#[tokio::test]
async fn a_removed_cluster_stops_its_engine_and_asks_rarely_until_it_is_let_in() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let removed = || Status::permission_denied("eu-1 was removed");
    hub.visit().await.end(removed(), "removed-keep").await;
    match asked(&mut agent.asked).await {
        Request::Stop(why, answer) => {
            assert_eq!(why, Stop::Removed);
            answer.send(()).unwrap();
        }
        Request::Accept(..) | Request::About(..) => panic!("nothing was sent"),
    }
    for _ in 0..2 {
        let visit = hub.visit().await;
        assert_eq!(visit.hello.applications, []);
        // Without it the hub takes it for an agent of another cluster.
        assert_eq!(visit.hello.cluster_uid, "uid-1");
        visit.end(removed(), "removed-keep").await;
    }
    assert!(!agent.session.is_finished());
    let visit = hub.visit().await;
    send(&visit, &desired(1, &[]), &[]).await;
    let credentials = tokio::time::timeout(DEADLINE, &mut agent.session)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(credentials.cluster.as_str(), "eu-1");
}

#[tokio::test]
async fn an_agent_that_is_turned_away_dials_again_and_its_engine_goes_on() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    for (status, reason) in [
        (Status::permission_denied("revoked"), "revoked"),
        (Status::unavailable("restarting"), "none"),
    ] {
        hub.visit().await.end(status, reason).await;
    }
    let visit = hub.visit().await;
    send(&visit, &desired(1, &[application("a", "1")]), &[]).await;
    agent.accepts().await;
}

#[tokio::test]
async fn somebody_who_is_not_the_hub_hears_nothing() {
    let mut hub = ScriptedHub::start().await;
    let impostor = ScriptedHub::start().await;
    let (engine, _asked, _publish) = engine::channel();
    let session = Session {
        credentials: hub.ca.credentials("eu-1", &impostor.agents.to_string()),
        keeping: keeps_nothing(),
        client: no_api_server(),
        dial: by_tls(Proxies::default()),
        engine,
        instance: "i".into(),
        waits: Waits::default(),
        random,
    };
    let ended = super::stream::probe(&session, "uid-1").await.unwrap_err();
    let super::ended::Ended::Lost(why) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(
        why,
        format!(
            "{} is not the hub: its certificate comes from another CA",
            impostor.agents
        )
    );
    assert!(hub.visit_now().is_none());
}

#[tokio::test]
async fn the_hub_is_reached_through_a_proxy() {
    let mut hub = ScriptedHub::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let to = hub.agents;
    let _proxy = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::io::AsyncReadExt::read_u8(&mut client).await.unwrap());
        }
        assert!(head.starts_with(b"CONNECT hub.invalid:7443 HTTP/1.1\r\n"));
        let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut client, answer)
            .await
            .unwrap();
        let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
        let _either_end_closed = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }));
    let proxies = Proxies::parse(&format!("http://{proxy}"), "").unwrap();
    let _agent = Agent::dialling(&hub, "hub.invalid:7443".into(), proxies);
    assert_eq!(hub.visit().await.hello.cluster_uid, "uid-1");
}

#[tokio::test]
async fn an_expired_certificate_is_told_as_that() {
    let hub = ScriptedHub::start().await;
    let (engine, _asked, _publish) = engine::channel();
    let held = hub.ca.credentials("eu-1", &hub.agents.to_string());
    let request = crate::credentials::CertificateRequest::new().unwrap();
    let expired = hub.ca.sign_until(&request.csr_der(), "eu-1", 2001);
    let session = Session {
        credentials: request.renewed(expired, &held).unwrap(),
        keeping: keeps_nothing(),
        client: no_api_server(),
        dial: by_tls(Proxies::default()),
        engine,
        instance: "i".into(),
        waits: Waits::default(),
        random,
    };
    let ended = super::stream::probe(&session, "uid-1").await.unwrap_err();
    let why = "the hub refuses the certificate: received fatal alert: CertificateExpired";
    assert_eq!(ended, super::ended::Ended::TurnedAway(why.into()));
}

mod asking;
mod two_agents;
