//! A person on call asks what differs on a cluster right now, who wrote it, and what Muster would change.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use muster_cli::ExitCode;
use muster_tests::wait;
use muster_tests::world::{Answer, SOON};
use serde_json::{Value, json};

use super::scenario::{Scenario, application, config_map, objects, push, unique};

/// A workload whose stored form is full of defaults and normalised quantities.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: example.com/web:1
        ports: [{containerPort: 80}]
        env: [{name: A, value: "1"}]
        resources: {limits: {cpu: 1000m, memory: 1024Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"#;

fn with(application: (String, String), spec: &str) -> (String, String) {
    (application.0, format!("{}{spec}", application.1))
}

impl Scenario {
    async fn diff(&self) -> Result<Answer> {
        self.world
            .muster(&["diff", "shop", "--cluster", "one"])
            .await
    }

    /// The diff as JSON, and each object of it by its name.
    async fn compared(&self) -> Result<Value> {
        let line = ["diff", "shop", "--cluster", "one", "-o", "json"];
        let answer = self.world.muster(&line).await?;
        ensure!(
            matches!(answer.code, ExitCode::Ok | ExitCode::NotInSync),
            "{answer:?}"
        );
        Ok(serde_json::from_str(&answer.out)?)
    }

    /// Waits until nothing differs.
    async fn equal(&self) -> Result<Answer> {
        wait::until("nothing differs", SOON, async || {
            let answer = self.diff().await?;
            ensure!(answer.code == ExitCode::Ok, "{answer:?}");
            Ok(answer)
        })
        .await
    }

    fn deployments(&self) -> Result<Api<DynamicObject>> {
        objects(&self.cluster, "apps/v1", "Deployment", &self.namespace)
    }

    /// What a write of the agent would move: its own notes of what it applied, and the objects' contents.
    async fn written(&self) -> Result<Vec<String>> {
        let ours = ListParams::default().labels("muster.dev/application=shop");
        let mut written = Vec::new();
        for (version, kind) in [
            ("v1", "ConfigMap"),
            ("v1", "Secret"),
            ("apps/v1", "Deployment"),
        ] {
            let objects = objects(&self.cluster, version, kind, &self.namespace)?;
            for object in objects.list(&ours).await? {
                let managed = object.metadata.managed_fields.unwrap_or_default();
                // Controllers go on writing theirs.
                let is_ours = |entry: &String| entry.contains("\"muster\"");
                let entries = managed.iter().map(|entry| format!("{entry:?}"));
                let entries: Vec<String> = entries.filter(is_ours).collect();
                let generation = object.metadata.generation;
                written.push(format!(
                    "{:?} {generation:?} {entries:?}",
                    object.metadata.name
                ));
            }
        }
        Ok(written)
    }
}

fn by_hand() -> PatchParams {
    PatchParams {
        field_manager: Some("kubectl-edit".into()),
        ..PatchParams::default()
    }
}

fn object<'a>(compared: &'a Value, name: &str) -> Result<&'a Value> {
    let objects = compared["objects"].as_array().context("no objects")?;
    let mut found = objects
        .iter()
        .filter(|object| object["status"]["key"]["name"] == name);
    found
        .next()
        .with_context(|| format!("no {name} in {compared:#}"))
}

