//! What a commit would change before it is merged, asked of a running hub; and what a cluster gets now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_proto::wire::v1;
use serde_json::Value;
use tonic::{Code, Status};

use crate::api::{browser, url};
use crate::bed::{Bed, DEADLINE, config_with, git, repository, until};

const CLUSTERS: &str = "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-1}\n---\napiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-2}\n";
const SHOP: &str = "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: shop}\nspec: {namespace: shop}\n";
const TOKEN: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {token: hunter2}\n";

pub(crate) fn put(folder: &Path, file: &str, text: &str) {
    let file = folder.join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Commits what is there; the new commit's id.
pub(crate) fn commit(folder: &Path, message: &str) -> String {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", message]);
    git(folder, &["rev-parse", "HEAD"])
}

pub(crate) fn map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: {value}}}\n"
    )
}

/// A plan as the hub told it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) doing: Vec<String>,
    pub(crate) of: String,
    pub(crate) plan: Value,
}

impl Told {
    /// Each change as `shop changed eu-1 eu-2: change settings .data.value "one" -> "two"`.
    fn changes(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines = Vec::new();
        for diff in self.plan["diffs"].as_array().unwrap() {
            let clusters = diff["clusters"].as_array().unwrap().iter().map(text);
            let clusters = clusters.collect::<Vec<_>>().join(" ");
            let (application, kind) = (text(&diff["application"]), text(&diff["kind"]));
            for object in diff["objects"].as_array().unwrap() {
                let (action, name) = (text(&object["action"]), text(&object["object"]["name"]));
                let fields = object["fields"].as_array().into_iter().flatten();
                let fields = fields.map(|field| {
                    let side = |side: &str| text(&field[side]);
                    format!(
                        " {} {} -> {}",
                        text(&field["path"]),
                        side("before"),
                        side("after")
                    )
                });
                let fields: String = fields.collect();
                lines.push(format!(
                    "{application} {kind} {clusters}: {action} {name}{fields}"
                ));
            }
        }
        lines
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.plan["problems"].as_array().unwrap();
        let message = |problem: &Value| problem["message"].as_str().unwrap().to_owned();
        problems.iter().map(message).collect()
    }
}

pub(crate) struct Fleet(pub(crate) Bed);

impl Fleet {
    /// `shop` on two clusters, decided; and a branch `change` that forked from there.
    pub(crate) async fn start() -> Self {
        Self::on(Bed::start().await).await
    }

    pub(crate) async fn on(bed: Bed) -> Self {
        let folder = bed.repository.path();
        put(folder, "muster.yaml", CLUSTERS);
        put(folder, "shop/muster.yaml", SHOP);
        put(folder, "shop/settings.yaml", &map("settings", "one"));
        put(folder, "shop/token.yaml", TOKEN);
        let fleet = Self(bed);
        fleet.decided(&commit(fleet.folder(), "shop")).await;
        fleet
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.repository.path()
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        git(self.folder(), words)
    }

    /// A branch from main with these files; main is checked out after.
    pub(crate) fn branch(&self, name: &str, files: &[(&str, &str)]) -> String {
        self.git(&["checkout", "--quiet", "-b", name, "main"]);
        for (file, text) in files {
            put(self.folder(), file, text);
        }
        let id = commit(self.folder(), name);
        self.git(&["checkout", "--quiet", "main"]);
        id
    }

    /// Looks at Git until it is decided.
    pub(crate) async fn decided(&self, revision: &str) {
        self.0.sync().await.unwrap();
        until("the commit is adopted", async || {
            let fleet = self.0.fleet().await;
            assert_eq!(fleet.problems, [], "nothing is broken");
            fleet.source.unwrap().adopted_revision == revision
        })
        .await;
    }

    pub(crate) async fn plan(&self, request: v1::PlanRequest) -> Result<Told, Status> {
        let asked = async {
            let mut answers = self
                .0
                .api()
                .await
                .plan(self.0.ask(request))
                .await?
                .into_inner();
            let mut doing = Vec::new();
            loop {
                let news = answers.message().await?.expect("the plan comes last");
                if news.doing.is_empty() {
                    return Ok(Told {
                        doing,
                        of: news.of,
                        plan: serde_json::from_str(&news.plan).unwrap(),
                    });
                }
                doing.push(news.doing);
            }
        };
        tokio::time::timeout(DEADLINE, asked)
            .await
            .expect("in time")
    }

