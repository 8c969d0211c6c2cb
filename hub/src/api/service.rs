//! `FleetService`: questions are answered from the newest view, commands go to the fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_decide::labels::Selector;
use muster_decide::nearest::did_you_mean;
use muster_proto::join_token::JoinToken;
use muster_proto::wire::v1::fleet_service_server::FleetService;
use muster_proto::wire::v1::{
    ApplicationDetail, ApproveRequest, ApproveResponse, ClusterDetail, CompareRequest, Comparison,
    CreateJoinTokenRequest, DriftList, Fleet, GetApplicationRequest, GetClusterRequest,
    GetFleetRequest, GetVersionRequest, JoinTokenResponse, ListDriftRequest, PauseRequest,
    PauseResponse, PlanNews, PlanRequest, RemoveClusterRequest, RemoveClusterResponse,
    RenderRequest, Rendering, ResumeRequest, ResumeResponse, SyncNowRequest, SyncNowResponse,
    Version,
};
use muster_proto::{ApplicationName, ClusterName, Generation, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::planning::Question;
use super::token::Person;
use super::{Api, answers, pauses};
use crate::fleet::{CommandFailed, Objects, STOPPING, Where};
use crate::view::{ClusterView, Connection, View};

type Answer<M> = Result<Response<M>, Status>;

/// How long a join token is good unless told.
const TOKEN_VALID: Duration = Duration::from_secs(3600);
/// Connected agents take a new desired state well within this.
const TAKES_HOLD: Duration = Duration::from_secs(5);
/// The longest a join token may be good: it is a key under the door mat.
const TOKEN_LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

#[tonic::async_trait]
impl FleetService for Api {
    type WatchFleetStream = ReceiverStream<Result<Fleet, Status>>;
    type PlanStream = ReceiverStream<Result<PlanNews, Status>>;

    async fn get_fleet(&self, request: Request<GetFleetRequest>) -> Answer<Fleet> {
        let selector = selector(&request.get_ref().cluster_selector)?;
        let view = self.view();
        Ok(Response::new(answers::fleet(&view, &selector)))
    }

    async fn watch_fleet(
        &self,
        request: Request<GetFleetRequest>,
    ) -> Answer<Self::WatchFleetStream> {
        let selector = selector(&request.get_ref().cluster_selector)?;
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(watch(self.clone(), selector, sender));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get_cluster(&self, request: Request<GetClusterRequest>) -> Answer<ClusterDetail> {
        let name = &request.get_ref().name;
        let view = self.view();
        let found = answers::cluster(&view, name).ok_or_else(|| no_cluster(&view, name))?;
        Ok(Response::new(found))
    }

    async fn get_application(
        &self,
        request: Request<GetApplicationRequest>,
    ) -> Answer<ApplicationDetail> {
        let name = &request.get_ref().name;
        let view = self.view();
        let found = answers::application(&view, name).ok_or_else(|| no_application(&view, name))?;
        Ok(Response::new(found))
    }

    async fn list_drift(&self, request: Request<ListDriftRequest>) -> Answer<DriftList> {
        let ListDriftRequest {
            cluster_selector,
            application,
            since_ms,
        } = request.get_ref();
        let selector = selector(cluster_selector)?;
        let view = self.view();
        if !application.is_empty() && view.application(application).is_none() {
            return Err(no_application(&view, application));
        }
        Ok(Response::new(answers::drift(
            &view,
            &selector,
            application,
            Timestamp(*since_ms),
        )))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Answer<JoinTokenResponse> {
        let by = person(&request);
        let CreateJoinTokenRequest {
            cluster,
            labels,
            valid_seconds,
        } = request.into_inner();
        let cluster = cluster_name(&cluster)?;
        check_labels(&labels)?;
        let valid = match u64::try_from(valid_seconds).map(Duration::from_secs) {
            Ok(Duration::ZERO) => TOKEN_VALID,
            Ok(valid) if valid <= TOKEN_LONGEST => valid,
            _ => {
                return Err(Status::invalid_argument(
                    "a join token is good for 30 days at most",
                ));
            }
        };
        let token = self
            .fleet
            .create_join_token(&by.0, cluster.clone(), labels, valid)
            .await?;
        let invitation = &*self.invitation;
        let text = JoinToken {
            cluster,
            agents_address: invitation.agents_address.clone(),
            enrolment_address: invitation.enrolment_address.clone(),
            ca_sha256: invitation.ca_sha256,
            secret: token.secret,
        };
        Ok(Response::new(JoinTokenResponse {
            token: text.to_string(),
            expires_ms: token.expires.0,
        }))
    }

    async fn remove_cluster(
        &self,
        request: Request<RemoveClusterRequest>,
    ) -> Answer<RemoveClusterResponse> {
        let by = person(&request);
        let RemoveClusterRequest {
            name,
            delete_objects,
        } = request.into_inner();
        let objects = if delete_objects {
            Objects::Delete
        } else {
            Objects::Keep
        };
        let cluster = cluster_name(&name)?;
        let removed = self.fleet.remove_cluster(&by.0, cluster, objects).await;
        let message = removed.map_err(|failed| self.about(&name, failed))?;
        Ok(Response::new(RemoveClusterResponse { message }))
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Answer<ApproveResponse> {
        let by = person(&request);
        let ids = request.into_inner().ids;
        if ids.is_empty() {
            return Err(Status::invalid_argument(
                "name what to approve by its id, as the fleet lists it under `waiting`",
            ));
        }
        let approved = self.fleet.approve(&by.0, ids).await?;
        Ok(Response::new(ApproveResponse { approved }))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<PauseResponse> {
        let by = person(&request);
        let asked = request.into_inner();
        let (application, on) =
            self.placed(&asked.application, &asked.cluster, &asked.cluster_selector)?;
        let length = pauses::length(asked.for_seconds).map_err(Status::invalid_argument)?;
        let reason = pauses::reason(&asked.reason).map_err(Status::invalid_argument)?;
        let paused = self
            .fleet
            .pause(&by.0, application, on, length, reason)
            .await?;
        let lacking = self.lacking(&paused.clusters).await;
        Ok(Response::new(PauseResponse {
            clusters: paused.clusters.keys().map(ToString::to_string).collect(),
            silent: lacking.iter().map(ToString::to_string).collect(),
            until_ms: paused.until.0,
        }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Answer<ResumeResponse> {
        let by = person(&request);
        let asked = request.into_inner();
        let (application, on) =
            self.placed(&asked.application, &asked.cluster, &asked.cluster_selector)?;
        let resumed = self.fleet.resume(&by.0, application, on).await?;
        Ok(Response::new(ResumeResponse {
            clusters: resumed.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn compare(&self, request: Request<CompareRequest>) -> Answer<Comparison> {
        let comparison = self.ask_agent(request.into_inner()).await?;
        Ok(Response::new(comparison))
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Answer<Self::PlanStream> {
        let question = Question::read(request.into_inner())?;
        let (sender, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().tell_plan(question, sender));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn render(&self, request: Request<RenderRequest>) -> Answer<Rendering> {
        let rendering = self.rendering(request.into_inner()).await?;
        Ok(Response::new(rendering))
    }

    async fn sync_now(&self, request: Request<SyncNowRequest>) -> Answer<SyncNowResponse> {
        let revision = self.fleet.sync_now(&person(&request).0).await?;
        Ok(Response::new(SyncNowResponse { revision }))
    }

    async fn get_version(&self, _: Request<GetVersionRequest>) -> Answer<Version> {
        Ok(Response::new(Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.invitation.trust_domain.clone(),
        }))
    }
}

impl Api {
    pub(super) fn view(&self) -> std::sync::Arc<View> {
        self.fleet.view().borrow().clone()
    }

    /// Where agents have not taken these generations, after giving those that are connected a moment: who pauses edits
    /// next, and must not be repaired.
    async fn lacking(&self, stamped: &BTreeMap<ClusterName, Generation>) -> Vec<ClusterName> {
        let has = |view: &View, name: &ClusterName, generation: Generation| {
            let cluster = view.cluster(name.as_str());
            cluster.is_some_and(|cluster| cluster.accepted_generation >= generation)
        };
        let gone = |view: &View, name: &ClusterName| {
            let cluster = view.cluster(name.as_str());
            cluster.is_none_or(|cluster| cluster.connection != Connection::Connected)
        };
        let mut view = self.fleet.view();
        let settled = view.wait_for(|view| {
            let mut stamped = stamped.iter();
            stamped.all(|(name, generation)| has(view, name, *generation) || gone(view, name))
        });
        // Those that took too long are named.
        let _late = tokio::time::timeout(TAKES_HOLD, settled).await;
        let view = self.view();
        let lacking = stamped
            .iter()
            .filter(|(name, generation)| !has(&view, name, **generation));
        lacking.map(|(name, _)| name.clone()).collect()
    }

    /// An application on some clusters, as a command names them; both must be known, or the nearest is named.
    fn placed(
        &self,
        application: &str,
        cluster: &str,
        cluster_selector: &str,
    ) -> Result<(ApplicationName, Where), Status> {
        let view = self.view();
        let name: Option<ApplicationName> = application.parse().ok();
        // Also one that left Git and whose objects are still there.
        let known = |name: &ApplicationName| {
            let has = |cluster: &ClusterView| {
                cluster.pause(name).is_some() || cluster.rows.applications().contains_key(name)
            };
            view.application(name.as_str()).is_some()
                || view.clusters.iter().any(|cluster| has(cluster))
        };
        let name = name.filter(known);
        let name = name.ok_or_else(|| no_application(&view, application))?;
        let cluster = match cluster {
            "" => None,
            cluster if view.cluster(cluster).is_none() => return Err(no_cluster(&view, cluster)),
            cluster => Some(cluster_name(cluster)?),
        };
        let selector = selector(cluster_selector)?;
        Ok((name, Where { cluster, selector }))
    }

    /// Of a command that named a cluster: the fleet knows whether there is one, the view what was meant.
    fn about(&self, name: &str, failed: CommandFailed) -> Status {
        match failed {
            CommandFailed::NotFound(_) => no_cluster(&self.view(), name),
            failed => failed.into(),
        }
    }
}

/// Sends the answer whenever it changed. The reader's place is taken first and the view read then, so that a slow
/// reader gets the newest and skips the rest.
async fn watch(api: Api, selector: Selector, sender: mpsc::Sender<Result<Fleet, Status>>) {
    let mut view = api.fleet.view();
    let mut sent = None;
    loop {
        let Ok(place) = sender.reserve().await else {
            return;
        };
        let newest = answers::fleet(&view.borrow_and_update().clone(), &selector);
        if sent.as_ref() != Some(&newest) {
            place.send(Ok(newest.clone()));
            sent = Some(newest);
        }
        tokio::select! {
            biased;
            () = sender.closed() => return,
            () = api.shutdown.cancelled() => {
                sender.try_send(Err(Status::unavailable(STOPPING))).ok();
                return;
            }
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Who asks: put there by the check of the token.
fn person<M>(request: &Request<M>) -> Person {
    let person = request.extensions().get::<Person>().cloned();
    person.unwrap_or_else(|| Person("unknown".into()))
}

fn selector(text: &str) -> Result<Selector, Status> {
    Selector::parse(text).map_err(|error| Status::invalid_argument(format!("selector: {error}")))
}

/// Labels that Kubernetes would not take could never be selected by.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Status> {
    let selector = serde_json::json!({ "matchLabels": labels });
    serde_json::from_value::<Selector>(selector)
        .map(drop)
        .map_err(|error| Status::invalid_argument(format!("labels: {error}")))
}

pub(super) fn cluster_name(text: &str) -> Result<ClusterName, Status> {
    text.parse()
        .map_err(|error: muster_proto::InvalidName| Status::invalid_argument(error.to_string()))
}

pub(super) fn no_cluster(view: &View, name: &str) -> Status {
    let known = view.clusters.iter().map(|cluster| cluster.name.as_str());
    Status::not_found(format!(
        "there is no cluster {name:?}{}",
        did_you_mean(name, known)
    ))
}

pub(super) fn no_application(view: &View, name: &str) -> Status {
    let known = view
        .applications
        .iter()
        .map(|application| application.name.as_str());
    Status::not_found(format!(
        "there is no application {name:?}{}",
        did_you_mean(name, known)
    ))
}

impl From<CommandFailed> for Status {
    fn from(failed: CommandFailed) -> Self {
        let message = failed.to_string();
        match failed {
            CommandFailed::NotFound(_) => Self::not_found(message),
            CommandFailed::Refused(_) => Self::failed_precondition(message),
            CommandFailed::Unavailable(_) => Self::unavailable(message),
        }
    }
}
