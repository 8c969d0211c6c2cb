//! Where charts are: static files over HTTP and HTTPS, and a real OCI registry over HTTPS with Basic authentication. One
//! CA of the test vouches for them; each comes back where it was.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use muster_tests::cluster::real;
use muster_tests::supervisor::{Process, free_port};
use muster_tests::wait;
use muster_tests::world::SOON;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(super) const USER: &str = "team";
pub(super) const PASSWORD: &str = "good-password-4711";
/// What `htpasswd` makes of it.
const LINE: &str = "team:$2y$05$abcdefghijklmnopqrstuuDeVgvbbF.jr2bf4pgNs8gNuUbm5Twve\n";

/// All three, and the folder that they serve from.
pub(super) struct Places {
    folder: tempfile::TempDir,
    addresses: [SocketAddr; 3],
    files: Vec<JoinHandle<()>>,
    registry: Option<Process>,
}

impl Places {
    pub(super) async fn start() -> Result<Self> {
        muster_proto::tls::install_crypto();
        let mut places = Self {
            folder: tempfile::tempdir()?,
            addresses: [free_port()?, free_port()?, free_port()?],
            files: Vec::new(),
            registry: None,
        };
        for name in ["http", "https", "registry"] {
            std::fs::create_dir(places.path(name))?;
        }
        places.certificates()?;
        places.up().await?;
        Ok(places)
    }

    /// A file or folder of the test.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn http(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    pub(super) fn https(&self) -> String {
        format!("https://{}", self.addresses[1])
    }

    pub(super) fn oci(&self) -> String {
        format!("oci://{}/team", self.addresses[2])
    }

    fn certificates(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&key)?.pem();
        std::fs::write(self.path("ca.crt"), pem)?;
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate()?;
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        std::fs::write(
            self.path("server.crt"),
            server.signed_by(&key, &issuer)?.pem(),
        )?;
        std::fs::write(self.path("server.key"), key.serialize_pem())?;
        Ok(())
    }

    /// Starts what does not run.
    pub(super) async fn up(&mut self) -> Result<()> {
        ensure!(self.registry.is_none(), "they run");
        let [http, https, registry] = self.addresses;
        let router = |name| Router::new().fallback(file).with_state(self.path(name));
        let (plain, secure) = (router("http"), router("https"));
        let listener = TcpListener::bind(http).await?;
        let serving = async move { axum::serve(listener, plain).await.unwrap_or_default() };
        self.files.push(tokio::spawn(serving));
        let listener = Tls {
            listener: TcpListener::bind(https).await?,
            acceptor: self.acceptor()?,
        };
        let serving = async move { axum::serve(listener, secure).await.unwrap_or_default() };
        self.files.push(tokio::spawn(serving));

        let shown = |name: &str| self.path(name).display().to_string();
        std::fs::write(self.path("htpasswd"), LINE)?;
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             auth: {{htpasswd: {{realm: registry, path: {}}}}}\n\
             http: {{addr: '{registry}', tls: {{certificate: {}, key: {}}}}}\n",
            shown("registry"),
            shown("htpasswd"),
            shown("server.crt"),
            shown("server.key"),
        );
        std::fs::write(self.path("registry.yaml"), config)?;
        let program = real::program("registry").await?;
        let arguments = ["serve".to_owned(), shown("registry.yaml")];
        // It has traces to send, too, and nobody who takes them.
        let env = [("OTEL_TRACES_EXPORTER", "none")];
        let process = Process::spawn(&program, arguments, &env, &self.path("registry.log"))?;
        wait::until("the registry listens", SOON, async || {
            process.ensure_alive()?;
            TcpStream::connect(registry).await?;
            Ok(())
        })
        .await?;
        self.registry = Some(process);
        Ok(())
    }

    /// Ends all of them.
    pub(super) async fn down(&mut self) -> Result<()> {
        for task in self.files.drain(..) {
            task.abort();
            // Aborted: its port is free.
            task.await.err();
        }
        if let Some(process) = self.registry.take() {
            process.stop().await?;
        }
        Ok(())
    }

    fn acceptor(&self) -> Result<TlsAcceptor> {
        let certificate = CertificateDer::from_pem_file(self.path("server.crt"))?;
        let key = PrivateKeyDer::from_pem_file(self.path("server.key"))?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Runs helm in the folder of the test, as people do; what it prints.
    pub(super) async fn helm(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let home = self.path("home");
        let output = Command::new(real::program("helm").await?)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", &home)
            .env_remove("XDG_CACHE_HOME")
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {arguments:?}: {said}");
        Ok(output.stdout)
    }

    /// As [`Self::helm`], for a server that only the test's CA vouches for, and that wants the password.
    pub(super) async fn helm_let_in(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let ca = self.path("ca.crt").display().to_string();
        let proof = ["--ca-file", &ca, "--username", USER, "--password", PASSWORD];
        let all: Vec<&str> = arguments.iter().copied().chain(proof).collect();
        self.helm(&all).await
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.files.iter().for_each(JoinHandle::abort);
    }
}

async fn file(State(folder): State<PathBuf>, uri: Uri) -> Response {
    let path = folder.join(uri.path().trim_start_matches('/'));
    match std::fs::read(path) {
        Ok(content) => content.into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Writes a file, and the folders above it.
pub(super) fn write(folder: &Path, path: &str, text: &str) -> Result<()> {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
    std::fs::write(file, text)?;
    Ok(())
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            // A client that does not trust us hangs up here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