/// `path: live -> desired, how by whom`, of each field.
fn fields(object: &Value) -> Vec<String> {
    let fields = object["fields"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |field: &Value| {
        format!(
            "{}: {} -> {}, {} by {}",
            text(&field["path"]),
            text(&field["live"]),
            text(&field["desired"]),
            text(&field["how"]),
            text(&field["manager"])
        )
    };
    fields.iter().map(line).collect()
}

#[tokio::test]
async fn what_people_changed_is_shown_field_by_field_and_nothing_is_written_by_asking() -> Result<()>
{
    let (right, wrong) = (unique("hidden-right"), unique("hidden-wrong"));
    let scenario = Scenario::start(|namespace| {
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: door\nstringData:\n  key: {right}\n"
        );
        vec![
            with(
                application("shop", namespace),
                "  sync: {selfHeal: false}\n",
            ),
            config_map("shop", "settings", "colour", "blue"),
            config_map("shop", "missing", "a", "1"),
            config_map("shop", "fine", "a", "1"),
            ("shop/door.yaml".into(), secret),
            ("shop/web.yaml".into(), WEB.into()),
        ]
    })
    .await?;
    wait::until("all is there", SOON, async || {
        scenario.deployments()?.get("web").await?;
        scenario.value("settings", "colour").await
    })
    .await?;
    // Defaults and normalised quantities are no difference.
    let answer = scenario.equal().await?;
    ensure!(
        answer.out.starts_with("shop on one, Git at ")
            && answer.out.contains(": 6 objects as Git says."),
        "{answer:?}"
    );

    scenario.edit("settings", "colour", "pink").await?;
    let secrets: Api<Secret> = Api::namespaced(scenario.cluster.client()?, &scenario.namespace);
    let edit = Patch::Merge(json!({"stringData": {"key": wrong}}));
    secrets.patch("door", &by_hand(), &edit).await?;
    let delete = DeleteParams::default();
    scenario.config_maps()?.delete("missing", &delete).await?;
    let debug = json!({"spec": {"replicas": 5, "template": {"spec": {"containers": [
        {"name": "debug", "image": "busybox"}, {"name": "web", "image": "example.com/web:1", "env": [{"name": "B", "value": "2"}]}]}}}});
    scenario
        .deployments()?
        .patch("web", &by_hand(), &Patch::Strategic(debug))
        .await?;
    wait::until("the deletion is believed", SOON, async || {
        let compared = scenario.compared().await?;
        ensure!(
            object(&compared, "missing")?["held"] == "self-heal is off (sync.selfHeal)",
            "{compared:#}"
        );
        Ok(())
    })
    .await?;

    let before = scenario.written().await?;
    ensure!(before.len() == 4, "{before:#?}");
    let compared = scenario.compared().await?;
    ensure!(compared["equal"] == 2, "{compared:#}");
    let settings = object(&compared, "settings")?;
    ensure!(settings["change"] == "update", "{settings:#}");
    ensure!(
        fields(settings) == [".data.colour: \"pink\" -> \"blue\", changed by kubectl-edit"],
        "{settings:#}"
    );
    let at = settings["fields"][0]["atMs"].as_i64().unwrap_or_default();
    let age = jiff::Timestamp::now().as_millisecond() - at;
    ensure!((0..120_000).contains(&age), "{settings:#}");
    let missing = object(&compared, "missing")?;
    ensure!(
        missing["change"] == "create"
            && missing["desired"]
                .to_string()
                .contains("\\\"a\\\":\\\"1\\\""),
        "{missing:#}"
    );
    let web = object(&compared, "web")?;
    ensure!(
        fields(web)
            == [
                ".spec.replicas: 5 -> 2, changed by kubectl-edit",
                ".spec.template.spec.containers[name=\"debug\"]: {} -> -, added by kubectl-edit",
                ".spec.template.spec.containers[name=\"web\"].env[name=\"B\"]: {\"name\":\"B\",\"value\":\"2\"} -> -, added by kubectl-edit",
            ]
            .map(|line| line.replace("{}", &debug_container(web))),
        "{web:#}"
    );
    let door = object(&compared, "door")?;
    ensure!(
        fields(door) == [".data.key: (secret) -> (secret), changed by kubectl-edit"],
        "{door:#}"
    );
    let text = scenario.diff().await?;
    ensure!(text.code == ExitCode::NotInSync, "{text:?}");
    for line in [
        "  .data.colour   (by kubectl-edit, ",
        "\n- \"pink\"\n+ \"blue\"\n",
        "not there, would be created",
        "not now: self-heal is off (sync.selfHeal)",
        "4 objects differ, 2 objects as Git says.",
    ] {
        ensure!(text.out.contains(line), "{line:?} is not in {}", text.out);
    }
    for page in [compared.to_string(), text.out] {
        ensure!(!page.contains(&right) && !page.contains(&wrong));
    }
    ensure!(
        scenario.written().await? == before,
        "asking wrote something"
    );
    Ok(())
}

/// The debug container as the API server filled it in.
fn debug_container(web: &Value) -> String {
    let fields = web["fields"].as_array().cloned().unwrap_or_default();
    let field = fields.iter().find(|field| {
        field["path"]
            .as_str()
            .is_some_and(|it| it.ends_with("[name=\"debug\"]"))
    });
    let live = field.and_then(|field| field["live"].as_str());
    live.unwrap_or("no such container").to_owned()
}

#[tokio::test]
async fn what_left_git_is_shown_with_why_it_stays_and_a_resume_makes_it_equal() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
            config_map("shop", "old", "a", "1"),
        ]
    })
    .await?;
    scenario.world.synced("shop", 1).await?;
    let pause = ["pause", "shop", "--reason", "looking"];
    let paused = scenario.world.muster(&pause).await?;
    ensure!(paused.code == ExitCode::Ok, "{paused:?}");
    push(
        &scenario.world,
        "Paint it red",
        &[config_map("shop", "settings", "colour", "red")],
    )
    .await?;
    scenario
        .world
        .push_removal("Drop the old", &["shop/old.yaml"])
        .await?;
    wait::until("both wait", SOON, async || {
        let compared = scenario.compared().await?;
        for (name, change) in [("settings", "update"), ("old", "delete")] {
            let object = object(&compared, name)?;
            let held = object["held"].as_str().unwrap_or_default();
            ensure!(
                object["change"] == change && held.contains("by admin (looking)"),
                "{compared:#}"
            );
        }
        ensure!(
            fields(object(&compared, "settings")?)
                == [".data.colour: \"blue\" -> \"red\", changed by muster"],
            "{compared:#}"
        );
        Ok(())
    })
    .await?;
    let resumed = scenario.world.muster(&["resume", "shop"]).await?;
    ensure!(resumed.code == ExitCode::Ok, "{resumed:?}");
    scenario.becomes("settings", "colour", "red").await?;
    scenario.goes("old").await?;
    scenario.equal().await?;
    Ok(())
}

