//! Nothing outlives the process that asked for it, however that process ends.

use anyhow::{Context, Result, ensure};
use muster_tests::cluster::real;
use muster_tests::supervisor::testbed;
use muster_tests::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn a_killed_test_process_leaves_no_process_and_no_folder() -> Result<()> {
    let mut process = Command::new(testbed()?)
        .args(["cluster", "doomed"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no stdout")?).lines();
    let kubeconfig = PathBuf::from(
        lines
            .next_line()
            .await?
            .context("it printed no kubeconfig")?,
    );
    let folder = kubeconfig.parent().context("no folder")?;
    let supervisor = children(process.id().context("it ended")?)?;
    assert_eq!(supervisor.len(), 1);
    let running = processes_in(folder)?;
    for program in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        assert!(
            running.iter().any(|command| command.contains(program)),
            "{program} is not among {running:?}"
        );
    }

    // SIGKILL: nothing of the test process itself can clean up.
    process.kill().await?;
    wait::until("nothing is left", Duration::from_secs(20), async || {
        let left = processes_in(folder)?;
        ensure!(left.is_empty(), "still running: {left:?}");
        ensure!(!folder.exists(), "{} is still there", folder.display());
        ensure!(!supervisor[0].exists(), "the supervisor is still there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_of_ones_own_is_gone_after_shutdown() -> Result<()> {
    let cluster = real::start("alone").await?;
    let folder = cluster.kubeconfig.parent().context("no folder")?.to_owned();
    assert!(!processes_in(&folder)?.is_empty());
    cluster.shutdown();
    assert_eq!(processes_in(&folder)?, Vec::<String>::new());
    assert!(!folder.exists());
    Ok(())
}

/// The folders in `/proc` of the processes that a process started.
fn children(pid: u32) -> Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let pids = fs::read_to_string(thread?.path().join("children"))?;
        children.extend(
            pids.split_whitespace()
                .map(|pid| Path::new("/proc").join(pid)),
        );
    }
    Ok(children)
}

/// The command lines of all processes that name the folder.
fn processes_in(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_str().context("a folder's name is not text")?;
    let mut commands = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // A process may end between the two looks.
        let command = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(folder) {
            commands.push(command);
        }
    }
    Ok(commands)
}
