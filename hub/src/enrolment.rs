//! The enrolment listener's service: a join token against a certificate.
//!
//! In: a token's secret and a signing request of which only the public key is taken. Out: a certificate for the name
//! that the token was made for, remembered before it is handed out. Guessing is hopeless (256 bits), but costs work, so
//! each address may be wrong only so often.

mod guesses;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use muster_proto::tls::acceptor::Peer;
use muster_proto::wire::v1::enrolment_service_server::EnrolmentService;
use muster_proto::wire::v1::{EnrolRequest, EnrolResponse};
use tonic::{Request, Response, Status};

use crate::ca::{Ca, SigningRequest};
use crate::clock::Clock;
use crate::fleet::{Certificate, Fleet, TokenRefused};
use guesses::Guesses;

/// What enrolment needs.
pub(crate) struct Enrolment {
    fleet: Fleet,
    ca: Arc<Ca>,
    clock: Clock,
    guesses: Mutex<Guesses>,
}

impl Enrolment {
    /// A service that signs with `ca` and remembers in `fleet`.
    pub(crate) fn new(fleet: Fleet, ca: Arc<Ca>, clock: Clock) -> Self {
        Self {
            fleet,
            ca,
            clock,
            guesses: Mutex::default(),
        }
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        self.guesses
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
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
            && !self.guesses().may_try(address, (self.clock)())
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
        let cluster = match self.fleet.redeem_token(secret, cluster_uid).await {
            Ok(cluster) => cluster,
            Err(refused) => return Err(self.refuse(refused, address)),
        };
        let issued = self.ca.certify_agent(&request, &cluster, SystemTime::now());
        let certificate = Certificate {
            serial: issued.serial.clone(),
            not_after: issued.ends,
        };
        self.fleet
            .certificate_issued(cluster.clone(), certificate)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        tracing::info!(%cluster, serial = issued.serial, "a cluster joined");
        Ok(Response::new(EnrolResponse {
            cluster: cluster.to_string(),
            certificates_der: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
        }))
    }
}

impl Enrolment {
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
            self.guesses().wrong(address, (self.clock)());
        }
        Status::permission_denied(message)
    }
}
