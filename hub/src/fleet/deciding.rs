//! From a commit to published desired states: decided beside the task, stamped and stored by it, then published.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_decide::desired::word_for;
use muster_decide::last_good::Changes;
use muster_decide::model::{Fleet, Origin, Repository};
use muster_decide::placement::{Capabilities, minor};
use muster_decide::render::{Cache, Wanted, charts};
use muster_decide::{
    Alike, Decision, LastGood, Location, Members, Placed, Refused, Snapshot, Sources, decide,
};
use muster_git::{Blobs, Others, Tracked};
use muster_proto::{
    ApplicationName, Approval, ClusterName, Content, Desired, DesiredApplication, Digest,
    DigestKey, Timestamp,
};
use tokio::sync::watch;

use super::Threads;
use super::member::declared_view;
use super::rendering::Arrived;
use super::serving::Served;
use super::showing::hub_problem;
use super::task::Task;
use crate::store::Commit;
use crate::view::{Problem, Waiting, What};

/// What a decision is about, and where its files are.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub(super) sources: Sources,
    pub(super) blobs: Blobs,
    pub(super) others: Arc<Others>,
}

impl Basis {
    /// One commit, whose files are all in it.
    #[cfg(test)]
    pub(super) fn of(sources: Sources) -> Self {
        Self {
            sources,
            blobs: Blobs::default(),
            others: Arc::default(),
        }
    }

    /// Where the files of an application's repository are.
    pub(super) fn blobs(&self, origin: Option<&Origin>) -> Blobs {
        match origin {
            None => self.blobs.clone(),
            Some(origin) => {
                let other = self.others.get(origin);
                other.map(|it| it.tracked.blobs.clone()).unwrap_or_default()
            }
        }
    }
}

/// Everything that deciding needs, by value.
pub(super) struct Input {
    pub(super) sources: Sources,
    pub(super) others: Arc<Others>,
    pub(super) subject: String,
    pub(super) members: Members,
    pub(super) capabilities: BTreeMap<ClusterName, Arc<Capabilities>>,
    pub(super) last_good: LastGood,
    pub(super) key: DigestKey,
    pub(super) approvals: Arc<BTreeSet<Approval>>,
    pub(super) cache: Cache,
    pub(super) alike: Alike,
    pub(super) arrived: Arrived,
}

/// A decision, made ready for the task.
pub(super) struct Decided {
    pub(super) revision: String,
    pub(super) subject: String,
    pub(super) decision: Decision,
    pub(super) changes: Changes,
    /// What each cluster should be sent, before it is stamped.
    pub(super) desired: BTreeMap<ClusterName, Arc<Desired>>,
    pub(super) applications: BTreeMap<ApplicationName, (Location, String)>,
    pub(super) contents: HashMap<Digest, Arc<DesiredApplication>>,
    /// Words that did what they were given for, or are about something that is no more.
    pub(super) spent: Vec<Approval>,
}

/// What came of it: what was lent, and a decision unless it waits for tools.
pub(super) struct Outcome {
    cache: Cache,
    alike: Alike,
    /// What it was decided from.
    sources: Sources,
    /// The repositories that the commit names.
    origins: BTreeMap<Origin, Repository>,
    /// No document can name another one.
    whole: bool,
    /// API versions that its charts ask about.
    asked: BTreeSet<String>,
    /// Runs that the commit lacks.
    lacking: Vec<Wanted>,
    /// For the next time, when something is lacking.
    placed: Option<Box<Placed>>,
    decided: Option<Result<Box<Decided>, Refused>>,
}

/// How far a commit is on its way to a decision.
pub(super) struct Step {
    pub(super) placed: Box<Placed>,
    /// The repositories that it names.
    pub(super) origins: BTreeMap<Origin, Repository>,
    /// Runs that it lacks.
    pub(super) lacking: Vec<Wanted>,
}

/// Reads a commit's documents, places them, and takes in what was rendered since. Blocks.
pub(super) fn step(input: &mut Input) -> Step {
    let placed = input.arrived.placed.take().unwrap_or_else(|| {
        let fleet = input.cache.read(&input.sources.fleet);
        let placed = Placed::new(fleet, &input.members, &input.last_good);
        Box::new(placed.knowing(&input.capabilities))
    });
    let mut origins = named(&placed.fleet);
    input.sources.others = newest(&origins, &input.others);
    // What charts name is known once they are there themselves.
    let charts = charts(&input.sources, &placed);
    if !charts.is_empty() {
        origins.extend(charts);
        input.sources.others = newest(&origins, &input.others);
    }
    for (wanted, output) in std::mem::take(&mut input.arrived.outputs) {
        input.cache.take(wanted, output, &input.key);
    }
    let lacking = input.cache.jobs(&input.sources, &placed);
    Step {
        placed,
        origins,
        lacking,
    }
}

