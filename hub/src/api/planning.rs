//! `Plan` and `Render`: what a commit that is not merged would change, and what a cluster gets now.

use bytes::Bytes;
use muster_decide::{Placement, shown};
use muster_proto::wire::v1;
use muster_proto::{ApplicationName, Content};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::Api;
use super::service::{cluster_name, no_application, no_cluster};
use crate::fleet::{NotPlanned, Only, STOPPING};
use crate::plans::Failed;
use muster_git::proposed::{Edit, NotProposed, Proposal, What, WorkingTree};

/// Of a plan as JSON: more than any person reads.
const LARGEST: usize = 64 << 20;

/// A plan as it is asked for.
pub(super) struct Question {
    proposal: Proposal,
    only: Only,
    /// Whether API servers are asked.
    tried: bool,
}

impl Question {
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(request: v1::PlanRequest) -> Result<Self, Status> {
        let what = match request.working_tree {
            None => What::parse(&request.what).map_err(not_proposed)?,
            Some(tree) if request.what.is_empty() => What::WorkingTree(working_tree(tree)?),
            Some(_) => {
                return Err(Status::invalid_argument(
                    "name what to plan, or send a working tree, not both",
                ));
            }
        };
        let tried = match request.dry_run.as_str() {
            "" => false,
            "server" => true,
            other => {
                return Err(Status::invalid_argument(format!(
                    "there is no dry run {other:?}: say \"server\""
                )));
            }
        };
        let cluster = Some(request.cluster.as_str()).filter(|name| !name.is_empty());
        let application = Some(request.application.as_str()).filter(|name| !name.is_empty());
        Ok(Self {
            proposal: Proposal {
                what,
                as_is: request.as_is,
            },
            only: Only {
                cluster: cluster.map(cluster_name).transpose()?,
                application: application.map(application_name).transpose()?,
            },
            tried,
        })
    }
}

impl Api {
    /// The plan. `doing` hears what is being done.
    pub(super) async fn planned(
        &self,
        question: Question,
        doing: watch::Sender<String>,
    ) -> Result<v1::PlanNews, Status> {
        let say = move |what: String| {
            doing.send_replace(what);
        };
        let Question {
            proposal,
            only,
            tried,
        } = question;
        let planned = self.plans.plan(proposal, &only, tried, say).await?;
        let plan = serde_json::to_string(&planned.plan);
        let plan = plan.map_err(|error| Status::internal(error.to_string()))?;
        if plan.len() > LARGEST {
            return Err(Status::failed_precondition(format!(
                "the plan has more than {} MiB: ask for one --cluster or one --app",
                LARGEST >> 20
            )));
        }
        Ok(v1::PlanNews {
            doing: String::new(),
            of: planned.of,
            plan,
        })
    }

    /// Sends what is being done, the newest only, and the plan at last. Ends when nobody listens.
    pub(super) async fn tell_plan(
        self,
        question: Question,
        sender: mpsc::Sender<Result<v1::PlanNews, Status>>,
    ) {
        let (doing, mut news) = watch::channel(String::new());
        let mut planned = std::pin::pin!(self.planned(question, doing));
        loop {
            tokio::select! {
                biased;
                planned = &mut planned => {
                    sender.send(planned).await.ok();
                    return;
                }
                () = sender.closed() => return,
                () = self.shutdown.cancelled() => {
                    sender.try_send(Err(Status::unavailable(STOPPING))).ok();
                    return;
                }
                Ok(()) = news.changed() => {
                    let doing = news.borrow_and_update().clone();
                    let news = v1::PlanNews { doing, ..v1::PlanNews::default() };
                    // A slow reader hears the next.
                    sender.try_send(Ok(news)).ok();
                }
            }
        }
    }

