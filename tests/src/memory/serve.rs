//! The server over HTTP, on a listener that somebody else opened.
//!
//! In: a [`Server`] and a listener. Out: a running server, its address, and what clients need to reach it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::Server;

/// A server that can be reached; it stops, connections included, when this is dropped.
pub struct Serving {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Starts to serve.
pub(super) fn serve(server: &Arc<Server>, listener: TcpListener) -> std::io::Result<Serving> {
    let address = listener.local_addr()?;
    let server = server.clone();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let server = server.clone();
                    connections.spawn(async move {
                        let service = hyper::service::service_fn(move |request: http::Request<_>| {
                            let server = server.clone();
                            async move {
                                server.handle(request.map(Body::new)).await
                            }
                        });
                        let builder = Builder::new(TokioExecutor::new());
                        // A client that goes away in the middle is not our trouble.
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        }
    });
    Ok(Serving { address, task })
}

impl Serving {
    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For `kube::Client::try_from`.
    #[must_use]
    pub fn config(&self) -> kube::Config {
        kube::Config::new(self.url().parse().expect("an address makes a URL"))
    }

    /// For `kubectl` and agents: YAML with one context, `memory`.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let server = self.url();
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n- name: memory\n  cluster:\n    server: {server}\n\
             users:\n- name: admin\n  user: {{}}\n\
             contexts:\n- name: memory\n  context:\n    cluster: memory\n    user: admin\n\
             current-context: memory\n"
        )
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}
