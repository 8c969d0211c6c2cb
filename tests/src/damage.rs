//! What must hold when somebody's hand was in the ledger: its root or a shard deleted or edited, under a running agent
//! and while none ran. It is whole again by itself, nothing is deleted or made anew for it, and what the agent made is
//! still known to be its own.
//!
//! In: a cluster of any kind, with nobody else's agents in it. Out: an error that names the hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use muster_agent::engine::{self, Engine, EngineOptions};
use muster_proto::{
    Desired, DesiredApplication, Digest, DigestKey, Object, Removals, Settings, SyncStatus,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::wait;
use crate::world::SOON;

const ROOT: &str = "muster-ledger";

/// What a hand does.
#[derive(Debug, Clone, Copy)]
enum Hand {
    DeletesRoot,
    EditsRoot,
    TakesAwayJournal,
    DeletesShard,
    EditsShard,
}

const HANDS: [Hand; 5] = [
    Hand::DeletesRoot,
    Hand::EditsRoot,
    Hand::TakesAwayJournal,
    Hand::DeletesShard,
    Hand::EditsShard,
];

/// Damages the ledger in every way, under a running agent and between two.
///
/// # Errors
/// At the first hand that does harm.
pub async fn hands_in_the_ledger(cluster: &Cluster) -> Result<()> {
    let mut bed = Bed::start(cluster).await?;
    for hand in HANDS {
        bed.under_a_running_agent(hand)
            .await
            .with_context(|| format!("{hand:?} under a running agent"))?;
    }
    for hand in HANDS {
        bed.between_two_agents(hand)
            .await
            .with_context(|| format!("{hand:?} between two agents"))?;
    }
    Ok(())
}

struct Bed {
    cluster: Cluster,
    /// Of the objects.
    namespace: String,
    maps: Api<ConfigMap>,
    secrets: Api<Secret>,
    /// None between two.
    agent: Option<(Engine, JoinHandle<()>)>,
    generation: u64,
}

impl Bed {
    async fn start(cluster: &Cluster) -> Result<Self> {
        let namespace = cluster.fresh_namespace("damage").await?;
        let client = cluster.client()?;
        let agent = start(cluster, &namespace).await?;
        Ok(Self {
            maps: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client, &format!("{namespace}-ledger")),
            cluster: cluster.clone(),
            namespace,
            agent: Some(agent),
            generation: 0,
        })
    }

    async fn under_a_running_agent(&mut self, hand: Hand) -> Result<()> {
        let before = self.with_one_to_go().await?;
        self.lay(hand).await?;
        self.is_whole().await?;
        self.goes_on(before).await
    }

    async fn between_two_agents(&mut self, hand: Hand) -> Result<()> {
        let before = self.with_one_to_go().await?;
        if let Some((engine, task)) = self.agent.take() {
            // Without a handle it ends in good order.
            drop(engine);
            task.await?;
        }
        self.lay(hand).await?;
        self.agent = Some(start(&self.cluster, &self.namespace).await?);
        ensure!(
            self.uids().await? == before,
            "a start with a damaged ledger deleted or made something"
        );
        self.is_whole().await?;
        self.goes_on(before).await
    }

    /// Brings the application to its full size, and says what is there.
    async fn with_one_to_go(&mut self) -> Result<BTreeMap<String, String>> {
        // The large one fills the journal, so that there are shards, and some journal comes after them.
        self.deploy(&["stays", "goes", "large"]).await?;
        self.deploy(&["stays", "goes", "large", "late"]).await?;
        self.is_whole().await?;
        self.uids().await
    }

    /// The agent follows Git, and removes what left it and nothing else.
    async fn goes_on(&mut self, mut before: BTreeMap<String, String>) -> Result<()> {
        self.deploy(&["stays", "large", "late"]).await?;
        before.remove("goes");
        wait::until("what left Git is gone", SOON, async || {
            let now = self.uids().await?;
            ensure!(now == before, "{now:?}, not {before:?}");
            Ok(())
        })
        .await
    }

    async fn deploy(&mut self, names: &[&str]) -> Result<()> {
        self.generation += 1;
        let key = DigestKey::new([5; 32]);
        let object = |name: &&str| {
            let data = match *name {
                // Another one each time, so that the journal is folded into shards.
                "large" => noise(self.generation),
                _ => "1".to_owned(),
            };
            Ok(Arc::new(Object::new(&config_map(name, &data), &key)?))
        };
        let objects = names.iter().map(object).collect::<Result<_>>()?;
        let settings = Settings {
            namespace: self.namespace.clone(),
            ..Settings::default()
        };
        let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, objects);
        let shop = vec![Arc::new(shop)];
        let desired = Desired::new(self.generation, shop, Removals::Released, Vec::new());
        let (engine, _task) = self.agent.as_ref().context("no agent")?;
        engine.accept(desired).await?;
        wait::until("it is synced", SOON, async || {
            let rows = engine.rows().borrow().clone();
            let row = rows.applications().get("shop").context("no row")?;
            ensure!(
                rows.generation() == self.generation
                    && row.sync == SyncStatus::Synced
                    && row.waiting == 0,
                "{row:?}"
            );
            Ok(())
        })
        .await
    }

    async fn lay(&self, hand: Hand) -> Result<()> {
        let patch = async |data: Value| {
            let patch = Patch::Merge(json!({ "data": data }));
            self.secrets
                .patch(ROOT, &PatchParams::default(), &patch)
                .await
        };
        let of_journal = |name: &&String| name.starts_with("journal-");
        match hand {
            Hand::DeletesRoot => {
                self.secrets.delete(ROOT, &DeleteParams::default()).await?;
            }
            Hand::EditsRoot => {
                patch(json!({"root": ByteString(b"{}".to_vec())})).await?;
            }
            Hand::TakesAwayJournal => {
                let data = self.secrets.get(ROOT).await?.data.unwrap_or_default();
                let first = data.keys().find(of_journal).context("no journal")?;
                patch(json!({ first: null })).await?;
            }
            Hand::DeletesShard | Hand::EditsShard => {
                let mut shard = self
                    .shards()
                    .await?
                    .into_iter()
                    .next()
                    .context("no shard")?;
                let name = shard.name_any();
                self.secrets.delete(&name, &DeleteParams::default()).await?;
                if matches!(hand, Hand::EditsShard) {
                    shard.metadata = kube::api::ObjectMeta {
                        name: Some(name),
                        labels: shard.metadata.labels,
                        ..Default::default()
                    };
                    shard.data = Some([("shard".into(), ByteString(b"other".to_vec()))].into());
                    self.secrets.create(&PostParams::default(), &shard).await?;
                }
            }
        }
        Ok(())
    }

    async fn shards(&self) -> Result<Vec<Secret>> {
        let shards = ListParams::default().labels("muster.dev/ledger=shard");
        Ok(self.secrets.list(&shards).await?.items)
    }

    /// The root is there and can be read, and every shard it lists holds the bytes it is named by.
    async fn is_whole(&self) -> Result<()> {
        wait::until("the ledger is whole", SOON, async || {
            let data = self.secrets.get(ROOT).await?.data.unwrap_or_default();
            let root: Value = serde_json::from_slice(&data.get("root").context("no root")?.0)?;
            ensure!(
                root["format"].is_number() && root["damaged"].is_null(),
                "{root:#}"
            );
            let parts = root["parts"].as_array().into_iter().flatten();
            let listed = parts.flat_map(|part| part.as_array().into_iter().flatten());
            for shard in listed {
                let name = shard["name"].as_str().context("a name")?;
                let found = self.secrets.get(name).await?.data.unwrap_or_default();
                let digest = Digest::of([&found.get("shard").context("no bytes")?.0]);
                ensure!(shard["digest"] == digest.to_string(), "{name}");
            }
            Ok(())
        })
        .await
    }

    async fn uids(&self) -> Result<BTreeMap<String, String>> {
        let maps = self.maps.list(&ListParams::default()).await?.items;
        let ours = maps
            .into_iter()
            .filter(|map| map.name_any() != "kube-root-ca.crt");
        Ok(ours
            .map(|map| (map.name_any(), map.uid().unwrap_or_default()))
            .collect())
    }
}

fn options(namespace: &str) -> Result<EngineOptions> {
    Ok(EngineOptions {
        namespace: format!("{namespace}-ledger"),
        hub: "hub.test/abc".into(),
        cluster: "eu-1".parse()?,
        instance: uuid::Uuid::new_v4().to_string(),
    })
}

async fn start(cluster: &Cluster, namespace: &str) -> Result<(Engine, JoinHandle<()>)> {
    let (engine, task) = engine::start(cluster.client()?, options(namespace)?);
    let task = tokio::spawn(task);
    engine.loaded().await.map_err(anyhow::Error::msg)?;
    Ok((engine, task))
}

fn config_map(name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": data}})
}

/// Text that hardly gets smaller, more than half of which is a journal's fill.
fn noise(seed: u64) -> String {
    let mut noise = String::new();
    for n in 0..24_000 {
        let mixed = (n + seed * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        noise.push_str(&format!("{mixed:016x}"));
    }
    noise
}
