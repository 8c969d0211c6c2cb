//! Builds the next [`View`] from the last one and what changed. In: facts about single clusters, the decision, the
//! source. Out: a view that shares everything that did not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_decide::Location;
use muster_proto::{ApplicationName, ClusterName, HealthStatus, SyncStatus, Timestamp};

use super::tally::{Tallies, standing};
use super::{ApplicationView, ClusterView, Connection, Problem, Source, View};

/// What is known of every part, ready to be published.
#[derive(Debug, Default)]
pub(crate) struct Board {
    clusters: BTreeMap<ClusterName, Arc<ClusterView>>,
    tallies: Tallies,
    /// Declared applications: where, and the commit of their newest rendering.
    applications: BTreeMap<ApplicationName, (Location, String)>,
    /// Problems that stand, with since when.
    problems: BTreeMap<String, BTreeMap<Problem, Timestamp>>,
    source: Source,
}

impl Board {
    /// Puts a cluster in, or takes it out. Its sync, health and counts are filled in here.
    pub(crate) fn put_cluster(&mut self, name: &ClusterName, is: Option<ClusterView>) {
        let is = is.map(|mut cluster| {
            roll_up(&mut cluster);
            Arc::new(cluster)
        });
        let was = self.clusters.get(name);
        self.tallies.replace(was.map(AsRef::as_ref), is.as_deref());
        match is {
            Some(cluster) => self.clusters.insert(name.clone(), cluster),
            None => self.clusters.remove(name),
        };
    }

    /// The clusters that are in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ClusterName> {
        self.clusters.keys()
    }

    /// Sets which applications are declared.
    pub(crate) fn put_applications(
        &mut self,
        applications: BTreeMap<ApplicationName, (Location, String)>,
    ) {
        self.applications = applications;
    }

    /// Sets the source.
    pub(crate) fn put_source(&mut self, source: Source) {
        self.source = source;
    }

    /// The source as it was set.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Sets the problems of one origin (git, decide, a cluster ...). One that stood before keeps its `since`.
    pub(crate) fn put_problems(
        &mut self,
        origin: &str,
        problems: impl IntoIterator<Item = Problem>,
        now: Timestamp,
    ) {
        let before = self.problems.remove(origin).unwrap_or_default();
        let problems = problems.into_iter().map(|problem| {
            let timeless = Problem {
                since: Timestamp(0),
                ..problem
            };
            let since = match problem.since {
                Timestamp(0) => before.get(&timeless).copied().unwrap_or(now),
                known => known,
            };
            (timeless, since)
        });
        let problems: BTreeMap<_, _> = problems.collect();
        if !problems.is_empty() {
            self.problems.insert(origin.to_owned(), problems);
        }
    }

    /// Whether an origin has problems.
    pub(crate) fn has_problems(&self, origin: &str) -> bool {
        self.problems.contains_key(origin)
    }

    /// The view of now.
    pub(crate) fn view(&self, before: &View) -> View {
        let problems: Vec<Problem> = self
            .problems
            .values()
            .flatten()
            .map(|(problem, since)| Problem {
                since: *since,
                ..problem.clone()
            })
            .collect();
        let applications = self.applications.iter();
        let applications = applications.map(|(name, (location, revision))| {
            let own = problems.iter().find(|problem| {
                problem.application.as_ref() == Some(name) && problem.cluster.is_none()
            });
            let own = own.map(|problem| problem.message.as_str());
            let is = self.application(name, location, revision, own);
            match before.application(name.as_str()) {
                Some(was) if **was == is => was.clone(),
                _ => Arc::new(is),
            }
        });
        View {
            source: self.source.clone(),
            clusters: self.clusters.values().cloned().collect(),
            applications: applications.collect(),
            problems,
        }
    }

    fn application(
        &self,
        name: &ApplicationName,
        location: &Location,
        revision: &str,
        own: Option<&str>,
    ) -> ApplicationView {
        let tally = self.tallies.0.get(name);
        let message = || {
            let cluster = tally?.speaker()?;
            let row = self.clusters.get(cluster)?.rows.applications().get(name)?;
            Some(format!("{cluster}: {}", row.message))
        };
        ApplicationView {
            name: name.clone(),
            location: location.to_string(),
            revision: revision.to_owned(),
            clusters: tally.map_or(0, |tally| tally.clusters),
            synced: tally.map_or(0, |tally| tally.synced),
            healthy: tally.map_or(0, |tally| tally.healthy),
            unknown: tally.map_or(0, |tally| tally.unknown),
            sync: tally.map_or(SyncStatus::Synced, super::tally::Tally::sync),
            health: tally.map_or(HealthStatus::Current, super::tally::Tally::health),
            message: own.map_or_else(|| message().unwrap_or_default(), str::to_owned),
        }
    }
}

fn roll_up(cluster: &mut ClusterView) {
    let silent = cluster.connection != Connection::Connected;
    let (mut sync, mut health, mut synced, mut healthy) =
        (SyncStatus::Synced, HealthStatus::Current, 0, 0);
    let mut worst = None;
    for status in cluster.placements() {
        let standing = standing(&status);
        sync = sync.max(standing.sync);
        health = health.max(standing.health);
        synced += u32::from(standing.synced);
        healthy += u32::from(standing.healthy);
        let says = status
            .status
            .filter(|row| !silent && !row.message.is_empty());
        if let Some(row) = says {
            let badness = (standing.sync, standing.health);
            if worst.as_ref().is_none_or(|(known, _)| *known < badness) {
                worst = Some((badness, format!("{}: {}", row.application, row.message)));
            }
        }
    }
    if silent {
        (sync, health) = (SyncStatus::Unknown, HealthStatus::Unknown);
    }
    if cluster.message.is_empty() {
        cluster.message = worst.map(|(_, message)| message).unwrap_or_default();
    }
    (cluster.sync, cluster.health) = (sync, health);
    (cluster.synced, cluster.healthy) = (synced, healthy);
}
