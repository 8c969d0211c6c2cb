//! A fleet without its hub: the same deciding over a checkout, with the same programs in the same jail.
//!
//! In: what a checkout holds at a time ([`Looked`]), and what ran before. Out: a [`Decision`]. Repositories that documents
//! name are fetched into the user's cache, and what programs rendered is kept there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_decide::model::{self, Origin, Repository};
use muster_decide::placement::{Capabilities, minor};
use muster_decide::render::{Cache, Tool, Wanted, charts};
use muster_decide::snapshot::Others;
use muster_decide::{Decision, LastGood, Members, Placed, Sources, decide};
use muster_git::{Blobs, Checkout, Looked, Other, fetched_once};
use muster_proto::{ClusterName, DigestKey};
use muster_render::{By, Renderer, Rendering, ToolFile};
use tokio::task::JoinSet;

use super::listed::{self, Listed};
use super::told;
use crate::answer::now;
use crate::args::WithoutHubArgs;
use crate::config::Environment;
use crate::failure::Failure;

/// Nobody sees a digest that is made here.
const KEY: [u8; 32] = [0; 32];
/// Bytes of outputs that are kept.
const CACHE: u64 = 1 << 30;

/// What deciding takes, whatever is looked at.
pub(super) struct Fleet {
    pub(super) checkout: Checkout,
    renderer: Renderer,
    /// Clusters that only the hub knows.
    listed: BTreeMap<ClusterName, Listed>,
    /// Those that joined, once something was looked at.
    members: Option<Members>,
    /// Kubernetes' version of clusters that are not listed.
    kubernetes: String,
    /// Of what charts ask about, what clusters serve.
    served: BTreeSet<String>,
    credentials: Option<PathBuf>,
    /// Of mirrors and renderings.
    cache_folder: PathBuf,
    /// Held as long as mirrors are used.
    turn: Option<File>,
    others: BTreeMap<Origin, Other>,
    cache: Cache,
}

/// What was decided, and how much was looked at for it.
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// Targets of all applications.
    pub(super) variants: usize,
}

impl Fleet {
    /// Finds the checkout, the clusters and the programs.
    pub(super) async fn open(
        environment: &Environment,
        path: &Path,
        args: &WithoutHubArgs,
    ) -> Result<Self, Failure> {
        let checkout = Checkout::of(path).map_err(told)?;
        let listed = match &args.clusters_from {
            None => BTreeMap::new(),
            Some(file) => listed::read(file)?,
        };
        let cache_folder = environment.cache.clone().ok_or_else(|| {
            Failure::told("there is no place for a cache: set XDG_CACHE_HOME or HOME")
        })?;
        let rendering = rendering(environment, args);
        let renderer = Renderer::sharing(&rendering, &cache_folder)
            .await
            .map_err(told)?;
        Ok(Self {
            checkout,
            listed,
            members: None,
            kubernetes: args.kube_version.clone().unwrap_or_default(),
            served: args.api_versions.iter().cloned().collect(),
            credentials: args.credentials.clone(),
            cache: Cache::knowing([], renderer.tools()),
            renderer,
            cache_folder,
            turn: None,
            others: BTreeMap::new(),
        })
    }

    /// What every cluster should run by what is looked at, where they ran this `before`. `in_full`: targets that no known
    /// cluster takes are rendered, too. What a person should know meanwhile goes to `err`.
    pub(super) async fn decide(
        &mut self,
        looked: &Looked,
        before: &LastGood,
        in_full: bool,
        err: &mut (dyn Write + Send),
    ) -> Result<Decided, Failure> {
        let fleet = self.cache.read(&looked.snapshot);
        let applications = fleet.applications.values();
        let variants = applications.map(|it| it.targets.len()).sum();
        let members = self.members(&fleet);
        let placed = Placed::new(fleet, &members, before);
        let unknown = self.unknown(&placed.asked());
        let known = self.capabilities(&placed.fleet, &members, before, &unknown);
        let mut placed = placed.knowing(&known);
        if in_full {
            placed = placed.in_full(unknown);
        }
        let origins = placed.fleet.origins().into_iter();
        let mut origins: BTreeMap<_, _> = origins
            .map(|(origin, repository)| (origin, repository.clone()))
            .collect();
        self.fetch(&origins, err).await?;
        let mut sources = Sources {
            others: self.newest(&origins),
            fleet: looked.snapshot.clone(),
        };
        // What charts name is known once they are there themselves.
        origins.extend(charts(&sources, &placed));
        self.fetch(&origins, err).await?;
        sources.others = self.newest(&origins);
        let key = DigestKey::new(KEY);
        self.run(looked, &sources, &placed, &key).await;
        let nothing_approved = BTreeSet::new();
        let cache = &mut self.cache;
        let decision = decide(&sources, &placed, before, &nothing_approved, &key, cache);
        let decision = decision.map_err(|refused| Failure::told(refused.to_string()))?;
        Ok(Decided { decision, variants })
    }

    /// The clusters that joined, with the labels of their join tokens: those that are listed, without the labels that the
    /// first documents looked at state, because the list was made from these, and what Git takes back is gone. One that
    /// these documents declare has joined: without its document it stays, with no labels.
    fn members(&mut self, fleet: &model::Fleet) -> Members {
        let listed = &self.listed;
        let members = self.members.get_or_insert_with(|| {
            let listed = listed.iter().map(|(name, listed)| {
                let mut labels = listed.labels.clone();
                if let Some(document) = fleet.clusters.get(name) {
                    labels.retain(|key, _| !document.spec.labels.contains_key(key));
                }
                (name.clone(), Arc::new(labels))
            });
            let mut members: Members = listed.collect();
            for name in fleet.clusters.keys() {
                members.entry(name.clone()).or_default();
            }
            members
        });
        members.clone()
    }

