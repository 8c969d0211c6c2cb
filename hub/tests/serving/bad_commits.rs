//! What a broken commit does to a running fleet: one clear error that names the line, the rest goes on, nothing is lost.

use std::path::Path;

use muster_hub::Hub;

use crate::bed::{Bed, commit, config, git, until};

fn write(repository: &Path, path: &str, text: &str) {
    let file = repository.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

fn application(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {name}\nspec:\n  namespace: shop\n{rest}"
    )
}

fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  k: {value}\n")
}

/// A hub with two applications on one cluster, adopted.
async fn two_applications() -> (Bed, String) {
    let bed = Bed::start().await;
    let place = bed.repository.path();
    for name in ["web", "database"] {
        write(
            place,
            &format!("{name}/muster.yaml"),
            &application(name, ""),
        );
        write(place, &format!("{name}/x.yaml"), &config_map(name, "one"));
    }
    bed.joined("eu-1").await;
    let revision = commit(place, "good");
    bed.sync().await.unwrap();
    until("the commit is adopted", async || {
        bed.fleet().await.source.unwrap().adopted_revision == revision
    })
    .await;
    (bed, revision)
}

/// Which commit each application on the cluster comes from, as it should be there.
async fn runs(bed: &Bed) -> Vec<(String, String)> {
    let placements = bed.cluster("eu-1").await.placements.into_iter();
    placements
        .map(|placement| (placement.application, placement.desired_revision))
        .collect()
}

#[tokio::test]
async fn a_broken_commit_is_one_error_at_its_line_and_the_other_application_moves_also_after_a_restart()
 {
    for (path, text, at, says) in [
        (
            "web/x.yaml",
            "apiVersion: v1\nkind: [".to_owned(),
            "web/x.yaml:2",
            "not YAML",
        ),
        (
            "web/muster.yaml",
            application("web", "  selfheal: false\n"),
            "web/muster.yaml:7",
            "unknown field \"selfheal\"",
        ),
        (
            "web/taken.yaml",
            config_map("database", "mine"),
            "web/taken.yaml:1",
            "ConfigMap shop/database belongs to application database (database/x.yaml:1)",
        ),
        (
            "web/muster.yaml",
            application("web", "  dependsOn: [databse]\n"),
            "web/muster.yaml:7",
            "there is no application \"databse\"; did you mean \"database\"?",
        ),
        (
            "web/muster.yaml",
            application("web", "  dependsOn: [web]\n"),
            "web/muster.yaml:7",
            "goes round in a circle: web -> web",
        ),
    ] {
        let (bed, good) = two_applications().await;
        write(bed.repository.path(), path, &text);
        write(
            bed.repository.path(),
            "database/more.yaml",
            &config_map("more", "two"),
        );
        let broken = commit(bed.repository.path(), "broken");
        bed.sync().await.unwrap();
        let wrong = async |bed: &Bed| {
            until("the error is shown", async || {
                !bed.fleet().await.problems.is_empty()
            })
            .await;
            let fleet = bed.fleet().await;
            let [problem] = &fleet.problems[..] else {
                panic!("{says}: {:#?}", fleet.problems)
            };
            assert_eq!(problem.location, at, "{says}");
            assert!(problem.message.contains(says), "{}", problem.message);
            assert_eq!(problem.application, "web");
            assert_eq!(fleet.source.unwrap().adopted_revision, good);
            let (web, database) = (
                ("web".into(), good.clone()),
                ("database".into(), broken.clone()),
            );
            assert_eq!(runs(bed).await, [database, web], "{says}");
            let held = bed.cluster("eu-1").await.summary.unwrap().removals_held;
            assert!(!held.is_empty(), "{says}");
        };
        wrong(&bed).await;
        let Bed {
            data,
            repository,
            hub,
            ahead,
        } = bed;
        hub.stop().await.unwrap();
        let hub = Hub::start(config(data.path(), repository.path(), &[]).unwrap());
        let bed = Bed {
            hub: hub.await.unwrap(),
            data,
            repository,
            ahead,
        };
        wrong(&bed).await;

        // Taken back, all is well again.
        git(bed.repository.path(), &["revert", "--no-edit", "HEAD"]);
        let reverted = git(bed.repository.path(), &["rev-parse", "HEAD"]);
        bed.sync().await.unwrap();
        until("the revert is adopted", async || {
            let fleet = bed.fleet().await;
            fleet.problems.is_empty() && fleet.source.unwrap().adopted_revision == reverted
        })
        .await;
        bed.hub.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_emptied_repository_waits_for_a_word_that_people_give_over_json() {
    let (bed, good) = two_applications().await;
    git(bed.repository.path(), &["rm", "-rq", "web", "database"]);
    let emptied = commit(bed.repository.path(), "emptied");
    bed.sync().await.unwrap();
    until("it waits", async || !bed.fleet().await.waiting.is_empty()).await;
    let shown = bed.fleet().await;
    let [waiting] = &shown.waiting[..] else {
        panic!("{:#?}", shown.waiting)
    };
    assert_eq!(
        (waiting.what.as_str(), &waiting.revision),
        ("emptied", &emptied)
    );
    let command = format!("muster approve --emptied {emptied}");
    assert!(waiting.message.contains(&command), "{}", waiting.message);
    assert!(shown.problems[0].message.contains(&command));
    assert_eq!(runs(&bed).await.len(), 2);
    assert_eq!(shown.source.unwrap().adopted_revision, good);

    let approve = async |ids: serde_json::Value| {
        let request = crate::api::browser(&bed).post(crate::api::url(&bed, "/api/v1/approvals"));
        let request = request.bearer_auth(bed.token());
        let request = request.header("content-type", "application/json");
        let body = serde_json::json!({ "ids": ids }).to_string();
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(approve(serde_json::json!([])).await.0, 400);
    assert_eq!(approve(serde_json::json!(["emptied/other"])).await.0, 404);
    let (status, said) = approve(serde_json::json!([waiting.id])).await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("every application may go"), "{said}");
    until("it is adopted", async || {
        let fleet = bed.fleet().await;
        fleet.waiting.is_empty() && fleet.source.unwrap().adopted_revision == emptied
    })
    .await;
    assert_eq!(runs(&bed).await, []);
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn an_error_of_one_variant_names_it() {
    let (bed, _) = two_applications().await;
    let targets = "  targets: [{name: dev, path: dev}]\n";
    write(
        bed.repository.path(),
        "web/muster.yaml",
        &application("web", targets),
    );
    commit(bed.repository.path(), "broken");
    bed.sync().await.unwrap();
    until("the error is shown", async || {
        !bed.fleet().await.problems.is_empty()
    })
    .await;
    let [problem] = &bed.fleet().await.problems[..] else {
        panic!("one problem");
    };
    assert_eq!(problem.application, "web");
    assert_eq!(problem.variants, ["dev"], "{problem:?}");
    assert_eq!(problem.location, "web/muster.yaml:7", "{problem:?}");
}
