//! The hub's own certificate authority: who a cluster is, is what its certificate says.
//!
//! In: the data folder, where `ca/ca.pem` and `ca/ca-key.pem` are made at the first start and never touched again. Out:
//! a [`Ca`] that issues the agents' certificates and the hub's own ([`issue`](self)), and the pin for join tokens.

mod issue;
mod serving;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use muster_proto::tls::certificate_pin;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use issue::{
    AGENT_LIFE, AGENT_RENEWED_AFTER, InvalidRequest, Issued, SigningRequest, ends, serial,
};
pub use serving::{Serving, serving};

/// A CA lives for ten years; a new one means that every cluster joins again.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates are valid from a little before they are made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(300);

/// The authority: its certificate, its name and its key.
#[derive(Debug)]
pub struct Ca {
    /// Shown to everyone.
    pub certificate: CertificateDer<'static>,
    /// Names the world of this CA; in every certificate.
    pub trust_domain: String,
    /// Where `ca.pem` is, for people to copy.
    pub pem_file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Opens the authority in `data`, and makes it at the first start.
    ///
    /// # Errors
    /// When a file is missing, damaged or does not belong to the other. Nothing is overwritten then.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("ca");
        if !folder.try_exists()? {
            create(data, &folder).with_context(|| {
                format!("can't make a certificate authority in {}", folder.display())
            })?;
            tracing::info!(folder = %folder.display(), "made a new certificate authority");
        }
        load(&folder).with_context(|| {
            format!(
                "the certificate authority in {} can't be used: restore the folder from a backup \
                 (or move it away to begin with a new authority: then every cluster must join again)",
                folder.display()
            )
        })
    }

    /// SHA-256 of the certificate: what a join token pins.
    pub fn pin(&self) -> [u8; 32] {
        certificate_pin(&self.certificate)
    }
}

fn load(folder: &Path) -> anyhow::Result<Ca> {
    let pem_file = folder.join("ca.pem");
    let certificate = read(&pem_file)?;
    let certificate =
        CertificateDer::from_pem_slice(&certificate).context("ca.pem holds no certificate")?;
    let key = read(&folder.join("ca-key.pem"))?;
    // Neither error may quote the key.
    let key = PrivateKeyDer::from_pem_slice(&key)
        .ok()
        .context("ca-key.pem holds no private key")?;
    let key = KeyPair::try_from(&key)
        .ok()
        .context("ca-key.pem holds no usable private key")?;

    let (_, parsed) =
        X509Certificate::from_der(&certificate).context("ca.pem holds no X.509 certificate")?;
    ensure!(
        parsed.is_ca(),
        "ca.pem is not the certificate of an authority"
    );
    ensure!(
        parsed.public_key().raw == key.subject_public_key_info(),
        "ca-key.pem is not the key of ca.pem"
    );
    ensure!(
        parsed.verify_signature(None).is_ok(),
        "ca.pem is damaged: its signature is wrong"
    );
    ensure!(
        parsed.validity().is_valid(),
        "ca.pem is not valid now (is the clock right?)"
    );
    let trust_domain = trust_domain(&parsed)?;
    Ok(Ca {
        issuer: Issuer::from_ca_cert_der(&certificate, key)?,
        certificate,
        trust_domain,
        pem_file,
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// A SPIFFE authority's own certificate names its trust domain, and no path in it.
fn trust_domain(certificate: &X509Certificate<'_>) -> anyhow::Result<String> {
    let names = certificate
        .subject_alternative_name()?
        .context("ca.pem names no trust domain")?;
    match names.value.general_names[..] {
        [GeneralName::URI(uri)] => match uri.strip_prefix("spiffe://") {
            Some(domain) if !domain.is_empty() && !domain.contains('/') => Ok(domain.to_owned()),
            _ => bail!("ca.pem names {uri:?}, which is no trust domain"),
        },
        _ => bail!("ca.pem does not name exactly one trust domain"),
    }
}

/// Makes both files in a folder beside and renames that: there are both, or none.
fn create(data: &Path, folder: &Path) -> anyhow::Result<()> {
    let unfinished = data.join("ca.unfinished");
    if unfinished.try_exists()? {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir(&unfinished)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let trust_domain = format!("muster-{}", hex(&random::<8>()));
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + CA_LIFE).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Muster CA of {trust_domain}"));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;

    write(&unfinished.join("ca-key.pem"), &key.serialize_pem(), 0o600)?;
    write(&unfinished.join("ca.pem"), &certificate.pem(), 0o644)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, folder)?;
    fs::File::open(data)?.sync_all()?;
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system gives random bytes");
    bytes
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt as _;

    fn problem(data: &Path) -> String {
        let folder = data.join("ca").display().to_string();
        format!("{:#}", Ca::open(data).unwrap_err()).replace(&folder, "DATA/ca")
    }

    #[test]
    fn an_authority_is_made_once_and_stays_the_same() {
        let data = tempfile::tempdir().unwrap();
        let (first, second) = (
            Ca::open(data.path()).unwrap(),
            Ca::open(data.path()).unwrap(),
        );
        assert_eq!(first.certificate, second.certificate);
        assert_eq!(first.trust_domain, second.trust_domain);
        assert!(first.trust_domain.starts_with("muster-"));
        let key = fs::metadata(data.path().join("ca/ca-key.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_crash_left_half_made_is_made_anew() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("ca.unfinished")).unwrap();
        fs::write(data.path().join("ca.unfinished/ca-key.pem"), "half a k").unwrap();
        Ca::open(data.path()).unwrap();
        assert!(!data.path().join("ca.unfinished").exists());
    }

    #[test]
    fn damaged_files_are_one_clear_error_and_are_left_alone() {
        let other = tempfile::tempdir().unwrap();
        Ca::open(other.path()).unwrap();
        let foreign = |name: &str| fs::read(other.path().join("ca").join(name)).unwrap();
        let cases: [(&str, Option<Vec<u8>>); 6] = [
            ("ca.pem", None),
            ("ca.pem", Some(b"garbage".to_vec())),
            ("ca.pem", Some(foreign("ca.pem"))),
            ("ca-key.pem", None),
            (
                "ca-key.pem",
                Some(b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n".to_vec()),
            ),
            ("ca-key.pem", Some(foreign("ca-key.pem"))),
        ];
        let mut said = Vec::new();
        for (name, content) in cases {
            let data = tempfile::tempdir().unwrap();
            Ca::open(data.path()).unwrap();
            let file = data.path().join("ca").join(name);
            match &content {
                Some(content) => fs::write(&file, content).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let problem = problem(data.path());
            let (what_to_do, why) = problem.split_once("join again): ").unwrap();
            assert!(
                what_to_do.contains("restore the folder from a backup"),
                "{problem}"
            );
            said.push(why.to_owned());
            assert_eq!(fs::read(&file).ok(), content, "{name} was touched");
        }
        insta::assert_snapshot!(said.join("\n"), @r"
        can't read DATA/ca/ca.pem: No such file or directory (os error 2)
        ca.pem holds no certificate: no items found
        ca-key.pem is not the key of ca.pem
        can't read DATA/ca/ca-key.pem: No such file or directory (os error 2)
        ca-key.pem holds no usable private key
        ca-key.pem is not the key of ca.pem
        ");
        assert!(!said.join("").contains("hunter2"));
    }
}
