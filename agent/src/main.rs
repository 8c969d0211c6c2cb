//! `muster-agent`: everything is in the library, so that it runs inside a test too.

#[global_allocator]
static ALLOCATOR: muster_agent::program::Allocator = muster_agent::program::Allocator;

fn main() -> std::process::ExitCode {
    muster_agent::program::main(std::env::args_os())
}
