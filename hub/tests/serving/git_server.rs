//! A forge in small: the real `git http-backend` (a CGI program, RFC 3875) behind TLS, with a CA made on the spot, and
//! a token that every request must carry.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Serves every repository below a folder until it is dropped.
pub(crate) struct GitServer {
    address: SocketAddr,
    serving: Arc<Serving>,
    task: tokio::task::JoinHandle<()>,
    /// PEM of the CA that vouches for it.
    pub(crate) ca_pem: String,
}

struct Serving {
    root: PathBuf,
    /// What `Authorization` must say.
    wanted: Mutex<String>,
    /// What every request is sent to instead.
    moved_to: Mutex<Option<SocketAddr>>,
    /// Everything that `Authorization` has said.
    shown: Mutex<Vec<String>>,
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl GitServer {
    pub(crate) async fn start(root: &Path, token: &str) -> Self {
        let serving = Arc::new(Serving {
            root: root.to_owned(),
            wanted: Mutex::new(basic(token)),
            moved_to: Mutex::default(),
            shown: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(serving.clone());
        let (address, ca_pem, task) = serve(router).await;
        Self {
            address,
            serving,
            task,
            ca_pem,
        }
    }

    /// URL of the repository in the folder itself.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/.git", self.address)
    }

    /// From now on no other token is good.
    pub(crate) fn take_only(&self, token: &str) {
        *self.serving.wanted.lock().unwrap() = basic(token);
    }

    /// From now on every request is redirected to another server.
    pub(crate) fn redirect_to(&self, other: &Self) {
        *self.serving.moved_to.lock().unwrap() = Some(other.address);
    }

    /// How often and with what clients tried to get in.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.serving.shown.lock().unwrap().clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As every forge takes it: the token is the password.
fn basic(token: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("x-access-token:{token}"))
    )
}

/// Serves behind TLS, on a free port; the CA that vouches for it.
pub(crate) async fn serve(router: Router) -> (SocketAddr, String, tokio::task::JoinHandle<()>) {
    muster_proto::tls::install_crypto();
    let (ca_pem, config) = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let task = tokio::spawn(async move {
        axum::serve(Tls { listener, acceptor }, router)
            .await
            .unwrap();
    });
    (address, ca_pem, task)
}

/// A CA, and a server that it vouches for.
fn certificates() -> (String, ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![server.der().clone()], key.into());
    (authority_pem, config.unwrap())
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust us hangs up here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(
    State(serving): State<Arc<Serving>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    if let Some(other) = *serving.moved_to.lock().unwrap() {
        let place = format!("https://{other}{uri}");
        return (StatusCode::FOUND, [(header::LOCATION, place)]).into_response();
    }
    let authorization = text(header::AUTHORIZATION);
    serving.shown.lock().unwrap().push(authorization.clone());
    if authorization != *serving.wanted.lock().unwrap() {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &serving.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", method.as_str())
        .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
        .env(
            "GIT_PROTOCOL",
            text(HeaderName::from_static("git-protocol")),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let fed = tokio::spawn(async move { input.write_all(&body).await });
    let output = child.wait_with_output().await.unwrap().stdout;
    // It may answer before it has read everything.
    fed.await.unwrap().ok();
    let head = output
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..head]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(output[head + 4..].to_vec().into()).unwrap()
}
