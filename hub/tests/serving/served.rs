//! What charts may ask of their clusters: agents are asked, answer, and are believed while they are away.

use muster_proto::wire::v1;
use muster_proto::wire::v1::agent_message::Message as ToHub;
use muster_proto::wire::v1::hub_message::Message as FromHub;
use tempfile::TempDir;

use crate::bed::{Agent, Bed, commit, config_with, repository, until};

/// In the place of helm: one object, which says what its cluster serves and the chart's values.
const SCRIPT: &str = "#!/bin/bash
if [ \"$1\" = version ]; then echo v0.0.0; exit; fi
serves=nothing
while [ $# -gt 0 ]; do [ \"$1\" = --api-versions ] && serves=$2; shift; done
printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: shop}\\ndata: {serves: \"%s\", values: \"%s\"}\\n' \"$serves\" \"$(<shop/values.yaml)\"
";

async fn bed(data: TempDir, repository: TempDir) -> Bed {
    let config = config_with(data.path(), repository.path(), "helm", SCRIPT);
    Bed::of(config, data, repository).await
}

/// A commit of a chart that asks about these.
async fn asks(bed: &Bed, api_versions: &str) {
    let folder = bed.repository.path().join("shop");
    std::fs::create_dir_all(&folder).unwrap();
    let document = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: shop}}\nspec: {{namespace: shop, helm: {{apiVersions: [{api_versions}]}}}}\n"
    );
    std::fs::write(folder.join("muster.yaml"), document).unwrap();
    std::fs::write(folder.join("Chart.yaml"), "name: shop\n").unwrap();
    std::fs::write(folder.join("values.yaml"), "few").unwrap();
    commit(bed.repository.path(), &format!("asks {api_versions}"));
    bed.sync().await.unwrap();
}

/// Waits for the next question, before any state that holds something.
async fn is_asked(agent: &mut Agent) -> Vec<String> {
    let mut generation = 0;
    loop {
        match agent.hear().await.unwrap() {
            FromHub::ApiVersionsAsked(asked) => return asked.api_versions,
            FromHub::Begin(begin) => generation = begin.generation,
            FromHub::Done(done) => accepts(agent, generation, done).await,
            _ => {}
        }
    }
}

async fn accepts(agent: &mut Agent, generation: u64, done: v1::Done) {
    let accepted = v1::Accepted {
        generation,
        desired_digest: done.digest,
        refused: String::new(),
    };
    agent.say(ToHub::Accepted(accepted)).await;
}

async fn says(agent: &mut Agent, served: &[&str], missing: &[&str]) {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let said = v1::ApiVersions {
        served: texts(served),
        missing: texts(missing),
    };
    agent.say(ToHub::ApiVersions(said)).await;
}

