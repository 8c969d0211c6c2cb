//! Objects of any kind at the API server: applied, and watched until they are as they should be.
//!
//! In: kinds, bodies, what to wait for. Out: nothing but that it is so.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;

use super::load::name;
use crate::cluster::Cluster;

/// How long one phase may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) fn kind(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Applies one object as `manager`.
pub(super) async fn put(
    manager: &str,
    api: &Api<DynamicObject>,
    name: &str,
    body: &Value,
) -> Result<()> {
    let params = PatchParams::apply(manager).force();
    let patched = api.patch(name, &params, &Patch::Apply(body)).await;
    patched
        .map(drop)
        .with_context(|| format!("{manager}: {name}"))
}

/// ConfigMaps as they come and change, seen by a client of our own.
pub(super) type ConfigMaps = BoxStream<'static, Result<Event<ConfigMap>, watcher::Error>>;

/// Those of a namespace.
pub(super) fn config_maps(cluster: &Cluster, namespace: &str) -> Result<ConfigMaps> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client()?, namespace);
    Ok(watcher(api, watcher::Config::default()).boxed())
}

/// The first object of a load, and nothing beside it: a LIST of ten thousand would be measured, too.
pub(super) struct First(ConfigMaps);

impl First {
    /// Watches it from now on; it need not be there.
    pub(super) async fn watch(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let api: Api<ConfigMap> = Api::namespaced(cluster.client()?, namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", name(0)));
        let mut events = watcher(api, only).boxed();
        while let Some(event) = events.try_next().await? {
            if matches!(event, Event::InitDone) {
                return Ok(Self(events));
            }
        }
        bail!("the watch ended")
    }

    /// Waits until it changes to `version`; not longer than anything here may take.
    pub(super) async fn changes_to(self, version: &str) -> Result<()> {
        let came = tokio::time::timeout(PATIENCE, self.comes(version)).await;
        came.with_context(|| format!("{} did not become version {version} in time", name(0)))?
    }

    async fn comes(mut self, version: &str) -> Result<()> {
        while let Some(event) = self.0.try_next().await? {
            if let Event::Apply(object) | Event::InitApply(object) = event
                && object
                    .data
                    .is_some_and(|data| data.get("version").is_some_and(|it| it == version))
            {
                return Ok(());
            }
        }
        bail!("the watch ended")
    }
}

/// Lets time pass, which is what is measured at rest, and for what comes late.
pub(super) async fn pass(time: Duration) {
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + time, time);
    clock.tick().await;
}
