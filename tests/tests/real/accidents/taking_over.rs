//! Objects that others wrote before us, or write beside us.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch};
use muster_proto::{Settings, SyncStatus};
use muster_tests::cluster::real;
use muster_tests::proxy::Proxy;
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{
    Bed, PATIENCE, application, bed, bed_with, config, kubectl_apply, manager, stuck,
};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn managers(metadata: &kube::core::ObjectMeta) -> Vec<String> {
    let managed = metadata.managed_fields.iter().flatten();
    managed.filter_map(|entry| entry.manager.clone()).collect()
}

/// kubernetes/kubernetes#99003 (and fluxcd/kustomize-controller#486): who moved from `kubectl apply` to server-side
/// apply kept two managers of every field, so that a key taken out of Git stayed in the cluster for ever.
/// We put the fields of kubectl into our own entry first, and drop what it noted in an annotation.
#[tokio::test]
async fn who_came_from_kubectl_apply_kept_every_key_that_was_taken_out_of_git() -> Result<()> {
    let bed = bed("accident-99003").await?;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": bed.namespace},
        "data": {"value": "1", "left-git": "1"}});
    kubectl_apply(&bed.maps(), &object).await?;
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[config("a", "1")])?],
    )
    .await?;
    bed.synced("shop").await?;
    let map = bed.maps().get("a").await?;
    assert_eq!(
        map.data.unwrap_or_default().into_keys().collect::<Vec<_>>(),
        ["value"]
    );
    assert!(
        !map.metadata
            .annotations
            .clone()
            .unwrap_or_default()
            .contains_key(LAST_APPLIED)
    );
    assert_eq!(managers(&map.metadata), ["muster"]);
    Ok(())
}

/// The same came back when managedFields were reset, the advice of the time: then the API server attributes all there
/// is to `before-first-apply`, and nothing can be removed again.
#[tokio::test]
async fn who_reset_managed_fields_as_advised_could_not_remove_fields_either() -> Result<()> {
    let bed = bed("accident-reset").await?;
    let with = |value: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": value});
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[with(json!({"value": "1", "leaves": "1"}))],
        )?],
    )
    .await?;
    bed.synced("shop").await?;
    let reset = json!({"metadata": {"managedFields": [{}]}});
    bed.maps()
        .patch("a", &manager("kubectl"), &Patch::Merge(&reset))
        .await?;
    wait::until(
        "the object is ours again, and ours alone",
        PATIENCE,
        async || {
            let found = managers(&bed.maps().get_metadata("a").await?.metadata);
            ensure!(found == ["muster"], "{found:?}");
            Ok(())
        },
    )
    .await?;
    bed.accept(
        2,
        vec![application(
            "shop",
            bed.settings(),
            &[with(json!({"value": "1"}))],
        )?],
    )
    .await?;
    wait::until("the key is gone", PATIENCE, async || {
        let keys: Vec<String> = bed
            .maps()
            .get("a")
            .await?
            .data
            .unwrap_or_default()
            .into_keys()
            .collect();
        ensure!(keys == ["value"], "{keys:?}");
        Ok(())
    })
    .await
}

