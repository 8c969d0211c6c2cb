//! The jail: `muster-hub render-jail ... -- TOOL ARGUMENTS` confines itself and becomes the tool; so does `muster`.
//!
//! In, from who renders: limits, the folder to read and the one to write. What follows is in force for the tool and all it
//! starts, and can't be taken back: resource limits; Landlock: only the files of the job, the tool itself and what it
//! takes to load it can be read, one folder written, no TCP; no environment but a HOME of its own.
//! The reasons are in docs/adr/0016-tools-render-in-a-jail.md.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::confinement::confine;
use super::folder::Folder;
use super::process::Limits;
use crate::Rendering;

/// The first word of its command line.
pub const COMMAND: &str = "render-jail";
/// The exit code that says that the tool was never started. Tools don't end with it.
pub(super) const FAILED: i32 = 125;
/// Bytes that one file may have which the tool writes.
const LARGEST_FILE: u64 = 64 << 20;

/// How the hub calls it.
#[derive(Debug, Clone, Default)]
pub(super) struct Jail {
    /// A program that knows the command.
    program: PathBuf,
    confining: bool,
}

impl Jail {
    pub(super) fn new(rendering: &Rendering, confining: bool) -> anyhow::Result<Self> {
        let program = match &rendering.jail {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("this program does not find its own file")?,
        };
        Ok(Self { program, confining })
    }

    /// Whether the kernel can do it.
    pub(super) fn is_confining(&self) -> bool {
        self.confining
    }

    /// A tool in the jail.
    pub(super) fn command(
        &self,
        tool: &Path,
        arguments: &[OsString],
        folder: &Folder,
        limits: &Limits,
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.env_clear().arg(COMMAND);
        for (name, value) in [
            ("--memory", limits.memory),
            // Several threads run at the same time.
            ("--cpu", limits.time.as_secs().saturating_mul(4).max(1)),
        ] {
            command.arg(name).arg(value.to_string());
        }
        command.arg("--read").arg(folder.files());
        command.arg("--write").arg(folder.home());
        if !self.confining {
            command.arg("--unconfined");
        }
        command.arg("--").arg(tool).args(arguments);
        command.current_dir(folder.files());
        command
    }
}

/// [`main`] for a program that has other commands: the words of its command line from [`COMMAND`] on.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    match command().try_get_matches_from(words) {
        Ok(flags) => main(&flags),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(u8::try_from(FAILED).unwrap_or(u8::MAX))
        }
    }
}

/// What the hub calls; nobody else does.
pub fn command() -> Command {
    let number = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .required(true)
            .value_parser(value_parser!(u64))
    };
    let path = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .required(true)
            .value_parser(value_parser!(PathBuf))
    };
    Command::new(COMMAND)
        .about("Confine this process, then become a program that renders")
        .hide(true)
        .arg(number("memory").help("Bytes of data"))
        .arg(number("cpu").help("Seconds of processor time"))
        .arg(path("read").help("The folder that can be read"))
        .arg(path("write").help("The folder that can be written"))
        .arg(
            Arg::new("unconfined")
                .long("unconfined")
                .action(ArgAction::SetTrue)
                .help("Without Landlock"),
        )
        .arg(
            Arg::new("tool")
                .required(true)
                .num_args(1..)
                .last(true)
                .value_parser(value_parser!(OsString)),
        )
}

/// Becomes the tool; returns only when that failed.
pub fn main(flags: &ArgMatches) -> ExitCode {
    let Err(error) = enter(flags);
    eprintln!("{error:#}");
    ExitCode::from(u8::try_from(FAILED).unwrap_or(u8::MAX))
}

fn enter(flags: &ArgMatches) -> anyhow::Result<std::convert::Infallible> {
    let given = "clap checked that it is there";
    let number = |name| *flags.get_one::<u64>(name).expect(given);
    let path = |name| flags.get_one::<PathBuf>(name).expect(given);
    let mut line = flags.get_many::<OsString>("tool").expect(given);
    let tool = PathBuf::from(line.next().expect(given));
    let home = path("write");
    let limits = [
        (Resource::Data, number("memory")),
        (Resource::Cpu, number("cpu")),
        (Resource::Fsize, LARGEST_FILE),
        (Resource::Core, 0),
    ];
    for (resource, most) in limits {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).with_context(|| format!("{resource:?} can't be limited"))?;
    }
    if !flags.get_flag("unconfined") {
        confine(&tool, path("read"), home).context("the process can't be confined")?;
    }
    let error = std::process::Command::new(&tool)
        .args(line)
        .env_clear()
        .env("HOME", home)
        .env("TMPDIR", home)
        .exec();
    Err(error).with_context(|| tool.display().to_string())
}
