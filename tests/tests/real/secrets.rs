//! Secret values appear nowhere but in Secrets (DESIGN.md, invariant 10): not in a log line of hub or agent at any
//! level, in no answer of the hub, in no event and no ConfigMap, whatever goes wrong around them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use muster_tests::wait;
use muster_tests::world::SOON;
use serde_json::json;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use super::scenario::{Scenario, application, config_map, problems, push, unique};

/// Everything that was logged on this test's thread: hub and agent run on it too.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

/// The values that must not be seen, as they are and as base64.
struct Hidden(Vec<String>);

impl Hidden {
    fn new(values: &[&str]) -> Self {
        let both = |value: &&str| [(*value).to_owned(), BASE64_STANDARD.encode(value)];
        Self(values.iter().flat_map(both).collect())
    }

    fn ensure_absent(&self, place: &str, text: &str) -> Result<()> {
        for value in &self.0 {
            // The value itself stays out of the failure as well.
            ensure!(!text.contains(value), "{place} shows a secret value");
        }
        Ok(())
    }
}

fn secret(name: &str, data: &str) -> (String, String) {
    let object = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{data}\n");
    (format!("shop/{name}.yaml"), object)
}

#[tokio::test]
async fn a_secrets_value_appears_nowhere_but_in_secrets() -> Result<()> {
    let log = Log::default();
    let everything_of_ours = Targets::new()
        .with_target("muster_hub", tracing::Level::TRACE)
        .with_target("muster_agent", tracing::Level::TRACE)
        .with_target("muster_proto", tracing::Level::TRACE);
    // While a process has one subscriber alone, whether a place logs is decided by the thread that gets there first, and
    // other tests' threads have none.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(log.clone());
    let _logged = tracing_subscriber::registry()
        .with(lines.with_filter(everything_of_ours))
        .set_default();

    let [right, by_hand, refused, broken] =
        ["right", "by-hand", "refused", "broken"].map(|it| unique(&format!("hidden-{it}")));
    let hidden = Hidden::new(&[&right, &by_hand, &refused, &broken]);

    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
            secret("door", &format!("stringData:\n  key: {right}")),
        ]
    })
    .await?;
    let secrets: Api<Secret> = Api::namespaced(scenario.cluster.client()?, &scenario.namespace);
    let holds_the_right_one = async || {
        let door = secrets.get("door").await?;
        let held = door.data.and_then(|mut data| data.remove("key"));
        ensure!(
            held.is_some_and(|held| held.0 == right.as_bytes()),
            "another value"
        );
        Ok(())
    };
    wait::until("the secret is there", SOON, holds_the_right_one).await?;
    scenario.world.synced("shop", 1).await?;

    // Drift on it is repaired, and told without the values.
    let editor = PatchParams {
        field_manager: Some("kubectl-edit".into()),
        ..PatchParams::default()
    };
    let edit = Patch::Merge(json!({"stringData": {"key": by_hand}}));
    secrets.patch("door", &editor, &edit).await?;
    wait::until("the secret is repaired", SOON, holds_the_right_one).await?;
    wait::until("the edit is remembered", SOON, async || {
        let drift = scenario.world.ask(&["drift"]).await?;
        let row = &drift["rows"][0]["object"]["lastDrift"];
        ensure!(row["fields"] == json!([".data.key"]), "{drift:#}");
        Ok(())
    })
    .await?;

    // The API server refuses one, and says with which words.
    let not_base64 = format!("data:\n  key: \"{refused} %\"");
    push(
        &scenario.world,
        "A value that is no base64",
        &[secret("cellar", &not_base64)],
    )
    .await?;
    wait::until("the refusal is shown", SOON, async || {
        let detail = scenario.world.ask(&["get", "app", "shop"]).await?;
        ensure!(
            detail["placements"][0]["status"]["sync"] == "Failed",
            "{detail:#}"
        );
        Ok(())
    })
    .await?;

    // A document breaks right behind one.
    let unfinished = format!("stringData: {{key: {broken}, other: [}}");
    push(
        &scenario.world,
        "A broken document",
        &[secret("gate", &unfinished)],
    )
    .await?;
    wait::until("the fault is shown", SOON, async || {
        let fleet = scenario.world.ask(&["status"]).await?;
        let problems = problems(&fleet);
        ensure!(
            problems.iter().any(|it| it.contains("shop/gate.yaml:")),
            "{problems:?}"
        );
        Ok(())
    })
    .await?;

    for question in [
        &["status"][..],
        &["clusters"],
        &["apps"],
        &["get", "cluster", "one"],
        &["get", "app", "shop"],
        &["drift"],
        &["diff", "shop", "--cluster", "one"],
        &["get", "object", "secret/door", "--cluster", "one"],
        &["get", "object", "secret/cellar", "--cluster", "one"],
    ] {
        for form in ["wide", "json", "yaml"] {
            let answer = scenario
                .world
                .muster(&[question, &["-o", form]].concat())
                .await?;
            hidden.ensure_absent(&format!("muster {}", question.join(" ")), &answer.out)?;
            hidden.ensure_absent(&format!("muster {}", question.join(" ")), &answer.err)?;
        }
    }
    let events: Api<Event> = Api::all(scenario.cluster.client()?);
    let config_maps: Api<ConfigMap> = Api::all(scenario.cluster.client()?);
    let all = ListParams::default();
    hidden.ensure_absent(
        "an event",
        &serde_json::to_string(&events.list(&all).await?)?,
    )?;
    hidden.ensure_absent(
        "a ConfigMap",
        &serde_json::to_string(&config_maps.list(&all).await?)?,
    )?;

    let log = log.text();
    ensure!(
        log.contains("muster_hub") && log.contains("muster_agent"),
        "hub and agent were not listened to: {} bytes",
        log.len()
    );
    hidden.ensure_absent("the log", &log)
}
