//! A fleet of processes: hub, agents and `muster` started as people start them, to be killed as machines do.
//!
//! In: how to start each program, a first commit. Out: a running hub with its repository over HTTP, agents by name,
//! and what `muster` says. Everything ends with the [`Fleet`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::git::Repository;
use crate::git::server::GitServer;
use crate::supervisor::{Folder, Process, testbed};
use crate::wait;
use crate::world::SOON;

/// How the three programs are started: a file, and what stands before their own arguments.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `muster-hub`.
    pub hub: Program,
    /// `muster-agent`.
    pub agent: Program,
    /// `muster`.
    pub muster: Program,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file.
    pub file: PathBuf,
    /// What stands before the arguments.
    pub first: Option<&'static str>,
}

/// What a program that ended by itself left.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Programs {
    /// All three in one binary: `testbed hub`, `testbed agent`, `testbed muster`.
    ///
    /// # Errors
    /// When it was not built.
    pub fn of_the_testbed() -> Result<Self> {
        let file = testbed()?;
        let program = |first| Program {
            file: file.clone(),
            first: Some(first),
        };
        Ok(Self {
            hub: program("hub"),
            agent: program("agent"),
            muster: program("muster"),
        })
    }
}

impl Program {
    /// A program that is a file of its own.
    pub fn shipped(file: &str) -> Self {
        Self {
            file: file.into(),
            first: None,
        }
    }

    /// Runs it until it ends by itself, in the given environment and no other.
    ///
    /// # Errors
    /// When it can't be started, prints what is no text, or is still running after a while.
    pub async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Said> {
        let running = Command::new(&self.file)
            .args(self.first)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(SOON, running)
            .await
            .with_context(|| format!("{arguments:?} is still running"))??;
        Ok(Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    /// Starts it, to run until it is stopped.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, arguments: &[String], log: &Path) -> Result<Process> {
        let first = self.first.map(str::to_owned);
        let line = first.into_iter().chain(arguments.iter().cloned());
        Process::spawn(&self.file, line, &[], log)
    }
}

/// A hub, its repository and its agents.
pub struct Fleet {
    /// Commit here.
    pub repository: Repository,
    programs: Programs,
    folder: Folder,
    git: GitServer,
    hub: Option<Process>,
    /// Agents, hub and API listeners, once the hub has chosen them.
    addresses: Option<[String; 3]>,
    agents: BTreeMap<String, Process>,
    /// Every start has a log of its own.
    starts: u32,
}

impl Fleet {
    /// A hub on a repository whose first commit holds `files` (path, content), and `muster` that knows it.
    ///
    /// # Errors
    /// When one of them can't be started.
    pub async fn start(programs: Programs, files: &[(&str, &str)]) -> Result<Self> {
        let repository = Repository::with(files)?;
        let git = GitServer::start(repository.root().to_owned(), None).await?;
        let mut fleet = Self {
            repository,
            programs,
            folder: Folder::new("fleet")?,
            git,
            hub: None,
            addresses: None,
            agents: BTreeMap::new(),
            starts: 0,
        };
        fleet.start_hub().await?;
        let data = fleet.path("hub");
        let api = fleet.addresses.clone().context("the hub serves")?[2].clone();
        let known = ["context", "add", "local", "--data", &data, "--server", &api];
        let said = fleet.muster(&known).await?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(fleet)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path.join(name).display().to_string()
    }

    fn log(&mut self, name: &str) -> PathBuf {
        self.starts += 1;
        self.folder.path.join(format!("{name}-{}.log", self.starts))
    }

