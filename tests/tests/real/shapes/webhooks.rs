//! Admission webhooks: one that answers, one that changes what is written, one that refuses, one that is down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Api, DeleteParams, Patch, PostParams};
use muster_proto::SyncStatus;
use muster_tests::cluster::real;
use muster_tests::wait;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::task::AbortOnDropHandle;

use super::super::bed::{Bed, application, config, manager};
use super::{Noted, PATIENCE};

/// A webhook on loopback, until it is dropped.
struct Webhook {
    address: SocketAddr,
    /// The CA of its certificate.
    ca: String,
    _task: AbortOnDropHandle<()>,
}

/// Says what to do with an object: the fields of an AdmissionReview's response, but for the UID.
type Judge = fn(&Value) -> Value;

impl Webhook {
    async fn start(judge: Judge) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&own, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = serve(listener, TlsAcceptor::from(Arc::new(config)), judge);
        Ok(Self {
            address,
            ca: BASE64_STANDARD.encode(ca.pem()),
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }

    /// A configuration that asks it about ConfigMaps of the bed's namespace, and of no other.
    fn configuration(&self, bed: &Bed, policy: &str, operations: &[&str]) -> Value {
        json!({"metadata": {"name": bed.namespace}, "webhooks": [{
            "name": "hook.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": policy, "timeoutSeconds": 2,
            "clientConfig": {"url": format!("https://{}/", self.address), "caBundle": self.ca},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": ["configmaps"]}]}]})
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, judge: Judge) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service =
                hyper::service::service_fn(move |request: Request<_>| review(request, judge));
            // An API server that goes away is no failure of ours.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn review(
    request: Request<hyper::body::Incoming>,
    judge: Judge,
) -> Result<Response<Body>, axum::Error> {
    let body = axum::body::to_bytes(Body::new(request.into_body()), 16 << 20).await?;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = judge(&asked["request"]);
    response["uid"] = asked["request"]["uid"].clone();
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let mut answer = Response::new(Body::from(answer.to_string()));
    let json = http::HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    Ok(answer)
}

async fn validate(bed: &Bed, configuration: Value) -> Result<Api<ValidatingWebhookConfiguration>> {
    let api = Api::all(bed.client.clone());
    api.create(
        &PostParams::default(),
        &serde_json::from_value(configuration)?,
    )
    .await?;
    Ok(api)
}

/// Waits until the API server asks the webhook: writing `name` is refused, in a dry run.
async fn in_force(bed: &Bed, name: &str) -> Result<()> {
    let trial = serde_json::from_value(config(name, "trial"))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait::until("the webhook is in force", PATIENCE, async || {
        ensure!(bed.maps().create(&dry, &trial).await.is_err());
        Ok(())
    })
    .await
}

/// Adds a field, and changes one that Git states.
fn changes(request: &Value) -> Value {
    let object = &request["object"];
    let mut patch = vec![json!({"op": "add", "path": "/data/injected", "value": "by the mesh"})];
    if object.pointer("/metadata/annotations").is_none() {
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    patch.push(json!({"op": "add", "path": "/metadata/annotations/mesh", "value": "on"}));
    if object["data"]["value"] == "2" {
        patch.push(json!({"op": "replace", "path": "/data/value", "value": "two"}));
    }
    let patch = BASE64_STANDARD.encode(json!(patch).to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

#[tokio::test]
async fn what_a_webhook_adds_or_writes_in_other_words_is_no_drift() -> Result<()> {
    let webhook = Webhook::start(changes).await?;
    let mut noted = Noted::start(real::shared("shapes").await?, "shapes-mesh").await?;
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(noted.bed.client.clone());
    let configuration = webhook.configuration(&noted.bed, "Fail", &["CREATE", "UPDATE"]);
    hooks
        .create(
            &PostParams::default(),
            &serde_json::from_value(configuration)?,
        )
        .await?;
    let trial = serde_json::from_value(config("trial", "2"))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait::until("the webhook is in force", PATIENCE, async || {
        let made = noted.bed.maps().create(&dry, &trial).await?;
        ensure!(made.data.unwrap_or_default()["value"] == "two");
        Ok(())
    })
    .await?;
    let objects: Vec<Value> = (0..5)
        .map(|n| config(&format!("c{n}"), &n.to_string()))
        .collect();
    noted
        .bed
        .accept(
            1,
            vec![application("shop", noted.bed.settings(), &objects)?],
        )
        .await?;
    noted.synced("shop", 5).await?;
    noted.bed.holds("c2", "two").await?;
    let data = noted.bed.maps().get("c1").await?.data.context("no data")?;
    assert_eq!(data["injected"], "by the mesh");
    // Neither a hand edit nor what the webhook does to its repair is the beginning of a fight.
    noted.bed.edit("c1", "by hand").await?;
    noted.bed.holds("c1", "1").await?;
    let before = noted.writes().len();
    noted.restart().await?;
    let beside = application("beside", noted.bed.settings(), &[config("beside", "x")])?;
    let shop = application("shop", noted.bed.settings(), &objects)?;
    noted.bed.accept(2, vec![shop, beside]).await?;
    noted.bed.holds("beside", "x").await?;
    noted.synced("shop", 5).await?;
    let writes = noted.writes();
    assert_eq!(writes[before..].len(), 1, "{:?}", &writes[before..]);
    hooks
        .delete(&noted.bed.namespace, &DeleteParams::default())
        .await?;
    Ok(())
}

/// Refuses what is called `forbidden`.
fn refuses(request: &Value) -> Value {
    let allowed = request["name"] != "forbidden";
    json!({"allowed": allowed, "status": {"code": 403, "message": "nobody on call owns it"}})
}

#[tokio::test]
async fn a_webhook_that_refuses_is_quoted_and_holds_up_nothing_else() -> Result<()> {
    let webhook = Webhook::start(refuses).await?;
    let noted = Noted::start(real::shared("shapes").await?, "shapes-refused").await?;
    let bed = &noted.bed;
    let all = ["CREATE", "UPDATE", "DELETE"];
    let hooks = validate(bed, webhook.configuration(bed, "Fail", &all)).await?;
    in_force(bed, "forbidden").await?;
    let objects = [config("allowed", "1"), config("forbidden", "1")];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.holds("allowed", "1").await?;
    let row = bed
        .object("forbidden", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(row.message.contains("nobody on call owns it"), "{row:?}");
    bed.edit("allowed", "by hand").await?;
    bed.holds("allowed", "1").await?;
    hooks
        .delete(&bed.namespace, &DeleteParams::default())
        .await?;
    // Nobody commits anything.
    bed.holds("forbidden", "1").await?;
    noted.synced("shop", 2).await?;
    Ok(())
}

/// Allows everything.
fn allows(_: &Value) -> Value {
    json!({"allowed": true})
}

#[tokio::test]
async fn a_webhook_that_is_down_is_named_and_waited_for_where_it_must_answer() -> Result<()> {
    let webhook = Webhook::start(allows).await?;
    let noted = Noted::start(real::shared("shapes").await?, "shapes-absent").await?;
    let bed = &noted.bed;
    let all = ["CREATE", "UPDATE", "DELETE"];
    let configuration = webhook.configuration(bed, "Fail", &all);
    drop(webhook);
    let hooks = validate(bed, configuration.clone()).await?;
    in_force(bed, "a").await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]}});
    let objects = [config("a", "1"), config("b", "1"), service];
    let shop = |objects: &[Value]| application("shop", bed.settings(), objects);
    bed.accept(1, vec![shop(&objects)?]).await?;
    let row = bed
        .object("a", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        row.message
            .contains("failed calling webhook \"hook.example.com\""),
        "{row:?}"
    );
    ensure!(!row.message.contains('\n'), "{row:?}");
    let row = bed.row("shop", |row| row.synced == 1).await?;
    assert_eq!((row.sync, row.objects), (SyncStatus::Failed, 3));

    // Where it need not answer, it is not waited for.
    let ignore = json!({"webhooks": [{"name": "hook.example.com", "failurePolicy": "Ignore"}]});
    let patch = Patch::Strategic(&ignore);
    let since = Instant::now();
    hooks
        .patch(&bed.namespace, &manager("test"), &patch)
        .await?;
    noted.synced("shop", 3).await?;
    ensure!(
        since.elapsed() < Duration::from_secs(30),
        "{:?}",
        since.elapsed()
    );

    // Down again as at first, when something leaves.
    let fail = json!({"webhooks": [{"name": "hook.example.com", "failurePolicy": "Fail"}]});
    let patch = Patch::Strategic(&fail);
    hooks
        .patch(&bed.namespace, &manager("test"), &patch)
        .await?;
    in_force(bed, "c").await?;
    bed.accept(2, vec![shop(&objects[..1])?]).await?;
    let row = bed
        .object("b", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(row.message.contains("failed calling webhook"), "{row:?}");
    bed.maps().get("b").await?;
    hooks
        .delete(&bed.namespace, &DeleteParams::default())
        .await?;
    wait::until("it goes", PATIENCE, async || {
        ensure!(bed.maps().get_opt("b").await?.is_none());
        Ok(())
    })
    .await?;
    noted.synced("shop", 1).await?;
    Ok(())
}