async fn scale(bed: &Bed, name: &str, who: &str, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = bed.api();
    let patch = json!({"spec": {"replicas": replicas}});
    deployments
        .patch_scale(name, &manager(who), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

async fn replicas(bed: &Bed, name: &str) -> Result<i32> {
    let deployments: Api<Deployment> = bed.api();
    let spec = deployments.get(name).await?.spec;
    spec.replicas.context("no replicas")
}

fn sized(name: &str, replicas: Option<i32>) -> Value {
    let mut deployment = stuck(name);
    if let Some(replicas) = replicas {
        deployment["spec"]["replicas"] = json!(replicas);
    }
    deployment
}

/// kubernetes/kubernetes#67135: an apply set the replicas of a Deployment back while an autoscaler ran it, and a shop
/// at fifty Pods had one. What a scaler set stays, when Git says another number, says none any more, or something else
/// of the object changes; and it is no drift.
#[tokio::test]
async fn an_apply_took_the_pods_away_that_an_autoscaler_had_added() -> Result<()> {
    let bed = bed("accident-67135").await?;
    let deployments: Api<Deployment> = bed.api();
    let mut before = sized("was-kubectl", Some(2));
    before["metadata"]["namespace"] = json!(bed.namespace);
    kubectl_apply(&deployments, &before).await?;
    let objects = [sized("web", Some(2)), sized("was-kubectl", None)];
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    // Git states no number, kubectl did: it is not reset to 1 by being taken over.
    assert_eq!(replicas(&bed, "was-kubectl").await?, 2);

    scale(&bed, "web", "kube-controller-manager", 50).await?;
    // Events of a kind come in order: who made this one anew has seen the autoscaler's write, too.
    let other = deployments.get("was-kubectl").await?.metadata.uid;
    deployments
        .delete("was-kubectl", &kube::api::DeleteParams::default())
        .await?;
    wait::until("the other one is back", PATIENCE, async || {
        let found = deployments.get("was-kubectl").await?.metadata.uid;
        ensure!(found != other);
        Ok(())
    })
    .await?;
    let mut changed = sized("web", Some(3));
    changed["metadata"]["labels"] = json!({"new": "label"});
    bed.accept(
        2,
        vec![application(
            "shop",
            bed.settings(),
            &[changed, objects[1].clone()],
        )?],
    )
    .await?;
    wait::until("the label is applied", PATIENCE, async || {
        let labels = deployments.get_metadata("web").await?.metadata.labels;
        ensure!(labels.unwrap_or_default().contains_key("new"));
        Ok(())
    })
    .await?;
    let row = bed.synced("shop").await?;
    assert_eq!((row.objects, row.synced), (2, 2));
    assert_eq!(replicas(&bed, "web").await?, 50);

    // A person at kubectl is no autoscaler: that is drift, and repaired.
    let hand = bed.object("web", |row| row.last_drift.is_some());
    scale(&bed, "web", "kubectl", 7).await?;
    let row = hand.await?;
    let drift = row.last_drift.context("no drift")?;
    assert_eq!(
        (drift.fields, drift.manager.as_str()),
        (vec![".spec.replicas".to_owned()], "kubectl")
    );
    wait::until("Git's number is back", PATIENCE, async || {
        let found = replicas(&bed, "web").await?;
        ensure!(found == 3, "{found}");
        Ok(())
    })
    .await
}

/// The same in the instant between the autoscaler's write and the news of it: what is applied holds for the state that
/// was seen, and for no other.
#[tokio::test]
async fn a_commit_in_the_same_instant_took_the_autoscalers_pods_away() -> Result<()> {
    let cluster = real::shared("one").await?;
    let proxy = Proxy::start(&cluster).await?;
    proxy.blind(true);
    let bed = bed_with(cluster, proxy.client().await?, "accident-instant").await?;
    let deployments: Api<Deployment> = bed.api();
    let state = |replicas: i32, label: &str| {
        let labelled = |name: &str| {
            let mut deployment = sized(name, Some(replicas));
            deployment["metadata"]["labels"] = json!({"version": label});
            deployment
        };
        application("shop", bed.settings(), &[labelled("web"), labelled("gone")])
    };
    bed.accept(1, vec![state(2, "1")?]).await?;
    bed.row("shop", |row| row.synced == 2).await?;
    scale(&bed, "web", "kube-controller-manager", 50).await?;
    // An object that is not there any more has no version.
    let gone = kube::api::DeleteParams::default();
    deployments.delete("gone", &gone).await?;
    bed.accept(2, vec![state(3, "2")?]).await?;
    for (name, replicas) in [("web", 50), ("gone", 3)] {
        let found = wait::until("the label is applied", PATIENCE, async || {
            let found = deployments.get(name).await?;
            let labels = found.metadata.labels.clone().unwrap_or_default();
            ensure!(labels.get("version").is_some_and(|it| it == "2"));
            Ok(found)
        })
        .await?;
        assert_eq!(found.spec.replicas, Some(replicas), "{name}");
    }
    proxy.blind(false);
    bed.row("shop", |row| row.synced == 2).await?;
    assert_eq!(replicas(&bed, "web").await?, 50);
    Ok(())
}

/// fluxcd/flux2#2526: `kubectl rollout restart` was undone, because its mark on the Pod template was taken over like
/// an edit, and all Pods were rolled a second time.
#[tokio::test]
async fn a_rollout_restart_was_undone_and_all_pods_were_rolled_again() -> Result<()> {
    let bed = bed("accident-2526").await?;
    let deployments: Api<Deployment> = bed.api();
    bed.accept(
        1,
        vec![application("shop", bed.settings(), &[stuck("web")])?],
    )
    .await?;
    bed.synced("shop").await?;
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    deployments
        .patch(
            "web",
            &manager("kubectl-rollout"),
            &Patch::Strategic(&restart),
        )
        .await?;
    let restarted = deployments.get("web").await?.metadata.generation;
    // The next commit touches the object, and the restart stays.
    let mut changed = stuck("web");
    changed["metadata"]["labels"] = json!({"new": "label"});
    bed.accept(2, vec![application("shop", bed.settings(), &[changed])?])
        .await?;
    wait::until("the label is there", PATIENCE, async || {
        let web = deployments.get_metadata("web").await?;
        ensure!(web.metadata.labels.unwrap_or_default().contains_key("new"));
        Ok(())
    })
    .await?;
    let web = deployments.get("web").await?;
    assert_eq!(web.metadata.generation, restarted);
    let template = web.spec.template.metadata.context("no metadata")?;
    assert_eq!(
        template.annotations.unwrap_or_default()["kubectl.kubernetes.io/restartedAt"],
        "now"
    );
    Ok(())
}

/// kubernetes/kubernetes#108008: keys of `stringData` that left Git stayed in the Secret, because the server stores
/// `data` and the applier owns `stringData`. We apply `data`.
#[tokio::test]
async fn a_password_that_left_git_stayed_in_the_secret() -> Result<()> {
    let bed = bed("accident-108008").await?;
    let secret = |keys: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": keys});
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[secret(json!({"user": "a", "old": "x"}))],
        )?],
    )
    .await?;
    bed.synced("shop").await?;
    bed.accept(
        2,
        vec![application(
            "shop",
            bed.settings(),
            &[secret(json!({"user": "a"}))],
        )?],
    )
    .await?;
    let secrets: Api<Secret> = bed.api();
    wait::until("the key is gone", PATIENCE, async || {
        let keys: Vec<String> = secrets
            .get("s")
            .await?
            .data
            .unwrap_or_default()
            .into_keys()
            .collect();
        ensure!(keys == ["user"], "{keys:?}");
        Ok(())
    })
    .await
}

