//! The program `muster-hub`: the command line in, an exit code out; log lines and one-line errors on standard error.
//!
//! It is here and not in `main`, so that one binary of the test bed can be the hub too.

/// Gives back to the system what a commit took for a moment; the C library's allocator keeps it. How is set in
/// `.cargo/config.toml`.
pub use tikv_jemallocator::Jemalloc as Allocator;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use muster_render::jail;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config, LogFormat};

/// The command line, a variable or the configuration file makes no sense: starting again won't help.
const USAGE: u8 = 2;

/// Runs one command line, the program's name first. `serve` runs until SIGTERM or SIGINT.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match config::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _nobody_listens = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let flags = match matches.subcommand() {
        Some(("serve", flags)) => flags,
        Some((jail::COMMAND, flags)) => return jail::main(flags),
        _ => {
            println!("muster-hub {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
    };
    let config = match Config::read(flags, &config::environment()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("muster-hub: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.log)?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let (mut stop, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let told = async move {
            tokio::select! {
                biased;
                _ = stop.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        crate::serve(config, told).await
    });
    // A fetch that hangs on the network must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}
