//! An aggregated API that is down: the API server can't say which kinds it has, and nothing of them can be read.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::SyncStatus;
use muster_tests::cluster::real;
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{Bed, application, config};
use super::{Noted, PATIENCE};

/// An API that a Service without any Pod stands for.
fn nobody_answers(group: &str) -> Result<APIService> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("v1.{group}")},
        "spec": {"group": group, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "nobody"}}}))?)
}

/// Waits until the API server has noticed.
async fn is_down(bed: &Bed, group: &str) -> Result<()> {
    wait::until(&format!("{group} is down"), PATIENCE, async || {
        let version = format!("{group}/v1");
        let asked = bed.client.list_api_group_resources(&version).await;
        ensure!(asked.is_err(), "it answers");
        Ok(())
    })
    .await
}

fn carts(bed: &Bed, group: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(group, "v1", "Cart");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "carts");
    Api::namespaced_with(bed.client.clone(), &bed.namespace, &resource)
}

/// Somebody else's API is down while an agent works: what has nothing to do with it goes on, only what the API server
/// itself can't do without it waits, and says for what.
#[tokio::test]
async fn an_api_that_is_down_stops_nobody_and_loses_nothing() -> Result<()> {
    let cluster = real::start("aggregated").await?;
    let mut noted = Noted::start(cluster, "shapes-down").await?;
    let services: Api<APIService> = Api::all(noted.bed.client.clone());
    let group = "carts.example.com";
    let tools = "tools.example.com";
    let definition = |group: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("carts.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
    };
    let definitions: Api<CustomResourceDefinition> = Api::all(noted.bed.client.clone());
    let cart = |name: &str, n: u32| json!({"apiVersion": format!("{group}/v1"), "kind": "Cart", "metadata": {"name": name}, "spec": {"n": n}});
    let inner = format!("{}-inner", noted.bed.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner}});
    let settings = noted.bed.settings();
    let shop = |objects: &[Value]| application("shop", settings.clone(), objects);
    let other = |value: &str| {
        let objects = [config("a", value), config("b", "1")];
        application("other", settings.clone(), &objects)
    };
    let all = [definition(group), cart("stays", 1), cart("goes", 1)];
    let rooms = application("rooms", settings.clone(), &[namespace])?;
    let kinds = application("tools", settings.clone(), &[definition(tools)])?;
    noted
        .bed
        .accept(1, vec![shop(&all)?, other("1")?, rooms, kinds])
        .await?;
    noted.synced("shop", 3).await?;
    noted.synced("other", 2).await?;
    noted.synced("rooms", 1).await?;
    noted.synced("tools", 1).await?;
    let uid = carts(&noted.bed, group).get("stays").await?.metadata.uid;

    // The APIs of the definitions are another's now, who does not answer; and so is one that nobody here uses.
    for group in [group, tools] {
        let (name, service) = (format!("v1.{group}"), nobody_answers(group)?);
        wait::until("the API is another's", PATIENCE, async || {
            // The one of the definition comes back by itself.
            let _ = services.delete(&name, &DeleteParams::default()).await;
            services.create(&PostParams::default(), &service).await?;
            Ok(())
        })
        .await?;
    }
    let foreign = nobody_answers("metrics.example.com")?;
    services.create(&PostParams::default(), &foreign).await?;
    is_down(&noted.bed, group).await?;
    is_down(&noted.bed, tools).await?;

    let rest = [definition(group), cart("stays", 2)];
    noted.bed.accept(2, vec![shop(&rest)?, other("2")?]).await?;
    noted.bed.holds("a", "2").await?;
    noted.bed.edit("b", "by hand").await?;
    noted.bed.holds("b", "1").await?;
    // Also an agent that starts now, and knows no kind yet.
    noted.restart().await?;
    noted.bed.accept(3, vec![shop(&rest)?, other("3")?]).await?;
    noted.bed.holds("a", "3").await?;
    let rows = wait::until("it is said what waits", PATIENCE, async || {
        let rows = noted.bed.engine.rows().borrow().clone();
        let shop = rows.applications().get("shop").context("no row")?;
        ensure!(shop.sync == SyncStatus::Failed, "{rows:?}");
        let rooms = rows.applications().get("rooms").context("no row")?;
        ensure!(!rooms.message.is_empty() && rooms.waiting == 1, "{rows:?}");
        let tools = rows.applications().get("tools").context("no row")?;
        ensure!(!tools.message.is_empty() && tools.waiting == 1, "{rows:?}");
        Ok(rows)
    })
    .await?;
    let unread = "the kinds of carts.example.com/v1 can't be read: service unavailable (503";
    assert!(
        rows.applications()["shop"].message.contains(unread),
        "{rows:?}"
    );
    assert!(
        rows.applications()["rooms"]
            .message
            .contains("example.com/v1 can't be read"),
        "{rows:?}"
    );
    assert!(
        rows.applications()["tools"]
            .message
            .contains("can't be read"),
        "{rows:?}"
    );
    assert_eq!(rows.applications()["other"].sync, SyncStatus::Synced);
    ensure!(
        definitions
            .get_opt(&format!("carts.{tools}"))
            .await?
            .is_some(),
        "it was not sure"
    );
    let namespaces: Api<Namespace> = Api::all(noted.bed.client.clone());
    let found = namespaces.get(&inner).await?;
    ensure!(
        found.metadata.deletion_timestamp.is_none(),
        "it was not sure"
    );

    // They are back, and nobody commits anything.
    for group in ["metrics.example.com", group, tools] {
        let name = format!("v1.{group}");
        services.delete(&name, &DeleteParams::default()).await?;
    }
    noted.synced("shop", 2).await?;
    let found = carts(&noted.bed, group).get("stays").await?;
    assert_eq!(found.metadata.uid, uid);
    assert_eq!(found.data["spec"]["n"], 2);
    wait::until("what left goes", PATIENCE, async || {
        let cart = carts(&noted.bed, group).get_opt("goes").await?;
        let rows = noted.bed.engine.rows().borrow().clone();
        ensure!(cart.is_none(), "{rows:?}");
        ensure!(namespaces.get_opt(&inner).await?.is_none(), "{rows:?}");
        let definition = definitions.get_opt(&format!("carts.{tools}")).await?;
        ensure!(definition.is_none(), "{rows:?}");
        Ok(())
    })
    .await
}
