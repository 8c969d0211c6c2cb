//! Our sources keep the rules of the house; and each rule finds what it is for, tried on a bad tree.

use anyhow::{Context, Result};
use muster_tests::tidy::{RULES, Tree};
use std::fs;
use std::path::Path;

#[test]
fn our_sources_keep_every_rule() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    let tree = Tree::read(root)?;
    assert!(tree.len() > 20, "only {} files were read", tree.len());
    let findings: Vec<String> = RULES
        .iter()
        .flat_map(|(name, rule)| {
            rule(&tree)
                .into_iter()
                .map(move |finding| format!("{finding}  [{name}]"))
        })
        .collect();
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
    Ok(())
}

/// A patch that rots breaks nothing, and proves nothing.
#[test]
fn every_mutant_applies_and_names_what_breaks_and_its_test() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("the workspace")?;
    let mut mutants = 0;
    for file in fs::read_dir(root.join("tests/mutants"))? {
        let path = file?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        mutants += 1;
        let text = fs::read_to_string(&path)?;
        let tests = text.lines().filter(|line| line.starts_with("Caught by: "));
        anyhow::ensure!(
            text.lines().next().is_some_and(|what| what.ends_with('.')) && tests.count() > 0,
            "{} begins with what breaks, and then names its tests",
            path.display()
        );
        let check = std::process::Command::new("git")
            .args(["apply", "--check"])
            .arg(&path)
            .current_dir(root)
            .output()?;
        anyhow::ensure!(
            check.status.success(),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&check.stderr)
        );
    }
    anyhow::ensure!(mutants >= 12, "only {mutants} mutants");
    Ok(())
}

/// A tree with nothing wrong, though it speaks of everything that would be; each case makes one thing bad.
const GOOD: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = []\n"),
    (
        "proto/Cargo.toml",
        "[package]\nname = \"muster-proto\"\n[dependencies]\ntokio.workspace = true\n",
    ),
    ("proto/src/lib.rs", "//! Values.\n"),
    (
        "hub/Cargo.toml",
        "[dependencies]\nmuster-proto = { workspace = true, features = [\"wire\"] }\nmuster-decide = {}\n",
    ),
    ("hub/src/lib.rs", "//! The hub.\n\nmod fleet;\n"),
    (
        "hub/src/fleet.rs",
        "//! Owner of state.\n\nuse muster_decide::desired;\nuse std::time::Instant;\n",
    ),
    (
        "hub/decide/Cargo.toml",
        "[dependencies]\nmuster-proto.workspace = true\n[dev-dependencies]\nproptest.workspace = true\n",
    ),
    (
        "hub/decide/src/lib.rs",
        "//! Pure: no tokio::spawn, no std::fs.\n\nuse std::time::Duration;\n\nfn text() -> &'static str { \"std::env::var\" }\n\n\
         #[cfg(test)]\nmod tests {\n    fn fixture() { std::fs::read(\"x\"); }\n}\n",
    ),
    (
        "agent/Cargo.toml",
        "[dependencies]\nmuster-proto.workspace = true\n",
    ),
    (
        "agent/src/lib.rs",
        "//! The agent.\n\nmod apply;\nmod plan;\n",
    ),
    (
        "agent/src/apply.rs",
        "//! Doing.\n\nasync fn wait() { tokio::time::sleep(BACKOFF).await; }\n",
    ),
    (
        "agent/src/plan.rs",
        "//! Pure.\n\nmod order;\n\nuse kube::api::TypeMeta;\n",
    ),
    ("agent/src/plan/order.rs", "//! Pure, too.\n"),
    (
        "cli/Cargo.toml",
        "[dependencies]\nmuster-proto.workspace = true\nmuster-decide.workspace = true\n",
    ),
    ("cli/src/main.rs", "//! The command.\n"),
    (
        "tests/Cargo.toml",
        "[dependencies]\nmuster-hub.workspace = true\nmuster-agent.workspace = true\n",
    ),
    (
        "tests/src/lib.rs",
        "//! The test bed.\n\nfn up_and_running() {}\n",
    ),
    (
        "tests/tests/real.rs",
        "//! Roots have modules beside them. No sleep.\n\nmod real {\n    mod sync;\n}\n",
    ),
    (
        "tests/tests/real/sync.rs",
        "//! A test.\n\nfn look() { hub(\"sleep\"); }\n",
    ),
    ("target/debug/build/out.rs", "generated"),
    (
        "docs/map.md",
        "See [the agent](../agent/src/lib.rs), [`up_and_running`](../tests/src/lib.rs), [us](https://muster.dev) and \
         [below](#below).\n```\n[not](a-link)\n```\n",
    ),
];

