//! What an object is made of that can't be changed and is made anew.

use muster_proto::IgnoreRule;

use crate::*;

fn deployment(app: &str, replicas: Option<i32>) -> Value {
    let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"paused": false, "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": {"app": app}},
                "spec": {"containers": [{"name": "main", "image": "registry.invalid/app:1"}]}}}});
    if let Some(replicas) = replicas {
        deployment["spec"]["replicas"] = json!(replicas);
    }
    deployment
}

fn by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.into()),
        ..PatchParams::default()
    }
}

/// An object that is made anew is a new one: what others wrote into ignored fields of the old one is not carried over.
/// What an autoscaler runs keeps its number, whether Git states one or none.
#[tokio::test]
async fn an_object_made_anew_is_as_git_states_it_with_the_replicas_that_ran() -> Result<()> {
    for replicas in [None, Some(2)] {
        let server = Server::new(Options::default());
        let engine = start(&server, "first").await?;
        let settings = Settings {
            replace: true,
            ignore: vec![IgnoreRule {
                group: Some("apps".into()),
                kind: Some("Deployment".into()),
                json_pointers: vec!["/spec/paused".into()],
                ..IgnoreRule::default()
            }],
            ..Settings::default()
        };
        let wanted = |generation, app| {
            with_settings(generation, &[deployment(app, replicas)], settings.clone())
        };
        engine.accept(wanted(1, "old")?).await?;
        synced(&engine, 1).await?;
        let deployments: Api<Deployment> = Api::namespaced(server.client(), "shop");
        let before = deployments.get("web").await?.metadata.uid;
        let paused = json!({"spec": {"paused": true}});
        deployments
            .patch("web", &by("tool"), &Patch::Merge(&paused))
            .await?;
        let scaled = json!({"spec": {"replicas": 7}});
        deployments
            .patch_scale(
                "web",
                &by("kube-controller-manager"),
                &Patch::Merge(&scaled),
            )
            .await?;
        engine.accept(wanted(2, "new")?).await?;
        synced(&engine, 2).await?;
        let after = deployments.get("web").await?;
        assert_ne!(after.metadata.uid, before);
        let spec = after.spec;
        assert_eq!(
            (spec.paused.unwrap_or_default(), spec.replicas),
            (false, Some(7))
        );
    }
    Ok(())
}
