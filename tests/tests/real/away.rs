//! Hub away, agent restarted, Git away: what goes on and what comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use muster_tests::wait;
use muster_tests::world::SOON;
use muster_tests::world::wire::Wire;

use super::scenario::{Scenario, config_map, push};

#[tokio::test]
async fn a_hand_edit_is_undone_with_the_hub_away_also_after_the_agents_restart() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
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
    let mut scenario = Scenario::shop().await?;
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
    let mut scenario = Scenario::shop().await?;
    let generation = async |scenario: &Scenario| -> Result<u64> {
        let cluster = scenario.world.ask(&["get", "cluster", "one"]).await?;
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
    let mut scenario = Scenario::shop().await?;
    scenario.world.git.set_down(true);
    wait::until("the error is shown", SOON, async || {
        let fleet = scenario.status().await?;
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

#[tokio::test]
async fn a_store_from_before_the_last_commits_is_shown_and_removes_nothing_without_a_word()
-> Result<()> {
    let mut scenario = Scenario::shop().await?;
    scenario.world.stop_hub().await?;
    let backup = scenario.world.copy_of_hub_data()?;
    scenario.world.start_hub().await?;
    push(
        &scenario.world,
        "Add an object and paint the other red",
        &[
            config_map("shop", "added", "k", "v"),
            config_map("shop", "settings", "colour", "red"),
        ],
    )
    .await?;
    scenario.becomes("added", "k", "v").await?;
    scenario.becomes("settings", "colour", "red").await?;
    scenario.world.synced("shop", 1).await?;

    // The repository went on meanwhile: what the agent holds is in no commit the hub knows of.
    scenario.world.stop_hub().await?;
    scenario.world.restore_hub_data(backup)?;
    scenario
        .world
        .push_removal("Drop the object again", &["shop/added.yaml"])
        .await?;
    push(
        &scenario.world,
        "Paint it green",
        &[config_map("shop", "settings", "colour", "green")],
    )
    .await?;
    scenario.world.start_hub().await?;
    let fleet = scenario.shows("the hub's store is older").await?;
    ensure!(
        format!("{fleet}").contains("`muster approve --cluster one`"),
        "{fleet:#}"
    );
    // Changes go on, removals wait.
    scenario.becomes("settings", "colour", "green").await?;
    wait::until("the removal is seen to wait", SOON, async || {
        let cluster = scenario.world.ask(&["get", "cluster", "one"]).await?;
        let held = cluster["summary"]["removalsHeld"]
            .as_str()
            .unwrap_or_default();
        ensure!(held.contains("store is older"), "{cluster:#}");
        Ok(())
    })
    .await?;
    ensure!(scenario.value("added", "k").await? == "v");

    let answer = scenario
        .world
        .muster(&["approve", "--cluster", "one"])
        .await?;
    ensure!(answer.code == muster_cli::ExitCode::Ok, "{answer:?}");
    scenario.goes("added").await?;
    scenario.shows_no_more("the hub's store is older").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_silent_cluster_is_unknown_since_its_last_sign_of_life_and_never_its_last_green()
-> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let wire = Wire::to(scenario.world.agents_address()?).await?;
    let agent = scenario.world.member("one");
    agent.stop_agent().await?;
    agent.hub = Some(wire.address);
    agent.start_agent()?;
    scenario.world.synced("shop", 1).await?;

    wire.set_silent(true);
    let detail = async || {
        let detail = scenario
            .world
            .muster(&["get", "app", "shop", "-o", "json"])
            .await?;
        detail.json()
    };
    let silent = detail().await?;
    ensure!(silent["placements"][0]["connection"] == "connected");
    let unknown = wait::until("it is unknown", SOON, async || {
        // At every look: what came just before the silence may be noticed only after it began.
        scenario.world.pass(Duration::from_secs(45));
        let detail = detail().await?;
        ensure!(
            detail["placements"][0]["connection"] == "unknown",
            "{detail:#}"
        );
        Ok(detail)
    })
    .await?;
    let summary = &unknown["summary"];
    ensure!(summary["sync"] == "Unknown", "{unknown:#}");
    ensure!(summary["health"] == "Unknown", "{unknown:#}");
    ensure!(summary["clustersUnknown"] == 1, "{unknown:#}");
    ensure!(summary["clustersSynced"].as_u64().unwrap_or(0) == 0);
    let since = &unknown["placements"][0]["knownSinceMs"];
    let cluster = scenario.status().await?["clusters"][0].clone();
    ensure!(cluster["lastSeenMs"] == *since, "{cluster:#}");
    ensure!(cluster["sinceMs"] == *since, "{cluster:#}");
    let shown = scenario.world.muster(&["status", "--check"]).await?;
    ensure!(shown.code == muster_cli::ExitCode::NotInSync, "{shown:?}");
    ensure!(shown.out.contains("unknown"), "{shown:?}");

    // The hub does not see it; its agent goes on all the same, and is back with the network.
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;
    wire.set_silent(false);
    scenario.world.synced("shop", 1).await?;
    Ok(())
}
