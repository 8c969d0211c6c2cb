//! Conformance, second part: deletions and what they entail, dry runs of every write, states that are too old.

use super::{define, dynamic, dynamic_all, make, map, maps, name, refused, same};
use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy, WatchEvent, WatchParams,
};
use serde_json::{Value, json};
use std::pin::pin;
use std::time::Duration;

use crate::wait;

const PATIENCE: Duration = Duration::from_secs(30);

/// A patch may say which state it was made from.
pub async fn a_patch_of_an_old_state_conflicts(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let first = make(&maps, &map("a", json!({"k": "1"}))?).await?;
    let patch = |revision: &Option<String>, value: &str| json!({"metadata": {"resourceVersion": revision}, "data": {"k": value}});
    let parameters = PatchParams::default();
    let old = first.metadata.resource_version;
    let second = maps
        .patch("a", &parameters, &Patch::Merge(patch(&old, "2")))
        .await?;
    for patch in [
        Patch::Merge(patch(&old, "3")),
        Patch::Strategic(patch(&old, "3")),
    ] {
        refused(maps.patch("a", &parameters, &patch).await, 409, "Conflict")?;
    }
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "resourceVersion": old}, "data": {"k": "3"}});
    let parameters = PatchParams::apply("tests").force();
    let late = maps.patch("a", &parameters, &Patch::Apply(&applied)).await;
    refused(late, 409, "Conflict")?;
    same(&maps.get("a").await?, &second)
}

/// `dryRun=All` of create, update, patch and delete.
pub async fn a_dry_run_of_any_write_changes_nothing(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let maps = maps(client, namespace);
    let post = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let seen = maps.create(&post, &map("a", json!({"k": "1"}))?).await?;
    ensure!(seen.metadata.uid.is_some() && seen.metadata.resource_version.is_none());
    refused(maps.get("a").await, 404, "NotFound")?;
    let kept = make(&maps, &map("a", json!({"k": "1"}))?).await?;
    refused(
        maps.create(&post, &map("a", json!({}))?).await,
        409,
        "AlreadyExists",
    )?;
    let mut changed = kept.clone();
    changed.data = Some([("k".to_owned(), "2".to_owned())].into());
    let seen = maps.replace("a", &post, &changed).await?;
    same(&seen.data, &changed.data)?;
    same(
        &seen.metadata.resource_version,
        &kept.metadata.resource_version,
    )?;
    let parameters = PatchParams::default().dry_run();
    let patch = json!({"data": {"k": "3"}});
    let seen = maps.patch("a", &parameters, &Patch::Merge(&patch)).await?;
    same(&serde_json::to_value(seen.data)?, &patch["data"])?;
    let delete = DeleteParams::default().dry_run();
    maps.delete("a", &delete).await?;
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..delete.clone()
    };
    let seen = maps.delete("a", &foreground).await?;
    let dying = seen.left().context("a Status")?;
    ensure!(dying.metadata.deletion_timestamp.is_some());
    maps.delete_collection(&delete, &ListParams::default())
        .await?;
    same(&maps.get("a").await?, &kept)
}

/// Background, which is what most kinds do when not told.
pub async fn dependents_go_after_their_owner(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let owner = make(&maps, &map("owner", json!({}))?).await?;
    let child = make(&maps, &owned("child", &[&owner])?).await?;
    make(&maps, &owned("grandchild", &[&child])?).await?;
    make(&maps, &map("stranger", json!({}))?).await?;
    maps.delete("owner", &DeleteParams::default()).await?;
    refused(maps.get("owner").await, 404, "NotFound")?;
    for gone in ["child", "grandchild"] {
        is_gone(&maps, gone).await?;
    }
    maps.get("stranger").await?;
    Ok(())
}

/// Foreground: the owner stays, marked, until the dependents that block it are gone.
pub async fn dependents_go_before_their_owner_when_asked(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let maps = maps(client, namespace);
    let owner = make(&maps, &map("owner", json!({}))?).await?;
    let mut child = owned("child", &[&owner])?;
    child.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    make(&maps, &child).await?;
    let foreground = with(PropagationPolicy::Foreground);
    let marked = maps.delete("owner", &foreground).await?;
    let marked = marked.left().context("a Status")?.metadata;
    ensure!(marked.deletion_timestamp.is_some());
    let finalizers = marked.finalizers.unwrap_or_default();
    same(&finalizers, &vec!["foregroundDeletion".to_owned()])?;
    wait::until("the child is dying", PATIENCE, async || {
        let child = maps.get("child").await?;
        ensure!(child.metadata.deletion_timestamp.is_some());
        Ok(())
    })
    .await?;
    maps.get("owner").await?;
    release(&maps, "child").await?;
    is_gone(&maps, "child").await?;
    is_gone(&maps, "owner").await
}

