//! Commits that should never have been pushed: nothing is lost, the error says where, the rest goes on.

use anyhow::{Result, ensure};
use muster_tests::wait;
use muster_tests::world::SOON;

use super::scenario::{Scenario, application, config_map, problems, push};

/// Two applications with an object each.
async fn scenario() -> Result<Scenario> {
    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
            application("cellar", namespace),
            config_map("cellar", "wine", "year", "1982"),
        ]
    })
    .await?;
    scenario.world.synced("shop", 1).await?;
    scenario.world.synced("cellar", 1).await?;
    Ok(scenario)
}

async fn shown(scenario: &Scenario, revision: &str, part: &str) -> Result<()> {
    wait::until(&format!("{part} is shown"), SOON, async || {
        let fleet = scenario
            .world
            .muster(&["status", "-o", "json"])
            .await?
            .json()?;
        ensure!(fleet["source"]["revision"] == revision, "{fleet:#}");
        ensure!(
            problems(&fleet)
                .iter()
                .any(|problem| problem.contains(part)),
            "{fleet:#}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_broken_manifest_names_its_line_and_leaves_its_application_while_others_move()
-> Result<()> {
    let mut scenario = scenario().await?;
    let broken = (
        "shop/settings.yaml".to_owned(),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [\n".to_owned(),
    );
    let revision = push(
        &scenario.world,
        "Break one application and change the other",
        &[broken, config_map("cellar", "wine", "year", "1990")],
    )
    .await?;
    scenario.becomes("wine", "year", "1990").await?;
    shown(&scenario, &revision, "shop/settings.yaml:").await?;
    ensure!(scenario.value("settings", "colour").await? == "blue");

    // The same after a restart with the broken commit at HEAD: last good is stored.
    scenario.world.stop_hub().await?;
    scenario.world.start_hub().await?;
    shown(&scenario, &revision, "shop/settings.yaml:").await?;
    scenario.world.synced("shop", 1).await?;
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", "blue").await?;

    scenario.world.push_revert().await?;
    scenario.becomes("wine", "year", "1982").await
}

#[tokio::test]
async fn an_object_that_moves_from_one_application_to_a_broken_one_survives() -> Result<()> {
    let scenario = scenario().await?;
    // The ConfigMap `settings` moves from shop to cellar, and cellar does not render.
    std::fs::remove_file(scenario.world.repository.work().join("shop/settings.yaml"))?;
    let revision = push(
        &scenario.world,
        "Move an object to an application that is broken",
        &[
            config_map("shop", "other", "k", "v"),
            config_map("cellar", "settings", "colour", "blue"),
            (
                "cellar/broken.yaml".to_owned(),
                "kind: Nothing\n".to_owned(),
            ),
        ],
    )
    .await?;
    shown(&scenario, &revision, "cellar/broken.yaml:1").await?;
    scenario.becomes("other", "k", "v").await?;
    ensure!(scenario.value("settings", "colour").await? == "blue");

    // Mended: it is handed over, and never was away.
    let uid = scenario.config_maps()?.get("settings").await?.metadata.uid;
    scenario
        .world
        .push_removal("Mend", &["cellar/broken.yaml"])
        .await?;
    scenario.world.synced("cellar", 1).await?;
    scenario.world.synced("shop", 1).await?;
    let moved = scenario.config_maps()?.get("settings").await?.metadata;
    ensure!(moved.uid == uid, "it was deleted and made again");
    let labels = moved.labels.unwrap_or_default();
    ensure!(
        labels.get("muster.dev/application").map(String::as_str) == Some("cellar"),
        "{labels:?}"
    );
    Ok(())
}

#[tokio::test]
async fn two_applications_that_claim_one_object_are_named_and_the_owner_keeps_it() -> Result<()> {
    let scenario = scenario().await?;
    let revision = push(
        &scenario.world,
        "Claim what another application owns",
        &[config_map("cellar", "settings", "colour", "burgundy")],
    )
    .await?;
    shown(&scenario, &revision, "shop/settings.yaml").await?;
    shown(&scenario, &revision, "cellar/settings.yaml").await?;
    ensure!(scenario.value("settings", "colour").await? == "blue");
    ensure!(scenario.value("wine", "year").await? == "1982");
    Ok(())
}