/// Decides with what is rendered.
pub(super) fn decision(input: &mut Input, placed: &Placed) -> Result<Decision, Refused> {
    decide(
        &input.sources,
        placed,
        &input.last_good,
        &input.approvals,
        &input.key,
        &mut input.cache,
    )
}

/// Blocks: the work of a commit on a large fleet.
pub(super) fn run(mut input: Input) -> Outcome {
    let Step {
        placed,
        origins,
        lacking,
    } = step(&mut input);
    let decided = (lacking.is_empty() || input.arrived.rush).then(|| made(&mut input, &placed));
    Outcome {
        cache: input.cache,
        alike: input.alike,
        sources: input.sources,
        whole: placed.fleet.problems.is_empty() && matches!(decided, Some(Ok(_))),
        origins,
        asked: placed.asked(),
        placed: (!lacking.is_empty()).then_some(placed),
        lacking,
        decided,
    }
}

/// The repositories that applications are rendered from.
fn named(fleet: &Fleet) -> BTreeMap<Origin, Repository> {
    let origins = fleet.origins().into_iter();
    origins
        .map(|(origin, repository)| (origin, repository.clone()))
        .collect()
}

/// Their newest commits, as far as they are followed: one whose document changed is another one until it is fetched.
fn newest(
    origins: &BTreeMap<Origin, Repository>,
    others: &Others,
) -> BTreeMap<Origin, Result<Arc<Snapshot>, String>> {
    let newest = origins.iter().filter_map(|(origin, repository)| {
        let other = others.get(origin)?;
        (other.repository == *repository).then(|| (origin.clone(), other.newest()))
    });
    newest.collect()
}

/// Decides, and makes it ready for the task.
fn made(input: &mut Input, placed: &Placed) -> Result<Box<Decided>, Refused> {
    decision(input, placed).map(|decision| {
        let clusters = decision.clusters.iter();
        let clusters = clusters.map(|(name, it)| (name, &it.placements, it.removals.clone()));
        let desired = input.alike.desired(clusters, &input.approvals);
        let applications = applications(
            decision.applications.clone(),
            &decision.last_good,
            &input.sources.fleet.revision,
        );
        Box::new(Decided {
            revision: input.sources.fleet.revision.clone(),
            subject: input.subject.clone(),
            changes: decision.last_good.changes_since(&input.last_good),
            desired,
            applications,
            contents: contents(&decision.last_good),
            spent: spent(&input.approvals, &decision),
            decision,
        })
    })
}

/// Everything that any cluster runs, by digest.
pub(super) fn contents(last_good: &LastGood) -> HashMap<Digest, Arc<DesiredApplication>> {
    let renderings = last_good.renderings();
    renderings.map(|it| (it.digest(), it.clone())).collect()
}

/// For people: every application, where its document is, and the commit of its newest rendering, when `head`
/// is the newest commit of all.
pub(super) fn applications(
    locations: BTreeMap<ApplicationName, Location>,
    last_good: &LastGood,
    head: &str,
) -> BTreeMap<ApplicationName, (Location, String)> {
    let mut applications: BTreeMap<_, _> = locations
        .into_iter()
        .map(|(name, location)| (name, (location, String::new())))
        .collect();
    for application in last_good.renderings() {
        if let Content::Objects { .. } = application.content
            && let Some((_, newest)) = applications.get_mut(&application.name)
            && (newest.is_empty() || application.revision == head)
        {
            newest.clone_from(&application.revision);
        }
    }
    applications
}

/// Of the words that a decision knew, those that it leaves nothing to do for.
fn spent(approvals: &BTreeSet<Approval>, decision: &Decision) -> Vec<Approval> {
    if approvals.is_empty() {
        return Vec::new();
    }
    let renderings = decision.last_good.renderings();
    let wanted: BTreeSet<Approval> = renderings.map(|it| word_for(it)).collect();
    approvals.difference(&wanted).cloned().collect()
}

