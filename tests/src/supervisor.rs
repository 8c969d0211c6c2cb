//! One supervisor process for each test process: it owns all child processes and folders, and ends them when the test
//! process is gone, however it went. (A parent-death signal follows the thread that spawned, so it would not do.)
//!
//! In come programs to run; out come [`Process`] and [`Folder`], whose drop ends and removes what they stand for.

mod protocol;
mod serve;

pub use protocol::Signal;
pub use serve::serve;

use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use protocol::{Answer, Request};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A process the supervisor owns; dropping it kills its process group.
#[derive(Debug)]
pub struct Process {
    /// Its name in messages.
    pub name: String,
    /// Its process id, which is its process group, too.
    pub pid: u32,
    /// Where its stdout and stderr go.
    pub log: PathBuf,
}

impl Process {
    /// Starts `program`, which inherits this process's environment and gets `env` on top.
    ///
    /// # Errors
    /// When the program cannot be started or the log cannot be opened.
    pub fn spawn<A: Into<String>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        let request = Request::Spawn {
            program: program.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            env: env
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            log: log.to_owned(),
        };
        let Answer::Spawned { pid } = ask(&request)? else {
            bail!("the supervisor answered something else")
        };
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            pid,
            log: log.to_owned(),
        })
    }

    /// How the process ended, if it did: `exit status: 1`, `signal: 9 (SIGKILL)`.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn ended(&self) -> Result<Option<String>> {
        match ask(&Request::Look { pid: self.pid })? {
            Answer::Ended { status } => Ok(Some(status)),
            _ => Ok(None),
        }
    }

    /// Is an error, with the last lines of its log, when the process ended.
    ///
    /// # Errors
    /// When it ended.
    pub fn ensure_alive(&self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended ({status}); the end of its log:\n{}",
                self.name,
                self.log_tail()
            ),
        }
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ask(&Request::Signal {
            pid: self.pid,
            signal,
        })
        .map(drop)
    }

    /// Asks it to end and waits until it did; says how.
    ///
    /// # Errors
    /// When it is still there after 20 s.
    pub async fn stop(&self) -> Result<String> {
        self.stop_by(Signal::Terminate).await
    }

    /// As [`Process::stop`], by another signal.
    ///
    /// # Errors
    /// When it is still there after 20 s.
    pub async fn stop_by(&self, signal: Signal) -> Result<String> {
        self.signal(signal)?;
        wait::until(
            &format!("{} ends", self.name),
            Duration::from_secs(20),
            async || self.ended()?.context("it is still running"),
        )
        .await
    }

    /// The last 30 lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The supervisor being gone means the process is, too.
        let _ = self.signal(Signal::Kill);
    }
}

/// A new, empty folder the supervisor owns; dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
}

impl Folder {
    /// Makes a folder with `name` in its name, in the system's place for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        match ask(&Request::MakeFolder {
            name: name.to_owned(),
        })? {
            Answer::Folder { path } => Ok(Self { path }),
            _ => bail!("the supervisor answered something else"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = ask(&Request::RemoveFolder {
            path: self.path.clone(),
        });
    }
}

/// The supervisor's end in this process. It lives as long as the process: the pipe closes with it.
struct Supervisor {
    _child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

fn ask(request: &Request) -> Result<Answer> {
    static SUPERVISOR: OnceLock<Mutex<Option<Supervisor>>> = OnceLock::new();
    let mut slot = SUPERVISOR
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let supervisor = match &mut *slot {
        Some(supervisor) => supervisor,
        empty => empty.insert(start()?),
    };
    writeln!(supervisor.requests, "{}", serde_json::to_string(request)?)
        .context("the supervisor is gone")?;
    let mut line = String::new();
    supervisor.answers.read_line(&mut line)?;
    ensure!(!line.is_empty(), "the supervisor is gone");
    match serde_json::from_str(&line)? {
        Answer::Failed { error } => bail!("{error}"),
        answer => Ok(answer),
    }
}

/// In a process group of its own: what interrupts the test process must not reach it before it has cleaned up.
fn start() -> Result<Supervisor> {
    let program = testbed()?;
    let mut child = Command::new(&program)
        .arg("supervise")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let requests = child.stdin.take().context("no stdin")?;
    let answers = BufReader::new(child.stdout.take().context("no stdout")?);
    Ok(Supervisor {
        _child: child,
        requests,
        answers,
    })
}

/// An address of loopback that is free now; whoever uses it must be ready to hear that it is not any more.
///
/// # Errors
/// When no port is free.
pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// The `testbed` binary: this very program, or the one cargo built beside the test binary that runs.
///
/// # Errors
/// When it was not built: `cargo test` builds it for the integration tests of this package.
pub fn testbed() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    if this.file_stem().is_some_and(|name| name == "testbed") {
        return Ok(this);
    }
    let beside = this
        .parent()
        .and_then(Path::parent)
        .context("this program lies in no folder")?
        .join("testbed");
    ensure!(
        beside.exists(),
        "{} is missing: build it with `cargo build -p muster-tests --bin testbed`",
        beside.display()
    );
    Ok(beside)
}