    /// What a cluster gets of an application now, or would get.
    pub(super) async fn rendering(
        &self,
        request: v1::RenderRequest,
    ) -> Result<v1::Rendering, Status> {
        if !request.at.is_empty() {
            return self.rendering_at(request).await;
        }
        let view = self.view();
        let v1::RenderRequest {
            application,
            cluster,
            ..
        } = request;
        if view.cluster(&cluster).is_none() {
            return Err(no_cluster(&view, &cluster));
        }
        let name =
            application_name(&application).map_err(|_| no_application(&view, &application))?;
        let last_good = self.fleet.last_good().await;
        let last_good = last_good.ok_or_else(|| Status::unavailable(STOPPING))?;
        let placements = last_good.clusters().get(&cluster_name(&cluster)?);
        let Some(placement) = placements.and_then(|placements| placements.of(&name)) else {
            return Err(match view.application(&application) {
                None => no_application(&view, &application),
                Some(_) => Status::failed_precondition(format!(
                    "application {application} does not run on {cluster}: `muster get app {application}` says where it does"
                )),
            });
        };
        Ok(told(placement, application, cluster))
    }

    /// What a cluster would get of an application after a merge.
    async fn rendering_at(&self, request: v1::RenderRequest) -> Result<v1::Rendering, Status> {
        let proposal = Proposal {
            what: What::parse(&request.at).map_err(not_proposed)?,
            as_is: request.as_is,
        };
        let cluster = cluster_name(&request.cluster)?;
        let application = application_name(&request.application)?;
        let (of, decided) = self.plans.decide(proposal).await?;
        let placement = decided.placement(&cluster, &application);
        let placement = placement.map_err(Failed::from)?;
        let rendering = told(placement, request.application, request.cluster);
        Ok(v1::Rendering { of, ..rendering })
    }
}

/// What a cluster gets of an application, without what Secrets hold.
fn told(placement: &Placement, application: String, cluster: String) -> v1::Rendering {
    let mut rendering = v1::Rendering {
        target: placement.target.to_string(),
        revision: placement.application.revision.clone(),
        application,
        cluster,
        ..v1::Rendering::default()
    };
    match &placement.application.content {
        Content::Keep(why) => rendering.kept.clone_from(why),
        Content::Objects { settings, objects } => {
            let told = objects.iter();
            let told = told.map(|object| shown(object, &settings.namespace).to_string());
            rendering.objects = told.collect();
        }
    }
    rendering
}

fn application_name(text: &str) -> Result<ApplicationName, Status> {
    text.parse()
        .map_err(|error: muster_proto::InvalidName| Status::invalid_argument(error.to_string()))
}

fn working_tree(tree: v1::WorkingTree) -> Result<WorkingTree, Status> {
    let unclear = |what: String| Status::invalid_argument(format!("the working tree: {what}"));
    let What::Commit(base) = What::parse(&tree.base).map_err(not_proposed)? else {
        return Err(unclear(format!(
            "its base {:?} is no whole commit id",
            tree.base
        )));
    };
    let edits = tree.files.into_iter().map(|file| {
        let content: Bytes = file.content;
        let edit = match file.kind.as_str() {
            "deleted" => Edit::Deleted,
            "file" => Edit::File(content),
            "executable" => Edit::Executable(content),
            "link" => Edit::Link(content),
            other => {
                return Err(unclear(format!(
                    "{} is of no known kind: {other:?}",
                    file.path
                )));
            }
        };
        Ok((file.path, edit))
    });
    Ok(WorkingTree {
        base,
        edits: edits.collect::<Result<_, _>>()?,
    })
}

fn not_proposed(not: NotProposed) -> Status {
    match not {
        NotProposed::Unclear(message) => Status::invalid_argument(message),
        NotProposed::Absent(message) => Status::not_found(message),
        NotProposed::Refused(message) => Status::failed_precondition(message),
        NotProposed::Failed(message) => Status::unavailable(message),
    }
}

impl From<Failed> for Status {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Proposal(not) => not_proposed(not),
            Failed::Planning(NotPlanned::NotFound(message)) => Self::not_found(message),
            Failed::Planning(NotPlanned::Refused(message)) => Self::failed_precondition(message),
            Failed::Planning(NotPlanned::Failed(message)) => Self::internal(message),
            Failed::Unavailable(message) => Self::unavailable(message),
        }
    }
}
