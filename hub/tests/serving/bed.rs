//! A running hub with a fleet repository of its own, and what its clients need.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use muster_hub::clock::Clock;
use muster_hub::{Config, Hub, Running, clock};
use muster_proto::Timestamp;
use muster_proto::join_token::JoinToken;
use muster_proto::tls::connector::{Credentials, Trust, connect};
use muster_proto::wire::v1;
use muster_proto::wire::v1::agent_message::Message as ToHub;
use muster_proto::wire::v1::agent_service_client::AgentServiceClient;
use muster_proto::wire::v1::enrolment_service_client::EnrolmentServiceClient;
use muster_proto::wire::v1::fleet_service_client::FleetServiceClient;
use muster_proto::wire::v1::hub_message::Message as FromHub;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::script;

/// Longest that anything awaited here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Bed {
    pub(crate) data: TempDir,
    pub(crate) repository: TempDir,
    pub(crate) hub: Running,
    /// Added to the real time, in milliseconds.
    pub(crate) ahead: Arc<AtomicI64>,
}

/// Runs git in a folder, apart from the machine's own configuration.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git is installed");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

pub(crate) fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    commit(folder.path(), "first");
    folder
}

/// A new commit that changes one file; its id.
pub(crate) fn commit(folder: &Path, text: &str) -> String {
    std::fs::write(folder.join("README"), text).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", text]);
    git(folder, &["rev-parse", "HEAD"])
}

pub(crate) fn config(data: &Path, repository: &Path, more: &[&str]) -> anyhow::Result<Config> {
    let (data, repository) = (
        data.display().to_string(),
        format!("file://{}", repository.display()),
    );
    let mut arguments = vec!["--data", &data, "--repo", &repository, "--poll", "1h"];
    for flag in ["--agents-listen", "--enrolment-listen", "--api-listen"] {
        arguments.extend([flag, "127.0.0.1:0"]);
    }
    arguments.extend(more);
    Config::from_arguments(arguments)
}

/// The same for a hub that runs `script` in the place of `tool`, in the real jail.
pub(crate) fn config_with(data: &Path, repository: &Path, tool: &str, script: &str) -> Config {
    let program = data.join(tool);
    script::install(&program, script);
    let flag = format!("--{tool}={}", program.display());
    let mut config = config(data, repository, &[&flag]).unwrap();
    config.rendering.jail = Some(env!("CARGO_BIN_EXE_muster-hub").into());
    config
}

impl Bed {
    /// A hub of this configuration, which was made for these folders.
    pub(crate) async fn of(config: Config, data: TempDir, repository: TempDir) -> Self {
        Self {
            hub: Hub::start(config).await.unwrap(),
            data,
            repository,
            ahead: Arc::default(),
        }
    }

    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        let (data, repository) = (tempfile::tempdir().unwrap(), repository());
        let ahead = Arc::new(AtomicI64::new(0));
        let config = config(data.path(), repository.path(), flags).unwrap();
        let hub = Hub::start_at(config, shifted(ahead.clone())).await.unwrap();
        Self {
            data,
            repository,
            hub,
            ahead,
        }
    }

    /// Another hub on the same data, once this one has stopped.
    pub(crate) async fn restart(self) -> Self {
        self.hub.stop().await.unwrap();
        let config = config(self.data.path(), self.repository.path(), &[]).unwrap();
        Self {
            hub: Hub::start_at(config, shifted(self.ahead.clone()))
                .await
                .unwrap(),
            ..self
        }
    }

    pub(crate) fn move_clock(&self, days: i64) {
        self.ahead.store(days * 24 * 3600 * 1000, Ordering::SeqCst);
    }

    pub(crate) fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.hub.ca_pem_file).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(&self.hub.admin_token_file)
            .unwrap()
            .trim()
            .to_owned()
    }

    pub(crate) async fn api(&self) -> FleetServiceClient<Channel> {
        let address = self.hub.api_addr.to_string();
        FleetServiceClient::new(connect(&address, Trust::Ca(self.ca()), None).await.unwrap())
    }

    /// A message with the admin token.
    pub(crate) fn ask<M>(&self, message: M) -> Request<M> {
        with_token(message, &self.token())
    }

    pub(crate) async fn join_token(&self, cluster: &str) -> JoinToken {
        let request = v1::CreateJoinTokenRequest {
            cluster: cluster.into(),
            ..Default::default()
        };
        let answer = self
            .api()
            .await
            .create_join_token(self.ask(request))
            .await
            .unwrap();
        answer.into_inner().token.parse().unwrap()
    }

    pub(crate) async fn fleet(&self) -> v1::Fleet {
        let request = self.ask(v1::GetFleetRequest::default());
        let answer = self.api().await.get_fleet(request).await;
        answer.unwrap().into_inner()
    }

    /// Looks at Git now; the revision that was found.
    pub(crate) async fn sync(&self) -> Result<String, Status> {
        let request = self.ask(v1::SyncNowRequest {});
        let answer = self.api().await.sync_now(request).await?;
        Ok(answer.into_inner().revision)
    }

    pub(crate) async fn cluster(&self, name: &str) -> v1::ClusterDetail {
        let request = v1::GetClusterRequest { name: name.into() };
        self.api()
            .await
            .get_cluster(self.ask(request))
            .await
            .unwrap()
            .into_inner()
    }

    /// A member that people can see already: the view follows a moment after what it shows.
    pub(crate) async fn joined(&self, cluster: &str) -> Member {
        let member = enrol(&self.join_token(cluster).await).await.unwrap();
        let request = || v1::GetClusterRequest {
            name: cluster.into(),
        };
        until("the new cluster", async || {
            let answer = self.api().await.get_cluster(self.ask(request())).await;
            answer.is_ok()
        })
        .await;
        member
    }

    pub(crate) async fn dial(&self, credentials: Option<Credentials>) -> Result<Agent, String> {
        dial(&self.hub.agents_addr.to_string(), self.ca(), credentials).await
    }

    /// A session that has said Hello.
    pub(crate) async fn session(&self, member: &Member) -> Agent {
        let mut agent = self.dial(Some(member.credentials())).await.unwrap();
        agent.say(ToHub::Hello(member.hello())).await;
        agent
    }
}

