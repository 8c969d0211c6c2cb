//! Differences that are none, and fields that others may own.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch};
use muster_proto::{IgnoreRule, Settings};
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{PATIENCE, application, bed, config, manager, stuck};

/// argoproj/argo-cd#1487 and #1079: what the API server writes in other words (a CPU of `1000m` is `1`), fills
/// in (protocol, strategy) or drops was shown as a difference for ever, and corrected again and again.
/// We compare what we own, not texts: after a sync and a restart of everything nothing is written.
#[tokio::test]
async fn objects_were_out_of_sync_for_ever_because_the_server_writes_them_in_other_words()
-> Result<()> {
    let bed = bed("accident-1487").await?;
    let mut deployment = stuck("web");
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["resources"] =
        json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 1}});
    container["ports"] = json!([{"containerPort": 80}]);
    container["env"] = json!([{"name": "EMPTY", "value": ""}]);
    deployment["status"] = json!({});
    deployment["metadata"]["creationTimestamp"] = json!(null);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}});
    let objects = [deployment, service, role, claim];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    let all = |row: &muster_proto::ApplicationStatus| row.synced == 4;
    bed.row("shop", all).await?;
    let deployments: Api<Deployment> = bed.api();
    let services: Api<k8s_openapi::api::core::v1::Service> = bed.api();
    let before = (
        deployments.get("web").await?.metadata.generation,
        services.get("web").await?.metadata.resource_version,
    );

    // Another generation of the same content, beside something new that shows when it was done.
    let beside = application("beside", bed.settings(), &[config("done", "1")])?;
    bed.accept(
        2,
        vec![application("shop", bed.settings(), &objects)?, beside],
    )
    .await?;
    bed.holds("done", "1").await?;
    bed.row("shop", all).await?;
    let after = (
        deployments.get("web").await?.metadata.generation,
        services.get("web").await?.metadata.resource_version,
    );
    assert_eq!(before, after);
    let rows = bed.engine.rows().borrow().clone();
    ensure!(
        rows.objects().values().all(|row| row.last_drift.is_none()),
        "{:?}",
        rows.objects()
    );
    Ok(())
}

fn ignoring(settings: Settings, rule: Value) -> Result<Settings> {
    let rule: IgnoreRule = serde_json::from_value(rule)?;
    Ok(Settings {
        ignore: vec![rule],
        ..settings
    })
}

/// argoproj/argo-cd#8970: a difference that was to be ignored was not shown, and overwritten at the next sync.
/// A rule holds in both: it is no drift, and an apply of something else leaves the live value.
#[tokio::test]
async fn an_ignored_field_was_overwritten_at_the_next_sync() -> Result<()> {
    let bed = bed("accident-8970").await?;
    let object = |other: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"value": "git", "removed": "git", "other": other}})
    };
    let settings = || {
        ignoring(
            bed.settings(),
            json!({"kind": "ConfigMap", "jsonPointers": ["/data/value", "/data/removed"]}),
        )
    };
    bed.accept(1, vec![application("shop", settings()?, &[object("1")])?])
        .await?;
    // It is created as Git states it.
    bed.holds("a", "git").await?;
    bed.synced("shop").await?;
    let edit = json!({"data": {"value": "theirs", "removed": null}});
    bed.maps()
        .patch("a", &manager("operator"), &Patch::Merge(&edit))
        .await?;

    bed.accept(2, vec![application("shop", settings()?, &[object("2")])?])
        .await?;
    let found = wait::until("the other field is applied", PATIENCE, async || {
        let data = bed.maps().get("a").await?.data.context("no data")?;
        ensure!(data["other"] == "2", "{data:?}");
        Ok(data)
    })
    .await?;
    assert_eq!(found.get("value").map(String::as_str), Some("theirs"));
    assert_eq!(found.get("removed"), None);
    bed.synced("shop").await?;
    let rows = bed.engine.rows().borrow().clone();
    ensure!(
        rows.objects().values().all(|row| row.last_drift.is_none()),
        "{:?}",
        rows.objects()
    );

    // Without the rule Git holds again, although nothing else changed.
    bed.accept(
        3,
        vec![application("shop", bed.settings(), &[object("2")])?],
    )
    .await?;
    bed.holds("a", "git").await
}

