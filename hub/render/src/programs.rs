//! The programs that render: where they are, which version, and how they are called.
//!
//! In: the configuration. Out: a [`Program`] for each tool that is there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use muster_decide::render::{Job, Tool};
use tokio::process::Command;

use super::folder::Folder;
use crate::{By, Rendering, ToolFile};

/// To say its version takes milliseconds; this is for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that is there.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) file: PathBuf,
    /// As it says it.
    pub(super) version: String,
}

/// Every tool that is configured or on the PATH.
pub(super) async fn find(rendering: &Rendering) -> anyhow::Result<BTreeMap<Tool, Program>> {
    let mut programs = BTreeMap::new();
    for tool in Tool::ALL {
        let file = match &rendering.tools[&tool] {
            ToolFile::None => continue,
            ToolFile::At(file) => file.clone(),
            ToolFile::Search(folders) => match on_path(folders, tool.name()) {
                Some(file) => file,
                None => continue,
            },
        };
        let program = ask(tool, &file).await.with_context(|| {
            format!(
                "{} can't be used: give another one with --{}, or `none`",
                file.display(),
                tool.name()
            )
        })?;
        programs.insert(tool, program);
    }
    Ok(programs)
}

/// What to say where a tool is needed that is not there.
pub(super) fn missing(tool: Tool, by: By) -> String {
    let name = tool.name();
    match by {
        By::Hub => format!(
            "it takes {name}, and the hub found none when it started: put it on the hub's PATH or name it with --{name} FILE, and start the hub again"
        ),
        By::Command => format!(
            "it takes {name}, and none is on the PATH: put it there, or name it with --{name} FILE"
        ),
    }
}

/// The command line of a job, from the root of its files.
pub(super) fn arguments(job: &Job, folder: &Folder) -> Vec<OsString> {
    let of = format!("./{}", job.folder);
    let mut words: Vec<OsString> = match job.tool {
        // Files above the folder are in the repository, too: the jail says what can be read.
        Tool::Kustomize => vec![
            "build".into(),
            "--load-restrictor".into(),
            "LoadRestrictionsNone".into(),
        ],
        Tool::Helm => vec!["template".into()],
    };
    if let Some(release) = &job.release {
        words.push(release.name.as_str().into());
    }
    words.push(of.into());
    let Some(release) = &job.release else {
        return words;
    };
    words.push("--include-crds".into());
    // As a whole version, for charts that take it apart.
    let kubernetes = match release.kubernetes.as_str() {
        "" => String::new(),
        minor => format!("{minor}.0"),
    };
    for (flag, value) in [
        ("--namespace", release.namespace.clone()),
        ("--kube-version", kubernetes),
        ("--api-versions", release.api_versions.join(",")),
    ] {
        if !value.is_empty() {
            words.extend([flag.into(), value.into()]);
        }
    }
    for number in 0..release.values.len() {
        words.extend(["--values".into(), folder.values(number).into()]);
    }
    words
}

fn on_path(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let files = folders.iter().map(|folder| folder.join(name));
    files.into_iter().find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let metadata = file.metadata();
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

async fn ask(tool: Tool, file: &Path) -> anyhow::Result<Program> {
    // Links of package managers lead to the file that the jail must let in.
    let file = file.canonicalize()?;
    let words: &[&str] = match tool {
        Tool::Kustomize => &["version"],
        Tool::Helm => &["version", "--short"],
    };
    let asked = Command::new(&file)
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.context("it does not say its version")??;
    let said = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if !answer.status.success() || said.is_empty() || said.contains('\n') {
        bail!(
            "`{} {}` does not answer with a version",
            file.display(),
            words.join(" ")
        );
    }
    Ok(Program {
        file,
        version: said,
    })
}
