//! What must hold however an agent dies: at each single write of a sync that creates, changes, moves and prunes, its
//! process is killed, once before the write arrives and once before its answer does; the next one finishes the work.
//!
//! In: a cluster of any kind. Out: an error that names write and side, and what was wrong then.
//!
//! The fleet goes from one state to the other and back, so that each transition is the next case.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};

use crate::cluster::Cluster;
use crate::proxy::{Proxy, Side};
use crate::supervisor::{Folder, Process, Signal, testbed};
use crate::wait;
use crate::world::{SOON, World};

/// No write for so many looks in a row: nothing is on its way any more.
const QUIET_LOOKS: u32 = 24;

/// Kills the agent at every write.
///
/// # Errors
/// At the first case that does not end well.
pub async fn kill_at_every_write(cluster: &Cluster) -> Result<()> {
    let mut bed = Bed::start(cluster).await?;
    let mut target = Phase::Two;
    for write in 1.. {
        let mut came = false;
        for side in [Side::Before, Side::After] {
            let held = bed.go_to(target, write, side).await;
            came |= held.with_context(|| format!("killed {side:?} write {write} to {target:?}"))?;
            target = target.other();
        }
        if !came {
            // A sync takes several: the root and a shard of the ledger, three objects and a deletion.
            ensure!(write > 6, "only {write} writes were seen");
            return Ok(());
        }
    }
    Ok(())
}

/// One of the two states of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    One,
    Two,
}

impl Phase {
    fn other(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::One,
        }
    }

    /// Object and value, by application.
    fn objects(self) -> [(&'static str, &'static [(&'static str, &'static str)]); 2] {
        match self {
            Self::One => [
                ("front", &[("stays", "1"), ("moves", "m"), ("comes", "c")]),
                ("back", &[("quiet", "q")]),
            ],
            Self::Two => [
                ("front", &[("stays", "2"), ("goes", "g")]),
                ("back", &[("quiet", "q"), ("moves", "m")]),
            ],
        }
    }

    fn expected(self) -> BTreeMap<String, String> {
        let objects = self.objects().into_iter().flat_map(|(_, objects)| objects);
        let mine = objects.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        // What is nobody's business stays.
        let foreign = ("foreign".to_owned(), "f".to_owned());
        mine.chain([foreign]).collect()
    }
}

struct Bed {
    world: World,
    proxy: Proxy,
    namespace: String,
    prefix: String,
    maps: Api<ConfigMap>,
    agent: Option<Process>,
    folder: Folder,
    at: Phase,
}

