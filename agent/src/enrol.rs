//! Enrolment: a one-time join token against a certificate, over a connection that the token pins to its hub.
//!
//! In: the token and the cluster's UID. Out: credentials, to be kept before they are used. Whatever another try can
//! mend is tried again, with a line in the log each time; whatever a person must mend ends it.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use muster_proto::Digest;
use muster_proto::join_token::JoinToken;
use muster_proto::tls::connector::{ConnectError, Trust, connect_through};
use muster_proto::tls::proxy::Proxies;
use muster_proto::wire::v1::EnrolRequest;
use muster_proto::wire::v1::enrolment_service_client::EnrolmentServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::backoff::{Backoff, random};
use crate::config::Options;
use crate::credentials::{CertificateRequest, Credentials};

/// An answer that takes longer is given up.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A person must do something.
    #[error("{0}")]
    Refused(String),
    /// Another try may help.
    #[error("{0}")]
    Unreachable(String),
}

/// How one gets to a hub before one is a member.
#[derive(Clone)]
pub struct Way {
    /// Opens a connection to the enrolment listener at this address, of the hub that the token pins.
    pub dial: Dial,
    /// Evenly in `0.0..1.0`: spreads the tries of many.
    pub random: fn() -> f64,
}

/// Opens a connection to an enrolment listener.
pub type Dial = Arc<
    dyn Fn(&str, &JoinToken) -> BoxFuture<'static, Result<Channel, ConnectError>> + Send + Sync,
>;

/// By TCP and TLS, through the proxy where there is one on the way.
pub fn by_tls(proxies: Proxies) -> Way {
    let dial = move |address: &str, token: &JoinToken| {
        let (proxies, address) = (proxies.clone(), address.to_owned());
        let trust = Trust::Pin(token.ca_sha256);
        async move { connect_through(&proxies, &address, trust, None).await }.boxed()
    };
    Way {
        dial: Arc::new(dial),
        random,
    }
}

