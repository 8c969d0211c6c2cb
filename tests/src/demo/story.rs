//! The story, step by step. Each does one thing to the fleet and waits until the API servers and `muster` have both
//! seen what must come of it; what a step throws is what they saw instead.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, Patch, PatchParams};
use muster_cli::ExitCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::fleet::{APPLICATIONS, NEWCOMER, SETTINGS, broken_release, second_release};
use super::look::{History, agree, changed, placements, versions};
use super::screen::Screen;
use super::stage::{HAND, Stage};
use crate::wait;

/// How one step went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    /// From what was done until both had seen what came of it.
    pub(super) seconds: f64,
}

/// The steps in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    FirstSync,
    Release,
    HandEdit,
    Join,
    HubRestart,
    BrokenCommit,
    Revert,
    Prune,
}

impl Step {
    pub(super) const ALL: [Self; 8] = [
        Self::FirstSync,
        Self::Release,
        Self::HandEdit,
        Self::Join,
        Self::HubRestart,
        Self::BrokenCommit,
        Self::Revert,
        Self::Prune,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstSync => "first sync",
            Self::Release => "a commit that changes production only",
            Self::HandEdit => "a hand edit is repaired",
            Self::Join => "a cluster joins by its token",
            Self::HubRestart => "the hub restarts, and a hand edit is repaired without it",
            Self::BrokenCommit => "a broken commit changes nothing",
            Self::Revert => "git revert",
            Self::Prune => "an application is removed and pruned",
        }
    }
}

/// Plays all steps up to the first that fails.
///
/// # Errors
/// The step that failed, and what was seen. The outcomes on the screen tell the same.
pub(super) async fn play(stage: &mut Stage, screen: &Screen, within: Duration) -> Result<()> {
    let mut story = Story {
        stage,
        screen,
        within,
        begun: Instant::now(),
        release: "1",
        applications: APPLICATIONS.map(|application| application.name).to_vec(),
        history: History::new(),
    };
    for step in Step::ALL {
        screen.begin(step);
        story.begun = Instant::now();
        let played = story.step(step).await;
        let seconds = story.begun.elapsed().as_secs_f64();
        screen.end(Outcome {
            name: step.name(),
            ok: played.is_ok(),
            seconds,
        });
        played.with_context(|| format!("the step `{}` failed", step.name()))?;
        screen.pause().await;
    }
    Ok(())
}

struct Story<'a> {
    stage: &'a mut Stage,
    screen: &'a Screen,
    within: Duration,
    /// When the step did what it does.
    begun: Instant,
    /// Of `web` on production clusters.
    release: &'static str,
    applications: Vec<&'static str>,
    history: History,
}

