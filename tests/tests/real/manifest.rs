//! The manifests that `muster cluster join NAME --manifest` prints, applied as a person does: the agent gets in with
//! exactly their arguments, Secret, ServiceAccount and RBAC.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use muster_agent::config::{Config, command};
use muster_proto::join_token::JoinToken;
use muster_proto::tls::acceptor::{accept, token_config};
use muster_proto::tls::{certificate_pin, install_crypto};
use muster_proto::wire::v1::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use muster_proto::wire::v1::{EnrolRequest, EnrolResponse};
use muster_tests::cluster::{Cluster, real};
use muster_tests::wait;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

#[tokio::test]
async fn an_agent_gets_in_by_what_its_manifests_say() -> Result<()> {
    install_crypto();
    let cluster = real::start("manifest").await?;
    let (token, _hub) = hub_that_lets_in("eu-1").await?;
    apply(&cluster, &filled_in(&token)).await?;

    let deployment = Api::<Deployment>::namespaced(cluster.client()?, "muster-system")
        .get("muster-agent")
        .await?;
    let template = deployment.spec.template;
    let pod = template.spec.context("a Pod")?;
    assert_eq!(pod.service_account_name.as_deref(), Some("muster-agent"));
    let kubeconfig = as_service_account(&cluster).await?;
    let container = pod.containers.first().context("a container")?;
    let mut arguments = vec!["muster-agent".to_owned()];
    arguments.extend(container.args.clone().context("arguments")?);
    arguments.extend([
        "--kubeconfig".to_owned(),
        kubeconfig.path().display().to_string(),
    ]);
    let mut variables = Vec::new();
    for variable in container.env.clone().unwrap_or_default() {
        let key = variable.value_from.and_then(|from| from.secret_key_ref);
        let key = key.context("every variable comes from a Secret")?;
        let secret = Api::<Secret>::namespaced(cluster.client()?, "muster-system")
            .get(&key.name)
            .await?;
        let value = secret
            .data
            .and_then(|mut data| data.remove(&key.key))
            .context("the key")?;
        variables.push((variable.name, String::from_utf8(value.0)?));
    }
    let matches = command().try_get_matches_from(arguments)?;
    let run = matches
        .subcommand_matches("run")
        .context("the command is `run`")?;
    let config = Config::read(run, |name| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    })?;

    let mut agent = AbortOnDropHandle::new(tokio::spawn(muster_agent::run(
        config,
        std::future::pending(),
    )));
    let look = cluster.client()?;
    wait::until(
        "the credentials are kept",
        Duration::from_secs(30),
        async || {
            if agent.is_finished() {
                anyhow::bail!("the agent ended: {:?}", (&mut agent).await);
            }
            let secret = Api::<Secret>::namespaced(look.clone(), "muster-system")
                .get("muster-agent")
                .await?;
            let kept = secret
                .data
                .unwrap_or_default()
                .remove("credentials.json")
                .context("no credentials yet")?;
            let kept: Value = serde_json::from_slice(&kept.0)?;
            anyhow::ensure!(
                kept["cluster"] == "eu-1" && kept["hub"] == "hub.invalid:7443",
                "other credentials"
            );
            Ok(())
        },
    )
    .await
}

fn filled_in(token: &str) -> String {
    include_str!("../../../deploy/agent.yaml")
        .replace("@CLUSTER@", "eu-1")
        .replace("@JOIN_TOKEN@", token)
        .replace("@JOIN_DIGEST@", "abcd1234")
        .replace("@IMAGE@", "muster-agent:test")
}

async fn apply(cluster: &Cluster, manifests: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.yaml");
    std::fs::write(&file, manifests)?;
    let applied = tokio::process::Command::new(real::kubectl().await?)
        .args(["apply", "--warnings-as-errors", "--kubeconfig"])
        .args([cluster.kubeconfig.as_path(), "-f".as_ref(), file.as_path()])
        .output()
        .await?;
    anyhow::ensure!(
        applied.status.success(),
        "{}",
        String::from_utf8_lossy(&applied.stderr)
    );
    Ok(())
}

/// A kubeconfig with the right of nobody but the agent's ServiceAccount.
async fn as_service_account(cluster: &Cluster) -> Result<tempfile::NamedTempFile> {
    let request = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..TokenRequest::default()
    };
    let token = Api::<ServiceAccount>::namespaced(cluster.client()?, "muster-system")
        .create_token_request("muster-agent", &PostParams::default(), &request)
        .await?;
    let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(&cluster.kubeconfig)?)?;
    let users = kubeconfig["users"].as_array_mut().context("users")?;
    for user in users {
        user["user"] =
            serde_json::json!({"token": token.status.as_ref().context("a token")?.token});
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), kubeconfig.to_string())?;
    Ok(file)
}

/// An enrolment listener with a CA of its own, and a join token for it.
async fn hub_that_lets_in(cluster: &str) -> Result<(String, AbortOnDropHandle<()>)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "test CA");
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?.der().clone();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let leaf = named("hub")?.signed_by(&key, &issuer)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let tls = token_config(vec![leaf.der().clone(), ca.clone()], key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let token = JoinToken {
        cluster: cluster.parse()?,
        agents_address: "hub.invalid:7443".into(),
        enrolment_address: listener.local_addr()?.to_string(),
        ca_sha256: certificate_pin(&ca),
        secret: "let me in".into(),
    };
    let service = EnrolmentServiceServer::new(Enrolment {
        cluster: cluster.to_owned(),
        ca,
        issuer: Arc::new(issuer),
    });
    let serving = tokio::spawn(async move {
        let connections = accept(listener, watch::channel(tls).1);
        let server = tonic::transport::Server::builder().add_service(service);
        server
            .serve_with_incoming(connections)
            .await
            .expect("the listener works");
    });
    Ok((token.to_string(), AbortOnDropHandle::new(serving)))
}

fn named(path: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(
        format!("spiffe://muster.test/{path}").try_into()?,
    )];
    Ok(params)
}

struct Enrolment {
    cluster: String,
    ca: CertificateDer<'static>,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        if request.secret != "let me in" || request.cluster_uid.is_empty() {
            return Err(Status::permission_denied("not with this token"));
        }
        let leaf = || -> Result<_> {
            let der = CertificateSigningRequestDer::from(request.csr_der.as_ref());
            let mut csr = CertificateSigningRequestParams::from_der(&der)?;
            csr.params = named(&format!("cluster/{}", self.cluster))?;
            Ok(csr.signed_by(&self.issuer)?)
        };
        let leaf = leaf().map_err(|error| Status::invalid_argument(error.to_string()))?;
        let certificates_der = vec![leaf.der().to_vec().into(), self.ca.to_vec().into()];
        Ok(Response::new(EnrolResponse {
            cluster: self.cluster.clone(),
            certificates_der,
        }))
    }
}
