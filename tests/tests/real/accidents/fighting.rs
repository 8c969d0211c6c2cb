//! Something that writes the same field again and again.

use anyhow::{Context as _, Result, ensure};
use kube::api::Patch;
use muster_proto::SyncStatus;
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, config, manager};

/// argoproj/argo-cd#20172: self-heal and a controller that wrote the same field kept each other busy, hundreds of times a minute, and nobody
/// was told who the other was. The first corrections are immediate; then they wait 2 s, twice as long each time up to
/// 5 minutes, and the row says who it is.
#[tokio::test]
async fn self_heal_and_a_controller_kept_each_other_busy_for_ever() -> Result<()> {
    let bed = bed("accident-fight").await?;
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[config("a", "git")])?],
    )
    .await?;
    bed.synced("shop").await?;
    // The other one writes whenever it finds Git's value.
    let mut written = 0;
    wait::until("we hold back and say why", PATIENCE, async || {
        if bed.value("a").await? == "git" {
            let write = json!({"data": {"value": format!("theirs {written}")}});
            bed.maps()
                .patch("a", &manager("busy-controller"), &Patch::Merge(&write))
                .await?;
            written += 1;
        }
        let rows = bed.engine.rows().borrow().clone();
        let row = rows.objects().values().next().context("no row")?.clone();
        ensure!(
            row.sync == SyncStatus::Drifted && row.message.contains("again and again"),
            "{row:?}"
        );
        assert!(
            row.message
                .contains("busy-controller changes .data.value again and again"),
            "{}",
            row.message
        );
        Ok(())
    })
    .await?;
    ensure!(
        (4..=6).contains(&written),
        "{written} corrections until it held back"
    );
    // And it is still corrected, in its time.
    bed.holds("a", "git").await
}
