//! Removals that wait for a person's word, from the commit to the object that goes.

use anyhow::{Result, ensure};
use muster_cli::ExitCode;
use muster_tests::wait;
use muster_tests::world::SOON;
use serde_json::Value;

use super::scenario::{Scenario, application, config_map};

impl Scenario {
    /// Waits until something waits for approval; returns it.
    async fn waits(&self) -> Result<Value> {
        wait::until("something waits for approval", SOON, async || {
            let fleet = self.status().await?;
            let [waiting] = &fleet["waiting"].as_array().cloned().unwrap_or_default()[..] else {
                anyhow::bail!("{fleet:#}");
            };
            Ok(waiting.clone())
        })
        .await
    }

    async fn approve(&self, arguments: &[&str]) -> Result<String> {
        let arguments = [&["approve"], arguments].concat();
        let answer = self.world.muster(&arguments).await?;
        ensure!(answer.code == ExitCode::Ok, "{answer:?}");
        Ok(answer.out)
    }
}

#[tokio::test]
async fn an_application_that_shrinks_past_its_budget_loses_nothing_before_a_word() -> Result<()> {
    let names: Vec<String> = (0..12).map(|n| format!("item-{n}")).collect();
    let scenario = Scenario::start(|namespace| {
        let items = names.iter().map(|name| config_map("shop", name, "k", "v"));
        std::iter::once(application("shop", namespace))
            .chain(items)
            .collect()
    })
    .await?;
    scenario.world.synced("shop", 1).await?;
    let paths: Vec<String> = names[1..]
        .iter()
        .map(|name| format!("shop/{name}.yaml"))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    scenario
        .world
        .push_removal("Remove nearly everything", &paths)
        .await?;

    let waiting = scenario.waits().await?;
    ensure!(
        waiting["what"] == "prune" && waiting["application"] == "shop",
        "{waiting:#}"
    );
    let message = waiting["message"].as_str().unwrap_or_default();
    ensure!(
        message.starts_with("11 objects") && message.contains("`muster approve shop`"),
        "{message}"
    );
    ensure!(scenario.value("item-5", "k").await? == "v");

    let said = scenario.approve(&["shop"]).await?;
    ensure!(
        said == "what left shop may be removed from 1 cluster.\n",
        "{said}"
    );
    for name in &names[1..] {
        scenario.goes(name).await?;
    }
    ensure!(scenario.value("item-0", "k").await? == "v");
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn an_emptied_repository_is_pruned_after_a_word_for_that_commit() -> Result<()> {
    let scenario = Scenario::shop_and_cellar().await?;
    let paths = [
        "shop/muster.yaml",
        "shop/settings.yaml",
        "cellar/muster.yaml",
        "cellar/wine.yaml",
    ];
    let revision = scenario.world.push_removal("Remove all", &paths).await?;
    let waiting = scenario.waits().await?;
    ensure!(waiting["what"] == "emptied", "{waiting:#}");
    ensure!(scenario.value("settings", "colour").await? == "blue");
    scenario.approve(&["--emptied", &revision]).await?;
    scenario.goes("settings").await?;
    scenario.goes("wine").await
}
