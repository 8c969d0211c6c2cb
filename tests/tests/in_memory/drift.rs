//! Who changed what behind Git's back: what is told of it, and what it costs to know.

use std::sync::Mutex;

use anyhow::Context as _;
use muster_proto::{Additions, Drift, FieldChange, ObjectKey, Timestamp};

use crate::*;

async fn drift_of(engine: &Engine, name: &str, like: impl Fn(&Drift) -> bool) -> Result<Drift> {
    wait::until(&format!("the drift of {name}"), PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let row = rows
            .objects()
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, row)| row);
        let drift = row.and_then(|row| row.last_drift.clone());
        let drift = drift.context("no drift")?;
        ensure!(like(&drift), "{drift:?}");
        Ok(drift)
    })
    .await
}

fn by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.into()),
        ..PatchParams::default()
    }
}

/// A simulated history found it: the edit of a person had been put into our own managedFields entry, the answer was
/// lost, and from then on the wrong value looked as if we had applied it.
#[tokio::test]
async fn an_edit_is_undone_though_the_answer_to_taking_it_over_is_lost() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    server.set_fault(Some(Arc::new(|call: &Call| {
        let of_the_agent = call.path.contains("/configmaps/") && call.manager == "muster";
        (of_the_agent && call.verb == "patch").then_some(Fault::Unanswered)
    })));
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let edit = json!({"data": {"value": "by hand"}});
    maps.patch("c1", &by("kubectl-edit"), &Patch::Merge(&edit))
        .await?;
    wait::until("the edit is undone", PATIENCE, async || {
        let data = maps.get("c1").await?.data.unwrap_or_default();
        ensure!(data["value"] == "old", "{data:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_drift_tells_both_values_the_manager_and_when_and_costs_one_look() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = calls.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let of_objects = call.path.contains("/configmaps/") && call.manager != "night-shift";
        if of_objects {
            heard.lock().expect("whole").push(call.verb.to_owned());
        }
        None
    })));
    let before = jiff::Timestamp::now().as_second() * 1000;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let edit = json!({"data": {"value": "by hand"}});
    maps.patch("c1", &by("night-shift"), &Patch::Merge(&edit))
        .await?;
    let drift = drift_of(&engine, "c1", |drift| drift.repaired_at.is_some()).await?;
    assert_eq!((drift.manager.as_str(), drift.count), ("night-shift", 1));
    assert_eq!(
        drift.changes,
        [FieldChange {
            path: ".data.value".into(),
            desired: Some("\"old\"".into()),
            live: Some("\"by hand\"".into()),
        }]
    );
    assert!(drift.at >= Timestamp(before) && Some(drift.at) <= drift.repaired_at);
    assert_eq!(*calls.lock().expect("whole"), ["get", "apply"]);

    // A value that was taken out has none.
    let removal = json!({"data": {"value": null}});
    maps.patch("c1", &by("night-shift"), &Patch::Merge(&removal))
        .await?;
    let drift = drift_of(&engine, "c1", |drift| {
        drift.count == 2 && drift.repaired_at.is_some()
    })
    .await?;
    assert_eq!(drift.changes[0].live, None);
    Ok(())
}

#[tokio::test]
async fn what_happened_at_three_in_the_morning_is_still_told_after_restarts_and_commits()
-> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 3, 0)?).await?;
    synced(&engine, 1).await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let edit = json!({"data": {"value": "by hand"}});
    maps.patch("c2", &by("night-shift"), &Patch::Merge(&edit))
        .await?;
    let told = drift_of(&engine, "c2", |drift| drift.repaired_at.is_some()).await?;
    engine.accept(desired(2, 3, 1)?).await?;
    synced(&engine, 2).await?;
    engine.stop(engine::Stop::Because("restarted".into())).await;
    let engine = start(&server, "second").await?;
    let rows = engine.rows().borrow().clone();
    let key = ObjectKey {
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: "shop".into(),
        name: "c2".into(),
    };
    assert_eq!(rows.objects()[&key].last_drift, Some(told));
    Ok(())
}

