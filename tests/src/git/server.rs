//! Serves repositories over HTTP or HTTPS with the real `git http-backend` (a CGI program, RFC 3875).
//!
//! In: a folder of bare repositories, optionally a token that clients must send as the password of Basic
//! authentication. Out: a URL on a free loopback port. Dropping the server ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// A running Git server.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    state: Arc<Serving>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Serving {
    root: PathBuf,
    token: Option<String>,
    down: AtomicBool,
    requests: AtomicUsize,
}

impl GitServer {
    /// Serves every bare repository in `root` over HTTP. With a `token`, requests without it get 401.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(root: PathBuf, token: Option<&str>) -> Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), root, token).await
    }

    /// As [`GitServer::start`], at a given address.
    ///
    /// # Errors
    /// When it can't be bound.
    pub async fn listen(at: SocketAddr, root: PathBuf, token: Option<&str>) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(at)
            .await
            .with_context(|| format!("can't listen on {at}: choose another with --listen"))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Serving {
            root,
            token: token.map(str::to_owned),
            down: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(answer).with_state(state.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the Git server ended");
            }
        });
        Ok(Self {
            address,
            state,
            task,
        })
    }

    /// URL of a repository, such as `http://127.0.0.1:4711/fleet.git`.
    pub fn url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.address)
    }

    /// From now on (or no longer) every request is answered 503, as by a forge that is down.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// How many requests came so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(serving): State<Arc<Serving>>, request: Request) -> Response {
    serving.requests.fetch_add(1, Ordering::SeqCst);
    if serving.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !allowed(&serving, &request) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    match backend(&serving, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

fn allowed(serving: &Serving, request: &Request) -> bool {
    let Some(token) = &serving.token else {
        return true;
    };
    let sent = request.headers().get(header::AUTHORIZATION);
    let decoded = sent
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.is_some_and(|pair| {
        pair.split_once(':')
            .is_some_and(|(_, password)| password == token)
    })
}

async fn backend(serving: &Serving, request: Request) -> Result<Response> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await?;
    let text = |name: HeaderName| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        // The folder may belong to another user than the one who serves it.
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_PROJECT_ROOT", &serving.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
        .env(
            "HTTP_GIT_PROTOCOL",
            text(HeaderName::from_static("git-protocol")),
        )
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("git http-backend can't be run")?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    // It may answer before it has read everything; a closed pipe is then no error.
    let feed = tokio::spawn(async move {
        let _closed_early = stdin.write_all(&body).await;
    });
    let output = child.wait_with_output().await?;
    feed.await?;
    respond(&output.stdout)
}

/// Turns a CGI answer (header lines, an empty line, the body) into a response.
fn respond(output: &[u8]) -> Result<Response> {
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.context("git http-backend answered without a header")?;
    let mut response = Response::new(Body::from(output[end + 4..].to_vec()));
    for line in std::str::from_utf8(&output[..end])?.lines() {
        let (name, value) = line.split_once(": ").context("a header line has a colon")?;
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            *response.status_mut() = StatusCode::from_bytes(code.as_bytes())?;
        } else {
            response.headers_mut().insert(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_str(value)?,
            );
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::{Repository, git};

    #[tokio::test]
    async fn a_repository_is_cloned_over_http_and_only_with_the_token() {
        let repository = Repository::with(&[("a/b.txt", "hello\n")]).unwrap();
        let server = GitServer::start(repository.root().to_owned(), Some("s3cret"))
            .await
            .unwrap();
        let url = server.url("fleet.git");
        let folder = tempfile::tempdir().unwrap();
        let clone = |url: String, name: &'static str| {
            let path = folder.path().to_owned();
            tokio::task::spawn_blocking(move || git(&path, ["clone", "--quiet", &url, name]))
        };
        assert!(clone(url.clone(), "without").await.unwrap().is_err());
        let with_token = url.replace("http://", "http://user:s3cret@");
        clone(with_token, "with").await.unwrap().unwrap();
        let content = std::fs::read_to_string(folder.path().join("with/a/b.txt")).unwrap();
        assert_eq!(content, "hello\n");
        assert!(server.requests() >= 3);
    }

    #[test]
    fn a_revert_restores_what_was_there() {
        let repository = Repository::with(&[("a", "1\n")]).unwrap();
        repository.commit("Change", &[("a", "2\n")]).unwrap();
        repository.revert().unwrap();
        assert_eq!(
            std::fs::read_to_string(repository.work().join("a")).unwrap(),
            "1\n"
        );
    }
}