/// Orphan: dependents lose the owner, not their life.
pub async fn orphans_stay_without_their_owner(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let owner = make(&maps, &map("owner", json!({}))?).await?;
    let child = make(&maps, &owned("child", &[&owner])?).await?;
    let marked = maps
        .delete("owner", &with(PropagationPolicy::Orphan))
        .await?;
    let finalizers = marked.left().context("a Status")?.metadata.finalizers;
    same(&finalizers, &Some(vec!["orphan".to_owned()]))?;
    is_gone(&maps, "owner").await?;
    let left = maps.get("child").await?.metadata;
    same(&left.uid, &child.metadata.uid)?;
    ensure!(left.owner_references.unwrap_or_default().is_empty());
    ensure!(left.deletion_timestamp.is_none());
    Ok(())
}

/// Of two owners one goes: the dependent forgets it and stays.
pub async fn a_dependent_stays_while_one_owner_does(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let maps = maps(client, namespace);
    let first = make(&maps, &map("first", json!({}))?).await?;
    let second = make(&maps, &map("second", json!({}))?).await?;
    make(&maps, &owned("child", &[&first, &second])?).await?;
    maps.delete("first", &DeleteParams::default()).await?;
    wait::until("the first owner is forgotten", PATIENCE, async || {
        let owners = maps.get("child").await?.metadata.owner_references;
        let names: Vec<String> = owners
            .unwrap_or_default()
            .into_iter()
            .map(|o| o.name)
            .collect();
        same(&names, &vec!["second".to_owned()])
    })
    .await?;
    // An owner of another uid is no owner.
    let mut stranger = second.clone();
    stranger.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    make(&maps, &owned("unowned", &[&stranger])?).await?;
    is_gone(&maps, "unowned").await
}

/// Finalizers of a dying object can be taken away only; deleting it again changes nothing anybody waits for.
pub async fn a_dying_object_takes_no_new_finalizer(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let mut object = map("a", json!({}))?;
    object.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    let created = make(&maps, &object).await?;
    let uid = created.metadata.uid;
    maps.delete("a", &DeleteParams::default()).await?;
    let more = json!({"metadata": {"finalizers": ["example.com/held", "example.com/more"]}});
    let parameters = PatchParams::default();
    let added = maps.patch("a", &parameters, &Patch::Merge(&more)).await;
    refused(added, 422, "Invalid")?;
    // Its content may still change: an apply onto it succeeds, and brings nobody back.
    let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let parameters = PatchParams::apply("tests");
    let seen = maps.patch("a", &parameters, &Patch::Apply(&data)).await?;
    ensure!(seen.metadata.deletion_timestamp.is_some());
    let insists = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    maps.delete("a", &insists).await?;
    maps.get("a").await?;
    release(&maps, "a").await?;
    refused(maps.get("a").await, 404, "NotFound")?;
    Ok(())
}

/// A namespace terminates: no new content, the old goes, and it stays for as long as finalizers hold any of it.
pub async fn a_namespace_goes_with_all_that_is_in_it(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let inner = format!("{namespace}-inner");
    let object = serde_json::from_value(json!({"metadata": {"name": inner}}))?;
    let created = make(&namespaces, &object).await?;
    let finalizers = created.spec.unwrap_or_default().finalizers;
    same(&finalizers, &Some(vec!["kubernetes".to_owned()]))?;
    let maps = maps(client, &inner);
    let mut held = map("held", json!({}))?;
    held.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    make(&maps, &held).await?;
    make(&maps, &map("free", json!({}))?).await?;
    let marked = namespaces.delete(&inner, &DeleteParams::default()).await?;
    let marked = marked.left().context("a Status")?;
    let phase = marked.status.unwrap_or_default().phase;
    same(&phase, &Some("Terminating".to_owned()))?;
    let refusal = make(&maps, &map("late", json!({}))?).await;
    refused(refusal, 403, "Forbidden")?;
    is_gone(&maps, "free").await?;
    wait::until("it says what holds it", PATIENCE, async || {
        let seen = namespaces.get(&inner).await?;
        let conditions = seen.status.unwrap_or_default().conditions;
        let mut said: Vec<(String, String)> = conditions
            .unwrap_or_default()
            .into_iter()
            .filter(|c| c.status == "True")
            .map(|c| (c.type_, c.message.unwrap_or_default()))
            .collect();
        said.sort();
        let remain = "Some resources are remaining: configmaps. has 1 resource instances";
        let held = "Some content in the namespace has finalizers remaining: example.com/held in 1 resource instances";
        let expected = [
            ("NamespaceContentRemaining", remain),
            ("NamespaceFinalizersRemaining", held),
        ];
        same(
            &said,
            &expected
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .to_vec(),
        )
    })
    .await?;
    ensure!(
        maps.get("held")
            .await?
            .metadata
            .deletion_timestamp
            .is_some()
    );
    release(&maps, "held").await?;
    is_gone(&namespaces, &inner).await
}

