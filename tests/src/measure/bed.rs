//! What a benchmark runs on: one audited API server, a repository over HTTP, and hub and agent as processes of their
//! own, with a wire between them that can be cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_cli::Environment;
use serde_json::Value;

use super::audit::Audit;
use crate::cluster::{Cluster, real};
use crate::git::Repository;
use crate::git::server::GitServer;
use crate::programs::Programs;
use crate::supervisor::{Folder, Process, free_port};
use crate::wait;
use crate::world::ask;
use crate::world::wire::Wire;

/// How long one phase may take: ten thousand objects on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The cluster's name in the fleet.
const CLUSTER: &str = "one";

pub(super) struct Bed {
    pub(super) cluster: Cluster,
    pub(super) audit: Audit,
    pub(super) repository: Repository,
    pub(super) hub: Process,
    pub(super) agent: Process,
    /// Between agent and hub.
    pub(super) wire: Wire,
    programs: Programs,
    git: GitServer,
    api: SocketAddr,
    agents: SocketAddr,
    enrolment: SocketAddr,
    folder: Folder,
}

impl Bed {
    /// Starts everything, with `files` in the first commit, and waits until the agent is connected.
    pub(super) async fn start(programs: &Programs, files: &[(String, String)]) -> Result<Self> {
        let (cluster, log) = real::start_audited(CLUSTER).await?;
        Self::on(programs, cluster, Audit::new(log), files).await
    }

    /// The same on a cluster that is there.
    pub(super) async fn on(
        programs: &Programs,
        cluster: Cluster,
        audit: Audit,
        files: &[(String, String)],
    ) -> Result<Self> {
        let folder = Folder::new("measure")?;
        let repository = Repository::with(&borrowed(files))?;
        let git = GitServer::start(repository.root().to_owned(), None).await?;
        let [api, agents, enrolment] = [free_port()?, free_port()?, free_port()?];
        let wire = Wire::to(agents).await?;
        let hub = start_hub(
            programs,
            &folder,
            &git,
            [api, agents, enrolment],
            wire.address,
        )?;
        let environment = environment(api, &folder);
        let token = wait::until("the hub answers", PATIENCE, async || {
            hub.ensure_alive()?;
            let answer = ask(&environment, &["cluster", "join", CLUSTER, "-o", "json"])
                .await?
                .json()?;
            let token = answer["token"]
                .as_str()
                .context("an answer without a token")?;
            Ok(token.to_owned())
        })
        .await?;
        std::fs::write(folder.path.join("join-token"), token)?;
        let agent = start_agent(programs, &folder, &cluster)?;
        let bed = Self {
            programs: programs.clone(),
            cluster,
            audit,
            repository,
            hub,
            agent,
            wire,
            git,
            api,
            agents,
            enrolment,
            folder,
        };
        bed.connected().await?;
        Ok(bed)
    }

    /// Ends hub and agent; what was applied stays.
    pub(super) async fn stop(self) -> Result<()> {
        self.agent.stop().await?;
        self.hub.stop().await.map(drop)
    }

    pub(super) async fn restart_hub(&mut self) -> Result<()> {
        self.hub.stop().await?;
        let listen = [self.api, self.agents, self.enrolment];
        self.hub = start_hub(
            &self.programs,
            &self.folder,
            &self.git,
            listen,
            self.wire.address,
        )?;
        wait::until("the hub is back", PATIENCE, async || {
            self.hub.ensure_alive()?;
            self.ask(&["status"]).await
        })
        .await?;
        self.connected().await
    }

    pub(super) async fn restart_agent(&mut self) -> Result<()> {
        self.agent.stop().await?;
        self.agent = start_agent(&self.programs, &self.folder, &self.cluster)?;
        self.connected().await
    }