/// Enrols, trying again while that can help.
///
/// # Errors
/// When the token is refused, or the hub is not the one it was made for.
pub async fn enrol(
    token: &JoinToken,
    options: &Options,
    way: &Way,
    cluster_uid: &str,
) -> anyhow::Result<Credentials> {
    let mut backoff = Backoff::new(options.waits);
    loop {
        match try_once(token, options, way, cluster_uid).await {
            Ok(credentials) => return Ok(credentials),
            Err(EnrolError::Refused(why)) => {
                anyhow::bail!("cluster {} can't join: {why}", token.cluster)
            }
            Err(EnrolError::Unreachable(why)) => {
                let wait = backoff.next((way.random)());
                tracing::warn!(cluster = %token.cluster, reason = why, retry_in = ?wait, "can't join yet");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// What credentials remember of the token they came from.
pub fn token_digest(token: &JoinToken) -> Digest {
    Digest::of([token.to_string()])
}

async fn try_once(
    token: &JoinToken,
    options: &Options,
    way: &Way,
    cluster_uid: &str,
) -> Result<Credentials, EnrolError> {
    let address = options
        .enrolment
        .as_deref()
        .unwrap_or(&token.enrolment_address);
    let request = CertificateRequest::new()
        .map_err(|error| EnrolError::Refused(format!("no key can be made: {error}")))?;
    let channel = (way.dial)(address, token).await;
    let channel = channel.map_err(|error| match error {
        ConnectError::Dial(..) => EnrolError::Unreachable(error.to_string()),
        ConnectError::Address(_) | ConnectError::Credentials(_) | ConnectError::NotTheHub(..) => {
            EnrolError::Refused(error.to_string())
        }
    })?;
    let mut asked = tonic::Request::new(EnrolRequest {
        secret: token.secret.clone(),
        csr_der: request.csr_der(),
        cluster_uid: cluster_uid.to_owned(),
    });
    asked.set_timeout(ANSWER_TIMEOUT);
    let answer = EnrolmentServiceClient::new(channel)
        .enrol(asked)
        .await
        .map_err(|status| refusal(address, &status))?
        .into_inner();
    if answer.cluster != token.cluster.as_str() {
        let why = format!(
            "the hub at {address} calls this cluster {:?}",
            answer.cluster
        );
        return Err(EnrolError::Refused(why));
    }
    let certificates = answer
        .certificates_der
        .iter()
        .map(|der| der.to_vec())
        .collect();
    let hub = options.hub.as_ref().unwrap_or(&token.agents_address);
    request
        .enrolled(
            certificates,
            &token.ca_sha256,
            token.cluster.clone(),
            hub.clone(),
            token_digest(token),
        )
        .map_err(|error| {
            EnrolError::Refused(format!(
                "the answer of the hub at {address} can't be used: {error}"
            ))
        })
}

/// A hub that says no has said it for good; one that is troubled may be asked again.
fn refusal(address: &str, status: &tonic::Status) -> EnrolError {
    let said = format!("the hub at {address} says: {}", status.message());
    match status.code() {
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::Unimplemented => EnrolError::Refused(said),
        _ => EnrolError::Unreachable(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Waits;
    use crate::config::Join;
    use crate::credentials::Place;
    use crate::scripted::ScriptedHub;
    use muster_proto::wire::v1::EnrolResponse;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use tonic::Status;

    fn token(hub: &ScriptedHub) -> JoinToken {
        JoinToken {
            cluster: "eu-1".parse().unwrap(),
            agents_address: hub.agents.to_string(),
            enrolment_address: hub.enrolment.to_string(),
            ca_sha256: hub.ca.pin(),
            secret: "hunter2".into(),
        }
    }

    fn options() -> Options {
        Options {
            join: Join::Absent(String::new()),
            credentials: Place::Directory("unused".into()),
            namespace: "muster-system".into(),
            hub: None,
            enrolment: None,
            proxies: Proxies::default(),
            waits: Waits {
                first: Duration::from_millis(1),
                ..Waits::default()
            },
            clock: crate::clock::Clock::system(),
        }
    }

    fn way() -> Way {
        by_tls(Proxies::default())
    }

    fn lets_in(hub: &ScriptedHub, name: &'static str) {
        let ca = hub.ca.clone();
        hub.enrols(move |request| {
            assert_eq!(
                (request.secret.as_str(), request.cluster_uid.as_str()),
                ("hunter2", "uid-1")
            );
            Ok(EnrolResponse {
                cluster: name.into(),
                certificates_der: ca
                    .sign(&request.csr_der, name)
                    .into_iter()
                    .map(Into::into)
                    .collect(),
            })
        });
    }

    async fn refused(token: &JoinToken) -> String {
        let error = enrol(token, &options(), &way(), "uid-1").await.unwrap_err();
        let message = format!("{error:#}");
        assert!(!message.contains("hunter2"), "{message}");
        message
    }

    #[tokio::test]
    async fn a_token_becomes_credentials_of_its_cluster() {
        let hub = ScriptedHub::start().await;
        lets_in(&hub, "eu-1");
        let token = token(&hub);
        let credentials = enrol(&token, &options(), &way(), "uid-1").await.unwrap();
        assert_eq!(credentials.cluster.as_str(), "eu-1");
        assert_eq!(credentials.hub, token.agents_address);
        assert_eq!(credentials.joined_with, token_digest(&token));
        assert_eq!(*credentials.ca(), hub.ca.der());
    }

    #[tokio::test]
    async fn what_the_hub_refuses_is_not_tried_again() {
        let hub = ScriptedHub::start().await;
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        hub.enrols(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(Status::permission_denied("this join token was used before"))
        });
        let message = refused(&token(&hub)).await;
        let expected = format!(
            "cluster eu-1 can't join: the hub at {} says: this join token was used before",
            hub.enrolment
        );
        assert_eq!(message, expected);
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_hub_in_trouble_is_asked_again() {
        let hub = ScriptedHub::start().await;
        let (tries, ca) = (AtomicU32::new(0), hub.ca.clone());
        hub.enrols(move |request| match tries.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(Status::unavailable("starting")),
            _ => Ok(EnrolResponse {
                cluster: "eu-1".into(),
                certificates_der: ca
                    .sign(&request.csr_der, "eu-1")
                    .into_iter()
                    .map(Into::into)
                    .collect(),
            }),
        });
        enrol(&token(&hub), &options(), &way(), "uid-1")
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_hub_that_is_not_there_yet_is_asked_again() {
        let hub = ScriptedHub::start().await;
        lets_in(&hub, "eu-1");
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let nobody = JoinToken {
            enrolment_address: free.to_string(),
            ..token(&hub)
        };
        let error = try_once(&nobody, &options(), &way(), "uid-1")
            .await
            .unwrap_err();
        assert!(matches!(error, EnrolError::Unreachable(_)), "{error}");
        let told_otherwise = Options {
            enrolment: Some(hub.enrolment.to_string()),
            hub: Some("hub.example:7443".into()),
            ..options()
        };
        let credentials = enrol(&nobody, &told_otherwise, &way(), "uid-1")
            .await
            .unwrap();
        assert_eq!(credentials.hub, "hub.example:7443");
    }

    #[tokio::test]
    async fn somebody_elses_hub_gets_no_secret() {
        let (hub, impostor) = (ScriptedHub::start().await, ScriptedHub::start().await);
        impostor.enrols(|_| panic!("the secret was sent"));
        let token = JoinToken {
            enrolment_address: impostor.enrolment.to_string(),
            ..token(&hub)
        };
        let expected = format!(
            "cluster eu-1 can't join: {} is not the hub: the hub's CA is not the one that the join token was made for: get a new token with `muster cluster join`",
            impostor.enrolment
        );
        assert_eq!(refused(&token).await, expected);
    }

    #[tokio::test]
    async fn an_answer_in_another_name_is_refused() {
        let hub = ScriptedHub::start().await;
        lets_in(&hub, "us-1");
        let message = refused(&token(&hub)).await;
        assert!(
            message.ends_with("calls this cluster \"us-1\""),
            "{message}"
        );
    }
}
