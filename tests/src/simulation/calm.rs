//! The calm after a history: nothing happens any more, and the cluster becomes what it should be, for a while without
//! the hub.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_agent::engine::Standing;
use muster_hub::view::Connection;
use muster_proto::{HealthStatus, SyncStatus};
use tokio::time::Instant;

use super::cluster::contents;
use super::{World, pass};

/// It must do it in this time; repairs of what is edited again and again wait up to five minutes.
const CALM: Duration = Duration::from_secs(1200);

impl World {
    /// Nothing happens any more; the cluster becomes what it should be. The hub goes away for a while: from the disorder
    /// that there is, or when all is well.
    pub(super) async fn calm(mut self) -> Result<()> {
        self.judge.set_faults(None);
        if self.chance.below(2) == 0 {
            self.log.say("calm");
            self.commit(true);
            self.wire.set_up(true);
            self.comes_true("before the hub goes").await?;
        }
        self.goes_on_alone().await?;
        self.log.say("calm, with the hub back");
        self.commit(true);
        self.wire.set_up(true);
        self.comes_true("in the end").await
    }

    /// The agent starts with the hub away, and repairs what was changed by hand.
    async fn goes_on_alone(&mut self) -> Result<()> {
        if !self.agent_works() {
            self.log.say("calm until the agent works");
            self.commit(true);
            self.wire.set_up(true);
            self.until("the agent works", async |world| {
                world.hub.approve().await?;
                ensure!(world.agent_works(), "it holds nothing");
                Ok(())
            })
            .await?;
        }
        self.log.say("calm, with the hub away");
        self.wire.set_up(false);
        self.restart_agent();
        let what = self.hands.edit(&mut self.chance).await?;
        self.log.say(&format!("by hand: {what}"));
        self.until("invariant 7: without the hub", async |world| {
            let engine = world.agent.engine().context("it does not work yet")?;
            engine.loaded().await.map_err(anyhow::Error::msg)?;
            let held = engine.held().borrow().clone();
            ensure!(held.generation > 0, "it holds nothing");
            let abandoned = world.judge.abandoned();
            let meant = contents(&held);
            world.hands.take_marks_off(&meant, &abandoned).await?;
            world.hands.holds_state(&held, &abandoned).await
        })
        .await
    }

    /// Whether the agent is a member, and has something to repair by.
    fn agent_works(&self) -> bool {
        let engine = self.agent.engine();
        let standing = engine.map(|engine| engine.standing().borrow().clone());
        matches!(standing, Some(Standing::Working(_))) && self.agent.held().generation > 0
    }

    /// Waits until the cluster is as Git means it, and hub and agent say so.
    pub(super) async fn comes_true(&mut self, when: &str) -> Result<()> {
        self.until(when, async |world| {
            // A person gives the word whenever the hub asks for it.
            world.hub.approve().await?;
            let (wanted, abandoned) = (world.tree.wanted(), world.judge.abandoned());
            world.hands.take_marks_off(&wanted, &abandoned).await?;
            world.hands.holds(&wanted, &abandoned).await?;
            world.all_is_well()
        })
        .await
    }

    /// Hub and agent say what is there, and nothing else.
    fn all_is_well(&self) -> Result<()> {
        let view = self.hub.view()?;
        let cluster = view.cluster("one").context("the hub knows no cluster")?;
        let revision = self.tree.revision();
        ensure!(
            view.source.adopted_revision == revision,
            "{:?}",
            view.source
        );
        ensure!(view.waiting.is_empty(), "{:?}", view.waiting);
        ensure!(cluster.connection == Connection::Connected, "{cluster:?}");
        self.is_renewed()?;
        let held = self.agent.held();
        ensure!(
            held.generation == cluster.generation && held.generation == cluster.accepted_generation,
            "the agent holds {}, the hub says {} of {}",
            held.generation,
            cluster.accepted_generation,
            cluster.generation
        );
        let count = self.tree.applications();
        ensure!(
            cluster.placements.len() == count && cluster.rows.applications().len() == count,
            "{cluster:?}"
        );
        for row in cluster.placements() {
            let good = row.status.is_some_and(|status| {
                status.sync == SyncStatus::Synced && status.health == HealthStatus::Current
            });
            ensure!(row.current && good, "invariant 12: {row:?}");
        }
        let rows = self.agent.rows();
        ensure!(
            *rows == *cluster.rows,
            "the agent says {rows:?}, the hub {cluster:?}"
        );
        Ok(())
    }

    async fn until(&mut self, what: &str, look: impl AsyncFn(&Self) -> Result<()>) -> Result<()> {
        let end = Instant::now() + CALM;
        loop {
            self.check().await?;
            if self.wire.is_up() {
                self.help().await?;
            }
            match look(self).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= end => {
                    return Err(error).with_context(|| format!("{what}, after {CALM:?}"));
                }
                Err(_) => pass(Duration::from_secs(5)).await,
            }
        }
    }
}
