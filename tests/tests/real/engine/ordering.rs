//! What waits for what, on a real API server.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::{HealthRule, ObjectStatus, Settings, SyncStatus};
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{PATIENCE, application, bed, config, stuck};

fn after(mut object: Value, others: &str) -> Value {
    object["metadata"]["annotations"] = json!({"muster.dev/depends-on": others});
    object
}

#[tokio::test]
async fn a_failed_object_blocks_what_depends_on_it_and_nothing_else() -> Result<()> {
    let bed = bed("order-isolation").await?;
    let refused = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot",
        "labels": {"not a label!": "x"}}});
    let mut pod = stuck("uses-robot");
    pod["spec"]["template"]["spec"]["serviceAccountName"] = json!("robot");
    let objects = [
        refused,
        pod,
        stuck("independent"),
        after(config("behind", "1"), "Deployment.apps/uses-robot"),
        config("beside", "1"),
    ];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.holds("beside", "1").await?;
    let row = bed
        .object("uses-robot", |row| row.message.contains("which failed"))
        .await?;
    assert!(
        row.message.contains("waits for ServiceAccount") && row.sync == SyncStatus::Progressing,
        "{row:?}"
    );
    bed.object("behind", |row| {
        row.message.contains("waits for Deployment.apps")
    })
    .await?;
    let deployments: Api<Deployment> = Api::namespaced(bed.client.clone(), &bed.namespace);
    wait::until("the independent one is there", PATIENCE, async || {
        deployments.get("independent").await?;
        Ok(())
    })
    .await?;
    ensure!(
        deployments.get_opt("uses-robot").await?.is_none(),
        "it went ahead"
    );

    // Every failure is reported, and the account put right lets the rest go on.
    let robot =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    let mut mended = objects.to_vec();
    mended[0] = robot;
    bed.accept(2, vec![application("shop", bed.settings(), &mended)?])
        .await?;
    wait::until("the dependant is there", PATIENCE, async || {
        deployments.get("uses-robot").await?;
        Ok(())
    })
    .await?;
    // It is applied, and not ready: what wants it ready goes on waiting, and says for what.
    let row = bed
        .object("behind", |row| row.message.contains("to be ready"))
        .await?;
    assert_eq!(row.sync, SyncStatus::Progressing);
    Ok(())
}

#[tokio::test]
async fn a_cycle_is_named_and_the_rest_is_applied() -> Result<()> {
    let bed = bed("order-cycle").await?;
    let objects = [
        after(config("a", "1"), "ConfigMap/b"),
        after(config("b", "1"), "ConfigMap/a"),
        config("free", "1"),
    ];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.holds("free", "1").await?;
    let row = bed
        .object("a", |row| row.sync == SyncStatus::Failed)
        .await?;
    let cycle = format!(
        "ConfigMap {0}/a -> ConfigMap {0}/b -> ConfigMap {0}/a",
        bed.namespace
    );
    assert!(row.message.contains(&cycle), "{}", row.message);
    ensure!(bed.maps().get_opt("a").await?.is_none());

    bed.accept(
        2,
        vec![application(
            "shop",
            bed.settings(),
            &[config("a", "1"), after(config("b", "1"), "ConfigMap/a")],
        )?],
    )
    .await?;
    bed.holds("b", "1").await
}

#[tokio::test]
async fn stages_go_one_after_the_other_when_the_one_before_is_ready() -> Result<()> {
    let bed = bed("order-stages").await?;
    bed.cluster.run_workloads().await?;
    let staged = |mut object: Value, stage: &str| {
        object["metadata"]["annotations"] = json!({"muster.dev/stage": stage});
        object
    };
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}, "spec": {"template": {
        "metadata": {"annotations": {}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "m"}]}}}});
    let objects = [
        staged(config("after", "1"), "1"),
        staged(job, "-1"),
        config("between", "1"),
    ];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    let created = async |name: &str| -> Result<_> {
        Ok(bed
            .maps()
            .get(name)
            .await?
            .metadata
            .creation_timestamp
            .context("no time")?
            .0)
    };
    let jobs: Api<k8s_openapi::api::batch::v1::Job> =
        Api::namespaced(bed.client.clone(), &bed.namespace);
    let status = jobs.get("migrate").await?.status.context("no status")?;
    let finished = status
        .completion_time
        .context("the Job has not finished")?
        .0;
    assert!(
        finished <= created("between").await?,
        "what comes after the Job did not wait for it"
    );
    assert!(created("between").await? <= created("after").await?);
    Ok(())
}