    pub(crate) async fn merge_of(&self, what: &str) -> Result<Told, Status> {
        self.plan(v1::PlanRequest {
            what: what.into(),
            ..v1::PlanRequest::default()
        })
        .await
    }

    pub(crate) async fn refused(&self, what: &str) -> (Code, String) {
        let status = self.merge_of(what).await.unwrap_err();
        (status.code(), status.message().to_owned())
    }
}

#[tokio::test]
async fn a_plan_is_of_the_merge_and_what_is_published_stays_until_it_is_merged() {
    let fleet = Fleet::start().await;
    let two = map("settings", "two");
    let tip = fleet.branch("change", &[("shop/settings.yaml", &two)]);
    // Main goes on meanwhile.
    put(fleet.folder(), "shop/more.yaml", &map("more", "one"));
    let main = commit(fleet.folder(), "more");
    fleet.decided(&main).await;
    let before = fleet.0.fleet().await;

    let told = fleet.merge_of("change").await.unwrap();
    let expected = ["shop changed eu-1 eu-2: change settings .data.value \"one\" -> \"two\""];
    assert_eq!(told.changes(), expected);
    assert_eq!(told.problems(), [""; 0]);
    assert_eq!(
        told.of,
        format!(
            "the merge of branch change ({}) into main ({})",
            &tip[..7],
            &main[..7]
        )
    );
    assert!(
        told.doing
            .iter()
            .any(|doing| doing.contains("fetching branch change")),
        "{told:?}"
    );
    assert!(!told.plan.to_string().contains("hunter2"));
    // Asked again, by its commit, and narrowed.
    assert_eq!(fleet.merge_of(&tip).await.unwrap().changes(), expected);
    let narrowed = fleet.plan(v1::PlanRequest {
        what: "change".into(),
        cluster: "eu-2".into(),
        application: "shop".into(),
        ..v1::PlanRequest::default()
    });
    assert_eq!(
        narrowed.await.unwrap().changes(),
        ["shop changed eu-2: change settings .data.value \"one\" -> \"two\""]
    );
    // As it is, it takes away what main has gained.
    let as_is = fleet.plan(v1::PlanRequest {
        what: "change".into(),
        as_is: true,
        ..v1::PlanRequest::default()
    });
    assert_eq!(
        as_is.await.unwrap().changes(),
        [
            "shop changed eu-1 eu-2: prune more",
            "shop changed eu-1 eu-2: change settings .data.value \"one\" -> \"two\""
        ]
    );
    // Nothing of it is decided.
    let after = fleet.0.fleet().await;
    assert_eq!(
        (after.source, after.applications),
        (before.source, before.applications)
    );

    fleet.git(&["merge", "--quiet", "--no-edit", "change"]);
    fleet.decided(&fleet.git(&["rev-parse", "main"])).await;
    let told = fleet.merge_of("change").await.unwrap();
    assert_eq!(told.changes(), [""; 0], "it is merged");
}

#[tokio::test]
async fn a_branch_that_conflicts_is_refused_with_the_files_and_one_that_is_gone_is_not_there() {
    let fleet = Fleet::start().await;
    fleet.branch("change", &[("shop/settings.yaml", &map("settings", "two"))]);
    put(
        fleet.folder(),
        "shop/settings.yaml",
        &map("settings", "three"),
    );
    fleet.decided(&commit(fleet.folder(), "three")).await;
    let (code, message) = fleet.refused("change").await;
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(
        message,
        "branch change conflicts with main in shop/settings.yaml: merge main into it, and plan again"
    );
    fleet.git(&["branch", "--quiet", "-D", "change"]);
    let (code, message) = fleet.refused("change").await;
    assert_eq!(code, Code::NotFound);
    assert!(message.ends_with(" has no branch change"), "{message}");
    let (code, message) = fleet.refused("a..b").await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("refs/pull/7/head"), "{message}");
    // Another history altogether.
    fleet.git(&["checkout", "--quiet", "--orphan", "other"]);
    put(
        fleet.folder(),
        "shop/settings.yaml",
        &map("settings", "four"),
    );
    commit(fleet.folder(), "other");
    fleet.git(&["checkout", "--quiet", "main"]);
    let (code, message) = fleet.refused("other").await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("no commit in common"), "{message}");
}

