//! Of several things that are ready, the one that is written first is taken: the runtime's own dice are seeded anew in
//! each process, and a simulated history must be the same in each.

use super::Tree;
use super::source::words;

/// What runs in the simulation, as beginnings of paths.
const SIMULATED: &[&str] = &[
    "agent/",
    "hub/",
    "proto/",
    "tests/src/memory/",
    "tests/src/simulation",
];

/// Every `select!` there begins with `biased;`.
pub(super) fn select_in_order(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, source) in &tree.sources {
        if !SIMULATED.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for (at, word) in words(&source.code) {
            let rest = source.code[at + word.len()..].trim_start();
            let Some(arms) = rest.strip_prefix('!') else {
                continue;
            };
            if word == "select"
                && !arms
                    .trim_start_matches([' ', '\n', '{', '('])
                    .starts_with("biased;")
            {
                findings.push(format!(
                    "{path}:{}: begin it with `biased;`, the rarest first",
                    source.line(at)
                ));
            }
        }
    }
    findings
}
