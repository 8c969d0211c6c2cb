//! A ledger that was damaged by hand, on a cluster in memory.

use anyhow::Result;
use muster_tests::cluster::memory;
use muster_tests::damage::hands_in_the_ledger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_damaged_by_hand_is_whole_again_and_nothing_is_lost() -> Result<()> {
    hands_in_the_ledger(&memory::start("damage").await?).await
}
