//! Plans, from the question to the answer: what is not merged is fetched and merged beside the fleet's own mirror, then
//! decided on a copy of the fleet's state, and put to API servers where that is asked for ([`trying`]).
//!
//! In: a [`Proposal`]. Out: a [`Plan`], within bounded time, size and number at once. Nothing is kept but the mirror,
//! which is a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use muster_decide::plan::Plan;
use tokio::sync::Semaphore;

use crate::config::PlanLimits;
use crate::fleet::{Decided, Fleet, NotPlanned, Only, Origins, STOPPING, Standing};
use muster_git::Others;
use muster_git::proposed::{NotProposed, Proposal, Proposals, Proposed};
use muster_render::Renderer;

mod trying;

/// How often it is looked whether a fetch brings too much.
const LOOK: Duration = Duration::from_millis(200);

/// The handle. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Plans(Arc<Shared>);

struct Shared {
    limits: PlanLimits,
    proposals: Arc<Proposals>,
    fleet: Fleet,
    renderer: Renderer,
    places: Semaphore,
    queue: Semaphore,
    /// The mirror is one place.
    fetching: Arc<Semaphore>,
}

/// Why there is no plan. Each is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// As it can't be had.
    #[error(transparent)]
    Proposal(#[from] NotProposed),
    /// As it can't be decided.
    #[error(transparent)]
    Planning(#[from] NotPlanned),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

/// What a plan is of, for people, and the plan.
pub(crate) struct Planned {
    pub(crate) of: String,
    pub(crate) plan: Plan,
}

impl Plans {
    pub(crate) fn new(
        limits: PlanLimits,
        proposals: Proposals,
        fleet: Fleet,
        renderer: Renderer,
    ) -> Self {
        Self(Arc::new(Shared {
            limits,
            proposals: Arc::new(proposals),
            fleet,
            renderer,
            places: Semaphore::new(limits.at_once),
            queue: Semaphore::new(limits.at_once + limits.waiting),
            fetching: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Plans a proposal, and puts the plan to API servers when it is to be `tried`. Cancel-safe: to drop the future ends
    /// what runs. `say` hears what is being done.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn plan(
        &self,
        proposal: Proposal,
        only: &Only,
        tried: bool,
        say: impl Fn(String) + Clone + Send + Sync + 'static,
    ) -> Result<Planned, Failed> {
        let planned = async {
            let what = proposal.what.to_string();
            let (of, decided) = self.decided(proposal, &say).await?;
            let decided = Arc::new(decided);
            let plan = tokio::task::spawn_blocking({
                let (decided, only) = (decided.clone(), only.clone());
                move || decided.plan(&only)
            });
            let ended =
                |error| NotPlanned::Failed(format!("planning ended inside the hub: {error}"));
            let mut plan = plan.await.map_err(ended)??;
            if tried {
                say("asking clusters for dry runs".to_owned());
                trying::try_out(&self.0.fleet, &mut plan, &decided).await;
            }
            tracing::info!(
                what,
                diffs = plan.diffs.len(),
                problems = plan.problems.len(),
                tried,
                "planned what is not merged"
            );
            Ok(Planned { of, plan })
        };
        self.in_turn(&say, planned).await
    }

    /// What would be decided of a proposal, which is said for people. Cancel-safe: to drop the future ends what runs.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn decide(&self, proposal: Proposal) -> Result<(String, Decided), Failed> {
        let nobody_listens = |_: String| ();
        let decided = self.decided(proposal, &nobody_listens);
        self.in_turn(&nobody_listens, decided).await
    }

    /// Does the work when there is a place for it, as long as it may take.
    async fn in_turn<T>(
        &self,
        say: &impl Fn(String),
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let shared = &self.0;
        let _queued = shared.queue.try_acquire().map_err(|_| {
            Failed::Unavailable(format!(
                "{} plans are asked for already: try again in a moment",
                shared.limits.at_once + shared.limits.waiting
            ))
        })?;
        if shared.places.available_permits() == 0 {
            say("waiting for other plans".to_owned());
        }
        let stopping = |_| Failed::Unavailable(STOPPING.to_owned());
        let _place = shared.places.acquire().await.map_err(stopping)?;
        let most = shared.limits.whole;
        let done = tokio::time::timeout(most, work).await;
        done.unwrap_or_else(|_| {
            Err(Failed::Unavailable(format!(
                "the plan has taken more than {} s and was given up",
                most.as_secs()
            )))
        })
    }

    /// What is proposed, for people, and what would be decided of it.
    async fn decided(
        &self,
        proposal: Proposal,
        say: &(impl Fn(String) + Clone + Send + Sync + 'static),
    ) -> Result<(String, Decided), Failed> {
        let shared = &self.0;
        let standing = shared.fleet.standing().await.ok_or_else(|| {
            Failed::Unavailable("the hub has not fetched the fleet repository yet".to_owned())
        })?;
        let proposed = self.brought(proposal, &standing, say.clone()).await?;
        let fetch = {
            let (shared, say) = (shared.clone(), say.clone());
            move |origins| others(shared.clone(), origins, say.clone()).boxed()
        };
        let decided = standing.decide(&proposed, &shared.renderer, &fetch, say);
        let decided = decided.await?;
        Ok((proposed.of, decided))
    }

    /// Brings it here, as long and as much as may be.
    async fn brought(
        &self,
        proposal: Proposal,
        standing: &Standing,
        say: impl Fn(String) + Send + 'static,
    ) -> Result<Proposed, Failed> {
        let Shared {
            limits,
            proposals,
            fetching,
            ..
        } = &*self.0;
        let (most, disk) = (limits.fetch, limits.disk);
        if fetching.available_permits() == 0 {
            say("waiting for another plan to be fetched".to_owned());
        }
        let turn = fetching.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Failed::Unavailable(STOPPING.to_owned()))?;
        let stop = StopOnDrop(Arc::default());
        // Only this one can be reading from the mirror.
        let is_alone = self.0.places.available_permits() == limits.at_once - 1;
        let mut bring = tokio::task::spawn_blocking({
            let (proposals, stop) = (proposals.clone(), stop.0.clone());
            let followed = standing.followed().clone();
            move || {
                let _turn = turn;
                if is_alone {
                    proposals.tidy(disk);
                }
                proposals.bring(&proposal, &followed, &stop, &say)
            }
        });
        let deadline = tokio::time::Instant::now() + most;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                brought = &mut bring => {
                    let ended = |error| Failed::Unavailable(format!("the fetch ended inside the hub: {error}"));
                    let brought = brought.map_err(ended)??;
                    // It may have come between two looks.
                    return match is_too_large(proposals, disk).await {
                        true => Err(too_large()),
                        false => Ok(brought),
                    };
                }
                () = tokio::time::sleep_until(deadline) => {
                    let seconds = most.as_secs();
                    return Err(Failed::Unavailable(format!("the fetch has taken more than {seconds} s and was ended")));
                }
                _ = look.tick() => {
                    if is_too_large(proposals, disk).await {
                        return Err(too_large());
                    }
                }
            }
        }
    }
}

async fn is_too_large(proposals: &Arc<Proposals>, most: u64) -> bool {
    let proposals = proposals.clone();
    let looked = tokio::task::spawn_blocking(move || proposals.is_too_large(most));
    looked.await.unwrap_or(false)
}

fn too_large() -> Failed {
    NotProposed::Refused("it brings more than the hub takes for a plan".to_owned()).into()
}

/// Brings what only a proposal names, as long as there is time and room.
async fn others(
    shared: Arc<Shared>,
    origins: Origins,
    say: impl Fn(String) + Send + 'static,
) -> Others {
    let Ok(turn) = shared.fetching.clone().acquire_owned().await else {
        return Others::new();
    };
    let stop = StopOnDrop(Arc::default());
    let PlanLimits {
        fetch: most, disk, ..
    } = shared.limits;
    let fetch = tokio::task::spawn_blocking({
        let (proposals, stop) = (shared.proposals.clone(), stop.0.clone());
        move || {
            let _turn = turn;
            let mut others = Others::new();
            for (origin, repository) in origins {
                if stop.load(Ordering::Relaxed) || proposals.is_too_large(disk) {
                    break;
                }
                say(format!(
                    "fetching {}, which only it names",
                    origin.repository
                ));
                let other = proposals.other(&origin, &repository, &stop);
                others.insert(origin, other);
            }
            others
        }
    });
    // What did not come is not fetched yet, and the plan says so.
    let fetched = tokio::time::timeout(most, fetch).await;
    fetched.ok().and_then(Result::ok).unwrap_or_default()
}

/// A transfer looks at the flag between packets.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
