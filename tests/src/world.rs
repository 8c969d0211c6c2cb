//! A whole fleet in one process: a Git repository served over HTTP, a hub that follows it, agents in clusters of any
//! kind, and `muster` to ask with. Scenario tests and the demo play on it.
//!
//! Everything goes the way a user goes: hub and agents are configured by their flags and talk over loopback TLS,
//! commits arrive by the webhook, questions are asked through the command-line program.

mod ask;
mod member;
pub mod wire;

pub use ask::{Answer, ask};
pub use member::Member;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_hub::{Hub, Running, clock};
use muster_proto::Timestamp;
use tempfile::TempDir;

use crate::cluster::{Cluster, real};
use crate::git::Repository;
use crate::git::server::GitServer;
use crate::supervisor::testbed;

/// How long anything that should happen "at once" may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A hub, its repository and its clusters, all gone when dropped.
pub struct World {
    /// The fleet repository: commit here.
    pub repository: Repository,
    /// Serves it.
    pub git: GitServer,
    data: TempDir,
    hub: Option<Running>,
    /// What the hub said of itself when it started last: a restarted one comes back there.
    known: Option<Known>,
    /// How many milliseconds the hub's clock is ahead of the machine's.
    ahead: Arc<AtomicI64>,
    /// Where the hub listens.
    host: IpAddr,
    /// The programs it renders with: name and file.
    tools: Vec<(&'static str, PathBuf)>,
    /// Further flags of the hub.
    flags: Vec<String>,
    members: BTreeMap<String, Member>,
}

/// What a running hub says of itself.
#[derive(Debug, Clone)]
struct Known {
    agents: SocketAddr,
    enrolment: SocketAddr,
    api: SocketAddr,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl World {
    /// A hub on a repository whose first commit holds `files` (path, content), and no cluster yet.
    ///
    /// # Errors
    /// When Git or the hub can't be started.
    pub async fn start(files: &[(&str, &str)]) -> Result<Self> {
        muster_proto::tls::install_crypto();
        let repository = Repository::with(files)?;
        Self::on(repository).await
    }

    /// A hub on a repository that is there.
    ///
    /// # Errors
    /// When Git or the hub can't be started.
    pub async fn on(repository: Repository) -> Result<Self> {
        Self::with_tools(repository, Vec::new(), Vec::new()).await
    }

    /// A hub that renders with the pinned kustomize and Helm; the first call in a process may build them, which takes
    /// minutes.
    ///
    /// # Errors
    /// When Git or the hub can't be started, or a program can't be had.
    pub async fn rendering(files: &[(&str, &str)]) -> Result<Self> {
        Self::rendering_with(Vec::new(), files).await
    }

    /// As [`World::rendering`], of a hub that has further flags.
    ///
    /// # Errors
    /// As [`World::rendering`].
    pub async fn rendering_with(flags: Vec<String>, files: &[(&str, &str)]) -> Result<Self> {
        muster_proto::tls::install_crypto();
        let mut tools = Vec::new();
        for name in ["kustomize", "helm"] {
            tools.push((name, real::program(name).await?));
        }
        Self::with_tools(Repository::with(files)?, tools, flags).await
    }

    async fn with_tools(
        repository: Repository,
        tools: Vec<(&'static str, PathBuf)>,
        flags: Vec<String>,
    ) -> Result<Self> {
        muster_proto::tls::install_crypto();
        let git = GitServer::start(repository.root().to_owned(), None).await?;
        let mut world = Self {
            repository,
            git,
            data: tempfile::Builder::new().prefix("muster-hub-").tempdir()?,
            hub: None,
            known: None,
            ahead: Arc::default(),
            host: host_of_its_own(),
            tools,
            flags,
            members: BTreeMap::new(),
        };
        world.start_hub().await?;
        Ok(world)
    }

    /// Starts the hub, or starts it again on what it left in its data directory.
    ///
    /// # Errors
    /// What the hub says.
    pub async fn start_hub(&mut self) -> Result<()> {
        let listen = |address: Option<SocketAddr>| {
            let address = address.unwrap_or(SocketAddr::new(self.host, 0));
            address.to_string()
        };
        let known = self.known.as_ref();
        let arguments = [
            "--data".to_owned(),
            self.data.path().display().to_string(),
            "--repo".to_owned(),
            self.git.url("fleet.git"),
            // Commits are told by the webhook; this is for what the webhook cannot tell, such as a repository that
            // is back after an outage.
            "--poll".to_owned(),
            "2s".to_owned(),
            "--agents-listen".to_owned(),
            listen(known.map(|known| known.agents)),
            "--enrolment-listen".to_owned(),
            listen(known.map(|known| known.enrolment)),
            "--api-listen".to_owned(),
            listen(known.map(|known| known.api)),
        ];
        let tools = self.tools.iter();
        let tools = tools.map(|(name, file)| format!("--{name}={}", file.display()));
        let mut config = muster_hub::config::Config::from_arguments(
            arguments
                .into_iter()
                .chain(tools)
                .chain(self.flags.iter().cloned()),
        )?;
        if !self.tools.is_empty() {
            config.rendering.jail = Some(testbed()?);
        }
        let (real, ahead) = (clock::system(), self.ahead.clone());
        let clock = Arc::new(move || Timestamp(real().0 + ahead.load(Ordering::Relaxed)));
        let running = Hub::start_at(config, clock)
            .await
            .context("the hub did not start")?;
        self.known = Some(Known {
            agents: running.agents_addr,
            enrolment: running.enrolment_addr,
            api: running.api_addr,
            ca_file: running.ca_pem_file.clone(),
            token_file: running.admin_token_file.clone(),
        });
        self.hub = Some(running);
        Ok(())
    }

    /// Ends the hub as SIGTERM would.
    ///
    /// # Errors
    /// When a task of the hub failed.
    pub async fn stop_hub(&mut self) -> Result<()> {
        if let Some(running) = self.hub.take() {
            running.stop().await?;
        }
        Ok(())
    }

    /// Lets time pass for the hub, without anybody waiting for it.
    pub fn pass(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.ahead.fetch_add(time, Ordering::Relaxed);
    }

    /// Turns the hub's clock back, so that what it makes now is as old when the time has passed. Handshakes know nothing of
    /// its clock: to them, what it makes ahead of the machine's is not good yet.
    pub fn turn_back(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.ahead.fetch_sub(time, Ordering::Relaxed);
    }

    /// Where agents connect to the hub.
    ///
    /// # Errors
    /// When no hub was ever started.
    pub fn agents_address(&self) -> Result<SocketAddr> {
        Ok(self.known()?.agents)
    }

    fn known(&self) -> Result<&Known> {
        self.known.as_ref().context("no hub was started")
    }

    /// The hub's data directory.
    pub fn hub_data(&self) -> &Path {
        self.data.path()
    }

    /// A copy of the data directory of a hub that is not running: a backup.
    ///
    /// # Errors
    /// When it can't be copied.
    pub fn copy_of_hub_data(&self) -> Result<TempDir> {
        let copy = tempfile::Builder::new().prefix("muster-hub-").tempdir()?;
        copy_folder(self.data.path(), copy.path())?;
        Ok(copy)
    }

    /// Puts a backup in the place of the data directory; the hub must not be running.
    ///
    /// # Errors
    /// When the hub is running.
    pub fn restore_hub_data(&mut self, backup: TempDir) -> Result<()> {
        ensure!(self.hub.is_none(), "stop the hub first");
        self.data = backup;
        Ok(())
    }

    /// Commits `files` and tells the hub, as a forge does. Returns the commit.
    ///
    /// # Errors
    /// When Git fails or the hub does not take the call.
    pub async fn push(&self, message: &str, files: &[(&str, &str)]) -> Result<String> {
        let revision = self.repository.commit(message, files)?;
        self.pushed().await?;
        Ok(revision)
    }

    /// Removes `paths` in a commit and tells the hub.
    ///
    /// # Errors
    /// When Git fails or the hub does not take the call.
    pub async fn push_removal(&self, message: &str, paths: &[&str]) -> Result<String> {
        let revision = self.repository.remove(message, paths)?;
        self.pushed().await?;
        Ok(revision)
    }

    /// `git revert HEAD`, pushed.
    ///
    /// # Errors
    /// When Git fails or the hub does not take the call.
    pub async fn push_revert(&self) -> Result<String> {
        let revision = self.repository.revert()?;
        self.pushed().await?;
        Ok(revision)
    }

    /// Calls the webhook. A hub that is away hears nothing, and will look when it is back.
    ///
    /// # Errors
    /// When the hub is there and refuses.
    pub async fn pushed(&self) -> Result<()> {
        let (Some(_running), Some(known)) = (&self.hub, &self.known) else {
            return Ok(());
        };
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&known.ca_file)?)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .build()?;
        let url = format!("https://{}/webhook", known.api);
        client.post(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// Lets `cluster` join as `name`: a token from `muster cluster join`, and an agent that uses it.
    ///
    /// # Errors
    /// When the token is not given or the agent does not start.
    pub async fn join(&mut self, name: &str, cluster: &Cluster, labels: &[&str]) -> Result<()> {
        let token = self.invite(name, labels).await?;
        let member = Member::start(name, cluster.clone(), &token).await?;
        self.members.insert(name.to_owned(), member);
        Ok(())
    }

    /// A join token for `name`, from `muster cluster join`.
    ///
    /// # Errors
    /// When it is not given.
    pub async fn invite(&self, name: &str, labels: &[&str]) -> Result<String> {
        let mut arguments = vec!["cluster", "join", name, "-o", "json"];
        for label in labels {
            arguments.extend(["--label", label]);
        }
        let answer = self.muster(&arguments).await?.json()?;
        let token = answer["token"].as_str();
        Ok(token.context("an answer without a token")?.to_owned())
    }

    /// The agent of `name`, to stop and start.
    ///
    /// # Panics
    /// When no cluster of that name joined.
    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).expect("a cluster that joined")
    }
}

/// A loopback address that nobody else listens on or dials from: while a hub is away, nobody takes its ports.
fn host_of_its_own() -> IpAddr {
    let [a, b, c, ..] = *uuid::Uuid::new_v4().as_bytes();
    let host = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
    // Linux has them all, others have one.
    match TcpListener::bind((host, 0)) {
        Ok(_free) => host.into(),
        Err(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Copies a folder with all that is in it, modes included.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
