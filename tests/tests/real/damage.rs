//! A ledger that was damaged by hand, on a real cluster.

use anyhow::Result;
use muster_tests::cluster::real;
use muster_tests::damage::hands_in_the_ledger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_damaged_by_hand_is_whole_again_and_nothing_is_lost() -> Result<()> {
    // A cluster of its own: a rebuild takes everything that an agent applied for its own.
    hands_in_the_ledger(&real::start("damage").await?).await
}
