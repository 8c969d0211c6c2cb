//! What the scenario tests take for granted of a real cluster: its version, field ownership, Pods that come to life.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, Patch, PatchParams, PostParams};
use muster_tests::cluster::real;
use muster_tests::wait;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn is_the_version_that_is_pinned() -> Result<()> {
    let cluster = real::shared("one").await?;
    let version = cluster.client()?.apiserver_version().await?;
    assert_eq!(version.git_version, format!("v{}", real::pinned_version()));
    Ok(())
}

#[tokio::test]
async fn of_another_name_is_another_cluster() -> Result<()> {
    let uid = async |name: &str| -> Result<Option<String>> {
        let cluster = real::shared(name).await?;
        let namespace = Api::<Namespace>::all(cluster.client()?)
            .get("kube-system")
            .await?;
        Ok(namespace.metadata.uid)
    };
    assert_eq!(uid("one").await?, uid("one").await?);
    assert_ne!(uid("one").await?, uid("two").await?);

    // Neither takes the other's administrator for its own.
    let (one, two) = (real::shared("one").await?, real::shared("two").await?);
    let mut stranger = one.config.clone();
    stranger.cluster_url = two.config.cluster_url.clone();
    stranger.root_cert = two.config.root_cert.clone();
    let refused = kube::Client::try_from(stranger)?.apiserver_version().await;
    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn two_managers_own_the_fields_they_apply() -> Result<()> {
    let cluster = real::shared("one").await?;
    let namespace = cluster.fresh_namespace("ownership").await?;
    let apply = async |manager: &str, data: Value| -> Result<ConfigMap> {
        let maps = Api::<ConfigMap>::namespaced(cluster.client()?, &namespace);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data});
        Ok(maps
            .patch(
                "settings",
                &PatchParams::apply(manager),
                &Patch::Apply(object),
            )
            .await?)
    };
    apply("first", json!({"colour": "red"})).await?;
    apply("second", json!({"size": "large"})).await?;
    let refused = apply("second", json!({"size": "large", "colour": "blue"}))
        .await
        .unwrap_err();
    let refused = refused
        .downcast_ref::<kube::Error>()
        .context("another error")?;
    assert!(
        matches!(refused, kube::Error::Api(status) if status.code == 409),
        "{refused}"
    );

    let seen = Api::<ConfigMap>::namespaced(cluster.client()?, &namespace)
        .get("settings")
        .await?;
    let mut owned: Vec<(String, Value)> = Vec::new();
    for entry in seen.metadata.managed_fields.unwrap_or_default() {
        let fields = entry.fields_v1.context("an entry without fields")?.0;
        owned.push((
            entry.manager.context("an entry without manager")?,
            fields["f:data"].clone(),
        ));
    }
    owned.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(
        owned,
        [
            ("first".to_owned(), json!({"f:colour": {}})),
            ("second".to_owned(), json!({"f:size": {}}))
        ]
    );
    let data = seen.data.unwrap_or_default();
    assert_eq!(
        serde_json::to_value(data)?,
        json!({"colour": "red", "size": "large"})
    );

    // What nobody applies any more is gone; what the other applies stays.
    apply("first", json!({})).await?;
    let seen = Api::<ConfigMap>::namespaced(cluster.client()?, &namespace)
        .get("settings")
        .await?;
    assert_eq!(serde_json::to_value(seen.data)?, json!({"size": "large"}));
    Ok(())
}

#[tokio::test]
async fn a_deployment_rolls_out_and_a_job_completes() -> Result<()> {
    let cluster = real::shared("one").await?;
    cluster.run_workloads().await?;
    let namespace = cluster.fresh_namespace("rollout").await?;
    let pod = json!({"containers": [{"name": "main", "image": "example.invalid/none"}], "restartPolicy": "Always"});

    let deployments = Api::<Deployment>::namespaced(cluster.client()?, &namespace);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
        },
    });
    deployments
        .create(&PostParams::default(), &serde_json::from_value(deployment)?)
        .await?;
    wait::until(
        "the Deployment is rolled out",
        Duration::from_secs(60),
        async || {
            let status = deployments.get("web").await?.status.unwrap_or_default();
            ensure!(status.available_replicas == Some(3), "{status:?}");
            Ok(())
        },
    )
    .await?;

    let mut pod = pod;
    pod["restartPolicy"] = "Never".into();
    let jobs = Api::<Job>::namespaced(cluster.client()?, &namespace);
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"template": {"spec": pod}},
    });
    jobs.create(&PostParams::default(), &serde_json::from_value(job)?)
        .await?;
    wait::until("the Job is complete", Duration::from_secs(60), async || {
        let status = jobs.get("once").await?.status.unwrap_or_default();
        ensure!(status.succeeded == Some(1), "{status:?}");
        Ok(())
    })
    .await
}
