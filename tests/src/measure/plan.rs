//! `muster plan` as a person types it: command, API, a hub of its own process with its store and mirror, Git over HTTP.
//!
//! In: the files of a fleet and its clusters, which joined and are away. Out: how long the command takes, and how much it
//! prints, for a branch that changes one object of every variant of an application.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};
use muster_hub::store::{Cluster, ClusterState, Store};
use muster_proto::Timestamp;
use serde_json::Value;

use super::figure::Promise;
use crate::git::git;
use crate::programs::{Fleet, Programs};
use crate::wait;
use crate::world::SOON;
use muster_decide::Members;

/// What the branch does.
pub(super) struct Change {
    pub(super) files: Vec<(String, String)>,
    /// Distinct diffs that come of it.
    pub(super) diffs: usize,
}

/// Name, figure, unit, promise of each.
pub(super) type Rows = Vec<(&'static str, f64, &'static str, Promise)>;

/// Starts a hub on the fleet, and asks it `rounds` times; the median counts.
pub(super) async fn measure(
    files: &BTreeMap<String, String>,
    members: &Members,
    change: &Change,
    rounds: usize,
) -> Result<Rows> {
    let files = files.iter();
    let files: Vec<_> = files
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut fleet = Fleet::start(Programs::of_the_testbed()?, &files).await?;
    fleet.hub().stop().await?;
    register(&fleet, members).await?;
    fleet.start_hub().await?;
    let head = fleet.repository.head()?;
    wait::until("the fleet is decided", SOON, async || {
        fleet.hub().ensure_alive()?;
        let status = fleet.ask(&["status"]).await?;
        let source = &status["source"];
        ensure!(source["adoptedRevision"] == head.as_str(), "{source}");
        Ok(())
    })
    .await?;
    let work = fleet.repository.work();
    git(&work, ["checkout", "--quiet", "-b", "change"])?;
    for (path, text) in &change.files {
        std::fs::write(work.join(path), text)?;
    }
    git(&work, ["commit", "--quiet", "--all", "--message", "Change"])?;
    git(&work, ["push", "--quiet", "origin", "change"])?;

    let (mut text, mut json, mut sizes) = (Vec::new(), Vec::new(), (0, 0));
    for _ in 0..rounds {
        let begin = Instant::now();
        let said = fleet.muster(&["plan", "change"]).await?;
        text.push(begin.elapsed().as_secs_f64());
        ensure!(said.code == Some(2), "{}{}", said.out, said.err);
        sizes.0 = said.out.len();
        let begin = Instant::now();
        let said = fleet.muster(&["plan", "change", "-o", "json"]).await?;
        json.push(begin.elapsed().as_secs_f64());
        ensure!(said.code == Some(2), "{}", said.err);
        sizes.1 = said.out.len();
        let plan: Value = serde_json::from_str(&said.out)?;
        let diffs = plan["diffs"].as_array().map_or(0, Vec::len);
        let clusters = plan["diffs"].as_array().into_iter().flatten();
        let clusters = clusters.filter_map(|diff| diff["clusters"].as_array());
        let clusters: usize = clusters.map(Vec::len).sum();
        ensure!(
            (diffs, clusters) == (change.diffs, members.len()),
            "{diffs} diffs on {clusters} clusters"
        );
    }
    fleet.hub().stop().await?;
    let median = super::engine::median;
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    Ok(vec![
        ("muster plan", median(text), "s", Promise::None),
        ("muster plan -o json", median(json), "s", Promise::None),
        ("text of the plan", mebibytes(sizes.0), "MiB", Promise::None),
        ("JSON of the plan", mebibytes(sizes.1), "MiB", Promise::None),
    ])
}

/// Writes the clusters into the store of a hub that does not run.
async fn register(fleet: &Fleet, members: &Members) -> Result<()> {
    let now = Timestamp(1);
    let store = Store::open(&fleet.hub_data(), None, now).await?;
    for (name, labels) in members {
        let cluster = Cluster {
            state: ClusterState::Member,
            labels: labels.clone(),
            uid: name.to_string(),
            last_seen: now,
            ..Cluster::invited(name.clone(), BTreeMap::new(), now)
        };
        store.put_cluster(&cluster, false, None).await?;
    }
    store.close().await;
    Ok(())
}
