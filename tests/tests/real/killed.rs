//! Hub and agent are processes here, and end by SIGKILL, as on a machine that dies: what comes back goes on from what
//! was written, and nothing is lost or left behind.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use muster_tests::cluster::{Cluster, real};
use muster_tests::programs::{Fleet, Programs};
use muster_tests::supervisor::Signal;
use muster_tests::wait;
use muster_tests::world::SOON;

use super::scenario::{application, config_map, unique};

/// A fleet of processes with one real cluster, and what this scenario calls its own in it.
struct Killed {
    fleet: Fleet,
    cluster: Cluster,
    /// Of the application.
    namespace: String,
    /// Of the agent's own Secrets.
    own: String,
}

impl Killed {
    /// The application `shop` holds `c0`, `c1` and so on, and `street` a `sign`; synced.
    async fn start(objects: usize) -> Result<Self> {
        let cluster = real::shared("one").await?;
        let (namespace, own) = (unique("killed"), unique("muster"));
        let mut files = vec![
            application("shop", &namespace),
            application("street", &namespace),
            config_map("street", "sign", "colour", "red"),
        ];
        files.extend((0..objects).map(|n| object(n, "blue")));
        let mut fleet = Fleet::start(Programs::of_the_testbed()?, &as_text(&files)).await?;
        fleet.join("one", &cluster, &own).await?;
        fleet.is_well().await?;
        Ok(Self {
            fleet,
            cluster,
            namespace,
            own,
        })
    }

    fn config_maps(&self) -> Result<Api<ConfigMap>> {
        Ok(Api::namespaced(self.cluster.client()?, &self.namespace))
    }

    async fn colour(&self, name: &str) -> Result<Option<String>> {
        let found = self.config_maps()?.get_opt(name).await?;
        Ok(found.and_then(|live| live.data?.remove("colour")))
    }

    async fn becomes(&self, name: &str, colour: &str) -> Result<()> {
        wait::until(&format!("{name} is {colour}"), SOON, async || {
            let found = self.colour(name).await?;
            ensure!(found.as_deref() == Some(colour), "it is {found:?}");
            Ok(())
        })
        .await
    }

    async fn edit(&self, name: &str, colour: &str) -> Result<()> {
        let patch = serde_json::json!({"data": {"colour": colour}});
        let patch = kube::api::Patch::Merge(patch);
        let by = kube::api::PatchParams::default();
        self.config_maps()?.patch(name, &by, &patch).await?;
        Ok(())
    }

    /// Names of what Muster put into the namespace.
    async fn there(&self) -> Result<BTreeSet<String>> {
        let ours = ListParams::default().labels("muster.dev/application");
        let list = self.config_maps()?.list(&ours).await?;
        Ok(list
            .into_iter()
            .filter_map(|live| live.metadata.name)
            .collect())
    }

    fn kill_agent(&self) -> Result<()> {
        self.fleet.agent("one").signal(Signal::Kill)
    }

    fn kill_hub(&self) -> Result<()> {
        self.fleet.hub().signal(Signal::Kill)
    }

    fn start_agent(&mut self) -> Result<()> {
        self.fleet.start_agent("one", &self.cluster, &self.own)
    }

    async fn generation(&self) -> Result<i64> {
        let detail = self.fleet.ask(&["get", "cluster", "one"]).await?;
        let generation = &detail["summary"]["generation"];
        let generation = generation
            .as_i64()
            .or_else(|| generation.as_str()?.parse().ok());
        generation.ok_or_else(|| anyhow::anyhow!("no generation: {detail:#}"))
    }
}

fn object(n: usize, colour: &str) -> (String, String) {
    config_map("shop", &format!("c{n}"), "colour", colour)
}

fn as_text(files: &[(String, String)]) -> Vec<(&str, &str)> {
    files
        .iter()
        .map(|(path, content)| (path.as_str(), content.as_str()))
        .collect()
}

#[tokio::test]
async fn an_agent_that_was_killed_goes_on_with_what_happened_meanwhile() -> Result<()> {
    let mut scene = Killed::start(3).await?;
    scene.kill_agent()?;
    scene.edit("c0", "pink").await?;
    let files = [object(1, "gold")];
    scene.fleet.repository.commit("Paint", &as_text(&files))?;
    scene
        .fleet
        .repository
        .remove("Clear out", &["shop/c2.yaml"])?;
    scene.start_agent()?;
    scene.becomes("c0", "blue").await?;
    scene.becomes("c1", "gold").await?;
    scene.fleet.is_well().await?;
    ensure!(scene.there().await? == ["c0", "c1", "sign"].map(String::from).into());
    Ok(())
}

#[tokio::test]
async fn with_the_hub_killed_the_cluster_is_kept_and_its_return_brings_the_next_commit()
-> Result<()> {
    let mut scene = Killed::start(2).await?;
    let before = scene.generation().await?;
    scene.kill_hub()?;
    scene.edit("c0", "pink").await?;
    scene.becomes("c0", "blue").await?;

    // The agent dies too, and comes back to a hub that is still away.
    scene.kill_agent()?;
    scene.edit("c1", "pink").await?;
    scene.start_agent()?;
    scene.becomes("c1", "blue").await?;

    let files = [object(1, "gold")];
    scene.fleet.repository.commit("Paint", &as_text(&files))?;
    scene.fleet.start_hub().await?;
    scene.becomes("c1", "gold").await?;
    scene.fleet.is_well().await?;
    let after = scene.generation().await?;
    ensure!(after > before, "generation {after} after {before}");
    Ok(())
}

#[tokio::test]
async fn both_killed_in_the_middle_of_an_apply_leave_nothing_behind() -> Result<()> {
    const MANY: usize = 300;
    let mut scene = Killed::start(1).await?;
    let files: Vec<_> = (1..MANY).map(|n| object(n, "blue")).collect();
    scene
        .fleet
        .repository
        .commit("Much more", &as_text(&files))?;
    wait::until("some are there", SOON, async || {
        ensure!(scene.there().await?.len() > 3);
        Ok(())
    })
    .await?;
    scene.kill_agent()?;
    scene.kill_hub()?;
    let left = scene.there().await?.len();
    ensure!(left < MANY, "it was not in the middle any more");

    scene.fleet.start_hub().await?;
    scene.start_agent()?;
    scene.fleet.is_well().await?;
    ensure!(scene.there().await?.len() == MANY + 1);

    // All that was ever made is known: it goes when Git says so.
    scene.fleet.repository.remove("Close the shop", &["shop"])?;
    wait::until("the shop is empty", SOON, async || {
        let there = scene.there().await?;
        ensure!(there == ["sign".to_owned()].into(), "{there:?}");
        Ok(())
    })
    .await?;
    scene.fleet.is_well().await
}
