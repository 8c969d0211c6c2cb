//! Order among many objects, with every call looked at.

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use muster_proto::{Desired, DesiredApplication, DigestKey, Object, Removals, Settings};
use muster_tests::memory::{Call, Options, Server};
use serde_json::json;

use crate::{start, synced};

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
