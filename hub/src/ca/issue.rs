//! Issues certificates: who asks gives a public key and nothing else; the hub chooses the name, the times and the use.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use muster_proto::tls::{Identity, Role};
use muster_proto::{ClusterName, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{BACKDATED, Ca, hex, random};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an agent's certificate lives. Long, because the hub alone verifies it and knows who is revoked: a hub away
/// for a week locks nobody out.
pub const AGENT_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// At this age the hub asks for its renewal.
pub const AGENT_RENEWED_AFTER: Duration = Duration::from_secs(10 * 24 * 3600);
/// How long the hub's own certificate lives; renewed at a third of it.
pub(super) const HUB_LIFE: Duration = DAY.saturating_mul(30);

/// A certificate for an agent.
#[derive(Debug)]
pub struct Issued {
    /// Leaf, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Hexadecimal serial number of the leaf.
    pub serial: String,
    /// End of validity.
    pub ends: Timestamp,
}

/// What is taken of a PKCS #10 request: the public key. Whatever name or use it asks for is ignored.
#[derive(Debug)]
pub struct SigningRequest(SubjectPublicKeyInfo);

/// A signing request that can't be answered.
#[derive(Debug, thiserror::Error)]
#[error("the certificate signing request is invalid: {0}")]
pub struct InvalidRequest(&'static str);

impl SigningRequest {
    /// Reads a PKCS #10 request in DER. Its signature proves that the asker has the private key.
    ///
    /// # Errors
    /// When it can't be read, its signature is wrong, or its kind of key is unknown.
    pub fn read(der: &[u8]) -> Result<Self, InvalidRequest> {
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|_| InvalidRequest("it is no PKCS #10 request"))?;
        if !rest.is_empty() || request.verify_signature().is_err() {
            return Err(InvalidRequest("its signature is wrong"));
        }
        let public_key = request.certification_request_info.subject_pki.raw;
        let public_key = SubjectPublicKeyInfo::from_der(public_key)
            .map_err(|_| InvalidRequest("its kind of key is not supported; use ECDSA P-256"))?;
        Ok(Self(public_key))
    }
}

impl Ca {
    /// Certifies the key of a request for `cluster`.
    pub fn certify_agent(
        &self,
        request: &SigningRequest,
        cluster: &ClusterName,
        now: SystemTime,
    ) -> Issued {
        let role = Role::Cluster(cluster.clone());
        let mut params = self.leaf(role, cluster.as_str(), now, AGENT_LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = self.sign(&params, &request.0);
        Issued {
            serial: serial(&chain[0]),
            ends: ends(&chain[0]),
            chain,
        }
    }

    /// A new certificate and key for the hub itself, under `names`: host names and IPs that clients dial.
    pub(super) fn certify_hub(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("ring makes P-256 keys");
        let mut params = self.leaf(Role::Hub, "hub", now, HUB_LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            let name = match name.parse::<IpAddr>() {
                Ok(ip) => Some(SanType::IpAddress(ip)),
                Err(_) => name.as_str().try_into().ok().map(SanType::DnsName),
            };
            params.subject_alt_names.extend(name);
        }
        let chain = self.sign(&params, &key);
        (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn leaf(&self, role: Role, name: &str, now: SystemTime, life: Duration) -> CertificateParams {
        let identity = Identity {
            trust_domain: self.trust_domain.clone(),
            role,
        };
        let mut params = CertificateParams::default();
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + life).into();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = identity.to_string().try_into().expect("names are ASCII");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let mut number = random::<16>();
        // Positive, and never shortened (RFC 5280, section 4.1.2.2).
        number[0] = (number[0] & 0x7f) | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&number));
        params
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Vec<CertificateDer<'static>> {
        let leaf = params
            .signed_by(key, &self.issuer)
            .expect("the CA's key signs");
        vec![leaf.der().clone(), self.certificate.clone()]
    }
}

/// Hexadecimal serial number of a certificate of ours; empty when it can't be read.
pub fn serial(certificate: &CertificateDer<'_>) -> String {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => hex(certificate.raw_serial()),
        Err(_) => String::new(),
    }
}

/// End of validity of a certificate of ours; the epoch when it can't be read.
pub fn ends(certificate: &CertificateDer<'_>) -> Timestamp {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => Timestamp(certificate.validity().not_after.timestamp() * 1000),
        Err(_) => Timestamp::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> (tempfile::TempDir, Ca) {
        let data = tempfile::tempdir().unwrap();
        let ca = Ca::open(data.path()).unwrap();
        (data, ca)
    }

    fn request(names: &[&str]) -> SigningRequest {
        SigningRequest::read(&request_der(names)).unwrap()
    }

    fn request_der(names: &[&str]) -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        for name in names {
            params
                .subject_alt_names
                .push(SanType::URI((*name).try_into().unwrap()));
        }
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn only_the_public_key_of_a_request_is_taken() {
        let (_data, ca) = ca();
        let greedy = request(&["spiffe://elsewhere/hub", "spiffe://elsewhere/cluster/other"]);
        let now = SystemTime::now();
        let issued = ca.certify_agent(&greedy, &"eu-1".parse().unwrap(), now);
        let identity = Identity::of_certificate(&issued.chain[0]).unwrap();
        assert_eq!(
            identity.to_string(),
            format!("spiffe://{}/cluster/eu-1", ca.trust_domain)
        );
        let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
        assert!(!leaf.is_ca());
        let uses = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(uses.client_auth && !uses.server_auth);
        assert_eq!(issued.chain[1], ca.certificate);
    }

    #[test]
    fn an_agents_certificate_lives_thirty_days_and_begins_five_minutes_ago() {
        let (_data, ca) = ca();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let issued = ca.certify_agent(&request(&[]), &"eu-1".parse().unwrap(), now);
        let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
        assert_eq!(leaf.validity().not_before.timestamp(), 1_800_000_000 - 300);
        assert_eq!(issued.ends, Timestamp((1_800_000_000 + 30 * 86_400) * 1000));
        assert_eq!(issued.serial.len(), 32);
    }

    #[test]
    fn serials_are_never_the_same() {
        let (_data, ca) = ca();
        let issue = || ca.certify_agent(&request(&[]), &"eu-1".parse().unwrap(), SystemTime::now());
        assert_ne!(issue().serial, issue().serial);
    }

    #[test]
    fn a_request_that_is_none_or_was_changed_is_refused() {
        let mut changed = request_der(&["spiffe://a/b"]);
        let last = changed.len() - 1;
        changed[last] ^= 1;
        for (bytes, said) in [
            (b"garbage".to_vec(), "it is no PKCS #10 request"),
            (changed, "its signature is wrong"),
        ] {
            let error = SigningRequest::read(&bytes).unwrap_err();
            assert!(error.to_string().ends_with(said), "{error}");
        }
    }

    #[test]
    fn the_hubs_certificate_names_the_hub_and_where_it_is() {
        let (_data, ca) = ca();
        let names = [
            "hub.example".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let (chain, _key) = ca.certify_hub(&names, SystemTime::now());
        assert_eq!(Identity::of_certificate(&chain[0]).unwrap().role, Role::Hub);
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 4);
        let uses = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(uses.server_auth && !uses.client_auth);
    }
}
