//! What every cluster of the test bed answers, real or in memory: what agents and tests rely on.
//!
//! In: a client and a namespace that nobody else uses. Out: an error that names the first answer that is not the real
//! server's. [`conformance!`](crate::conformance) makes the same list of tests for any kind of cluster.

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams, Preconditions, WatchEvent, WatchParams,
};
use serde_json::{Value, json};
use std::pin::pin;
use std::time::Duration;

use crate::wait;

mod deleting;

pub use deleting::*;

/// Makes the tests of this page for one kind of cluster: the argument is an async function without arguments that
/// returns a client, a fresh namespace's name, and whatever must live as long as the test.
#[macro_export]
macro_rules! conformance {
    ($place:path) => {
        $crate::conformance! { $place:
            create_tells_one_from_two,
            an_update_of_an_old_state_conflicts,
            a_patch_merges_by_the_rules_of_its_kind,
            appliers_own_what_they_apply,
            a_taken_field_conflicts_until_forced,
            a_dry_run_changes_nothing,
            a_deletion_can_insist_on_a_uid,
            a_finalizer_holds_a_deletion,
            lists_select_by_label_and_come_in_pages,
            a_watch_tells_each_change_in_order,
            metadata_comes_alone_when_asked,
            a_custom_kind_is_served_once_established,
            an_apply_drops_what_its_entry_held_in_another_version,
            a_generation_counts_changes_of_the_spec,
            a_patch_of_an_old_state_conflicts,
            a_dry_run_of_any_write_changes_nothing,
            dependents_go_after_their_owner,
            dependents_go_before_their_owner_when_asked,
            orphans_stay_without_their_owner,
            a_dependent_stays_while_one_owner_does,
            a_dying_object_takes_no_new_finalizer,
            a_namespace_goes_with_all_that_is_in_it,
            a_definition_waits_for_its_objects,
            what_is_too_old_is_gone,
            pages_show_one_state,
        }
    };
    ($place:path: $($name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() -> anyhow::Result<()> {
            let (client, namespace, _alive) = $place().await?;
            $crate::conformance::$name(&client, &namespace).await
        }
    )*};
}

/// A second creation is refused, a missing object is not found.
pub async fn create_tells_one_from_two(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let created = make(&maps, &map("a", json!({"k": "1"}))?).await?.metadata;
    ensure!(created.uid.is_some() && created.resource_version.is_some());
    ensure!(created.creation_timestamp.is_some());
    let again = make(&maps, &map("a", json!({}))?).await;
    refused(again, 409, "AlreadyExists")?;
    refused(maps.get("missing").await, 404, "NotFound")?;
    refused(
        maps.create(&PostParams::default(), &map("Not_A_Name", json!({}))?)
            .await,
        422,
        "Invalid",
    )?;
    Ok(())
}

/// An update must be of the latest state.
pub async fn an_update_of_an_old_state_conflicts(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let first = make(&maps, &map("a", json!({"k": "1"}))?).await?;
    let mut second = first.clone();
    second.data = Some([("k".to_owned(), "2".to_owned())].into());
    let second = maps.replace("a", &PostParams::default(), &second).await?;
    ensure!(second.metadata.resource_version != first.metadata.resource_version);
    let late = maps.replace("a", &PostParams::default(), &first).await;
    refused(late, 409, "Conflict")?;
    // Nothing changed, nothing counted.
    let same = maps.replace("a", &PostParams::default(), &second).await?;
    ensure!(same.metadata.resource_version == second.metadata.resource_version);
    Ok(())
}

