//! Whole runs of `muster` against a hub's API in this process.

use muster_proto::wire::v1;

use crate::config::Environment;
use crate::show::example;
use crate::stub::Stub;
use crate::{ExitCode, run_in};

mod planning;
mod watching;

/// What a run said and how it ended.
struct Run {
    code: ExitCode,
    out: String,
    err: String,
}

/// One command line.
async fn muster(environment: &Environment, line: &str) -> Run {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = std::iter::once("muster").chain(line.split_whitespace());
    let code = run_in(environment, words, &mut out, &mut err).await;
    Run {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

#[tokio::test]
async fn a_question_goes_over_tls_with_the_token_and_comes_back_as_a_table() {
    let hub = Stub::start().await;
    let run = muster(&hub.environment(), "clusters --no-headers -l region=eu").await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    assert!(
        run.out.starts_with("eu-1   Connected   Drifted   Current"),
        "{}",
        run.out
    );
    assert_eq!(run.out.lines().count(), 1);
}

#[tokio::test]
async fn json_and_yaml_are_the_hubs_messages() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let json = muster(&environment, "status -o json").await.out;
    let fleet: v1::Fleet = serde_json::from_str(&json).unwrap();
    assert_eq!(fleet, example::fleet());
    assert!(json.contains("\"adoptedRevision\": "), "{json}");
    let yaml = muster(&environment, "status -o yaml").await.out;
    let fleet: v1::Fleet = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(fleet, example::fleet());

    for (line, field) in [
        ("clusters", "clusters"),
        ("apps", "applications"),
        ("drift", "rows"),
        ("get cluster eu-1", "placements"),
        ("get app shop", "placements"),
    ] {
        let json = muster(&environment, &format!("{line} -o json")).await.out;
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(
            !value[field].as_array().unwrap().is_empty(),
            "{line}: {json}"
        );
    }
}

#[tokio::test]
async fn the_check_ends_with_three_when_something_is_wrong() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    for flag in ["--check", "--exit-code"] {
        let run = muster(&environment, &format!("status {flag}")).await;
        assert_eq!(run.code, ExitCode::NotInSync);
        assert!(run.out.contains("PROBLEM AT"), "it still says what");
    }
    assert_eq!(muster(&environment, "status").await.code, ExitCode::Ok);
    hub.fleet.send_replace(example::well());
    assert_eq!(
        muster(&environment, "status --check").await.code,
        ExitCode::Ok
    );
}

#[tokio::test]
async fn every_failure_is_one_line_that_says_what_to_do() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobodys = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let stranger = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&stranger, crate::stub::ca_pem()).unwrap();

    let cases = [
        (Environment::default(), "status", ExitCode::Failed),
        (
            Environment {
                token: Some("wrong".to_owned()),
                ..environment.clone()
            },
            "status",
            ExitCode::Failed,
        ),
        (
            Environment {
                server: Some(nobodys.clone()),
                ..environment.clone()
            },
            "status",
            ExitCode::Failed,
        ),
        (
            Environment {
                ca_file: Some(stranger.path().to_owned()),
                ..environment.clone()
            },
            "status",
            ExitCode::Failed,
        ),
        (environment.clone(), "get cluster eu1", ExitCode::Failed),
        (environment.clone(), "get app shpo", ExitCode::Failed),
        (
            environment.clone(),
            "clusters -l nonsense",
            ExitCode::Failed,
        ),
        (
            environment.clone(),
            "cluster remove us1 --keep-objects",
            ExitCode::Failed,
        ),
        (
            Environment {
                server: None,
                ..environment.clone()
            },
            "context add a",
            ExitCode::Usage,
        ),
    ];
    let mut said = String::new();
    for (environment, line, code) in cases {
        let run = muster(&environment, line).await;
        assert_eq!(run.code, code, "{line}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{line}: {}", run.err);
        assert_eq!(run.out, "", "{line}");
        said += &run.err;
    }
    let said = said.replace(&nobodys, "NOBODY").replace(&hub.server, "HUB");
    insta::assert_snapshot!(said, @r#"
    muster: no hub is configured (no server): run `muster context add NAME --server HOST:PORT --ca-file FILE --token-file FILE`, or, on the hub's machine, `muster context add local --data DIR`
    muster: the hub at HUB does not know this token: give another with MUSTER_TOKEN or `muster context add` (its first one is in the file admin-token in its data directory)
    muster: can't reach the hub at NOBODY: Connection refused (os error 111); is it running, and is this the address of its API?
    muster: whoever answers at HUB is not the hub of this CA (its certificate comes from another CA): compare the context's CA with the hub's ca.pem
    muster: there is no cluster "eu1" (`muster clusters` lists all)
    muster: there is no application "shpo" (`muster apps` lists all)
    muster: no selector: "nonsense"
    muster: there is no cluster "us1" (`muster clusters` lists all)
    muster: `muster context add` needs --server HOST:PORT; on the hub's machine: `muster context add local --data DIR`
    "#);
}

