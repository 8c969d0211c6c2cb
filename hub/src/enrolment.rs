//! The enrolment listener's service: a join token against a certificate.
//!
//! In: a token's secret and a signing request of which only the public key is taken. Out: a certificate for the name
//! that the token was made for, remembered as the only good one before it is handed out. Guessing is hopeless (256 bits), but costs work, so
//! each address may be wrong only so often.

mod guesses;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use muster_proto::Timestamp;
use muster_proto::tls::acceptor::{Connection, Peer};
use muster_proto::wire::v1::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use muster_proto::wire::v1::{EnrolRequest, EnrolResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::ca::{Ca, SigningRequest};
use crate::clock::{self, Clock};
use crate::fleet::{Fleet, TokenRefused};
use crate::listen::{self, Http};
use guesses::Guesses;

/// What enrolment needs.
pub struct Enrolment {
    /// Remembers.
    pub fleet: Fleet,
    /// Signs.
    pub ca: Arc<Ca>,
    /// Tells when tokens and certificates end.
    pub clock: Clock,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// Serves clusters that come over these connections to join, until `shutdown`.
///
/// # Errors
/// When the server breaks down.
pub async fn serve<S>(
    enrolment: Enrolment,
    connections: impl Stream<Item = io::Result<Connection<S>>>,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shutdown = enrolment.shutdown.clone();
    let service = EnrolmentServiceServer::new(Service {
        enrolment,
        guesses: Mutex::default(),
    });
    listen::serve(connections, Http::Two, Routes::new(service), shutdown).await
}

struct Service {
    enrolment: Enrolment,
    guesses: Mutex<Guesses>,
}

impl Service {
    fn now(&self) -> Timestamp {
        (self.enrolment.clock)()
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl EnrolmentService for Service {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let peer = request.extensions().get::<Peer>();
        let address = peer
            .and_then(|peer| peer.address)
            .map(|address| address.ip());
        let EnrolRequest {
            secret,
            csr_der,
            cluster_uid,
        } = request.into_inner();
        if let Some(address) = address
            && !self.guesses().may_try(address, self.now())
        {
            return Err(Status::resource_exhausted(
                "too many wrong join tokens came from this address: try again in a minute",
            ));
        }
        // A broken request must not use the token up.
        let request = SigningRequest::read(&csr_der)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if cluster_uid.is_empty() || cluster_uid.len() > 256 {
            return Err(Status::invalid_argument(
                "cluster_uid: the UID of the namespace kube-system, 1 to 256 characters",
            ));
        }
        let (ca, now) = (self.enrolment.ca.clone(), clock::date(self.now()));
        let certify = move |cluster: &_| ca.certify_agent(&request, cluster, now);
        let fleet = &self.enrolment.fleet;
        let redeemed = fleet.redeem_token(secret, cluster_uid, certify).await;
        let (cluster, issued) = redeemed.map_err(|refused| self.refuse(refused, address))?;
        tracing::info!(%cluster, serial = issued.serial, "a cluster joined");
        Ok(Response::new(EnrolResponse {
            cluster: cluster.to_string(),
            certificates_der: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
        }))
    }
}

impl Service {
    fn refuse(&self, refused: TokenRefused, address: Option<IpAddr>) -> Status {
        tracing::warn!(?address, reason = %refused, "a join token was refused");
        let message = refused.to_string();
        match refused {
            TokenRefused::Unavailable(_) => return Status::unavailable(message),
            TokenRefused::Unknown => {}
            TokenRefused::Used(_) | TokenRefused::Expired(_) => {
                // Somebody who once had a good token: no guess.
                return Status::permission_denied(message);
            }
        }
        if let Some(address) = address {
            self.guesses().wrong(address, self.now());
        }
        Status::permission_denied(message)
    }
}
