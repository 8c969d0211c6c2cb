//! Programs that tests write: a script in the place of a tool.

use std::path::Path;
use std::process::Command;

/// Writes a program.
///
/// By another process: what this one has open to write, a program that another test starts right now would hold open
/// for a moment too, and such a file can't be run.
pub(crate) fn install(program: &Path, text: &str) {
    let beside = program.with_extension("text");
    std::fs::write(&beside, text).unwrap();
    let installed = Command::new("install")
        .args(["-m", "755"])
        .args([&beside, program])
        .status();
    assert!(installed.unwrap().success());
    std::fs::remove_file(beside).unwrap();
}
