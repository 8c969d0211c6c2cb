//! A repository of charts in small, behind TLS with a CA made on the spot: files, and the part of an OCI registry that
//! gives away one chart for a token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::git_server::serve;

/// What lets into the registry, once it was given.
const TOKEN: &str = "Bearer of-the-service";

/// Serves until it is dropped.
pub(crate) struct ChartServer {
    pub(crate) address: SocketAddr,
    serving: Arc<Serving>,
    task: tokio::task::JoinHandle<()>,
    /// PEM of the CA that vouches for it.
    pub(crate) ca_pem: String,
}

#[derive(Default)]
struct Serving {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Where tokens are given; nowhere: files are given to anybody.
    tokens: Mutex<Option<String>>,
    /// Where a path is instead.
    moved: Mutex<BTreeMap<String, String>>,
    /// Nobody is let in.
    closed: AtomicBool,
    /// Every path that was asked for, with what `Authorization` said.
    asked: Mutex<Vec<String>>,
}

impl ChartServer {
    pub(crate) async fn start() -> Self {
        let serving = Arc::<Serving>::default();
        let router = Router::new().fallback(answer).with_state(serving.clone());
        let (address, ca_pem, task) = serve(router).await;
        Self {
            address,
            serving,
            task,
            ca_pem,
        }
    }

    pub(crate) fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        let mut files = self.serving.files.lock().unwrap();
        files.insert(path.to_owned(), content.into());
    }

    /// A chart in the registry, as `helm push` leaves it; tokens for it are given at another server or this one.
    pub(crate) fn push(&self, repository: &str, tag: &str, packed: &[u8], tokens: &Self) {
        let sha256 = sha256(packed);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": "sha256:00", "size": 2},
            "layers": [{
                "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                "digest": format!("sha256:{sha256}"),
                "size": packed.len(),
            }],
        });
        let tags = serde_json::json!({"name": repository, "tags": [tag, "latest"]});
        self.put(&format!("/v2/{repository}/tags/list"), tags.to_string());
        self.put(
            &format!("/v2/{repository}/manifests/{tag}"),
            manifest.to_string(),
        );
        self.put(&format!("/v2/{repository}/blobs/sha256:{sha256}"), packed);
        let realm = format!("https://{}/token", tokens.address);
        *self.serving.tokens.lock().unwrap() = Some(realm);
        tokens.put(
            "/token",
            format!("{{\"token\": \"{}\"}}", &TOKEN["Bearer ".len()..]),
        );
    }

    /// From now on a path is answered with another place.
    pub(crate) fn redirect(&self, path: &str, place: String) {
        let mut moved = self.serving.moved.lock().unwrap();
        moved.insert(path.to_owned(), place);
    }

    /// From now on nothing that is shown will do.
    pub(crate) fn close(&self) {
        self.serving.closed.store(true, Ordering::SeqCst);
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.serving.asked.lock().unwrap())
    }
}

impl Drop for ChartServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(serving): State<Arc<Serving>>, uri: Uri, headers: HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.map_or("nothing", |value| value.to_str().unwrap());
    let path = uri.path_and_query().unwrap().as_str();
    serving
        .asked
        .lock()
        .unwrap()
        .push(format!("{path} {shown}"));
    if serving.closed.load(Ordering::SeqCst) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some(place) = serving.moved.lock().unwrap().get(uri.path()) {
        return (StatusCode::FOUND, [(header::LOCATION, place.clone())]).into_response();
    }
    if let Some(realm) = &*serving.tokens.lock().unwrap()
        && uri.path().starts_with("/v2/")
        && shown != TOKEN
    {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"charts\"");
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
        )
            .into_response();
    }
    match serving.files.lock().unwrap().get(uri.path()) {
        Some(content) => content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// In hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The chart `web` of a version, packed.
pub(crate) fn packed(version: &str) -> Vec<u8> {
    let builder = begun(version);
    builder.into_inner().unwrap().finish().unwrap()
}

/// The same with a link that leads out of it.
pub(crate) fn linked() -> Vec<u8> {
    let mut builder = begun("1.0.0");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "web/passwd", "/etc/passwd")
        .unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn begun(version: &str) -> tar::Builder<GzEncoder<Vec<u8>>> {
    let chart = format!("apiVersion: v2\nname: web\nversion: {version}\n");
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(chart.len() as u64);
    builder
        .append_data(&mut header, "web/Chart.yaml", chart.as_bytes())
        .unwrap();
    builder
}