#[tokio::test]
async fn what_makes_no_sense_is_wrong_usage() {
    for line in [
        "",
        "stats",
        "cluster remove eu-1",
        "cluster remove eu-1 --keep-objects --delete-objects",
        "status --check --watch",
        "cluster join EU_1",
        "cluster join eu-1 --label region",
        "cluster join eu-1 --valid soon",
        "completion powershell",
        "status -o xml",
    ] {
        let run = muster(&Environment::default(), line).await;
        assert_eq!(run.code, ExitCode::Usage, "{line}");
        assert!(run.out.is_empty() && !run.err.is_empty(), "{line}");
    }
}

/// Also where no hub is known yet: that is not what is wrong with the line.
#[tokio::test]
async fn what_is_wrong_with_a_word_is_said_of_that_word() {
    let (time, name) = ("write a duration such as 30m", "name an object as KIND");
    for (line, told) in [
        ("pause app --for -1h", time),
        ("drift --since -1h", time),
        ("cluster join eu-1 --valid -1h", time),
        ("get object foo --cluster eu-1", name),
        ("get object ConfigMap/a/b/c --cluster eu-1", name),
    ] {
        let run = muster(&Environment::default(), line).await;
        assert_eq!(run.code, ExitCode::Usage, "{line}: {}", run.err);
        assert!(run.err.contains(told), "{line}: {}", run.err);
    }
}

#[tokio::test]
async fn a_join_token_is_asked_for_with_labels_and_validity() {
    let hub = Stub::start().await;
    let line = "cluster join eu-2 --label region=eu --label stage=production --valid 30m";
    let run = muster(&hub.environment(), line).await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    assert!(
        run.out
            .contains("muster-agent run --join-token-file eu-2.join"),
        "{}",
        run.out
    );
    let told = hub.told.lock().unwrap().join("\n");
    insta::assert_snapshot!(told, @r#"CreateJoinTokenRequest { cluster: "eu-2", labels: {"region": "eu", "stage": "production"}, valid_seconds: 1800 }"#);
}

#[tokio::test]
async fn the_manifests_go_to_kubectl_and_the_rest_to_the_person() {
    let hub = Stub::start().await;
    let run = muster(
        &hub.environment(),
        "cluster join eu-2 --manifest --image agent:1",
    )
    .await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    assert!(run.out.starts_with("apiVersion: v1\n"), "{}", run.out);
    assert!(run.out.contains("agent:1"));
    assert_eq!(
        run.err,
        "muster: eu-2 may join once, until 2100-01-01T00:00:00Z\n"
    );
}

#[tokio::test]
async fn removal_approval_and_sync_reach_the_hub() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let removed = muster(&environment, "cluster remove eu-1 --delete-objects").await;
    assert_eq!(
        removed.out, "eu-1 is removed; its objects stay.\n",
        "{}",
        removed.err
    );
    hub.fleet
        .send_modify(|fleet| fleet.waiting = crate::show::example::waiting());
    let approved = muster(&environment, "approve shop monitoring").await;
    assert_eq!(
        approved.out, "leaves/shop/1 may go on.\nprune/monitoring/2 may go on.\n",
        "{}",
        approved.err
    );
    let synced = muster(&environment, "sync now").await;
    assert_eq!(synced.out, "Git is at 4be1c2a.\n", "{}", synced.err);
    let told = hub.told.lock().unwrap().join("\n");
    insta::assert_snapshot!(told, @r#"
    RemoveClusterRequest { name: "eu-1", delete_objects: true }
    ApproveRequest { ids: ["leaves/shop/1", "prune/monitoring/2"] }
    sync
    "#);
}

#[tokio::test]
async fn the_own_version_is_printed_even_if_the_hub_is_away() {
    let hub = Stub::start().await;
    let both = muster(&hub.environment(), "version").await;
    assert_eq!(
        both.out, "muster 0.1.0\nhub    0.1.0 (test.muster)\n",
        "{}",
        both.err
    );
    let json = muster(&hub.environment(), "version -o json").await.out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["hub"]["trustDomain"], "test.muster");
    let own = muster(&Environment::default(), "version").await;
    assert_eq!(
        (own.code, own.out.as_str()),
        (ExitCode::Failed, "muster 0.1.0\n")
    );
    let client = muster(&Environment::default(), "version --client").await;
    assert_eq!(
        (client.code, client.out.as_str()),
        (ExitCode::Ok, "muster 0.1.0\n")
    );
}

