//! A ledger that can't be written: nothing is applied that it does not hold, and rows say so.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};

use crate::*;

#[tokio::test]
async fn an_object_whose_kind_comes_later_waits_until_it_can_be_written_down() -> Result<()> {
    let server = Server::new(Options::default());
    let engine = start(&server, "first").await?;
    let cart = json!({"apiVersion": "shop.io/v1", "kind": "Cart", "metadata": {"name": "c"}, "spec": {"size": 1}});
    engine.accept(holding(1, &[cart])?).await?;
    server.set_fault(Some(Arc::new(|call: &Call| {
        let ledger = call.writes() && call.path.contains("muster-ledger");
        ledger.then_some(Fault::Status(403))
    })));
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({"metadata": {"name": "carts.shop.io"},
        "spec": {"group": "shop.io", "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client());
    let definition = serde_json::from_value(definition)?;
    definitions
        .create(&PostParams::default(), &definition)
        .await?;
    wait::until("it says what it waits for", PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let waits = "waits for the agent: its ledger can't be written: ";
        let mut rows = rows.objects().values();
        ensure!(rows.any(|row| row.message.starts_with(waits)), "{rows:?}");
        Ok(())
    })
    .await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("shop.io", "v1", "Cart"));
    let carts: Api<DynamicObject> = Api::namespaced_with(server.client(), "shop", &kind);
    ensure!(carts.get_opt("c").await?.is_none(), "it was applied");

    server.set_fault(None);
    synced(&engine, 1).await?;
    ensure!(carts.get_opt("c").await?.is_some());
    Ok(())
}
