//! Builds the next [`View`] from the last one and what changed. In: facts about single clusters, the decision, the
//! source. Out: a view that shares everything that did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_decide::Location;
use muster_proto::{
    ApplicationName, ApplicationStatus, Approval, ClusterName, HealthStatus, SyncStatus, Timestamp,
};

use super::tally::{Tallies, standing};
use super::waiting::AtClusters;
use super::{
    ApplicationView, ClusterView, Connection, Problem, RepositoryView, Source, View, Waiting,
};

/// What is known of every part, ready to be published.
#[derive(Debug, Default)]
pub(crate) struct Board {
    clusters: BTreeMap<ClusterName, Arc<ClusterView>>,
    tallies: Tallies,
    /// Declared applications: where, and the commit of their newest rendering.
    applications: BTreeMap<ApplicationName, (Location, String)>,
    /// What people should know of applications, and need not mend.
    notes: BTreeMap<ApplicationName, String>,
    /// Problems that stand, with since when.
    problems: BTreeMap<String, BTreeMap<Problem, Timestamp>>,
    /// What waits for a person's word in the newest commit, with since when.
    waiting: BTreeMap<Waiting, Timestamp>,
    at_clusters: AtClusters,
    source: Source,
    repositories: Vec<RepositoryView>,
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
        self.at_clusters
            .replace(was.map(AsRef::as_ref), is.as_deref());
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

    /// Sets what people should know of applications.
    pub(crate) fn put_notes(&mut self, notes: BTreeMap<ApplicationName, String>) {
        self.notes = notes;
    }

    /// Sets the source.
    pub(crate) fn put_source(&mut self, source: Source) {
        self.source = source;
    }

    /// Sets the other repositories.
    pub(crate) fn put_repositories(&mut self, repositories: Vec<RepositoryView>) {
        self.repositories = repositories;
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

    /// Sets what waits in the newest commit; `since` is filled in here. What waited before keeps it.
    pub(crate) fn put_waiting(
        &mut self,
        waiting: impl IntoIterator<Item = Waiting>,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut self.waiting);
        let waiting = waiting.into_iter().map(|waiting| {
            let since = before.get(&waiting).copied().unwrap_or(now);
            (waiting, since)
        });
        self.waiting = waiting.collect();
    }

    /// Sets which words were given: what they are for waits no more.
    pub(crate) fn put_approved(&mut self, approved: Arc<BTreeSet<Approval>>) {
        self.at_clusters.approved = approved;
    }

    /// Everything that waits for a person's word.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let commit = self.waiting.iter().map(|(waiting, since)| Waiting {
            since: *since,
            ..waiting.clone()
        });
        commit.chain(self.at_clusters.waiting()).collect()
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
        let waiting = self.waiting();
        let waits: BTreeMap<&ApplicationName, &str> = waiting
            .iter()
            .filter_map(|waiting| Some((waiting.what.application()?, waiting.message.as_str())))
            .collect();
        let applications = self.applications.iter();
        let applications = applications.map(|(name, (location, revision))| {
            let own = problems.iter().find(|problem| {
                problem.application.as_ref() == Some(name) && problem.cluster.is_none()
            });
            let own = own.map(|problem| problem.message.as_str());
            let own = own.or(waits.get(name).copied());
            let is = self.application(name, location, revision, own);
            match before.application(name.as_str()) {
                Some(was) if **was == is => was.clone(),
                _ => Arc::new(is),
            }
        });
        View {
            source: self.source.clone(),
            repositories: self.repositories.clone(),
            clusters: self.clusters.values().cloned().collect(),
            applications: applications.collect(),
            problems,
            waiting,
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
            note: self.notes.get(name).cloned().unwrap_or_default(),
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
        if let Some(row) = status.status {
            worst = worst.max(said(row, standing.sync, standing.health));
        }
    }
    // What runs here no more is told of until the last of it is gone.
    let leaving = cluster.rows.applications().values();
    for row in leaving.filter(|row| cluster.placement(row.application.as_str()).is_none()) {
        let leaves = row.sync.max(SyncStatus::Progressing);
        sync = sync.max(leaves);
        worst = worst.max(said(row, leaves, row.health));
    }
    if cluster.accepted_generation != cluster.generation {
        sync = sync.max(SyncStatus::Progressing);
    }
    if silent {
        (sync, health) = (SyncStatus::Unknown, HealthStatus::Unknown);
    }
    if cluster.message.is_empty() && !silent {
        cluster.message = worst
            .map(|(.., application, message)| format!("{application}: {message}"))
            .unwrap_or_default();
    }
    (cluster.sync, cluster.health) = (sync, health);
    (cluster.synced, cluster.healthy) = (synced, healthy);
}

