//! An application that only detects: differences are reported, nothing is changed.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use muster_proto::{Settings, SyncStatus};
use serde_json::json;

use super::super::bed::{application, bed, config, kubectl_apply};

#[tokio::test]
async fn an_application_that_only_detects_says_what_it_would_change_and_changes_nothing()
-> Result<()> {
    let bed = bed("detect").await?;
    let settings = || Settings {
        detect_only: true,
        ..bed.settings()
    };
    for (name, value) in [("same", "git"), ("other", "theirs")] {
        let mut object = config(name, value);
        object["metadata"]["namespace"] = json!(bed.namespace);
        kubectl_apply(&bed.maps(), &object).await?;
    }
    let objects = [
        config("same", "git"),
        config("other", "git"),
        config("absent", "git"),
    ];
    bed.accept(1, vec![application("shop", settings(), &objects)?])
        .await?;
    let row = bed
        .object("other", |row| row.sync == SyncStatus::Drifted)
        .await?;
    assert!(
        row.message.contains(".data.value would change"),
        "{}",
        row.message
    );
    let row = bed
        .object("absent", |row| row.sync == SyncStatus::Drifted)
        .await?;
    assert!(
        row.message.contains("it would be created"),
        "{}",
        row.message
    );
    bed.row("shop", |row| {
        row.synced == 1 && row.sync == SyncStatus::Drifted
    })
    .await?;
    ensure!(bed.maps().get_opt("absent").await?.is_none());
    let other = bed.maps().get("other").await?;
    assert_eq!(other.data.unwrap_or_default()["value"], "theirs");
    ensure!(
        !other
            .metadata
            .labels
            .unwrap_or_default()
            .contains_key("muster.dev/application")
    );

    // What was applied before is left alone too, when it drifts and when it leaves Git.
    bed.accept(2, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    bed.accept(3, vec![application("shop", settings(), &objects[1..])?])
        .await?;
    let row = bed
        .object("same", |row| row.sync == SyncStatus::Kept)
        .await?;
    assert!(row.message.contains("only detects"), "{}", row.message);
    bed.edit("other", "by hand").await?;
    let row = bed
        .object("other", |row| row.sync == SyncStatus::Drifted)
        .await?;
    assert!(
        row.message.contains(".data.value would change"),
        "{}",
        row.message
    );
    assert_eq!(bed.value("other").await?, "by hand");
    bed.maps()
        .delete("absent", &DeleteParams::default())
        .await?;
    bed.object("absent", |row| row.message.contains("it would be created"))
        .await?;

    bed.accept(4, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.holds("other", "git").await?;
    bed.holds("absent", "git").await
}
