//! How files are laid out, so that the tree says what is inside.

use super::Tree;
use std::collections::BTreeSet;

/// Past this a file holds two concepts.
const LONGEST: usize = 700;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "common", "core", "helper", "helpers", "misc", "types", "util", "utils",
];

/// Every file is reached from the root of a crate through `mod`.
pub(super) fn orphans(tree: &Tree) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = tree
        .sources
        .keys()
        .filter(|path| is_root(tree, path))
        .cloned()
        .collect();
    while let Some(path) = open.pop() {
        let folder = if is_root(tree, &path) {
            path.rsplit_once('/')
                .map_or("", |(folder, _)| folder)
                .to_owned()
        } else {
            path.trim_end_matches(".rs")
                .trim_end_matches("/mod")
                .to_owned()
        };
        for module in tree.sources[&path].modules() {
            for file in [
                format!("{folder}/{module}.rs"),
                format!("{folder}/{module}/mod.rs"),
            ] {
                if tree.sources.contains_key(&file) && !reached.contains(&file) {
                    open.push(file);
                }
            }
        }
        reached.insert(path);
    }
    let lost = tree.sources.keys().filter(|path| !reached.contains(*path));
    lost.map(|path| format!("{path}:1: no `mod` declares it"))
        .collect()
}

/// The files cargo compiles by themselves.
fn is_root(tree: &Tree, path: &str) -> bool {
    let Some(inside) = tree
        .crate_of(path)
        .and_then(|folder| path.strip_prefix(folder))
    else {
        return false;
    };
    match inside
        .trim_start_matches('/')
        .split('/')
        .collect::<Vec<_>>()[..]
    {
        ["build.rs"] | ["src", "lib.rs" | "main.rs"] => true,
        ["src", "bin", _] | ["tests" | "benches" | "examples", _] => true,
        ["src", "bin", _, last] | ["tests" | "benches" | "examples", _, last] => last == "main.rs",
        _ => false,
    }
}

/// Every file opens with `//!`.
pub(super) fn headers(tree: &Tree) -> Vec<String> {
    let without = tree
        .sources
        .iter()
        .filter(|(_, source)| !source.text.starts_with("//! "));
    without
        .map(|(path, _)| format!("{path}:1: it does not open with `//!`, what it is"))
        .collect()
}

/// `foo.rs` beside `foo/`, not `foo/mod.rs`.
pub(super) fn no_mod_rs(tree: &Tree) -> Vec<String> {
    let named = tree.sources.keys().filter(|path| path.ends_with("/mod.rs"));
    named
        .map(|path| format!("{path}:1: call it after its folder, beside it"))
        .collect()
}

/// No module, in a file of its own or inline, is called `common` or the like.
pub(super) fn telling_names(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, source) in &tree.sources {
        for part in path
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| EMPTY_NAMES.contains(part))
        {
            findings.push(format!("{path}:1: `{part}` does not say what is inside"));
        }
        let words: Vec<(usize, &str)> = super::source::words(&source.code).collect();
        for pair in words.windows(2) {
            if pair[0].1 == "mod" && EMPTY_NAMES.contains(&pair[1].1) {
                findings.push(format!(
                    "{path}:{}: `{}` does not say what is inside",
                    source.line(pair[0].0),
                    pair[1].1
                ));
            }
        }
    }
    findings
}

/// No file is over 700 lines.
pub(super) fn short_files(tree: &Tree) -> Vec<String> {
    let lengths = tree
        .sources
        .iter()
        .map(|(path, source)| (path, source.text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LONGEST);
    long.map(|(path, lines)| format!("{path}:{LONGEST}: {lines} lines: split it by concept"))
        .collect()
}
