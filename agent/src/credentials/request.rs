//! A certificate request: a new key, and the answer that makes it an identity.
//!
//! In: nothing but randomness, then the hub's certificates. Out: credentials, once the answer was checked. The hub
//! takes only the public key out of a request: names are its own to give.

use muster_proto::tls::certificate_pin;
use muster_proto::{ClusterName, Digest};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::{Certificate, Credentials, InvalidCredentials};

/// A new P-256 key and the PKCS #10 request for it.
pub struct CertificateRequest {
    key: Vec<u8>,
    csr_der: Vec<u8>,
}

impl CertificateRequest {
    /// Makes a key.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = CertificateParams::default().serialize_request(&key)?;
        Ok(Self {
            key: key.serialize_der(),
            csr_der: csr.der().to_vec(),
        })
    }

    /// What is sent.
    pub fn csr_der(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.csr_der)
    }

    /// The first credentials of a cluster. `certificates` are leaf and CA.
    ///
    /// # Errors
    /// When the answer names another cluster, is for another key, or comes from another CA than `ca_pin`.
    pub fn enrolled(
        &self,
        certificates: Vec<Vec<u8>>,
        ca_pin: &[u8; 32],
        cluster: ClusterName,
        hub: String,
        joined_with: Digest,
    ) -> Result<Credentials, InvalidCredentials> {
        let certificate = Certificate::new(self.key.clone(), certificates, &cluster)?;
        if certificate_pin(certificate.ca()) != *ca_pin {
            return Err(InvalidCredentials::AnotherCa);
        }
        Ok(Credentials {
            cluster,
            hub,
            joined_with,
            certificate,
        })
    }

    /// `held` with a newer key and certificate.
    ///
    /// # Errors
    /// When the answer names another cluster, is for another key, or comes from another CA than the one held.
    pub fn renewed(
        &self,
        certificates: Vec<Vec<u8>>,
        held: &Credentials,
    ) -> Result<Credentials, InvalidCredentials> {
        let Credentials {
            cluster,
            hub,
            joined_with,
            ..
        } = held.clone();
        let pin = certificate_pin(held.ca());
        self.enrolled(certificates, &pin, cluster, hub, joined_with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::TestCa;

    #[test]
    fn an_answer_of_another_ca_is_refused() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let held = ca.credentials("eu-1", "h:1");
        let request = CertificateRequest::new().unwrap();
        let answer = |ca: &TestCa| ca.sign(&request.csr_der(), "eu-1");
        assert_eq!(
            request.renewed(answer(&other), &held),
            Err(InvalidCredentials::AnotherCa)
        );
        let renewed = request.renewed(answer(&ca), &held).unwrap();
        assert_eq!(renewed.cluster, held.cluster);
        assert_ne!(renewed, held);
    }

    #[test]
    fn an_answer_for_another_key_or_cluster_is_refused() {
        let ca = TestCa::new();
        let held = ca.credentials("eu-1", "h:1");
        let (request, other) = (
            CertificateRequest::new().unwrap(),
            CertificateRequest::new().unwrap(),
        );
        assert_eq!(
            request.renewed(ca.sign(&other.csr_der(), "eu-1"), &held),
            Err(InvalidCredentials::KeyMismatch)
        );
        let error = request
            .renewed(ca.sign(&request.csr_der(), "us-1"), &held)
            .unwrap_err();
        assert!(
            matches!(error, InvalidCredentials::SomebodyElse { .. }),
            "{error}"
        );
    }
}
