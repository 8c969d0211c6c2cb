//! `muster-hub`: reads the configuration, starts logging, runs the hub until it is told to stop.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use muster_hub::config::{self, Config, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let matches = config::command().get_matches();
    let done = match matches.subcommand() {
        Some(("serve", flags)) => Config::read(flags, config::environment).and_then(serve),
        _ => {
            println!("muster-hub {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match done {
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
                _ = stop.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        muster_hub::serve(config, told).await
    });
    // A fetch that hangs on the network must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}
