//! Commits that should never have been pushed: nothing is lost, the error says where, the rest goes on.

use super::scenario::{Scenario, application, config_map, push};
use anyhow::{Context as _, Result, ensure};

/// Waits until the problem is shown, of this very commit.
async fn shown(scenario: &Scenario, revision: &str, part: &str) -> Result<()> {
    scenario.world.seen(revision).await?;
    let fleet = scenario.shows(part).await?;
    ensure!(fleet["source"]["revision"] == revision, "{fleet:#}");
    Ok(())
}

#[tokio::test]
async fn a_broken_manifest_names_its_line_and_leaves_its_application_while_others_move()
-> Result<()> {
    let mut scenario = Scenario::shop_and_cellar().await?;
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
    let scenario = Scenario::shop_and_cellar().await?;
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
    let scenario = Scenario::shop_and_cellar().await?;
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

#[tokio::test]
async fn an_unknown_field_is_named_with_the_nearest_known_one_and_the_rest_goes_on() -> Result<()> {
    let scenario = Scenario::shop_and_cellar().await?;
    let (path, document) = application("shop", &scenario.namespace);
    let typo = document.replace("namespace:", "namespce:");
    let revision = push(
        &scenario.world,
        "Misspell a field",
        &[
            (path, typo),
            config_map("shop", "settings", "colour", "red"),
            config_map("cellar", "wine", "year", "1990"),
        ],
    )
    .await?;
    let problem =
        "shop/muster.yaml:6 spec: unknown field \"namespce\": did you mean \"namespace\"?";
    shown(&scenario, &revision, problem).await?;
    scenario.becomes("wine", "year", "1990").await?;
    ensure!(scenario.value("settings", "colour").await? == "blue");

    scenario.world.push_revert().await?;
    scenario.becomes("wine", "year", "1982").await?;
    scenario.shows_no_more("namespce").await
}

#[tokio::test]
async fn an_emptied_repository_prunes_nothing_also_after_a_hub_restart() -> Result<()> {
    let mut scenario = Scenario::shop_and_cellar().await?;
    let revision = scenario
        .world
        .push_removal("Drop everything", &["shop", "cellar"])
        .await?;
    let refusal = format!("commit {revision} holds no Application at all, where there were 2");
    for hub in ["the one that saw the commit come", "one that starts on it"] {
        scenario
            .shows(&refusal)
            .await
            .with_context(|| format!("hub: {hub}"))?;
        scenario.world.synced("shop", 1).await?;
        scenario.world.synced("cellar", 1).await?;
        scenario.edit("settings", "colour", "pink").await?;
        scenario.becomes("settings", "colour", "blue").await?;
        ensure!(scenario.value("wine", "year").await? == "1982");
        scenario.world.stop_hub().await?;
        scenario.world.start_hub().await?;
    }

    push(
        &scenario.world,
        "Bring one back",
        &[
            application("shop", &scenario.namespace),
            config_map("shop", "settings", "colour", "red"),
        ],
    )
    .await?;
    scenario.becomes("settings", "colour", "red").await?;
    // This commit does hold an application, so what is missing is meant to go.
    scenario.goes("wine").await?;
    scenario.shows_no_more("no Application at all").await
}
