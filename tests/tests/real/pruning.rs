//! What is removed from a real cluster, and what is not.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_proto::{Approval, Desired, PruneBudget, Removals, Settings, SyncStatus};
use muster_tests::wait;
use serde_json::{Value, json};

use super::bed::{Bed, PATIENCE, application, bed, config};

async fn is_gone(bed: &Bed, name: &str) -> Result<()> {
    wait::until(&format!("{name} is gone"), PATIENCE, async || {
        ensure!(bed.maps().get_opt(name).await?.is_none());
        Ok(())
    })
    .await
}

fn annotated(mut object: Value, mark: &str, value: &str) -> Value {
    object["metadata"]["annotations"] = json!({mark: value});
    object
}

#[tokio::test]
async fn what_is_marked_stays_and_is_nobodys_any_more() -> Result<()> {
    let bed = bed("prune-marks").await?;
    let marks = [
        ("muster.dev/prune", "disabled"),
        ("helm.sh/resource-policy", "keep"),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
        ("argocd.argoproj.io/sync-options", "Prune=false"),
        ("cli-utils.sigs.k8s.io/on-remove", "keep"),
        ("client.lifecycle.config.k8s.io/deletion", "detach"),
    ];
    let mut objects = vec![config("plain", "1"), config("stays-in-git", "1")];
    for (n, (mark, value)) in marks.into_iter().enumerate() {
        objects.push(annotated(config(&format!("marked-{n}"), "1"), mark, value));
    }
    bed.accept(1, vec![application("shop", bed.settings(), &objects)?])
        .await?;
    bed.synced("shop").await?;
    // A mark that is put on by hand counts as well.
    let by_hand = json!({"metadata": {"annotations": {"muster.dev/prune": "disabled"}}});
    let labels = PatchParams::apply("kubectl-annotate");
    bed.maps()
        .patch("plain", &labels, &Patch::Merge(&by_hand))
        .await?;
    let rest = application("shop", bed.settings(), &[config("stays-in-git", "1")])?;
    bed.accept(2, vec![rest]).await?;
    bed.row("shop", |row| row.waiting == 0 && row.objects == 1)
        .await?;
    for n in 0..marks.len() {
        bed.maps().get(&format!("marked-{n}")).await?;
    }
    bed.maps().get("plain").await?;
    Ok(())
}

