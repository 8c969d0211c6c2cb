//! The messages of `FleetService` as JSON over HTTP: for the web page and scripts.
//!
//! Every route makes the message that the gRPC call takes, asks the same service, and writes its answer as JSON.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use muster_proto::wire::v1::fleet_service_server::FleetService as _;
use muster_proto::wire::v1::{
    ApproveRequest, CompareRequest, CreateJoinTokenRequest, GetApplicationRequest,
    GetClusterRequest, GetFleetRequest, GetVersionRequest, ListDriftRequest, ObjectName,
    PauseRequest, PlanRequest, RemoveClusterRequest, RenderRequest, ResumeRequest, SyncNowRequest,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use super::Api;
use super::planning::Question;
use super::token::Person;

/// A refusal in JSON: `{"code": "NotFound", "error": "…"}` under the HTTP status of that code.
pub(super) struct Failure(pub(super) Status);

type Answer<M> = Result<Json<M>, Failure>;
type Body<M> = Result<Json<M>, JsonRejection>;

pub(super) fn routes(api: Api) -> Router {
    Router::new()
        .route("/api/v1/fleet", get(fleet))
        .route(
            "/api/v1/clusters/{name}",
            get(cluster).delete(remove_cluster),
        )
        .route("/api/v1/clusters/{name}/comparison", get(compare))
        .route(
            "/api/v1/clusters/{name}/renderings/{application}",
            get(render),
        )
        .route("/api/v1/approvals", post(approve))
        .route("/api/v1/plans", post(plan))
        .route("/api/v1/applications/{name}", get(application))
        .route("/api/v1/applications/{name}/pause", post(pause))
        .route("/api/v1/applications/{name}/resume", post(resume))
        .route("/api/v1/drift", get(drift))
        .route("/api/v1/join-tokens", post(create_join_token))
        .route("/api/v1/sync", post(sync_now))
        .route("/api/v1/version", get(version))
        .fallback(nowhere)
        .with_state(api)
}

async fn nowhere() -> Failure {
    Failure(Status::not_found(
        "no such page; the API is under /api/v1: fleet, clusters/NAME, clusters/NAME/comparison, clusters/NAME/renderings/APPLICATION, applications/NAME, drift, plans, join-tokens, approvals, sync, version",
    ))
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    selector: String,
    application: String,
    since_ms: i64,
}

/// An application, or an object by kind and name.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    application: String,
    kind: String,
    group: String,
    namespace: String,
    object: String,
}

/// What is not merged.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct At {
    at: String,
    as_is: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Removal {
    delete_objects: bool,
}

async fn fleet(State(api): State<Api>, which: Query<Which>) -> Answer<impl Serialize> {
    let request = GetFleetRequest {
        cluster_selector: which.0.selector,
    };
    answer(api.get_fleet(Request::new(request)).await)
}

async fn cluster(State(api): State<Api>, Path(name): Path<String>) -> Answer<impl Serialize> {
    answer(
        api.get_cluster(Request::new(GetClusterRequest { name }))
            .await,
    )
}

async fn compare(
    State(api): State<Api>,
    Path(cluster): Path<String>,
    asked: Query<Asked>,
) -> Answer<impl Serialize> {
    let Asked {
        application,
        kind,
        group,
        namespace,
        object: name,
    } = asked.0;
    let request = CompareRequest {
        cluster,
        application,
        object: Some(ObjectName {
            kind,
            group,
            namespace,
            name,
        }),
    };
    answer(api.compare(Request::new(request)).await)
}

/// A plan in one answer, as JSON and not as text that holds JSON.
#[derive(Serialize)]
struct Planned {
    of: String,
    #[serde(flatten)]
    plan: serde_json::Value,
}

