//! Who may depend on whom among our own crates: the house of DESIGN.md, section 1.

use super::Tree;

/// Folder, crate, and which of ours it may use. The tests may use all.
const HOUSE: &[(&str, &str, &[&str])] = &[
    ("proto", "muster_proto", &[]),
    ("hub/decide", "muster_decide", &["muster_proto"]),
    ("hub/git", "muster_git", &["muster_proto", "muster_decide"]),
    (
        "hub/render",
        "muster_render",
        &["muster_proto", "muster_decide", "muster_git"],
    ),
    (
        "hub",
        "muster_hub",
        &[
            "muster_proto",
            "muster_decide",
            "muster_git",
            "muster_render",
        ],
    ),
    ("agent", "muster_agent", &["muster_proto"]),
    (
        "cli",
        "muster_cli",
        &[
            "muster_proto",
            "muster_decide",
            "muster_git",
            "muster_render",
        ],
    ),
    (
        "tests",
        "muster_tests",
        &[
            "muster_proto",
            "muster_decide",
            "muster_git",
            "muster_render",
            "muster_hub",
            "muster_agent",
            "muster_cli",
        ],
    ),
];

const NO_SERVER: &str = "`muster` takes it without the hub's server, so it takes nothing of that";
const SERVER: &[&str] = &["axum", "tonic", "sqlx", "rcgen", "x509-parser"];

/// What a crate may not even depend on, by folder and reason: the compiler then keeps it so.
const NOT_FOR: &[(&str, &str, &[&str])] = &[
    (
        "hub/decide",
        "decide is pure",
        &[
            "tokio", "tonic", "gix", "kube", "hyper", "reqwest", "sqlx", "axum",
        ],
    ),
    ("hub/git", NO_SERVER, SERVER),
    ("hub/render", NO_SERVER, SERVER),
    (
        "hub",
        "the hub opens no connection to a cluster",
        &["kube", "k8s-openapi"],
    ),
];

fn allowed(folder: &str) -> Option<(&'static str, &'static [&'static str])> {
    HOUSE
        .iter()
        .find(|(it, ..)| *it == folder)
        .map(|(_, name, allowed)| (*name, *allowed))
}

/// Dependencies between our crates in every `Cargo.toml`, and what `decide` depends on.
pub(super) fn manifests(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in &tree.manifests {
        let folder = path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        if folder.is_empty() {
            continue;
        }
        let Some((_, allowed)) = allowed(folder) else {
            findings.push(format!(
                "{path}:1: a crate that the house does not know: say in tidy what it may use"
            ));
            continue;
        };
        for (line, name, declaration) in dependencies(text) {
            let crate_name = name.replace('-', "_");
            if crate_name.starts_with("muster_") && !allowed.contains(&crate_name.as_str()) {
                findings.push(format!("{path}:{line}: {folder} may not depend on {name}"));
            }
            let refused = |it: &&str| name == *it || name.starts_with(&format!("{it}-"));
            for (_, why, names) in NOT_FOR.iter().filter(|(it, ..)| *it == folder) {
                if names.iter().any(refused) {
                    findings.push(format!("{path}:{line}: {why} and may not depend on {name}"));
                }
            }
            if folder == "hub/decide" && name == "muster-proto" && declaration.contains("\"wire\"")
            {
                findings.push(format!(
                    "{path}:{line}: decide takes muster-proto's values, and not its wire"
                ));
            }
        }
    }
    findings
}

/// `muster_*` in the code of every crate.
pub(super) fn uses(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, source) in &tree.sources {
        let Some((name, allowed)) = tree.crate_of(path).and_then(allowed) else {
            continue;
        };
        for named in source.named() {
            let root = named.path.split("::").next().unwrap_or_default();
            if root.starts_with("muster_") && root != name && !allowed.contains(&root) {
                findings.push(format!(
                    "{path}:{}: {name} may not use {}",
                    named.line, named.path
                ));
            }
        }
    }
    findings
}

/// Line, name and declaration of every dependency, of all kinds and targets.
fn dependencies(manifest: &str) -> Vec<(usize, &str, &str)> {
    let mut found = Vec::new();
    let mut listed = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            listed = table.ends_with("dependencies");
            if let Some((before, name)) = table.rsplit_once("dependencies.") {
                let until_next = manifest
                    .lines()
                    .skip(index + 1)
                    .take_while(|line| !line.starts_with('['));
                let features = until_next
                    .into_iter()
                    .any(|line| line.starts_with("features"));
                if before.is_empty() || before.ends_with(['-', '.']) {
                    found.push((index + 1, name, if features { "features" } else { "" }));
                }
            }
        } else if listed && let Some((key, declaration)) = line.split_once('=') {
            let name = key.trim().split('.').next().unwrap_or_default();
            if !name.starts_with('#') {
                found.push((
                    index + 1,
                    name,
                    if key.contains("features") {
                        key
                    } else {
                        declaration
                    },
                ));
            }
        }
    }
    found
}
