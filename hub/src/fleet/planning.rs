//! What a commit would be decided to mean that nobody has merged: in the same way as the fleet's own, and kept nowhere.
//!
//! In: a [`Standing`], which is a copy of all that a decision is made of, and a [`Proposed`] snapshot. Out: what would be
//! [`Decided`], and the [`Plan`] of it.
//! Nothing goes back to the fleet task. Tools run to their end, in places of their own, so that the fleet's never wait
//! for these; what was rendered before comes from the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use muster_decide::model::{Origin, Repository};
use muster_decide::nearest::did_you_mean;
use muster_decide::plan::{Plan, Unheard};
use muster_decide::render::{Cache, Output, Wanted};
use muster_decide::{Decision, LastGood, Placed, Placement, Snapshot};
use muster_proto::{ApplicationName, ClusterName};
use tokio::task::JoinSet;

use super::deciding::{self, Basis, Input, Step};
use super::rendering::{Arrived, snapshot_of};
use super::task::Task;
use muster_git::Others;
use muster_git::proposed::Proposed;
use muster_render::Renderer;

/// What a tool made may name others that it takes, and those again; more often means that the hub is wrong.
const MOST_ROUNDS: usize = 10;

/// What documents name beside the fleet repository.
pub(crate) type Origins = BTreeMap<Origin, Repository>;

/// All that a decision is made of, as it was at one moment.
pub(crate) struct Standing {
    basis: Basis,
    input: Input,
}

/// What a plan is narrowed to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Only {
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) application: Option<ApplicationName>,
}

/// Why there is no plan. Each is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPlanned {
    /// It is narrowed to something that is not there.
    #[error("{0}")]
    NotFound(String),
    /// The hub would refuse the commit whole.
    #[error("{0}")]
    Refused(String),
    /// The hub can't do it.
    #[error("{0}")]
    Failed(String),
}

impl Task {
    pub(super) fn standing(&self) -> Option<Standing> {
        let tracked = self.git.tracked.borrow().clone();
        let (basis, input) = self.input(&tracked)?;
        Some(Standing { basis, input })
    }
}

impl Standing {
    /// The commit that the fleet follows.
    pub(crate) fn followed(&self) -> &Arc<Snapshot> {
        &self.basis.sources.fleet
    }