/// A strategic merge patch goes into lists by their keys, a JSON merge patch replaces them.
pub async fn a_patch_merges_by_the_rules_of_its_kind(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let templates = dynamic(client, namespace, "", "v1", "PodTemplate");
    let pod = json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]});
    let object = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"},
        "template": {"metadata": {"labels": {"app": "t"}}, "spec": pod}});
    templates
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    let images = |object: &DynamicObject| -> Vec<String> {
        let list = object.data.pointer("/template/spec/containers");
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.map(|c| format!("{} {}", text(&c["name"]), text(&c["image"])))
            .collect()
    };
    let parameters = PatchParams::default();
    let by_name = json!({"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}});
    let seen = templates
        .patch("t", &parameters, &Patch::Strategic(&by_name))
        .await?;
    same(
        &images(&seen),
        &["a a:1", "b b:2"].map(str::to_owned).to_vec(),
    )?;
    let seen = templates
        .patch("t", &parameters, &Patch::Merge(&by_name))
        .await?;
    same(&images(&seen), &vec!["b b:2".to_owned()])?;
    let labels = json!({"template": {"metadata": {"labels": null}}});
    let seen = templates
        .patch("t", &parameters, &Patch::Merge(&labels))
        .await?;
    ensure!(seen.data.pointer("/template/metadata/labels").is_none());
    Ok(())
}

/// Server-side apply: fields belong to who applies them, and go when nobody does.
pub async fn appliers_own_what_they_apply(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    apply(&maps, "first", json!({"colour": "red"}), false).await?;
    apply(&maps, "second", json!({"size": "large"}), false).await?;
    let seen = maps.get("settings").await?;
    let mut owned = Vec::new();
    for entry in seen.metadata.managed_fields.unwrap_or_default() {
        let fields = entry.fields_v1.context("an entry without fields")?.0;
        owned.push((entry.manager.unwrap_or_default(), fields));
    }
    owned.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = vec![
        ("first".to_owned(), json!({"f:data": {"f:colour": {}}})),
        ("second".to_owned(), json!({"f:data": {"f:size": {}}})),
    ];
    same(&owned, &expected)?;
    let seen = apply(&maps, "first", json!({}), false).await?;
    same(&serde_json::to_value(seen.data)?, &json!({"size": "large"}))
}

/// Server-side apply: who takes another's field is told whose it is.
pub async fn a_taken_field_conflicts_until_forced(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    apply(&maps, "first", json!({"colour": "red"}), false).await?;
    let taken = apply(&maps, "second", json!({"colour": "blue"}), false).await;
    let message = refused(taken, 409, "Conflict")?;
    let expected = "Apply failed with 1 conflict: conflict with \"first\": .data.colour";
    same(&message.as_str(), &expected)?;
    // The same value is shared, not taken.
    apply(&maps, "third", json!({"colour": "red"}), false).await?;
    let seen = apply(&maps, "second", json!({"colour": "blue"}), true).await?;
    same(
        &serde_json::to_value(seen.data)?,
        &json!({"colour": "blue"}),
    )?;
    let entries = seen.metadata.managed_fields.unwrap_or_default();
    let managers: Vec<&str> = entries
        .iter()
        .filter_map(|e| e.manager.as_deref())
        .collect();
    same(&managers, &vec!["second"])
}

/// `dryRun=All` answers as if, and keeps nothing.
pub async fn a_dry_run_changes_nothing(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let object = map("settings", json!({"k": "1"}))?;
    let parameters = PatchParams::apply("tries").dry_run();
    let seen = maps
        .patch("settings", &parameters, &Patch::Apply(&object))
        .await?;
    ensure!(seen.metadata.uid.is_some());
    refused(maps.get("settings").await, 404, "NotFound")?;
    let kept = apply(&maps, "keeps", json!({"k": "2"}), false).await?;
    let seen = maps
        .patch("settings", &parameters.force(), &Patch::Apply(&object))
        .await?;
    same(&serde_json::to_value(seen.data)?, &json!({"k": "1"}))?;
    same(&maps.get("settings").await?, &kept)
}

/// A deletion with a UID precondition deletes that object or none.
pub async fn a_deletion_can_insist_on_a_uid(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let uid = make(&maps, &map("a", json!({}))?).await?.metadata.uid;
    let insists_on = |uid: Option<String>| DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let other = insists_on(Some("00000000-0000-0000-0000-000000000000".to_owned()));
    refused(maps.delete("a", &other).await, 409, "Conflict")?;
    maps.get("a").await?;
    maps.delete("a", &insists_on(uid)).await?;
    refused(maps.get("a").await, 404, "NotFound")?;
    Ok(())
}

/// An object with a finalizer is marked, and goes with its last finalizer.
pub async fn a_finalizer_holds_a_deletion(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let mut object = map("a", json!({}))?;
    object.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    maps.create(&PostParams::default(), &object).await?;
    maps.delete("a", &DeleteParams::default()).await?;
    ensure!(maps.get("a").await?.metadata.deletion_timestamp.is_some());
    let released = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&released))
        .await?;
    refused(maps.get("a").await, 404, "NotFound")?;
    Ok(())
}

