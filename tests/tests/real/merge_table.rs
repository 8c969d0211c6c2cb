//! The committed table of how built-in kinds merge is the one that the pinned server publishes.

use anyhow::{Result, ensure};
use muster_tests::cluster::real;
use muster_tests::memory::{distil::distil, kinds::FACTS};

#[tokio::test]
async fn the_committed_table_is_what_the_pinned_server_publishes() -> Result<()> {
    // Its own cluster: other tests publish custom kinds on the shared ones.
    let cluster = real::start("merge-table").await?;
    let fresh = distil(&cluster.client()?).await?;
    let differs = fresh.lines().zip(FACTS.lines()).find(|(a, b)| a != b);
    ensure!(
        fresh == FACTS,
        "first difference (fresh, committed): {differs:?}; \
         write it again: testbed distil > tests/src/memory/facts.txt"
    );
    Ok(())
}
