//! What the supervisor is asked and what it answers: one JSON value a line, an answer for each request, in order.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A thing to do. All of them are quick: waiting is the asker's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Start a process in a process group of its own, stdin closed, stdout and stderr appended to `log`.
    Spawn {
        program: PathBuf,
        args: Vec<String>,
        env: BTreeMap<String, String>,
        log: PathBuf,
    },
    /// Send a signal to the process group of `pid`; a `Kill` is answered when the process is gone.
    Signal { pid: u32, signal: Signal },
    /// Look how `pid` is doing.
    Look { pid: u32 },
    /// Make a folder with `name` in its name.
    MakeFolder { name: String },
    /// Remove a folder it made, with all that is in it.
    RemoveFolder { path: PathBuf },
}

/// The signals tests have a use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Asks the process to end in good order.
    Terminate,
    /// The same, as Ctrl-C does.
    Interrupt,
    /// Ends it at once, as a crash would.
    Kill,
    /// Freezes it, as a hung machine would.
    Pause,
    /// Thaws it.
    Resume,
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Done,
    Spawned { pid: u32 },
    Running,
    Ended { status: String },
    Folder { path: PathBuf },
    Failed { error: String },
}