async fn plan(State(api): State<Api>, request: Body<PlanRequest>) -> Answer<impl Serialize> {
    let question = Question::read(body(request)?).map_err(Failure)?;
    let (doing, _nobody) = watch::channel(String::new());
    let news = api.planned(question, doing).await.map_err(Failure)?;
    let plan = serde_json::from_str(&news.plan);
    let plan = plan.map_err(|error| Failure(Status::internal(error.to_string())))?;
    Ok(Json(Planned { of: news.of, plan }))
}

async fn render(
    State(api): State<Api>,
    Path((cluster, application)): Path<(String, String)>,
    Query(At { at, as_is }): Query<At>,
) -> Answer<impl Serialize> {
    let request = RenderRequest {
        application,
        cluster,
        at,
        as_is,
    };
    answer(api.render(Request::new(request)).await)
}

async fn application(State(api): State<Api>, Path(name): Path<String>) -> Answer<impl Serialize> {
    answer(
        api.get_application(Request::new(GetApplicationRequest { name }))
            .await,
    )
}

async fn drift(State(api): State<Api>, which: Query<Which>) -> Answer<impl Serialize> {
    let Which {
        selector,
        application,
        since_ms,
    } = which.0;
    let request = ListDriftRequest {
        cluster_selector: selector,
        application,
        since_ms,
    };
    answer(api.list_drift(Request::new(request)).await)
}

async fn create_join_token(
    State(api): State<Api>,
    person: Extension<Person>,
    request: Body<CreateJoinTokenRequest>,
) -> Answer<impl Serialize> {
    let request = body(request)?;
    answer(api.create_join_token(asked_by(person, request)).await)
}

async fn remove_cluster(
    State(api): State<Api>,
    person: Extension<Person>,
    Path(name): Path<String>,
    Query(Removal { delete_objects }): Query<Removal>,
) -> Answer<impl Serialize> {
    let request = RemoveClusterRequest {
        name,
        delete_objects,
    };
    answer(api.remove_cluster(asked_by(person, request)).await)
}

async fn approve(
    State(api): State<Api>,
    person: Extension<Person>,
    request: Body<ApproveRequest>,
) -> Answer<impl Serialize> {
    let request = body(request)?;
    answer(api.approve(asked_by(person, request)).await)
}

async fn pause(
    State(api): State<Api>,
    person: Extension<Person>,
    Path(application): Path<String>,
    request: Body<PauseRequest>,
) -> Answer<impl Serialize> {
    let request = PauseRequest {
        application,
        ..body(request)?
    };
    answer(api.pause(asked_by(person, request)).await)
}

async fn resume(
    State(api): State<Api>,
    person: Extension<Person>,
    Path(application): Path<String>,
    request: Body<ResumeRequest>,
) -> Answer<impl Serialize> {
    let request = ResumeRequest {
        application,
        ..body(request)?
    };
    answer(api.resume(asked_by(person, request)).await)
}

async fn sync_now(State(api): State<Api>, person: Extension<Person>) -> Answer<impl Serialize> {
    answer(api.sync_now(asked_by(person, SyncNowRequest {})).await)
}

async fn version(State(api): State<Api>) -> Answer<impl Serialize> {
    answer(api.get_version(Request::new(GetVersionRequest {})).await)
}

fn body<M>(request: Body<M>) -> Result<M, Failure> {
    match request {
        Ok(Json(message)) => Ok(message),
        Err(error) => Err(Failure(Status::invalid_argument(error.body_text()))),
    }
}

fn asked_by<M>(Extension(person): Extension<Person>, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(person);
    request
}

fn answer<M: Serialize>(answer: Result<tonic::Response<M>, Status>) -> Answer<M> {
    answer
        .map(|answer| Json(answer.into_inner()))
        .map_err(Failure)
}

#[derive(Serialize)]
struct Refusal<'a> {
    code: String,
    error: &'a str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let http = match self.0.code() {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::FailedPrecondition => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let refusal = Refusal {
            code: format!("{:?}", self.0.code()),
            error: self.0.message(),
        };
        (http, Json(refusal)).into_response()
    }
}
