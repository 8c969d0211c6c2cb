//! The program `muster`: everything is in the library, so that it runs inside a test too.

use std::io::{self, LineWriter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    muster_proto::tls::install_crypto();
    let environment = muster_cli::Environment::of_process();
    // Lines go out as they are complete: `muster … --watch | jq` sees each document at once.
    let mut out = LineWriter::new(io::stdout());
    let mut err = io::stderr();
    muster_cli::run_in(&environment, std::env::args_os(), &mut out, &mut err)
        .await
        .into()
}
