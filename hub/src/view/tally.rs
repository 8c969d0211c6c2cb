//! Applications rolled up over all clusters, kept up to date cluster by cluster: a report costs what it changes, not
//! the size of the fleet. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{ApplicationName, ClusterName, HealthStatus, SyncStatus};

use super::{ClusterView, Connection, PlacementStatus};

/// What one placement counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) sync: SyncStatus,
    pub(super) health: HealthStatus,
    /// Current and synced.
    pub(super) synced: bool,
    /// Current and healthy.
    pub(super) healthy: bool,
    /// Nobody knows.
    pub(super) unknown: bool,
}

/// A silent cluster counts as unknown, and a row about older content is on its way at best.
pub(super) fn standing(status: &PlacementStatus<'_>) -> Standing {
    let row = status
        .status
        .filter(|_| status.cluster.connection == Connection::Connected);
    let Some(row) = row else {
        return Standing {
            sync: SyncStatus::Unknown,
            health: HealthStatus::Unknown,
            synced: false,
            healthy: false,
            unknown: true,
        };
    };
    let sync = match status.current {
        true => row.sync,
        false => row.sync.max(SyncStatus::Progressing),
    };
    Standing {
        sync,
        health: row.health,
        synced: status.current && row.sync == SyncStatus::Synced,
        healthy: status.current && row.health == HealthStatus::Current,
        unknown: false,
    }
}

/// One application's placements, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) clusters: u32,
    pub(super) synced: u32,
    pub(super) healthy: u32,
    pub(super) unknown: u32,
    sync: BTreeMap<SyncStatus, u32>,
    health: BTreeMap<HealthStatus, u32>,
    /// Placements that say something, the worst first.
    speaking: BTreeSet<(Reverse<SyncStatus>, Reverse<HealthStatus>, ClusterName)>,
}

impl Tally {
    pub(super) fn sync(&self) -> SyncStatus {
        let worst = self.sync.last_key_value();
        worst.map_or(SyncStatus::Synced, |(status, _)| *status)
    }

    pub(super) fn health(&self) -> HealthStatus {
        let worst = self.health.last_key_value();
        worst.map_or(HealthStatus::Current, |(status, _)| *status)
    }

    /// The cluster whose message should be shown.
    pub(super) fn speaker(&self) -> Option<&ClusterName> {
        self.speaking.first().map(|(_, _, cluster)| cluster)
    }
}

/// All applications.
#[derive(Debug, Default)]
pub(super) struct Tallies(pub(super) BTreeMap<ApplicationName, Tally>);

impl Tallies {
    /// Counts a cluster as it is now instead of as it was.
    pub(super) fn replace(&mut self, was: Option<&ClusterView>, is: Option<&ClusterView>) {
        for status in was.into_iter().flat_map(ClusterView::placements) {
            let name = &status.placement.application.name;
            let Some(tally) = self.0.get_mut(name) else {
                continue;
            };
            tally.count(&status, false);
            if tally.clusters == 0 {
                self.0.remove(name);
            }
        }
        for status in is.into_iter().flat_map(ClusterView::placements) {
            let name = &status.placement.application.name;
            match self.0.get_mut(name) {
                Some(tally) => tally.count(&status, true),
                None => {
                    let mut tally = Tally::default();
                    tally.count(&status, true);
                    self.0.insert(name.clone(), tally);
                }
            }
        }
    }
}

impl Tally {
    fn count(&mut self, status: &PlacementStatus<'_>, add: bool) {
        let standing = standing(status);
        let change = |count: &mut u32, by: bool| match add {
            true => *count += u32::from(by),
            false => *count -= u32::from(by),
        };
        change(&mut self.clusters, true);
        change(&mut self.synced, standing.synced);
        change(&mut self.healthy, standing.healthy);
        change(&mut self.unknown, standing.unknown);
        let of_sync = self.sync.entry(standing.sync).or_default();
        change(of_sync, true);
        if *of_sync == 0 {
            self.sync.remove(&standing.sync);
        }
        let of_health = self.health.entry(standing.health).or_default();
        change(of_health, true);
        if *of_health == 0 {
            self.health.remove(&standing.health);
        }
        let speaks = status.status.is_some_and(|row| !row.message.is_empty());
        if speaks && !standing.unknown {
            let key = (
                Reverse(standing.sync),
                Reverse(standing.health),
                status.cluster.name.clone(),
            );
            match add {
                true => self.speaking.insert(key),
                false => self.speaking.remove(&key),
            };
        }
    }
}
