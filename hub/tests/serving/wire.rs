//! Who is refused at the agents listener, in the handshake itself. Each test also lets a good one in, the same way.

use std::time::{Duration, SystemTime};

use muster_hub::ca::{Ca, SigningRequest};
use muster_proto::tls::connector::Credentials;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::bed::{Bed, signing_request};

/// A certificate of the hub's own CA, as a thief of its key could make it.
fn forged(bed: &Bed, names: &[&str], ends: SystemTime) -> Credentials {
    let ca_key = std::fs::read_to_string(bed.data.path().join("ca/ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_der(&bed.ca(), KeyPair::from_pem(&ca_key).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.not_before = (ends - Duration::from_secs(3600)).into();
    params.not_after = ends.into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = names
        .iter()
        .map(|name| SanType::URI((*name).try_into().unwrap()))
        .collect();
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Credentials {
        chain: vec![leaf.der().clone(), bed.ca()],
        key,
    }
}

fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(600)
}

async fn is_refused(bed: &Bed, credentials: Option<Credentials>) {
    assert!(bed.dial(credentials).await.is_err(), "it was let in");
}

/// The same way in, with nothing wrong.
async fn a_good_one_gets_in(bed: &Bed) {
    let name = format!("spiffe://{}/cluster/eu-1", trust_domain(bed));
    let good = forged(bed, &[&name], soon());
    assert_eq!(bed.dial(Some(good)).await.err(), None);
}

fn trust_domain(bed: &Bed) -> String {
    Ca::open(bed.data.path()).unwrap().trust_domain
}

#[tokio::test]
async fn without_a_certificate_there_is_no_session() {
    let bed = Bed::start().await;
    is_refused(&bed, None).await;
    a_good_one_gets_in(&bed).await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (bed, elsewhere) = (Bed::start().await, tempfile::tempdir().unwrap());
    let other = Ca::open(elsewhere.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let request = SigningRequest::read(&signing_request(&key)).unwrap();
    let issued = other.certify_agent(&request, &"eu-1".parse().unwrap(), SystemTime::now());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    is_refused(
        &bed,
        Some(Credentials {
            chain: issued.chain,
            key,
        }),
    )
    .await;
    a_good_one_gets_in(&bed).await;
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused() {
    let bed = Bed::start().await;
    is_refused(
        &bed,
        Some(forged(&bed, &["spiffe://elsewhere/cluster/eu-1"], soon())),
    )
    .await;
    a_good_one_gets_in(&bed).await;
}

#[tokio::test]
async fn a_certificate_with_two_spiffe_names_or_none_is_refused() {
    let bed = Bed::start().await;
    let names =
        ["eu-1", "eu-2"].map(|name| format!("spiffe://{}/cluster/{name}", trust_domain(&bed)));
    is_refused(&bed, Some(forged(&bed, &[&names[0], &names[1]], soon()))).await;
    is_refused(&bed, Some(forged(&bed, &[], soon()))).await;
    a_good_one_gets_in(&bed).await;
}

#[tokio::test]
async fn the_hubs_own_name_opens_no_session() {
    let bed = Bed::start().await;
    let name = format!("spiffe://{}/hub", trust_domain(&bed));
    is_refused(&bed, Some(forged(&bed, &[&name], soon()))).await;
    a_good_one_gets_in(&bed).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let bed = Bed::start().await;
    let name = format!("spiffe://{}/cluster/eu-1", trust_domain(&bed));
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    is_refused(&bed, Some(forged(&bed, &[&name], an_hour_ago))).await;
    a_good_one_gets_in(&bed).await;
}