/// Two tools that manage one object undo each other for ever, and nobody is told. An object with another tool's mark
/// is left as it is and reported with the tool's name, whatever the adoption policy says.
#[tokio::test]
async fn two_tools_fought_over_an_object_and_nobody_was_told() -> Result<()> {
    let bed = bed("accident-two-tools").await?;
    let marks = [
        (
            "flux",
            json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}),
            "Flux Kustomization shop",
        ),
        (
            "argo",
            json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:x"}}),
            "Argo CD manages it",
        ),
        (
            "helm",
            json!({"annotations": {"meta.helm.sh/release-name": "shop"}}),
            "Helm release shop",
        ),
    ];
    for (name, mark, _) in &marks {
        let mut object = config(name, "theirs");
        object["metadata"]["labels"] = mark["labels"].clone();
        object["metadata"]["annotations"] = mark["annotations"].clone();
        let object: ConfigMap = serde_json::from_value(object)?;
        bed.maps()
            .create(&kube::api::PostParams::default(), &object)
            .await?;
    }
    let objects = marks.each_ref().map(|(name, _, _)| config(name, "ours"));
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    for (name, _, tool) in marks {
        let row = bed
            .object(name, |row| row.sync == SyncStatus::Failed)
            .await?;
        assert!(row.message.contains(tool), "{}", row.message);
        assert_eq!(bed.value(name).await?, "theirs");
    }
    // Nothing of theirs is removed either when it leaves Git.
    bed.accept(2, Vec::new()).await?;
    wait::until("nothing is reported any more", PATIENCE, async || {
        ensure!(bed.engine.rows().borrow().objects().is_empty());
        Ok(())
    })
    .await?;
    for name in ["flux", "argo", "helm"] {
        assert_eq!(bed.value(name).await?, "theirs");
    }
    Ok(())
}

/// What is there already is taken over, or only when that changes nothing, or never: as the application says.
#[tokio::test]
async fn an_object_that_is_there_already_is_adopted_as_its_application_says() -> Result<()> {
    use muster_proto::Adoption;
    let bed = bed("adoption").await?;
    for name in ["always", "equal", "unequal", "never"] {
        let value = if name == "equal" {
            "git"
        } else {
            "there before"
        };
        let mut object = config(name, value);
        object["metadata"]["namespace"] = json!(bed.namespace);
        kubectl_apply(&bed.maps(), &object).await?;
    }
    let one = |name: &str, adoption| {
        let settings = Settings {
            adoption,
            ..bed.settings()
        };
        application(name, settings, &[config(name, "git")])
    };
    bed.accept(
        1,
        vec![
            one("always", Adoption::Always)?,
            one("equal", Adoption::IfEqual)?,
            one("unequal", Adoption::IfEqual)?,
            one("never", Adoption::Never)?,
        ],
    )
    .await?;
    bed.holds("always", "git").await?;
    bed.synced("equal").await?;
    assert_eq!(
        managers(&bed.maps().get("equal").await?.metadata),
        ["muster"]
    );
    for (name, why) in [
        ("unequal", "differs in .data.value"),
        ("never", "adopts nothing"),
    ] {
        let row = bed
            .object(name, |row| row.sync == SyncStatus::Failed)
            .await?;
        assert!(row.message.contains(why), "{}", row.message);
        assert_eq!(bed.value(name).await?, "there before");
    }
    Ok(())
}
