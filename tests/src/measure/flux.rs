//! Flux on the same API server: its source-controller and kustomize-controller as processes, one GitRepository, and a
//! Kustomization for each application.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt as _;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::process::Command;

use super::objects::{kind, put};
use crate::cluster::{Cluster, real};
use crate::supervisor::{Folder, Process, free_port};
use crate::wait;

/// Names of the controllers at the API server.
pub(super) const PROGRAMS: [&str; 2] = ["source-controller", "kustomize-controller"];
/// Who tells it what to do.
const MANAGER: &str = "measure";
const NAMESPACE: &str = "flux-system";
const PATIENCE: Duration = Duration::from_secs(600);

/// The controllers, and what they were told.
pub(super) struct Flux {
    pub(super) processes: [Process; 2],
    client: Client,
    _folder: Folder,
}

impl Flux {
    /// Starts the controllers on `cluster`, with their own flags or with those that make them fast, and lets them
    /// fetch `repository`.
    pub(super) async fn start(cluster: &Cluster, repository: &str, tuned: bool) -> Result<Self> {
        let files = real::program("flux-crds.yaml").await?;
        kubectl(
            cluster,
            &["apply", "--server-side", "-f", &files.display().to_string()],
        )
        .await?;
        let folder = Folder::new("flux")?;
        let client = cluster.client()?;
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        put(
            MANAGER,
            &Api::all_with(client.clone(), &kind("", "v1", "Namespace")),
            NAMESPACE,
            &body,
        )
        .await?;
        let storage = free_port()?.to_string();
        let source = [
            format!("--storage-path={}", folder.path.join("storage").display()),
            format!("--storage-addr={storage}"),
            format!("--storage-adv-addr={storage}"),
        ];
        let mut kustomize = Vec::new();
        if tuned {
            kustomize.extend([
                "--concurrent=20",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
            ]);
        }
        std::fs::create_dir(folder.path.join("storage"))?;
        let kustomize = kustomize.into_iter().map(str::to_owned).collect();
        let processes = [
            controller(PROGRAMS[0], source.to_vec(), cluster, &folder.path).await?,
            controller(PROGRAMS[1], kustomize, cluster, &folder.path).await?,
        ];
        let flux = Self {
            processes,
            client,
            _folder: folder,
        };
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": "fleet", "namespace": NAMESPACE},
            "spec": {"interval": "10m", "url": repository, "ref": {"branch": "main"}},
        });
        put(MANAGER, &flux.sources(), "fleet", &source).await?;
        Ok(flux)
    }

    /// Waits until the commit is fetched.
    pub(super) async fn fetched(&self, revision: &str) -> Result<()> {
        wait::until("Flux has fetched the commit", PATIENCE, async || {
            for process in &self.processes {
                process.ensure_alive()?;
            }
            let source = serde_json::to_value(self.sources().get("fleet").await?)?;
            let at = &source["status"]["artifact"]["revision"];
            ensure!(
                at.as_str().is_some_and(|at| at.ends_with(revision)),
                "{:#}",
                source["status"]
            );
            Ok(())
        })
        .await
    }

    /// Makes a Kustomization of each folder, whose objects go into `namespace`.
    pub(super) async fn deploy(&self, folders: &[String], namespace: &str) -> Result<()> {
        for folder in folders {
            let body = json!({
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
                "kind": "Kustomization",
                "metadata": {"name": folder, "namespace": NAMESPACE},
                "spec": {
                    "interval": "10m",
                    "path": format!("./{folder}"),
                    "prune": true,
                    "targetNamespace": namespace,
                    "sourceRef": {"kind": "GitRepository", "name": "fleet"},
                },
            });
            put(MANAGER, &self.kustomizations(), folder, &body).await?;
        }
        Ok(())
    }

    /// Tells it that there is a commit, as its webhook receiver does.
    pub(super) async fn tell(&self) -> Result<()> {
        let now = jiff::Timestamp::now().to_string();
        let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        let params = PatchParams::default();
        self.sources()
            .patch("fleet", &params, &Patch::Merge(&asked))
            .await?;
        Ok(())
    }

    /// Waits until `count` Kustomizations are ready at `revision`.
    pub(super) async fn applied(&self, count: usize, revision: &str) -> Result<()> {
        let mut events = std::pin::pin!(watcher(self.kustomizations(), watcher::Config::default()));
        let mut at = BTreeMap::new();
        let all = async {
            while let Some(event) = events.try_next().await? {
                let (Event::Apply(object) | Event::InitApply(object)) = event else {
                    continue;
                };
                let name = object.metadata.name.clone().unwrap_or_default();
                at.insert(name, is_ready_at(&object.data, revision));
                if at.values().filter(|ready| **ready).count() == count {
                    return anyhow::Ok(());
                }
            }
            anyhow::bail!("the watch ended")
        };
        let done = tokio::time::timeout(PATIENCE, all).await;
        done.context("Flux did not apply the commit in time")?
    }

    /// Ends the controllers, and takes away what they were told, though not what they applied.
    pub(super) async fn stop(self) -> Result<()> {
        for process in &self.processes {
            process.stop().await?;
        }
        let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        for api in [self.kustomizations(), self.sources()] {
            for object in api.list(&ListParams::default()).await? {
                let name = object.metadata.name.unwrap_or_default();
                api.patch(&name, &PatchParams::default(), &released).await?;
                api.delete(&name, &kube::api::DeleteParams::default())
                    .await?;
            }
        }
        Ok(())
    }

    fn sources(&self) -> Api<DynamicObject> {
        let kind = kind("source.toolkit.fluxcd.io", "v1", "GitRepository");
        Api::namespaced_with(self.client.clone(), NAMESPACE, &kind)
    }

    fn kustomizations(&self) -> Api<DynamicObject> {
        let kind = kind("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
        Api::namespaced_with(self.client.clone(), NAMESPACE, &kind)
    }
}

fn is_ready_at(kustomization: &Value, revision: &str) -> bool {
    let status = &kustomization["status"];
    let at = status["lastAppliedRevision"].as_str().unwrap_or_default();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|it| it["type"] == "Ready" && it["status"] == "True");
    ready && at.ends_with(revision)
}

async fn controller(
    name: &str,
    flags: Vec<String>,
    cluster: &Cluster,
    folder: &Path,
) -> Result<Process> {
    let mut arguments = vec![
        format!("--metrics-addr={}", free_port()?),
        format!("--health-addr={}", free_port()?),
        "--events-addr=".to_owned(),
    ];
    arguments.extend(flags);
    let environment = [
        (
            "KUBECONFIG",
            cluster
                .kubeconfig
                .to_str()
                .context("a path that is no text")?,
        ),
        ("RUNTIME_NAMESPACE", NAMESPACE),
    ];
    let log = folder.join(format!("{name}.log"));
    Process::spawn(&real::program(name).await?, arguments, &environment, &log)
}

async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let output = Command::new(real::kubectl().await?)
        .arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .args(arguments)
        .output()
        .await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kubectl {}: {told}",
        arguments.join(" ")
    );
    Ok(())
}
