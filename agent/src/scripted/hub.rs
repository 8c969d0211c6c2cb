//! A hub in the hands of a test: real listeners with the real acceptor; what is said to agents is the test's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_proto::tls::acceptor::{Peer, accept, agents_config, token_config};
use muster_proto::wire::v1::agent_service_server::{AgentService, AgentServiceServer};
use muster_proto::wire::v1::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use muster_proto::wire::v1::{
    AgentMessage, EnrolRequest, EnrolResponse, Hello, HubMessage, agent_message, hub_message,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status, Streaming};

use super::TestCa;

/// Nothing here takes longer, unless it never comes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What the enrolment listener answers.
type Enrol = dyn Fn(EnrolRequest) -> Result<EnrolResponse, Status> + Send + Sync;

pub(crate) struct ScriptedHub {
    pub(crate) ca: Arc<TestCa>,
    pub(crate) agents: SocketAddr,
    pub(crate) enrolment: SocketAddr,
    visits: mpsc::Receiver<Visit>,
    enrol: Arc<Mutex<Box<Enrol>>>,
    server: tokio::task::JoinHandle<()>,
}

/// One session of an agent, as the hub sees it.
pub(crate) struct Visit {
    pub(crate) hello: Hello,
    pub(crate) peer: Peer,
    pub(crate) to_agent: mpsc::Sender<Result<HubMessage, Status>>,
    from_agent: Streaming<AgentMessage>,
}

impl ScriptedHub {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(TestCa::new()), "127.0.0.1:0".parse().unwrap()).await
    }

    /// The same hub again: on the same address, with the same CA.
    pub(crate) async fn restart(self) -> Self {
        let (ca, agents) = (self.ca.clone(), self.agents);
        drop(self);
        Self::start_with(ca, agents).await
    }

    async fn start_with(ca: Arc<TestCa>, address: SocketAddr) -> Self {
        let (visitors, visits) = mpsc::channel(8);
        let refuse: Box<Enrol> = Box::new(|_| Err(Status::permission_denied("not scripted")));
        let enrol = Arc::new(Mutex::new(refuse));
        let (chain, key) = ca.hub();
        let trust_domain = "muster.test".to_owned();
        let agents_tls = agents_config(chain, key, ca.der(), trust_domain).unwrap();
        let (chain, key) = ca.hub();
        let enrolment_tls = token_config(chain, key).unwrap();
        // A listener that just closed may hold its address for a moment.
        let agents = super::eventually("the address is free", async || {
            TcpListener::bind(address).await.ok()
        })
        .await;
        let enrolment = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (
            agents.local_addr().unwrap(),
            enrolment.local_addr().unwrap(),
        );
        let agent_service = AgentServiceServer::new(Sessions(visitors))
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Zstd);
        let enrolment_service = EnrolmentServiceServer::new(Enrolment(enrol.clone()));
        let server = tokio::spawn(async move {
            // The configurations never change: their senders may go.
            let agents = accept(agents, watch::channel(agents_tls).1);
            let enrolment = accept(enrolment, watch::channel(enrolment_tls).1);
            let (agents, enrolment) = tokio::join!(
                tonic::transport::Server::builder()
                    .add_service(agent_service)
                    .serve_with_incoming(agents),
                tonic::transport::Server::builder()
                    .add_service(enrolment_service)
                    .serve_with_incoming(enrolment),
            );
            agents.and(enrolment).unwrap();
        });
        Self {
            ca,
            agents: addresses.0,
            enrolment: addresses.1,
            visits,
            enrol,
            server,
        }
    }

    /// From now on, enrolments are answered so.
    pub(crate) fn enrols(
        &self,
        answer: impl Fn(EnrolRequest) -> Result<EnrolResponse, Status> + Send + Sync + 'static,
    ) {
        *self.enrol.lock().unwrap() = Box::new(answer);
    }

    /// The next session that an agent opens.
    pub(crate) async fn visit(&mut self) -> Visit {
        let visit = tokio::time::timeout(DEADLINE, self.visits.recv()).await;
        visit.expect("no agent came").expect("the hub runs")
    }

    /// A session that was opened already.
    pub(crate) fn visit_now(&mut self) -> Option<Visit> {
        self.visits.try_recv().ok()
    }
}

impl Drop for ScriptedHub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Visit {
    pub(crate) async fn say(&self, message: hub_message::Message) {
        let message = HubMessage {
            message: Some(message),
        };
        self.to_agent
            .send(Ok(message))
            .await
            .expect("the session is open");
    }

    /// Ends the session with a status and a `muster-reason`.
    pub(crate) async fn end(self, mut status: Status, reason: &'static str) {
        status
            .metadata_mut()
            .insert("muster-reason", reason.parse().unwrap());
        self.to_agent
            .send(Err(status))
            .await
            .expect("the session is open");
    }

    /// The next message of the agent.
    pub(crate) async fn hear(&mut self) -> agent_message::Message {
        let message = tokio::time::timeout(DEADLINE, self.from_agent.message()).await;
        let message = message
            .expect("the agent says nothing")
            .expect("the session is open");
        message
            .expect("the agent has more to say")
            .message
            .expect("a message says something")
    }

    /// Waits until the agent is gone.
    pub(crate) async fn gone(mut self) {
        let gone = async { while let Ok(Some(_)) = self.from_agent.message().await {} };
        tokio::time::timeout(DEADLINE, gone)
            .await
            .expect("the agent stays");
    }
}

struct Sessions(mpsc::Sender<Visit>);

#[tonic::async_trait]
impl AgentService for Sessions {
    type SessionStream = ReceiverStream<Result<HubMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the acceptor tells who it is"))?;
        let mut from_agent = request.into_inner();
        let first = from_agent
            .message()
            .await?
            .and_then(|message| message.message);
        let Some(agent_message::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("Hello comes first"));
        };
        let (to_agent, messages) = mpsc::channel(16);
        let visit = Visit {
            hello,
            peer,
            to_agent,
            from_agent,
        };
        let _the_test_is_over = self.0.send(visit).await;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

struct Enrolment(Arc<Mutex<Box<Enrol>>>);

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let answer = (self.0.lock().unwrap())(request.into_inner());
        answer.map(Response::new)
    }
}
