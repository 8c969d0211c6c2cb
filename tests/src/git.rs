//! Real Git for tests: a bare repository, a working copy to commit from, and [`server`] that serves it over HTTP(S).
//!
//! Everything goes through the `git` program, so nothing here shares a bug with the hub's own Git.

pub mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A bare repository with a working copy beside it, in a folder that goes away with it.
#[derive(Debug)]
pub struct Repository {
    folder: TempDir,
}

impl Repository {
    /// An empty repository with the branch `main`.
    ///
    /// # Errors
    /// When `git` fails.
    pub fn empty() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("muster-git-").tempdir()?;
        let path = folder.path();
        git(
            path,
            [
                "init",
                "--quiet",
                "--bare",
                "--initial-branch=main",
                "fleet.git",
            ],
        )?;
        git(path, ["clone", "--quiet", "fleet.git", "work"])?;
        let repository = Self { folder };
        git(&repository.work(), ["checkout", "--quiet", "-B", "main"])?;
        Ok(repository)
    }

    /// A repository whose first commit holds `files` (path, content).
    ///
    /// # Errors
    /// When `git` fails.
    pub fn with(files: &[(&str, &str)]) -> Result<Self> {
        let repository = Self::empty()?;
        repository.commit("First commit", files)?;
        Ok(repository)
    }

    /// The working copy.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The bare repository, for `file://` URLs.
    pub fn bare(&self) -> PathBuf {
        self.folder.path().join("fleet.git")
    }

    /// The folder that holds the bare repository: what [`server::GitServer`] serves.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes `files`, commits all that changed in the working copy, and pushes. Returns the new commit.
    ///
    /// # Errors
    /// When `git` fails, also when there is nothing to commit.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> Result<String> {
        for (path, content) in files {
            let path = self.work().join(path);
            std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            std::fs::write(path, content)?;
        }
        self.commit_all(message)
    }

    /// Removes `paths` (files or folders), commits and pushes.
    ///
    /// # Errors
    /// When `git` fails.
    pub fn remove(&self, message: &str, paths: &[&str]) -> Result<String> {
        for path in paths {
            git(&self.work(), ["rm", "-r", "--quiet", path])?;
        }
        self.commit_all(message)
    }

    /// Undoes the newest commit by a new one, as a person would: `git revert HEAD`.
    ///
    /// # Errors
    /// When `git` fails.
    pub fn revert(&self) -> Result<String> {
        self.revert_newest(1)
    }

    /// Undoes the newest `count` commits by as many new ones, newest first.
    ///
    /// # Errors
    /// When `git` fails.
    pub fn revert_newest(&self, count: usize) -> Result<String> {
        let range = format!("HEAD~{count}..HEAD");
        git(&self.work(), ["revert", "--no-edit", &range])?;
        self.push()
    }

    /// Commits whatever the working copy holds, and pushes.
    ///
    /// # Errors
    /// When `git` fails.
    pub fn commit_all(&self, message: &str) -> Result<String> {
        git(&self.work(), ["add", "--all"])?;
        git(&self.work(), ["commit", "--quiet", "--message", message])?;
        self.push()
    }

    /// The newest commit of the working copy.
    ///
    /// # Errors
    /// When `git` fails.
    pub fn head(&self) -> Result<String> {
        Ok(git(&self.work(), ["rev-parse", "HEAD"])?.trim().to_owned())
    }

    fn push(&self) -> Result<String> {
        git(
            &self.work(),
            ["push", "--quiet", "--force", "origin", "HEAD:main"],
        )?;
        self.head()
    }
}

/// Runs `git` in `folder`, without the user's own configuration, and returns what it printed.
///
/// # Errors
/// With what it said on standard error when it fails.
pub fn git<const N: usize>(folder: &Path, arguments: [&str; N]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .envs(environment())
        .output()
        .context("git can't be run: install it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "git {} failed: {said}",
        arguments.join(" ")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn environment() -> [(&'static str, &'static str); 7] {
    [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_AUTHOR_NAME", "Test"),
        ("GIT_AUTHOR_EMAIL", "test@example.invalid"),
        ("GIT_COMMITTER_NAME", "Test"),
        ("GIT_COMMITTER_EMAIL", "test@example.invalid"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ]
}
