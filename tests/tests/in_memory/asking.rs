//! What is asked of a cluster: answered from looks and dry runs beside the engine's own work, in bounded time.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams};
use muster_agent::asking;
use muster_proto::wire::v1;

use crate::*;

fn of_shop() -> v1::Ask {
    v1::Ask {
        id: 7,
        application: "shop".into(),
        ..v1::Ask::default()
    }
}

fn maps(server: &Arc<Server>) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "shop")
}

async fn versions(server: &Arc<Server>) -> Result<Vec<Option<String>>> {
    let all = maps(server).list(&ListParams::default()).await?;
    let versions = all.into_iter().map(|map| map.metadata.resource_version);
    Ok(versions.collect())
}

#[tokio::test]
async fn asking_looks_once_and_tries_once_for_each_object_and_writes_nothing() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 20, 0)?).await?;
    synced(&engine, 1).await?;
    let before = versions(&server).await?;
    let (tried, ledger) = count(&server);
    let answer = asking::answer(engine.clone(), server.client(), of_shop()).await;
    assert_eq!(
        answer,
        v1::Answer {
            id: 7,
            revision: "abc".into(),
            equal: 20,
            ..v1::Answer::default()
        }
    );
    assert_eq!(tried.load(Ordering::SeqCst), 20);
    assert_eq!(ledger.load(Ordering::SeqCst), 0);
    server.set_fault(None);
    assert_eq!(versions(&server).await?, before);
    let other = asking::answer(
        engine,
        server.client(),
        v1::Ask {
            application: "other".into(),
            ..of_shop()
        },
    )
    .await;
    assert_eq!(other.error, "application other is not on this cluster");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_hangs_over_one_object_the_others_are_told_and_the_engine_repairs()
-> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 20, 0)?).await?;
    synced(&engine, 1).await?;
    server.set_fault(Some(Arc::new(|call: &Call| {
        let hangs = call.path.ends_with("/configmaps/c3") && call.verb == "get";
        hangs.then_some(Fault::Late(Duration::from_secs(3600)))
    })));
    let asked = tokio::spawn(asking::answer(engine.clone(), server.client(), of_shop()));
    let by_hand = PatchParams {
        field_manager: Some("kubectl-edit".into()),
        ..PatchParams::default()
    };
    let edit = json!({"data": {"value": "by hand"}});
    maps(&server)
        .patch("c5", &by_hand, &Patch::Merge(&edit))
        .await?;
    wait::until("the edit is undone", PATIENCE, async || {
        let data = maps(&server).get("c5").await?.data.unwrap_or_default();
        ensure!(data["value"] == "old", "{data:?}");
        Ok(())
    })
    .await?;
    let answer = asked.await?;
    assert_eq!(answer.left_out, 1, "{answer:?}");
    // The edited one may have been seen with or without the edit.
    assert_eq!(answer.equal as usize + answer.objects.len(), 19);
    Ok(())
}