#[tokio::test]
async fn pull_and_merge_requests_are_found_by_their_numbers_and_refs() {
    let fleet = Fleet::start().await;
    for (number, place) in [("7", "pull"), ("8", "merge-requests")] {
        let text = map("settings", number);
        let tip = fleet.branch(number, &[("shop/settings.yaml", &text)]);
        let name = format!("refs/{place}/{number}/head");
        fleet.git(&["update-ref", &name, &tip]);
        fleet.git(&["branch", "--quiet", "-D", number]);
        for what in [name, format!("#{number}")] {
            let told = fleet.merge_of(&what).await.unwrap();
            assert_eq!(
                told.changes(),
                [format!(
                    "shop changed eu-1 eu-2: change settings .data.value \"one\" -> {number}"
                )],
                "{what}"
            );
        }
    }
    let (code, message) = fleet.refused("#9").await;
    assert_eq!(code, Code::NotFound, "{message}");
}

#[tokio::test]
async fn what_is_broken_in_a_branch_is_a_problem_of_the_plan_and_an_emptied_one_is_refused() {
    let fleet = Fleet::start().await;
    let broken = format!("{SHOP}  nonsense: 1\n");
    fleet.branch(
        "broken",
        &[
            ("shop/settings.yaml", &map("settings", "two")),
            ("other/muster.yaml", "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: other}\nspec: {nonsense: 1}\n"),
        ],
    );
    let told = fleet.merge_of("broken").await.unwrap();
    assert!(told.problems()[0].contains("nonsense"), "{told:?} {broken}");
    assert_eq!(told.changes().len(), 1, "the rest moves: {told:?}");

    fleet.git(&["checkout", "--quiet", "-b", "empty", "main"]);
    fleet.git(&["rm", "--quiet", "-r", "shop"]);
    commit(fleet.folder(), "empty");
    fleet.git(&["checkout", "--quiet", "main"]);
    let (code, message) = fleet.refused("empty").await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("no Application at all"), "{message}");

    let narrowed = fleet.plan(v1::PlanRequest {
        what: "broken".into(),
        cluster: "eu1".into(),
        ..v1::PlanRequest::default()
    });
    let status = narrowed.await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("eu-1"), "{status:?}");
}

/// Ten folders of ten folders of ten ...: a few hundred bytes that are 10^12 files.
#[tokio::test]
async fn a_commit_of_more_files_than_could_be_read_is_refused_in_time() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let fleet = Fleet::start().await;
    let mut id = fleet.git(&["hash-object", "-w", "README"]);
    let mut what = "100644 blob";
    for _ in 0..12 {
        let lines: String = (0..10)
            .map(|at| format!("{what} {id}\tf{at}.yaml\n"))
            .collect();
        let mut child = Command::new("git")
            .arg("mktree")
            .current_dir(fleet.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        what = "040000 tree";
    }
    let tip = fleet.git(&["commit-tree", &id, "-p", "main", "-m", "huge"]);
    fleet.git(&["update-ref", "refs/heads/huge", &tip]);
    let (code, message) = fleet.refused("huge").await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(
        message.contains("more than 500000 files and folders"),
        "{message}"
    );
    // The hub plans on.
    fleet.branch("change", &[("shop/settings.yaml", &map("settings", "two"))]);
    assert_eq!(fleet.merge_of("change").await.unwrap().changes().len(), 1);
}