impl Story<'_> {
    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::FirstSync => self.first_sync().await,
            Step::Release => self.release().await,
            Step::HandEdit => self.hand_edit().await,
            Step::Join => self.join().await,
            Step::HubRestart => self.hub_restart().await,
            Step::BrokenCommit => self.broken_commit().await,
            Step::Revert => self.revert().await,
            Step::Prune => self.prune().await,
        }
    }

    async fn first_sync(&mut self) -> Result<()> {
        self.screen
            .say("each cluster: muster cluster join NAME, then an agent with that token");
        self.stage.join_all().await?;
        self.as_expected().await?;
        let (clusters, objects) = (self.stage.clients.len(), self.versions().await?.len());
        self.screen.say(&format!(
            "3 applications, {objects} objects on {clusters} clusters"
        ));
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        let before = self.versions().await?;
        let (path, settings) = second_release();
        self.begun = Instant::now();
        let subject = "Release 2 of web, for production";
        self.screen
            .say(&format!("git commit -m '{subject}' && git push"));
        let revision = self.stage.world.push(subject, &[(path, &settings)]).await?;
        self.release = "2";
        self.as_expected().await?;

        let changed = changed(&before, &self.versions().await?);
        let production = self.stage.production();
        let expected: Vec<_> = production
            .iter()
            .map(|cluster| format!("{cluster} ConfigMap demo-web/settings"))
            .collect();
        ensure!(
            changed == expected,
            "the API servers saw a change of {changed:?}"
        );
        let moved = self.placed_at(&revision).await?;
        let expected: Vec<_> = production.iter().map(|it| format!("web on {it}")).collect();
        ensure!(moved == expected, "muster says that {moved:?} changed");
        self.screen.say(&format!(
            "changed on {}; nothing else was touched",
            production.join(", ")
        ));
        Ok(())
    }

    async fn hand_edit(&mut self) -> Result<()> {
        let cluster = "eu-prod-1";
        self.begun = Instant::now();
        self.edit(cluster).await?;
        self.as_expected().await?;
        self.remembered(cluster).await
    }

    async fn join(&mut self) -> Result<()> {
        let (name, labels) = NEWCOMER;
        self.screen.say(&format!(
            "muster cluster join {name} --label {}",
            labels.join(" --label ")
        ));
        self.stage.join_newcomer().await?;
        self.as_expected().await?;
        self.screen.say(&format!(
            "{name} holds what its labels ask for: production's release 2"
        ));
        Ok(())
    }

    async fn hub_restart(&mut self) -> Result<()> {
        let cluster = "eu-staging-1";
        self.stage.world.stop_hub().await?;
        let away = self.stage.world.muster(&["status"]).await?;
        ensure!(away.json().is_err(), "the hub should be away, and answers");
        self.screen.say("the hub is stopped");
        let edited = self.edit(cluster).await?;
        wait::until(
            "the agent repairs it without the hub",
            self.within,
            async || {
                let now = self.settings(cluster).await?;
                ensure!(
                    release(&now) != release(&edited),
                    "the edit stands: {:?}",
                    now.data
                );
                Ok(())
            },
        )
        .await?;
        self.screen
            .say("repaired with the hub away; the hub is started again");
        self.stage.world.start_hub().await?;
        self.as_expected().await?;
        self.remembered(cluster).await
    }

    async fn broken_commit(&mut self) -> Result<()> {
        let before = self.versions().await?;
        let adopted = self.stage.world.repository.head()?;
        let ([(settings_path, settings), (path, workload)], line) = broken_release();
        self.begun = Instant::now();
        let subject = "Release 3 of web, in a hurry";
        self.screen
            .say(&format!("git commit -m '{subject}' && git push"));
        let files = [
            (settings_path, settings.as_str()),
            (path, workload.as_str()),
        ];
        let revision = self.stage.world.push(subject, &files).await?;
        let place = format!("{SETTINGS}:{line}");
        let problem = wait::until(&format!("muster shows {place}"), self.within, async || {
            let fleet = self.fleet().await?;
            ensure!(
                fleet["source"]["revision"] == revision,
                "{:#}",
                fleet["source"]
            );
            ensure!(
                fleet["source"]["adoptedRevision"] == adopted,
                "{:#}",
                fleet["source"]
            );
            let problems = fleet["problems"].as_array();
            let shown = problems.and_then(|all| all.iter().find(|it| it["location"] == place));
            shown
                .cloned()
                .with_context(|| format!("the problems shown are {:#}", fleet["problems"]))
        })
        .await?;
        // A second look at the same commit changes as little as the first.
        let told = self.stage.world.muster(&["sync", "now"]).await?;
        ensure!(told.code == ExitCode::Ok, "{}{}", told.out, told.err);
        self.as_expected().await?;
        let changed = changed(&before, &self.versions().await?);
        ensure!(
            changed.is_empty(),
            "the API servers saw a change of {changed:?}"
        );
        let text = problem["message"].as_str().unwrap_or_default();
        self.screen.say(&format!(
            "nothing changed, and muster status says: {place}: {text}"
        ));
        Ok(())
    }

    async fn revert(&mut self) -> Result<()> {
        self.screen.say("git revert HEAD~2..HEAD && git push");
        self.stage.world.repository.revert_newest(2)?;
        self.stage.world.pushed().await?;
        let revision = self.stage.world.repository.head()?;
        self.release = "1";
        self.as_expected().await?;
        wait::until(
            "muster has nothing to complain about",
            self.within,
            async || {
                let fleet = self.fleet().await?;
                let source = &fleet["source"];
                ensure!(source["adoptedRevision"] == revision, "{source:#}");
                ensure!(fleet["problems"] == json!([]), "{:#}", fleet["problems"]);
                Ok(())
            },
        )
        .await?;
        self.screen
            .say("production is back at release 1, and nothing is broken");
        Ok(())
    }

    async fn prune(&mut self) -> Result<()> {
        let subject = "Take monitoring away";
        self.screen.say(&format!(
            "git rm -r apps/monitoring && git commit -m '{subject}' && git push"
        ));
        self.stage
            .world
            .push_removal(subject, &["apps/monitoring"])
            .await?;
        self.applications.retain(|name| *name != "monitoring");
        self.as_expected().await?;
        wait::until("all that monitoring had is gone", self.within, async || {
            let left = self.versions().await?;
            let left: Vec<_> = left
                .keys()
                .filter(|key| key.contains("demo-monitoring"))
                .collect();
            ensure!(left.is_empty(), "the API servers still hold {left:?}");
            for (cluster, client) in &self.stage.clients {
                let namespaces: Api<Namespace> = Api::all(client.clone());
                let namespace = namespaces.get_opt("demo-monitoring").await?;
                ensure!(namespace.is_none(), "{cluster} still has demo-monitoring");
            }
            let fleet = self.fleet().await?;
            for cluster in fleet["clusters"].as_array().context("no clusters")? {
                let counted = (&cluster["applications"], &cluster["applicationsSynced"]);
                ensure!(counted == (&json!(2), &json!(2)), "muster says {cluster:#}");
            }
            Ok(())
        })
        .await?;
        let clusters = self.stage.clients.len();
        self.screen.say(&format!(
            "its objects and its namespace are gone from {clusters} clusters"
        ));
        Ok(())
    }

    /// Waits until both see what should be there now.
    async fn as_expected(&mut self) -> Result<()> {
        let expected = self.stage.expected(self.release, &self.applications);
        agree(
            &self.stage.world,
            &mut self.history,
            &self.stage.clients,
            &expected,
            self.within,
        )
        .await
    }

    async fn versions(&self) -> Result<BTreeMap<String, String>> {
        versions(&self.stage.clients).await
    }

    async fn fleet(&self) -> Result<Value> {
        self.stage
            .world
            .muster(&["status", "-o", "json"])
            .await?
            .json()
    }

    /// What `muster` says has the content of this commit.
    async fn placed_at(&self, revision: &str) -> Result<Vec<String>> {
        let placements = placements(&self.stage.world).await?;
        let moved = placements
            .iter()
            .filter(|it| it["desiredRevision"] == revision);
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        Ok(moved
            .map(|row| format!("{} on {}", text(row, "application"), text(row, "cluster")))
            .collect())
    }

    fn config_maps(&self, cluster: &str) -> Api<ConfigMap> {
        Api::namespaced(self.stage.clients[cluster].clone(), "demo-web")
    }

    async fn settings(&self, cluster: &str) -> Result<ConfigMap> {
        Ok(self.config_maps(cluster).get("settings").await?)
    }

    /// Changes the release of `web` in a cluster as a person with `kubectl edit` does, and sees that it is changed.
    async fn edit(&self, cluster: &str) -> Result<ConfigMap> {
        let by_hand = PatchParams {
            field_manager: Some(HAND.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"data": {"release": "99"}}));
        let edited = self
            .config_maps(cluster)
            .patch("settings", &by_hand, &patch)
            .await?;
        ensure!(
            release(&edited) == Some("99"),
            "the edit is not there: {:?}",
            edited.data
        );
        self.screen.say(&format!(
            "{cluster}: kubectl edit configmap settings -n demo-web: release is 99"
        ));
        Ok(edited)
    }

    /// Waits until `muster drift` tells of the edit by hand, and that it is repaired.
    async fn remembered(&self, cluster: &str) -> Result<()> {
        wait::until("muster drift remembers it", self.within, async || {
            let drift = self
                .stage
                .world
                .muster(&["drift", "-o", "json"])
                .await?
                .json()?;
            let rows = drift["rows"].as_array().cloned().unwrap_or_default();
            let row = rows.iter().find(|row| {
                row["cluster"] == cluster && row["object"]["key"]["name"] == "settings"
            });
            let Some(row) = row else {
                bail!("it tells of {drift:#}")
            };
            let drift = &row["object"]["lastDrift"];
            let fields = drift["fields"].as_array().cloned().unwrap_or_default();
            ensure!(drift["manager"] == HAND, "{drift:#}");
            ensure!(fields.iter().any(|it| it == ".data.release"), "{drift:#}");
            ensure!(drift["repairedAtMs"].as_i64() > Some(0), "{drift:#}");
            Ok(())
        })
        .await?;
        let now = self.settings(cluster).await?;
        let fields = now.metadata.managed_fields.unwrap_or_default();
        let owner = fields.iter().find(|entry| {
            let owned = entry.fields_v1.as_ref();
            owned.is_some_and(|owned| owned.0["f:data"].get("f:release").is_some())
        });
        let owner = owner.and_then(|entry| entry.manager.as_deref());
        ensure!(
            owner == Some("muster"),
            "the API server says that {owner:?} owns it"
        );
        self.screen.say(&format!(
            "repaired; muster drift remembers {HAND}, .data.release, on {cluster}"
        ));
        Ok(())
    }
}

fn release(settings: &ConfigMap) -> Option<&str> {
    settings.data.as_ref()?.get("release").map(String::as_str)
}
