//! The demo on real API servers: those it starts itself, and one that belongs to somebody else.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use muster_tests::cluster::{Cluster, real};
use muster_tests::supervisor::testbed;
use serde_json::Value;
use tokio::process::Command;

/// Starting clusters is a part of it.
const PLAYED: Duration = Duration::from_secs(300);

/// Plays to the end and returns what was printed.
async fn play(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("steps.json");
    let mut command = Command::new(testbed()?);
    command
        .args(["demo", "--once", "--json"])
        .arg(&json)
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PLAYED, command.output()).await??;
    let out = String::from_utf8(output.stdout)?;
    let err = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{out}{err}");
    let written: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let steps = written["steps"].as_array().context("no steps")?;
    ensure!(steps.len() == 8, "{written:#}");
    ensure!(steps.iter().all(|step| step["ok"] == true), "{written:#}");
    Ok(out)
}

#[tokio::test]
async fn the_story_is_played_on_two_real_api_servers() -> Result<()> {
    let out = play(&["--real", "2"], &[]).await?;
    let version = format!("Kubernetes v{}", real::pinned_version());
    // Two, and the one that joins.
    assert_eq!(out.matches(&version).count(), 3, "{out}");
    Ok(())
}

/// Every object there is, by kind, namespace, name and UID, but those that say that time goes by.
async fn everything_in(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let client = cluster.client()?;
    let mut everything = BTreeSet::new();
    for group in Discovery::new(client.clone()).run().await?.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let kind = resource.kind.as_str();
            if !capabilities.supports_operation(verbs::LIST) || ["Event", "Lease"].contains(&kind) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            for object in api.list(&ListParams::default()).await? {
                let metadata = object.metadata;
                everything.insert(format!(
                    "{kind} {}/{} {}",
                    metadata.namespace.unwrap_or_default(),
                    metadata.name.unwrap_or_default(),
                    metadata.uid.unwrap_or_default()
                ));
            }
        }
    }
    Ok(everything)
}

#[tokio::test]
async fn a_persons_cluster_is_left_as_it_was() -> Result<()> {
    let cluster = real::start("somebodys").await?;
    cluster.run_workloads().await?;
    let before = everything_in(&cluster).await?;
    ensure!(
        before.iter().any(|it| it.starts_with("Node /")),
        "{before:?}"
    );
    let kubeconfig = cluster.kubeconfig.to_str().context("a path")?;
    let context = ["--kube-context", "cluster"];
    let out = play(&context, &[("KUBECONFIG", kubeconfig)]).await?;
    ensure!(
        out.contains("eu-prod-1 is the cluster of context cluster"),
        "{out}"
    );
    ensure!(out.contains("cluster is as it was"), "{out}");
    assert_eq!(everything_in(&cluster).await?, before);
    Ok(())
}
