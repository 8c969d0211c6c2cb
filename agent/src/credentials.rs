//! What the agent is known by: its key, its certificate, and the hub that they are for.
//!
//! In: the hub's answer to a certificate request, or the bytes of a store. Out: [`Credentials`] whose parts have been
//! checked against each other. The key is made here, by ring, and goes nowhere but into the store ([`Place`]).

mod keeping;
mod request;
mod store;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use muster_proto::tls::{Identity, Role, certificate_pin, connector};
use muster_proto::{ClusterName, Digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

pub use keeping::{Keeping, keep};
pub use request::CertificateRequest;
pub use store::{Place, StoreError};

/// Key, certificate and hub of an enrolled cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// What the cluster is called; the certificate says the same.
    pub cluster: ClusterName,
    /// `host:port` of the hub's agents listener.
    pub hub: String,
    /// Digest of the join token that they came from: another token means to enrol again.
    pub joined_with: Digest,
    certificate: Certificate,
}

/// A private key and the chain that a hub made for it: leaf first, then the CA.
#[derive(Clone, PartialEq, Eq)]
struct Certificate {
    key: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    trust_domain: String,
}

/// Why key and certificates are no identity of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// Not what was written once.
    #[error("it can't be read: {0}")]
    Unreadable(String),
    /// There must be a leaf and the CA.
    #[error("there are {0} certificates, and must be two: the agent's and the CA's")]
    Chain(usize),
    /// The certificate speaks for somebody else.
    #[error("the certificate is {found}, expected the cluster {expected}")]
    SomebodyElse {
        /// Whom it names.
        found: String,
        /// Whom it should name.
        expected: ClusterName,
    },
    /// The certificates come from a CA that is not the hub's.
    #[error("the certificate was made by another CA than the hub's")]
    AnotherCa,
    /// The certificate was made for another key.
    #[error("key and certificate don't belong together")]
    KeyMismatch,
}

impl Credentials {
    /// The CA of the hub.
    pub fn ca(&self) -> &CertificateDer<'static> {
        self.certificate.ca()
    }

    /// Which hub this is, whatever its address: trust domain and fingerprint of its CA.
    pub fn hub_identity(&self) -> String {
        let pin = certificate_pin(self.ca());
        let fingerprint = Digest::from_slice(&pin).expect("both are 32 bytes");
        format!("{}/{fingerprint}", self.certificate.trust_domain)
    }

    /// For the handshake.
    pub fn for_tls(&self) -> connector::Credentials {
        connector::Credentials {
            chain: self.certificate.chain.clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.certificate.key.clone())),
        }
    }

    /// The bytes that a store keeps; they hold the private key.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let kept = Kept {
            version: 1,
            cluster: self.cluster.clone(),
            hub: self.hub.clone(),
            joined_with: self.joined_with,
            certificates: self
                .certificate
                .chain
                .iter()
                .map(|der| BASE64.encode(der))
                .collect(),
            key: BASE64.encode(&self.certificate.key),
        };
        serde_json::to_vec_pretty(&kept).expect("text can be written")
    }

    /// What a store kept.
    ///
    /// # Errors
    /// When the bytes are not whole, or their parts don't belong together.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidCredentials> {
        // The parser's message may quote what it read, and that may be the key.
        let unreadable = |what: &str| InvalidCredentials::Unreadable(what.to_owned());
        let kept: Kept = serde_json::from_slice(bytes).map_err(|error| match error.is_eof() {
            true => unreadable("it ends in the middle"),
            false => unreadable("it is not what the agent wrote"),
        })?;
        if kept.version != 1 {
            return Err(unreadable("a newer agent wrote it"));
        }
        let decode = |text: &String| {
            BASE64
                .decode(text)
                .map_err(|_| unreadable("it is not what the agent wrote"))
        };
        let chain = kept
            .certificates
            .iter()
            .map(decode)
            .collect::<Result<Vec<_>, _>>()?;
        let certificate = Certificate::new(decode(&kept.key)?, chain, &kept.cluster)?;
        Ok(Self {
            cluster: kept.cluster,
            hub: kept.hub,
            joined_with: kept.joined_with,
            certificate,
        })
    }
}

impl Certificate {
    fn new(
        key: Vec<u8>,
        chain: Vec<Vec<u8>>,
        cluster: &ClusterName,
    ) -> Result<Self, InvalidCredentials> {
        let chain: Vec<CertificateDer<'static>> =
            chain.into_iter().map(CertificateDer::from).collect();
        let [leaf, _ca] = &chain[..] else {
            return Err(InvalidCredentials::Chain(chain.len()));
        };
        let identity = Identity::of_certificate(leaf)
            .map_err(|error| InvalidCredentials::Unreadable(error.to_string()))?;
        if identity.role != Role::Cluster(cluster.clone()) {
            return Err(InvalidCredentials::SomebodyElse {
                found: identity.to_string(),
                expected: cluster.clone(),
            });
        }
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_slice()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&der)
            .map_err(|_| InvalidCredentials::Unreadable("the key can't be used".into()))?;
        CertifiedKey::new(chain.clone(), signing)
            .keys_match()
            .map_err(|_| InvalidCredentials::KeyMismatch)?;
        Ok(Self {
            key,
            chain,
            trust_domain: identity.trust_domain,
        })
    }

    fn ca(&self) -> &CertificateDer<'static> {
        &self.chain[1]
    }
}

/// As JSON in a file or Secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    version: u32,
    cluster: ClusterName,
    hub: String,
    joined_with: Digest,
    /// DER, leaf first, then the CA.
    certificates: Vec<String>,
    /// PKCS #8 DER.
    key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} at {}, …)", self.cluster, self.hub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::TestCa;

    #[test]
    fn what_was_kept_reads_back() {
        let credentials = TestCa::new().credentials("eu-1", "hub.example:7443");
        assert_eq!(
            Credentials::from_bytes(&credentials.to_bytes()),
            Ok(credentials)
        );
    }

    #[test]
    fn a_debug_line_does_not_show_the_key() {
        let credentials = TestCa::new().credentials("eu-1", "hub.example:7443");
        assert_eq!(
            format!("{credentials:?}"),
            "Credentials(eu-1 at hub.example:7443, …)"
        );
    }

    #[test]
    fn parts_that_do_not_belong_together_are_told() {
        let ca = TestCa::new();
        let kept = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value =
                serde_json::from_slice(&ca.credentials("eu-1", "h:1").to_bytes()).unwrap();
            change(&mut value);
            Credentials::from_bytes(&serde_json::to_vec(&value).unwrap())
                .unwrap_err()
                .to_string()
        };
        let other: serde_json::Value =
            serde_json::from_slice(&ca.credentials("eu-1", "h:1").to_bytes()).unwrap();
        assert_eq!(
            kept(&|value| value["key"] = other["key"].clone()),
            "key and certificate don't belong together"
        );
        let message = kept(&|value| value["cluster"] = "us-1".into());
        assert!(
            message.ends_with("/cluster/eu-1, expected the cluster us-1"),
            "{message}"
        );
        assert_eq!(
            kept(&|value| value["certificates"] = serde_json::json!([])),
            "there are 0 certificates, and must be two: the agent's and the CA's"
        );
        assert_eq!(
            kept(&|value| value["version"] = 2.into()),
            "it can't be read: a newer agent wrote it"
        );
    }
}