#[tokio::test]
async fn values_of_a_secret_are_in_no_drift() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"},
        "stringData": {"password": "hunter2"}});
    let object = Arc::new(Object::new(&secret, &DigestKey::new([5; 32]))?);
    let settings = Settings::default();
    let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, vec![object]);
    let state = Desired::new(1, vec![Arc::new(shop)], Removals::Released, Vec::new());
    engine.accept(state).await?;
    synced(&engine, 1).await?;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(server.client(), "shop");
    let edit = json!({"stringData": {"password": "hunter3"}});
    secrets
        .patch("s", &by("night-shift"), &Patch::Merge(&edit))
        .await?;
    let drift = drift_of(&engine, "s", |drift| drift.repaired_at.is_some()).await?;
    let masked = Some("(secret)".to_owned());
    assert_eq!(
        drift.changes,
        [FieldChange {
            path: ".data.password".into(),
            desired: masked.clone(),
            live: masked,
        }]
    );
    Ok(())
}

/// One application of one ConfigMap, which does with additions as it says.
fn shop(generation: u64, additions: Additions) -> Result<Desired> {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"value": "old"}});
    let object = Arc::new(Object::new(&body, &DigestKey::new([5; 32]))?);
    let settings = Settings {
        namespace: "shop".into(),
        additions,
        ..Settings::default()
    };
    let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, vec![object]);
    let shop = vec![Arc::new(shop)];
    Ok(Desired::new(
        generation,
        shop,
        Removals::Released,
        Vec::new(),
    ))
}

#[tokio::test]
async fn what_a_person_adds_is_taken_away_reported_or_left_as_the_application_says() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(shop(1, Additions::Repair)?).await?;
    synced(&engine, 1).await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let add = async |manager: &str, key: &str| {
        let addition = json!({"data": {key: "added"}});
        maps.patch("c", &by(manager), &Patch::Merge(&addition))
            .await?;
        anyhow::Ok(())
    };
    // What no person wrote stays.
    add("some-controller", "of-a-controller").await?;
    add("kubectl-edit", "by-hand").await?;
    let drift = drift_of(&engine, "c", |drift| drift.repaired_at.is_some()).await?;
    assert_eq!(
        (drift.kind, drift.manager.as_str()),
        (muster_proto::DriftKind::Added, "kubectl-edit")
    );
    assert_eq!(
        drift.changes,
        [FieldChange {
            path: ".data.by-hand".into(),
            desired: None,
            live: Some("\"added\"".into()),
        }]
    );
    let keys = async || {
        let data = maps.get("c").await?.data.unwrap_or_default();
        anyhow::Ok(data.into_keys().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(keys().await?, "of-a-controller value");

    engine.accept(shop(2, Additions::Report)?).await?;
    synced(&engine, 2).await?;
    let (objects, _) = count(&server);
    add("kubectl-patch", "shown").await?;
    objects.store(0, Ordering::SeqCst);
    let drift = drift_of(&engine, "c", |drift| drift.count == 2).await?;
    assert_eq!(drift.fields, [".data.shown"]);
    assert_eq!(drift.repaired_at, None);
    assert_eq!(keys().await?, "of-a-controller shown value");
    assert_eq!(objects.load(Ordering::SeqCst), 0);

    engine.accept(shop(3, Additions::Ignore)?).await?;
    add("kubectl-edit", "left-alone").await?;
    synced(&engine, 3).await?;
    assert_eq!(keys().await?, "left-alone of-a-controller shown value");

    // What was let be goes when the application says so, without any event of it.
    engine.accept(shop(4, Additions::Repair)?).await?;
    wait::until("it is taken away", PATIENCE, async || {
        ensure!(keys().await? == "of-a-controller value");
        Ok(())
    })
    .await
}

/// Only the values tell: our managedFields entry stays as it is.
#[tokio::test]
async fn what_somebody_writes_under_our_name_is_put_right_where_the_whole_is_seen() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(with_workload(1)?).await?;
    synced(&engine, 1).await?;
    let deployments: Api<Deployment> = Api::namespaced(server.client(), "shop");
    let mut body = workload();
    body["metadata"]["labels"] = json!({"muster.dev/application": "shop"});
    body["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.invalid/app:2");
    let ours = PatchParams::apply("muster").force();
    deployments
        .patch("web", &ours, &Patch::Apply(&body))
        .await?;
    let drift = drift_of(&engine, "web", |drift| drift.repaired_at.is_some()).await?;
    assert_eq!((drift.manager.as_str(), drift.count), ("muster", 1));
    let image = ".spec.template.spec.containers[name=\"main\"].image";
    assert_eq!(drift.fields, [image]);
    let found = serde_json::to_value(deployments.get("web").await?)?;
    let image = &found["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.invalid/app:1");
    Ok(())
}
