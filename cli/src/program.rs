//! The program `muster`: the command line and the process's environment in, an exit code out.
//!
//! It is here and not in `main`, so that one binary of the test bed can be `muster` too.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use muster_render::jail;

/// Runs one command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // This program itself is the jail of those that render; nobody types that.
    if arguments.get(1).is_some_and(|word| word == jail::COMMAND) {
        return jail::run(arguments.into_iter().skip(1));
    }
    muster_proto::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("muster: this process can't be set up: {error}");
            return ExitCode::FAILURE;
        }
    };
    let environment = crate::Environment::of_process();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let running = crate::run_in(&environment, arguments, &mut out, &mut err);
    runtime.block_on(running).into()
}
