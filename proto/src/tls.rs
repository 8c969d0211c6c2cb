//! TLS identity: who is at the other end, told by its certificate and nothing else.
//!
//! Every certificate of a hub's CA carries exactly one SPIFFE URI: `spiffe://TRUST-DOMAIN/hub` or
//! `spiffe://TRUST-DOMAIN/cluster/NAME`. [`acceptor`] and [`connector`] check it during the handshake and are the one
//! place where it becomes a value.

pub mod acceptor;
pub mod connector;
mod identity;
pub mod proxy;
mod verify;

pub use identity::{Identity, InvalidIdentity, Role};

/// Makes ring the process's cryptography. Called first in every `main` and every test that speaks TLS; calling it
/// again does nothing.
pub fn install_crypto() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

/// SHA-256 of a certificate's DER: the pin in a join token.
pub fn certificate_pin(der: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}