/// argoproj/argo-cd#7820: the replicas of a Deployment were to be ignored, because an autoscaler was on its way. Who
/// tried it out with `kubectl edit` saw the new Pods ended at once: the rule spoke of what is shown, not of what is
/// written.
/// A rule that names a field leaves it to whoever wrote it last, a person with kubectl included, at once and at the
/// next commit.
#[tokio::test]
async fn replicas_that_were_to_be_ignored_were_set_back_at_once() -> Result<()> {
    let bed = bed("accident-7820").await?;
    let sized = |label: &str| {
        let mut deployment = stuck("web");
        deployment["spec"]["replicas"] = json!(2);
        deployment["metadata"]["labels"] = json!({"version": label});
        deployment
    };
    let rule = json!({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]});
    let state = |label: &str| {
        let settings = ignoring(bed.settings(), rule.clone())?;
        application("shop", settings, &[sized(label)])
    };
    bed.accept(1, vec![state("1")?]).await?;
    bed.row("shop", |row| row.synced == 1).await?;
    let deployments: Api<Deployment> = bed.api();
    let edit = json!({"spec": {"replicas": 4}});
    deployments
        .patch("web", &manager("kubectl-edit"), &Patch::Merge(&edit))
        .await?;
    // Something that is drift, written later, is put right: the edit was looked at and left.
    let other = json!({"metadata": {"labels": {"version": "by-hand"}}});
    deployments
        .patch("web", &manager("kubectl-edit"), &Patch::Merge(&other))
        .await?;
    for label in ["1", "2"] {
        bed.accept(1 + u64::from(label == "2"), vec![state(label)?])
            .await?;
        let found = wait::until("Git's label is there", PATIENCE, async || {
            let found = deployments.get("web").await?;
            ensure!(found.metadata.labels.clone().unwrap_or_default()["version"] == label);
            Ok(found)
        })
        .await?;
        assert_eq!(found.spec.replicas, Some(4), "at label {label}");
    }
    let row = bed.object("web", |row| row.last_drift.is_some()).await?;
    let drift = row.last_drift.context("no drift")?;
    assert_eq!(drift.fields, [".metadata.labels.version"]);
    Ok(())
}

/// A service mesh puts a container into every Pod template, and keeps changing its image: by item of a list, or by the
/// name of the manager.
#[tokio::test]
async fn a_container_of_a_service_mesh_is_left_to_it() -> Result<()> {
    let bed = bed("ignore-mesh").await?;
    let with_proxy = |name: &str, label: &str| {
        let mut deployment = stuck(name);
        deployment["metadata"]["labels"] = json!({"version": label});
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array_mut();
        containers
            .expect("a list")
            .push(json!({"name": "proxy", "image": "git"}));
        deployment
    };
    let rules = [
        (
            "by-item",
            json!({"listItems": [{"list": "/spec/template/spec/containers", "key": {"name": "proxy"}}]}),
        ),
        ("by-manager", json!({"managers": ["mesh"]})),
    ];
    let state = |label: &str| {
        let one = |(name, rule): &(&str, Value)| {
            application(
                name,
                ignoring(bed.settings(), rule.clone())?,
                &[with_proxy(name, label)],
            )
        };
        rules.iter().map(one).collect::<Result<Vec<_>>>()
    };
    bed.accept(1, state("1")?).await?;
    let deployments: Api<Deployment> = bed.api();
    for (name, _) in &rules {
        bed.row(name, |row| row.synced == 1).await?;
        let edit = json!({"spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "mesh"}]}}}});
        deployments
            .patch(name, &manager("mesh"), &Patch::Strategic(&edit))
            .await?;
    }
    bed.accept(2, state("2")?).await?;
    for (name, _) in &rules {
        let found = wait::until("the label is applied", PATIENCE, async || {
            let found = deployments.get(name).await?;
            ensure!(found.metadata.labels.clone().unwrap_or_default()["version"] == "2");
            Ok(found)
        })
        .await?;
        let containers = found.spec.template.spec.context("no Pods")?.containers;
        let images: Vec<_> = containers
            .iter()
            .filter_map(|container| container.image.as_deref())
            .collect();
        assert_eq!(images, ["web", "mesh"], "{name}");
    }
    Ok(())
}