/// The findings of all rules in the good tree with one file replaced or added, as `rule: finding`.
fn findings_with(path: &str, text: &str) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    for (path, text) in GOOD.iter().chain([&(path, text)]) {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, text)?;
    }
    let tree = Tree::read(folder.path())?;
    let all = RULES.iter().flat_map(|(name, rule)| {
        rule(&tree)
            .into_iter()
            .map(move |it| format!("{name}: {it}"))
    });
    Ok(all.collect())
}

#[test]
fn a_good_tree_has_no_finding() -> Result<()> {
    let (path, text) = GOOD[0];
    assert_eq!(findings_with(path, text)?, Vec::<String>::new());
    Ok(())
}

#[track_caller]
fn assert_finds(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(findings_with(path, text).expect("a tree"), expected);
}

#[test]
fn hub_and_agent_may_not_depend_on_each_other() {
    assert_finds(
        "hub/Cargo.toml",
        "[dependencies]\nmuster-proto = {}\n\n[dependencies.muster-agent]\nworkspace = true\n",
        &[
            "a crate depends only on those it may: hub/Cargo.toml:4: hub may not depend on muster-agent",
        ],
    );
    assert_finds(
        "agent/Cargo.toml",
        "[target.'cfg(unix)'.dev-dependencies]\nmuster-hub.workspace = true\n",
        &[
            "a crate depends only on those it may: agent/Cargo.toml:2: agent may not depend on muster-hub",
        ],
    );
    assert_finds(
        "agent/src/apply.rs",
        "//! Doing.\n\nuse crate::{x, plan};\n\nfn f() {\n    muster_hub::fleet::run();\n}\n",
        &[
            "a crate uses only those it may: agent/src/apply.rs:6: muster_agent may not use muster_hub::fleet::run",
        ],
    );
}

#[test]
fn the_command_line_may_not_depend_on_the_hub() {
    assert_finds(
        "cli/Cargo.toml",
        "[dependencies]\nmuster-hub.workspace = true\n",
        &[
            "a crate depends only on those it may: cli/Cargo.toml:2: cli may not depend on muster-hub",
        ],
    );
}

#[test]
fn what_the_command_line_takes_of_the_hub_may_not_bring_its_server() {
    assert_finds(
        "hub/render/Cargo.toml",
        "[dependencies]\nmuster-git.workspace = true\nmuster-hub.workspace = true\nsqlx.workspace = true\n",
        &[
            "a crate depends only on those it may: hub/render/Cargo.toml:3: hub/render may not depend on muster-hub",
            "a crate depends only on those it may: hub/render/Cargo.toml:4: `muster` takes it without the hub's server, \
             so it takes nothing of that and may not depend on sqlx",
        ],
    );
}

#[test]
fn the_contract_may_depend_on_nothing_of_ours() {
    assert_finds(
        "proto/Cargo.toml",
        "[build-dependencies]\nmuster-decide.workspace = true\n",
        &[
            "a crate depends only on those it may: proto/Cargo.toml:2: proto may not depend on muster-decide",
        ],
    );
    assert_finds(
        "proto/src/lib.rs",
        "//! Values.\nuse muster_decide::Snapshot;\n",
        &[
            "a crate uses only those it may: proto/src/lib.rs:2: muster_proto may not use muster_decide::Snapshot",
        ],
    );
}

#[test]
fn a_crate_without_a_place_in_the_house_is_found() {
    assert_finds(
        "shared/Cargo.toml",
        "[package]\n",
        &[
            "a crate depends only on those it may: shared/Cargo.toml:1: a crate that the house does not know: \
           say in tidy what it may use",
        ],
    );
}

#[test]
fn decide_may_not_depend_on_a_runtime_nor_on_the_wire() {
    assert_finds(
        "hub/decide/Cargo.toml",
        "[dependencies]\nmuster-proto = { workspace = true, features = [\"wire\"] }\ntokio-util.workspace = true\n",
        &[
            "a crate depends only on those it may: hub/decide/Cargo.toml:2: decide takes muster-proto's values, \
             and not its wire",
            "a crate depends only on those it may: hub/decide/Cargo.toml:3: decide is pure and may not depend on \
             tokio-util",
        ],
    );
    assert_finds(
        "hub/decide/src/lib.rs",
        "//! Pure.\nuse muster_proto::{Digest, wire::v1};\n",
        &[
            "decide takes values only from the contract: hub/decide/src/lib.rs:2: it takes values only and may not use \
           muster_proto::wire::v1",
        ],
    );
}

