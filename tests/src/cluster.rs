//! A Kubernetes cluster behind one interface, whatever is behind it: the scenario tests, the demo and the benchmarks
//! speak to a [`Cluster`] and do not ask which kind it is.
//!
//! In comes a name; out come a kubeconfig for the programs under test and clients of its own for the test itself.

pub mod context;
pub mod memory;
pub mod real;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

use crate::memory::Server;

/// A cluster that is up. Clones are handles to the same one, which ends with the last of them.
#[derive(Clone)]
pub struct Cluster {
    /// The name it was asked for by.
    pub name: String,
    /// How to reach it as its administrator.
    pub config: kube::Config,
    /// A file that says the same, for programs.
    pub kubeconfig: PathBuf,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Real(Arc<real::ControlPlane>),
    Memory(Arc<memory::ApiServer>),
    /// Whose folder holds the kubeconfig.
    Context(#[expect(dead_code, reason = "it is kept for as long as the cluster")] Arc<TempDir>),
}

impl Cluster {
    async fn new(name: &str, kubeconfig: PathBuf, kind: Kind) -> Result<Self> {
        let read = Kubeconfig::read_from(&kubeconfig)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        // As the agent has it: an API server's refusal is told, and not tried again under the hand.
        config.default_retry = false;
        Ok(Self {
            name: name.to_owned(),
            config,
            kubeconfig,
            kind,
        })
    }

    /// A new client, as administrator, that shares no connection and no cache with any other: what a test looks with.
    ///
    /// # Errors
    /// When the TLS configuration cannot be made.
    pub fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.config.clone())?)
    }

    /// Makes Pods come to life from now on, and with them Deployments and Jobs; once it does, says so by returning.
    ///
    /// # Errors
    /// When what it takes cannot be started.
    pub async fn run_workloads(&self) -> Result<()> {
        match &self.kind {
            Kind::Real(control_plane) => control_plane.run_workloads().await,
            // Controllers run from the start, and a person's cluster has its own.
            Kind::Memory(_) | Kind::Context(_) => Ok(()),
        }
    }

    /// The API server of a cluster in memory, to set faults on.
    pub fn in_memory(&self) -> Option<&Arc<Server>> {
        match &self.kind {
            Kind::Memory(running) => Some(&running.server),
            Kind::Real(_) | Kind::Context(_) => None,
        }
    }

    /// Whether it is a person's own, where whatever is put must be taken away again.
    pub fn is_somebodys(&self) -> bool {
        matches!(self.kind, Kind::Context(_))
    }

    /// Creates a namespace no other test has, with `purpose` in its name; returns the name.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn fresh_namespace(&self, purpose: &str) -> Result<String> {
        let metadata = ObjectMeta {
            generate_name: Some(format!("{purpose}-")),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let created = Api::<Namespace>::all(self.client()?)
            .create(&PostParams::default(), &namespace)
            .await?;
        created.metadata.name.context("a namespace without a name")
    }

    /// Lets go of it: when no other handle is left, its processes are ended and its folder is removed before this
    /// returns. A shared cluster stays until the process ends.
    pub fn shutdown(self) {
        drop(self);
    }
}
