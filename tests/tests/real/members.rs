//! Clusters that join and are removed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_tests::cluster::real;
use muster_tests::wait;
use muster_tests::world::{Member, SOON};

use super::scenario::{Scenario, config_map, unique};

#[tokio::test]
async fn a_second_cluster_joins_and_gets_what_its_labels_select() -> Result<()> {
    let namespace = unique("scenario");
    let (one, two) = (real::shared("one").await?, real::shared("two").await?);
    let document = format!(
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata:
  name: shop
spec:
  namespace: {namespace}
  targets:
    - name: production
      clusters:
        matchLabels: {{stage: production}}
      path: production
    - name: rest
      path: rest
"
    );
    let files = [
        ("shop/muster.yaml".to_owned(), document),
        config_map("shop/production", "settings", "colour", "gold"),
        config_map("shop/rest", "settings", "colour", "grey"),
    ];
    let files: Vec<_> = files
        .iter()
        .map(|(path, content)| (path.as_str(), content.as_str()))
        .collect();
    let mut world = muster_tests::world::World::start(&files).await?;
    world.join("one", &one, &["stage=test"]).await?;
    world.synced("shop", 1).await?;
    world.join("two", &two, &["stage=production"]).await?;
    world.synced("shop", 2).await?;
    for (cluster, colour) in [(one, "grey"), (two, "gold")] {
        let scenario = kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(
            cluster.client()?,
            &namespace,
        );
        let data = scenario.get("settings").await?.data.unwrap_or_default();
        ensure!(data["colour"] == colour, "{data:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_join_token_lets_one_agent_in_once() -> Result<()> {
    let scenario = Scenario::shop().await?;
    let token = scenario.world.invite("late", &[]).await?;
    let mut first = Member::start("late", scenario.cluster.clone(), &token).await?;
    is_shown_as(&scenario, "connected").await?;
    first.stop_agent().await?;
    is_refused(&scenario, &token, "was used already").await
}

#[tokio::test]
async fn an_expired_join_token_lets_nobody_in_and_says_how_to_get_another() -> Result<()> {
    let scenario = Scenario::shop().await?;
    let token = scenario.world.invite("late", &[]).await?;
    scenario.world.pass(Duration::from_secs(3600));
    is_refused(&scenario, &token, "has expired").await?;
    is_shown_as(&scenario, "never-joined").await
}

/// Waits until `muster` shows the connection of `late` so: what people see follows a moment after what the hub answers.
async fn is_shown_as(scenario: &Scenario, connection: &str) -> Result<()> {
    wait::until(
        &format!("late is shown as {connection}"),
        SOON,
        async || {
            let cluster = scenario.world.ask(&["get", "cluster", "late"]).await?;
            let shown = &cluster["summary"]["connection"];
            ensure!(shown == connection, "{cluster:#}");
            Ok(())
        },
    )
    .await
}

/// An agent that comes with `token` as `late` ends with what a person should do.
async fn is_refused(scenario: &Scenario, token: &str, why: &str) -> Result<()> {
    let mut agent = Member::start("late", scenario.cluster.clone(), token).await?;
    let ended = agent.ended().await;
    let error = format!("{:#}", ended.expect_err("this token lets nobody in"));
    ensure!(
        error.contains(why) && error.contains("muster cluster join late"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_removed_cluster_keeps_its_objects_or_loses_them_as_asked() -> Result<()> {
    let kept = Scenario::shop().await?;
    kept.world
        .muster(&["cluster", "remove", "one", "--keep-objects"])
        .await?;
    wait::until("nobody repairs any more", SOON, async || {
        kept.edit("settings", "colour", "pink").await?;
        wait::until("the edit is undone", Duration::from_secs(2), async || {
            ensure!(kept.value("settings", "colour").await? == "blue");
            Ok(())
        })
        .await
        .err()
        .context("the edit was undone")
    })
    .await?;

    let deleted = Scenario::shop().await?;
    deleted
        .world
        .muster(&["cluster", "remove", "one", "--delete-objects"])
        .await?;
    deleted.goes("settings").await?;
    wait::until("the cluster is removed", SOON, async || {
        let cluster = deleted
            .world
            .muster(&["get", "cluster", "one", "-o", "json"])
            .await?;
        ensure!(
            cluster.code == muster_cli::ExitCode::Failed
                || cluster.json()?["summary"]["connection"] == "removed"
        );
        Ok(())
    })
    .await
}
