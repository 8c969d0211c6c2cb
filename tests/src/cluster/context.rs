//! Clusters of the person who runs this: a context of their kubeconfig.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use kube::config::Kubeconfig;
use tempfile::TempDir;

use super::{Cluster, Kind};

/// The cluster of a context; `KUBECONFIG` and `~/.kube/config` are read as kubectl reads them.
///
/// # Errors
/// When there is no such context.
pub async fn open(context: &str) -> Result<Cluster> {
    muster_proto::tls::install_crypto();
    // The error says its own cause already.
    let mut config = Kubeconfig::read()
        .map_err(|error| anyhow!("there is no kubeconfig with a context {context}: {error}"))?;
    ensure!(
        config.contexts.iter().any(|known| known.name == context),
        "the kubeconfig has no context {context}: `kubectl config get-contexts` lists them"
    );
    config.current_context = Some(context.to_owned());
    // A file of its own: programs are told a file, and the current context of the original is somebody's choice.
    let folder = folder()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, serde_json::to_vec(&config)?)?;
    Cluster::new(context, kubeconfig, Kind::Context(Arc::new(folder))).await
}

/// Nobody else can look into it (mode 0700): the file may hold keys.
fn folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.permissions(std::fs::Permissions::from_mode(0o700));
    Ok(builder.prefix("muster-context-").tempdir()?)
}
