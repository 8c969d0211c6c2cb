//! Manifests as others ship them and clusters as others leave them: they are applied, stay without another write, and
//! go clean.

mod discovery;
mod manifests;
mod many;
mod webhooks;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use muster_agent::engine;
use muster_proto::ApplicationStatus;
use muster_tests::cluster::Cluster;
use muster_tests::proxy::Proxy;
use muster_tests::wait;
use serde_json::Value;

use super::bed::{Bed, application, bed_with, config, options};

/// Hundreds of objects take their time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A bed whose engine's writes are noted.
struct Noted {
    bed: Bed,
    proxy: Proxy,
}

impl Noted {
    async fn start(cluster: Cluster, name: &str) -> Result<Self> {
        let proxy = Proxy::start(&cluster).await?;
        let bed = bed_with(cluster, proxy.client().await?, name).await?;
        Ok(Self { bed, proxy })
    }

    /// The writes to objects, without those of the ledger.
    fn writes(&self) -> Vec<String> {
        let ledger = format!("/{}-ledger", self.bed.namespace);
        let mut writes = self.proxy.written();
        writes.retain(|write| !write.contains(&ledger));
        writes
    }

    /// Waits until all objects of an application are applied.
    async fn synced(&self, name: &str, count: usize) -> Result<ApplicationStatus> {
        wait::until(&format!("{name} is synced"), PATIENCE, async || {
            let rows = self.bed.engine.rows().borrow().clone();
            let row = rows.applications().get(name).cloned();
            let synced = |row: &ApplicationStatus| {
                usize::try_from(row.synced) == Ok(count) && row.synced == row.objects
            };
            match row {
                Some(row) if synced(&row) => Ok(row),
                row => anyhow::bail!("{row:?}; {:?}", rows.objects()),
            }
        })
        .await
    }

    /// Applies the objects, commits them again, and lets the agent start anew: only the first writes anything to them.
    async fn come_and_stay(&mut self, objects: &[Value]) -> Result<()> {
        let name = &self.bed.namespace.clone();
        let shop = application(name, self.bed.settings(), objects)?;
        self.bed.accept(1, vec![shop.clone()]).await?;
        self.synced(name, objects.len()).await?;
        for generation in [2, 3] {
            let before = self.writes().len();
            if generation == 3 {
                self.restart().await?;
                self.synced(name, objects.len()).await?;
            }
            // What is new beside them shows when the rest has been looked at.
            let value = generation.to_string();
            let beside = application("beside", self.bed.settings(), &[config("beside", &value)])?;
            self.bed
                .accept(generation, vec![shop.clone(), beside])
                .await?;
            self.bed.holds("beside", &value).await?;
            // The agent knows of it, too: an answer that a restart loses is asked for again.
            self.synced("beside", 1).await?;
            self.synced(name, objects.len()).await?;
            let path = format!(
                "PATCH /api/v1/namespaces/{}/configmaps/beside",
                self.bed.namespace
            );
            assert_eq!(self.writes()[before..], [path], "generation {generation}");
            let rows = self.bed.engine.rows().borrow().clone();
            ensure!(
                rows.objects().values().all(|row| row.last_drift.is_none()),
                "{:?}",
                rows.objects()
            );
        }
        Ok(())
    }

    /// In good order, as its program does it: with its last handle the engine ends, and writes down what it knows. One
    /// that is stopped leaves that to whoever stopped it, and an apply may be repeated.
    async fn restart(&mut self) -> Result<()> {
        let ledger = format!("{}-ledger", self.bed.namespace);
        let client = self.proxy.client().await?;
        let (next, task) = engine::start(client, options(&ledger, "second")?);
        drop(std::mem::replace(&mut self.bed.engine, next));
        tokio::time::timeout(PATIENCE, &mut self.bed.task).await??;
        self.bed.task = tokio::spawn(task);
        self.bed.engine.loaded().await.map_err(anyhow::Error::msg)?;
        Ok(())
    }

    /// Takes them out of Git: all of them go but those of these names.
    async fn go_but(&self, stay: &[&str]) -> Result<()> {
        self.bed.accept(9, Vec::new()).await?;
        let stay: BTreeSet<String> = stay.iter().map(|name| (*name).to_owned()).collect();
        wait::until("all is gone that should go", PATIENCE, async || {
            let rows = self.bed.engine.rows().borrow().clone();
            ensure!(rows.applications().is_empty(), "{:?}", rows.objects());
            let left = left(&self.bed).await?;
            ensure!(left == stay, "{left:?}");
            Ok(())
        })
        .await
    }
}

/// The names of all objects in the cluster that carry the label of the bed's application.
async fn left(bed: &Bed) -> Result<BTreeSet<String>> {
    let found = Discovery::new(bed.client.clone()).run().await?;
    let label = ListParams::default().labels(&format!("muster.dev/application={}", bed.namespace));
    let mut left = BTreeSet::new();
    for group in found.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(bed.client.clone(), &resource);
            // A definition may go between the two.
            let list = api.list_metadata(&label).await.ok();
            let items = list.into_iter().flat_map(|list| list.items);
            left.extend(items.filter_map(|item| item.metadata.name));
        }
    }
    Ok(left)
}
