//! A reviewer asks before a merge what it will do; after the merge it is so.

use anyhow::{Context, Result, ensure};
use muster_cli::ExitCode;
use muster_tests::git::git;
use serde_json::Value;

use super::scenario::{Scenario, application, config_map};

/// Each change as `create new`, and its fields.
fn changes(plan: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let diffs = plan["diffs"].as_array().into_iter().flatten();
    let objects = diffs.flat_map(|diff| diff["objects"].as_array().into_iter().flatten());
    let changes = objects.map(|object| {
        let fields = object["fields"].as_array().into_iter().flatten();
        let fields = fields.map(|field| {
            let side = |side: &str| text(&field[side]);
            format!(
                " {} {} -> {}",
                text(&field["path"]),
                side("before"),
                side("after")
            )
        });
        let fields: String = fields.collect();
        format!(
            "{} {}{fields}",
            text(&object["action"]),
            text(&object["object"]["name"])
        )
    });
    changes.collect()
}

#[tokio::test]
async fn what_a_plan_says_is_what_a_merge_does() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
            config_map("shop", "old", "a", "1"),
        ]
    })
    .await?;
    let world = &scenario.world;
    world.synced("shop", 1).await?;
    let work = world.repository.work();
    let none = world.muster(&["plan", "main"]).await?;
    ensure!(none.code == ExitCode::Ok, "{none:?}");

    // On a checkout first, then as a branch.
    git(&work, ["checkout", "--quiet", "-b", "change"])?;
    for (path, content) in [
        config_map("shop", "settings", "colour", "red"),
        config_map("shop", "new", "a", "1"),
    ] {
        std::fs::write(work.join(path), content)?;
    }
    std::fs::remove_file(work.join("shop/old.yaml"))?;
    let expected = [
        "create new",
        "prune old",
        "change settings .data.colour \"blue\" -> \"red\"",
    ];
    let folder = work.to_str().context("a path")?;
    let of_files = world.muster(&["plan", folder, "-o", "json"]).await?;
    ensure!(of_files.code == ExitCode::Changes, "{of_files:?}");
    assert_eq!(changes(&serde_json::from_str(&of_files.out)?), expected);
    git(&work, ["add", "--all"])?;
    git(&work, ["commit", "--quiet", "--message", "Change"])?;
    git(&work, ["push", "--quiet", "origin", "HEAD:change"])?;
    let of_branch = world.muster(&["plan", "change", "-o", "json"]).await?;
    ensure!(of_branch.code == ExitCode::Changes, "{of_branch:?}");
    assert_eq!(changes(&serde_json::from_str(&of_branch.out)?), expected);
    let after = ["render", "shop", "--cluster", "one", "--at", "change"];
    let after = world.muster(&after).await?;
    ensure!(after.code == ExitCode::Ok, "{after:?}");
    ensure!(after.out.contains("colour: red"), "{after:?}");
    assert_eq!(
        scenario.value("settings", "colour").await?,
        "blue",
        "nothing of it is done"
    );

    git(&work, ["checkout", "--quiet", "main"])?;
    git(
        &work,
        ["merge", "--quiet", "--no-ff", "--no-edit", "change"],
    )?;
    git(&work, ["push", "--quiet", "origin", "HEAD:main"])?;
    world.pushed().await?;
    scenario.becomes("settings", "colour", "red").await?;
    scenario.becomes("new", "a", "1").await?;
    scenario.goes("old").await?;
    world.synced("shop", 1).await?;
    let after = world.muster(&["plan", "change"]).await?;
    ensure!(after.code == ExitCode::Ok, "{after:?}");
    let rendered = world
        .muster(&["render", "shop", "--cluster", "one"])
        .await?;
    ensure!(rendered.out.contains("colour: red"), "{rendered:?}");
    Ok(())
}
