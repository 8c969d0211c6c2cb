//! The server's end: TCP connections in, TLS connections that know their peer out.
//!
//! The configuration is a watched value, so certificates change without a restart. Handshakes run beside each other
//! and are given up after [`HANDSHAKE_TIMEOUT`]; one bad client never holds up the others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::verify::AgentVerifier;
use super::{Identity, InvalidIdentity};

/// A client that has not finished its handshake by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection. Found in a request's extensions, put there by nothing else.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Whose certificate; `None` where clients show none (enrolment, API).
    pub identity: Option<Identity>,
    /// DER of the client's certificate, for its serial number and end of validity.
    pub certificate: Option<CertificateDer<'static>>,
    /// Its network address.
    pub address: Option<std::net::SocketAddr>,
    /// When it last gave a sign of life.
    pub heard: Heard,
}

/// When bytes last came over a connection: an answered HTTP/2 ping is one, long before a message is.
#[derive(Debug, Clone)]
pub struct Heard {
    opened: Instant,
    /// Milliseconds after `opened`.
    last: Arc<AtomicU64>,
}

impl Heard {
    fn now() -> Self {
        let last = Arc::new(AtomicU64::new(0));
        Self {
            opened: Instant::now(),
            last,
        }
    }

    /// How long the connection stood when bytes last came. Grows with every sign of life.
    pub fn last(&self) -> Duration {
        Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// How long ago bytes last came.
    pub fn ago(&self) -> Duration {
        self.opened.elapsed().saturating_sub(self.last())
    }

    fn note(&self) {
        let after = self.opened.elapsed().as_millis().try_into();
        self.last
            .store(after.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// An accepted connection: a stream, and who is at its other end.
#[derive(Debug)]
pub struct Connection<S = TlsStream<TcpStream>> {
    stream: S,
    peer: Peer,
}

impl<S> Connection<S> {
    /// A stream whose other end has proved who it is.
    pub fn new(
        stream: S,
        identity: Option<Identity>,
        certificate: Option<CertificateDer<'static>>,
        address: Option<std::net::SocketAddr>,
    ) -> Self {
        let peer = Peer {
            identity,
            certificate,
            address,
            heard: Heard::now(),
        };
        Self { stream, peer }
    }
}

/// Configuration of the agents listener: a client certificate of our CA and trust domain, or no handshake.
///
/// # Errors
/// When certificate and key don't belong together or can't be read.
pub fn agents_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: CertificateDer<'static>,
    trust_domain: String,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier = Arc::new(AgentVerifier::new(ca, trust_domain)?);
    let mut config = builder()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the check of the certificate.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Configuration of the enrolment and API listeners: clients prove themselves by token.
///
/// # Errors
/// When certificate and key don't belong together or can't be read.
pub fn token_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = builder()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// Accepts until the stream is dropped. Failed handshakes are logged with the client's address and are not items.
pub fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: others will close; don't spin meanwhile.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let acceptor = TlsAcceptor::from(config.borrow().clone());
            let ready = ready.clone();
            tokio::spawn(async move {
                match handshake(acceptor, stream, address).await {
                    Ok(connection) => {
                        let _listener_is_gone = ready.send(Ok(connection)).await;
                    }
                    Err(error) => {
                        tracing::info!(client = %address, %error, "TLS handshake refused")
                    }
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: std::net::SocketAddr,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first().cloned());
    let identity = certificate
        .as_ref()
        .map(|certificate| Identity::of_certificate(certificate))
        .transpose()
        .map_err(|error: InvalidIdentity| io::Error::other(error))?;
    let certificate = certificate.map(CertificateDer::into_owned);
    Ok(Connection::new(
        stream,
        identity,
        certificate,
        Some(address),
    ))
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.peer.heard.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
