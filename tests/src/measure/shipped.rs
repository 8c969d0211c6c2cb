//! The programs that users run, built as they are shipped: of their own packages, in the profile `dist`.
//!
//! In: nothing but this workspace. Out: where `muster-hub` and `muster-agent` lie; `muster` is the testbed's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::programs::{Program, Programs};

/// One line that cargo prints for programs.
#[derive(Deserialize)]
struct Line {
    executable: Option<String>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds hub and agent.
pub(super) async fn build() -> Result<Programs> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    println!(
        "Building muster-hub and muster-agent as they are shipped; the first time that takes long."
    );
    let built = Command::new(cargo)
        .args(["build", "--profile=dist", "--quiet"])
        .args(["-p", "muster-hub", "-p", "muster-agent"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("cargo can't be started")?;
    ensure!(
        built.status.success(),
        "muster-hub and muster-agent can't be built"
    );
    let lines = String::from_utf8(built.stdout)?;
    let lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let files: BTreeMap<String, String> = lines
        .filter_map(|line: Line| Some((line.target?.name, line.executable?)))
        .collect();
    let program = |name: &str| {
        let file = files.get(name);
        let file = file.with_context(|| format!("cargo did not say where {name} is"))?;
        anyhow::Ok(Program::shipped(file))
    };
    Ok(Programs {
        hub: program("muster-hub")?,
        agent: program("muster-agent")?,
        ..Programs::of_the_testbed()?
    })
}
