//! What the story is played on: a hub with the example fleet, clusters of the wanted kind, and clients to look with.
//!
//! A person's own clusters are looked at before anything is put there, and left as they were found.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Resource;
use kube::api::{Api, DeleteParams};
use serde::de::DeserializeOwned;

use super::fleet::{APPLICATIONS, CLUSTERS, NEWCOMER, PRODUCTION, files};
use super::look::{Clients, Sight, well};
use crate::cluster::{Cluster, context, memory, real};
use crate::git::Repository;
use crate::memory::Fault;
use crate::world::World;

/// What the example grants to people on call, in every cluster.
const ON_CALL: &str = "demo-on-call";

/// Who edits by hand in the story: the name `kubectl edit` goes by.
pub(super) const HAND: &str = "kubectl-edit";

/// Which clusters to play on.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// Five in memory, and one more to join.
    Memory,
    /// So many real ones, and one more to join.
    Real(usize),
    /// These contexts of the kubeconfig; one in memory to join, and another if there is one context only.
    Contexts(Vec<String>),
}

/// A hub, a repository and clusters.
pub(super) struct Stage {
    /// Hub, repository and agents.
    pub(super) world: World,
    /// Those that joined, by name.
    pub(super) clusters: BTreeMap<String, Cluster>,
    /// For looking at those that joined; nobody else uses them.
    pub(super) clients: Clients,
    newcomer: Cluster,
    waiting: Vec<(&'static str, Cluster)>,
}

impl Stage {
    /// Starts everything but the agents.
    ///
    /// # Errors
    /// What can't be started, and why.
    pub(super) async fn set(choice: &Choice, break_writes: bool) -> Result<Self> {
        let (clusters, newcomer) = start_clusters(choice).await?;
        for cluster in &clusters {
            if cluster.is_somebodys() {
                is_free(cluster).await?;
            }
        }
        if break_writes {
            for server in clusters.iter().filter_map(Cluster::in_memory) {
                server.set_fault(Some(Arc::new(|call| {
                    (call.writes() && call.manager != HAND).then_some(Fault::Status(500))
                })));
            }
        }
        let waiting: Vec<_> = CLUSTERS
            .map(|(name, _)| name)
            .into_iter()
            .zip(clusters)
            .collect();
        let names: Vec<_> = waiting.iter().map(|(name, _)| *name).collect();
        let repository = Repository::empty()?;
        repository.commit("The example fleet", &files(&names))?;
        Ok(Self {
            world: World::on(repository).await?,
            clusters: BTreeMap::new(),
            clients: Clients::new(),
            newcomer,
            waiting,
        })
    }

    /// Lets the clusters that Git names join.
    ///
    /// # Errors
    /// When a token is refused or an agent can't be started.
    pub(super) async fn join_all(&mut self) -> Result<()> {
        for (name, cluster) in std::mem::take(&mut self.waiting) {
            self.join(name, cluster, &[]).await?;
        }
        Ok(())
    }

    /// Lets one more join; its labels come with its token.
    ///
    /// # Errors
    /// When a token is refused or the agent can't be started.
    pub(super) async fn join_newcomer(&mut self) -> Result<()> {
        let (name, labels) = NEWCOMER;
        self.join(name, self.newcomer.clone(), labels).await
    }

    async fn join(&mut self, name: &str, cluster: Cluster, labels: &[&str]) -> Result<()> {
        self.world.join(name, &cluster, labels).await?;
        self.clients.insert(name.to_owned(), cluster.client()?);
        self.clusters.insert(name.to_owned(), cluster);
        Ok(())
    }

    /// Those of the production stage.
    pub(super) fn production(&self) -> Vec<&str> {
        let names = self.clients.keys().map(String::as_str);
        names.filter(|name| is_production(name)).collect()
    }

    /// What both should see when production runs this release of `web`, and everything else its first.
    pub(super) fn expected(&self, release: &str, applications: &[&str]) -> Sight {
        let clusters = self.clients.keys();
        let places = clusters.flat_map(|cluster| applications.iter().map(move |it| (cluster, *it)));
        places
            .map(|(cluster, application)| {
                let changed = application == "web" && is_production(cluster);
                let place = (cluster.clone(), application.to_owned());
                (place, well(if changed { release } else { "1" }))
            })
            .collect()
    }

    /// Ends the agents on people's own clusters and takes away what they put there.
    ///
    /// # Errors
    /// What is left, and why.
    pub(super) async fn clear(mut self) -> Result<()> {
        for (name, cluster) in std::mem::take(&mut self.clusters) {
            if !cluster.is_somebodys() {
                continue;
            }
            let member = self.world.member(&name);
            let ledger = member.namespace().to_owned();
            // However it ended, what it left must go.
            let _ended = member.stop_agent().await;
            let left = async {
                let client = cluster.client()?;
                for application in APPLICATIONS {
                    remove::<Namespace>(&client, application.namespace).await?;
                }
                remove::<Namespace>(&client, &ledger).await?;
                remove::<ClusterRoleBinding>(&client, ON_CALL).await?;
                remove::<ClusterRole>(&client, ON_CALL).await
            };
            left.await
                .with_context(|| format!("{}: remove what begins with demo-", cluster.name))?;
        }
        Ok(())
    }
}

fn is_production(cluster: &str) -> bool {
    cluster == NEWCOMER.0 || CLUSTERS.contains(&(cluster, PRODUCTION))
}

/// The clusters of the beginning, and the one that comes later.
async fn start_clusters(choice: &Choice) -> Result<(Vec<Cluster>, Cluster)> {
    match choice {
        Choice::Memory => {
            let clusters = CLUSTERS.map(|(name, _)| memory::start(name));
            try_join(try_join_all(clusters), memory::start(NEWCOMER.0)).await
        }
        Choice::Real(count) => {
            let clusters = CLUSTERS.iter().take(*count).map(|(name, _)| alive(name));
            try_join(try_join_all(clusters), alive(NEWCOMER.0)).await
        }
        Choice::Contexts(contexts) => {
            let mut clusters = try_join_all(contexts.iter().map(|it| context::open(it))).await?;
            if clusters.len() == 1 {
                clusters.push(memory::start("memory").await?);
            }
            Ok((clusters, memory::start(NEWCOMER.0).await?))
        }
    }
}

/// A real cluster whose Pods come to life.
async fn alive(name: &str) -> Result<Cluster> {
    let cluster = real::start(name).await?;
    cluster.run_workloads().await?;
    Ok(cluster)
}

/// Whether nothing there has a name that the example uses.
async fn is_free(cluster: &Cluster) -> Result<()> {
    let client = cluster.client()?;
    let mut taken = Vec::new();
    for application in APPLICATIONS {
        taken.extend(found::<Namespace>(&client, application.namespace).await?);
    }
    taken.extend(found::<ClusterRole>(&client, ON_CALL).await?);
    taken.extend(found::<ClusterRoleBinding>(&client, ON_CALL).await?);
    ensure!(
        taken.is_empty(),
        "{} has {} already, which the demo would change: remove it, or play on another cluster",
        cluster.name,
        taken.join(" and ")
    );
    Ok(())
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
