//! The program `muster`: everything is in the library, so that it runs inside a test too.

use std::io;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    muster_proto::tls::install_crypto();
    let environment = muster_cli::Environment::of_process();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    muster_cli::run_in(&environment, std::env::args_os(), &mut out, &mut err)
        .await
        .into()
}