impl Task {
    pub(super) fn decide_if_due(&mut self, tracked: &watch::Receiver<Arc<Tracked>>) {
        if !(self.members_changed || self.renders.has_news()) || self.deciding.is_some() {
            return;
        }
        let tracked = tracked.borrow().clone();
        let Some((basis, mut input)) = self.input(&tracked) else {
            return;
        };
        if std::mem::take(&mut self.members_changed) {
            self.renders.forget_places();
        }
        input.arrived = self.renders.take(&basis.sources);
        input.cache = std::mem::take(&mut self.cache);
        input.alike = std::mem::take(&mut self.alike);
        let deciding = match self.threads {
            Threads::Many => tokio::task::spawn_blocking(move || run(input)),
            Threads::One => tokio::spawn(async move { run(input) }),
        };
        self.deciding = Some((basis, deciding));
    }

    /// What a decision about the newest commit is made of, but for what was rendered; `None` before there is one.
    pub(super) fn input(&self, tracked: &Tracked) -> Option<(Basis, Input)> {
        let basis = Basis {
            sources: Sources {
                fleet: tracked.snapshot.clone()?,
                ..Sources::default()
            },
            blobs: tracked.blobs.clone(),
            others: self.git.others.borrow().clone(),
        };
        let input = Input {
            others: basis.others.clone(),
            arrived: Arrived::default(),
            sources: basis.sources.clone(),
            subject: tracked.subject.clone(),
            members: self.members_in(),
            capabilities: self.capabilities(),
            last_good: self.last_good.clone(),
            key: self.store.hub().digest_key.clone(),
            approvals: self.approvals.clone(),
            cache: Cache::default(),
            alike: Alike::default(),
        };
        Some((basis, input))
    }

    /// What charts may ask of clusters, of those whose agents ever said it.
    fn capabilities(&self) -> BTreeMap<ClusterName, Arc<Capabilities>> {
        // Most clusters are alike.
        let mut alike: HashMap<(String, *const Served), Arc<Capabilities>> = HashMap::new();
        let known = self.members.iter().filter_map(|(name, member)| {
            let kubernetes = minor(&member.row.kubernetes_version)?;
            let served = &member.row.api_versions;
            let alike = alike.entry((kubernetes, Arc::as_ptr(served)));
            let capabilities = alike.or_insert_with_key(|(kubernetes, _)| {
                Arc::new(Capabilities {
                    kubernetes: kubernetes.clone(),
                    api_versions: Served::clone(served),
                })
            });
            Some((name.clone(), capabilities.clone()))
        });
        known.collect()
    }

    /// The clusters that take part in decisions, with the labels of their join tokens.
    pub(super) fn members_in(&self) -> Members {
        let members = self.members.iter().filter(|(_, member)| member.is_in());
        members
            .map(|(name, member)| (name.clone(), member.row.labels.clone()))
            .collect()
    }

    pub(super) async fn decided(
        &mut self,
        mut basis: Basis,
        outcome: Result<Outcome, tokio::task::JoinError>,
    ) {
        match outcome {
            Ok(outcome) => {
                self.cache = outcome.cache;
                self.alike = outcome.alike;
                basis.sources = outcome.sources;
                self.git.follow_others(outcome.origins, outcome.whole);
                self.ask_agents(outcome.asked);
                let (lacking, placed) = (outcome.lacking, outcome.placed);
                let is_decided = outcome.decided.is_some();
                self.renders.want(lacking, placed, &basis, is_decided);
                let Some(decided) = outcome.decided else {
                    return;
                };
                self.unwritten = None;
                match decided {
                    Ok(decided) => self.take_decision(decided).await,
                    Err(refused) => self.refuse_commit(&refused),
                }
            }
            Err(error) => {
                tracing::error!(%error, "deciding ended in a panic; what was decided before stays");
                self.cache = Cache::knowing(self.last_good.objects(), self.renders.tools());
                let now = self.now();
                let problem = hub_problem("deciding what every cluster should run failed inside the hub; what was decided before stays (its log says more)".into());
                self.board.put_problems("commit", [problem], now);
                self.view_dirty = true;
            }
        }
    }

