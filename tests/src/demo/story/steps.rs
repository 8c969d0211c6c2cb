//! The eight steps.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use muster_cli::ExitCode;
use serde_json::{Value, json};

use super::super::fleet::{NEWCOMER, SETTINGS, broken_release, second_release};
use super::super::look::{agree, changed, placements, versions};
use super::{Step, Story};
use crate::wait;

impl Story<'_> {
    pub(super) async fn step(&mut self, step: Step) -> Result<()> {
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
        self.screen.act();
        self.screen
            .did("muster cluster join NAME, then an agent with that token: for each cluster");
        self.stage.join_all().await?;
        self.as_expected().await?;
        let (clusters, objects) = (self.stage.clients.len(), self.versions().await?.len());
        self.screen.saw(&format!(
            "{} applications, {objects} objects on {clusters} clusters, all healthy",
            self.applications.len()
        ));
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        let before = self.versions().await?;
        let (path, settings) = second_release();
        let subject = "Release 2 of web, for production";
        self.screen.act();
        self.screen
            .did(&format!("git commit -m '{subject}' && git push"));
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
        self.screen.saw(&format!(
            "changed on {}; nothing else was touched",
            production.join(" and ")
        ));
        Ok(())
    }

    async fn hand_edit(&mut self) -> Result<()> {
        let cluster = "eu-prod-1";
        self.screen.act();
        self.edit_and_see_it_repaired(cluster).await?;
        self.as_expected().await?;
        self.remembered(cluster).await
    }

    async fn join(&mut self) -> Result<()> {
        let (name, labels) = NEWCOMER;
        self.screen.act();
        self.screen.did(&format!(
            "muster cluster join {name} --label {}",
            labels.join(" --label ")
        ));
        self.stage.join_newcomer().await?;
        self.as_expected().await?;
        self.screen.saw(&format!(
            "{name} holds what its labels ask for: production's release 2"
        ));
        Ok(())
    }

    async fn hub_restart(&mut self) -> Result<()> {
        let cluster = "eu-staging-1";
        self.screen.act();
        self.stage.world.stop_hub().await?;
        let away = self.stage.world.muster(&["status"]).await?;
        ensure!(
            away.code != ExitCode::Ok,
            "the hub should be away, and answers"
        );
        self.screen.saw("the hub is stopped");
        self.edit_and_see_it_repaired(cluster).await?;
        self.screen.glance().await;
        self.stage.world.start_hub().await?;
        self.screen.saw("the hub is started again");
        self.as_expected().await?;
        self.remembered(cluster).await
    }

    async fn broken_commit(&mut self) -> Result<()> {
        let before = self.versions().await?;
        let adopted = self.stage.world.repository.head()?;
        let ([(settings_path, settings), (path, workload)], line) = broken_release();
        let subject = "Release 3 of web, in a hurry";
        self.screen.act();
        self.screen
            .did(&format!("git commit -m '{subject}' && git push"));
        let files = [
            (settings_path, settings.as_str()),
            (path, workload.as_str()),
        ];
        let revision = self.stage.world.push(subject, &files).await?;
        let place = format!("{SETTINGS}:{line}");
        let problem = wait::until(&format!("muster shows {place}"), self.within, async || {
            let fleet = self.fleet().await?;
            let source = &fleet["source"];
            ensure!(source["revision"] == revision, "{source:#}");
            ensure!(source["adoptedRevision"] == adopted, "{source:#}");
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
        self.screen.saw(&format!("{place}: {text}"));
        self.screen.saw("nothing changed, on no cluster");
        Ok(())
    }

    async fn revert(&mut self) -> Result<()> {
        self.screen.act();
        self.screen.did("git revert HEAD~2..HEAD && git push");
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
            .saw("production is back at release 1, and nothing is broken");
        Ok(())
    }

    async fn prune(&mut self) -> Result<()> {
        let subject = "Take monitoring away";
        let begun = Instant::now();
        self.screen.act();
        self.screen.did(&format!(
            "git rm -r apps/monitoring && git commit -m '{subject}' && git push"
        ));
        self.stage
            .world
            .push_removal(subject, &["apps/monitoring"])
            .await?;
        self.applications.retain(|name| *name != "monitoring");
        let mut objects_gone = None;
        wait::until("all that monitoring had is gone", self.within, async || {
            let there = self.versions().await?;
            let left = there.keys().filter(|key| key.contains("demo-monitoring"));
            let left: Vec<_> = left.collect();
            if left.iter().all(|key| key.contains(" Namespace ")) {
                objects_gone.get_or_insert_with(|| begun.elapsed());
            }
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
        let (gone, all) = (objects_gone.unwrap_or_default(), begun.elapsed());
        self.as_expected().await?;
        self.screen.saw(&format!(
            "gone from {} clusters: its objects after {:.1} s, its namespaces after {:.1} s",
            self.stage.clients.len(),
            gone.as_secs_f64(),
            all.as_secs_f64()
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
        self.stage.world.ask(&["status"]).await
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
}