#[tokio::test]
async fn files_of_a_checkout_are_planned_on_the_commit_that_they_differ_from() {
    let fleet = Fleet::start().await;
    let base = fleet.git(&["rev-parse", "main"]);
    put(fleet.folder(), "shop/more.yaml", &map("more", "one"));
    fleet.decided(&commit(fleet.folder(), "more")).await;
    let file = |path: &str, kind: &str, text: &str| v1::WorkingFile {
        path: path.into(),
        kind: kind.into(),
        content: text.to_owned().into(),
    };
    let tree = |base: &str, files: Vec<v1::WorkingFile>| v1::PlanRequest {
        working_tree: Some(v1::WorkingTree {
            base: base.into(),
            files,
        }),
        ..v1::PlanRequest::default()
    };
    let files = vec![
        file("shop/settings.yaml", "deleted", ""),
        file("shop/new.yaml", "file", &map("new", "one")),
    ];
    let told = fleet.plan(tree(&base, files.clone())).await.unwrap();
    assert_eq!(
        told.changes(),
        [
            "shop changed eu-1 eu-2: create new",
            "shop changed eu-1 eu-2: prune settings"
        ]
    );
    let status = fleet
        .plan(tree("4be1c2a", files.clone()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let nowhere = "4be1c2a900fe4be1c2a900fe4be1c2a900fe4be1";
    let status = fleet.plan(tree(nowhere, files)).await.unwrap_err();
    assert_ne!(status.code(), Code::Internal, "{status:?}");
    for path in ["../x", ".git/config", "/etc/passwd", "a//b"] {
        let files = vec![file(path, "file", "x")];
        let status = fleet.plan(tree(&base, files)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn what_a_cluster_gets_is_told_without_what_secrets_hold() {
    let fleet = Fleet::start().await;
    let ask = async |application: &str, cluster: &str| {
        let request = v1::RenderRequest {
            application: application.into(),
            cluster: cluster.into(),
            ..v1::RenderRequest::default()
        };
        let answer = fleet.0.api().await.render(fleet.0.ask(request)).await;
        answer.map(tonic::Response::into_inner)
    };
    let told = ask("shop", "eu-1").await.unwrap();
    let objects: Vec<Value> = told
        .objects
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(objects[0]["data"]["value"], "one");
    assert_eq!(objects[1]["stringData"]["token"], "(secret)");
    assert_eq!(objects[0]["metadata"]["namespace"], "shop");
    assert_eq!(told.revision, fleet.git(&["rev-parse", "main"]));
    let wrong = BTreeMap::from([("shop eu1", Code::NotFound), ("shp eu-1", Code::NotFound)]);
    for (line, code) in wrong {
        let (application, cluster) = line.split_once(' ').unwrap();
        assert_eq!(
            ask(application, cluster).await.unwrap_err().code(),
            code,
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_a_cluster_would_get_after_a_merge_is_rendered_and_what_is_broken_there_is_an_error() {
    let fleet = Fleet::start().await;
    let ask = async |at: &str, as_is: bool, application: &str, cluster: &str| {
        let request = v1::RenderRequest {
            application: application.into(),
            cluster: cluster.into(),
            at: at.into(),
            as_is,
        };
        let answer = fleet.0.api().await.render(fleet.0.ask(request)).await;
        answer.map(tonic::Response::into_inner)
    };
    let names = |told: &v1::Rendering| -> Vec<String> {
        let name = |object: &String| {
            let object: Value = serde_json::from_str(object).unwrap();
            object["metadata"]["name"].as_str().unwrap().to_owned()
        };
        told.objects.iter().map(name).collect()
    };
    fleet.branch("change", &[("shop/new.yaml", &map("new", "one"))]);
    put(fleet.folder(), "shop/more.yaml", &map("more", "one"));
    fleet.decided(&commit(fleet.folder(), "more")).await;
    let merged = ask("change", false, "shop", "eu-1").await.unwrap();
    assert_eq!(names(&merged), ["more", "new", "settings", "token"]);
    assert!(
        merged.of.starts_with("the merge of branch change"),
        "{}",
        merged.of
    );
    assert!(!format!("{merged:?}").contains("hunter2"));
    let as_is = ask("change", true, "shop", "eu-1").await.unwrap();
    assert_eq!(names(&as_is), ["new", "settings", "token"]);

    fleet.branch("broken", &[("shop/new.yaml", "apiVersion: v1\nkind: [")]);
    let elsewhere = "  targets: [{name: t, clusters: {names: [eu-2]}}]\n";
    let moved = SHOP.replace(
        "spec: {namespace: shop}\n",
        &format!("spec:\n  namespace: shop\n{elsewhere}"),
    );
    fleet.branch("moved", &[("shop/muster.yaml", &moved)]);
    for (at, application, cluster, code, says) in [
        (
            "broken",
            "shop",
            "eu-1",
            Code::FailedPrecondition,
            "shop/new.yaml:2",
        ),
        (
            "moved",
            "shop",
            "eu-1",
            Code::FailedPrecondition,
            "would not run on eu-1",
        ),
        (
            "change",
            "shp",
            "eu-1",
            Code::NotFound,
            "did you mean \"shop\"",
        ),
        (
            "change",
            "shop",
            "eu1",
            Code::NotFound,
            "did you mean \"eu-1\"",
        ),
        ("gone", "shop", "eu-1", Code::NotFound, "has no branch gone"),
    ] {
        let status = ask(at, false, application, cluster).await.unwrap_err();
        assert_eq!(status.code(), code, "{at}: {status:?}");
        assert!(status.message().contains(says), "{at}: {status:?}");
    }
}

#[tokio::test]
async fn scripts_get_a_plan_and_a_rendering_as_json_over_http() {
    let fleet = Fleet::start().await;
    fleet.branch("change", &[("shop/settings.yaml", &map("settings", "two"))]);
    let post = async |body: &str| {
        let answer = browser(&fleet.0)
            .post(url(&fleet.0, "/api/v1/plans"))
            .bearer_auth(fleet.0.token())
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        (status, body)
    };
    let (status, plan) = post(r#"{"what": "change"}"#).await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["clusters"], 2);
    assert_eq!(plan["diffs"][0]["application"], "shop");
    assert!(
        plan["of"].as_str().unwrap().contains("branch change"),
        "{plan}"
    );
    let (status, refusal) = post(r#"{"what": "gone"}"#).await;
    assert_eq!((status, &refusal["code"]), (404, &Value::from("NotFound")));
    let answer = browser(&fleet.0)
        .get(url(&fleet.0, "/api/v1/clusters/eu-1/renderings/shop"))
        .bearer_auth(fleet.0.token())
        .send()
        .await
        .unwrap();
    let rendering: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(rendering["objects"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_only_a_branch_names_is_fetched_for_its_plan() {
    let fleet = Fleet::start().await;
    let other = repository();
    for version in ["v1", "v2"] {
        put(other.path(), "deploy/map.yaml", &map("other", version));
        commit(other.path(), version);
        git(other.path(), &["tag", version]);
    }
    let document = |tag: &str| {
        format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: other}}\nspec: {{url: \"file://{}\"}}\n\
             ---\napiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: other}}\n\
             spec: {{namespace: other, source: {{repository: other, path: deploy, ref: {{tag: {tag}}}}}}}\n",
            other.path().display()
        )
    };
    fleet.branch("new", &[("other/muster.yaml", &document("v1"))]);
    let told = fleet.merge_of("new").await.unwrap();
    assert_eq!(told.problems(), [""; 0]);
    assert_eq!(told.changes(), ["other gained eu-1 eu-2: create other"]);
    assert!(
        told.doing
            .iter()
            .any(|it| it == "fetching other, which only it names"),
        "{told:?}"
    );
    // As merged; then the one line that most changes are.
    fleet.git(&["merge", "--quiet", "new"]);
    let main = fleet.git(&["rev-parse", "main"]);
    fleet.0.sync().await.unwrap();
    until("the commit is adopted", async || {
        fleet.0.fleet().await.source.unwrap().adopted_revision == main
    })
    .await;
    fleet.branch("bump", &[("other/muster.yaml", &document("v2"))]);
    let told = fleet.merge_of("bump").await.unwrap();
    assert_eq!(told.problems(), [""; 0]);
    assert_eq!(
        told.changes(),
        ["other changed eu-1 eu-2: change other .data.value \"v1\" -> \"v2\""]
    );
    fleet.branch("typo", &[("other/muster.yaml", &document("v3"))]);
    let told = fleet.merge_of("typo").await.unwrap();
    assert!(told.problems()[0].contains("has no tag v3"), "{told:?}");
}

/// In the place of kustomize: takes longer than a decision of the fleet waits.
const TOOL: &str = "#!/bin/bash
if [ \"$1\" = version ]; then echo v0.0.0; exit; fi
while ((SECONDS < 4)); do :; done
printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: made}\\n'
";

#[tokio::test]
async fn a_plan_waits_for_tools_to_their_end() {
    let (data, repository) = (tempfile::tempdir().unwrap(), repository());
    let config = config_with(data.path(), repository.path(), "kustomize", TOOL);
    let fleet = Fleet::on(Bed::of(config, data, repository).await).await;
    let document = SHOP.replace("shop", "made");
    fleet.branch(
        "tool",
        &[
            ("made/muster.yaml", &document),
            ("made/kustomization.yaml", "resources: []\n"),
        ],
    );
    let told = fleet.merge_of("tool").await.unwrap();
    assert_eq!(told.problems(), [""; 0]);
    assert_eq!(told.changes(), ["made gained eu-1 eu-2: create made"]);
    let run = "rendering: 1 run of kustomize or helm";
    assert!(told.doing.iter().any(|doing| doing == run), "{told:?}");
}
