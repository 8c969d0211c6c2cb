//! Bearer tokens: who may ask.
//!
//! The hub keeps hashes only. The first start writes an admin token into the data folder, or takes over the one that
//! somebody put there.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tonic::Status;

use super::json;
use crate::ca::{hex, random};

/// Fewer characters can be guessed.
const SHORTEST: usize = 20;

/// SHA-256 of a token.
pub(crate) type Hash = [u8; 32];

/// Who asks, put into the request by [`check`]; for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person(pub Arc<str>);

/// The tokens that let people in: name and hash.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Vec<(Arc<str>, Hash)>>);

impl Tokens {
    /// Names and hashes, as the store keeps them.
    pub(crate) fn new(tokens: impl IntoIterator<Item = (String, Hash)>) -> Self {
        Self(Arc::new(
            tokens
                .into_iter()
                .map(|(name, hash)| (name.into(), hash))
                .collect(),
        ))
    }

    /// Whose token it is. What is compared is a hash, so the time it takes tells nothing about the token.
    fn owner(&self, token: &str) -> Option<Person> {
        let hash = hash(token);
        let found = self.0.iter().find(|(_, known)| *known == hash);
        found.map(|(name, _)| Person(name.clone()))
    }
}

/// The admin token of the data folder: what `muster` and scripts show.
pub(crate) struct AdminToken;

impl AdminToken {
    /// Where it is in a data folder.
    pub(crate) fn file(data: &Path) -> PathBuf {
        data.join("admin-token")
    }

    /// Takes over the token that is there, or writes a new one that only the owner may read. What comes back is all
    /// that the store keeps of it.
    ///
    /// # Errors
    /// When the file can't be read or written, or holds something too short to be a secret.
    pub(crate) fn provide(data: &Path) -> anyhow::Result<Hash> {
        let file = Self::file(data);
        let token = match std::fs::read_to_string(&file) {
            Ok(text) => {
                let token = text.trim().to_owned();
                ensure!(
                    token.len() >= SHORTEST,
                    "{}: an admin token has at least {SHORTEST} characters; remove the file to get a new one",
                    file.display()
                );
                token
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let token = format!("muster-token-{}", hex(&random::<32>()));
                write(&file, &token).with_context(|| format!("can't write {}", file.display()))?;
                tracing::info!(file = %file.display(), "wrote an admin token");
                token
            }
            Err(error) => {
                return Err(error).with_context(|| format!("can't read {}", file.display()));
            }
        };
        Ok(hash(&token))
    }
}

/// All of it or nothing, whatever happens.
fn write(file: &Path, token: &str) -> std::io::Result<()> {
    let unfinished = file.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_file(&unfinished)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut to = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    writeln!(to, "{token}")?;
    to.sync_all()?;
    std::fs::rename(&unfinished, file)
}

fn hash(token: &str) -> Hash {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    hash.as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// Lets a request with a good token through, as its owner's; answers in gRPC or JSON, as it was asked.
pub(super) async fn check(
    State(tokens): State<Tokens>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let problem = match token.map(|token| tokens.owner(token)) {
        Some(Some(person)) => {
            request.extensions_mut().insert(person);
            return next.run(request).await;
        }
        Some(None) => "this token is not known to the hub",
        None => "the call has no token",
    };
    let status = Status::unauthenticated(format!(
        "{problem}: send `authorization: Bearer TOKEN`; the hub wrote its first token into the file \
         admin-token of its data folder, and `muster` takes it from its context or MUSTER_TOKEN"
    ));
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        status.into_http::<axum::body::Body>()
    } else {
        json::Failure(status).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_start_writes_a_token_that_only_its_owner_may_read_and_the_next_keeps_it() {
        let data = tempfile::tempdir().unwrap();
        let first = AdminToken::provide(data.path()).unwrap();
        let second = AdminToken::provide(data.path()).unwrap();
        assert_eq!(first, second);
        let file = AdminToken::file(data.path());
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let token = std::fs::read_to_string(&file).unwrap();
        let tokens = Tokens::new([("admin".to_owned(), first)]);
        assert_eq!(tokens.owner(token.trim()), Some(Person("admin".into())));
        assert_eq!(tokens.owner("muster-token-0"), None);
    }

    #[test]
    fn a_token_that_somebody_put_there_is_taken_and_an_empty_file_is_not() {
        let data = tempfile::tempdir().unwrap();
        let file = AdminToken::file(data.path());
        std::fs::write(&file, "a-token-made-by-somebody\n").unwrap();
        assert_eq!(
            AdminToken::provide(data.path()).unwrap(),
            hash("a-token-made-by-somebody")
        );
        std::fs::write(&file, "\n").unwrap();
        let error = AdminToken::provide(data.path()).err().unwrap().to_string();
        assert!(error.contains("at least 20 characters"), "{error}");
    }
}