    /// What would be decided of this snapshot. `fetch` brings what only it names, as far as that can be had.
    /// Cancel-safe: to drop the future ends what runs. `say` hears what is being done.
    pub(crate) async fn decide(
        self,
        proposed: &Proposed,
        renderer: &Renderer,
        fetch: &(dyn Fn(Origins) -> BoxFuture<'static, Others> + Sync),
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Decided, NotPlanned> {
        let Self {
            mut basis,
            mut input,
        } = self;
        input.sources.fleet = proposed.snapshot.clone();
        basis.blobs = proposed.blobs.clone();
        say("deciding what every cluster would run".to_owned());
        let tools = renderer.tools();
        let mut fresh = true;
        let mut asked = BTreeSet::new();
        for _ in 0..MOST_ROUNDS {
            let tools = fresh.then(|| tools.clone());
            fresh = false;
            let before = std::mem::take(&mut asked);
            let worked = tokio::task::spawn_blocking(move || {
                if let Some(tools) = tools {
                    input.cache = Cache::knowing(input.last_good.objects(), tools);
                }
                let step = deciding::step(&mut input);
                let unseen = unseen(&step.origins, &input.others, &before);
                let is_ready = step.lacking.is_empty() && unseen.is_empty();
                let decided = is_ready.then(|| decided(&mut input, &step.placed));
                (input, step, unseen, before, decided)
            });
            let (worked, step, unseen, before, decided) = worked.await.map_err(|error| {
                NotPlanned::Failed(format!("planning ended inside the hub: {error}"))
            })?;
            (input, asked) = (worked, before);
            if let Some(decided) = decided {
                return decided;
            }
            if !unseen.is_empty() {
                asked.extend(unseen.keys().cloned());
                let mut others = (*input.others).clone();
                others.extend(fetch(unseen).await);
                input.others = Arc::new(others);
                basis.others = input.others.clone();
                continue;
            }
            basis.sources = input.sources.clone();
            let Step {
                placed, lacking, ..
            } = step;
            say(match lacking.len() {
                1 => "rendering: 1 run of kustomize or helm".to_owned(),
                runs => format!("rendering: {runs} runs of kustomize and helm"),
            });
            input.arrived = Arrived {
                outputs: rendered(lacking, &basis, renderer).await,
                rush: false,
                placed: Some(placed),
            };
        }
        Err(NotPlanned::Failed(
            "rendering comes to no end: each run takes another".to_owned(),
        ))
    }
}

/// What the fleet does not follow and was not asked for yet.
fn unseen(origins: &Origins, others: &Others, asked: &BTreeSet<Origin>) -> Origins {
    let unseen = origins.iter().filter(|(origin, repository)| {
        let other = others.get(*origin);
        !asked.contains(*origin) && other.is_none_or(|other| other.repository != **repository)
    });
    unseen
        .map(|(origin, repository)| (origin.clone(), repository.clone()))
        .collect()
}

/// Runs what is lacking, all of it to its end.
async fn rendered(
    lacking: Vec<Wanted>,
    basis: &Basis,
    renderer: &Renderer,
) -> Vec<(Wanted, Output)> {
    let mut runs = JoinSet::new();
    for wanted in lacking {
        let Some(snapshot) = snapshot_of(&basis.sources, &wanted) else {
            continue;
        };
        let (renderer, blobs) = (renderer.clone(), basis.blobs(wanted.origin.as_ref()));
        runs.spawn(async move {
            let output = renderer.run_aside(&wanted.job, &snapshot, &blobs).await;
            (wanted, output)
        });
    }
    let mut outputs = Vec::new();
    while let Some(ended) = runs.join_next().await {
        // One that panicked is lacking again in the next round.
        outputs.extend(ended);
    }
    outputs
}

fn decided(input: &mut Input, placed: &Placed) -> Result<Decided, NotPlanned> {
    let after = deciding::decision(input, placed).map_err(|refused| {
        NotPlanned::Refused(format!(
            "it holds no Application at all, where there are {}: the hub would refuse it whole, and change nothing until somebody approves that all of them go",
            refused.applications.len()
        ))
    })?;
    Ok(Decided {
        before: input.last_good.clone(),
        after,
        unheard: placed.unheard(&input.sources),
    })
}

/// What clusters run, and what they would run.
pub(crate) struct Decided {
    pub(crate) before: LastGood,
    pub(crate) after: Decision,
    unheard: Vec<Unheard>,
}

impl Decided {
    /// What would change. Blocks.
    ///
    /// # Errors
    /// When it is narrowed to something that is not there.
    pub(crate) fn plan(&self, only: &Only) -> Result<Plan, NotPlanned> {
        if let Some(name) = &only.cluster {
            self.knows_cluster(name)?;
        }
        if let Some(name) = &only.application {
            self.knows_application(name)?;
        }
        let mut plan = Plan::new(&self.before, &self.after);
        plan.unheard.clone_from(&self.unheard);
        plan.narrow(only.cluster.as_ref(), only.application.as_ref());
        Ok(plan)
    }

    /// What a cluster would get of an application.
    ///
    /// # Errors
    /// When that is nothing, or nobody knows what.
    pub(crate) fn placement(
        &self,
        cluster: &ClusterName,
        application: &ApplicationName,
    ) -> Result<&Placement, NotPlanned> {
        self.knows_cluster(cluster)?;
        self.knows_application(application)?;
        let placed = &self.after.clusters[cluster].placements;
        let placement = placed.of(application);
        // What is broken stays as it is now, which is not what was asked for.
        let wrong = self.after.problems.iter().find(|problem| {
            let of_variant = |placement: &Placement| {
                problem.variants.is_empty() || problem.variants.contains(&placement.target)
            };
            problem.application.as_ref() == Some(application)
                && problem.cluster.as_ref().is_none_or(|it| it == cluster)
                && placement.is_none_or(of_variant)
        });
        if let Some(problem) = wrong {
            return Err(NotPlanned::Refused(problem.to_string()));
        }
        let mut unheard = self.unheard.iter();
        let is = |it: &&Unheard| it.application == *application && it.clusters.contains(cluster);
        if let Some(unheard) = unheard.find(is) {
            return Err(NotPlanned::Refused(format!(
                "charts of application {application} ask whether {} is served, which {cluster} did not say yet: its agent is asked once it is merged",
                unheard.api_versions.join(", ")
            )));
        }
        placement.ok_or_else(|| {
            NotPlanned::Refused(format!(
                "application {application} would not run on {cluster}"
            ))
        })
    }

    fn knows_cluster(&self, name: &ClusterName) -> Result<(), NotPlanned> {
        if self.after.clusters.contains_key(name) {
            return Ok(());
        }
        let known = self.after.clusters.keys().map(ClusterName::as_str);
        let meant = did_you_mean(name.as_str(), known);
        Err(NotPlanned::NotFound(format!(
            "there is no cluster {name:?}{meant}"
        )))
    }

    fn knows_application(&self, name: &ApplicationName) -> Result<(), NotPlanned> {
        let (had, has) = (self.before.applications(), &self.after.applications);
        if had.contains_key(name) || has.contains_key(name) {
            return Ok(());
        }
        let known = had.keys().chain(has.keys());
        let meant = did_you_mean(name.as_str(), known.map(ApplicationName::as_str));
        Err(NotPlanned::NotFound(format!(
            "there is no application {name:?}, neither before nor after{meant}"
        )))
    }
}
