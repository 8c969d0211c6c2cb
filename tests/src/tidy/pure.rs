//! What decides is a function of values (DESIGN.md, invariant 2): no clock, no network, no file, no environment.

use super::Tree;
use super::source::Named;

/// Files and folders whose code, tests aside, is pure.
const PURE: &[&str] = &[
    "hub/decide/src",
    "agent/src/plan",
    "agent/src/drift",
    "agent/src/health",
    "agent/src/report",
];

/// What is not pure, as beginnings of paths. Kubernetes *types* are values; what talks to a cluster is not.
const IMPURE: &[&str] = &[
    "gix",
    "hyper",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api::Api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "kube_client",
    "kube_runtime",
    "reqwest",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tokio_stream",
    "tokio_util",
    "tonic",
    "uuid::Uuid::new_v4",
];

/// No pure module names what is not pure.
pub(super) fn pure_modules(tree: &Tree) -> Vec<String> {
    let pure = |path: &str| {
        let inside = |it: &&str| path == format!("{it}.rs") || path.starts_with(&format!("{it}/"));
        PURE.iter().any(inside) && !path.ends_with("/tests.rs")
    };
    find(tree, pure, IMPURE, "is pure and may not use")
}

/// `decide` builds on the contract's values; what talks is another's.
pub(super) fn values_only(tree: &Tree) -> Vec<String> {
    let wire = [
        "muster_proto::wire",
        "muster_proto::tls",
        "muster_proto::join_token",
    ];
    find(
        tree,
        |path| path.starts_with("hub/decide/"),
        &wire,
        "takes values only and may not use",
    )
}

fn find(tree: &Tree, concerned: impl Fn(&str) -> bool, refused: &[&str], why: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, source) in tree.sources.iter().filter(|(path, _)| concerned(path)) {
        for Named {
            line, path: named, ..
        } in source.named().into_iter().filter(|named| !named.in_test)
        {
            if refused
                .iter()
                .any(|it| named == *it || named.starts_with(&format!("{it}::")))
            {
                findings.push(format!("{path}:{line}: it {why} {named}"));
            }
        }
    }
    findings
}
