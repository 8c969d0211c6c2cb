//! An agent that is killed at any write, on a cluster in memory.

use anyhow::Result;
use muster_tests::cluster::memory;
use muster_tests::crash::kill_at_every_write;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_at_any_write_leaves_nothing_behind_and_takes_nothing_away() -> Result<()> {
    kill_at_every_write(&memory::start("one").await?).await
}
