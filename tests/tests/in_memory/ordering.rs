//! Order among many objects, with every call looked at.

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use muster_agent::engine::Engine;
use muster_proto::{
    Desired, DesiredApplication, DigestKey, Object, ObjectStatus, Removals, Settings, SyncStatus,
};
use muster_tests::memory::{Call, Options, Server};
use muster_tests::wait;
use serde_json::{Value, json};

use crate::{PATIENCE, holding, start, synced};

const EACH: usize = 300;

#[tokio::test]
async fn no_object_of_a_stage_is_applied_before_all_of_the_stage_before_however_many() -> Result<()>
{
    let server = Server::new(Options::default());
    let key = DigestKey::new([5; 32]);
    // The later stage has the names that come first.
    let object = |(stage, name): (usize, String)| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name,
            "annotations": {"muster.dev/stage": stage.to_string()}}});
        Ok(Arc::new(Object::new(&body, &key)?))
    };
    let late = (0..EACH).map(|n| (1, format!("a{n}")));
    let early = (0..EACH).map(|n| (0, format!("b{n}")));
    let objects = late.chain(early).map(object).collect::<Result<_>>()?;
    let settings = Settings {
        namespace: "shop".into(),
        ..Settings::default()
    };
    let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, objects);

    let engine = start(&server, "first").await?;
    let applied: Arc<Mutex<Vec<String>>> = Arc::default();
    let calls = applied.clone();
    server.set_fault(Some(Arc::new(move |call: &Call| {
        if call.verb == "apply" && call.path.contains("/configmaps/") {
            let name = call.path.rsplit('/').next().unwrap_or_default();
            calls.lock().expect("nobody panics").push(name.to_owned());
        }
        None
    })));
    let desired = Desired::new(1, vec![Arc::new(shop)], Removals::Released, Vec::new());
    engine.accept(desired).await?;
    synced(&engine, 1).await?;
    let applied = applied.lock().expect("nobody panics");
    let first_late = applied.iter().position(|name| name.starts_with('a'));
    let last_early = applied.iter().rposition(|name| name.starts_with('b'));
    ensure!(first_late > last_early, "{first_late:?} {last_early:?}");
    Ok(())
}

/// The row of the object of this name, when it says this.
async fn says(engine: &Engine, name: &str, part: &str) -> Result<ObjectStatus> {
    wait::until(&format!("{name} says {part}"), PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let row = rows.objects().values().find(|row| row.key.name == name);
        let row = row.ok_or_else(|| anyhow::anyhow!("no row: {rows:?}"))?;
        ensure!(row.message.contains(part), "{row:?}");
        Ok(row.clone())
    })
    .await
}

fn map(name: &str, value: &str, annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "annotations": annotations}, "data": {"value": value}})
}

#[tokio::test]
async fn a_change_that_can_not_be_ordered_holds_what_depends_on_it_also_where_it_was_applied_before()
-> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let state = |generation, value: &str, base: &Value| {
        let after = json!({"muster.dev/depends-on": "ConfigMap/base"});
        holding(
            generation,
            &[map("base", value, base), map("after", value, &after)],
        )
    };
    engine.accept(state(1, "1", &json!({}))?).await?;
    synced(&engine, 1).await?;

    let wrong = json!({"muster.dev/depends-on": "ConfigMap/nobody"});
    engine.accept(state(2, "2", &wrong)?).await?;
    says(&engine, "base", "names ConfigMap/nobody").await?;
    let row = says(
        &engine,
        "after",
        "waits for ConfigMap shop/base, which is not applied",
    )
    .await?;
    assert_eq!(row.sync, SyncStatus::Progressing);
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    let data = maps.get("after").await?.data.unwrap_or_default();
    assert_eq!(data["value"], "1");

    engine.accept(state(3, "3", &json!({}))?).await?;
    synced(&engine, 3).await
}

#[tokio::test]
async fn an_operator_stays_as_long_as_its_resources_wait_for_a_word_to_go() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let key = DigestKey::new([5; 32]);
    let application = |name: &str, objects: &[Value]| {
        let settings = Settings {
            namespace: "shop".into(),
            ..Settings::default()
        };
        let object = |body: &Value| Ok(Arc::new(Object::new(body, &key)?));
        let objects = objects.iter().map(object).collect::<Result<_>>()?;
        let application = DesiredApplication::new(name.parse()?, "abc".into(), settings, objects);
        anyhow::Ok(Arc::new(application))
    };
    let state = |generation, applications| {
        Desired::new(generation, applications, Removals::Released, Vec::new())
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "carts.shop.io"},
        "spec": {"group": "shop.io", "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let cart = |n: usize| json!({"apiVersion": "shop.io/v1", "kind": "Cart", "metadata": {"name": format!("c{n}")}});
    let carts: Vec<Value> = (0..14).map(cart).collect();
    let operator = [definition, map("operator", "1", &json!({}))];
    let both = vec![
        application("operator", &operator)?,
        application("shop", &carts)?,
    ];
    engine.accept(state(1, both)).await?;
    synced(&engine, 1).await?;

    engine
        .accept(state(2, vec![application("shop", &carts[..2])?]))
        .await?;
    says(&engine, "c13", "muster approve shop").await?;
    says(&engine, "operator", "waits for Cart.shop.io shop/c").await?;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "shop");
    maps.get("operator").await?;

    // Put back, they have no say in what becomes of the operator.
    engine
        .accept(state(3, vec![application("shop", &carts)?]))
        .await?;
    wait::until("the operator is gone", PATIENCE, async || {
        ensure!(maps.get_opt("operator").await?.is_none());
        Ok(())
    })
    .await
}
