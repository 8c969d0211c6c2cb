//! Objects whose health only the application's rules tell hold up what depends on them.

use muster_proto::{HealthRule, ObjectStatus};

use crate::*;

fn settings(current: Option<&str>) -> Settings {
    let rule = current.map(|current| HealthRule {
        group: String::new(),
        kind: "ConfigMap".into(),
        current: Some(current.into()),
        in_progress: None,
        failed: None,
    });
    Settings {
        health: rule.into_iter().collect(),
        ..Settings::default()
    }
}

fn map(name: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "annotations": annotations}, "data": {"phase": "old"}})
}

async fn waits(engine: &Engine, name: &str) -> Result<ObjectStatus> {
    wait::until(&format!("{name} waits"), PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let row = rows.objects().values().find(|row| row.key.name == name);
        let row = row.ok_or_else(|| anyhow::anyhow!("no row: {rows:?}"))?;
        ensure!(row.message.starts_with("waits for "), "{row:?}");
        Ok(row.clone())
    })
    .await
}

/// Others write it, and it works.
async fn turns(server: &Arc<Server>, name: &str, phase: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let patch = json!({"metadata": {"labels": {"phase": phase}}});
    let controller = PatchParams {
        field_manager: Some("controller".into()),
        ..PatchParams::default()
    };
    maps.patch(name, &controller, &Patch::Merge(&patch)).await?;
    Ok(())
}

#[tokio::test]
async fn what_depends_on_an_object_waits_for_the_rule_of_its_application() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let rule = settings(Some("self.metadata.labels.phase == 'on'"));
    let after = json!({"muster.dev/depends-on": "ConfigMap/base"});
    let objects = [
        map("base", json!({})),
        map("after", after),
        map("last", json!({"muster.dev/stage": "1"})),
    ];
    engine.accept(with_settings(1, &objects, rule)?).await?;
    let row = waits(&engine, "after").await?;
    assert!(row.message.contains("by its health rule"), "{row:?}");
    waits(&engine, "last").await?;
    turns(&server, "base", "on").await?;
    turns(&server, "after", "on").await.ok();
    wait::until("what depends on it follows", PATIENCE, async || {
        turns(&server, "after", "on").await
    })
    .await?;
    wait::until("the next stage follows", PATIENCE, async || {
        turns(&server, "last", "on").await
    })
    .await?;
    synced(&engine, 1).await
}

#[tokio::test]
async fn a_rule_that_comes_with_a_change_of_what_depends_on_its_object_holds_it() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let objects = |value: &str| {
        let mut after = map("after", json!({"muster.dev/depends-on": "ConfigMap/base"}));
        after["data"]["phase"] = json!(value);
        [map("base", json!({})), after]
    };
    engine
        .accept(with_settings(1, &objects("old"), settings(None))?)
        .await?;
    synced(&engine, 1).await?;

    // What was right before is judged anew before anything is built on it.
    for (generation, phase) in [(2, "on"), (3, "off")] {
        let rule = settings(Some(&format!(
            "self.metadata.name == 'after' || self.metadata.labels.phase == '{phase}'"
        )));
        engine
            .accept(with_settings(generation, &objects(phase), rule)?)
            .await?;
        waits(&engine, "after").await?;
        let found = maps.get("after").await?.data.unwrap_or_default();
        ensure!(found["phase"] != phase, "it went ahead");
        turns(&server, "base", phase).await?;
        synced(&engine, generation).await?;
    }
    Ok(())
}

#[tokio::test]
async fn where_a_kind_can_be_watched_no_more_the_last_that_was_seen_counts() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let objects = |value: &str| {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "base"},
            "spec": {"ports": [{"port": 80}]}});
        let mut after = map("after", json!({"muster.dev/depends-on": "Service/base"}));
        after["data"]["phase"] = json!(value);
        [service, after]
    };
    engine
        .accept(with_settings(1, &objects("old"), settings(None))?)
        .await?;
    synced(&engine, 1).await?;
    server.set_fault(Some(Arc::new(|call: &Call| {
        let watches = call.verb == "watch" || call.verb == "list";
        (watches && call.path.contains("/services")).then_some(Fault::Status(403))
    })));
    let rule = HealthRule {
        group: String::new(),
        kind: "Service".into(),
        current: Some("self.metadata.labels.phase == 'on'".into()),
        in_progress: None,
        failed: None,
    };
    let rule = Settings {
        health: vec![rule],
        ..Settings::default()
    };
    engine
        .accept(with_settings(2, &objects("new"), rule)?)
        .await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    wait::until("it goes on", PATIENCE, async || {
        let found = maps.get("after").await?.data.unwrap_or_default();
        ensure!(found["phase"] == "new");
        Ok(())
    })
    .await
}
