//! `FleetService`: questions are answered from the newest view, commands go to the fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_decide::labels::Selector;
use muster_decide::nearest::did_you_mean;
use muster_proto::ClusterName;
use muster_proto::join_token::JoinToken;
use muster_proto::wire::v1::fleet_service_server::FleetService;
use muster_proto::wire::v1::{
    ApplicationDetail, ApproveRequest, ApproveResponse, ClusterDetail, CreateJoinTokenRequest,
    DriftList, Fleet, GetApplicationRequest, GetClusterRequest, GetFleetRequest, GetVersionRequest,
    JoinTokenResponse, ListDriftRequest, RemoveClusterRequest, RemoveClusterResponse,
    SyncNowRequest, SyncNowResponse, Version,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::token::Person;
use super::{Api, answers};
use crate::fleet::{CommandFailed, Objects};
use crate::view::View;

type Answer<M> = Result<Response<M>, Status>;

/// How long a join token is good unless told.
const TOKEN_VALID: Duration = Duration::from_secs(3600);
/// The longest a join token may be good: it is a key under the door mat.
const TOKEN_LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

#[tonic::async_trait]
impl FleetService for Api {
    type WatchFleetStream = ReceiverStream<Result<Fleet, Status>>;

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
        } = request.get_ref();
        let selector = selector(cluster_selector)?;
        let view = self.view();
        if !application.is_empty() && view.application(application).is_none() {
            return Err(no_application(&view, application));
        }
        Ok(Response::new(answers::drift(&view, &selector, application)))
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
    fn view(&self) -> std::sync::Arc<View> {
        self.fleet.view().borrow().clone()
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
            changed = view.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = api.shutdown.cancelled() => {
                sender.try_send(Err(Status::unavailable("the hub is stopping"))).ok();
                return;
            }
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

fn cluster_name(text: &str) -> Result<ClusterName, Status> {
    text.parse()
        .map_err(|error: muster_proto::InvalidName| Status::invalid_argument(error.to_string()))
}

fn no_cluster(view: &View, name: &str) -> Status {
    let known = view.clusters.iter().map(|cluster| cluster.name.as_str());
    Status::not_found(format!(
        "there is no cluster {name:?}{}",
        did_you_mean(name, known)
    ))
}

fn no_application(view: &View, name: &str) -> Status {
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
