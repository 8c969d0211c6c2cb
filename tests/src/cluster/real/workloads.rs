//! What makes Pods come to life in a real cluster: the real scheduler, and one node that pretends to run them.

use super::control_plane::client;
use super::programs;
use crate::supervisor::Process;
use crate::wait;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PostParams};
use std::path::Path;
use std::time::Duration;

/// Starts both and waits until the node is ready for Pods.
pub(super) async fn start(
    files: &Path,
    kubeconfig: &Path,
    scheduler_kubeconfig: &Path,
) -> Result<[Process; 2]> {
    let args = [
        format!("--kubeconfig={}", scheduler_kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    let scheduler = Process::spawn(
        programs::find("kube-scheduler").await?,
        args,
        &[],
        &files.join("scheduler.log"),
    )?;
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!(
            "--config={}",
            programs::find("kwok-stages.yaml").await?.display()
        ),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
    ];
    let node = Process::spawn(
        programs::find("kwok").await?,
        args,
        &[],
        &files.join("kwok.log"),
    )?;

    let nodes = Api::<Node>::all(client(kubeconfig).await?);
    let room = serde_json::json!({"cpu": "1000", "memory": "1Ti", "pods": "10000"});
    let object = serde_json::from_value(serde_json::json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "node-1",
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": "node-1", "kubernetes.io/os": "linux", "type": "kwok"},
        },
        "status": {"allocatable": room, "capacity": room},
    }))?;
    nodes.create(&PostParams::default(), &object).await?;
    wait::until("the node is ready", Duration::from_secs(60), async || {
        if let Err(died) = scheduler.ensure_alive().and_then(|()| node.ensure_alive()) {
            return Ok(Err(died));
        }
        let seen = nodes.get("node-1").await?;
        let conditions = seen
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        ensure!(
            conditions
                .iter()
                .any(|it| it.type_ == "Ready" && it.status == "True"),
            "it is not Ready"
        );
        Ok(Ok(()))
    })
    .await
    .with_context(|| format!("the end of kwok's log:\n{}", node.log_tail()))??;
    Ok([scheduler, node])
}
