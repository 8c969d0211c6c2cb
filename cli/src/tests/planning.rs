//! `muster plan` and `muster render`, by a hub and without one.

use super::*;
use crate::config::Terminal;

#[tokio::test]
async fn a_plan_says_by_its_exit_code_whether_something_would_change() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let run = muster(&environment, "plan whole").await;
    assert_eq!(run.code, ExitCode::Changes, "{}", run.err);
    assert!(run.out.contains("\n- 3\n+ 5\n"), "{}", run.out);
    assert_eq!(run.err, "", "progress is for terminals");
    assert_eq!(
        muster(&environment, "plan nothing").await.code,
        ExitCode::Ok
    );
    let run = muster(&environment, "plan raise-replicas").await;
    assert_eq!(run.code, ExitCode::Failed, "it has a problem");
    let run = muster(&environment, "plan gone").await;
    assert_eq!(
        (run.code, &*run.err),
        (ExitCode::Failed, "muster: there is no branch gone\n")
    );
    let run = muster(&environment, "plan raise-replicas --dry-run=server").await;
    assert_eq!(run.code, ExitCode::Failed, "an API server refuses it");
    assert!(
        run.out.contains(": refused: deployments.apps"),
        "{}",
        run.out
    );
    // No script may take a wrong command line for a change.
    for line in [
        "plan",
        "plan a --dry-run=client",
        "plan --local --dry-run=server",
    ] {
        let run = muster(&environment, line).await;
        assert_eq!(run.code, ExitCode::Failed, "{line}");
    }
    let run = muster(&environment, "plan a --clster eu-1").await;
    assert_eq!(run.code, ExitCode::Failed);
    for line in ["render", "render shop --cluster eu-1 --as-is"] {
        let run = muster(&environment, line).await;
        assert_eq!(run.code, ExitCode::Usage, "{line}");
    }
}

#[tokio::test]
async fn a_plan_is_json_markdown_and_on_a_terminal_says_what_the_hub_does() {
    let hub = Stub::start().await;
    let mut environment = hub.environment();
    let line = "plan #7 --as-is --cluster eu-1 --app shop -o json";
    let run = muster(&environment, line).await;
    let told: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told["of"], example::OF);
    let plan: muster_decide::plan::Plan = serde_json::from_value(told).unwrap();
    assert_eq!(plan, example::plan());
    let asked = hub.told.lock().unwrap().pop().unwrap();
    assert!(
        asked.contains(r##"what: "#7", as_is: true, cluster: "eu-1", application: "shop""##),
        "{asked}"
    );
    let run = muster(&environment, "plan x -o markdown").await;
    assert!(run.out.starts_with("### Plan of `"), "{}", run.out);
    environment.terminal = Some(Terminal {
        colour: true,
        size: || None,
    });
    let run = muster(&environment, "plan x").await;
    assert_eq!(run.err, "fetching branch x [2J ...\n");
    assert!(run.out.contains("\u{1b}[32m+ 5"), "{}", run.out);
    let run = muster(&environment, "plan x --color never").await;
    assert!(!run.out.contains('\u{1b}'), "{}", run.out);
}

#[tokio::test]
async fn a_checkout_is_sent_as_the_files_that_differ_and_is_not_touched() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let folder = tempfile::tempdir().unwrap();
    let git = |words: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(words)
            .current_dir(folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let put = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    git(&["init", "--quiet", "--initial-branch=main"]);
    for file in ["kept", "changed", "gone"] {
        put(file, file);
    }
    put(".gitignore", "ignored\n");
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "first"]);
    let base = git(&["rev-parse", "HEAD"]);
    put("changed", "committed here");
    git(&["commit", "--quiet", "--all", "--message", "second"]);
    put("changed", "and changed again");
    put("new file", "new");
    put("ignored", "ignored");
    std::fs::remove_file(folder.path().join("gone")).unwrap();
    let status = git(&["status", "--porcelain"]);
    let line = format!("plan {}", folder.path().display());

    let run = muster(&environment, &line).await;
    assert_eq!(run.code, ExitCode::Failed);
    assert!(
        run.err.contains("run `git fetch` there first"),
        "{}",
        run.err
    );
    hub.fleet
        .send_modify(|fleet| fleet.source.as_mut().unwrap().revision.clone_from(&base));
    muster(&environment, &line).await;
    let asked = hub.told.lock().unwrap().pop().unwrap();
    let file = |path: &str, kind: &str, content: &str| {
        format!("WorkingFile {{ path: {path:?}, kind: {kind:?}, content: b{content:?} }}")
    };
    let files = [
        file("changed", "file", "and changed again"),
        file("gone", "deleted", ""),
        file("new file", "file", "new"),
    ];
    let expected = format!(
        "WorkingTree {{ base: {base:?}, files: [{}] }}",
        files.join(", ")
    );
    assert!(asked.contains(&expected), "{asked}\n{expected}");
    assert_eq!(git(&["status", "--porcelain"]), status);
    let objects = git(&["count-objects"]);
    muster(&environment, &line).await;
    assert_eq!(
        git(&["count-objects"]),
        objects,
        "nothing is written into it"
    );
}

#[tokio::test]
async fn what_a_cluster_gets_is_printed_as_documents_or_as_a_list() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let run = muster(&environment, "render shop --cluster eu-1").await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    let page = include_str!("../../../docs/behaviour/planning.md");
    assert!(
        page.contains(&run.out),
        "docs/behaviour/planning.md shows:\n{}",
        run.out
    );
    let run = muster(&environment, "render shop --cluster eu-1 -o json").await;
    let list: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let run = muster(&environment, "render cellar --cluster eu-1").await;
    assert_eq!(
        (run.code, &*run.err),
        (
            ExitCode::Failed,
            "muster: cellar is left as it is on eu-1: it never rendered\n"
        )
    );
}
