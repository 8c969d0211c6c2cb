//! A cluster that joined: its agent, in this process, to stop and start like a Pod.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use muster_agent::clock::Clock;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;

/// One cluster and its agent.
pub struct Member {
    /// The cluster.
    pub cluster: Cluster,
    /// Namespace of the agent's ledger: worlds share real clusters, and each keeps its own.
    namespace: String,
    /// How the agent reaches the hub's agents listener, when not by the address in its token.
    pub hub: Option<SocketAddr>,
    /// The agent's time of day, from its next start on.
    pub clock: Clock,
    /// The Secret in its namespace that holds its key and certificate from its next start on, instead of a folder.
    pub secret: Option<String>,
    folder: TempDir,
    running: Option<Agent>,
}

struct Agent {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Member {
    /// An agent of `cluster` that joins with `token` under the token's name.
    ///
    /// # Errors
    /// When its configuration is refused.
    pub async fn start(name: &str, cluster: Cluster, token: &str) -> Result<Self> {
        let unique = &uuid::Uuid::new_v4().simple().to_string()[..8];
        Self::start_in(format!("muster-{name}-{unique}"), cluster, token)
    }

    /// A second agent in the same cluster and namespace that joins with a token of its own, under another name.
    ///
    /// # Errors
    /// When its configuration is refused.
    pub fn start_beside(&self, token: &str) -> Result<Self> {
        Self::start_in(self.namespace.clone(), self.cluster.clone(), token)
    }

    fn start_in(namespace: String, cluster: Cluster, token: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("muster-agent-").tempdir()?;
        std::fs::write(folder.path().join("join-token"), token)?;
        let mut member = Self {
            cluster,
            namespace,
            hub: None,
            clock: Clock::system(),
            secret: None,
            folder,
            running: None,
        };
        member.start_agent()?;
        Ok(member)
    }

    /// Starts the agent, or starts it again on the credentials it kept.
    ///
    /// # Errors
    /// When its configuration is refused.
    pub fn start_agent(&mut self) -> Result<()> {
        let mut arguments = vec![
            "--join-token-file".to_owned(),
            self.folder.path().join("join-token").display().to_string(),
            "--kubeconfig".to_owned(),
            self.cluster.kubeconfig.display().to_string(),
            "--namespace".to_owned(),
            self.namespace.clone(),
        ];
        arguments.extend(match &self.secret {
            Some(name) => [
                "--credentials-secret".to_owned(),
                format!("{}/{name}", self.namespace),
            ],
            None => [
                "--data".to_owned(),
                self.credentials().display().to_string(),
            ],
        });
        if let Some(hub) = self.hub {
            arguments.extend(["--hub".to_owned(), hub.to_string()]);
        }
        let mut config = muster_agent::config::Config::from_arguments(arguments)?;
        config.options.clock = self.clock.clone();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // A sender that is gone stops it too.
            let _dropped = stopped.await;
        };
        let task = tokio::spawn(muster_agent::run(config, shutdown));
        self.running = Some(Agent { stop, task });
        Ok(())
    }

    /// A second agent with the same name, credentials and cluster, not started yet: somebody copied the first.
    ///
    /// # Errors
    /// When its folder can't be copied.
    pub fn copy(&self) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("muster-agent-").tempdir()?;
        super::copy_folder(self.folder.path(), folder.path())?;
        Ok(Self {
            cluster: self.cluster.clone(),
            namespace: self.namespace.clone(),
            hub: self.hub,
            clock: self.clock.clone(),
            secret: self.secret.clone(),
            folder,
            running: None,
        })
    }

    /// Waits until the agent ends by itself, and returns how.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<()> {
        let agent = self.running.take().context("the agent is not running")?;
        let ended = agent.task.await?;
        drop(agent.stop);
        ended
    }

    /// Ends the agent as SIGTERM would, and returns how it ended.
    ///
    /// # Errors
    /// Why the agent ended, when it was not because of this.
    pub async fn stop_agent(&mut self) -> Result<()> {
        let agent = self.running.take().context("the agent is not running")?;
        let _ended_by_itself = agent.stop.send(());
        agent.task.await?
    }

    /// Folder of its key and certificate.
    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// Namespace of its ledger.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Gives an agent that is not running yet a ledger that no other agent sees.
    pub fn keep_its_own_ledger(&mut self) {
        self.namespace.push_str("-copy");
    }
}