#[tokio::test]
async fn a_namespace_stays_while_others_have_something_in_it_and_goes_with_the_last() -> Result<()>
{
    let bed = bed("prune-namespace").await?;
    let name = format!("{}-inner", bed.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let mut ours = config("ours", "1");
    ours["metadata"]["namespace"] = json!(name);
    let mut kept = annotated(config("kept", "1"), "muster.dev/prune", "disabled");
    kept["metadata"]["namespace"] = json!(name);
    bed.accept(
        1,
        vec![application(
            "shop",
            bed.settings(),
            &[namespace, ours, kept],
        )?],
    )
    .await?;
    bed.synced("shop").await?;
    let inside: Api<Secret> = Api::namespaced(bed.client.clone(), &name);
    let foreign = serde_json::from_value(json!({"metadata": {"name": "somebody-elses"}}))?;
    inside.create(&PostParams::default(), &foreign).await?;
    bed.accept(2, Vec::new()).await?;
    let row = bed
        .object(&name, |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    assert!(
        row.message.contains("Secret somebody-elses")
            && row
                .message
                .contains("ConfigMap kept (muster.dev/prune: disabled)"),
        "{}",
        row.message
    );
    let maps: Api<ConfigMap> = Api::namespaced(bed.client.clone(), &name);
    ensure!(maps.get_opt("ours").await?.is_none(), "ours went before");

    // A person clears up; a new desired state looks again at once.
    inside
        .delete("somebody-elses", &DeleteParams::default())
        .await?;
    maps.delete("kept", &DeleteParams::default()).await?;
    bed.accept(
        3,
        vec![application("other", bed.settings(), &[config("x", "1")])?],
    )
    .await?;
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    wait::until("the namespace goes", PATIENCE, async || {
        let found = namespaces.get_opt(&name).await?;
        ensure!(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_definition_stays_while_somebody_else_has_objects_of_its_kind() -> Result<()> {
    let bed = bed("prune-definition").await?;
    let group = format!("{}.example.com", bed.namespace);
    let name = format!("carts.{group}");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    bed.accept(1, vec![application("shop", bed.settings(), &[definition])?])
        .await?;
    bed.synced("shop").await?;
    let cart = GroupVersionKind::gvk(&group, "v1", "Cart");
    let carts: Api<DynamicObject> = Api::namespaced_with(
        bed.client.clone(),
        &bed.namespace,
        &ApiResource::from_gvk_with_plural(&cart, "carts"),
    );
    let theirs = DynamicObject::new("theirs", &ApiResource::from_gvk(&cart));
    // A definition is established a moment before every part of the API server serves it.
    wait::until("somebody else makes one", PATIENCE, async || {
        Ok(carts.create(&PostParams::default(), &theirs).await?)
    })
    .await?;
    bed.accept(2, Vec::new()).await?;
    let row = bed
        .object(&name, |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    let expected = format!("{}/theirs", bed.namespace);
    assert!(row.message.contains(&expected), "{}", row.message);
    carts.get("theirs").await?;

    carts.delete("theirs", &DeleteParams::default()).await?;
    bed.accept(
        3,
        vec![application("other", bed.settings(), &[config("x", "1")])?],
    )
    .await?;
    wait::until("the definition is gone", PATIENCE, async || {
        let rows = bed.engine.rows().borrow().clone();
        ensure!(
            !rows.objects().values().any(|row| row.key.name == name),
            "{rows:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_large_removal_waits_for_a_word_that_travels_with_the_state() -> Result<()> {
    let bed = bed("prune-budget").await?;
    let many: Vec<Value> = (0..14).map(|n| config(&format!("c{n:02}"), "1")).collect();
    bed.accept(1, vec![application("shop", bed.settings(), &many)?])
        .await?;
    bed.synced("shop").await?;

    let few = application("shop", bed.settings(), &many[..2])?;
    bed.accept(2, vec![few.clone()]).await?;
    let row = bed
        .row("shop", |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    assert_eq!((row.waiting, row.digest), (12, few.digest()));
    assert!(
        row.message
            .contains("12 objects would be removed and 2 stay")
            && row.message.contains("muster approve shop"),
        "{}",
        row.message
    );
    // What would go is shown object by object.
    let rows = bed.engine.rows().borrow().clone();
    let waiting = rows
        .objects()
        .values()
        .filter(|row| row.sync == SyncStatus::PruneBlocked);
    assert_eq!(waiting.count(), 12);

    // A word for another content of the application does not count.
    let approve = async |generation, digest| {
        let approval = Approval {
            application: "shop".parse()?,
            digest,
        };
        let state = Desired::new(
            generation,
            vec![few.clone()],
            Removals::Released,
            vec![approval],
        );
        bed.engine.accept(state).await?;
        anyhow::Ok(())
    };
    let other = application("shop", bed.settings(), &many[..3])?;
    approve(3, other.digest()).await?;
    let rows = bed.engine.rows();
    wait::until("generation 3 is looked at", PATIENCE, async || {
        ensure!(rows.borrow().generation() == 3);
        Ok(())
    })
    .await?;
    bed.row("shop", |row| row.waiting == 12).await?;
    bed.maps().get("c13").await?;

    approve(4, few.digest()).await?;
    is_gone(&bed, "c13").await?;
    bed.row("shop", |row| {
        row.sync == SyncStatus::Synced && row.waiting == 0
    })
    .await?;
    bed.maps().get("c00").await?;
    Ok(())
}

#[tokio::test]
async fn an_application_says_how_much_it_may_lose() -> Result<()> {
    let bed = bed("prune-own-budget").await?;
    let strict = Settings {
        prune_budget: PruneBudget {
            percent: 0,
            objects: 0,
        },
        ..bed.settings()
    };
    let state = |objects: &[Value]| application("shop", strict.clone(), objects);
    bed.accept(1, vec![state(&[config("a", "1"), config("b", "1")])?])
        .await?;
    bed.synced("shop").await?;
    bed.accept(2, vec![state(&[config("a", "1")])?]).await?;
    let row = bed
        .row("shop", |row| row.sync == SyncStatus::PruneBlocked)
        .await?;
    assert_eq!(row.waiting, 1);
    bed.maps().get("b").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_to_be_applied_is_left_alone_and_what_is_to_be_created_is_created_once()
-> Result<()> {
    let bed = bed("apply-marks").await?;
    let disabled =
        |value: &str| annotated(config("by-hand", value), "muster.dev/apply", "disabled");
    let once = |value: &str| annotated(config("once", value), "muster.dev/apply", "create-only");
    let wrong = annotated(config("wrong", "1"), "muster.dev/apply", "never");
    let state = |value: &str| application("shop", bed.settings(), &[disabled(value), once(value)]);
    bed.accept(1, vec![state("1")?]).await?;
    bed.holds("once", "1").await?;
    bed.synced("shop").await?;
    assert!(bed.maps().get_opt("by-hand").await?.is_none());

    // Edits stay, and so does what Git says next.
    bed.edit("once", "mine").await?;
    bed.accept(2, vec![state("2")?]).await?;
    wait::until("generation 2 is looked at", PATIENCE, async || {
        ensure!(bed.engine.rows().borrow().generation() == 2);
        Ok(())
    })
    .await?;
    let row = bed.synced("shop").await?;
    assert_eq!((row.objects, row.synced), (2, 2));
    assert_eq!(bed.value("once").await?, "mine");
    let said = bed
        .object("once", |row| row.sync == SyncStatus::Kept)
        .await?;
    assert_eq!(said.message, "muster.dev/apply: create-only");

    // Who is on call stops a repair by a mark on the object itself.
    bed.accept(
        3,
        vec![application("shop", bed.settings(), &[config("live", "1")])?],
    )
    .await?;
    bed.holds("live", "1").await?;
    let hands_off = json!({"metadata": {"annotations": {"muster.dev/apply": "disabled"}}});
    let annotate = PatchParams::apply("kubectl-annotate");
    bed.maps()
        .patch("live", &annotate, &Patch::Merge(&hands_off))
        .await?;
    bed.object("live", |row| row.sync == SyncStatus::Kept)
        .await?;
    bed.edit("live", "on call").await?;
    bed.accept(
        4,
        vec![application(
            "shop",
            bed.settings(),
            &[config("live", "2"), wrong],
        )?],
    )
    .await?;
    let refused = bed
        .object("wrong", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        refused.message.contains("no known word"),
        "{}",
        refused.message
    );
    assert_eq!(bed.value("live").await?, "on call");
    // Nor is it removed when it leaves Git.
    bed.accept(
        5,
        vec![application("shop", bed.settings(), &[config("x", "1")])?],
    )
    .await?;
    bed.synced("shop").await?;
    assert_eq!(bed.value("live").await?, "on call");
    Ok(())
}

#[tokio::test]
async fn an_object_that_moves_to_another_api_group_is_not_removed_under_the_old_one() -> Result<()>
{
    let bed = bed("prune-regroup").await?;
    // One object, two groups: the API server shows each Event under both, with one UID.
    let about =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": bed.namespace, "name": "x"});
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "note"},
        "involvedObject": about, "reason": "Noted", "message": "first", "type": "Normal",
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"});
    bed.accept(1, vec![application("shop", bed.settings(), &[old])?])
        .await?;
    bed.synced("shop").await?;
    let events: Api<k8s_openapi::api::core::v1::Event> =
        Api::namespaced(bed.client.clone(), &bed.namespace);
    let uid = events.get("note").await?.metadata.uid;
    let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "note"},
        "regarding": about, "reason": "Noted", "note": "first", "type": "Normal",
        "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-01T00:00:00Z"});
    bed.accept(2, vec![application("shop", bed.settings(), &[new])?])
        .await?;
    let row = bed
        .row("shop", |row| {
            row.sync == SyncStatus::Synced && row.waiting == 0
        })
        .await?;
    assert_eq!(row.synced, 1);
    assert_eq!(events.get("note").await?.metadata.uid, uid);
    Ok(())
}
