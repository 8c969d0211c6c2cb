//! Requests to repositories of charts: bounded, with the credentials that are for whom is asked, and errors that say
//! what to do.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use muster_decide::address::Address;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, StatusCode, Url};

use super::super::explain::Trouble;
use super::super::transport::{CONNECT, Credentials, SILENCE};
use super::LARGEST_PACKED;
use super::registry::{Reference, Registry};

/// So many redirects are followed.
const MOST_MOVES: usize = 5;

/// A client for one fetch.
pub(super) struct Web<'f> {
    client: Client,
    credentials: &'f Credentials,
    /// Of the repository.
    url: &'f str,
    stop: &'f AtomicBool,
}

/// What a request says of who asks. Never printed.
#[derive(Clone)]
pub(super) struct Proof(Option<HeaderValue>);

impl<'f> Web<'f> {
    /// # Errors
    /// When the credential's CA is none.
    pub(super) fn new(
        credentials: &'f Credentials,
        url: &'f str,
        stop: &'f AtomicBool,
    ) -> Result<Self, String> {
        let moved = Policy::custom(|attempt| {
            let before = attempt.previous().last().map(|url| url.scheme().to_owned());
            if attempt.previous().len() > MOST_MOVES {
                return attempt.error("it redirects for ever");
            }
            if before.as_deref() == Some("https") && attempt.url().scheme() != "https" {
                return attempt.error("it redirects to clear text");
            }
            attempt.follow()
        });
        let builder = Client::builder()
            .user_agent("muster-hub")
            .timeout(SILENCE)
            .connect_timeout(CONNECT)
            .redirect(moved);
        let builder = match &credentials.ca {
            None => Ok(builder),
            Some(pem) => Certificate::from_pem_bundle(pem).map(|ca| builder.tls_certs_only(ca)),
        };
        let client = builder.and_then(|builder| builder.build());
        Ok(Self {
            client: client.map_err(|error| format!("{url} can't be asked: {}", words(&error)))?,
            credentials,
            url,
            stop,
        })
    }

    /// The password, where it is for this URL.
    pub(super) fn proof(&self, url: &Url) -> Proof {
        self.proof_if(self.is_for(url.as_str()))
    }

    /// The password, if it may be shown.
    pub(super) fn proof_if(&self, may: bool) -> Proof {
        Proof(self.credentials.basic().filter(|_| may))
    }

    /// Whether there is a password for whoever answers at a URL.
    pub(super) fn is_for(&self, url: &str) -> bool {
        self.credentials.password.is_some() && self.credentials.is_for(url)
    }

    /// The name of the credential.
    pub(super) fn credential(&self) -> &str {
        self.credentials.name()
    }

    /// # Errors
    /// When nobody answers, for people.
    pub(super) fn get(
        &self,
        url: &Url,
        proof: Proof,
        headers: HeaderMap,
    ) -> Result<Response, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "{} names {url}, which is no https:// URL",
                self.url
            ));
        }
        let mut request = self.client.get(url.clone()).headers(headers);
        if let Some(proof) = proof.0 {
            request = request.header(AUTHORIZATION, proof);
        }
        request.send().map_err(|error| {
            // A place that it redirects to may be signed.
            let text = words(&error.without_url());
            let trouble = Trouble {
                distrusted: text.contains("invalid peer certificate"),
                ..Trouble::default()
            };
            self.credentials.words(&plain(url), trouble, &text)
        })
    }

    /// An answer that is one.
    ///
    /// # Errors
    /// With what to do about it.
    pub(super) fn well(&self, response: Response) -> Result<Response, String> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let trouble = Trouble {
            refused: matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            ..Trouble::default()
        };
        let url = plain(response.url());
        Err(self
            .credentials
            .words(&url, trouble, &format!("it answers {status}")))
    }

    /// What an answer holds.
    ///
    /// # Errors
    /// When that is more than it may, or ends too early.
    pub(super) fn body(
        &self,
        mut response: Response,
        most: usize,
        what: &str,
    ) -> Result<Vec<u8>, String> {
        let url = plain(response.url());
        let too_much = || {
            Err(format!(
                "{url} has more than {} MiB, too much for {what}",
                most >> 20
            ))
        };
        if response
            .content_length()
            .is_some_and(|size| size > most as u64)
        {
            return too_much();
        }
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            let read = response.read(&mut chunk);
            let read = read.map_err(|error| {
                let said = words(&error).replace(response.url().as_str(), &url);
                format!("{url} can't be fetched: {said}")
            })?;
            if read == 0 {
                return Ok(bytes);
            }
            if bytes.len() + read > most {
                return too_much();
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(format!("{url} took too long"));
            }
            bytes.extend_from_slice(&chunk[..read]);
        }
    }

    /// A packed chart, and from where it came. An index may name one in a registry, too.
    ///
    /// # Errors
    /// For people.
    pub(super) fn packed(&self, url: &Url) -> Result<(String, Bytes), String> {
        if url.scheme() == "oci" {
            let (reference, tag) = Reference::tagged(url.as_str())?;
            let mut registry = Registry::of(self, reference);
            let offered = registry.tagged(&tag)?;
            return registry.blob(&offered);
        }
        let response = self.well(self.get(url, self.proof(url), HeaderMap::new())?)?;
        let bytes = self.body(response, LARGEST_PACKED, "a chart")?;
        Ok((plain(url), bytes.into()))
    }
}

impl Proof {
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// A token that a registry's service gave.
    pub(super) fn token(token: &str) -> Result<Self, String> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "gives a token that is none".to_owned())?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

/// A URL without what may be a signature.
fn plain(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}

/// An error and what is behind it.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        if !parts.iter().any(|said| said.contains(&part)) {
            parts.push(part);
        }
        next = error.source();
    }
    parts.join(": ")
}

/// Whether two URLs of servers mean the same one.
pub(super) fn is_same_server(one: &str, other: &str) -> bool {
    let address = |url| Address::parse(url).ok();
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one.is_at(&other),
        _ => false,
    }
}
