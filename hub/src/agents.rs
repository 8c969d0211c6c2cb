//! The agents listener's service: one session per connected agent.
//!
//! In: what an agent says, whose name its certificate told in the handshake; its cluster's desired state, watched. Out:
//! what the agent lacks, its reports to the fleet, a new certificate when the old one is old. A session holds no
//! content of its own, and every channel of it holds one or two messages: a slow agent slows itself only.

mod outgoing;
mod questions;
mod session;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::ClusterName;
use muster_proto::tls::Role;
use muster_proto::tls::acceptor::{Connection, Peer};
use muster_proto::wire::v1::agent_service_server::{AgentService, AgentServiceServer};
use muster_proto::wire::v1::{AgentMessage, HubMessage};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding::Zstd;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::ca::Ca;
use crate::clock::Clock;
use crate::fleet::{Closed, Fleet, Refused};
use crate::listen::{self, Http};

/// Name of the metadata that tells a program why a session was refused or ended.
const REASON: &str = "muster-reason";
/// A session's last word waits no longer than this for an agent that does not read.
const FAREWELL: Duration = Duration::from_secs(5);

/// Reports of clusters in bad shape are long; everything else an agent says is short.
const LARGEST_REPORT: usize = 16 << 20;

/// What sessions need.
#[derive(Clone)]
pub struct Agents {
    /// The owner of all state.
    pub fleet: Fleet,
    /// Renews certificates.
    pub ca: Arc<Ca>,
    /// Tells when certificates are old or over.
    pub clock: Clock,
    /// Ends all sessions.
    pub shutdown: CancellationToken,
}

/// Serves agents that come over these connections, until `shutdown`.
///
/// # Errors
/// When the server breaks down.
pub async fn serve<S>(
    agents: Agents,
    connections: impl Stream<Item = io::Result<Connection<S>>>,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shutdown = agents.shutdown.clone();
    let service = AgentServiceServer::new(agents)
        .accept_compressed(Zstd)
        .send_compressed(Zstd)
        .max_decoding_message_size(LARGEST_REPORT);
    listen::serve(connections, Http::Two, Routes::new(service), shutdown).await
}

/// Who is at the other end of a session: told by the handshake, by no message.
struct Caller {
    cluster: ClusterName,
    certificate: CertificateDer<'static>,
    peer: Peer,
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = ReceiverStream<Result<HubMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request)?;
        let span = tracing::info_span!("session", cluster = %caller.cluster);
        let (to_agent, messages) = mpsc::channel(1);
        let agents = self.clone();
        let from_agent = request.into_inner();
        let session = async move {
            let ended = session::run(&agents, caller, from_agent, &to_agent).await;
            match ended {
                Ok(()) => tracing::info!("the agent left"),
                Err(status) => {
                    tracing::info!(code = ?status.code(), reason = status.message(), "the session ended");
                    let farewell = to_agent.send(Err(status));
                    // An agent that does not read learns of it by its broken connection.
                    tokio::time::timeout(FAREWELL, farewell).await.ok();
                }
            }
        };
        tokio::spawn(session.instrument(span));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.ok_or_else(|| Status::internal("the connection has no identity"))?;
    let (Some(identity), Some(certificate)) = (peer.identity.clone(), peer.certificate.clone())
    else {
        return Err(Status::unauthenticated(
            "an agent shows a certificate of the hub's CA",
        ));
    };
    match identity.role {
        Role::Cluster(cluster) => Ok(Caller {
            cluster,
            certificate,
            peer,
        }),
        Role::Hub => Err(Status::permission_denied("a hub is no agent")),
    }
}

impl From<Closed> for Status {
    fn from(closed: Closed) -> Self {
        let (code, reason) = match closed {
            Closed::Superseded => (Code::Aborted, "superseded"),
            // It is old news by the time it is heard.
            Closed::Reconnected => (Code::Unavailable, "reconnected"),
            Closed::Free => (Code::Unavailable, "free"),
            Closed::Removed => (Code::PermissionDenied, "removed-keep"),
            Closed::Revoked => (Code::PermissionDenied, "revoked"),
        };
        with_reason(code, closed.to_string(), reason)
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let (code, reason) = match refused {
            Refused::Removed => (Code::PermissionDenied, "removed-keep"),
            Refused::Revoked => (Code::PermissionDenied, "revoked"),
            Refused::OtherCluster { .. } => (Code::PermissionDenied, "other-cluster"),
            Refused::Free => (Code::Unavailable, "free"),
            Refused::Unavailable(_) => return Self::unavailable(refused.to_string()),
        };
        with_reason(code, refused.to_string(), reason)
    }
}

fn with_reason(code: Code, message: String, reason: &'static str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON, MetadataValue::from_static(reason));
    Status::with_metadata(code, message, metadata)
}
