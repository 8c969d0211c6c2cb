//! One task owns each piece of state (DESIGN.md, invariant 3): what several could write is not there to be written.

use super::Tree;
use super::source::words;

/// Crates whose state belongs to tasks.
const OWNED: &[&str] = &[
    "hub/src/",
    "hub/decide/src/",
    "hub/git/src/",
    "hub/render/src/",
    "agent/src/",
];

/// Ways to write one thing from several places.
const SHARED: &[&str] = &[
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "RefCell",
    "thread_local",
];

/// Files that may, and why.
const ALLOWED: &[(&str, &str)] = &[
    (
        "hub/decide/src/builtin.rs",
        "a committed table, read once and never written",
    ),
    (
        "hub/src/enrolment.rs",
        "counts wrong guesses by address: forgotten at a restart, read by nobody",
    ),
    (
        "hub/git/src/transport.rs",
        "gix asks for its HTTP client in this shape",
    ),
];

/// No lock and no global outside tests.
pub(super) fn no_shared_state(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, source) in &tree.sources {
        let owned = OWNED.iter().any(|it| path.starts_with(it));
        if !owned || ALLOWED.iter().any(|(file, _)| file == path) || path.contains("/scripted/") {
            continue;
        }
        for (at, word) in words(&source.code) {
            if SHARED.contains(&word) && !source.in_test(at) {
                findings.push(format!(
                    "{path}:{}: {word}: let one task own it, others hold a `watch` or a handle",
                    source.line(at)
                ));
            }
        }
    }
    findings
}