/// A row's message with its badness, by which the worst is found.
fn said(
    row: &ApplicationStatus,
    sync: SyncStatus,
    health: HealthStatus,
) -> Option<(SyncStatus, HealthStatus, &ApplicationName, &str)> {
    (!row.message.is_empty()).then_some((sync, health, &row.application, row.message.as_str()))
}

#[cfg(test)]
mod tests {
    use muster_decide::Placement;
    use muster_proto::{DesiredApplication, Digest, Rows, Settings};

    use super::*;

    /// A cluster whose placements and rows follow from a number.
    fn cluster(name: usize, seed: u64) -> ClusterView {
        let digit = |place: u32| seed / 7u64.pow(place) % 7;
        let application = |at: u32| format!("app-{at}").parse::<ApplicationName>().unwrap();
        let placed = (0..3).filter(|at| digit(*at) != 0);
        let wanted = |at| {
            let settings = Settings::default();
            DesiredApplication::new(application(at), "r".into(), settings, Vec::new())
        };
        let placements = placed.clone().map(|at| Placement {
            target: "".into(),
            application: Arc::new(wanted(at)),
        });
        let rows = placed
            .filter(|at| digit(*at) != 1)
            .map(|at| ApplicationStatus {
                application: application(at),
                digest: match digit(at) {
                    2 => Digest::of(["old"]),
                    _ => wanted(at).digest(),
                },
                revision: "r".into(),
                sync: [SyncStatus::Synced, SyncStatus::Failed][usize::from(digit(at) == 3)],
                health: [HealthStatus::Current, HealthStatus::Failed][usize::from(digit(at) == 4)],
                message: ["", "it broke"][usize::from(digit(at) == 3)].into(),
                objects: 1,
                synced: 1,
                healthy: 1,
                waiting: 0,
                unapproved: 0,
                since: Timestamp(1),
            });
        ClusterView {
            name: format!("c{name}").parse().unwrap(),
            labels: BTreeMap::new(),
            uid: String::new(),
            connection: match seed % 3 {
                0 => Connection::Unknown,
                _ => Connection::Connected,
            },
            since: Timestamp(1),
            last_seen: Timestamp(1),
            agent_version: String::new(),
            kubernetes_version: String::new(),
            generation: 1,
            accepted_generation: 1,
            sync: SyncStatus::Unknown,
            health: HealthStatus::Unknown,
            synced: 0,
            healthy: 0,
            message: String::new(),
            removals_held: String::new(),
            store_was_older: false,
            certificate_expires: Timestamp(0),
            placements: Arc::new(placements.collect()),
            rows: Arc::new(Rows::new(1, rows, [])),
            pauses: Vec::new(),
            reported_at: Timestamp(1),
        }
    }

    fn board() -> Board {
        let mut board = Board::default();
        let location = Location::new("apps/muster.yaml", 1);
        let names = (0..3).map(|at| format!("app-{at}").parse().unwrap());
        board.put_applications(
            names
                .map(|name| (name, (location.clone(), String::new())))
                .collect(),
        );
        board
    }

