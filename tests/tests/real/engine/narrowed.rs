//! An agent that may see less than the whole cluster.

use std::sync::Arc;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PostParams};
use muster_proto::DesiredApplication;
use muster_tests::cluster::{Cluster, real};
use muster_tests::wait;
use serde_json::{Value, json};

use super::super::bed::{Bed, PATIENCE, application, config, manager, start_with};

const EVERYTHING: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

/// A Role in each namespace is enough: a kind that can't be watched in the whole cluster is watched where it is used.
#[tokio::test]
async fn what_may_be_seen_in_its_namespaces_only_is_watched_there() -> Result<()> {
    let (bed, other) = narrowed("narrow", &EVERYTHING).await?;
    let shop = |names: &[(&str, &str)]| -> Result<Vec<Arc<DesiredApplication>>> {
        let objects: Vec<Value> = names.iter().map(|(name, at)| placed(name, at)).collect();
        Ok(vec![application("shop", bed.settings(), &objects)?])
    };
    let here = bed.namespace.clone();
    let all = [("a", &*here), ("b", &*here), ("c", &*other), ("d", &*other)];
    bed.accept(1, shop(&all)?).await?;
    bed.synced("shop").await?;

    let there: Api<ConfigMap> = Api::namespaced(bed.client.clone(), &other);
    let edit = Patch::Merge(json!({"data": {"value": "by hand"}}));
    there.patch("c", &manager("kubectl-edit"), &edit).await?;
    bed.edit("a", "by hand").await?;
    bed.holds("a", "1").await?;
    bed.object("c", |row| {
        let drift = row.last_drift.as_ref();
        drift.is_some_and(|drift| drift.manager == "kubectl-edit")
    })
    .await?;
    there.delete("d", &DeleteParams::default()).await?;
    wait::until("both are right again", PATIENCE, async || {
        let map = there.get("c").await?;
        ensure!(map.data.is_some_and(|data| data["value"] == "1"));
        ensure!(there.get_opt("d").await?.is_some());
        Ok(())
    })
    .await?;

    // One namespace is left, and the watch on the other one with it.
    bed.accept(2, shop(&all[..1])?).await?;
    wait::until("what left Git is gone", PATIENCE, async || {
        ensure!(bed.maps().get_opt("b").await?.is_none());
        let left = there.list(&Default::default()).await?.items;
        ensure!(
            !left
                .iter()
                .any(|map| map.metadata.name.as_deref() != Some("kube-root-ca.crt"))
        );
        Ok(())
    })
    .await?;
    bed.synced("shop").await?;
    Ok(())
}

/// Where nothing tells that a dying object is gone, it is asked.
#[tokio::test]
async fn an_object_that_dies_where_nothing_may_be_watched_is_made_again() -> Result<()> {
    let verbs = ["get", "list", "create", "patch", "delete"];
    let (bed, _) = narrowed("unwatched", &verbs).await?;
    let state = |value| application("shop", bed.settings(), &[config("a", value)]);
    bed.accept(1, vec![state("1")?]).await?;
    bed.synced("shop").await?;
    let uid = bed.dies("a").await?;
    bed.accept(2, vec![state("2")?]).await?;
    bed.object("a", |row| row.message.contains("it is being deleted"))
        .await?;
    bed.released("a").await?;
    wait::until("it is made again", PATIENCE * 3, async || {
        let map = bed.maps().get("a").await?;
        ensure!(map.metadata.uid.as_ref() != Some(&uid));
        ensure!(map.data.is_some_and(|data| data["value"] == "2"));
        Ok(())
    })
    .await?;
    bed.synced("shop").await?;
    Ok(())
}

/// `TokenReview` can be created, and nothing else: its row says so, and what left Git goes all the same.
#[tokio::test]
async fn a_kind_that_can_t_be_listed_holds_nothing_up() -> Result<()> {
    let bed = super::super::bed::bed("unlisted").await?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": {"name": "review"}, "spec": {"token": "none"}});
    let state = |objects: &[Value]| application("shop", bed.settings(), objects);
    bed.accept(1, vec![state(&[config("a", "1"), config("b", "1")])?])
        .await?;
    bed.synced("shop").await?;
    bed.accept(2, vec![state(&[config("a", "2"), review])?])
        .await?;
    bed.object("review", |row| !row.message.is_empty()).await?;
    bed.holds("a", "2").await?;
    wait::until("what left Git is gone", PATIENCE, async || {
        ensure!(bed.maps().get_opt("b").await?.is_none());
        Ok(())
    })
    .await
}

fn placed(name: &str, namespace: &str) -> Value {
    let mut map = config(name, "1");
    map["metadata"]["namespace"] = json!(namespace);
    map
}

/// A bed whose engine may do this with ConfigMaps of two namespaces, keep its ledger, and do nothing else; and the name
/// of the second one.
async fn narrowed(name: &str, verbs: &[&str]) -> Result<(Bed, String)> {
    let cluster = real::shared("one").await?;
    let admin = cluster.client()?;
    let namespace = cluster.fresh_namespace(name).await?;
    let other = cluster.fresh_namespace(name).await?;
    let ledger = format!("{namespace}-ledger");
    let metadata = ObjectMeta {
        name: Some(ledger.clone()),
        ..ObjectMeta::default()
    };
    let made = Namespace {
        metadata,
        ..Namespace::default()
    };
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.create(&PostParams::default(), &made).await?;
    for place in [&namespace, &other] {
        allow(&admin, &namespace, place, "configmaps", verbs).await?;
    }
    let secrets = [
        "get", "list", "watch", "create", "update", "patch", "delete",
    ];
    allow(&admin, &namespace, &ledger, "secrets", &secrets).await?;
    let role = json!({"metadata": {"name": namespace}, "rules": [{"apiGroups": [""],
        "resources": ["namespaces"], "resourceNames": ["kube-system", ledger], "verbs": ["get"]}]});
    let binding = json!({"metadata": {"name": namespace}, "subjects": [user(&namespace)],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}});
    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    roles
        .create(&PostParams::default(), &serde_json::from_value(role)?)
        .await?;
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    let (engine, task) = start_with(as_user(&cluster, &namespace)?, &ledger, "first").await?;
    let bed = Bed {
        client: admin,
        cluster,
        namespace,
        engine,
        task,
    };
    Ok((bed, other))
}

/// Calls of this client are its user's.
fn as_user(cluster: &Cluster, user: &str) -> Result<Client> {
    let mut config = cluster.config.clone();
    config.auth_info.impersonate = Some(user.to_owned());
    Ok(Client::try_from(config)?)
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

async fn allow(
    admin: &Client,
    name: &str,
    namespace: &str,
    resource: &str,
    verbs: &[&str],
) -> Result<()> {
    let role = json!({"metadata": {"name": "agent"},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]});
    let binding = json!({"metadata": {"name": "agent"}, "subjects": [user(name)],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"}});
    let roles: Api<Role> = Api::namespaced(admin.clone(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), namespace);
    roles
        .create(&PostParams::default(), &serde_json::from_value(role)?)
        .await?;
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    Ok(())
}
