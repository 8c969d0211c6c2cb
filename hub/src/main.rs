//! `muster-hub`: everything is in the library, so that it runs inside a test too.

#[global_allocator]
static ALLOCATOR: muster_hub::program::Allocator = muster_hub::program::Allocator;

fn main() -> std::process::ExitCode {
    muster_hub::program::main(std::env::args_os())
}
