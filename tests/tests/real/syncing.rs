//! From a commit to the cluster: sync, change, prune, revert, drift, health.

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use muster_tests::wait;
use muster_tests::world::SOON;
use serde_json::json;

use super::scenario::{Scenario, application, config_map, objects, push};

#[tokio::test]
async fn a_commit_reaches_the_cluster_and_a_change_and_a_revert_follow() -> Result<()> {
    let scenario = Scenario::shop().await?;

    push(
        &scenario.world,
        "Paint it red",
        &[config_map("shop", "settings", "colour", "red")],
    )
    .await?;
    scenario.becomes("settings", "colour", "red").await?;

    scenario.world.push_revert().await?;
    scenario.becomes("settings", "colour", "blue").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn what_leaves_git_leaves_the_cluster_and_nothing_else_does() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "stays", "k", "v"),
            config_map("shop", "goes", "k", "v"),
            application("cellar", namespace),
            config_map("cellar", "wine", "k", "v"),
        ]
    })
    .await?;
    scenario.becomes("goes", "k", "v").await?;
    scenario.becomes("wine", "k", "v").await?;
    scenario.world.synced("shop", 1).await?;

    scenario
        .world
        .push_removal("Drop one object", &["shop/goes.yaml"])
        .await?;
    scenario.goes("goes").await?;
    ensure!(scenario.value("stays", "k").await? == "v");

    scenario
        .world
        .push_removal("Drop an application", &["cellar"])
        .await?;
    scenario.goes("wine").await?;
    ensure!(scenario.value("stays", "k").await? == "v");
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_hand_edit_and_a_deletion_are_undone_and_remembered() -> Result<()> {
    let scenario = Scenario::shop().await?;

    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;
    wait::until("the edit is remembered", SOON, async || {
        let drift = scenario.world.ask(&["drift"]).await?;
        let row = &drift["rows"][0]["object"]["lastDrift"];
        ensure!(
            row["manager"] == "kubectl-edit" && row["fields"] == json!([".data.colour"]),
            "{drift:#}"
        );
        ensure!(row["repairedAtMs"] != 0, "{drift:#}");
        Ok(())
    })
    .await?;

    scenario
        .config_maps()?
        .delete("settings", &DeleteParams::default())
        .await?;
    scenario.becomes("settings", "colour", "blue").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_in_progress_until_its_pods_run() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        let deployment = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
        - name: web
          image: registry.invalid/web:1
";
        vec![
            application("shop", namespace),
            ("shop/web.yaml".into(), deployment.into()),
        ]
    })
    .await?;
    scenario.cluster.run_workloads().await?;
    scenario.world.synced("shop", 1).await?;

    // A template that no node can take: applied, and not healthy.
    let web = objects(
        &scenario.cluster,
        "apps/v1",
        "Deployment",
        &scenario.namespace,
    )?;
    ensure!(web.get("web").await?.data["status"]["readyReplicas"] == 2);
    let file = scenario.world.repository.work().join("shop/web.yaml");
    let stuck = std::fs::read_to_string(&file)?.replace(
        "    spec:\n",
        "    spec:\n      nodeSelector: {nowhere: \"yes\"}\n",
    );
    scenario
        .world
        .push(
            "Ask for a node that is not there",
            &[("shop/web.yaml", &stuck)],
        )
        .await?;
    wait::until("the rollout is seen to hang", SOON, async || {
        let detail = scenario.world.ask(&["get", "app", "shop"]).await?;
        let status = &detail["placements"][0]["status"];
        ensure!(
            status["sync"] == "Synced" && status["health"] == "InProgress",
            "{detail:#}"
        );
        Ok(())
    })
    .await?;

    scenario.world.push_revert().await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn fields_that_git_does_not_state_are_left_to_others() -> Result<()> {
    let scenario = Scenario::shop().await?;
    let controller = PatchParams::apply("some-controller");
    let added = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"size": "9"}});
    scenario
        .config_maps()?
        .patch("settings", &controller, &Patch::Apply(added))
        .await?;

    push(
        &scenario.world,
        "Paint it red",
        &[config_map("shop", "settings", "colour", "red")],
    )
    .await?;
    scenario.becomes("settings", "colour", "red").await?;
    ensure!(scenario.value("settings", "size").await? == "9");
    Ok(())
}

#[tokio::test]
async fn custom_resources_wait_for_their_definition_and_go_before_it() -> Result<()> {
    let group = |namespace: &str| format!("{namespace}.example.invalid");
    let scenario = Scenario::start(|namespace| {
        let definition = format!(
            "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: barrels.{0}
spec:
  group: {0}
  scope: Namespaced
  names: {{kind: Barrel, listKind: BarrelList, plural: barrels, singular: barrel}}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {{type: object, properties: {{litres: {{type: integer}}}}}}
",
            group(namespace)
        );
        let barrel = format!(
            "apiVersion: {}/v1\nkind: Barrel\nmetadata:\n  name: oak\nspec:\n  litres: 225\n",
            group(namespace)
        );
        vec![
            application("cellar", namespace),
            // Named so that the files' order is no help.
            ("cellar/a-barrel.yaml".into(), barrel),
            ("cellar/b-definition.yaml".into(), definition),
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
        ]
    })
    .await?;
    scenario.world.synced("cellar", 1).await?;
    let group = group(&scenario.namespace);
    let barrels = objects(
        &scenario.cluster,
        &format!("{group}/v1"),
        "Barrel",
        &scenario.namespace,
    )?;
    ensure!(barrels.get("oak").await?.data["spec"]["litres"] == 225);
    let definitions: Api<CustomResourceDefinition> = Api::all(scenario.cluster.client()?);
    let definition = format!("barrels.{group}");

    // A finalizer holds the barrel: if the definition went first, both would hang in deletion.
    let held = json!({"metadata": {"finalizers": ["example.invalid/hold"]}});
    barrels
        .patch("oak", &PatchParams::default(), &Patch::Merge(held))
        .await?;
    scenario
        .world
        .push_removal("Drop the cellar", &["cellar"])
        .await?;
    wait::until("the barrel is being deleted", SOON, async || {
        let metadata = barrels.get("oak").await?.metadata;
        ensure!(metadata.deletion_timestamp.is_some());
        Ok(())
    })
    .await?;
    let waits = definitions.get(&definition).await?;
    ensure!(waits.metadata.deletion_timestamp.is_none());
    let released = json!({"metadata": {"finalizers": null}});
    barrels
        .patch("oak", &PatchParams::default(), &Patch::Merge(released))
        .await?;
    wait::until("the definition is gone", SOON, async || {
        let gone = definitions.get_opt(&definition).await?;
        ensure!(gone.is_none(), "{gone:#?}");
        Ok(())
    })
    .await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}
