//! The programs that users run, built as they are shipped: of their own packages, small.
//!
//! In: nothing but this workspace. Out: where `muster-hub` and `muster-agent` lie; `muster` is the testbed's.

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
    println!(
        "Building muster-hub and muster-agent as they are shipped; the first time that takes long."
    );
    Ok(Programs {
        hub: program("muster-hub", "dist").await?,
        agent: program("muster-agent", "dist-agent").await?,
        ..Programs::of_the_testbed()?
    })
}

async fn program(name: &str, profile: &str) -> Result<Program> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile, "-p", name])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("cargo can't be started")?;
    ensure!(built.status.success(), "{name} can't be built");
    let lines = String::from_utf8(built.stdout)?;
    let mut lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let file = lines.find_map(|line| {
        let is_it = line.target.is_some_and(|target| target.name == name);
        line.executable.filter(|_| is_it)
    });
    let file = file.with_context(|| format!("cargo did not say where {name} is"))?;
    Ok(Program::shipped(&file))
}