#[tokio::test]
async fn the_schema_of_the_documents_needs_no_hub() {
    let run = muster(&Environment::default(), "schema").await;
    let schema: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let kinds = schema["oneOf"].as_array().unwrap();
    let kinds: Vec<_> = kinds
        .iter()
        .map(|kind| kind["title"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Application", "Cluster", "Repository", "Rollout"]);
}

#[tokio::test]
async fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let run = muster(&Environment::default(), &format!("completion {shell}")).await;
        assert!(
            run.out.contains("clusters") && run.out.contains("drift"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn a_context_leads_to_the_hub() {
    let hub = Stub::start().await;
    let all = hub.environment();
    let add = muster(&all, "context add local").await;
    assert_eq!(add.code, ExitCode::Ok, "{}", add.err);
    let environment = Environment {
        config_file: all.config_file.clone(),
        ..Environment::default()
    };
    let run = muster(&environment, "apps --no-headers").await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    assert_eq!(run.out.lines().count(), 2);
}

#[tokio::test]
async fn a_pause_says_until_when_and_where_it_does_not_hold_yet() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let run = muster(
        &environment,
        "pause shop --for 2h -l region=eu --reason looking",
    )
    .await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    assert!(
        run.out.starts_with(
            "shop is paused until 2100-01-01T00:00:00Z, on eu-1, us-2.\nNot yet on us-2"
        ),
        "{}",
        run.out
    );
    let told = hub.told.lock().unwrap().join("\n");
    for part in [
        "cluster_selector: \"region=eu\"",
        "for_seconds: 7200",
        "reason: \"looking\"",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let run = muster(&environment, "pause shoop").await;
    assert_eq!(run.code, ExitCode::Failed);
    assert!(run.err.contains("`muster apps` lists all"), "{}", run.err);
    let run = muster(&environment, "resume shop --cluster eu-1").await;
    assert_eq!(run.out, "shop goes on, on eu-1.\n", "{}", run.err);
    let run = muster(&environment, "pause shop --cluster eu-1 -l region=eu").await;
    assert_eq!(run.code, ExitCode::Usage);
}

#[tokio::test]
async fn a_diff_ends_with_three_when_something_differs_and_with_one_when_nobody_knows() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let run = muster(&environment, "diff shop --cluster eu-1").await;
    assert_eq!(run.code, ExitCode::NotInSync, "{}", run.err);
    assert!(run.out.contains("\n- 5\n+ 3\n"), "{}", run.out);
    assert!(!run.out.contains('\u{1b}'), "{}", run.out);
    let run = muster(&environment, "diff shop --cluster eu-1 --color always").await;
    assert!(run.out.contains("\u{1b}[31m- 5"), "{}", run.out);
    let run = muster(&environment, "diff monitoring --cluster eu-1").await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    let run = muster(&environment, "diff monitoring --cluster us-1").await;
    assert_eq!(run.code, ExitCode::Failed);
    assert_eq!(
        run.err,
        "muster: 1 objects could not be compared; try again\n"
    );
    let run = muster(&environment, "diff shop --cluster eu-1 -o json").await;
    assert_eq!(run.code, ExitCode::NotInSync);
    let comparison: v1::Comparison = serde_json::from_str(&run.out).unwrap();
    assert_eq!(comparison.objects.len(), 5);
    let run = muster(&environment, "diff shop").await;
    assert_eq!(run.code, ExitCode::Usage);
}

#[tokio::test]
async fn one_object_is_a_page_and_as_yaml_it_is_itself() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let line = "get object deployment.apps shop/web --cluster eu-1";
    let run = muster(&environment, line).await;
    assert_eq!(run.code, ExitCode::Ok, "{}", run.err);
    assert!(run.out.starts_with("Object:"), "{}", run.out);
    let asked = hub.told.lock().unwrap().pop().unwrap();
    assert!(
        asked.contains(r#"kind: "deployment", group: "apps", namespace: "shop", name: "web""#),
        "{asked}"
    );
    let run = muster(&environment, &format!("{line} -o yaml")).await;
    assert_eq!(run.out, "kind: Deployment\nspec:\n  replicas: 5\n");
    let run = muster(
        &environment,
        "get object configmap/settings --cluster eu-1 -o json",
    )
    .await;
    assert_eq!(run.code, ExitCode::Failed);
    assert_eq!(run.err, "muster: the object is not there\n");
    let run = muster(&environment, "get object web --cluster eu-1").await;
    assert_eq!(run.code, ExitCode::Usage);
}