fn shifted(ahead: Arc<AtomicI64>) -> Clock {
    let real = clock::system();
    Arc::new(move || Timestamp(real().0 + ahead.load(Ordering::SeqCst)))
}

pub(crate) fn with_token<M>(message: M, token: &str) -> Request<M> {
    let mut request = Request::new(message);
    let header = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

/// A cluster with its certificate.
pub(crate) struct Member {
    pub(crate) cluster: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Member {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            chain: self.chain.clone(),
            key: PrivatePkcs8KeyDer::from(self.key.serialize_der()).into(),
        }
    }

    pub(crate) fn hello(&self) -> v1::Hello {
        v1::Hello {
            agent_version: "0.1.0".into(),
            kubernetes_version: "v1.37.2".into(),
            cluster_uid: format!("uid-of-{}", self.cluster),
            instance: "one".into(),
            answers: true,
            ..Default::default()
        }
    }
}

pub(crate) fn signing_request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

pub(crate) async fn enrol(token: &JoinToken) -> Result<Member, Status> {
    let key = KeyPair::generate().unwrap();
    let csr_der = signing_request(&key).into();
    let answer = enrol_with(token, csr_der).await?.into_inner();
    let chain = answer
        .certificates_der
        .iter()
        .map(|der| CertificateDer::from(der.to_vec()));
    Ok(Member {
        chain: chain.collect(),
        cluster: answer.cluster,
        key,
    })
}

pub(crate) async fn enrol_with(
    token: &JoinToken,
    csr_der: bytes::Bytes,
) -> Result<Response<v1::EnrolResponse>, Status> {
    let channel = connect(&token.enrolment_address, Trust::Pin(token.ca_sha256), None)
        .await
        .unwrap();
    let cluster_uid = format!("uid-of-{}", token.cluster);
    let request = v1::EnrolRequest {
        secret: token.secret.clone(),
        csr_der,
        cluster_uid,
    };
    EnrolmentServiceClient::new(channel).enrol(request).await
}

/// The agent's end of a session, scripted.
pub(crate) struct Agent {
    to_hub: mpsc::Sender<v1::AgentMessage>,
    from_hub: Streaming<v1::HubMessage>,
}

/// Dials and opens a session without a word.
async fn dial(
    address: &str,
    ca: CertificateDer<'static>,
    credentials: Option<Credentials>,
) -> Result<Agent, String> {
    let channel = connect(address, Trust::Ca(ca), credentials)
        .await
        .map_err(|error| error.to_string())?;
    let (to_hub, messages) = mpsc::channel(4);
    let opened = AgentServiceClient::new(channel)
        .session(ReceiverStream::new(messages))
        .await;
    let from_hub = opened.map_err(|status| format!("{status:?}"))?.into_inner();
    Ok(Agent { to_hub, from_hub })
}

impl Agent {
    pub(crate) async fn say(&mut self, message: ToHub) {
        let message = v1::AgentMessage {
            message: Some(message),
        };
        self.to_hub
            .send(message)
            .await
            .expect("the session is open");
    }

    /// The hub's next word.
    pub(crate) async fn hear(&mut self) -> Result<FromHub, Status> {
        let next = tokio::time::timeout(DEADLINE, self.from_hub.message())
            .await
            .expect("the hub speaks");
        Ok(next?
            .expect("the hub does not hang up without a word")
            .message
            .unwrap())
    }

    /// The hub's next word that is no part of a desired state.
    pub(crate) async fn hear_beside_state(&mut self) -> Result<FromHub, Status> {
        loop {
            match self.hear().await? {
                FromHub::Begin(_) | FromHub::Objects(_) | FromHub::Done(_) => {}
                other => return Ok(other),
            }
        }
    }

    /// How the hub ended the session, whatever it said before.
    pub(crate) async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }
}

/// The reason that a program can read.
pub(crate) fn reason(status: &Status) -> &str {
    status
        .metadata()
        .get("muster-reason")
        .map_or("", |value| value.to_str().unwrap())
}

/// Looks again and again until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let looking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("never so: {what}"));
}
