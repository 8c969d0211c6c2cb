//! The programs a real cluster is made of: found, or built once, by `tests/kubernetes/build`, which pins them.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;
use tokio::sync::OnceCell;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");

/// The version of Kubernetes every real cluster runs: `1.37.2`.
///
/// # Panics
/// When the Go module that pins it does not.
#[must_use]
pub fn pinned_version() -> &'static str {
    include_str!("../../../kubernetes/server/go.mod")
        .lines()
        .filter_map(|line| line.split_once("k8s.io/kubernetes v"))
        .find_map(|(_, version)| version.split_whitespace().next())
        .expect("tests/kubernetes/server/go.mod pins k8s.io/kubernetes")
}

/// Where the pinned kubectl is.
///
/// # Errors
/// When it is not there and cannot be built.
pub async fn kubectl() -> Result<&'static Path> {
    find("kubectl").await
}

/// Where a program is that no cluster needs: a peer's. Built when it is not there, which takes minutes.
///
/// # Errors
/// When it is not known or cannot be built.
pub async fn program(name: &str) -> Result<PathBuf> {
    let mut built = build(&[name]).await?;
    built
        .remove(name)
        .with_context(|| format!("{FOLDER}/build says nothing of {name}"))
}

/// Where a program is. The first call in a process may build, which takes minutes and says so on stderr.
pub(super) async fn find(name: &str) -> Result<&'static Path> {
    static PROGRAMS: OnceCell<BTreeMap<String, PathBuf>> = OnceCell::const_new();
    let programs = PROGRAMS.get_or_try_init(|| build(&[])).await?;
    programs
        .get(name)
        .map(PathBuf::as_path)
        .with_context(|| format!("{FOLDER}/build knows no {name}"))
}

async fn build(names: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    // Not `output()`, which would take its words away.
    let building = Command::new(format!("{FOLDER}/build"))
        .args(names)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run tests/kubernetes/build")?;
    let output = building.wait_with_output().await?;
    ensure!(
        output.status.success(),
        "tests/kubernetes/build: {}",
        output.status
    );
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, path)| (name.to_owned(), path.into()))
        .collect())
}
