//! What a hub that starts sends and shows before it has decided any commit, and for as long as the newest is refused:
//! everything as the store says it was decided last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_decide::{Alike, Labels, LastGood, Location, Members};
use muster_proto::{ApplicationName, Approval, ClusterName, Desired, Removals, Timestamp};

use super::deciding::{applications, contents};
use super::member::declared_view;
use super::task::Task;

impl Task {
    /// What the store says every cluster runs, under the generations it has.
    pub(super) fn publish_stored(&mut self, now: Timestamp) {
        let members = self.members_in();
        let removals = |name: &ClusterName| match self.members.get(name) {
            Some(member) => (member.row.generation > 0).then(|| member.row.removals.clone()),
            // Only Git names it, so nothing is sent to it.
            None => Some(Removals::Released),
        };
        let head = self.decided_revision.as_ref();
        let head = head.map(|(revision, _)| revision.as_str());
        let stored = from_store(
            &self.last_good,
            &members,
            &self.approvals,
            removals,
            head.unwrap_or_default(),
        );
        self.board.put_applications(stored.applications);
        let mut desired = stored.desired;
        for (name, labels) in stored.labels {
            let desired = desired.remove(&name);
            let placements = self.last_good.clusters().get(&name);
            let placements = placements.filter(|_| desired.is_some()).cloned();
            let Some(member) = self.members.get_mut(&name) else {
                let view = declared_view(&name, &labels, placements.unwrap_or_default(), now);
                self.declared.insert(name, view);
                continue;
            };
            member.labels = labels;
            if let Some(placements) = placements {
                member.placements = placements;
                member.decided = desired;
            }
        }
        self.contents.replace(contents(&self.last_good));
        for (name, member) in &mut self.members {
            let nothing_placed = member.decided.is_none() && member.row.generation > 0;
            if nothing_placed {
                member.decided = Some(Arc::new(Desired::new(
                    0,
                    Vec::new(),
                    member.row.removals.clone(),
                    Vec::new(),
                )));
            }
            let Some(target) = member.target() else {
                continue;
            };
            if member.row.desired_digest == Some(target.digest()) {
                member.publish(&target);
            } else if member.row.generation > 0 {
                tracing::warn!(cluster = %name, "the stored desired state can't be put together again and waits for the next decision");
                member.decided = None;
            }
        }
    }
}

/// What the store says, for as long as no commit can be decided.
struct Stored {
    /// By cluster, members and others; what a cluster has no stamp for, nobody decided.
    desired: BTreeMap<ClusterName, Arc<Desired>>,
    labels: BTreeMap<ClusterName, Arc<Labels>>,
    applications: BTreeMap<ApplicationName, (Location, String)>,
}

/// Puts together what was decided for `members` when the newest commit was `head`; `removals` is what their stamps say.
fn from_store(
    last_good: &LastGood,
    members: &Members,
    approvals: &BTreeSet<Approval>,
    removals: impl Fn(&ClusterName) -> Option<Removals>,
    head: &str,
) -> Stored {
    let applications = applications(last_good.applications(), last_good, head);
    let clusters = last_good.clusters().iter();
    let stamped = clusters.filter_map(|(name, placed)| Some((name, placed, removals(name)?)));
    Stored {
        desired: Alike::default().desired(stamped, approvals),
        labels: last_good.labels(members),
        applications,
    }
}