/// argoproj/argo-cd#9296: an operator was deleted together with its resources, whose finalizers then nobody took off.
#[tokio::test]
async fn custom_resources_are_gone_before_the_operator_that_must_let_go_of_them() -> Result<()> {
    let bed = bed("order-operator").await?;
    let group = format!("{}.example.com", bed.namespace);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("carts.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let cart =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Cart", "metadata": {"name": "c"}});
    let operator = || -> Result<_> {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}});
        application(
            "operator",
            bed.settings(),
            &[definition.clone(), stuck("operator"), account],
        )
    };
    bed.accept(
        1,
        vec![
            operator()?,
            application("shop", bed.settings(), std::slice::from_ref(&cart))?,
        ],
    )
    .await?;
    bed.row("shop", |row| row.synced == 1).await?;
    bed.row("operator", |row| row.synced == 3).await?;
    // The operator's finalizer is on it, as operators do.
    let kind =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v1", "Cart"), "carts");
    let carts: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), &bed.namespace, &kind);
    let finalizer = |list: Value| json!({"metadata": {"finalizers": list}});
    let hold = Patch::Merge(finalizer(json!([format!("{group}/empty-the-cart")])));
    carts.patch("c", &PatchParams::default(), &hold).await?;

    // Both applications leave Git in one commit.
    bed.accept(2, Vec::new()).await?;
    let waits = |row: &ObjectStatus| {
        row.message.contains("waits for Cart") && row.message.contains("goes first")
    };
    bed.object("operator", waits).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.client.clone(), &bed.namespace);
    let deployments: Api<Deployment> = Api::namespaced(bed.client.clone(), &bed.namespace);
    // It may be said before the call is answered.
    wait::until("the cart is being deleted", PATIENCE, async || {
        ensure!(carts.get("c").await?.metadata.deletion_timestamp.is_some());
        Ok(())
    })
    .await?;
    deployments.get("operator").await?;
    accounts.get("operator").await?;

    let release = Patch::Merge(finalizer(json!(null)));
    carts.patch("c", &PatchParams::default(), &release).await?;
    wait::until("the operator is gone too", PATIENCE, async || {
        ensure!(deployments.get_opt("operator").await?.is_none());
        ensure!(accounts.get_opt("operator").await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_config_map_that_left_git_stays_while_a_deployment_that_could_not_be_changed_still_uses_it()
-> Result<()> {
    let bed = bed("order-still-used").await?;
    let using = |map: &str, name: &str| {
        let mut deployment = stuck("d");
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": map}}]);
        deployment["spec"]["template"]["spec"]["containers"][0]["name"] = json!(name);
        deployment
    };
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[config("old", "1"), using("old", "web")],
        )?],
    )
    .await?;
    bed.row("shop", |row| row.synced == 2).await?;
    // A name of a container that the API server refuses.
    bed.accept(
        2,
        vec![application(
            "shop",
            bed.settings(),
            &[config("new", "1"), using("new", "Not_A_Name")],
        )?],
    )
    .await?;
    bed.holds("new", "1").await?;
    bed.object("old", |row| row.message.contains("which still uses it"))
        .await?;
    ensure!(
        bed.maps().get_opt("old").await?.is_some(),
        "it was removed under a running Deployment"
    );

    bed.accept(
        3,
        vec![application(
            "shop",
            bed.settings(),
            &[config("new", "1"), using("new", "web")],
        )?],
    )
    .await?;
    wait::until("the old one is gone", PATIENCE, async || {
        ensure!(bed.maps().get_opt("old").await?.is_none());
        Ok(())
    })
    .await
}

/// What makes a custom resource ready is said by its application, and what depends on it waits for that: also for a rule
/// that comes with the change of what depends on it.
#[tokio::test]
async fn what_depends_on_a_custom_resource_waits_for_its_health_rule() -> Result<()> {
    let bed = bed("order-rule").await?;
    let group = format!("{}.example.com", bed.namespace);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("carts.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let cart =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Cart", "metadata": {"name": "c"}});
    let state = |value: &str, phase: &str| {
        let rule = HealthRule {
            group: group.clone(),
            kind: "Cart".into(),
            current: Some(format!("self.status.phase == '{phase}'")),
            in_progress: None,
            failed: None,
        };
        let settings = Settings {
            health: vec![rule],
            ..bed.settings()
        };
        let behind = after(config("behind", value), &format!("Cart.{group}/c"));
        application(
            "shop",
            settings,
            &[definition.clone(), cart.clone(), behind],
        )
    };
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, "v1", "Cart"));
    let carts: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), &bed.namespace, &kind);
    let turns = async |phase: &str| {
        let status = json!({"status": {"phase": phase}});
        let controller = PatchParams::default();
        carts
            .patch_status("c", &controller, &Patch::Merge(&status))
            .await
    };
    let waits = |row: &ObjectStatus| row.message.contains("by its health rule");

    bed.accept(1, vec![state("1", "Rolling")?]).await?;
    bed.object("behind", waits).await?;
    ensure!(
        bed.maps().get_opt("behind").await?.is_none(),
        "it went ahead"
    );
    turns("Rolling").await?;
    bed.holds("behind", "1").await?;
    bed.synced("shop").await?;

    bed.accept(2, vec![state("2", "Parked")?]).await?;
    bed.object("behind", waits).await?;
    ensure!(bed.value("behind").await? == "1", "it went ahead");
    turns("Parked").await?;
    bed.holds("behind", "2").await
}