    /// A cluster of which nothing is known but what was said on the command line.
    fn unknown(&self, asked: &BTreeSet<String>) -> Capabilities {
        let served = asked
            .iter()
            .map(|it| (it.clone(), self.served.contains(it)));
        Capabilities {
            kubernetes: self.kubernetes.clone(),
            api_versions: served.collect(),
        }
    }

    /// What charts may ask of clusters. One whose agent never spoke is `unknown`.
    fn capabilities(
        &self,
        fleet: &model::Fleet,
        members: &Members,
        before: &LastGood,
        unknown: &Capabilities,
    ) -> BTreeMap<ClusterName, Arc<Capabilities>> {
        let mut alike: BTreeMap<String, Arc<Capabilities>> = BTreeMap::new();
        let unknown = Arc::new(unknown.clone());
        let names = fleet.clusters.keys().chain(members.keys());
        let names = names.chain(before.clusters().keys());
        let known = names.map(|name| {
            let listed = self.listed.get(name);
            let version = listed.and_then(|listed| minor(&listed.kubernetes));
            let Some(version) = version else {
                return (name.clone(), unknown.clone());
            };
            let same = alike.entry(version.clone()).or_insert_with(|| {
                Arc::new(Capabilities {
                    kubernetes: version,
                    ..Capabilities::clone(&unknown)
                })
            });
            (name.clone(), same.clone())
        });
        known.collect()
    }

    fn newest(&self, origins: &BTreeMap<Origin, Repository>) -> Others {
        let others = origins.iter().filter_map(|(origin, repository)| {
            let other = self.others.get(origin)?;
            (other.repository == *repository).then(|| (origin.clone(), other.newest()))
        });
        others.collect()
    }

    /// Brings the repositories and charts that are named, each once.
    async fn fetch(
        &mut self,
        origins: &BTreeMap<Origin, Repository>,
        err: &mut (dyn Write + Send),
    ) -> Result<(), Failure> {
        let mut fetches = JoinSet::new();
        for (origin, repository) in origins {
            let known = self.others.get(origin);
            if known.is_some_and(|known| known.repository == *repository) {
                continue;
            }
            if self.turn.is_none() {
                let place = self.cache_folder.clone();
                let turn = tokio::task::spawn_blocking(move || turn(&place)).await;
                let turn = turn.map_err(|error| Failure::told(error.to_string()))?;
                let place = self.cache_folder.display();
                self.turn = Some(turn.map_err(|error| {
                    Failure::told(format!("the cache {place} can't be written: {error}"))
                })?);
            }
            let (origin, repository) = (origin.clone(), repository.clone());
            let credentials = self.credentials.clone();
            let folder = self.cache_folder.join("sources");
            fetches.spawn_blocking(move || {
                let other = fetched_once(&origin, &repository, credentials, &folder, now());
                (origin, other)
            });
        }
        while let Some(fetched) = fetches.join_next().await {
            let (origin, other) = fetched.map_err(|error| Failure::told(error.to_string()))?;
            if let (Some(error), Some(_)) = (&other.tracked.error, &other.tracked.snapshot) {
                let name = &origin.repository;
                let line = format!("Repository {name}: {error}; what is here of it is taken");
                writeln!(err, "muster: {}", crate::text::clean(&line))?;
            }
            self.others.insert(origin, other);
        }
        Ok(())
    }

    /// Runs the programs for everything that was not rendered yet.
    async fn run(&mut self, looked: &Looked, sources: &Sources, placed: &Placed, key: &DigestKey) {
        let mut runs = JoinSet::new();
        for wanted in self.cache.jobs(sources, placed) {
            let Some((snapshot, blobs)) = self.files(&wanted, looked, sources) else {
                continue;
            };
            let renderer = self.renderer.clone();
            runs.spawn(async move {
                let output = renderer.run(&wanted.job, &snapshot, &blobs).await;
                (wanted, output)
            });
        }
        while let Some(run) = runs.join_next().await {
            // One that panicked is said to be rendering still.
            if let Ok((wanted, output)) = run {
                self.cache.take(wanted, output, key);
            }
        }
    }

    fn files(
        &self,
        wanted: &Wanted,
        looked: &Looked,
        sources: &Sources,
    ) -> Option<(Arc<muster_decide::Snapshot>, Blobs)> {
        match &wanted.origin {
            None => Some((looked.snapshot.clone(), looked.blobs.clone())),
            Some(origin) => {
                let snapshot = sources.others.get(origin)?.clone().ok()?;
                Some((snapshot, self.others.get(origin)?.tracked.blobs.clone()))
            }
        }
    }
}

fn rendering(environment: &Environment, args: &WithoutHubArgs) -> Rendering {
    let search = || ToolFile::Search(environment.path.clone());
    let tools = Tool::ALL.map(|tool| {
        let given = match tool {
            Tool::Kustomize => &args.kustomize,
            Tool::Helm => &args.helm,
        };
        (tool, given.clone().unwrap_or_else(search))
    });
    Rendering {
        tools: tools.into(),
        concurrency: None,
        timeout: args.render_timeout.unwrap_or(Duration::from_secs(60)),
        cache_size: CACHE,
        allow_unconfined: args.allow_unconfined_render,
        by: By::Command,
        jail: None,
    }
}

/// Waits until no other process uses the mirrors.
fn turn(place: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(place)?;
    let file = File::create(place.join("sources.lock"))?;
    file.lock()?;
    Ok(file)
}
