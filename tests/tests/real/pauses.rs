//! A person on call stops a one-second repair, looks, and lets it go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Result, ensure};
use muster_agent::clock::Clock;
use muster_cli::ExitCode;
use muster_proto::Timestamp;
use muster_tests::wait;
use muster_tests::world::SOON;
use serde_json::Value;

use super::scenario::{Scenario, config_map, push};

/// Runs `muster ARGUMENTS`, which must go well.
async fn tell(scenario: &Scenario, arguments: &[&str]) -> Result<String> {
    let answer = scenario.world.muster(arguments).await?;
    ensure!(answer.code == ExitCode::Ok, "{answer:?}");
    Ok(answer.out)
}

/// Waits until `shop` is drifted and its message says that it is left so because of a pause.
async fn left_alone(scenario: &Scenario) -> Result<Value> {
    wait::until("the drift is shown and left", SOON, async || {
        let detail = scenario.world.ask(&["get", "app", "shop"]).await?;
        let status = &detail["placements"][0]["status"];
        let message = status["message"].as_str().unwrap_or_default();
        ensure!(
            status["sync"] == "Drifted" && message.contains("not repaired: paused until"),
            "{detail:#}"
        );
        Ok(detail)
    })
    .await
}

#[tokio::test]
async fn while_paused_a_hand_edit_stays_and_is_shown_and_a_resume_repairs_it() -> Result<()> {
    let scenario = Scenario::shop_and_cellar().await?;
    let said = tell(&scenario, &["pause", "shop", "--reason", "looking"]).await?;
    ensure!(said.starts_with("shop is paused until "), "{said}");
    ensure!(!said.contains("Not yet"), "{said}");
    scenario.edit("settings", "colour", "pink").await?;
    let detail = left_alone(&scenario).await?;
    ensure!(detail["pauses"][0]["by"] == "admin", "{detail:#}");
    ensure!(detail["pauses"][0]["reason"] == "looking", "{detail:#}");
    // Others go on.
    scenario.edit("wine", "year", "2026").await?;
    scenario.becomes("wine", "year", "1982").await?;
    ensure!(scenario.value("settings", "colour").await? == "pink");
    let drift = tell(&scenario, &["drift", "--app", "shop"]).await?;
    ensure!(
        drift.contains("kubectl-edit") && drift.contains(".data.colour"),
        "{drift}"
    );
    let status = tell(&scenario, &["status"]).await?;
    ensure!(
        status.contains("PAUSED") && status.contains("looking"),
        "{status}"
    );

    // A commit waits, and is seen to wait.
    push(
        &scenario.world,
        "Paint it red",
        &[config_map("shop", "settings", "colour", "red")],
    )
    .await?;
    wait::until("the commit is seen to wait", SOON, async || {
        let detail = scenario.world.ask(&["get", "app", "shop"]).await?;
        let row = &detail["placements"][0];
        let message = row["status"]["message"].as_str().unwrap_or_default();
        ensure!(
            row["current"] == true
                && row["status"]["sync"] == "Progressing"
                && message.contains("what Git states waits"),
            "{detail:#}"
        );
        Ok(())
    })
    .await?;
    ensure!(scenario.value("settings", "colour").await? == "pink");

    tell(&scenario, &["resume", "shop", "--cluster", "one"]).await?;
    scenario.becomes("settings", "colour", "red").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_pause_outlives_the_hub_and_the_agents_restart_and_ends_by_itself() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let ahead = Arc::new(AtomicI64::new(0));
    let (real, later) = (Clock::system(), ahead.clone());
    let clock = Clock::new(move || Timestamp(real.now().0 + later.load(Ordering::SeqCst)));
    let agent = scenario.world.member("one");
    agent.stop_agent().await?;
    agent.clock = clock;
    agent.start_agent()?;
    wait::until("the agent is back and holds the pause", SOON, async || {
        let said = tell(&scenario, &["pause", "shop", "--for", "2h"]).await?;
        ensure!(!said.contains("Not yet"), "{said}");
        Ok(())
    })
    .await?;
    scenario.edit("settings", "colour", "pink").await?;
    left_alone(&scenario).await?;

    scenario.world.stop_hub().await?;
    scenario.world.member("one").stop_agent().await?;
    scenario.world.member("one").start_agent()?;
    scenario.world.start_hub().await?;
    left_alone(&scenario).await?;
    ensure!(scenario.value("settings", "colour").await? == "pink");

    // The hub is away again, and the time is over by the agent's clock.
    scenario.world.stop_hub().await?;
    ahead.store(2 * 3_600_000, Ordering::SeqCst);
    scenario.becomes("settings", "colour", "blue").await
}
