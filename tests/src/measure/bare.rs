//! What server-side apply itself costs: a loop that applies the same bytes with the same client and concurrency, while
//! the same watches are open, and does nothing else.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, watcher};
use serde_json::json;
use tokio::task::JoinSet;

use super::load::{Load, name};
use super::objects::{kind, put};
use crate::cluster::Cluster;

/// The loop's name at the API server.
pub(super) const PROGRAM: &str = "bare-loop";
/// As many as the agent.
const CONCURRENCY: usize = 16;
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
    let (config_maps, deployments) = (
        kind("", "v1", "ConfigMap"),
        kind("apps", "v1", "Deployment"),
    );
    let ours = watcher::Config::default().labels(LABEL);
    let metadata: Api<PartialObjectMeta<DynamicObject>> =
        Api::all_with(client.clone(), &config_maps);
    let whole: Api<DynamicObject> = Api::all_with(client.clone(), &deployments);
    let (first, second) = (watcher(metadata, ours.clone()), watcher(whole, ours));
    watches.spawn(first.for_each(async |event| drop(event)));
    watches.spawn(second.for_each(async |event| drop(event)));

    let namespaces: Api<DynamicObject> =
        Api::all_with(client.clone(), &kind("", "v1", "Namespace"));
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    put(PROGRAM, &namespaces, namespace, &body).await?;
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
        async move { put(PROGRAM, &api, &name(index), &body).await }
    });
    futures::stream::iter(calls)
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}