    /// Starts the hub, or starts it again where it was, on what it left; waits until it serves.
    ///
    /// # Errors
    /// With the end of its log when it does not.
    pub async fn start_hub(&mut self) -> Result<()> {
        let mut line: Vec<String> = vec!["serve".into(), "--data".into(), self.path("hub")];
        line.extend(["--repo".into(), self.git.url("fleet.git")]);
        line.extend(["--poll", "500ms", "--log-format", "json"].map(str::to_owned));
        let free = ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"].map(str::to_owned);
        let flags = ["--agents-listen", "--enrolment-listen", "--api-listen"];
        for (flag, address) in flags.iter().zip(self.addresses.clone().unwrap_or(free)) {
            line.extend([(*flag).to_owned(), address]);
        }
        let log = self.log("hub");
        let hub = self.programs.hub.start(&line, &log)?;
        let serving = wait::until("the hub says where it serves", SOON, async || {
            hub.ensure_alive()?;
            let log = std::fs::read_to_string(&log)?;
            let lines = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let mut fields = lines.map(|line: Value| line["fields"].clone());
            fields
                .find(|fields| fields["message"] == "the hub serves")
                .context("not yet")
        })
        .await?;
        let address = |name| serving[name].as_str().map(str::to_owned);
        let address = |name| address(name).with_context(|| format!("{name} in {serving}"));
        self.addresses = Some([address("agents")?, address("enrolment")?, address("api")?]);
        self.hub = Some(hub);
        Ok(())
    }

    /// The hub's process.
    ///
    /// # Panics
    /// When it was taken.
    pub fn hub(&self) -> &Process {
        self.hub.as_ref().expect("a hub that was started")
    }

    /// Folder of everything durable of the hub.
    pub fn hub_data(&self) -> PathBuf {
        self.folder.path.join("hub")
    }

    /// Runs `muster ARGUMENTS`.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn muster(&self, arguments: &[&str]) -> Result<Said> {
        let config = self.path("muster.yaml");
        let environment = [("MUSTER_CONFIG", config.as_str())];
        self.programs.muster.run(arguments, &environment).await
    }

    /// What `muster ARGUMENTS -o json` prints.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.muster(&[arguments, &["-o", "json"]].concat()).await?;
        ensure!(said.code == Some(0), "muster failed: {said:?}");
        Ok(serde_json::from_str(&said.out)?)
    }

    /// Lets a cluster join: a token, and an agent that uses it. The agent's own Secrets lie in `namespace`.
    ///
    /// # Errors
    /// When the token is not given or the agent can't be started.
    pub async fn join(&mut self, name: &str, cluster: &Cluster, namespace: &str) -> Result<()> {
        let answer = self.ask(&["cluster", "join", name]).await?;
        let token = answer["token"].as_str().context("an answer with a token")?;
        std::fs::write(self.path(&format!("{name}.join")), token)?;
        self.start_agent(name, cluster, namespace)
    }

    /// Starts an agent again.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_agent(&mut self, name: &str, cluster: &Cluster, namespace: &str) -> Result<()> {
        let token = self.path(&format!("{name}.join"));
        let data = self.path(name);
        let kubeconfig = cluster.kubeconfig.display().to_string();
        let line = [
            ["--join-token-file", &token],
            ["--data", &data],
            ["--kubeconfig", &kubeconfig],
            ["--namespace", namespace],
        ];
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(line.concat().into_iter().map(str::to_owned));
        let log = self.log(name);
        let agent = self.programs.agent.start(&arguments, &log)?;
        self.agents.insert(name.to_owned(), agent);
        Ok(())
    }

    /// The process of an agent.
    ///
    /// # Panics
    /// When it was never started.
    pub fn agent(&self, name: &str) -> &Process {
        &self.agents[name]
    }

    /// Waits until every agent is connected and `muster status --check` finds nothing amiss at the newest commit.
    ///
    /// # Errors
    /// With what it said last, and the ends of all logs.
    pub async fn is_well(&self) -> Result<()> {
        let head = self.repository.head()?;
        wait::until("the whole fleet is well", SOON, async || {
            let status = self.ask(&["status"]).await?;
            ensure!(
                status["source"]["adoptedRevision"] == head.as_str(),
                "{status:#}"
            );
            // A cluster that never joined is nothing amiss, and here one that did not join yet.
            let connected = |name: &String| {
                let mut clusters = status["clusters"].as_array().into_iter().flatten();
                clusters.any(|it| it["name"] == name.as_str() && it["connection"] == "connected")
            };
            ensure!(self.agents.keys().all(connected), "{status:#}");
            let check = self.muster(&["status", "--check"]).await?;
            ensure!(check.code == Some(0), "{}{}", check.out, check.err);
            Ok(())
        })
        .await
        .with_context(|| {
            let logs = self.hub.iter().chain(self.agents.values());
            let logs = logs.map(|process| format!("{}: {}", process.name, process.log_tail()));
            logs.collect::<Vec<_>>().join("\n")
        })
    }
}
