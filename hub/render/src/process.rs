//! One run of a program: its output while it is written, and an end in any case.
//!
//! In: a command. Out: how it [`Ended`]. The program is a process group of its own, which is killed as a whole when it
//! takes too long, writes too much, or nobody waits for it any more.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::jail;

/// So much of what a program says of its failure is read.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// What one run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) time: Duration,
    /// Bytes of data.
    pub(super) memory: u64,
    /// Bytes.
    pub(super) output: usize,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an output.
    Well(Bytes),
    /// With an error of the program: its last words.
    Badly(String),
    /// The program was never started.
    Jail(String),
    Killed(i32),
    TooLong,
    TooMuch,
}

/// Kills the group of a program that nobody waits for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// Runs a program to its end.
pub(super) async fn run(mut command: Command, limits: &Limits) -> io::Result<Ended> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(pid.and_then(Pid::from_raw));
    let ended = tokio::time::timeout(limits.time, to_the_end(&mut child, limits.output)).await;
    let ended = match ended {
        // The leader was waited for: its number may be somebody else's now.
        Ok(Ok((Some(status), output, complaint))) => {
            group.0 = None;
            return Ok(judge(status, output, &complaint));
        }
        Ok(Ok((None, ..))) => Ended::TooMuch,
        Ok(Err(error)) => return Err(error),
        Err(_) => Ended::TooLong,
    };
    drop(group);
    child.wait().await?;
    Ok(ended)
}

/// The status is missing when the output was cut.
async fn to_the_end(
    child: &mut Child,
    most: usize,
) -> io::Result<(Option<ExitStatus>, Bytes, Bytes)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let complain = async {
        let mut complaint = Vec::new();
        if let Some(mut err) = err {
            (&mut err)
                .take(LONGEST_COMPLAINT as u64)
                .read_to_end(&mut complaint)
                .await?;
            // The rest is read too, or the program would wait for ever.
            tokio::io::copy(&mut err, &mut tokio::io::sink()).await?;
        }
        Ok::<_, io::Error>(Bytes::from(complaint))
    };
    let output = async {
        match out {
            Some(out) => at_most(out, most).await,
            None => Ok(Some(Bytes::new())),
        }
    };
    tokio::pin!(complain, output);
    let mut complaint = None;
    let output = loop {
        tokio::select! {
            biased;
            output = &mut output => match output? {
                Some(output) => break output,
                None => return Ok((None, Bytes::new(), Bytes::new())),
            },
            read = &mut complain, if complaint.is_none() => complaint = Some(read?),
        }
    };
    let complaint = match complaint {
        Some(complaint) => complaint,
        None => complain.await?,
    };
    Ok((Some(child.wait().await?), output, complaint))
}

/// Everything there is to read, unless it is too much.
async fn at_most(from: impl AsyncRead + Unpin, most: usize) -> io::Result<Option<Bytes>> {
    let mut read = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut read).await?;
    Ok((read.len() <= most).then(|| read.into()))
}

fn judge(status: ExitStatus, output: Bytes, complaint: &[u8]) -> Ended {
    let said = || String::from_utf8_lossy(complaint).into_owned();
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well(output),
        (Some(jail::FAILED), _) => Ended::Jail(said().trim().to_owned()),
        (None, Some(signal)) => Ended::Killed(signal),
        _ => Ended::Badly(said()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        time: Duration::from_secs(20),
        memory: 0,
        output: 1 << 20,
    };

    async fn sh(script: &str, limits: Limits) -> Ended {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, &limits).await.unwrap()
    }

    #[tokio::test]
    async fn a_run_ends_with_its_output_or_its_complaint() {
        let well = sh("echo noise >&2; echo 'kind: A'", LIMITS).await;
        assert!(
            matches!(&well, Ended::Well(output) if output == "kind: A\n"),
            "{well:?}"
        );
        let badly = sh("echo half; echo because >&2; exit 3", LIMITS).await;
        assert!(
            matches!(&badly, Ended::Badly(said) if said == "because\n"),
            "{badly:?}"
        );
        let killed = sh("kill -9 $$", LIMITS).await;
        assert!(matches!(killed, Ended::Killed(9)), "{killed:?}");
    }

    #[tokio::test]
    async fn output_without_end_is_cut_while_it_is_written() {
        let endless = sh("while :; do echo more and more and more; done", LIMITS).await;
        assert!(matches!(endless, Ended::TooMuch), "{endless:?}");
    }

    #[tokio::test]
    async fn a_long_complaint_blocks_nothing() {
        let script = "head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1";
        let badly = sh(script, LIMITS).await;
        assert!(
            matches!(&badly, Ended::Badly(said) if said.len() == LONGEST_COMPLAINT),
            "{badly:?}"
        );
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let limits = Limits {
            time: Duration::from_secs(1),
            ..LIMITS
        };
        let late = sh(&script, limits).await;
        assert!(matches!(late, Ended::TooLong), "{late:?}");
        let pid = std::fs::read_to_string(file).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        let ends = std::time::Instant::now() + Duration::from_secs(20);
        // Nobody may wait for what lost its parent here: it stays a zombie.
        while state().is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(std::time::Instant::now() < ends, "it still runs");
            tokio::task::yield_now().await;
        }
    }
}
