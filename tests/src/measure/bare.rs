//! What server-side apply itself costs: a loop that applies the same bytes with the same client and concurrency, while
//! the same watches are open, and does nothing else.

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, watcher};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::load::{Load, name};
use crate::cluster::Cluster;

/// The loop's name at the API server.
pub(super) const PROGRAM: &str = "bare-loop";
/// As many as the agent.
const CONCURRENCY: usize = 8;
/// As long as the agent's, and not it: the agent would watch these objects too.
const LABEL: &str = "bare-loop.dev/applied";

/// Creates the namespace and applies `load` into it.
pub(super) async fn apply(cluster: &Cluster, namespace: &str, load: &Load) -> Result<()> {
    let mut config = cluster.config.clone();
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_static(PROGRAM),
    ));
    let client = Client::try_from(config)?;
    let mut watches = JoinSet::new();
    let (config_maps, deployments) = (kind("", "ConfigMap"), kind("apps", "Deployment"));
    let ours = watcher::Config::default().labels(LABEL);
    let metadata: Api<PartialObjectMeta<DynamicObject>> =
        Api::all_with(client.clone(), &config_maps);
    let whole: Api<DynamicObject> = Api::all_with(client.clone(), &deployments);
    let (first, second) = (watcher(metadata, ours.clone()), watcher(whole, ours));
    watches.spawn(first.for_each(async |event| drop(event)));
    watches.spawn(second.for_each(async |event| drop(event)));

    let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &kind("", "Namespace"));
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    put(&namespaces, namespace, &body).await?;
    let calls = (0..load.count).map(|index| {
        let mut body = load.object(index, "1");
        body["metadata"]["namespace"] = namespace.into();
        body["metadata"]["labels"] = json!({LABEL: namespace});
        let resource = if body["kind"] == "Deployment" {
            &deployments
        } else {
            &config_maps
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        async move { put(&api, &name(index), &body).await }
    });
    futures::stream::iter(calls)
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

async fn put(api: &Api<DynamicObject>, name: &str, body: &Value) -> Result<()> {
    let params = PatchParams::apply(PROGRAM).force();
    let patched = api.patch(name, &params, &Patch::Apply(body)).await;
    patched
        .map(drop)
        .with_context(|| format!("{PROGRAM}: {name}"))
}

fn kind(group: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
}
