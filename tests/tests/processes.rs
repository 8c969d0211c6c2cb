//! Processes and folders of the test bed: how they end, and what is told of it.

use anyhow::{Context, Result, ensure};
use muster_tests::supervisor::{Folder, Process, Signal};
use muster_tests::wait;
use rustix::process::{Pid, Signal as Number, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn shell(folder: &Folder, script: &str) -> Result<Process> {
    Process::spawn(
        Path::new("/bin/sh"),
        ["-c", script],
        &[("GREETING", "hello")],
        &folder.path.join("log"),
    )
}

/// Waits until the process wrote the line.
async fn says(process: &Process, line: &str) -> Result<()> {
    let what = format!("it says {line}");
    wait::until(&what, SOON, async || {
        ensure!(
            process.log_tail().lines().any(|it| it == line),
            "it says {:?}",
            process.log_tail()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_process_that_ended_is_shown_with_the_end_of_its_log() -> Result<()> {
    let folder = Folder::new("ended")?;
    let process = shell(&folder, "echo $GREETING; echo the reason >&2; exit 3")?;
    wait::until("it ends", SOON, async || {
        ensure!(process.ended()?.is_some());
        Ok(())
    })
    .await?;
    let error = process.ensure_alive().unwrap_err().to_string();
    assert_eq!(
        error,
        "sh ended (exit status: 3); the end of its log:\nhello\nthe reason"
    );
    Ok(())
}

#[tokio::test]
async fn stopping_asks_the_process_to_end() -> Result<()> {
    let folder = Folder::new("stopped")?;
    let process = shell(
        &folder,
        "trap 'echo bye; exit 7' TERM; tail -f /dev/null & echo up; wait",
    )?;
    says(&process, "up").await?;
    process.ensure_alive()?;
    assert_eq!(process.stop().await?, "exit status: 7");
    assert_eq!(process.log_tail(), "up\nbye");
    Ok(())
}

#[tokio::test]
async fn a_paused_process_does_nothing_until_it_is_resumed() -> Result<()> {
    let folder = Folder::new("paused")?;
    let process = shell(
        &folder,
        "trap 'exit 7' TERM; tail -f /dev/null & echo up; wait",
    )?;
    says(&process, "up").await?;
    process.signal(Signal::Pause)?;
    wait::until("it is paused", SOON, async || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid))?;
        ensure!(stat.contains(") T "), "{stat}");
        Ok(())
    })
    .await?;
    process.signal(Signal::Terminate)?;
    process.ensure_alive()?;
    process.signal(Signal::Resume)?;
    assert_eq!(process.stop().await?, "exit status: 7");
    Ok(())
}

#[tokio::test]
async fn dropping_a_process_ends_what_it_started_itself() -> Result<()> {
    let folder = Folder::new("dropped")?;
    let process = shell(&folder, "tail -f /dev/null & echo $!; echo up; wait")?;
    says(&process, "up").await?;
    let log = process.log_tail();
    let inner = log.lines().next().unwrap_or_default();
    assert!(Path::new("/proc").join(inner).join("cmdline").exists());
    drop(process);
    goes(inner).await
}

/// Waits until the process of this number is gone.
async fn goes(pid: &str) -> Result<()> {
    let command = Path::new("/proc").join(pid).join("cmdline");
    wait::until("it is gone", SOON, async || {
        // Nobody may have collected it yet: then it has no command line any more.
        ensure!(
            fs::read(&command).unwrap_or_default().is_empty(),
            "it is still running"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_tests_run_has_started_ends_with_it_however_it_is_ended() -> Result<()> {
    let folder = Folder::new("run")?;
    let started = folder.path.join("started");
    let cargo = folder.path.join("cargo");
    let script = format!(
        "#!/bin/sh\ntail -f /dev/null & echo $! > {0}.new; mv {0}.new {0}; wait\n",
        started.display()
    );
    fs::write(&cargo, script)?;
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("run");
    let path = std::env::var("PATH")?;
    let path = format!("{}:{path}", folder.path.display());
    for signal in [Number::TERM, Number::INT, Number::KILL] {
        let log = folder.path.join("log");
        let process = Process::spawn(&run, ["--no-real"], &[("PATH", &path)], &log)?;
        let what = "it comes to its first command";
        let inner = wait::until(what, 3 * SOON, async || {
            process.ensure_alive()?;
            Ok(fs::read_to_string(&started)?)
        })
        .await?;
        fs::remove_file(&started)?;
        // To it alone: those who wait for it know no other.
        let pid = Pid::from_raw(process.pid.try_into()?).context("a process has a number")?;
        kill_process(pid, signal)?;
        goes(inner.trim()).await?;
    }
    Ok(())
}

#[test]
fn dropping_a_folder_removes_what_is_in_it() -> Result<()> {
    let folder = Folder::new("removed")?;
    let path = folder.path.clone();
    fs::write(path.join("file"), "text")?;
    drop(folder);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_program_that_is_not_there_is_named() -> Result<()> {
    let folder = Folder::new("absent")?;
    let error = Process::spawn(
        Path::new("/no/such/program"),
        ["x"],
        &[],
        &folder.path.join("log"),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot start /no/such/program: "),
        "{error}"
    );
    Ok(())
}
