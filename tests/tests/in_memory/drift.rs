//! Who changed what behind Git's back: what is told of it, and what it costs to know.

use std::sync::Mutex;

use anyhow::Context as _;
use muster_proto::{Drift, FieldChange, ObjectKey, Timestamp};

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
