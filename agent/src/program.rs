//! The program `muster-agent`: the command line in, an exit code out; log lines and one-line errors on standard error.
//!
//! It is here and not in `main`, so that one binary of the test bed can be the agent too.

/// Gives back to the system what a first sync of many objects took for a moment; the C library's allocator keeps it. How
/// is set in `.cargo/config.toml`.
pub use tikv_jemallocator::Jemalloc as Allocator;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config, LogFormat};

/// The command line or a variable makes no sense: starting again won't help.
const USAGE: u8 = 2;

/// Runs one command line, the program's name first. `run` runs until SIGTERM or SIGINT.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match config::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _nobody_listens = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let Some(("run", flags)) = matches.subcommand() else {
        println!("muster-agent {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    };
    let config = match Config::read(flags, config::environment) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("muster-agent: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    // The engine itself says when a watch fails, once; a filter that names kube_runtime still wins.
    let filter = EnvFilter::try_new(format!("kube_runtime=error,{}", config.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    // Two threads carry any agent; more would only cost memory in every cluster.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        crate::run(config, async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await
    })
}
