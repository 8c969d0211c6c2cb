//! Custom resources whose definition has a status that nobody writes: they are waited for for a minute, and no longer.

use crate::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;

/// What the API server makes looks this much older than it is: of the minute two seconds are left, to the second.
const EARLIER: jiff::SignedDuration = jiff::SignedDuration::from_secs(57);

async fn define(server: &Arc<Server>, status: Value) -> Result<()> {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": status}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "carts.shop.io"},
        "spec": {"group": "shop.io", "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": schema}]}});
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    let definition = serde_json::from_value(definition)?;
    definitions
        .create(&PostParams::default(), &definition)
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_nobody_reports_on_is_waited_for_a_minute_and_then_counts_as_working() -> Result<()> {
    let server = Server::new(Options {
        clock: Arc::new(|| jiff::Timestamp::now() - EARLIER),
        ..Options::default()
    });
    define(&server, json!({"type": "object"})).await?;
    let engine = start(&server, "first").await?;
    let cart = json!({"apiVersion": "shop.io/v1", "kind": "Cart", "metadata": {"name": "c"}});
    let after = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after",
        "annotations": {"muster.dev/depends-on": "Cart/c"}}});
    let mut rows = engine.rows();
    engine.accept(holding(1, &[cart, after])?).await?;
    let waited = rows.wait_for(|rows| {
        let mut objects = rows.objects().values();
        objects.any(|row| row.message.contains("has not reported a status yet"))
    });
    tokio::time::timeout(PATIENCE, waited).await??;
    synced(&engine, 1).await?;
    let row = engine.rows().borrow().applications()["shop"].clone();
    assert_eq!((row.health, row.healthy), (HealthStatus::Current, 2));
    Ok(())
}
