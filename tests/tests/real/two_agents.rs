//! Two agents with the credentials of one cluster: the newer runs it, the older writes nothing, and people see it for
//! as long as it is so.

use anyhow::{Result, ensure};
use muster_tests::cluster::real;
use muster_tests::wait;
use muster_tests::world::{Member, SOON};

use super::scenario::{Scenario, config_map, push};

const CLAIMED: &str = "two agents claim one";

/// Both run, the newer one works, and it is shown; then the newer ends, and the older takes over.
async fn newer_works_and_older_takes_over(mut scenario: Scenario, mut copy: Member) -> Result<()> {
    copy.start_agent()?;
    scenario.shows(CLAIMED).await?;
    works(&scenario, "red").await?;
    scenario.shows(CLAIMED).await?;

    // Told again by the agents themselves to a hub that remembers no sessions.
    scenario.world.stop_hub().await?;
    scenario.world.start_hub().await?;
    scenario.shows(CLAIMED).await?;
    works(&scenario, "green").await?;

    copy.stop_agent().await?;
    wait::until("the older one takes over", SOON, async || {
        // A cluster that is silent for long has lost its agent.
        scenario.world.pass(std::time::Duration::from_secs(45));
        let problems = super::scenario::problems(&scenario.status().await?);
        ensure!(
            !problems.iter().any(|problem| problem.contains("agent")),
            "{problems:#?}"
        );
        Ok(())
    })
    .await?;
    works(&scenario, "gold").await?;
    scenario.world.member("one").stop_agent().await
}

/// One agent follows Git, undoes a hand edit, and reports.
async fn works(scenario: &Scenario, colour: &str) -> Result<()> {
    follows(scenario, colour).await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}

/// One agent follows Git and undoes a hand edit.
async fn follows(scenario: &Scenario, colour: &str) -> Result<()> {
    push(
        &scenario.world,
        "Paint it",
        &[config_map("shop", "settings", "colour", colour)],
    )
    .await?;
    scenario.becomes("settings", "colour", colour).await?;
    scenario.edit("settings", "colour", "pink").await?;
    scenario.becomes("settings", "colour", colour).await
}

#[tokio::test]
async fn a_copied_agent_is_shown_and_the_older_takes_over_when_the_newer_ends() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let copy = scenario.world.member("one").copy()?;
    newer_works_and_older_takes_over(scenario, copy).await
}

#[tokio::test]
async fn a_copied_agent_that_keeps_its_own_ledger_is_shown_too_and_does_not_fight() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let mut copy = scenario.world.member("one").copy()?;
    copy.keep_its_own_ledger();
    newer_works_and_older_takes_over(scenario, copy).await
}

#[tokio::test]
async fn credentials_that_were_carried_to_another_cluster_are_refused_and_shown() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let mut copy = scenario.world.member("one").copy()?;
    copy.keep_its_own_ledger();
    copy.cluster = real::shared("two").await?;
    copy.start_agent()?;
    scenario.shows(CLAIMED).await?;
    works(&scenario, "red").await?;
    let elsewhere =
        super::scenario::objects(&copy.cluster, "v1", "ConfigMap", &scenario.namespace)?;
    ensure!(elsewhere.get_opt("settings").await?.is_none());

    // It is over when it is over.
    copy.stop_agent().await?;
    scenario.shows_no_more(CLAIMED).await?;
    works(&scenario, "green").await
}

#[tokio::test]
async fn a_cluster_that_joins_under_a_second_name_stays_with_the_first_and_the_hub_says_why()
-> Result<()> {
    let mut scenario = Scenario::shop().await?;
    let token = scenario.world.invite("other", &[]).await?;
    let mut second = scenario.world.member("one").start_beside(&token)?;
    scenario
        .shows("an agent of other is there and writes nothing: ")
        .await?;
    follows(&scenario, "red").await?;

    second.stop_agent().await?;
    scenario.shows_no_more("an agent of other").await?;
    follows(&scenario, "green").await
}

#[tokio::test]
async fn an_agent_that_is_restarted_is_no_second_one() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    for colour in ["red", "green", "gold"] {
        scenario.world.member("one").stop_agent().await?;
        scenario.world.member("one").start_agent()?;
        works(&scenario, colour).await?;
        let problems = super::scenario::problems(&scenario.status().await?);
        ensure!(problems.is_empty(), "{problems:#?}");
    }
    Ok(())
}
