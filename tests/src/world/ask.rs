//! Asking the hub the way people do: through the command-line program.

use anyhow::{Context, Result, bail, ensure};
use muster_cli::{Environment, ExitCode};
use serde_json::Value;

use super::{SOON, World};
use crate::wait;

/// What one run of `muster` gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How it ended.
    pub code: ExitCode,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// The output of a run that went well, as JSON.
    ///
    /// # Errors
    /// With what it said when it did not go well.
    pub fn json(&self) -> Result<Value> {
        ensure!(
            self.code == ExitCode::Ok,
            "muster failed: {}{}",
            self.out,
            self.err
        );
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {}", self.out))
    }
}

/// Runs `muster ARGUMENTS` against the hub that the environment names.
///
/// # Errors
/// When it prints what is no text.
pub async fn ask(environment: &Environment, arguments: &[&str]) -> Result<Answer> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = std::iter::once("muster").chain(arguments.iter().copied());
    let code = muster_cli::run_in(environment, line, &mut out, &mut err).await;
    Ok(Answer {
        code,
        out: String::from_utf8(out)?,
        err: String::from_utf8(err)?,
    })
}

impl World {
    /// Where `muster` finds this hub.
    ///
    /// # Errors
    /// When no hub was ever started.
    pub fn environment(&self) -> Result<Environment> {
        let known = self.known()?;
        Ok(Environment {
            server: Some(known.api.to_string()),
            ca_file: Some(known.ca_file.clone()),
            token_file: Some(known.token_file.clone()),
            ..Environment::default()
        })
    }

    /// Runs `muster ARGUMENTS` against this hub.
    ///
    /// # Errors
    /// When no hub was ever started.
    pub async fn muster(&self, arguments: &[&str]) -> Result<Answer> {
        ask(&self.environment()?, arguments).await
    }

    /// What `muster ARGUMENTS -o json` answers.
    ///
    /// # Errors
    /// When no hub was ever started, or the answer is no JSON.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.muster(&[arguments, &["-o", "json"]].concat()).await?;
        answer.json()
    }

    /// Waits until `muster` says that every placement of `application` holds `revision`'s content: synced and
    /// current, on clusters that are there.
    ///
    /// # Errors
    /// After [`SOON`], with what it said last.
    pub async fn synced(&self, application: &str, clusters: usize) -> Result<Value> {
        wait::until(
            &format!("{application} is synced on {clusters} clusters"),
            SOON,
            async || {
                let detail = self.ask(&["get", "app", application]).await?;
                let placements = detail["placements"].as_array().cloned().unwrap_or_default();
                let good = placements.iter().filter(|placement| {
                    placement["current"] == true
                        && placement["connection"] == "connected"
                        && placement["status"]["sync"] == "Synced"
                        && placement["status"]["health"] == "Current"
                });
                ensure!(
                    good.count() == clusters && placements.len() == clusters,
                    "{detail:#}"
                );
                Ok(detail)
            },
        )
        .await
    }

    /// Waits until the hub has looked at `revision`.
    ///
    /// # Errors
    /// After [`SOON`], with what it said last.
    pub async fn seen(&self, revision: &str) -> Result<Value> {
        wait::until(&format!("the hub has seen {revision}"), SOON, async || {
            let fleet = self.ask(&["status"]).await?;
            if fleet["source"]["revision"] != revision {
                bail!("{fleet:#}");
            }
            Ok(fleet)
        })
        .await
    }
}
