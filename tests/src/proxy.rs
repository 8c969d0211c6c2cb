//! A reverse proxy before an API server: lets writes through one at a time, notes them, and can hold one for ever, so
//! that a test kills who made it at exactly that moment. It can also keep back what watches would tell.
//!
//! In: requests over plain HTTP on loopback. Out: the same requests to the cluster, with the administrator's rights.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::Cluster;

/// The largest body passed on.
const LARGEST: usize = 16 << 20;

/// Which side of a write the one who made it dies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The write never arrives.
    Before,
    /// The write is done, its answer never arrives.
    After,
}

/// The proxy, until it is dropped.
pub struct Proxy {
    /// For the program under test.
    pub kubeconfig: PathBuf,
    gate: Arc<Gate>,
    held: watch::Receiver<u64>,
    _folder: TempDir,
    _task: AbortOnDropHandle<()>,
}

struct Gate {
    client: kube::Client,
    turn: tokio::sync::Mutex<()>,
    plan: Mutex<Plan>,
    /// How many writes were held.
    held: watch::Sender<u64>,
    /// No watch begins.
    blind: watch::Sender<bool>,
}

#[derive(Default)]
struct Plan {
    /// Requests of an earlier life are not heard any more.
    life: u64,
    /// Method and path of each.
    writes: Vec<String>,
    hold: Option<(u64, Side)>,
    holding: bool,
}

impl Proxy {
    /// A proxy before `cluster`.
    ///
    /// # Errors
    /// When no port or folder can be had.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let folder = tempfile::Builder::new().prefix("muster-proxy-").tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": url}}],
            "users": [{"name": "anybody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "anybody"}}],
            "current-context": "proxy",
        });
        std::fs::write(&kubeconfig, config.to_string())?;
        let (sender, held) = watch::channel(0);
        let gate = Arc::new(Gate {
            client: cluster.client()?,
            turn: tokio::sync::Mutex::default(),
            plan: Mutex::default(),
            held: sender,
            blind: watch::Sender::new(false),
        });
        let task = tokio::spawn(serve(listener, gate.clone()));
        Ok(Self {
            kubeconfig,
            gate,
            held,
            _folder: folder,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Counts writes from one again, and holds that many; what was held is forgotten.
    pub fn hold(&mut self, write: Option<(u64, Side)>) {
        self.held.mark_unchanged();
        let mut plan = self.gate.plan();
        *plan = Plan {
            life: plan.life + 1,
            hold: write,
            ..Plan::default()
        };
    }

    /// How many writes came since.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.gate.plan().writes.len() as u64
    }

    /// These writes: `PATCH /api/v1/namespaces/shop/configmaps/settings`.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        self.gate.plan().writes.clone()
    }

    /// Lets no watch begin until it is told otherwise; those that run go on. Lists are answered.
    pub fn blind(&self, blind: bool) {
        self.gate.blind.send_replace(blind);
    }

    /// A client whose calls go through this.
    ///
    /// # Errors
    /// When the kubeconfig can't be read.
    pub async fn client(&self) -> Result<kube::Client> {
        let read = Kubeconfig::read_from(&self.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(read, &options).await?;
        config.default_retry = false;
        Ok(kube::Client::try_from(config)?)
    }

    /// Whether the write to be held has come, and is as done as it shall be.
    #[must_use]
    pub fn holds(&self) -> bool {
        // The gate lives as long as this does.
        self.held.has_changed().unwrap_or(false)
    }
}

impl Gate {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a write, and says whether it is the one to be held; `None` when its writer is dead.
    fn count(&self, life: u64, write: String) -> Option<Option<Side>> {
        let mut plan = self.plan();
        if plan.life != life || plan.holding {
            return None;
        }
        plan.writes.push(write);
        let count = plan.writes.len() as u64;
        let hold = plan.hold.filter(|(write, _)| *write == count);
        plan.holding = hold.is_some();
        Some(hold.map(|(_, side)| side))
    }

    async fn pass(&self, request: Request<Body>) -> Response<Body> {
        let life = self.plan().life;
        if request.method() == Method::GET {
            let query = request.uri().query().unwrap_or_default();
            if query.contains("watch=true") {
                // It ends with the sender, which is ours.
                let _ = self.blind.subscribe().wait_for(|blind| !blind).await;
            }
            return self.forward(request).await;
        }
        let write = format!("{} {}", request.method(), request.uri().path());
        let turn = self.turn.lock().await;
        let side = match self.count(life, write) {
            Some(side) => side,
            None => return nothing().await,
        };
        let answer = match side {
            Some(Side::Before) => None,
            _ => Some(self.forward(request).await),
        };
        match (side, answer) {
            (None, Some(answer)) => answer,
            _ => {
                drop(turn);
                self.held.send_modify(|held| *held += 1);
                nothing().await
            }
        }
    }

    async fn forward(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, LARGEST)
            .await
            .unwrap_or_default();
        let mut request = Request::from_parts(parts, body.to_vec().into());
        for name in [header::HOST, header::ACCEPT_ENCODING, header::CONNECTION] {
            request.headers_mut().remove(name);
        }
        match self.client.send(request).await {
            Ok(mut answer) => {
                for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
                    answer.headers_mut().remove(name);
                }
                answer.map(Body::new)
            }
            Err(error) => {
                let mut answer = Response::new(Body::from(error.to_string()));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                answer
            }
        }
    }
}

/// Never answers: whoever asked is dead.
async fn nothing() -> Response<Body> {
    std::future::pending().await
}

async fn serve(listener: TcpListener, gate: Arc<Gate>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(speak(stream, gate.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn speak(stream: TcpStream, gate: Arc<Gate>) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let gate = gate.clone();
        async move { Ok::<_, Infallible>(gate.pass(request.map(Body::new)).await) }
    });
    let builder = Builder::new(TokioExecutor::new());
    // A client that goes away in the middle is what this is for.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
