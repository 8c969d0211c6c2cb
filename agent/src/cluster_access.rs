//! The way to the cluster's API server: a kubeconfig, or the ServiceAccount of the Pod that the agent runs in.
//!
//! In: what `config` was told. Out: a `kube::Client`, and which cluster it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::apply::said;

/// How to reach the API server.
#[derive(Debug)]
pub enum ClusterAccess {
    /// By a kubeconfig that has been read, and a context that is in it.
    Kubeconfig {
        /// All files merged.
        kubeconfig: Box<Kubeconfig>,
        /// Which context.
        context: String,
    },
    /// By the Pod's ServiceAccount.
    InCluster {
        /// The API server, as every Pod is told it.
        server: http::Uri,
        /// Where the kubelet puts `token`, which it replaces in time, and `ca.crt`.
        service_account: PathBuf,
    },
}

impl ClusterAccess {
    /// Reads kubeconfig files, of which the first to say something wins, and checks that the context is there.
    ///
    /// # Errors
    /// When a file can't be read, or there is no such context; those that exist are named.
    pub fn from_kubeconfig(files: &[PathBuf], context: Option<String>) -> anyhow::Result<Self> {
        let mut kubeconfig = Kubeconfig::default();
        for file in files {
            let next = Kubeconfig::read_from(file)
                .with_context(|| format!("kubeconfig {} can't be used", file.display()))?;
            kubeconfig = kubeconfig.merge(next)?;
        }
        let names: Vec<&str> = kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.as_str())
            .collect();
        let Some(context) = context.or_else(|| kubeconfig.current_context.clone()) else {
            bail!(
                "the kubeconfig has no current context: add --context, one of {}",
                names.join(", ")
            );
        };
        if !names.contains(&context.as_str()) {
            bail!(
                "the kubeconfig has no context {context:?}: choose one of {}",
                names.join(", ")
            );
        }
        Ok(Self::Kubeconfig {
            kubeconfig: Box::new(kubeconfig),
            context,
        })
    }

    /// A client for the API server; nothing is dialled yet.
    ///
    /// # Errors
    /// When the credentials it names can't be read.
    pub async fn client(self) -> anyhow::Result<kube::Client> {
        let mut config = match self {
            Self::InCluster {
                server,
                service_account,
            } => in_cluster(server, &service_account)?,
            Self::Kubeconfig {
                kubeconfig,
                context,
            } => {
                let cluster = kubeconfig
                    .contexts
                    .iter()
                    .find(|named| named.name == context)
                    .and_then(|named| named.context.as_ref())
                    .and_then(|context| {
                        kubeconfig
                            .clusters
                            .iter()
                            .find(|named| named.name == context.cluster)
                    });
                let states_a_proxy = cluster
                    .and_then(|named| named.cluster.as_ref())
                    .is_some_and(|cluster| cluster.proxy_url.is_some());
                let options = KubeConfigOptions {
                    context: Some(context.clone()),
                    ..Default::default()
                };
                let mut config = kube::Config::from_custom_kubeconfig(*kubeconfig, &options)
                    .await
                    .with_context(|| format!("context {context:?} can't be used"))?;
                // `kube` takes HTTPS_PROXY for the API server too; that one is on the way to the hub.
                if !states_a_proxy {
                    config.proxy_url = None;
                }
                config
            }
        };
        // `kube` would repeat calls that are turned away (429, 503, 504) for minutes and say nothing of it. Who calls
        // knows better what can wait, and people want to read what the API server said.
        config.default_retry = false;
        let name = format!("muster-agent/{}", env!("CARGO_PKG_VERSION"));
        config.headers.push((
            http::header::USER_AGENT,
            http::HeaderValue::try_from(name).context("a version is plain text")?,
        ));
        kube::Client::try_from(config).context("no client for the API server can be made")
    }
}

/// `kube`'s own reading of the Pod, but for the folder, which it knows only one of.
fn in_cluster(server: http::Uri, service_account: &Path) -> anyhow::Result<kube::Config> {
    let (token, ca) = (
        service_account.join("token"),
        service_account.join("ca.crt"),
    );
    for file in [&token, &ca] {
        std::fs::metadata(file).with_context(|| {
            format!(
                "the ServiceAccount of this Pod can't be read ({}): is automountServiceAccountToken off? (--service-account DIR when it is elsewhere)",
                file.display()
            )
        })?;
    }
    let mut config = kube::Config::new(server);
    config.auth_info.token_file = Some(token.display().to_string());
    config.root_cert_file = Some(ca);
    Ok(config)
}

/// UID of the namespace kube-system: tells one cluster from another, however it is reached.
///
/// # Errors
/// When the API server can't be asked.
pub async fn cluster_uid(client: &kube::Client) -> anyhow::Result<String> {
    let namespace = Api::<Namespace>::all(client.clone())
        .get("kube-system")
        .await
        .map_err(|error| anyhow::Error::msg(said(&error)))
        .context("the API server can't be asked which cluster this is (namespace kube-system)")?;
    namespace
        .metadata
        .uid
        .context("the namespace kube-system has no UID")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_an_api_server_turns_away_is_told_at_once_and_in_its_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let kubeconfig: Kubeconfig = serde_json::from_value(serde_json::json!({
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        }))
        .unwrap();
        let access = ClusterAccess::Kubeconfig {
            kubeconfig: Box::new(kubeconfig),
            context: "c".into(),
        };
        let client = access.client().await.unwrap();
        let asked = tokio::spawn(async move { cluster_uid(&client).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 9\r\n\r\nnot ready";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let error = asked.await.unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("not ready"), "{error:#}");
    }
}
