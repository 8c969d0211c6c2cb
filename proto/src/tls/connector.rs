//! The client's end: dials the hub and trusts nobody else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::proxy::Proxies;
use super::verify::HubVerifier;
pub use super::verify::Trust;

/// A dial that has not succeeded by then is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is probed: a dead one is noticed within two of these.
pub const KEEPALIVE: Duration = Duration::from_secs(20);

/// A client certificate with its key: leaf first.
#[derive(Debug)]
pub struct Credentials {
    /// Leaf, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// Dials `address` (`host:port`) and speaks HTTP/2 over TLS with whoever proves to be the hub.
/// `credentials` are shown where the listener asks for them.
///
/// # Errors
/// When the address can't be reached, the peer is not the hub, or the credentials are refused in the handshake.
pub async fn connect(
    address: &str,
    trust: Trust,
    credentials: Option<Credentials>,
) -> Result<Channel, ConnectError> {
    connect_through(&Proxies::default(), address, trust, credentials).await
}

/// [`connect`], through the proxy where there is one on the way.
///
/// # Errors
/// Those of [`connect`]; a proxy that refuses is named.
pub async fn connect_through(
    proxies: &Proxies,
    address: &str,
    trust: Trust,
    credentials: Option<Credentials>,
) -> Result<Channel, ConnectError> {
    let proxies = proxies.clone();
    let config = Arc::new(config(trust, credentials)?);
    // Host names are not what we trust by (see `HubVerifier`), but TLS wants one to send.
    let name = ServerName::try_from("hub").expect("a valid DNS name");
    let open = move |uri: http::Uri| {
        let connector = TlsConnector::from(config.clone());
        let (name, authority) = (name.clone(), uri.authority().cloned());
        let proxies = proxies.clone();
        async move {
            let authority = authority.ok_or_else(|| io::Error::other("an address is host:port"))?;
            let stream = proxies.open(authority.as_str()).await?;
            stream.set_nodelay(true)?;
            connector.connect(name, stream).await
        }
    };
    connect_over(address, open).await
}

/// Speaks HTTP/2 with whoever is at the other end of the stream that `open` gives. The stream is what makes it safe: TLS
/// is ours, so to tonic this is a plain connection.
///
/// # Errors
/// Those of [`connect`].
pub async fn connect_over<S, F>(
    address: &str,
    open: impl Fn(http::Uri) -> F + Send + 'static,
) -> Result<Channel, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let connector = tower::service_fn(move |uri: http::Uri| {
        let stream = open(uri);
        async move { io::Result::Ok(TokioIo::new(stream.await?)) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| match refused_certificate(&error) {
            Some(why) => ConnectError::NotTheHub(address.to_owned(), why),
            None => ConnectError::Dial(address.to_owned(), root_cause(&error)),
        })
}

/// Why there is no connection to the hub.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("{0:?} is no address: write host:port")]
    Address(String),
    /// Unusable certificate or key.
    #[error("own certificate or key can't be used: {0}")]
    Credentials(#[from] rustls::Error),
    /// Somebody answered, and its certificate is not the hub's: another try won't help.
    #[error("{0} is not the hub: {1}")]
    NotTheHub(String, String),
    /// Refused or unreachable.
    #[error("can't reach the hub at {0}: {1}")]
    Dial(String, String),
}

/// Why the peer's certificate was refused, when that is what happened.
fn refused_certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| {
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        match inner.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(why) => Some(match why {
                CertificateError::Other(why) => why.0.to_string(),
                CertificateError::BadSignature | CertificateError::UnknownIssuer => {
                    "its certificate comes from another CA".to_owned()
                }
                other => format!("its certificate is refused ({other})"),
            }),
            _ => None,
        }
    })
}

/// The last source of an error: what actually happened.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn config(trust: Trust, credentials: Option<Credentials>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HubVerifier { trust }));
    let mut config = match credentials {
        Some(credentials) => builder.with_client_auth_cert(credentials.chain, credentials.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
