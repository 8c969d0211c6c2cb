//! A hub's API for tests: the real service behind the real TLS, with answers that the test sets.

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use muster_proto::tls::acceptor;
use muster_proto::wire::v1;
use muster_proto::wire::v1::fleet_service_server::{FleetService, FleetServiceServer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::config::Environment;
use crate::show::example;

/// The token that the stub takes.
pub(crate) const TOKEN: &str = "right";

/// A hub that runs in this process until it is dropped.
pub(crate) struct Stub {
    /// `host:port`.
    pub(crate) server: String,
    /// What it answers.
    pub(crate) fleet: watch::Sender<v1::Fleet>,
    /// What was asked of it that changes something.
    pub(crate) told: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
    identity: Identity,
    /// Its own, so that its connections end with it.
    running: Option<Runtime>,
}

/// A CA and the hub's certificate of it.
struct Identity {
    config: Arc<rustls::ServerConfig>,
    ca_pem: String,
}

impl Identity {
    fn new() -> Self {
        let (ca_pem, issuer) = authority();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        let name = "spiffe://test.muster/hub".try_into().unwrap();
        leaf.subject_alt_names = vec![SanType::URI(name)];
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = acceptor::token_config(vec![leaf.der().clone()], key).unwrap();
        Self { config, ca_pem }
    }
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(ca, key))
}

/// The certificate of some CA.
pub(crate) fn ca_pem() -> String {
    authority().0
}

