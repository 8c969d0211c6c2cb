//! A chart's hook in a cluster: a Job that runs before everything else, and again when it changes.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::Api;
use muster_tests::wait;
use muster_tests::world::SOON;

use crate::real::scenario::{Scenario, push};

fn chart(namespace: &str) -> Vec<(String, String)> {
    let document = format!(
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {{name: shop}}
spec:
  namespace: {namespace}
  helm: {{valueFiles: [all.yaml]}}
"
    );
    let job = "apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: {helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-delete-policy: before-hook-creation}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: 'example.invalid/migrate:{{ .Values.version }}'}]
";
    let map = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: {{ .Values.colour }}, version: {{ .Values.version | quote }}}
";
    let files = [
        ("shop/muster.yaml", document.as_str()),
        (
            "shop/Chart.yaml",
            "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
        ),
        ("shop/templates/migrate.yaml", job),
        ("shop/templates/settings.yaml", map),
        ("shop/all.yaml", "{version: 1, colour: blue}\n"),
    ];
    let file = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
    files.map(file).into()
}

/// UID and image of the Job, once it is complete.
async fn ran(jobs: &Api<Job>, version: &str) -> Result<String> {
    wait::until(&format!("version {version} ran"), SOON, async || {
        let job = jobs.get("migrate").await?;
        let pod = job
            .spec
            .context("no spec")?
            .template
            .spec
            .context("no Pod")?;
        let image = pod.containers[0].image.clone().unwrap_or_default();
        ensure!(image.ends_with(&format!(":{version}")), "{image}");
        let succeeded = job.status.and_then(|status| status.succeeded);
        ensure!(succeeded == Some(1), "{succeeded:?}");
        job.metadata.uid.context("no UID")
    })
    .await
}

#[tokio::test]
async fn a_hook_runs_before_the_rest_and_again_only_when_it_changes() -> Result<()> {
    let scenario = Scenario::rendering(chart).await?;
    scenario.cluster.run_workloads().await?;
    let jobs: Api<Job> = Api::namespaced(scenario.cluster.client()?, &scenario.namespace);
    let first = ran(&jobs, "1").await?;
    scenario.becomes("settings", "colour", "blue").await?;
    let completed = |job: Job| job.status.and_then(|status| status.completion_time);
    let made = scenario
        .config_maps()?
        .get("settings")
        .await?
        .metadata
        .creation_timestamp;
    let done = completed(jobs.get("migrate").await?);
    ensure!(done.is_some() && done <= made, "{done:?} {made:?}");

    let values = |text: &str| [("shop/all.yaml".to_owned(), text.to_owned())];
    push(
        &scenario.world,
        "Change the rest",
        &values("{version: 1, colour: green}\n"),
    )
    .await?;
    scenario.becomes("settings", "colour", "green").await?;
    ensure!(
        ran(&jobs, "1").await? == first,
        "an unchanged hook ran again"
    );

    push(
        &scenario.world,
        "Change the hook",
        &values("{version: 2, colour: green}\n"),
    )
    .await?;
    let second = ran(&jobs, "2").await?;
    ensure!(second != first, "a changed Job can't be the same one");
    scenario.becomes("settings", "version", "2").await?;
    scenario.world.synced("shop", 1).await?;
    Ok(())
}
