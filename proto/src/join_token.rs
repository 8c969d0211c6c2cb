//! The join token: one line of text that lets one new cluster in, once, before it expires.
//!
//! It holds who the cluster will be, where the hub is, which CA to trust (a pin, so that nothing on the way can
//! pose as the hub), and a secret of which the hub keeps only the hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::ClusterName;
use crate::wire::v1::JoinTokenContent;

const PREFIX: &str = "muster-join-";

/// What a join token says.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Who the cluster will be.
    pub cluster: ClusterName,
    /// `host:port` of the hub's agents listener.
    pub agents_address: String,
    /// `host:port` of the hub's enrolment listener.
    pub enrolment_address: String,
    /// SHA-256 of the CA certificate's DER.
    pub ca_sha256: [u8; 32],
    /// Proves that the bearer was invited. Never logged, never stored by the hub.
    pub secret: String,
}

/// Why a text is no join token. The text itself is a secret and is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no join token ({0}): copy the whole line that `muster cluster join NAME` printed, starting with `muster-join-`"
)]
pub struct InvalidJoinToken(&'static str);

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = JoinTokenContent {
            cluster: self.cluster.to_string(),
            agents_address: self.agents_address.clone(),
            enrolment_address: self.enrolment_address.clone(),
            ca_sha256: self.ca_sha256.to_vec().into(),
            secret: self.secret.clone(),
        };
        write!(
            f,
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(content.encode_to_vec())
        )
    }
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;

    fn from_str(text: &str) -> Result<Self, InvalidJoinToken> {
        let encoded = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(InvalidJoinToken("it starts differently"))?;
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| InvalidJoinToken("it is cut or has stray characters"))?;
        let content = JoinTokenContent::decode(bytes.as_slice())
            .map_err(|_| InvalidJoinToken("it is cut or has stray characters"))?;
        if content.secret.is_empty()
            || content.agents_address.is_empty()
            || content.enrolment_address.is_empty()
        {
            return Err(InvalidJoinToken("a part of it is missing"));
        }
        Ok(Self {
            cluster: content
                .cluster
                .parse()
                .map_err(|_| InvalidJoinToken("its cluster name is invalid"))?,
            agents_address: content.agents_address,
            enrolment_address: content.enrolment_address,
            ca_sha256: content
                .ca_sha256
                .as_ref()
                .try_into()
                .map_err(|_| InvalidJoinToken("its CA pin is not 32 bytes"))?,
            secret: content.secret,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, …)", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: "eu-1".parse().unwrap(),
            agents_address: "hub.example:7443".into(),
            enrolment_address: "hub.example:7444".into(),
            ca_sha256: [9; 32],
            secret: "hunter2".into(),
        }
    }

    #[test]
    fn a_token_reads_back() {
        assert_eq!(token().to_string().parse(), Ok(token()));
        assert_eq!(format!("{}\n", token()).parse(), Ok(token()));
    }

    #[test]
    fn a_cut_token_says_so_and_does_not_repeat_itself() {
        let text = token().to_string();
        let error = text[..text.len() - 5].parse::<JoinToken>().unwrap_err();
        assert!(error.to_string().starts_with("this is no join token"));
        assert!(!error.to_string().contains(&text[12..30]));
        assert!(!format!("{:?}", token()).contains("hunter2"));
    }
}