/// Takes desired states until one has the object; what it says.
async fn gets(agent: &mut Agent) -> String {
    let (mut generation, mut said) = (0, None);
    loop {
        match agent.hear().await.unwrap() {
            FromHub::Begin(begin) => generation = begin.generation,
            FromHub::Objects(objects) => {
                let body: serde_json::Value =
                    serde_json::from_slice(&objects.objects[0].body).unwrap();
                said = Some(body["data"]["serves"].as_str().unwrap().to_owned());
            }
            FromHub::Done(done) => {
                accepts(agent, generation, done).await;
                if let Some(said) = said {
                    return said;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_chart_is_rendered_by_what_agents_say_and_not_before_they_have_said_it() {
    let bed = bed(tempfile::tempdir().unwrap(), repository()).await;
    let (one, two) = (bed.joined("eu-1").await, bed.joined("eu-2").await);
    let mut one = bed.session(&one).await;
    asks(&bed, "example.com/v1, v1").await;
    assert_eq!(is_asked(&mut one).await, ["example.com/v1", "v1"]);
    // Another one is told when it comes.
    let mut two = bed.session(&two).await;
    assert_eq!(is_asked(&mut two).await, ["example.com/v1", "v1"]);

    // Half an answer is none; what nobody asked about is not heard.
    says(&mut one, &["v1", "other.com/v1"], &[]).await;
    says(&mut two, &["v1"], &["example.com/v1"]).await;
    assert_eq!(gets(&mut two).await, "v1");
    // eu-1 waits for its agent's whole answer.
    until("it is placed on eu-2", async || {
        let applications = bed.fleet().await.applications;
        applications.iter().map(|it| it.clusters).eq([1])
    })
    .await;
    assert_eq!(bed.cluster("eu-2").await.placements.len(), 1);
    // What it does not speak of stays as it said before.
    says(&mut one, &["example.com/v1"], &[]).await;
    assert_eq!(gets(&mut one).await, "example.com/v1,v1");

    // A definition goes.
    says(&mut one, &[], &["example.com/v1"]).await;
    assert_eq!(gets(&mut one).await, "v1");
    // A commit asks about something else.
    asks(&bed, "other.com/v1").await;
    assert_eq!(is_asked(&mut one).await, ["other.com/v1"]);
    says(&mut one, &["other.com/v1"], &[]).await;
    assert_eq!(gets(&mut one).await, "other.com/v1");
}

#[tokio::test]
async fn a_restarted_hub_believes_what_agents_said_before_and_asks_again() {
    let before = bed(tempfile::tempdir().unwrap(), repository()).await;
    let member = before.joined("eu-1").await;
    let mut agent = before.session(&member).await;
    asks(&before, "example.com/v1").await;
    is_asked(&mut agent).await;
    says(&mut agent, &["example.com/v1"], &[]).await;
    assert_eq!(gets(&mut agent).await, "example.com/v1");
    let summary = async |bed: &Bed| bed.cluster("eu-1").await.summary.unwrap();
    until("it is accepted", async || {
        let cluster = summary(&before).await;
        cluster.applications == 1 && cluster.accepted_generation == cluster.generation
    })
    .await;
    let generation = summary(&before).await.generation;
    drop(agent);
    before.hub.stop().await.unwrap();

    let after = bed(before.data, before.repository).await;
    assert_eq!(summary(&after).await.generation, generation);
    // The next commit is decided although the agent is away.
    std::fs::write(after.repository.path().join("shop/values.yaml"), "more").unwrap();
    commit(after.repository.path(), "more values");
    after.sync().await.unwrap();
    until("the next commit is rendered for it", async || {
        summary(&after).await.generation == generation + 1
    })
    .await;
    let mut agent = after.session(&member).await;
    assert_eq!(is_asked(&mut agent).await, ["example.com/v1"]);
}

#[tokio::test]
async fn a_plan_says_where_nobody_was_asked_yet_and_an_agent_too_old_for_the_question_is_a_problem()
{
    let bed = bed(tempfile::tempdir().unwrap(), repository()).await;
    let (old, new) = (bed.joined("eu-1").await, bed.joined("eu-2").await);
    let mut agent = bed.dial(Some(new.credentials())).await.unwrap();
    let hello = v1::Hello {
        serves: true,
        ..new.hello()
    };
    agent.say(ToHub::Hello(hello)).await;
    let _old = bed.session(&old).await;
    // A commit before anything is asked; the next one is planned from it as it is.
    asks(&bed, "").await;
    until("both are placed", async || {
        let applications = bed.fleet().await.applications;
        applications.iter().map(|it| it.clusters).eq([2])
    })
    .await;
    let document = bed.repository.path().join("shop/muster.yaml");
    let text = std::fs::read_to_string(&document).unwrap();
    let asking = text.replace("apiVersions: []", "apiVersions: [example.com/v1]");
    let request = v1::PlanRequest {
        working_tree: Some(v1::WorkingTree {
            base: bed.fleet().await.source.unwrap().revision,
            files: vec![v1::WorkingFile {
                path: "shop/muster.yaml".into(),
                kind: "file".into(),
                content: asking.into(),
            }],
        }),
        ..v1::PlanRequest::default()
    };
    let mut answers = bed
        .api()
        .await
        .plan(bed.ask(request))
        .await
        .unwrap()
        .into_inner();
    let plan = loop {
        let news = answers
            .message()
            .await
            .unwrap()
            .expect("the plan comes last");
        if news.doing.is_empty() {
            break serde_json::from_str::<serde_json::Value>(&news.plan).unwrap();
        }
    };
    assert_eq!(plan["diffs"], serde_json::json!([]), "{plan}");
    assert_eq!(
        plan["unheard"],
        serde_json::json!([{"application": "shop", "variant": "default", "apiVersions": ["example.com/v1"], "clusters": ["eu-1", "eu-2"]}])
    );

    // Merged, they are asked; the old agent will not say.
    asks(&bed, "example.com/v1").await;
    until("the old agent is told of", async || {
        let problems = bed.fleet().await.problems;
        problems.iter().any(|it| {
            it.cluster == "eu-1"
                && it
                    .message
                    .contains("too old to say whether the cluster serves example.com/v1")
        })
    })
    .await;
    let problems = bed.fleet().await.problems;
    assert!(
        problems.iter().all(|it| it.cluster != "eu-2"),
        "{problems:?}"
    );
}
