//! Clusters of the person who plays: looked at before anything is put there, and left as they were found.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Resource;
use kube::api::{Api, DeleteParams};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::fleet::{APPLICATIONS, ON_CALL};
use crate::cluster::{Cluster, context};
use crate::wait;

/// How long a cluster may take to answer the first time.
const ANSWER: Duration = Duration::from_secs(10);
/// How long Kubernetes may take to empty the namespaces.
const EMPTIED: Duration = Duration::from_secs(180);

/// The clusters of these contexts.
///
/// # Errors
/// When one does not exist, does not answer, is another by another name, or has something of the demo's names.
pub(super) async fn open(contexts: &[String]) -> Result<Vec<Cluster>> {
    let clusters = try_join_all(contexts.iter().map(|it| context::open(it))).await?;
    let mut known = BTreeMap::new();
    for cluster in &clusters {
        let name = &cluster.name;
        let look = timeout(ANSWER, look(cluster)).await;
        let look = look.unwrap_or_else(|_| bail!("it does not answer within {ANSWER:?}"));
        let (uid, taken) = look.with_context(|| {
            format!("the cluster of context {name} can't be used; nothing was put there")
        })?;
        ensure!(
            taken.is_empty(),
            "the cluster of context {name} has {} already, which the demo would change: remove it, or name another \
             context; nothing was put there",
            taken.join(" and ")
        );
        if let Some(other) = known.insert(uid, name) {
            bail!("the contexts {other} and {name} lead to one cluster: name it once");
        }
    }
    Ok(clusters)
}

/// Which cluster it is, and what it has of the names that the example uses.
async fn look(cluster: &Cluster) -> Result<(Option<String>, Vec<String>)> {
    let client = cluster.client()?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let uid = namespaces.get("kube-system").await?.metadata.uid;
    let mut taken = Vec::new();
    for application in APPLICATIONS {
        taken.extend(found::<Namespace>(&client, application.namespace).await?);
    }
    taken.extend(found::<ClusterRole>(&client, ON_CALL).await?);
    taken.extend(found::<ClusterRoleBinding>(&client, ON_CALL).await?);
    Ok((uid, taken))
}

/// Takes away what agents put there, `ledger` being the namespace of what they remember; returns when it is gone.
/// No agent may run there any more.
///
/// # Errors
/// What is left, and why.
pub(super) async fn clear(cluster: &Cluster, ledger: Option<&str>) -> Result<()> {
    let client = cluster.client()?;
    let namespaces = APPLICATIONS.map(|application| application.namespace);
    let namespaces: Vec<_> = namespaces.into_iter().chain(ledger).collect();
    let cleared = async {
        for namespace in &namespaces {
            remove::<Namespace>(&client, namespace).await?;
        }
        remove::<ClusterRoleBinding>(&client, ON_CALL).await?;
        remove::<ClusterRole>(&client, ON_CALL).await?;
        wait::until("Kubernetes removes what was deleted", EMPTIED, async || {
            let mut left = Vec::new();
            for namespace in &namespaces {
                left.extend(found::<Namespace>(&client, namespace).await?);
            }
            left.extend(found::<ClusterRole>(&client, ON_CALL).await?);
            left.extend(found::<ClusterRoleBinding>(&client, ON_CALL).await?);
            ensure!(left.is_empty(), "still there: {}", left.join(", "));
            Ok(())
        })
        .await
    };
    cleared.await.with_context(|| {
        format!(
            "the cluster of context {} is not as it was: remove the namespaces {}, and the ClusterRole and \
             ClusterRoleBinding {ON_CALL}",
            cluster.name,
            namespaces.join(", ")
        )
    })
}

async fn found<K>(client: &kube::Client, name: &str) -> Result<Option<String>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let found = api.get_opt(name).await?;
    Ok(found.map(|_| format!("{} {name}", K::kind(&()))))
}

async fn remove<K>(client: &kube::Client, name: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        removed => Ok(removed.map(drop)?),
    }
}
