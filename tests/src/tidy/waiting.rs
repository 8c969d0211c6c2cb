//! Tests wait on conditions with a deadline: a test that sleeps is slow on a fast machine and fails on a slow one.

use super::Tree;
use super::source::words;

/// No code of the test bed, of a `tests` folder or in `#[cfg(test)]` sleeps.
pub(super) fn no_sleep_in_tests(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, source) in &tree.sources {
        let all_test = path
            .split('/')
            .any(|part| part == "tests" || part == "tests.rs");
        for (at, word) in words(&source.code) {
            if matches!(word, "sleep" | "sleep_until" | "sleep_ms")
                && (all_test || source.in_test(at))
            {
                findings.push(format!(
                    "{path}:{}: wait on a condition, with a deadline",
                    source.line(at)
                ));
            }
        }
    }
    findings
}
