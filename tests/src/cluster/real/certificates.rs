//! The certificates of one cluster: a CA of its own and what it signs, all of them elliptic-curve keys.
//!
//! In come names; out come PEM files in the cluster's folder and kubeconfigs that carry their certificates themselves.

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};

/// One cluster's CA, and the folder its files go to.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    folder: PathBuf,
}

impl Authority {
    /// Makes a CA and writes `ca.crt`, and `service-accounts.key` and `.pub`, the key that signs tokens.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut params = parameters("muster test cluster", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        fs::write(folder.join("ca.crt"), certificate.pem())?;
        let tokens = KeyPair::generate()?;
        fs::write(folder.join("service-accounts.key"), tokens.serialize_pem())?;
        fs::write(folder.join("service-accounts.pub"), tokens.public_key_pem())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            folder: folder.to_owned(),
        })
    }

    /// Writes `NAME.crt` and `NAME.key` for a server on loopback.
    pub(super) fn server(&self, name: &str) -> Result<()> {
        let hosts = [
            "localhost",
            "127.0.0.1",
            "kubernetes.default.svc",
            "10.0.0.1",
        ];
        let key = KeyPair::generate()?;
        let certificate = parameters(name, &hosts)?.signed_by(&key, &self.issuer)?;
        fs::write(self.folder.join(format!("{name}.crt")), certificate.pem())?;
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// Writes `FILE`, a kubeconfig for `user` in `group`; returns its path.
    pub(super) fn kubeconfig(
        &self,
        file: &str,
        server: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<PathBuf> {
        let mut params = parameters(user, &[])?;
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": {
                "server": server,
                "certificate-authority-data": BASE64_STANDARD.encode(self.certificate.pem()),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": BASE64_STANDARD.encode(certificate.pem()),
                "client-key-data": BASE64_STANDARD.encode(key.serialize_pem()),
            }}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
            "current-context": "cluster",
        });
        let path = self.folder.join(file);
        fs::write(&path, serde_json::to_string_pretty(&config)?)?;
        Ok(path)
    }
}

/// Valid for longer than any test machine lives, so that its clock does not matter.
fn parameters(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(
        hosts
            .iter()
            .map(|host| (*host).to_owned())
            .collect::<Vec<_>>(),
    )?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    Ok(params)
}
