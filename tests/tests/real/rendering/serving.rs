//! Charts that ask what their cluster serves, on two clusters of which one learns a new kind.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use muster_tests::cluster::{Cluster, real};
use muster_tests::wait;
use muster_tests::world::{SOON, World};
use serde_json::json;

use crate::real::scenario::unique;

/// A chart whose ConfigMap says what it sees of `group`.
fn chart(namespace: &str, group: &str) -> Vec<(&'static str, String)> {
    let document = format!(
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {{name: shop}}
spec:
  namespace: {namespace}
  helm:
    apiVersions: [{group}/v1, {group}/v1/Thing, apps/v1/Deployment]
"
    );
    let template = format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data:
  version: '{{{{ .Capabilities.APIVersions.Has \"{group}/v1\" }}}}'
  thing: '{{{{ .Capabilities.APIVersions.Has \"{group}/v1/Thing\" }}}}'
  deployment: '{{{{ .Capabilities.APIVersions.Has \"apps/v1/Deployment\" }}}}'
"
    );
    vec![
        ("shop/muster.yaml", document),
        (
            "shop/Chart.yaml",
            "apiVersion: v2\nname: shop\nversion: 1.0.0\n".into(),
        ),
        ("shop/templates/settings.yaml", template),
    ]
}

fn definition(group: &str) -> Result<CustomResourceDefinition> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}))?)
}

/// Waits until the chart on a cluster has seen this.
async fn sees(cluster: &Cluster, namespace: &str, expected: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client()?, namespace);
    wait::until(&format!("the chart sees {expected}"), SOON, async || {
        let data = maps.get("settings").await?.data.context("it is empty")?;
        let seen = ["version", "thing", "deployment"].map(|key| data[key].as_str());
        ensure!(seen.join(" ") == expected, "{data:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_chart_follows_a_definition_that_comes_to_one_cluster_and_goes() -> Result<()> {
    let (namespace, group) = (
        unique("scenario"),
        format!("{}.example.com", unique("served")),
    );
    let files = chart(&namespace, &group);
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (*path, text.as_str()))
        .collect();
    let mut world = World::rendering(&files).await?;
    let (one, two) = (real::shared("one").await?, real::shared("two").await?);
    world.join("one", &one, &[]).await?;
    world.join("two", &two, &[]).await?;
    for cluster in [&one, &two] {
        sees(cluster, &namespace, "false false true").await?;
    }

    let definitions: Api<CustomResourceDefinition> = Api::all(two.client()?);
    definitions
        .create(&PostParams::default(), &definition(&group)?)
        .await?;
    sees(&two, &namespace, "true true true").await?;
    sees(&one, &namespace, "false false true").await?;

    // A restarted hub knows it, and so does one whose agent is away.
    world.member("two").stop_agent().await?;
    world.stop_hub().await?;
    world.start_hub().await?;
    world
        .push("More", &[("shop/values.yaml", "a: b\n")])
        .await?;
    world.member("two").start_agent()?;
    world.synced("shop", 2).await?;
    sees(&two, &namespace, "true true true").await?;

    definitions
        .delete(&format!("things.{group}"), &DeleteParams::default())
        .await?;
    sees(&two, &namespace, "false false true").await
}
