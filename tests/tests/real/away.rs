//! Hub away, agent restarted, Git away: what goes on and what comes back.

use anyhow::{Result, ensure};
use muster_tests::wait;
use muster_tests::world::SOON;

use super::scenario::{Scenario, application, config_map, push};

async fn scenario() -> Result<Scenario> {
    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
        ]
    })
    .await?;
    scenario.becomes("settings", "colour", "blue").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(scenario)
}

#[tokio::test]
async fn a_hand_edit_is_undone_with_the_hub_away_also_after_the_agents_restart() -> Result<()> {
    let mut scenario = scenario().await?;
    scenario.world.stop_hub().await?;
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;

    scenario.world.member("one").stop_agent().await?;
    scenario.edit("settings", "colour", "green").await?;
    scenario.world.member("one").start_agent()?;
    scenario.becomes("settings", "colour", "blue").await?;

    // The hub comes back and hears of it.
    scenario.world.start_hub().await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_pushed_while_hub_or_agent_were_away_arrives_when_they_are_back() -> Result<()> {
    let mut scenario = scenario().await?;
    scenario.world.stop_hub().await?;
    push(
        &scenario.world,
        "Paint it red",
        &[config_map("shop", "settings", "colour", "red")],
    )
    .await?;
    scenario.world.start_hub().await?;
    scenario.becomes("settings", "colour", "red").await?;

    scenario.world.member("one").stop_agent().await?;
    push(
        &scenario.world,
        "Paint it green",
        &[config_map("shop", "settings", "colour", "green")],
    )
    .await?;
    scenario.world.member("one").start_agent()?;
    scenario.becomes("settings", "colour", "green").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_hub_restart_moves_no_generation() -> Result<()> {
    let mut scenario = scenario().await?;
    let generation = async |scenario: &Scenario| -> Result<u64> {
        let cluster = scenario
            .world
            .muster(&["get", "cluster", "one", "-o", "json"])
            .await?
            .json()?;
        Ok(cluster["summary"]["generation"]
            .as_u64()
            .unwrap_or_default())
    };
    let before = generation(&scenario).await?;
    ensure!(before > 0);
    scenario.world.stop_hub().await?;
    scenario.world.start_hub().await?;
    scenario.world.synced("shop", 1).await?;
    ensure!(generation(&scenario).await? == before);
    Ok(())
}

#[tokio::test]
async fn an_unreachable_repository_is_shown_and_nothing_changes_also_after_a_restart() -> Result<()>
{
    let mut scenario = scenario().await?;
    scenario.world.git.set_down(true);
    wait::until("the error is shown", SOON, async || {
        let fleet = scenario
            .world
            .muster(&["status", "-o", "json"])
            .await?
            .json()?;
        ensure!(
            !fleet["source"]["error"]
                .as_str()
                .unwrap_or_default()
                .is_empty(),
            "{fleet:#}"
        );
        Ok(())
    })
    .await?;
    scenario.world.stop_hub().await?;
    scenario.world.start_hub().await?;
    scenario.world.synced("shop", 1).await?;
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;

    scenario.world.git.set_down(false);
    push(
        &scenario.world,
        "Paint it red",
        &[config_map("shop", "settings", "colour", "red")],
    )
    .await?;
    scenario.becomes("settings", "colour", "red").await
}