#[tokio::test]
async fn what_a_rule_leaves_to_others_is_told_and_is_no_difference() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        let rule = "  ignoreDifferences:\n  - {kind: ConfigMap, jsonPointers: [/data/colour]}\n";
        vec![
            with(application("shop", namespace), rule),
            config_map("shop", "settings", "colour", "blue"),
        ]
    })
    .await?;
    scenario.world.synced("shop", 1).await?;
    scenario.edit("settings", "colour", "pink").await?;
    let answer = scenario.equal().await?;
    ensure!(
        answer
            .out
            .contains(".data.colour   (ignored, left to kubectl-edit: \"pink\", in Git \"blue\")"),
        "{answer:?}"
    );
    ensure!(scenario.value("settings", "colour").await? == "pink");
    Ok(())
}

#[tokio::test]
async fn one_object_is_told_of_whole_and_only_what_is_gits_or_ours() -> Result<()> {
    let scenario = Scenario::shop().await?;
    let get = async |object: &[&str], more: &[&str]| {
        let line = [&["get", "object"], object, &["--cluster", "one"], more].concat();
        scenario.world.muster(&line).await
    };
    let place = format!("{}/settings", scenario.namespace);
    let page = get(&["cm", &place], &[]).await?;
    ensure!(page.code == ExitCode::Ok, "{page:?}");
    for part in [
        "Application:   shop",
        "Sync:          Synced",
        "Now:           as Git says",
        ".data.colour ",
    ] {
        ensure!(page.out.contains(part), "{part:?} is not in {}", page.out);
    }
    let live = get(
        &["configmap/settings"],
        &["-n", &scenario.namespace, "-o", "json"],
    )
    .await?;
    let live = live.json()?;
    ensure!(live["data"]["colour"] == "blue", "{live:#}");
    ensure!(live["metadata"]["managedFields"] == Value::Null, "{live:#}");

    // It is there, and nobody's business.
    let other = get(
        &["configmap/kube-root-ca.crt"],
        &["-n", &scenario.namespace],
    )
    .await?;
    ensure!(
        other.code == ExitCode::Failed && other.err.contains("nothing else can be asked for"),
        "{other:?}"
    );
    let other = get(&["secret/settings"], &[]).await?;
    ensure!(other.code == ExitCode::Failed, "{other:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_api_server_refuses_and_what_it_does_not_serve_say_why() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        let wrong = WEB.replace("containerPort: 80", "containerPort: 99999");
        let unknown = "apiVersion: nobody.example/v1\nkind: Thing\nmetadata: {name: thing}\n";
        vec![
            application("shop", namespace),
            config_map("shop", "settings", "colour", "blue"),
            ("shop/web.yaml".into(), wrong),
            ("shop/thing.yaml".into(), unknown.into()),
        ]
    })
    .await?;
    scenario.becomes("settings", "colour", "blue").await?;
    let compared = scenario.compared().await?;
    let objects = compared["objects"].as_array().cloned().unwrap_or_default();
    let refused = |kind: &str, part: &str| {
        objects.iter().any(|object| {
            object["status"]["key"]["kind"] == kind
                && object["change"] == "refused"
                && object["error"].as_str().is_some_and(|it| it.contains(part))
        })
    };
    ensure!(refused("Deployment", "containerPort"), "{compared:#}");
    ensure!(refused("Thing", "does not serve Thing"), "{compared:#}");
    ensure!(scenario.diff().await?.code == ExitCode::NotInSync);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_gets_too_large_is_cut_and_says_so() -> Result<()> {
    let scenario = Scenario::start(|namespace| {
        let only = "  sync: {detectOnly: true}\n";
        let large = |n: usize| config_map("shop", &format!("large-{n}"), "a", &"x".repeat(600_000));
        let mut files = vec![with(application("shop", namespace), only)];
        files.extend((0..3).map(large));
        files
    })
    .await?;
    let answer = wait::until("three would be created", SOON, async || {
        let answer = scenario.diff().await?;
        ensure!(answer.out.contains("3 objects differ"), "{answer:.400?}");
        Ok(answer)
    })
    .await?;
    ensure!(answer.out.len() < 1_500_000, "{}", answer.out.len());
    ensure!(
        answer.out.matches("too large to be shown").count() == 2,
        "{}",
        answer.out.replace('x', "")
    );
    ensure!(
        answer.out.contains("the application only detects"),
        "{}",
        answer.out.replace('x', "")
    );
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_away_can_not_be_asked_and_its_last_word_is_told() -> Result<()> {
    let mut scenario = Scenario::shop().await?;
    scenario.world.member("one").stop_agent().await?;
    scenario.world.pass(Duration::from_secs(46));
    let answer = wait::until("it is said to be away", SOON, async || {
        let answer = scenario.diff().await?;
        ensure!(answer.err.contains("one is unknown since "), "{answer:?}");
        Ok(answer)
    })
    .await?;
    ensure!(answer.code == ExitCode::Failed, "{answer:?}");
    ensure!(
        answer.err.trim_end().ends_with("says Synced, Current"),
        "{answer:?}"
    );
    scenario.world.member("one").start_agent()?;
    scenario.equal().await?;
    Ok(())
}
