//! Listeners: a socket, TLS from a watched configuration, HTTP/2 (and HTTP/1.1 where asked), an orderly end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use muster_proto::tls::acceptor::Connection;
use muster_proto::tls::connector::KEEPALIVE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

/// A client that does not answer a ping by then is gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a socket. Port 0 takes a free one; the address that was bound comes back.
///
/// # Errors
/// When the address can't be had: says which flag to change.
pub(crate) async fn bind(
    flag: &str,
    address: SocketAddr,
) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("can't listen on {address}: is another program there? Give a free address with {flag} IP:PORT")
    })?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Which versions of HTTP a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    /// gRPC only.
    Two,
    /// gRPC, and plain HTTP/1.1 for scripts and webhooks.
    OneAndTwo,
}

/// Serves until `shutdown`, then lets calls that are running end.
///
/// # Errors
/// When the server breaks down.
pub(crate) async fn serve<S>(
    connections: impl Stream<Item = io::Result<Connection<S>>>,
    http: Http,
    routes: Routes,
    shutdown: CancellationToken,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Server::builder()
        .accept_http1(http == Http::OneAndTwo)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
        .await
        .context("the server broke down")
}