/// Lists by label, and page by page.
pub async fn lists_select_by_label_and_come_in_pages(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let maps = maps(client, namespace);
    for (name, colour) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        let mut object = map(name, json!({}))?;
        object.metadata.labels = Some([("colour".to_owned(), colour.to_owned())].into());
        maps.create(&PostParams::default(), &object).await?;
    }
    // The real server puts a certificate bundle into each namespace.
    for (selector, expected) in [
        ("colour=red", vec!["a", "c"]),
        ("colour,colour!=red", vec!["b"]),
        ("colour in (red, blue)", vec!["a", "b", "c"]),
        ("colour=green", vec![]),
    ] {
        let found = maps.list(&ListParams::default().labels(selector)).await?;
        same(&names(&found.items), &expected).context(selector)?;
    }
    let page = ListParams::default().labels("colour").limit(2);
    let first = maps.list(&page).await?;
    same(&names(&first.items), &vec!["a", "b"])?;
    let token = first.metadata.continue_.context("no second page")?;
    let second = maps.list(&page.continue_token(&token)).await?;
    same(&names(&second.items), &vec!["c"])?;
    ensure!(second.metadata.continue_.unwrap_or_default().is_empty());
    Ok(())
}

/// A watch goes on from a list, and tells what leaves the selection as deleted.
pub async fn a_watch_tells_each_change_in_order(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let parameters = ListParams::default().labels("watched=yes");
    let start = maps.list(&parameters).await?.metadata.resource_version;
    let start = start.context("a list without resourceVersion")?;
    let label = |name: &str, watched: &str, data: Value| -> Result<ConfigMap> {
        let mut object = map(name, data)?;
        object.metadata.labels = Some([("watched".to_owned(), watched.to_owned())].into());
        Ok(object)
    };
    let post = PostParams::default();
    maps.create(&post, &label("a", "yes", json!({}))?).await?;
    maps.create(&post, &label("b", "no", json!({}))?).await?;
    maps.replace("a", &post, &label("a", "yes", json!({"k": "1"}))?)
        .await?;
    maps.replace("b", &post, &label("b", "yes", json!({}))?)
        .await?;
    maps.replace("b", &post, &label("b", "no", json!({}))?)
        .await?;
    maps.delete("a", &DeleteParams::default()).await?;
    let watch = WatchParams::default().labels("watched=yes");
    let mut events = pin!(maps.watch(&watch, &start).await?);
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = tokio::time::timeout(Duration::from_secs(10), events.try_next());
        let event = event.await.with_context(|| format!("after {seen:?}"))??;
        seen.push(match event.context("the watch ended")? {
            WatchEvent::Added(object) => format!("added {}", name(&object)),
            WatchEvent::Modified(object) => format!("modified {}", name(&object)),
            WatchEvent::Deleted(object) => format!("deleted {}", name(&object)),
            other => format!("{other:?}"),
        });
    }
    let expected = ["added a", "modified a", "added b", "deleted b", "deleted a"];
    same(&seen, &expected.map(str::to_owned).to_vec())
}

/// `PartialObjectMetadata`, for one and for a list.
pub async fn metadata_comes_alone_when_asked(client: &Client, namespace: &str) -> Result<()> {
    let maps = maps(client, namespace);
    let mut object = map("a", json!({"secret": "1"}))?;
    object.metadata.labels = Some([("k".to_owned(), "v".to_owned())].into());
    let created = maps.create(&PostParams::default(), &object).await?;
    let one = maps.get_metadata("a").await?;
    same(&one.metadata, &created.metadata)?;
    let types = one.types.context("no kind")?;
    same(&types.kind.as_str(), &"PartialObjectMetadata")?;
    let list = maps
        .list_metadata(&ListParams::default().labels("k=v"))
        .await?;
    same(&list.items.len(), &1)?;
    same(&list.items[0].metadata, &created.metadata)
}

