//! The hub's long-running tasks: all of them run, or the hub ends and says which one did not.
//!
//! Stopping has an order: listeners and sessions first, then the tasks that keep what these said.

use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Calls and sessions that have not ended by then are cut.
const PATIENCE: Duration = Duration::from_secs(5);

type Ended = (&'static str, anyhow::Result<()>);

/// The tasks. Dropping them aborts all.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// Ends the listeners and their sessions.
    pub(crate) serving: CancellationToken,
    /// Ends the tasks that own state.
    pub(crate) deciding: CancellationToken,
    listeners: JoinSet<Ended>,
    owners: JoinSet<Ended>,
    helpers: JoinSet<Ended>,
}

impl Tasks {
    /// A listener: ends when `serving` is cancelled.
    pub(crate) fn spawn_serving(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.listeners.spawn(async move { (name, task.await) });
    }

    /// An owner of state: ends when `deciding` is cancelled, after it stored what it must.
    pub(crate) fn spawn_deciding(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.owners.spawn(async move { (name, task.await) });
    }

    /// A task that has nothing to lose: it is cut at the end.
    pub(crate) fn spawn_helper(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.helpers.spawn(async move {
            task.await;
            (name, Ok(()))
        });
    }

    /// Waits for the first task to end.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let ended = tokio::select! {
            biased;
            Some(ended) = self.listeners.join_next() => ended,
            Some(ended) = self.owners.join_next() => ended,
            Some(ended) = self.helpers.join_next() => ended,
            else => return Ok(()),
        };
        let (name, result) = ended.context("a task of the hub panicked")?;
        match result {
            Err(error) => Err(error.context(format!("the task {name:?} failed"))),
            Ok(()) => Err(anyhow!("the task {name:?} ended by itself")),
        }
    }

    /// Ends all in order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.serving.cancel();
        let listeners = all(&mut self.listeners);
        if tokio::time::timeout(PATIENCE, listeners).await.is_err() {
            tracing::warn!("calls that did not end in time are cut");
            self.listeners.shutdown().await;
        }
        self.deciding.cancel();
        all(&mut self.owners).await
    }
}

/// Waits for every task of a set; the first failure is told.
async fn all(tasks: &mut JoinSet<Ended>) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let (name, result) = ended.context("a task of the hub panicked")?;
        first = first.and(result.with_context(|| format!("the task {name:?} failed")));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_is_named_with_its_reason() {
        let mut tasks = Tasks::default();
        tasks.spawn_deciding("fleet", std::future::pending());
        tasks.spawn_serving("api", async { Err(anyhow!("the disk is full")) });
        let error = tasks.ended().await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "the task \"api\" failed: the disk is full"
        );

        let mut tasks = Tasks::default();
        tasks.spawn_helper("webhook", async {});
        let error = tasks.ended().await.unwrap_err();
        assert_eq!(error.to_string(), "the task \"webhook\" ended by itself");
    }

    #[tokio::test]
    async fn owners_of_state_are_stopped_after_the_listeners() {
        let mut tasks = Tasks::default();
        let (serving, deciding) = (tasks.serving.clone(), tasks.deciding.clone());
        tasks.spawn_serving("api", {
            let deciding = deciding.clone();
            async move {
                serving.cancelled().await;
                anyhow::ensure!(!deciding.is_cancelled(), "the state is gone already");
                Ok(())
            }
        });
        tasks.spawn_deciding("fleet", async move {
            deciding.cancelled().await;
            Ok(())
        });
        tasks.stop().await.unwrap();
    }
}
