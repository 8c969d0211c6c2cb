//! An application with a ServiceAccount of its own.

use anyhow::{Result, ensure};
use kube::api::Api;
use muster_proto::{Settings, SyncStatus};
use muster_tests::wait;
use serde_json::json;

use super::super::bed::{PATIENCE, application, bed, config};

/// An application's own ServiceAccount is what the API server sees, when it applies and when it removes.
#[tokio::test]
async fn an_application_may_do_what_its_service_account_may_and_nothing_else() -> Result<()> {
    let bed = bed("impersonate").await?;
    let rbac = |verbs: serde_json::Value| -> Result<(
        k8s_openapi::api::rbac::v1::Role,
        k8s_openapi::api::rbac::v1::RoleBinding,
    )> {
        let role = json!({"metadata": {"name": "deployer"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
        let binding = json!({"metadata": {"name": "deployer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
            "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": bed.namespace}]});
        Ok((
            serde_json::from_value(role)?,
            serde_json::from_value(binding)?,
        ))
    };
    let roles: Api<k8s_openapi::api::rbac::v1::Role> = bed.api();
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = bed.api();
    let (role, binding) = rbac(json!(["create", "patch", "get"]))?;
    roles.create(&Default::default(), &role).await?;
    bindings.create(&Default::default(), &binding).await?;
    let shop = |objects: &[serde_json::Value]| {
        let service_account = format!("{}/deployer", bed.namespace);
        application(
            "shop",
            Settings {
                service_account,
                ..bed.settings()
            },
            objects,
        )
    };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    bed.accept(
        1,
        vec![shop(&[config("a", "1"), config("b", "1"), secret])?],
    )
    .await?;
    bed.holds("a", "1").await?;
    let row = bed
        .object("s", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        row.message
            .contains("deployer\" cannot patch resource \"secrets\""),
        "{}",
        row.message
    );

    // It may not delete: the object stays, is reported, and is tried again as the same account.
    bed.accept(2, vec![shop(&[config("a", "1")])?]).await?;
    let row = bed
        .object("b", |row| row.sync == SyncStatus::Failed)
        .await?;
    assert!(
        row.message.contains("deployer") && row.message.contains("cannot delete"),
        "{}",
        row.message
    );
    ensure!(bed.maps().get_opt("b").await?.is_some());

    // Also when the whole application left Git, and with it what said which account to use.
    let (role, _) = rbac(json!(["create", "patch", "get", "delete"]))?;
    bed.accept(3, Vec::new()).await?;
    bed.object("a", |row| row.message.contains("cannot delete"))
        .await?;
    roles
        .replace("deployer", &Default::default(), &role)
        .await?;
    wait::until("both are gone", PATIENCE, async || {
        let left = bed
            .maps()
            .list(&kube::api::ListParams::default().labels("muster.dev/application"))
            .await?;
        ensure!(left.items.is_empty());
        Ok(())
    })
    .await
}