impl Stub {
    /// A hub that speaks of the example fleet.
    pub(crate) async fn start() -> Self {
        muster_proto::tls::install_crypto();
        let identity = Identity::new();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &identity.ca_pem).unwrap();
        let fleet = watch::Sender::new(example::fleet());
        let told = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let running = Some(serve(listener, &identity, &fleet, &told));
        Self {
            server,
            fleet,
            told,
            directory,
            identity,
            running,
        }
    }

    /// Ends and starts again at the same address, as a hub that is updated does.
    pub(crate) async fn restart(&mut self) {
        self.end();
        let listener = loop {
            // The old listener is closed by its runtime's thread.
            match TcpListener::bind(&self.server) {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.running = Some(serve(listener, &self.identity, &self.fleet, &self.told));
    }

    fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }

    /// An environment whose variables lead to this hub.
    pub(crate) fn environment(&self) -> Environment {
        Environment {
            config_file: Some(self.directory.path().join("config.yaml")),
            server: Some(self.server.clone()),
            ca_file: Some(self.directory.path().join("ca.pem")),
            token: Some(TOKEN.to_owned()),
            ..Environment::default()
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(
    listener: TcpListener,
    identity: &Identity,
    fleet: &watch::Sender<v1::Fleet>,
    told: &Arc<Mutex<Vec<String>>>,
) -> Runtime {
    let service = Service {
        fleet: fleet.clone(),
        told: told.clone(),
    };
    let service = FleetServiceServer::with_interceptor(service, |request: Request<()>| {
        let expected = format!("Bearer {TOKEN}");
        match request.metadata().get("authorization") {
            Some(value) if value == expected.as_str() => Ok(request),
            _ => Err(Status::unauthenticated("no such token")),
        }
    });
    let config = identity.config.clone();
    listener.set_nonblocking(true).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let (_unchanging, config) = watch::channel(config);
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let connections = acceptor::accept(listener, config);
        let router = tonic::transport::Server::builder().add_service(service);
        router.serve_with_incoming(connections).await
    });
    runtime
}

struct Service {
    fleet: watch::Sender<v1::Fleet>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn hear(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }
}

fn unknown(what: &str, name: &str) -> Status {
    Status::not_found(format!("there is no {what} {name:?}"))
}

fn selected(mut fleet: v1::Fleet, selector: &str) -> Result<v1::Fleet, Status> {
    match selector.split_once('=') {
        None if selector.is_empty() => {}
        Some((key, value)) => fleet
            .clusters
            .retain(|cluster| cluster.labels.get(key).is_some_and(|v| v == value)),
        None => {
            return Err(Status::invalid_argument(format!(
                "no selector: {selector:?}"
            )));
        }
    }
    Ok(fleet)
}

#[tonic::async_trait]
impl FleetService for Service {
    async fn get_fleet(
        &self,
        request: Request<v1::GetFleetRequest>,
    ) -> Result<Response<v1::Fleet>, Status> {
        let fleet = self.fleet.borrow().clone();
        selected(fleet, &request.get_ref().cluster_selector).map(Response::new)
    }

    type WatchFleetStream = Pin<Box<dyn Stream<Item = Result<v1::Fleet, Status>> + Send>>;

    async fn watch_fleet(
        &self,
        request: Request<v1::GetFleetRequest>,
    ) -> Result<Response<Self::WatchFleetStream>, Status> {
        let selector = request.into_inner().cluster_selector;
        let fleets = WatchStream::new(self.fleet.subscribe());
        let fleets = fleets.map(move |fleet| selected(fleet, &selector));
        Ok(Response::new(Box::pin(fleets)))
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::ClusterDetail>, Status> {
        let fleet = self.fleet.borrow();
        let name = &request.get_ref().name;
        let summary = fleet.clusters.iter().find(|c| c.name == *name).cloned();
        let summary = summary.ok_or_else(|| unknown("cluster", name))?;
        Ok(Response::new(v1::ClusterDetail {
            summary: Some(summary),
            ..example::cluster()
        }))
    }

    async fn get_application(
        &self,
        request: Request<v1::GetApplicationRequest>,
    ) -> Result<Response<v1::ApplicationDetail>, Status> {
        match request.get_ref().name.as_str() {
            "shop" => Ok(Response::new(example::application())),
            name => Err(unknown("application", name)),
        }
    }

    async fn list_drift(
        &self,
        request: Request<v1::ListDriftRequest>,
    ) -> Result<Response<v1::DriftList>, Status> {
        let application = &request.get_ref().application;
        let mut rows = example::drift();
        rows.retain(|row| {
            let of = row.object.as_ref().map(|object| &object.application);
            application.is_empty() || of == Some(application)
        });
        Ok(Response::new(v1::DriftList { rows }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::JoinTokenResponse>, Status> {
        let request = request.into_inner();
        self.hear(format!("{request:?}"));
        Ok(Response::new(v1::JoinTokenResponse {
            token: "muster-join-abc".to_owned(),
            expires_ms: 4_102_444_800_000,
        }))
    }

    async fn remove_cluster(
        &self,
        request: Request<v1::RemoveClusterRequest>,
    ) -> Result<Response<v1::RemoveClusterResponse>, Status> {
        let request = request.into_inner();
        let known = self
            .fleet
            .borrow()
            .clusters
            .iter()
            .any(|c| c.name == request.name);
        if !known {
            return Err(unknown("cluster", &request.name));
        }
        self.hear(format!("{request:?}"));
        Ok(Response::new(v1::RemoveClusterResponse {
            message: format!("{} is removed; its objects stay.", request.name),
        }))
    }

    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<v1::ApproveResponse>, Status> {
        let request = request.into_inner();
        self.hear(format!("{request:?}"));
        let approved = request.ids.iter().map(|id| format!("{id} may go on"));
        Ok(Response::new(v1::ApproveResponse {
            approved: approved.collect(),
        }))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseResponse>, Status> {
        let request = request.into_inner();
        if request.application != "shop" {
            return Err(unknown("application", &request.application));
        }
        self.hear(format!("{request:?}"));
        Ok(Response::new(v1::PauseResponse {
            clusters: vec!["eu-1".to_owned(), "us-2".to_owned()],
            silent: vec!["us-2".to_owned()],
            until_ms: 4_102_444_800_000,
        }))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        self.hear(format!("{:?}", request.into_inner()));
        Ok(Response::new(v1::ResumeResponse {
            clusters: vec!["eu-1".to_owned()],
        }))
    }

    async fn compare(
        &self,
        request: Request<v1::CompareRequest>,
    ) -> Result<Response<v1::Comparison>, Status> {
        let request = request.into_inner();
        self.hear(format!("{request:?}"));
        let mut comparison = example::comparison();
        match request.object {
            // The one that is asked for; one by any other name is not there.
            Some(object) if object.name == "web" => comparison.objects.truncate(1),
            Some(_) => {
                comparison.objects.truncate(2);
                comparison.objects.remove(0);
            }
            None if request.application == "monitoring" => comparison.objects.clear(),
            None => {}
        }
        comparison.left_out = u32::from(request.cluster == "us-1");
        Ok(Response::new(comparison))
    }

    type PlanStream = Pin<Box<dyn Stream<Item = Result<v1::PlanNews, Status>> + Send>>;

    async fn plan(
        &self,
        request: Request<v1::PlanRequest>,
    ) -> Result<Response<Self::PlanStream>, Status> {
        let request = request.into_inner();
        self.hear(format!("{request:?}"));
        let mut plan = example::plan();
        match request.what.as_str() {
            "gone" => return Err(Status::not_found("there is no branch gone")),
            "nothing" => plan = muster_decide::plan::Plan::default(),
            "whole" => plan.problems.clear(),
            _ if request.dry_run == "server" => plan = example::tried(),
            _ => {}
        }
        let news = [
            v1::PlanNews {
                doing: "fetching branch x\u{1b}[2J".to_owned(),
                ..v1::PlanNews::default()
            },
            v1::PlanNews {
                doing: String::new(),
                of: example::OF.to_owned(),
                plan: serde_json::to_string(&plan).unwrap(),
            },
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(news.map(Ok)))))
    }

    async fn render(
        &self,
        request: Request<v1::RenderRequest>,
    ) -> Result<Response<v1::Rendering>, Status> {
        let v1::RenderRequest {
            application,
            cluster,
            ..
        } = request.into_inner();
        let (objects, kept) = match application.as_str() {
            "shop" => (
                [
                    r#"{"apiVersion":"v1","data":{"a":"1"},"kind":"ConfigMap","metadata":{"name":"settings","namespace":"shop"}}"#,
                    r#"{"apiVersion":"v1","data":{"token":"(secret)"},"kind":"Secret","metadata":{"name":"token","namespace":"shop"}}"#,
                ]
                .map(str::to_owned)
                .to_vec(),
                String::new(),
            ),
            _ => (Vec::new(), "it never rendered".to_owned()),
        };
        Ok(Response::new(v1::Rendering {
            application,
            cluster,
            objects,
            kept,
            ..v1::Rendering::default()
        }))
    }

    async fn sync_now(
        &self,
        _request: Request<v1::SyncNowRequest>,
    ) -> Result<Response<v1::SyncNowResponse>, Status> {
        self.hear("sync".to_owned());
        let source = self.fleet.borrow().source.clone().unwrap_or_default();
        Ok(Response::new(v1::SyncNowResponse {
            revision: source.revision,
        }))
    }

    async fn get_version(
        &self,
        _request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::Version>, Status> {
        Ok(Response::new(v1::Version {
            version: "0.1.0".to_owned(),
            trust_domain: "test.muster".to_owned(),
        }))
    }
}
