//! A person who changes a cluster by hand, and what becomes of it.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::super::stage::HAND;
use super::Story;
use crate::wait;

/// The release that is put in by hand; Git never had it.
const WRONG: &str = "99";

impl Story<'_> {
    /// Changes the release of `web` in a cluster as a person with `kubectl edit` does, and waits until the API server
    /// has lost it again.
    pub(super) async fn edit_and_see_it_repaired(&self, cluster: &str) -> Result<()> {
        let by_hand = PatchParams {
            field_manager: Some(HAND.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"data": {"release": WRONG}}));
        self.screen.did(&format!(
            "kubectl edit configmap settings -n demo-web   # {cluster}: release: \"{WRONG}\""
        ));
        let begun = Instant::now();
        let edited = self
            .config_maps(cluster)
            .patch("settings", &by_hand, &patch)
            .await?;
        ensure!(
            release(&edited) == Some(WRONG),
            "the edit is not there: {:?}",
            edited.data
        );
        let what = format!("the agent of {cluster} repairs it");
        wait::until(&what, self.within, async || {
            let now = self.settings(cluster).await?;
            ensure!(
                release(&now) != Some(WRONG),
                "the edit stands: {:?}",
                now.data
            );
            Ok(())
        })
        .await?;
        self.screen.saw(&format!(
            "repaired after {:.2} s",
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Waits until `muster drift` tells of the edit, and that it is repaired; and asks the API server whose it is.
    pub(super) async fn remembered(&self, cluster: &str) -> Result<()> {
        wait::until("muster drift remembers it", self.within, async || {
            let drift = self.stage.world.ask(&["drift"]).await?;
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
        self.screen.saw(&format!(
            "muster drift: .data.release changed by {HAND} on {cluster}, repaired"
        ));
        Ok(())
    }

    fn config_maps(&self, cluster: &str) -> Api<ConfigMap> {
        Api::namespaced(self.stage.clients[cluster].clone(), "demo-web")
    }

    async fn settings(&self, cluster: &str) -> Result<ConfigMap> {
        Ok(self.config_maps(cluster).get("settings").await?)
    }
}

fn release(settings: &ConfigMap) -> Option<&str> {
    settings.data.as_ref()?.get("release").map(String::as_str)
}
