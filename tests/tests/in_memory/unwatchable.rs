//! A kind that can't be watched holds up nobody else, and says why.

use muster_proto::ObjectStatus;

use crate::*;

/// Whatever asks for Services is refused, as by RBAC.
fn refuse_services(server: &Server) {
    server.set_fault(Some(Arc::new(|call: &Call| {
        call.path
            .contains("/services")
            .then_some(Fault::Status(403))
    })));
}

/// ConfigMaps, and one Service.
fn shop(generation: u64, config_maps: usize) -> Result<Desired> {
    let key = DigestKey::new([5; 32]);
    let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]}});
    let mut objects = vec![Arc::new(Object::new(&body, &key)?)];
    let plain = desired(generation, config_maps, 0)?;
    objects.extend(plain.applications[0].objects().iter().cloned());
    let settings = Settings {
        namespace: "shop".into(),
        ..Settings::default()
    };
    let shop = DesiredApplication::new("shop".parse()?, "abc".into(), settings, objects);
    let applications = vec![Arc::new(shop)];
    let removals = Removals::Released;
    Ok(Desired::new(generation, applications, removals, Vec::new()))
}

/// Waits until the Service's row is there, of a state in which all else is well.
async fn only_the_service_fails(engine: &Engine, generation: u64) -> Result<ObjectStatus> {
    wait::until("the Service is shown", PATIENCE, async || {
        let rows = engine.rows().borrow().clone();
        let row = rows.applications().get("shop");
        let good = |row: &muster_proto::ApplicationStatus| row.synced + 1 == row.objects;
        let objects: Vec<_> = rows.objects().values().cloned().collect();
        ensure!(
            rows.generation() == generation && row.is_some_and(good) && objects.len() == 1,
            "{rows:?}"
        );
        Ok(objects[0].clone())
    })
    .await
}

#[tokio::test]
async fn a_kind_that_can_not_be_watched_is_shown_and_holds_up_nothing() -> Result<()> {
    let server = Server::new(Options::default());
    refuse_services(&server);
    let engine = start(&server, "first").await?;
    engine.accept(shop(1, 3)?).await?;
    let row = only_the_service_fails(&engine, 1).await?;
    assert_eq!(row.key.kind, "Service");
    assert_eq!(row.sync, SyncStatus::Failed);
    assert!(!row.message.is_empty());

    // What left Git goes all the same.
    engine.accept(shop(2, 2)?).await?;
    let config_maps = Api::<ConfigMap>::namespaced(server.client(), "shop");
    wait::until("c2 is pruned", PATIENCE, async || {
        ensure!(config_maps.get_opt("c2").await?.is_none());
        Ok(())
    })
    .await?;

    // And a new agent does not keep silent for it.
    engine.stop(engine::Stop::Because("restarted".into())).await;
    let engine = start(&server, "second").await?;
    only_the_service_fails(&engine, 2).await?;

    server.set_fault(None);
    synced(&engine, 2).await
}