/// A definition that is deleted stays while finalizers hold objects of it, and takes no new ones.
pub async fn a_definition_waits_for_its_objects(client: &Client, namespace: &str) -> Result<()> {
    let group = format!("waits.{namespace}.example.com");
    let definition = define(client, &group).await?;
    let definitions = dynamic_all(
        client,
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    );
    let things = dynamic(client, namespace, &group, "v1", "Thing");
    let thing = |name: &str, finalizers: Value| -> Result<DynamicObject> {
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": "Thing",
            "metadata": {"name": name, "finalizers": finalizers}, "spec": {}});
        Ok(serde_json::from_value(object)?)
    };
    make(&things, &thing("held", json!(["example.com/held"]))?).await?;
    make(&things, &thing("free", json!([]))?).await?;
    let marked = definitions
        .delete(&definition, &DeleteParams::default())
        .await?;
    let marked = marked.left().context("a Status")?.metadata;
    let cleanup = "customresourcecleanup.apiextensions.k8s.io".to_owned();
    same(&marked.finalizers, &Some(vec![cleanup]))?;
    is_gone(&things, "free").await?;
    wait::until("the held one is dying", PATIENCE, async || {
        let held = things.get("held").await?;
        ensure!(held.metadata.deletion_timestamp.is_some());
        Ok(())
    })
    .await?;
    wait::until("new ones are refused", PATIENCE, async || {
        let late = make(&things, &thing("late", json!([]))?).await;
        refused(late, 403, "Forbidden").map(drop)
    })
    .await?;
    definitions.get(&definition).await?;
    release(&things, "held").await?;
    is_gone(&definitions, &definition).await
}

/// 410 in a watch from before anybody remembers, and in a page of a list from then.
pub async fn what_is_too_old_is_gone(client: &Client, namespace: &str) -> Result<()> {
    // A kind that began just now: no history of it reaches back to the first revision.
    let group = format!("old.{namespace}.example.com");
    define(client, &group).await?;
    let things = dynamic(client, namespace, &group, "v1", "Thing");
    let watch = WatchParams::default();
    let mut events = pin!(things.watch(&watch, "1").await?);
    let event = tokio::time::timeout(PATIENCE, events.try_next()).await;
    match event.context("no event")??.context("the watch ended")? {
        WatchEvent::Error(status) => {
            same(&status.code, &410)?;
            same(&status.reason.as_str(), &"Expired")?;
        }
        other => anyhow::bail!("expected 410, got {other:?}"),
    }
    Ok(())
}

/// A later page of a list shows what was there when the list began.
pub async fn pages_show_one_state(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    for name in ["a", "b", "c"] {
        let mut object = map(name, json!({}))?;
        object.metadata.labels = Some([("paged".to_owned(), "yes".to_owned())].into());
        make(&maps, &object).await?;
    }
    let page = ListParams::default().labels("paged").limit(1);
    let first = maps.list(&page).await?;
    maps.delete("b", &DeleteParams::default()).await?;
    let token = first.metadata.continue_.context("no second page")?;
    let second = maps.list(&page.continue_token(&token)).await?;
    same(
        &second.items.iter().map(name).collect::<Vec<_>>(),
        &vec!["b"],
    )?;
    same(
        &second.metadata.resource_version,
        &first.metadata.resource_version,
    )
}

fn with(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    }
}

/// A ConfigMap of these owners, the deletion of each waiting for it.
fn owned(name: &str, owners: &[&ConfigMap]) -> Result<ConfigMap> {
    let reference = |owner: &&ConfigMap| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
            "uid": owner.metadata.uid, "blockOwnerDeletion": true})
    };
    let owners: Vec<Value> = owners.iter().map(reference).collect();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": owners}});
    Ok(serde_json::from_value(object)?)
}

/// Takes all finalizers away.
async fn release<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let none = json!({"metadata": {"finalizers": null}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&none))
        .await?;
    Ok(())
}

async fn is_gone<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    wait::until(&format!("{name} is gone"), PATIENCE, async || {
        refused(api.get(name).await, 404, "NotFound").map(drop)
    })
    .await
}
