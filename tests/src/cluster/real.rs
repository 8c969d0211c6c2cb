//! Real clusters: the pinned kube-apiserver, etcd and kube-controller-manager as processes on loopback, with a CA of
//! their own; on demand a scheduler and a node, so that Pods come to life.
//!
//! A test binary shares its clusters: the first test that asks for a name starts it. Each test keeps to namespaces and
//! names of its own.

mod certificates;
mod control_plane;
mod programs;
mod workloads;

pub use control_plane::ControlPlane;
pub use programs::{kubectl, pinned_version, program};

use super::{Cluster, Kind};
use anyhow::{Result, ensure};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::OnceCell;

/// The cluster of this name that all tests of this process share, started when it is asked for first.
///
/// # Errors
/// When it cannot be started; the next to ask tries again.
pub async fn shared(name: &str) -> Result<Cluster> {
    type Shared = Mutex<HashMap<String, Arc<OnceCell<Cluster>>>>;
    static CLUSTERS: OnceLock<Shared> = OnceLock::new();
    let cell = {
        let mut clusters = CLUSTERS
            .get_or_init(Shared::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clusters.entry(name.to_owned()).or_default().clone()
    };
    cell.get_or_try_init(|| start(name)).await.cloned()
}

/// Starts a cluster that nobody else has, for a test that does to it what others could not bear.
///
/// # Errors
/// When the programs cannot be had, one of them ends, it is not ready in time, or it is not the pinned version.
pub async fn start(name: &str) -> Result<Cluster> {
    of(ControlPlane::start(name, false).await?, name).await
}

/// [`start`], and the file in which the API server writes down every call of an administrator.
///
/// # Errors
/// As [`start`].
pub async fn start_audited(name: &str) -> Result<(Cluster, PathBuf)> {
    let control_plane = ControlPlane::start(name, true).await?;
    let log = control_plane.audit_log();
    Ok((of(control_plane, name).await?, log))
}

async fn of(control_plane: ControlPlane, name: &str) -> Result<Cluster> {
    muster_proto::tls::install_crypto();
    let kubeconfig = control_plane.kubeconfig.clone();
    let cluster = Cluster::new(name, kubeconfig, Kind::Real(Arc::new(control_plane))).await?;
    let version = cluster.client()?.apiserver_version().await?.git_version;
    let pinned = format!("v{}", pinned_version());
    ensure!(
        version == pinned,
        "the API server is {version}, and {pinned} is pinned"
    );
    Ok(cluster)
}
