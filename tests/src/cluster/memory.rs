//! Clusters in memory: an API server of this process over HTTP on loopback, with controllers that make workloads
//! healthy. Up in milliseconds; [`crate::memory`] says what it does and what it does not.

use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use super::{Cluster, Kind};
use crate::memory::{Controllers, Options, Server, Serving};

/// What runs while a handle is left.
pub struct ApiServer {
    /// To set faults on.
    pub server: Arc<Server>,
    _serving: Serving,
    _controllers: Controllers,
    _folder: TempDir,
}

/// Starts a cluster that nobody else has.
///
/// # Errors
/// When no port or no folder can be had.
pub async fn start(name: &str) -> Result<Cluster> {
    muster_proto::tls::install_crypto();
    let server = Server::new(Options {
        // Two clusters never share a UID.
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
        ..Options::default()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let serving = server.serve(listener)?;
    let folder = tempfile::Builder::new()
        .prefix("muster-memory-")
        .tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, serving.kubeconfig())?;
    let running = ApiServer {
        _controllers: server.start_controllers(),
        server,
        _serving: serving,
        _folder: folder,
    };
    Cluster::new(name, kubeconfig, Kind::Memory(Arc::new(running))).await
}
