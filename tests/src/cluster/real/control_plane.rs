//! One real control plane: etcd, kube-apiserver and kube-controller-manager, started one after the other and waited
//! for by asking, not by the clock.

use super::certificates::Authority;
use super::{programs, workloads};
use crate::supervisor::{Folder, Process, free_port};
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};

/// Starting takes seconds of processor time; a machine with fewer cores than clusters would make all of them late.
const READY: Duration = Duration::from_secs(90);

/// The controllers that tests can tell apart from none; no node lifecycle, no volumes, no autoscaling.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,deployment-controller,replicaset-controller,\
statefulset-controller,daemonset-controller,job-controller,serviceaccount-controller,serviceaccount-token-controller,\
root-ca-certificate-publisher-controller,clusterrole-aggregation-controller";

const AUDIT_LOG: &str = "audit.log";

/// Who called what, without bodies; Kubernetes' own components are left out.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: [\"system:masters\"]
  - level: None
";

/// The processes of one cluster. Dropping it ends them and removes its folder, in this order.
pub struct ControlPlane {
    /// The administrator's kubeconfig.
    pub(super) kubeconfig: PathBuf,
    workloads: OnceCell<[Process; 2]>,
    _processes: [Process; 3],
    _authority: Authority,
    scheduler_kubeconfig: PathBuf,
    folder: Folder,
}

impl ControlPlane {
    /// With `audited`, the API server writes down every call of an administrator: see [`Self::audit_log`].
    pub(super) async fn start(name: &str, audited: bool) -> Result<Self> {
        /// One at a time: side by side they are ready later than one after the other.
        static TURN: Mutex<()> = Mutex::const_new(());
        let _turn = TURN.lock().await;
        for _ in 0..3 {
            if let Some(control_plane) = Self::try_start(name, audited).await? {
                return Ok(control_plane);
            }
        }
        bail!("another program took the port of cluster {name} three times")
    }

    /// `None` when the port that was free a moment ago is not any more.
    async fn try_start(name: &str, audited: bool) -> Result<Option<Self>> {
        let folder = Folder::new(&format!("cluster-{name}"))?;
        let files = &folder.path;
        let authority = Authority::new(files)?;
        authority.server("apiserver")?;
        let port = free_port()?.port();
        let server = format!("https://127.0.0.1:{port}");
        let kubeconfig =
            authority.kubeconfig("kubeconfig", &server, "admin", Some("system:masters"))?;
        let user = "system:kube-controller-manager";
        let manager_kubeconfig =
            authority.kubeconfig("controller-manager.kubeconfig", &server, user, None)?;
        let user = "system:kube-scheduler";
        let scheduler_kubeconfig =
            authority.kubeconfig("scheduler.kubeconfig", &server, user, None)?;

        let etcd = start_etcd(files).await?;
        let apiserver = start_apiserver(files, port, audited).await?;
        let client = client(&kubeconfig).await?;
        let ready = wait::until(&format!("cluster {name} is ready"), READY, async || {
            if let Err(died) = etcd.ensure_alive().and_then(|()| apiserver.ensure_alive()) {
                return Ok(Err(died));
            }
            let answer = client
                .request_text(http::Request::get("/readyz").body(vec![])?)
                .await?;
            ensure!(answer == "ok", "/readyz says {answer}");
            Ok(Ok(()))
        })
        .await
        .with_context(|| format!("the end of the API server's log:\n{}", apiserver.log_tail()))?;
        if let Err(died) = ready {
            return if died.to_string().contains("address already in use") {
                Ok(None)
            } else {
                Err(died)
            };
        }

        let manager = start_controller_manager(files, &manager_kubeconfig).await?;
        let accounts = Api::<ServiceAccount>::namespaced(client, "default");
        wait::until(
            &format!("the controllers of cluster {name} work"),
            READY,
            async || {
                if let Err(died) = manager.ensure_alive() {
                    return Ok(Err(died));
                }
                accounts.get("default").await?;
                Ok(Ok(()))
            },
        )
        .await
        .with_context(|| {
            format!(
                "the end of the controller manager's log:\n{}",
                manager.log_tail()
            )
        })??;
        Ok(Some(Self {
            kubeconfig,
            workloads: OnceCell::new(),
            _processes: [manager, apiserver, etcd],
            _authority: authority,
            scheduler_kubeconfig,
            folder,
        }))
    }

    /// Where the calls of administrators are written down, a JSON document a line, before they are answered.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.folder.path.join(AUDIT_LOG)
    }

    /// Starts a scheduler and a node, once.
    pub(in crate::cluster) async fn run_workloads(&self) -> Result<()> {
        let start = || {
            workloads::start(
                &self.folder.path,
                &self.kubeconfig,
                &self.scheduler_kubeconfig,
            )
        };
        self.workloads.get_or_try_init(start).await.map(drop)
    }
}

/// Over a Unix socket: one port less to find, and nobody else's etcd can be met.
async fn start_etcd(files: &Path) -> Result<Process> {
    let socket = |name: &str| format!("unix://{}", files.join(name).display());
    let (clients, peers) = (socket("etcd.sock"), socket("etcd-peers.sock"));
    let args = [
        format!("--data-dir={}", files.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Process::spawn(
        programs::find("etcd").await?,
        args,
        &[],
        &files.join("etcd.log"),
    )
}

async fn start_apiserver(files: &Path, port: u16, audited: bool) -> Result<Process> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", files.join(name).display());
    let mut args = vec![
        format!(
            "--etcd-servers=unix://{}",
            files.join("etcd.sock").display()
        ),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("client-ca-file", "ca.crt"),
        file("service-account-key-file", "service-accounts.pub"),
        file("service-account-signing-key-file", "service-accounts.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // No node lifecycle runs, which would take away the taint the second of these puts on a node.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        "--allow-privileged=true".to_owned(),
    ];
    if audited {
        std::fs::write(files.join("audit-policy.yaml"), AUDIT_POLICY)?;
        args.extend([
            file("audit-policy-file", "audit-policy.yaml"),
            file("audit-log-path", AUDIT_LOG),
            "--audit-log-mode=blocking".to_owned(),
            // In MB: one file for all, however long it is looked at.
            "--audit-log-maxsize=100000".to_owned(),
        ]);
    }
    Process::spawn(
        programs::find("kube-apiserver").await?,
        args,
        &[],
        &files.join("apiserver.log"),
    )
}

async fn start_controller_manager(files: &Path, kubeconfig: &Path) -> Result<Process> {
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!(
            "--service-account-private-key-file={}",
            files.join("service-accounts.key").display()
        ),
        format!("--root-ca-file={}", files.join("ca.crt").display()),
        format!("--controllers={CONTROLLERS}"),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // At its own pace, 20 calls a second, two thousand Deployments would take minutes.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
    ];
    let log = files.join("controller-manager.log");
    Process::spawn(
        programs::find("kube-controller-manager").await?,
        args,
        &[],
        &log,
    )
}

/// A client for the time of starting, when there is no [`crate::cluster::Cluster`] yet.
pub(super) async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
