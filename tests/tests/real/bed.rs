//! An engine alone on a real API server, with a ledger of its own, and a client that is not its.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use muster_agent::engine::{self, Engine, EngineOptions};
use muster_proto::{
    ApplicationStatus, Desired, DesiredApplication, DigestKey, Object, Removals, Settings,
    SyncStatus,
};
use muster_tests::cluster::{Cluster, real};
use muster_tests::wait;
use serde_json::{Value, json};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// An engine with a ledger of its own, and a client that is not its.
pub(super) struct Bed {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    /// For objects.
    pub(super) namespace: String,
    pub(super) engine: Engine,
    pub(super) task: tokio::task::JoinHandle<()>,
}

pub(super) async fn start(
    cluster: &Cluster,
    ledger: &str,
    instance: &str,
) -> Result<(Engine, tokio::task::JoinHandle<()>)> {
    let options = EngineOptions {
        namespace: ledger.to_owned(),
        hub: "hub.test/abc".into(),
        cluster: "eu-1".parse()?,
        instance: instance.into(),
    };
    let (engine, task) = engine::start(cluster.client()?, options);
    let task = tokio::spawn(task);
    engine.loaded().await.map_err(anyhow::Error::msg)?;
    Ok((engine, task))
}

pub(super) async fn bed(name: &str) -> Result<Bed> {
    bed_in(real::shared("one").await?, name).await
}

pub(super) async fn bed_in(cluster: Cluster, name: &str) -> Result<Bed> {
    let namespace = cluster.fresh_namespace(name).await?;
    let (engine, task) = start(&cluster, &format!("{namespace}-ledger"), "first").await?;
    Ok(Bed {
        client: cluster.client()?,
        cluster,
        namespace,
        engine,
        task,
    })
}

pub(super) fn application(
    name: &str,
    settings: Settings,
    objects: &[Value],
) -> Result<Arc<DesiredApplication>> {
    let key = DigestKey::new([5; 32]);
    let objects = objects
        .iter()
        .map(|object| Ok(Arc::new(Object::new(object, &key)?)));
    Ok(Arc::new(DesiredApplication::new(
        name.parse()?,
        "abc".into(),
        settings,
        objects.collect::<Result<_>>()?,
    )))
}

pub(super) fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

impl Bed {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            namespace: self.namespace.clone(),
            ..Settings::default()
        }
    }

    pub(super) async fn accept(
        &self,
        generation: u64,
        applications: Vec<Arc<DesiredApplication>>,
    ) -> Result<()> {
        let desired = Desired::new(generation, applications, Removals::Released, Vec::new());
        self.engine.accept(desired).await?;
        Ok(())
    }

    pub(super) fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn value(&self, name: &str) -> Result<String> {
        let map = self.maps().get(name).await?;
        Ok(map
            .data
            .and_then(|mut data| data.remove("value"))
            .unwrap_or_default())
    }

    pub(super) async fn holds(&self, name: &str, value: &str) -> Result<()> {
        wait::until(&format!("{name} holds {value}"), PATIENCE, async || {
            let found = self.value(name).await?;
            ensure!(found == value, "{found}");
            Ok(())
        })
        .await
    }

    pub(super) async fn row(
        &self,
        name: &str,
        like: impl Fn(&ApplicationStatus) -> bool,
    ) -> Result<ApplicationStatus> {
        wait::until(&format!("the row of {name}"), PATIENCE, async || {
            let rows = self.engine.rows().borrow().clone();
            let row = rows.applications().get(name).context("no row")?.clone();
            ensure!(like(&row), "{row:?}; {:?}", rows.objects());
            Ok(row)
        })
        .await
    }

    pub(super) async fn synced(&self, name: &str) -> Result<ApplicationStatus> {
        self.row(name, |row| {
            row.sync == SyncStatus::Synced && row.synced == row.objects
        })
        .await
    }

    pub(super) async fn edit(&self, name: &str, value: &str) -> Result<()> {
        let patch = json!({"data": {"value": value}});
        let manager = PatchParams {
            field_manager: Some("kubectl-edit".into()),
            ..PatchParams::default()
        };
        self.maps()
            .patch(name, &manager, &Patch::Merge(&patch))
            .await?;
        Ok(())
    }
}
