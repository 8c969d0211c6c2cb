//! Why a session ended, as far as the next dial is concerned.
//!
//! In: a gRPC status with the hub's reason, or what the transport makes of a broken connection. Out: [`Ended`]. Pure.

use std::error::Error;

use tonic::{Code, Status};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The network, the hub's restart, a broken message: dial again.
    Lost(String),
    /// What came could not be kept: the next Hello says so.
    Hindered,
    /// Another agent of this cluster took over.
    Superseded(String),
    /// These are the credentials of another cluster.
    Elsewhere(String),
    /// No other agent has the cluster: this one may.
    Free,
    /// The cluster was taken out of the fleet and keeps its objects.
    Removed(String),
    /// The hub does not want this certificate any more.
    TurnedAway(String),
    /// The engine writes no more.
    Stopped(String),
}

/// What a gRPC status means for the next dial. The hub's reasons stand in the metadata `muster-reason`.
pub(super) fn ended(status: &Status) -> Ended {
    let reason = status
        .metadata()
        .get("muster-reason")
        .and_then(|reason| reason.to_str().ok());
    let said = status.message().to_owned();
    match (status.code(), reason) {
        (Code::PermissionDenied, Some("removed-keep")) => Ended::Removed(said),
        (Code::PermissionDenied, Some("other-cluster")) => Ended::Elsewhere(said),
        (Code::PermissionDenied, _) => Ended::TurnedAway(said),
        (Code::Aborted, Some("superseded")) => Ended::Superseded(said),
        (Code::Unavailable, Some("free")) => Ended::Free,
        _ => {
            let cause = cause(status);
            match refuses_certificate(&cause) {
                true => Ended::TurnedAway(format!("the hub refuses the certificate: {cause}")),
                false => Ended::Lost(cause),
            }
        }
    }
}

/// Whether that is the alert by which the hub's end of the handshake refused our certificate. In TLS 1.3 our end takes
/// the handshake for done by then, so it comes with the first message; and `h2` keeps no more of it than its words.
fn refuses_certificate(cause: &str) -> bool {
    const ABOUT_CERTIFICATES: [&str; 8] = [
        "AccessDenied",
        "BadCertificate",
        "CertificateExpired",
        "CertificateRevoked",
        "CertificateUnknown",
        "DecryptError",
        "UnknownCA",
        "UnsupportedCertificate",
    ];
    let alert = cause.strip_prefix("received fatal alert: ");
    alert.is_some_and(|alert| ABOUT_CERTIFICATES.contains(&alert))
}

/// What happened, where tonic only says that something did.
fn cause(status: &Status) -> String {
    let causes = std::iter::successors(status.source(), |&error| error.source());
    match causes.last() {
        Some(error) => error.to_string(),
        None => status.message().to_owned(),
    }
}