    /// Takes a decision in: stored first, published then. When it can't be stored it is kept and tried again.
    pub(super) async fn take_decision(&mut self, decided: Box<Decided>) {
        let now = self.now();
        let complete = decided.decision.complete;
        let mut stamps = Vec::new();
        for (name, desired) in &decided.desired {
            let Some(member) = self.members.get_mut(name).filter(|member| member.is_in()) else {
                continue;
            };
            let before = member.decided.replace(desired.clone());
            let target = member.target().expect("it was just decided");
            stamps.extend(member.stamp(&target));
            // Not before it is stored: a session that begins meanwhile must not publish it.
            member.decided = before;
        }
        let revision = (decided.revision.clone(), complete);
        let news = self.decided_revision.as_ref() != Some(&revision);
        let commit = news.then(|| Commit {
            at: now,
            revision: decided.revision.clone(),
            subject: decided.subject.clone(),
            complete,
        });
        let stored = self
            .store
            .put_decided(&decided.changes, &stamps, commit.as_ref(), &decided.spent)
            .await;
        if let Err(error) = stored {
            self.store_failed(&error);
            self.unwritten = Some(decided);
            return;
        }
        self.store_works();
        if news {
            tracing::info!(
                revision = decided.revision,
                complete,
                clusters = stamps.len(),
                problems = decided.decision.problems.len(),
                waiting = decided.decision.waiting.len(),
                "decided what every cluster should run"
            );
        }
        self.decided_revision = Some(revision);
        let approvals = Arc::make_mut(&mut self.approvals);
        for approval in &decided.spent {
            approvals.remove(approval);
        }
        self.take_stamps(stamps);
        self.publish_decided(*decided, now);
    }

    fn publish_decided(&mut self, decided: Decided, now: Timestamp) {
        let Decided {
            decision,
            mut desired,
            applications,
            contents,
            ..
        } = decided;
        let mut declared = BTreeMap::new();
        for (name, cluster) in decision.clusters {
            let Some(member) = self.members.get_mut(&name) else {
                let was = self.declared.remove(&name);
                let since = was.as_ref().map_or(now, |view| view.since);
                let view = declared_view(&name, &cluster.labels, cluster.placements, since);
                if was.as_ref() != Some(&view) {
                    self.dirty.insert(name.clone());
                }
                declared.insert(name, view);
                continue;
            };
            let is_same = Arc::ptr_eq(&member.placements, &cluster.placements)
                && member.labels == cluster.labels;
            member.labels = cluster.labels;
            member.placements = cluster.placements;
            if !is_same {
                self.dirty.insert(name.clone());
            }
            if member.is_in() {
                member.decided = desired.remove(&name);
                let target = member.target().expect("it was just decided");
                if member.row.desired_digest == Some(target.digest()) {
                    member.publish(&target);
                }
            }
        }
        // What is left of before is named by no document any more.
        let gone = std::mem::replace(&mut self.declared, declared);
        self.dirty.extend(gone.into_keys());
        self.contents.replace(contents);
        self.last_good = decision.last_good;
        self.board.put_applications(applications);
        self.board.put_notes(decision.notes);
        if decision.complete {
            self.adopted_revision = decided.revision;
        }
        let problems = decision.problems.into_iter().map(|problem| Problem {
            application: problem.application,
            variants: problem.variants,
            cluster: problem.cluster,
            location: problem
                .location
                .map(|at| at.to_string())
                .unwrap_or_default(),
            message: problem.message,
            since: Timestamp(0),
        });
        self.board.put_problems("commit", problems, now);
        let waiting = decision.waiting.into_iter().map(|waiting| Waiting {
            what: What::Leaves(waiting.approval),
            clusters: waiting.clusters,
            message: waiting.message,
            since: Timestamp(0),
        });
        self.board.put_waiting(waiting, now);
        self.board.put_approved(self.approvals.clone());
        self.view_dirty = true;
    }

    /// The commit is refused whole; what was decided before stays.
    pub(super) fn refuse_commit(&mut self, refused: &Refused) {
        tracing::warn!(error = %refused, "a commit was refused");
        let problem = Problem {
            application: None,
            variants: Vec::new(),
            cluster: None,
            location: String::new(),
            message: refused.to_string(),
            since: Timestamp(0),
        };
        let now = self.now();
        self.board.put_problems("commit", [problem], now);
        let revision = refused.revision.clone();
        let waiting = Waiting {
            message: format!(
                "all {} applications would go: they stay until `muster approve --emptied {revision}`, or until Git holds an Application again",
                refused.applications.len()
            ),
            what: What::Emptied {
                revision,
                approvals: refused.approvals(),
            },
            clusters: Vec::new(),
            since: Timestamp(0),
        };
        self.board.put_waiting([waiting], now);
        self.view_dirty = true;
    }
}
