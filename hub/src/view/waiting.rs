//! What goes on only with a person's word, as people see it and name it when they approve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, Approval, ClusterName, Timestamp};

use super::ClusterView;

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// What is to be approved.
    pub what: What,
    /// Where; empty: everywhere.
    pub clusters: Vec<ClusterName>,
    /// What would happen, and the command that lets it.
    pub message: String,
    /// Since when it waits.
    pub since: Timestamp,
}

/// What is to be approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A commit that holds no application at all.
    Emptied {
        /// The commit.
        revision: String,
        /// What the store remembers of the word.
        approvals: Vec<Approval>,
    },
    /// An application leaves many clusters at once.
    Leaves(Approval),
    /// An application loses many objects at once; its agents wait.
    Prune(Approval),
    /// Removals at a cluster whose agent was ahead of the hub's store.
    Restored(ClusterName),
}

impl What {
    /// The kind of thing, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Emptied { .. } => "emptied",
            Self::Leaves(_) => "leaves",
            Self::Prune(_) => "prune",
            Self::Restored(_) => "restored",
        }
    }

    /// Names exactly this: approving by it approves nothing that came later.
    pub fn id(&self) -> String {
        let word = self.word();
        match self {
            Self::Emptied { revision, .. } => format!("{word}/{revision}"),
            Self::Leaves(approval) | Self::Prune(approval) => {
                format!("{word}/{}/{}", approval.application, approval.digest)
            }
            Self::Restored(cluster) => format!("{word}/{cluster}"),
        }
    }

    /// Which application, if one.
    pub fn application(&self) -> Option<&ApplicationName> {
        match self {
            Self::Leaves(approval) | Self::Prune(approval) => Some(&approval.application),
            Self::Emptied { .. } | Self::Restored(_) => None,
        }
    }

    /// What a person is told who approved it.
    pub(crate) fn approved(&self, clusters: usize) -> String {
        let on = match clusters {
            1 => "1 cluster".to_owned(),
            clusters => format!("{clusters} clusters"),
        };
        match self {
            Self::Emptied { revision, .. } => {
                format!("every application may go, as commit {revision} says")
            }
            Self::Leaves(approval) => format!("{} may leave {on}", approval.application),
            Self::Prune(approval) => {
                format!(
                    "what left {} may be removed from {on}",
                    approval.application
                )
            }
            Self::Restored(cluster) => format!("removals on {cluster} may go on"),
        }
    }
}

/// What waits at single clusters, counted as they change.
#[derive(Debug, Default)]
pub(super) struct AtClusters {
    /// Objects past an application's prune budget, and since when.
    prunes: BTreeMap<Approval, BTreeMap<ClusterName, (u32, Timestamp)>>,
    restored: BTreeSet<ClusterName>,
    /// Words that were given, though agents may not have heard them yet.
    pub(super) approved: Arc<BTreeSet<Approval>>,
}

impl AtClusters {
    /// Counts a cluster as it is, and no more as it was.
    pub(super) fn replace(&mut self, was: Option<&ClusterView>, is: Option<&ClusterView>) {
        for (cluster, approval, ..) in was.into_iter().flat_map(unapproved) {
            if let Some(on) = self.prunes.get_mut(&approval) {
                on.remove(cluster);
                if on.is_empty() {
                    self.prunes.remove(&approval);
                }
            }
        }
        for (cluster, approval, objects, since) in is.into_iter().flat_map(unapproved) {
            let on = self.prunes.entry(approval).or_default();
            on.insert(cluster.clone(), (objects, since));
        }
        if let Some(was) = was {
            self.restored.remove(&was.name);
        }
        if let Some(is) = is.filter(|is| is.store_was_older) {
            self.restored.insert(is.name.clone());
        }
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = Waiting> + '_ {
        let prunes = self.prunes.iter();
        let prunes = prunes.filter(|(approval, _)| !self.approved.contains(*approval));
        let prunes = prunes.map(|(approval, on)| {
            let objects: u32 = on.values().map(|(objects, _)| objects).sum();
            let since = on.values().map(|(_, since)| *since).min();
            Waiting {
                message: format!(
                    "{objects} objects of application {0} left Git at once: they stay until `muster approve {0}`, or until Git has them again",
                    approval.application
                ),
                what: What::Prune(approval.clone()),
                clusters: on.keys().cloned().collect(),
                since: since.unwrap_or_default(),
            }
        });
        let restored = self.restored.iter().map(|cluster| Waiting {
            what: What::Restored(cluster.clone()),
            clusters: vec![cluster.clone()],
            message: format!(
                "the agent of {cluster} is ahead of the hub's store (was it put back from a backup?): nothing is removed there until `muster approve --cluster {cluster}`"
            ),
            since: Timestamp(0),
        });
        prunes.chain(restored)
    }
}

/// The applications of a cluster that lost more than their budget, in their newest state.
fn unapproved(
    cluster: &ClusterView,
) -> impl Iterator<Item = (&ClusterName, Approval, u32, Timestamp)> {
    cluster.placements().filter_map(|placement| {
        let row = placement
            .status
            .filter(|row| placement.current && row.unapproved > 0)?;
        let approval = Approval {
            application: row.application.clone(),
            digest: row.digest,
        };
        Some((&cluster.name, approval, row.unapproved, row.since))
    })
}
