//! What the story is played on: a hub with the example fleet, clusters of the wanted kind, and clients to look with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::future::{try_join, try_join_all};

use super::borrowed;
use super::fleet::{CLUSTERS, NEWCOMER, PRODUCTION, files};
use super::look::{Clients, Sight, well};
use super::screen::print;
use crate::cluster::{Cluster, memory, real};
use crate::git::{Repository, git};
use crate::memory::Fault;
use crate::world::World;

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
    /// The program to look with by hand that was built with real API servers.
    pub(super) kubectl: Option<&'static Path>,
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
        for (name, cluster) in &waiting {
            if cluster.is_somebodys() {
                print(&format!(
                    "{name} is the cluster of context {}.\n",
                    cluster.name
                ));
            }
        }
        let names: Vec<_> = waiting.iter().map(|(name, _)| *name).collect();
        let repository = Repository::empty()?;
        repository.commit("The example fleet", &files(&names))?;
        // A person may go on from here with `git commit` and `git push` alone.
        let work = repository.work();
        git(
            &work,
            ["branch", "--quiet", "--set-upstream-to=origin/main"],
        )?;
        git(&work, ["config", "user.name", "You"])?;
        git(&work, ["config", "user.email", "you@example.invalid"])?;
        Ok(Self {
            world: World::on(repository).await?,
            clusters: BTreeMap::new(),
            clients: Clients::new(),
            kubectl: match choice {
                Choice::Real(_) => Some(real::kubectl().await?),
                Choice::Memory | Choice::Contexts(_) => None,
            },
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
    /// What is left, and why; of every cluster where something is.
    pub(super) async fn clear(mut self) -> Result<()> {
        let mut failures = Vec::new();
        for (name, cluster) in std::mem::take(&mut self.clusters) {
            if !cluster.is_somebodys() {
                continue;
            }
            print(&format!(
                "Removing from the cluster of context {} what was put there...\n",
                cluster.name
            ));
            let member = self.world.member(&name);
            // However it ended, what it left must go.
            let _ended = member.stop_agent().await;
            match borrowed::clear(&cluster, Some(member.namespace())).await {
                Ok(()) => print(&format!("{} is as it was.\n", cluster.name)),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
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
            let mut clusters = Vec::new();
            for (name, _) in CLUSTERS.iter().take(*count) {
                clusters.push(alive(name).await?);
            }
            Ok((clusters, alive(NEWCOMER.0).await?))
        }
        Choice::Contexts(contexts) => {
            let mut clusters = borrowed::open(contexts).await?;
            if clusters.len() == 1 {
                clusters.push(memory::start("memory").await?);
            }
            Ok((clusters, memory::start(NEWCOMER.0).await?))
        }
    }
}

/// A real cluster whose Pods come to life. They start one after the other.
async fn alive(name: &str) -> Result<Cluster> {
    let begun = Instant::now();
    let cluster = real::start(name).await?;
    cluster.run_workloads().await?;
    let version = cluster.client()?.apiserver_version().await;
    let version = version.context("the API server went away")?.git_version;
    print(&format!(
        "{name}: Kubernetes {version} at {}, up in {:.1} s\n",
        cluster.config.cluster_url,
        begun.elapsed().as_secs_f64()
    ));
    Ok(cluster)
}
