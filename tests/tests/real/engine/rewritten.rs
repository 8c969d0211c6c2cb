//! Values of ours that change while our managedFields entry stays as it is: only a look at the values tells.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::{Drift, DriftKind};
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{Bed, PATIENCE, application, bed, manager};

const IMAGE: &str = ".spec.template.spec.containers[name=\"web\"].image";

/// With values that the API server spells in its own way, and mappings in which others may write.
fn web(bed: &Bed, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": bed.namespace, "labels": {"muster.dev/application": "shop"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "nodeSelector": {"no": "such"}, "securityContext": {},
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "containers": [{"name": "web", "image": image, "args": ["-v"],
                    "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}}}]}}}})
}

async fn started(bed: &Bed) -> Result<Api<Deployment>> {
    let wanted = web(bed, "web:1");
    bed.accept(1, vec![application("shop", bed.settings(), &[wanted])?])
        .await?;
    bed.synced("shop").await?;
    Ok(bed.api())
}

fn image(deployment: &Deployment) -> Option<&str> {
    let pod = deployment.spec.template.spec.as_ref()?;
    pod.containers.first()?.image.as_deref()
}

/// The drift of it, once it was put right.
async fn repaired(bed: &Bed, deployments: &Api<Deployment>) -> Result<Drift> {
    let right = wait::until("it is put right", PATIENCE, async || {
        let found = deployments.get("web").await?;
        ensure!(image(&found) == Some("web:1"), "{:?}", image(&found));
        Ok(())
    });
    right.await?;
    let told = |drift: &Drift| drift.repaired_at.is_some();
    let row = bed
        .object("web", |row| row.last_drift.as_ref().is_some_and(told))
        .await?;
    row.last_drift.context("asked for above")
}

#[tokio::test]
async fn what_somebody_writes_under_our_name_is_put_right() -> Result<()> {
    let bed = bed("rewritten-name").await?;
    let deployments = started(&bed).await?;
    // What controllers add is nobody's drift, also inside of what is ours.
    let added = json!({"metadata": {"annotations": {"seen": "yes"}}, "spec": {"template": {"spec": {
        "securityContext": {"runAsUser": 1000},
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        "containers": [{"name": "web", "env": [{"name": "ADDED", "value": "x"}]}]}}}});
    deployments
        .patch("web", &manager("some-operator"), &Patch::Strategic(added))
        .await?;

    let ours = PatchParams::apply("muster").force();
    let other = web(&bed, "web:2");
    deployments
        .patch("web", &ours, &Patch::Apply(&other))
        .await?;
    let drift = repaired(&bed, &deployments).await?;
    assert_eq!((drift.kind, drift.count), (DriftKind::Changed, 1));
    assert!(drift.fields.contains(&IMAGE.to_owned()), "{drift:?}");
    assert_eq!(drift.manager, "muster");
    let told = drift.changes.iter().find(|change| change.path == IMAGE);
    let told = told.context("the values are told")?;
    assert_eq!(
        (told.desired.as_deref(), told.live.as_deref()),
        (Some("\"web:1\""), Some("\"web:2\""))
    );
    let found = deployments.get("web").await?;
    let pod = found.spec.template.spec;
    let context = pod.and_then(|pod| pod.security_context).unwrap_or_default();
    assert_eq!(context.run_as_user, Some(1000), "what others added stays");
    Ok(())
}

#[tokio::test]
async fn what_admission_changes_while_somebody_else_writes_is_put_right() -> Result<()> {
    let bed = bed("rewritten-hook").await?;
    let deployments = started(&bed).await?;
    let [policies, bindings] =
        ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"].map(|kind| {
            let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
            Api::<DynamicObject>::all_with(bed.client.clone(), &ApiResource::from_gvk(&kind))
        });
    let name = format!("rewrite-{}", bed.namespace);
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": {
            "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}},
                "resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}]},
            "matchConditions": [{"name": "by-the-labeller",
                "expression": "request.options.?fieldManager.orValue('') == 'labeller'"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'replace', path: '/spec/template/spec/containers/0/image', value: 'mirror/web:1'}]"}}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name}});
    let apply = PatchParams::apply("test");
    policies.patch(&name, &apply, &Patch::Apply(policy)).await?;
    bindings
        .patch(&name, &apply, &Patch::Apply(binding))
        .await?;

    let dry = PatchParams {
        dry_run: true,
        ..manager("labeller")
    };
    let label = json!({"metadata": {"labels": {"team": "web"}}});
    wait::until("the policy is in force", PATIENCE, async || {
        let probed = deployments
            .patch("web", &dry, &Patch::Merge(&label))
            .await?;
        ensure!(
            image(&probed) == Some("mirror/web:1"),
            "{:?}",
            image(&probed)
        );
        Ok(())
    })
    .await?;
    deployments
        .patch("web", &manager("labeller"), &Patch::Merge(&label))
        .await?;
    let drift = repaired(&bed, &deployments).await?;
    assert!(drift.fields.contains(&IMAGE.to_owned()), "{drift:?}");
    bindings.delete(&name, &DeleteParams::default()).await?;
    policies.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}
