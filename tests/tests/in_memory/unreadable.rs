//! A ledger whose root can't be read, beside parts that are whole: it counts as damaged until what is ours was found
//! again, whatever happens to the agent meanwhile.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use tokio::task::JoinHandle;

use crate::*;

const ROOT: &str = "muster-ledger";

#[tokio::test]
async fn an_unreadable_root_is_damage_until_all_is_found_again_and_its_parts_stay_until_then()
-> Result<()> {
    let server = Server::new(Options::default());
    let secrets = with_unreadable_root(&server).await?;

    // The first agent is killed after its first write.
    let (opened, mut wrote) = tokio::sync::watch::channel(false);
    server.set_fault(Some(Arc::new(move |call: &Call| {
        let ledger = call.writes() && call.path.contains("/muster-system/secrets");
        if *opened.borrow() {
            return Some(Fault::Undelivered);
        }
        opened.send_replace(ledger);
        None
    })));
    let first = run(&server, "first")?;
    tokio::time::timeout(PATIENCE, wrote.wait_for(|wrote| *wrote)).await??;
    end(first).await;

    // Others can't look at everything.
    for instance in ["second", "third"] {
        server.set_fault(Some(Arc::new(|call: &Call| {
            let all = call.verb == "list" && call.path == "/api/v1/configmaps";
            all.then_some(Fault::Status(500))
        })));
        let (engine, task) = run(&server, instance)?;
        engine.loaded().await.map_err(anyhow::Error::msg)?;
        let (damaged, parts) = ledger(&secrets).await?;
        ensure!(damaged.is_some(), "{instance} takes it for whole");
        ensure!(parts.contains("muster-ledger-left"), "{instance}");
        // What is accepted meanwhile is kept, and puts nothing right.
        let generation = engine.held().borrow().generation + 1;
        engine.accept(desired(generation, 2, 0)?).await?;
        synced(&engine, generation).await?;
        let (damaged, parts) = ledger(&secrets).await?;
        ensure!(damaged.is_some(), "{instance} makes it whole");
        ensure!(
            parts.contains("muster-ledger-left"),
            "{instance}: {parts:?}"
        );
        end((engine, task)).await;
    }

    server.set_fault(None);
    let _engine = start(&server, "last").await?;
    wait::until(
        "it is whole, and nothing is left over",
        PATIENCE,
        async || {
            let (damaged, parts) = ledger(&secrets).await?;
            ensure!(damaged.is_none(), "{damaged:?}");
            ensure!(!parts.contains("muster-ledger-left"), "{parts:?}");
            Ok(())
        },
    )
    .await
}

async fn with_unreadable_root(server: &Arc<Server>) -> Result<Api<Secret>> {
    let namespaces: Api<Namespace> = Api::all(server.client());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "muster-system"}}))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let secrets: Api<Secret> = Api::namespaced(server.client(), "muster-system");
    for (name, key) in [(ROOT, "root"), ("muster-ledger-left", "shard")] {
        let secret = json!({"metadata": {"name": name, "labels": {"muster.dev/ledger": key}},
            "type": "muster.dev/ledger", "data": {key: ByteString(b"{}".to_vec())}});
        let secret = serde_json::from_value(secret)?;
        secrets.create(&PostParams::default(), &secret).await?;
    }
    Ok(secrets)
}

/// What the root says is damaged, and the parts that are there.
async fn ledger(secrets: &Api<Secret>) -> Result<(Option<String>, BTreeSet<String>)> {
    let data = secrets.get(ROOT).await?.data.unwrap_or_default();
    let root: Value = serde_json::from_slice(&data["root"].0)?;
    let damaged = root["damaged"].as_str().map(str::to_owned);
    let parts = ListParams::default().labels("muster.dev/ledger=shard");
    let parts = secrets.list(&parts).await?.into_iter();
    Ok((damaged, parts.map(|part| part.name_any()).collect()))
}

fn run(server: &Arc<Server>, instance: &str) -> Result<(Engine, JoinHandle<()>)> {
    let (engine, task) = engine::start(server.client(), options(instance)?);
    Ok((engine, tokio::spawn(task)))
}

/// As a killed process ends.
async fn end((engine, task): (Engine, JoinHandle<()>)) {
    task.abort();
    // Cancelled, as was asked for.
    let _ = task.await;
    drop(engine);
}
