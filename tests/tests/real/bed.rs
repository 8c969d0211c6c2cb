//! An engine alone on a real API server, with a ledger of its own, and a client that is not its.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use muster_agent::engine::{self, Engine, EngineOptions, Stop};
use muster_proto::{
    ApplicationStatus, Desired, DesiredApplication, DigestKey, Object, ObjectStatus, Removals,
    Settings, SyncStatus,
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
    start_with(cluster.client()?, ledger, instance).await
}

/// An engine whose calls go through this client.
pub(super) async fn start_with(
    client: Client,
    ledger: &str,
    instance: &str,
) -> Result<(Engine, tokio::task::JoinHandle<()>)> {
    let (engine, task) = engine::start(client, options(ledger, instance)?);
    let task = tokio::spawn(task);
    engine.loaded().await.map_err(anyhow::Error::msg)?;
    Ok((engine, task))
}

pub(super) fn options(ledger: &str, instance: &str) -> Result<EngineOptions> {
    Ok(EngineOptions {
        namespace: ledger.to_owned(),
        hub: "hub.test/abc".into(),
        cluster: "eu-1".parse()?,
        instance: instance.into(),
    })
}

pub(super) async fn bed(name: &str) -> Result<Bed> {
    bed_in(real::shared("one").await?, name).await
}

pub(super) async fn bed_in(cluster: Cluster, name: &str) -> Result<Bed> {
    let client = cluster.client()?;
    bed_with(cluster, client, name).await
}

/// The engine's calls go through `client`.
pub(super) async fn bed_with(cluster: Cluster, client: Client, name: &str) -> Result<Bed> {
    let namespace = cluster.fresh_namespace(name).await?;
    let (engine, task) = start_with(client, &format!("{namespace}-ledger"), "first").await?;
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

/// A Deployment of Pods without any node to run on: it never becomes ready.
pub(super) fn stuck(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"nodeSelector": {"no": "such"}, "containers": [{"name": "web", "image": "web"}]}}}})
}

impl Bed {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            namespace: self.namespace.clone(),
            ..Settings::default()
        }
    }

    /// Its engine ends, and another one goes on from the same ledger.
    pub(super) async fn restarted(self) -> Result<Self> {
        let why = Stop::Because("restarted".into());
        self.engine.stop(why).await;
        self.task.abort();
        let ledger = format!("{}-ledger", self.namespace);
        let (engine, task) = start(&self.cluster, &ledger, "second").await?;
        Ok(Self {
            engine,
            task,
            ..self
        })
    }

    /// Deletes a ConfigMap that a finalizer holds: it goes on dying until it is `released`. Its UID.
    pub(super) async fn dies(&self, name: &str) -> Result<String> {
        let held = self.finalizers(name, json!(["example.com/hold"])).await?;
        self.maps().delete(name, &DeleteParams::default()).await?;
        held.metadata.uid.context("a UID")
    }

    /// Takes the finalizer off what `dies`.
    pub(super) async fn released(&self, name: &str) -> Result<()> {
        self.finalizers(name, json!(null)).await?;
        Ok(())
    }

    async fn finalizers(&self, name: &str, list: Value) -> Result<ConfigMap> {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": list}}));
        Ok(self.maps().patch(name, &manager("test"), &patch).await?)
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

    pub(super) async fn object(
        &self,
        name: &str,
        like: impl Fn(&ObjectStatus) -> bool,
    ) -> Result<ObjectStatus> {
        wait::until(&format!("the row of object {name}"), PATIENCE, async || {
            let rows = self.engine.rows().borrow().clone();
            let mut found = rows.objects().values().filter(|row| row.key.name == name);
            let row = found.next().context("no row")?.clone();
            ensure!(like(&row), "{row:?}");
            Ok(row)
        })
        .await
    }

    /// Objects of a kind in the namespace of the bed.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Writes as this field manager.
pub(super) fn manager(name: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(name.to_owned()),
        ..PatchParams::default()
    }
}

/// Creates an object as `kubectl apply` does: by an update, with what was applied in an annotation.
pub(super) async fn kubectl_apply<K>(api: &Api<K>, object: &Value) -> Result<K>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut with = object.clone();
    let applied = serde_json::to_string(object)?;
    with["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
        json!(applied);
    let parameters = PostParams {
        field_manager: Some("kubectl-client-side-apply".into()),
        ..PostParams::default()
    };
    Ok(api
        .create(&parameters, &serde_json::from_value(with)?)
        .await?)
}
