//! Waits that were too long, or for nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, Patch, PostParams};
use muster_proto::{Settings, SyncStatus};
use serde_json::json;

use super::super::bed::{application, bed, config, manager, stuck};

/// fluxcd/kustomize-controller#1168: one object that the API server refuses kept all others of its Kustomization from
/// being applied, and only the first error was shown. Here the rest is applied, and every refusal is reported.
#[tokio::test]
async fn one_bad_object_kept_all_the_others_from_being_applied() -> Result<()> {
    let bed = bed("accident-1168").await?;
    let objects = [
        config("Not_A_Name", "1"),
        config("good", "1"),
        config("Neither_This", "1"),
        stuck("also-good"),
    ];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.holds("good", "1").await?;
    for name in ["Not_A_Name", "Neither_This"] {
        let row = bed
            .object(name, |row| row.sync == SyncStatus::Failed)
            .await?;
        assert!(
            row.message.contains("a lowercase RFC 1123"),
            "{}",
            row.message
        );
    }
    let row = bed.row("shop", |row| row.synced == 2).await?;
    assert_eq!(row.sync, SyncStatus::Failed);
    Ok(())
}

/// argoproj/argo-cd#18442: a sync that failed once, because a permission came a little later, was never tried again, and
/// self-heal did nothing for any object of the application any more. Here what failed is tried again by itself, and
/// what was applied is repaired meanwhile.
#[tokio::test]
async fn one_failed_sync_ended_all_self_healing() -> Result<()> {
    let bed = bed("accident-18442").await?;
    let role = |resources: &[&str]| {
        let rules = json!([{"apiGroups": [""], "resources": resources, "verbs": ["create", "patch", "get"]}]);
        serde_json::from_value::<Role>(json!({"metadata": {"name": "deployer"}, "rules": rules}))
    };
    let binding = json!({"metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": bed.namespace}]});
    let (roles, bindings): (Api<Role>, Api<RoleBinding>) = (bed.api(), bed.api());
    roles
        .create(&PostParams::default(), &role(&["configmaps"])?)
        .await?;
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    let settings = Settings {
        service_account: format!("{}/deployer", bed.namespace),
        ..bed.settings()
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "late"}, "spec": {"ports": [{"port": 80}]}});
    bed.accept(
        1,
        vec![application("shop", settings, &[config("a", "1"), service])?],
    )
    .await?;
    bed.object("late", |row| row.message.contains("forbidden"))
        .await?;
    bed.holds("a", "1").await?;
    bed.edit("a", "by hand").await?;
    bed.holds("a", "1").await?;

    roles
        .replace(
            "deployer",
            &PostParams::default(),
            &role(&["configmaps", "services"])?,
        )
        .await?;
    bed.row("shop", |row| row.synced == 2).await?;
    Ok(())
}

/// fluxcd/kustomize-controller#701 and fluxcd/flux2#5622: a release that never became healthy was waited for until a
/// timeout, and the commit that mended it stood in line behind that wait. A newer desired state ends every wait.
#[tokio::test]
async fn the_commit_that_mended_a_broken_release_waited_for_the_broken_one() -> Result<()> {
    let bed = bed("accident-701").await?;
    let behind = || {
        let settings = Settings {
            depends_on: vec!["release".parse()?],
            ..bed.settings()
        };
        application("behind", settings, &[config("behind", "1")])
    };
    let release = |objects: &[serde_json::Value]| application("release", bed.settings(), objects);
    bed.accept(1, vec![release(&[stuck("broken")])?, behind()?])
        .await?;
    let waits = bed
        .row("behind", |row| {
            row.message.contains("waits for application release")
        })
        .await?;
    assert_eq!(waits.sync, SyncStatus::Progressing);
    ensure!(bed.maps().get_opt("behind").await?.is_none());

    let began = Instant::now();
    bed.accept(2, vec![release(&[config("works", "1")])?, behind()?])
        .await?;
    bed.holds("works", "1").await?;
    ensure!(
        began.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        began.elapsed()
    );
    Ok(())
}

/// fluxcd/flux2#4808: a dependency that had become ready was noticed at the next poll, every 30 seconds, so that a
/// chain of five took minutes. Here it is an event.
#[tokio::test]
async fn a_dependency_that_was_ready_was_noticed_half_a_minute_later() -> Result<()> {
    let bed = bed("accident-4808").await?;
    let chain = ["a", "b", "c", "d", "e"];
    // Waits for an address that nobody but this test gives: a controller would take back what it did not say itself.
    let gate = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gate"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    let mut applications = vec![application("gate", bed.settings(), &[gate])?];
    for (index, name) in chain.iter().enumerate() {
        let before = if index == 0 { "gate" } else { chain[index - 1] };
        let settings = Settings {
            depends_on: vec![before.parse()?],
            ..bed.settings()
        };
        applications.push(application(name, settings, &[config(name, "1")])?);
    }
    bed.accept(1, applications).await?;
    bed.row("a", |row| {
        row.message.contains("waits for application gate")
    })
    .await?;
    bed.row("gate", |row| row.synced == 1).await?;
    let services: Api<Service> = bed.api();
    let ready = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let began = Instant::now();
    services
        .patch_status("gate", &manager("test"), &Patch::Merge(&ready))
        .await?;
    bed.holds("e", "1").await?;
    ensure!(
        began.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        began.elapsed()
    );
    Ok(())
}
