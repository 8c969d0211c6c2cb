//! The SPIFFE identity in a certificate (SPIFFE-ID specification: exactly one URI SAN in an X.509-SVID).

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ClusterName;

/// Who a certificate speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which hub's world: one CA, one trust domain.
    pub trust_domain: String,
    /// What it is in there.
    pub role: Role,
}

/// What a certificate's owner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The hub.
    Hub,
    /// The agent of that cluster.
    Cluster(ClusterName),
}

/// Why a certificate says nobody's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// Not X.509.
    #[error("the certificate can't be read")]
    Unreadable,
    /// None or several.
    #[error("the certificate has {0} URI names, and must have exactly one SPIFFE name")]
    NotOneName(usize),
    /// Something else than ours.
    #[error("{0:?} is no name of a hub or cluster")]
    NotOurs(String),
}

impl Identity {
    /// Reads the one SPIFFE name of a certificate. Its signature and validity are checked elsewhere.
    ///
    /// # Errors
    /// When there is not exactly one, or it names neither hub nor cluster.
    pub fn of_certificate(der: &[u8]) -> Result<Self, InvalidIdentity> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| InvalidIdentity::Unreadable)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| InvalidIdentity::Unreadable)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris[..] {
            [uri] => Self::parse(uri),
            _ => Err(InvalidIdentity::NotOneName(uris.len())),
        }
    }

    fn parse(uri: &str) -> Result<Self, InvalidIdentity> {
        let not_ours = || InvalidIdentity::NotOurs(uri.to_owned());
        let rest = uri.strip_prefix("spiffe://").ok_or_else(not_ours)?;
        let (trust_domain, path) = rest.split_once('/').ok_or_else(not_ours)?;
        let role = match path.split_once('/') {
            None if path == "hub" => Role::Hub,
            Some(("cluster", name)) => Role::Cluster(name.parse().map_err(|_| not_ours())?),
            _ => return Err(not_ours()),
        };
        if trust_domain.is_empty() {
            return Err(not_ours());
        }
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            role,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/", self.trust_domain)?;
        match &self.role {
            Role::Hub => f.write_str("hub"),
            Role::Cluster(name) => write!(f, "cluster/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for text in [
            "spiffe://muster.abc/hub",
            "spiffe://muster.abc/cluster/eu-1",
        ] {
            assert_eq!(Identity::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in [
            "https://muster.abc/hub",
            "spiffe://muster.abc",
            "spiffe:///hub",
            "spiffe://muster.abc/cluster/",
            "spiffe://muster.abc/cluster/a/b",
            "spiffe://muster.abc/hub/x",
            "spiffe://muster.abc/pod/x",
        ] {
            assert!(Identity::parse(text).is_err(), "{text}");
        }
    }
}
