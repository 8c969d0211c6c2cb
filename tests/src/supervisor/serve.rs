//! The supervisor process: requests come in on stdin, answers go out on stdout, and when stdin closes, whatever way
//! the asker ended, every process group and folder goes with it.

use super::protocol::{Answer, Request, Signal};
use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, kill_process_group};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Serves one asker until stdin closes, then ends what it owns.
///
/// # Errors
/// When stdin or stdout break; what it owns is ended then, too.
pub fn serve() -> Result<()> {
    let mut owned = Owned::default();
    let served = owned.answer_all(std::io::stdin().lock(), std::io::stdout().lock());
    owned.end();
    served
}

#[derive(Default)]
struct Owned {
    processes: HashMap<u32, Owning>,
    folders: HashMap<PathBuf, TempDir>,
}

/// A killed process is never signalled again: its number may be another's by then.
struct Owning {
    child: Child,
    killed: bool,
}

impl Owned {
    fn answer_all(&mut self, requests: impl BufRead, mut answers: impl Write) -> Result<()> {
        for line in requests.lines() {
            let request = serde_json::from_str(&line?)?;
            let answer = self.answer(request).unwrap_or_else(|error| Answer::Failed {
                error: format!("{error:#}"),
            });
            writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
            answers.flush()?;
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Result<Answer> {
        Ok(match request {
            Request::Spawn {
                program,
                args,
                env,
                log,
            } => {
                let log = File::options()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .with_context(|| log.display().to_string())?;
                let child = Command::new(&program)
                    .args(args)
                    .envs(env)
                    .stdin(Stdio::null())
                    .stdout(log.try_clone()?)
                    .stderr(log)
                    .process_group(0)
                    .spawn()
                    .with_context(|| format!("cannot start {}", program.display()))?;
                let pid = child.id();
                self.processes.insert(
                    pid,
                    Owning {
                        child,
                        killed: false,
                    },
                );
                Answer::Spawned { pid }
            }
            Request::Signal { pid, signal } => {
                send(
                    self.processes
                        .get_mut(&pid)
                        .with_context(|| format!("no process {pid}"))?,
                    signal,
                )?;
                Answer::Done
            }
            Request::Look { pid } => {
                let process = self
                    .processes
                    .get_mut(&pid)
                    .with_context(|| format!("no process {pid}"))?;
                match process.child.try_wait()? {
                    None => Answer::Running,
                    Some(status) => Answer::Ended {
                        status: status.to_string(),
                    },
                }
            }
            Request::MakeFolder { name } => {
                let folder = tempfile::Builder::new()
                    .prefix(&format!("muster-{name}-"))
                    .tempdir()?;
                let path = folder.path().to_owned();
                self.folders.insert(path.clone(), folder);
                Answer::Folder { path }
            }
            Request::RemoveFolder { path } => {
                let Some(folder) = self.folders.remove(&path) else {
                    bail!("{} is not its folder", path.display())
                };
                folder.close()?;
                Answer::Done
            }
        })
    }

    /// No grace: nobody is left who could want what these processes hold.
    fn end(mut self) {
        for (pid, process) in &mut self.processes {
            if let Err(error) = send(process, Signal::Kill) {
                eprintln!("supervisor: cannot end process {pid}: {error:#}");
            }
        }
        for (path, folder) in self.folders {
            if let Err(error) = folder.close()
                && fs::exists(&path).unwrap_or(true)
            {
                eprintln!("supervisor: cannot remove {}: {error}", path.display());
            }
        }
    }
}

/// Signals the whole group, so that what the process started itself is reached, also after it ended.
fn send(process: &mut Owning, signal: Signal) -> Result<()> {
    if process.killed {
        return Ok(());
    }
    let group = Pid::from_child(&process.child);
    let number = match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Interrupt => rustix::process::Signal::INT,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Pause => rustix::process::Signal::STOP,
        Signal::Resume => rustix::process::Signal::CONT,
    };
    match kill_process_group(group, number) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    if signal == Signal::Kill {
        process.child.wait()?;
        process.killed = true;
    }
    Ok(())
}