impl Bed {
    async fn start(cluster: &Cluster) -> Result<Self> {
        let unique = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let namespace = cluster.fresh_namespace("crash").await?;
        let proxy = Proxy::start(cluster).await?;
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client()?, &namespace);
        let mut foreign = ConfigMap::default();
        foreign.metadata.name = Some("foreign".to_owned());
        foreign.data = Some([("value".to_owned(), "f".to_owned())].into());
        maps.create(&PostParams::default(), &foreign).await?;
        let files = files(&namespace, Phase::One);
        let files: Vec<_> = files
            .iter()
            .map(|(p, c)| (p.as_str(), c.as_str()))
            .collect();
        let world = World::start(&files).await?;
        let folder = Folder::new("crash")?;
        let token = world.invite("one", &[]).await?;
        std::fs::write(folder.path.join("join-token"), token)?;
        let mut bed = Self {
            world,
            proxy,
            prefix: format!("muster-crash-{unique}"),
            namespace,
            maps,
            agent: None,
            folder,
            at: Phase::One,
        };
        bed.start_agent()?;
        bed.settled(Phase::One).await?;
        Ok(bed)
    }

    fn start_agent(&mut self) -> Result<()> {
        let path = |path: &Path| path.display().to_string();
        let arguments = [
            "agent".to_owned(),
            "run".to_owned(),
            "--join-token-file".to_owned(),
            path(&self.folder.path.join("join-token")),
            "--data".to_owned(),
            path(&self.folder.path.join("credentials")),
            "--kubeconfig".to_owned(),
            path(&self.proxy.kubeconfig),
            "--namespace".to_owned(),
            self.prefix.clone(),
        ];
        let log = self.folder.path.join("agent.log");
        self.agent = Some(Process::spawn(&testbed()?, arguments, &[], &log)?);
        Ok(())
    }

    /// One case; whether the write came at all.
    async fn go_to(&mut self, target: Phase, write: u64, side: Side) -> Result<bool> {
        let before = self.uids().await?;
        self.proxy.hold(Some((write, side)));
        let files = files(&self.namespace, target);
        let was = self.at.objects().into_iter();
        let was = was.flat_map(|(application, objects)| {
            objects.iter().map(move |(name, _)| path(application, name))
        });
        for gone in was.filter(|path| !files.iter().any(|(kept, _)| kept == path)) {
            std::fs::remove_file(self.world.repository.work().join(gone))?;
        }
        let files: Vec<_> = files
            .iter()
            .map(|(p, c)| (p.as_str(), c.as_str()))
            .collect();
        self.world.push("the other state", &files).await?;
        self.at = target;
        let came = self.held_or_settled(target).await?;
        if came {
            let agent = self.agent.take().context("no agent")?;
            agent.signal(Signal::Kill)?;
            wait::until("the agent is dead", SOON, async || {
                agent.ended()?.context("it is still there")
            })
            .await?;
            drop(agent);
            self.proxy.hold(None);
            self.start_agent()?;
        }
        self.settled(target).await.with_context(|| {
            let log = self.agent.as_ref().map(Process::log_tail);
            format!("the agent said last:\n{}", log.unwrap_or_default())
        })?;
        let after = self.uids().await?;
        for (name, uid) in &before {
            if target.expected().contains_key(name) {
                ensure!(
                    after.get(name) == Some(uid),
                    "{name} was deleted and made again"
                );
            }
        }
        Ok(came)
    }

    async fn held_or_settled(&mut self, target: Phase) -> Result<bool> {
        if self.proxy.holds() {
            return Ok(true);
        }
        let mut looks = Looks::default();
        wait::until("the write comes, or all is done", SOON, async || {
            if self.proxy.holds() {
                return Ok(true);
            }
            self.matches(target).await?;
            looks.are_quiet(&self.proxy)?;
            Ok(false)
        })
        .await
    }

    /// Waits until the cluster holds exactly what it should, and nobody writes any more.
    async fn settled(&self, target: Phase) -> Result<()> {
        let mut looks = Looks::default();
        wait::until(&format!("{target:?} is settled"), SOON * 2, async || {
            self.matches(target).await?;
            looks.are_quiet(&self.proxy)
        })
        .await
    }

    async fn matches(&self, target: Phase) -> Result<()> {
        let mut found = BTreeMap::new();
        for map in self.maps.list(&ListParams::default()).await? {
            let name = map.metadata.name.unwrap_or_default();
            if name != "kube-root-ca.crt" {
                let value = map.data.and_then(|mut data| data.remove("value"));
                found.insert(name, value.unwrap_or_default());
            }
        }
        ensure!(found == target.expected(), "it holds {found:?}");
        Ok(())
    }

    async fn uids(&self) -> Result<BTreeMap<String, String>> {
        let maps = self.maps.list(&ListParams::default()).await?;
        let meta = maps.into_iter().map(|map| map.metadata);
        Ok(meta
            .map(|meta| (meta.name.unwrap_or_default(), meta.uid.unwrap_or_default()))
            .collect())
    }
}

/// How long nobody has written.
#[derive(Default)]
struct Looks {
    writes: u64,
    quiet: u32,
}

impl Looks {
    fn are_quiet(&mut self, proxy: &Proxy) -> Result<()> {
        let writes = proxy.writes();
        self.quiet = if writes == self.writes {
            self.quiet + 1
        } else {
            0
        };
        self.writes = writes;
        ensure!(self.quiet >= QUIET_LOOKS, "somebody is still writing");
        Ok(())
    }
}

fn path(application: &str, object: &str) -> String {
    format!("{application}/{object}.yaml")
}

fn files(namespace: &str, phase: Phase) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (application, objects) in phase.objects() {
        files.push((
            format!("{application}/muster.yaml"),
            format!(
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {application}\nspec:\n  namespace: {namespace}\n"
            ),
        ));
        for (name, value) in objects {
            let object = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  value: \"{value}\"\n"
            );
            files.push((path(application, name), object));
        }
    }
    files
}
