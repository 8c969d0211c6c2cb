//! `muster`: everything is in the library, so that it runs inside a test too.

fn main() -> std::process::ExitCode {
    muster_cli::program::main(std::env::args_os())
}
