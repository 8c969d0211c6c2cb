//! Another agent took the cluster, and the watch that would tell is cut off: nothing more is repaired.

use std::sync::Mutex;

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use muster_agent::engine::Standing;

use crate::*;

/// Every write from now on; the watch of the ledger may be cut off.
fn listen_to_writes(server: &Server, cut: bool) -> Arc<Mutex<Vec<String>>> {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = calls.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        if cut && call.verb == "watch" && call.path.contains("/muster-system/secrets") {
            return Some(Fault::Status(500));
        }
        if call.writes() {
            let call = format!("{} {}", call.verb, call.path);
            heard.lock().expect("nobody panics with it").push(call);
        }
        None
    })));
    calls
}

async fn by_hand(maps: &Api<ConfigMap>, name: &str) -> Result<()> {
    let edit = Patch::Merge(json!({"data": {"value": "by hand"}}));
    maps.patch(name, &PatchParams::default(), &edit).await?;
    Ok(())
}

#[tokio::test]
async fn a_repair_asks_first_whose_the_cluster_is_and_leaves_it_to_the_other() -> Result<()> {
    let server = Server::new(Options::default());
    listen_to_writes(&server, true);
    let engine = start(&server, "first").await?;
    engine.accept(desired(1, 2, 0)?).await?;
    synced(&engine, 1).await?;
    let secrets: Api<Secret> = Api::namespaced(server.client(), "muster-system");
    // What the state costs is written down, so nothing else will find out.
    wait::until("the ledger is settled", PATIENCE, async || {
        let data = secrets.get("muster-ledger").await?.data.unwrap_or_default();
        ensure!(data.len() > 2, "{:?}", data.keys());
        Ok(())
    })
    .await?;
    let data = secrets.get("muster-ledger").await?.data.unwrap_or_default();
    let mut root: Value = serde_json::from_slice(&data["root"].0)?;
    root["owner"]["instance"] = json!("another");
    let taken = json!({"metadata": {"annotations": {"muster.dev/instance": "another"}},
        "data": {"root": ByteString(serde_json::to_vec(&root)?)}});
    secrets
        .patch(
            "muster-ledger",
            &PatchParams::default(),
            &Patch::Merge(&taken),
        )
        .await?;

    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let mut standing = engine.standing();
    let calls = listen_to_writes(&server, true);
    by_hand(&maps, "c1").await?;
    let stopped = standing.wait_for(|now| matches!(now, Standing::Stopped(_)));
    let stopped = tokio::time::timeout(PATIENCE, stopped).await??.clone();
    let Standing::Stopped(why) = stopped else {
        anyhow::bail!("{stopped:?}");
    };
    assert!(
        why.contains("instance another") && why.contains("run one agent only"),
        "{why}"
    );
    let data = maps.get("c1").await?.data.unwrap_or_default();
    assert_eq!(data["value"], "by hand");
    let calls = calls.lock().expect("nobody panics with it").clone();
    assert!(
        !calls.iter().any(|call| call.starts_with("apply ")),
        "{calls:?}"
    );
    Ok(())
}

#[tokio::test]
async fn to_ask_whose_the_cluster_is_stores_nothing_and_precedes_the_first_repair() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let (_, ledger) = count(&server);
    engine.accept(desired(1, 20, 0)?).await?;
    synced(&engine, 1).await?;
    settled(&ledger).await?;
    let version = || -> Result<u64> {
        let root = server.stored("secrets", "muster-system", "muster-ledger");
        let root = root.context("no root")?;
        let version = root["metadata"]["resourceVersion"].as_str();
        Ok(version.context("no version")?.parse()?)
    };
    let before = version()?;
    let calls = listen_to_writes(&server, false);
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    by_hand(&maps, "c1").await?;
    wait::until(
        "it is repaired, and that is written down",
        PATIENCE,
        async || {
            let calls = calls.lock().expect("nobody panics with it").clone();
            ensure!(calls.len() >= 4, "{calls:?}");
            Ok(())
        },
    )
    .await?;
    let calls = calls.lock().expect("nobody panics with it").clone();
    let map = "/api/v1/namespaces/shop/configmaps/c1";
    let root = "/api/v1/namespaces/muster-system/secrets/muster-ledger";
    let expected = [
        ("patch", map),
        ("patch", root),
        ("apply", map),
        ("patch", root),
    ];
    assert_eq!(calls, expected.map(|(verb, path)| format!("{verb} {path}")));
    // The hand, its repair, and what is written down of it: a fourth would have been stored for the question.
    wait::until("that is stored", PATIENCE, async || {
        ensure!(version()? == before + 3, "{} after {before}", version()?);
        Ok(())
    })
    .await
}
