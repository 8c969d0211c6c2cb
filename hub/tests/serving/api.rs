//! What people and scripts ask, over gRPC and as JSON.

use muster_proto::wire::v1;
use reqwest::StatusCode;
use tonic::{Code, Request};

use crate::bed::{Bed, DEADLINE, commit, until, with_token};

pub(crate) fn browser(bed: &Bed) -> reqwest::Client {
    let pem = std::fs::read(&bed.hub.ca_pem_file).unwrap();
    let ca = reqwest::Certificate::from_pem(&pem).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .unwrap()
}

pub(crate) fn url(bed: &Bed, path: &str) -> String {
    format!("https://{}{path}", bed.hub.api_addr)
}

async fn get(bed: &Bed, path: &str) -> (StatusCode, serde_json::Value) {
    let answer = browser(bed)
        .get(url(bed, path))
        .bearer_auth(bed.token())
        .send()
        .await
        .unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_call_without_a_token_or_with_a_wrong_one_is_refused_and_told_what_to_do() {
    let bed = Bed::start().await;
    let mut api = bed.api().await;
    let calls = [
        Request::new(v1::GetFleetRequest::default()),
        with_token(v1::GetFleetRequest::default(), "wrong"),
    ];
    for call in calls {
        let status = api.get_fleet(call).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(
            status.message().contains("admin-token"),
            "{}",
            status.message()
        );
    }
    api.get_fleet(bed.ask(v1::GetFleetRequest::default()))
        .await
        .unwrap();
    for path in ["/api/v1/fleet", "/api/v1/nowhere"] {
        let answer = browser(&bed)
            .get(url(&bed, path))
            .bearer_auth("wrong")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.text().await.unwrap().contains("admin-token"));
    }
    let told = browser(&bed)
        .post(url(&bed, "/api/v1/join-tokens"))
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(told.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(get(&bed, "/api/v1/fleet").await.0, StatusCode::OK);
}

#[tokio::test]
async fn liveness_needs_no_token() {
    let bed = Bed::start().await;
    for path in ["/healthz", "/readyz"] {
        let answer = browser(&bed).get(url(&bed, path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn json_and_grpc_tell_the_same() {
    let bed = Bed::start().await;
    bed.joined("eu-1").await;
    bed.sync().await.unwrap();
    until("both agree", async || {
        let (_, json) = get(&bed, "/api/v1/fleet").await;
        let grpc = bed.fleet().await;
        grpc.clusters.len() == 1 && serde_json::to_value(grpc).unwrap() == json
    })
    .await;
    let (_, cluster) = get(&bed, "/api/v1/clusters/eu-1").await;
    assert_eq!(cluster["summary"]["name"], "eu-1");
    assert_eq!(
        get(&bed, "/api/v1/drift").await.1["rows"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn what_is_not_there_names_the_nearest_that_is() {
    let bed = Bed::start().await;
    bed.joined("eu-1").await;
    let request = v1::GetClusterRequest {
        name: "eu-l".into(),
    };
    let status = bed
        .api()
        .await
        .get_cluster(bed.ask(request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(
        status.message(),
        "there is no cluster \"eu-l\"; did you mean \"eu-1\"?"
    );
    let (status, told) = get(&bed, "/api/v1/applications/shop").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(told["error"], "there is no application \"shop\"");
}

#[tokio::test]
async fn broken_questions_say_what_is_wrong_with_them() {
    let bed = Bed::start().await;
    let (status, told) = get(&bed, "/api/v1/fleet?selector=stage+in+production").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        told["error"].as_str().unwrap().starts_with("selector: "),
        "{told}"
    );
    let bodies = [
        r#"{"cluster": "EU"}"#,
        r#"{"cluster": "eu", "labels": {"a b": "c"}}"#,
        r#"{"cluster": "eu", "validSeconds": -1}"#,
        "{",
    ];
    for body in bodies {
        let post = browser(&bed)
            .post(url(&bed, "/api/v1/join-tokens"))
            .bearer_auth(bed.token());
        let answer = post
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn a_join_token_made_over_json_says_where_the_hub_is_and_carries_labels() {
    let bed = Bed::start_with(&["--advertise-agents", "hub.example:443"]).await;
    let post = browser(&bed)
        .post(url(&bed, "/api/v1/join-tokens"))
        .bearer_auth(bed.token());
    let body = r#"{"cluster": "eu-1", "labels": {"stage": "production"}}"#;
    let answer = post
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let token: muster_proto::join_token::JoinToken =
        answer["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(token.agents_address, "hub.example:443");
    assert_eq!(token.enrolment_address, bed.hub.enrolment_addr.to_string());
    crate::bed::enrol(&token).await.unwrap();
    until("its labels", async || {
        get(&bed, "/api/v1/fleet?selector=stage%3Dproduction")
            .await
            .1["clusters"][0]["name"]
            == "eu-1"
    })
    .await;
    assert_eq!(
        get(&bed, "/api/v1/fleet?selector=stage%3Dtest").await.1["clusters"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_watcher_hears_of_a_change() {
    let bed = Bed::start().await;
    let mut stream = bed
        .api()
        .await
        .watch_fleet(bed.ask(v1::GetFleetRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.clusters, []);
    bed.joined("eu-1").await;
    let changed = async { while stream.message().await.unwrap().unwrap().clusters.is_empty() {} };
    tokio::time::timeout(DEADLINE, changed).await.unwrap();
}

async fn revision(bed: &Bed) -> String {
    bed.fleet().await.source.unwrap().revision
}

#[tokio::test]
async fn sync_now_answers_with_the_newest_commit() {
    let bed = Bed::start().await;
    let newest = commit(bed.repository.path(), "second");
    assert_eq!(bed.sync().await.unwrap(), newest);
}

#[tokio::test]
async fn a_webhook_makes_the_hub_look_at_once() {
    let bed = Bed::start().await;
    until("the first commit", async || {
        !revision(&bed).await.is_empty()
    })
    .await;
    for text in ["second", "third"] {
        let newest = commit(bed.repository.path(), text);
        let answer = browser(&bed)
            .post(url(&bed, "/webhook"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        until("the new commit", async || revision(&bed).await == newest).await;
    }
}

#[tokio::test]
async fn a_webhook_must_be_signed_where_there_is_a_secret() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter2\n").unwrap();
    let bed = Bed::start_with(&["--webhook-secret-file", secret.path().to_str().unwrap()]).await;
    until("the first commit", async || {
        !revision(&bed).await.is_empty()
    })
    .await;
    let newest = commit(bed.repository.path(), "second");
    let post = |signature: String| {
        browser(&bed)
            .post(url(&bed, "/webhook"))
            .header("x-hub-signature-256", signature)
            .body("pushed")
            .send()
    };
    assert_eq!(
        post("sha256=00".into()).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hunter2");
    let tag = ring::hmac::sign(&key, b"pushed");
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        post(format!("sha256={hex}")).await.unwrap().status(),
        StatusCode::ACCEPTED
    );
    until("the new commit", async || revision(&bed).await == newest).await;
}