/// A CustomResourceDefinition becomes Established, its kind is served, validated, pruned and defaulted.
pub async fn a_custom_kind_is_served_once_established(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let group = format!("{namespace}.example.com");
    let definition = define(client, &group).await?;
    let things = dynamic(client, namespace, &group, "v1", "Thing");
    let thing = |spec: Value| -> Result<DynamicObject> {
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": "Thing",
            "metadata": {"name": "a"}, "spec": spec});
        Ok(serde_json::from_value(object)?)
    };
    let wrong = make(&things, &thing(json!({"size": "large"}))?).await;
    refused(wrong, 422, "Invalid")?;
    let good = thing(json!({"size": 3, "unknown": true, "items": [{"name": "x"}]}))?;
    let created = things.create(&PostParams::default(), &good).await?;
    let expected = json!({"size": 3, "colour": "red", "items": [{"name": "x"}]});
    same(&created.data["spec"], &expected)?;
    let definitions = dynamic_all(client, "apiextensions.k8s.io", "v1", DEFINITION);
    definitions
        .delete(&definition, &DeleteParams::default())
        .await?;
    wait::until("the kind is gone", Duration::from_secs(30), async || {
        let gone = refused(things.list(&ListParams::default()).await, 404, "");
        gone.map(|_| ())
    })
    .await
}

/// An applier is one whatever version it applies in: what its entry of another version holds and the new configuration
/// does not state is removed, also when somebody else wrote that entry.
pub async fn an_apply_drops_what_its_entry_held_in_another_version(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let group = format!("{namespace}.versions.example.com");
    let definition = define_in(client, &group, &["v1", "v1beta1"]).await?;
    let old = dynamic(client, namespace, &group, "v1beta1", "Thing");
    let new = dynamic(client, namespace, &group, "v1", "Thing");
    let thing = |version: &str, spec: Value| {
        json!({"apiVersion": format!("{group}/{version}"), "kind": "Thing",
            "metadata": {"name": "a"}, "spec": spec})
    };
    let before = thing("v1beta1", json!({"size": 3, "whole": ["x"], "tags": ["t"]}));
    let kubectl = PostParams {
        field_manager: Some("kubectl-client-side-apply".into()),
        ..PostParams::default()
    };
    let made = old
        .create(&kubectl, &serde_json::from_value(before)?)
        .await?;
    let mut entry = made.metadata.managed_fields.unwrap_or_default();
    entry[0].manager = Some("git".into());
    entry[0].operation = Some("Apply".into());
    let taken = json!({"metadata": {"managedFields": entry}});
    new.patch("a", &PatchParams::default(), &Patch::Merge(&taken))
        .await?;
    let wanted = thing("v1", json!({"size": 3, "tags": ["u"]}));
    let applied = new
        .patch("a", &PatchParams::apply("git"), &Patch::Apply(&wanted))
        .await?;
    let expected = json!({"size": 3, "colour": "red", "tags": ["u"]});
    same(&applied.data["spec"], &expected)?;
    let managed = applied.metadata.managed_fields.unwrap_or_default();
    let versions: Vec<_> = managed.iter().map(|entry| &entry.api_version).collect();
    same(&versions, &vec![&Some(format!("{group}/v1"))])?;
    let definitions = dynamic_all(client, "apiextensions.k8s.io", "v1", DEFINITION);
    definitions
        .delete(&definition, &DeleteParams::default())
        .await?;
    Ok(())
}