    #[test]
    fn counting_change_by_change_gives_what_counting_anew_gives() {
        let mut changed = board();
        let mut now: BTreeMap<ClusterName, ClusterView> = BTreeMap::new();
        for step in 0..500usize {
            let bytes = Digest::of([step.to_string()]).as_bytes()[..8]
                .try_into()
                .unwrap();
            let seed = u64::from_le_bytes(bytes);
            let is = cluster(step % 5, seed);
            let name = is.name.clone();
            if seed.is_multiple_of(11) {
                changed.put_cluster(&name, None);
                now.remove(&name);
            } else {
                changed.put_cluster(&name, Some(is.clone()));
                now.insert(name, is);
            }
            let mut anew = board();
            for (name, is) in &now {
                anew.put_cluster(name, Some(is.clone()));
            }
            let empty = View::default();
            assert_eq!(changed.view(&empty), anew.view(&empty), "step {step}");
        }
    }

    #[test]
    fn a_problem_that_stands_keeps_its_time_and_one_that_is_gone_goes() {
        let problem = |message: &str| Problem {
            application: None,
            variants: Vec::new(),
            cluster: None,
            location: String::new(),
            message: message.into(),
            since: Timestamp(0),
        };
        let mut board = board();
        board.put_problems("commit", [problem("a"), problem("b")], Timestamp(5));
        board.put_problems("commit", [problem("b"), problem("c")], Timestamp(9));
        let view = board.view(&View::default());
        let shown: Vec<_> = view
            .problems
            .iter()
            .map(|problem| (problem.message.as_str(), problem.since.0))
            .collect();
        assert_eq!(shown, [("b", 5), ("c", 9)]);
    }

    #[test]
    fn a_cluster_is_not_well_before_it_took_the_newest_state_and_lost_what_left() {
        let mut board = board();
        // Digit 5 is all well, for both applications; connected (seed % 3 is 1).
        let seed = 5 + 5 * 7;
        assert_eq!(seed % 3, 1);
        let is = cluster(0, seed);
        let name = is.name.clone();
        let sync = |board: &mut Board, is: &ClusterView| {
            board.put_cluster(&name, Some(is.clone()));
            board.view(&View::default()).cluster("c0").unwrap().sync
        };
        assert_eq!(sync(&mut board, &is), SyncStatus::Synced);

        let mut told = is.clone();
        told.generation += 1;
        assert_eq!(sync(&mut board, &told), SyncStatus::Progressing);

        // app-0 is placed here no more, and the agent still tells of it.
        let mut leaving = is.clone();
        leaving.placements = Arc::new(leaving.placements[1..].iter().cloned().collect());
        assert_eq!(sync(&mut board, &leaving), SyncStatus::Progressing);
    }

    #[test]
    fn a_row_about_older_content_is_on_its_way_and_a_silent_cluster_is_unknown() {
        let mut board = board();
        // Digits 2 (old content) for app-0 and 5 (all well) for app-1, connected (seed % 3 is 1).
        let seed = 2 + 5 * 7;
        assert_eq!(seed % 3, 1);
        let is = cluster(0, seed);
        let name = is.name.clone();
        board.put_cluster(&name, Some(is.clone()));
        let view = board.view(&View::default());
        let stands = |view: &View, name: &str| {
            let application = view.application(name).unwrap();
            (application.sync, application.synced, application.unknown)
        };
        assert_eq!(stands(&view, "app-0"), (SyncStatus::Progressing, 0, 0));
        assert_eq!(stands(&view, "app-1"), (SyncStatus::Synced, 1, 0));
        let silent = ClusterView {
            connection: Connection::Unknown,
            ..is
        };
        board.put_cluster(&name, Some(silent));
        let view = board.view(&view);
        assert_eq!(stands(&view, "app-1"), (SyncStatus::Unknown, 0, 1));
        assert_eq!(view.cluster("c0").unwrap().sync, SyncStatus::Unknown);
    }
}
