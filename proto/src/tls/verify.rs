//! Certificate verifiers that look at the SPIFFE identity in the handshake itself.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::{Identity, Role, certificate_pin};

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the peer is {found}, expected {expected}")]
    SomebodyElse { found: Identity, expected: String },
    #[error(
        "the hub's CA is not the one that the join token was made for: get a new token with `muster cluster join`"
    )]
    AnotherCa,
}

/// Lets agents in: signed by the CA, valid now, and a cluster of this trust domain.
#[derive(Debug)]
pub(super) struct AgentVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl AgentVerifier {
    pub(super) fn new(ca: CertificateDer<'static>, trust_domain: String) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            chain,
            trust_domain,
        })
    }
}

impl ClientCertVerifier for AgentVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let found = Identity::of_certificate(end_entity).map_err(refused)?;
        if found.trust_domain != self.trust_domain || found.role == Role::Hub {
            let expected = format!("a cluster of {}", self.trust_domain);
            return Err(refused(Refusal::SomebodyElse { found, expected }));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// How a client knows the hub's CA.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The CA's certificate itself.
    Ca(CertificateDer<'static>),
    /// Its SHA-256, from a join token; the hub sends the certificate.
    Pin([u8; 32]),
}

/// Accepts the hub: signed by its CA and named the hub. Host names don't matter: a hub behind another address or a
/// load balancer is still the hub.
#[derive(Debug)]
pub(super) struct HubVerifier {
    pub(super) trust: Trust,
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = match &self.trust {
            Trust::Ca(ca) => ca.clone(),
            Trust::Pin(pin) => intermediates
                .iter()
                .find(|certificate| certificate_pin(certificate) == *pin)
                .ok_or_else(|| refused(Refusal::AnotherCa))?
                .clone()
                .into_owned(),
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots,
            intermediates,
            now,
            algorithms().all,
        )?;
        let found = Identity::of_certificate(end_entity).map_err(refused)?;
        if found.role != Role::Hub {
            let expected = "a hub".to_owned();
            return Err(refused(Refusal::SomebodyElse { found, expected }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