/// `metadata.generation` counts changes of the spec, not of metadata.
pub async fn a_generation_counts_changes_of_the_spec(
    client: &Client,
    namespace: &str,
) -> Result<()> {
    let policies = dynamic(
        client,
        namespace,
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
    );
    let apply = async |labels: Value, app: &str| -> Result<Option<i64>> {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "a", "labels": labels},
            "spec": {"podSelector": {"matchLabels": {"app": app}}}});
        let parameters = PatchParams::apply("tests");
        let seen = policies
            .patch("a", &parameters, &Patch::Apply(&object))
            .await?;
        Ok(seen.metadata.generation)
    };
    same(&apply(json!({}), "one").await?, &Some(1))?;
    same(&apply(json!({"k": "v"}), "one").await?, &Some(1))?;
    same(&apply(json!({"k": "v"}), "two").await?, &Some(2))
}

const DEFINITION: &str = "CustomResourceDefinition";

/// Defines the kind Thing in this group and waits until it is served; the definition's name.
///
/// Its schema: `spec.size` a number, `spec.colour` defaults to red, `spec.items` keyed by name, `spec.tags` a set,
/// `spec.whole` an atomic list.
///
/// # Errors
/// When it is not Established in 30 seconds.
pub async fn define(client: &Client, group: &str) -> Result<String> {
    define_in(client, group, &["v1"]).await
}

/// The same in some versions, the first of which is stored.
async fn define_in(client: &Client, group: &str, versions: &[&str]) -> Result<String> {
    let text = json!({"type": "string"});
    let item = json!({"type": "object", "required": ["name"],
        "properties": {"name": text, "value": text}});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer"},
        "colour": {"type": "string", "default": "red"},
        "items": {"type": "array", "items": item,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        "tags": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "whole": {"type": "array", "items": text},
    }});
    let name = format!("things.{group}");
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(place, version)| {
            json!({"name": version, "served": true, "storage": place == 0, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}})
        })
        .collect();
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": DEFINITION, "metadata": {"name": name},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": versions,
        },
    });
    let definitions = dynamic_all(client, "apiextensions.k8s.io", "v1", DEFINITION);
    definitions
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    wait::until("it is Established", Duration::from_secs(30), async || {
        let seen = definitions.get(&name).await?;
        let conditions = seen.data.pointer("/status/conditions");
        let established = conditions
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Established" && c["status"] == "True");
        ensure!(established, "{:?}", seen.data.get("status"));
        Ok(())
    })
    .await?;
    // Established is said a moment before it is served.
    let things: Api<DynamicObject> = dynamic_all(client, group, "v1", "Thing");
    wait::until("it is served", Duration::from_secs(30), async || {
        things.list(&ListParams::default()).await?;
        Ok(())
    })
    .await?;
    Ok(name)
}

fn maps(client: &Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), namespace)
}

fn map(name: &str, data: Value) -> Result<ConfigMap> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name}, "data": data});
    Ok(serde_json::from_value(object)?)
}

async fn make<K>(api: &Api<K>, object: &K) -> kube::Result<K>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), object).await
}

async fn apply(
    maps: &Api<ConfigMap>,
    manager: &str,
    data: Value,
    force: bool,
) -> kube::Result<ConfigMap> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings"}, "data": data});
    let mut parameters = PatchParams::apply(manager);
    parameters.force = force;
    maps.patch("settings", &parameters, &Patch::Apply(object))
        .await
}

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn dynamic(
    client: &Client,
    namespace: &str,
    group: &str,
    version: &str,
    kind: &str,
) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(group, version, kind))
}

fn dynamic_all(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(group, version, kind))
}

/// The message of a refusal with this code and reason; any reason when it is empty.
fn refused<T: std::fmt::Debug>(answer: kube::Result<T>, code: u16, reason: &str) -> Result<String> {
    match answer {
        Err(kube::Error::Api(status)) => {
            let fits = status.code == code && (reason.is_empty() || status.reason == reason);
            ensure!(fits, "expected {code} {reason}, got {status:?}");
            Ok(status.message.clone())
        }
        other => anyhow::bail!("expected {code} {reason}, got {other:?}"),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(seen: &T, expected: &T) -> Result<()> {
    ensure!(seen == expected, "seen {seen:?}, expected {expected:?}");
    Ok(())
}

fn name(object: &ConfigMap) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn names(objects: &[ConfigMap]) -> Vec<&str> {
    objects.iter().map(name).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