#[test]
fn what_decides_may_not_look_at_the_world() {
    assert_finds(
        "hub/decide/src/lib.rs",
        "//! Pure.\nuse std::{env, time::{self, Duration}};\n\nfn f() {\n    time::SystemTime::now();\n}\n",
        &[
            "what decides is pure: hub/decide/src/lib.rs:2: it is pure and may not use std::env",
            "what decides is pure: hub/decide/src/lib.rs:5: it is pure and may not use std::time::SystemTime::now",
        ],
    );
    assert_finds(
        "agent/src/plan/order.rs",
        "//! Pure?\nuse kube::{Api, api::TypeMeta};\nfn f() { tokio::spawn(g()); }\n",
        &[
            "what decides is pure: agent/src/plan/order.rs:2: it is pure and may not use kube::Api",
            "what decides is pure: agent/src/plan/order.rs:3: it is pure and may not use tokio::spawn",
        ],
    );
}

#[test]
fn a_file_that_no_mod_declares_is_found() {
    assert_finds(
        "hub/src/fleet/lost.rs",
        "//! Nobody's. mod lost;\n",
        &["every file is declared by a mod: hub/src/fleet/lost.rs:1: no `mod` declares it"],
    );
    assert_finds(
        "tests/tests/real/lost.rs",
        "//! Nobody's.\n",
        &["every file is declared by a mod: tests/tests/real/lost.rs:1: no `mod` declares it"],
    );
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    assert_finds(
        "cli/src/main.rs",
        "// The command.\nfn main() {}\n",
        &[
            "every file opens with what it is: cli/src/main.rs:1: it does not open with `//!`, what it is",
        ],
    );
}

#[test]
fn a_mod_rs_is_found() {
    assert_finds(
        "tests/tests/world/mod.rs",
        "//! A folder's own file.\n",
        &[
            "every file is declared by a mod: tests/tests/world/mod.rs:1: no `mod` declares it",
            "no file is called mod.rs: tests/tests/world/mod.rs:1: call it after its folder, beside it",
        ],
    );
}

#[test]
fn a_name_that_says_nothing_is_found() {
    assert_finds(
        "hub/src/fleet.rs",
        "//! Owner of state.\n\nmod helpers {\n    fn f() {}\n}\n",
        &["names say what is inside: hub/src/fleet.rs:3: `helpers` does not say what is inside"],
    );
    assert_finds(
        "cli/src/bin/common.rs",
        "//! A root of its own.\n",
        &[
            "names say what is inside: cli/src/bin/common.rs:1: `common` does not say what is inside",
        ],
    );
}

#[test]
fn a_file_that_is_too_long_is_found() {
    let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
    assert_finds("cli/src/main.rs", &lines(700), &[]);
    assert_finds(
        "cli/src/main.rs",
        &lines(701),
        &["no file is too long: cli/src/main.rs:700: 701 lines: split it by concept"],
    );
}

#[test]
fn a_test_that_sleeps_is_found() {
    assert_finds(
        "tests/tests/real/sync.rs",
        "//! A test.\n\nuse std::thread::sleep;\n",
        &[
            "tests wait on conditions: tests/tests/real/sync.rs:3: wait on a condition, with a deadline",
        ],
    );
    assert_finds(
        "agent/src/apply.rs",
        "//! Doing.\n\n#[cfg(test)]\nmod tests {\n    async fn wait() { tokio::time::sleep(SECOND).await; }\n}\n",
        &["tests wait on conditions: agent/src/apply.rs:5: wait on a condition, with a deadline"],
    );
}

#[test]
fn a_choice_by_chance_is_found() {
    assert_finds(
        "agent/src/apply.rs",
        "//! Doing.\n\nasync fn one() {\n    tokio::select! {\n        biased;\n        () = a => {}\n    }\n    select! { () = b => {} }\n}\n",
        &[
            "what is ready is taken in order: agent/src/apply.rs:8: begin it with `biased;`, the rarest first",
        ],
    );
}

#[test]
fn a_link_to_what_is_not_there_is_found() {
    assert_finds(
        "docs/map.md",
        "Read [this](../README.md)\nand [`it_holds`](../tests/tests/real/sync.rs).\n",
        &[
            "pages point at what is there: docs/map.md:1: ../README.md is not there",
            "pages point at what is there: docs/map.md:2: tests/tests/real/sync.rs has no function it_holds",
        ],
    );
}

#[test]
fn state_that_several_may_write_is_found() {
    assert_finds(
        "agent/src/apply.rs",
        "//! Doing.\n\nuse std::sync::Mutex;\n",
        &[
            "one task owns each piece of state: agent/src/apply.rs:3: Mutex: let one task own it, others hold a \
             `watch` or a handle",
        ],
    );
}

#[test]
fn the_hub_may_not_have_a_client_of_clusters() {
    assert_finds(
        "hub/Cargo.toml",
        "[dependencies]\nkube-client.workspace = true\n",
        &[
            "a crate depends only on those it may: hub/Cargo.toml:2: the hub opens no connection to a cluster and may \
             not depend on kube-client",
        ],
    );
}
