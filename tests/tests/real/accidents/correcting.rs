//! Drift that was seen and not put right.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch};
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, manager, stuck};

/// rancher/fleet#4878: after an upgrade the correction of drift did nothing unless it was told to use force. A Deployment
/// of one replica that somebody had scaled stayed as it was, in the very configuration that had asked for its correction.
/// Here what a person scales comes back whichever way it was done: with `kubectl scale`, in an editor, or in the user
/// interface of another program. Only what a scaler writes through the `scale` subresource stays.
#[tokio::test]
async fn replicas_that_somebody_changed_were_not_set_back() -> Result<()> {
    let bed = bed("accident-4878").await?;
    let mut deployment = stuck("nginx-keep");
    deployment["spec"]["replicas"] = json!(1);
    bed.accept(1, vec![application("shop", bed.settings(), &[deployment])?])
        .await?;
    bed.synced("shop").await?;
    let deployments: Api<Deployment> = bed.api();
    let ways = [
        ("kubectl", "scale", 3),
        ("kubectl-edit", "", 4),
        ("Mozilla", "", 5),
    ];
    for (count, (who, subresource, replicas)) in (1..).zip(ways) {
        let patch = json!({"spec": {"replicas": replicas}});
        let patch = Patch::Merge(&patch);
        if subresource.is_empty() {
            deployments
                .patch("nginx-keep", &manager(who), &patch)
                .await?;
        } else {
            deployments
                .patch_scale("nginx-keep", &manager(who), &patch)
                .await?;
        }
        wait::until(&format!("what {who} did is undone"), PATIENCE, async || {
            let spec = deployments.get("nginx-keep").await?.spec;
            ensure!(spec.replicas == Some(1), "{:?}", spec.replicas);
            Ok(())
        })
        .await?;
        let row = bed
            .object("nginx-keep", |row| {
                let drift = row.last_drift.as_ref();
                drift.is_some_and(|drift| drift.count == count && drift.repaired_at.is_some())
            })
            .await?;
        let drift = row.last_drift.context("no drift")?;
        assert_eq!(drift.manager, who);
        assert_eq!(drift.fields, [".spec.replicas"]);
    }
    Ok(())
}