    /// What `muster ARGUMENTS -o json` answers.
    async fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["-o", "json"]].concat();
        let answer = ask(&environment(self.api, &self.folder), &arguments).await?;
        answer.json()
    }

    /// Commits, and tells the hub as a forge would. Returns the revision.
    pub(super) async fn push(&self, message: &str, files: &[(String, String)]) -> Result<String> {
        let revision = self.commit(message, files)?;
        self.tell().await?;
        Ok(revision)
    }

    /// Commits; the hub looks when it is told, or at its next poll. Returns the revision.
    pub(super) fn commit(&self, message: &str, files: &[(String, String)]) -> Result<String> {
        self.repository.commit(message, &borrowed(files))
    }

    /// Commits a removal, and tells the hub.
    pub(super) async fn push_removal(&self, message: &str, paths: &[&str]) -> Result<String> {
        let revision = self.repository.remove(message, paths)?;
        self.tell().await?;
        Ok(revision)
    }

    /// Tells the hub that there is a commit, as a forge would.
    pub(super) async fn tell(&self) -> Result<()> {
        let ca = std::fs::read(self.folder.path.join("hub/ca/ca.pem"))?;
        let ca = reqwest::Certificate::from_pem(&ca)?;
        let client = reqwest::Client::builder().tls_certs_only([ca]).build()?;
        let url = format!("https://localhost:{}/webhook", self.api.port());
        client.post(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// Waits until the agent is connected and holds the newest desired state.
    pub(super) async fn connected(&self) -> Result<()> {
        wait::until("the agent is connected", PATIENCE, async || {
            self.agent.ensure_alive()?;
            let cluster = self.ask(&["get", "cluster", CLUSTER]).await?;
            let row = &cluster["summary"];
            ensure!(row["connection"] == "connected", "{row:#}");
            Ok(())
        })
        .await
    }

    /// Waits until the hub has looked at a commit.
    pub(super) async fn seen(&self, revision: &str) -> Result<()> {
        wait::until("the hub has seen the commit", PATIENCE, async || {
            let fleet = self.ask(&["status"]).await?;
            ensure!(
                fleet["source"]["revision"] == revision,
                "{:#}",
                fleet["source"]
            );
            Ok(())
        })
        .await
    }

    /// Waits until the application is synced and healthy at the content of the newest commit.
    pub(super) async fn synced(&self, application: &str) -> Result<Value> {
        wait::until(&format!("{application} is synced"), PATIENCE, async || {
            self.agent.ensure_alive()?;
            let detail = self.ask(&["get", "app", application]).await?;
            let placement = &detail["placements"][0];
            let status = &placement["status"];
            ensure!(
                placement["current"] == true
                    && status["sync"] == "Synced"
                    && status["health"] == "Current",
                "{placement:#}"
            );
            Ok(detail)
        })
        .await
    }

    /// Waits until the hub has looked at the commit and all of so many applications are synced at it: applied, though
    /// not ready yet, as a Kustomization of Flux that does not wait.
    pub(super) async fn all_synced(&self, revision: &str, applications: usize) -> Result<()> {
        wait::until("all applications are synced", PATIENCE, async || {
            let fleet = self.ask(&["status"]).await?;
            ensure!(
                fleet["source"]["revision"] == revision,
                "{:#}",
                fleet["source"]
            );
            let cluster = self.ask(&["get", "cluster", CLUSTER]).await?;
            let good = cluster["placements"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|placement| {
                    let status = &placement["status"];
                    placement["current"] == true && status["sync"] == "Synced"
                });
            let good = good.count();
            ensure!(
                good == applications,
                "{good} of {applications}: {:#}",
                cluster["summary"]
            );
            Ok(())
        })
        .await
    }

    /// Waits until the fleet knows nothing of the application any more: its objects are gone.
    pub(super) async fn gone(&self, application: &str) -> Result<()> {
        wait::until(&format!("{application} is gone"), PATIENCE, async || {
            let apps = self.ask(&["apps"]).await?;
            let text = apps.to_string();
            ensure!(
                !text.contains(&format!("\"{application}\"")),
                "it is still there"
            );
            Ok(())
        })
        .await
    }
}

fn start_hub(
    programs: &Programs,
    folder: &Folder,
    git: &GitServer,
    [api, agents, enrolment]: [SocketAddr; 3],
    advertised: SocketAddr,
) -> Result<Process> {
    let arguments = [
        "serve".to_owned(),
        format!("--data={}", folder.path.join("hub").display()),
        format!("--repo={}", git.url("fleet.git")),
        format!("--api-listen={api}"),
        format!("--agents-listen={agents}"),
        format!("--enrolment-listen={enrolment}"),
        format!("--advertise-agents={advertised}"),
        format!("--advertise-enrolment={enrolment}"),
    ];
    programs.hub.start(&arguments, &folder.path.join("hub.log"))
}

fn start_agent(programs: &Programs, folder: &Folder, cluster: &Cluster) -> Result<Process> {
    let token = folder.path.join("join-token");
    let arguments = [
        "run".to_owned(),
        format!("--join-token-file={}", token.display()),
        format!("--data={}", folder.path.join("agent").display()),
        format!("--kubeconfig={}", cluster.kubeconfig.display()),
    ];
    let log = folder.path.join("agent.log");
    programs.agent.start(&arguments, &log)
}

fn environment(api: SocketAddr, folder: &Folder) -> Environment {
    let hub: PathBuf = folder.path.join("hub");
    Environment {
        server: Some(api.to_string()),
        ca_file: Some(hub.join("ca/ca.pem")),
        token_file: Some(hub.join("admin-token")),
        ..Environment::default()
    }
}

fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect()
}
