//! A hub's CA: signs agents and the hub itself, as the real one does.

use muster_proto::Digest;
use muster_proto::tls::certificate_pin;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, IsCa,
    Issuer, KeyPair, SanType,
};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};

use crate::credentials::{CertificateRequest, Credentials};

pub(crate) struct TestCa {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        muster_proto::tls::install_crypto();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn pin(&self) -> [u8; 32] {
        certificate_pin(self.certificate.der())
    }

    /// Leaf and CA for a request, in the name that the hub gives.
    pub(crate) fn sign(&self, csr_der: &[u8], cluster: &str) -> Vec<Vec<u8>> {
        self.sign_until(csr_der, cluster, 2100)
    }

    /// [`TestCa::sign`], for a certificate that ends with the beginning of that year.
    pub(crate) fn sign_until(&self, csr_der: &[u8], cluster: &str, year: i32) -> Vec<Vec<u8>> {
        let csr = CertificateSigningRequestDer::from(csr_der);
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        request.params = named(&format!("cluster/{cluster}"));
        request.params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let leaf = request.signed_by(&self.issuer).unwrap();
        vec![leaf.der().to_vec(), self.der().to_vec()]
    }

    /// Credentials as after an enrolment.
    pub(crate) fn credentials(&self, cluster: &str, hub: &str) -> Credentials {
        let request = CertificateRequest::new().unwrap();
        let answer = self.sign(&request.csr_der(), cluster);
        let joined_with = Digest::of(["token"]);
        request
            .enrolled(
                answer,
                &self.pin(),
                cluster.parse().unwrap(),
                hub.to_owned(),
                joined_with,
            )
            .unwrap()
    }

    /// The hub's own chain and key.
    pub(crate) fn hub(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = named("hub").signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        (vec![leaf.der().clone(), self.der()], key)
    }
}

fn named(path: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://muster.test/{path}");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params
}
