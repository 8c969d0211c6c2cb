//! Objects of any kind at the API server: applied, and watched until they are as they should be.
//!
//! In: kinds, bodies, what to wait for. Out: nothing but that it is so.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
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

/// The ConfigMaps of a namespace as they come and change, seen by a client of our own.
pub(super) fn config_maps(
    cluster: &Cluster,
    namespace: &str,
) -> Result<impl futures::Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + use<>> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client()?, namespace);
    Ok(watcher(api, watcher::Config::default()).boxed())
}

/// Waits until the first object of the load holds `version`; not longer than anything here may take.
pub(super) async fn changed(cluster: &Cluster, namespace: &str, version: &str) -> Result<()> {
    let came = tokio::time::timeout(PATIENCE, comes(cluster, namespace, version)).await;
    came.with_context(|| format!("no object of version {version} came into {namespace} in time"))?
}

async fn comes(cluster: &Cluster, namespace: &str, version: &str) -> Result<()> {
    let mut objects = std::pin::pin!(config_maps(cluster, namespace)?);
    while let Some(event) = objects.try_next().await? {
        if let Event::Apply(object) | Event::InitApply(object) = event
            && object.name_any() == name(0)
            && object
                .data
                .is_some_and(|data| data.get("version").is_some_and(|it| it == version))
        {
            return Ok(());
        }
    }
    bail!("the watch ended")
}

/// Lets time pass, which is what is measured at rest, and for what comes late.
pub(super) async fn pass(time: Duration) {
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + time, time);
    clock.tick().await;
}
