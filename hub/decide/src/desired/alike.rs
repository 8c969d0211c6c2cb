//! What clusters are sent: one allocation for all that run the same, also from decision to decision.
//!
//! In: what each runs, whether removals are released there, and what people gave their word for. Out: desired states that
//! nobody has stamped yet. To put one together takes as long as it is large: what did not change is found by address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_proto::{Approval, ClusterName, Desired, DesiredApplication, Removals};

use crate::last_good::Placements;

/// What was put together for the last decision. Losing it costs time, nothing else.
#[derive(Debug, Default)]
pub struct Alike {
    /// By address of the list, which is held so that no other one gets it.
    known: HashMap<(usize, Removals), (Arc<Placements>, Arc<Desired>)>,
}

impl Alike {
    /// What every cluster is to be sent, under generation 0.
    pub fn desired<'c>(
        &mut self,
        clusters: impl Iterator<Item = (&'c ClusterName, &'c Arc<Placements>, Removals)>,
        approved: &BTreeSet<Approval>,
    ) -> BTreeMap<ClusterName, Arc<Desired>> {
        let mut known = std::mem::take(&mut self.known);
        let clusters = clusters.map(|(cluster, placed, removals)| {
            let key = (Arc::as_ptr(placed).addr(), removals);
            let made = self.known.entry(key).or_insert_with_key(|key| {
                let words = words(placed, approved);
                let same = known.remove(key);
                let same = same.filter(|(_, desired)| desired.approvals == words);
                same.unwrap_or_else(|| {
                    let applications = placed.iter().map(|it| it.application.clone());
                    let removals = key.1.clone();
                    let desired = Desired::new(0, applications.collect(), removals, words);
                    (placed.clone(), Arc::new(desired))
                })
            });
            (cluster.clone(), made.1.clone())
        });
        clusters.collect()
    }
}

/// The word that lets an agent remove what left an application.
pub fn word_for(application: &DesiredApplication) -> Approval {
    Approval {
        application: application.name.clone(),
        digest: application.digest(),
    }
}

/// The words that concern a cluster: those for an application as it should be there.
fn words(placed: &Placements, approved: &BTreeSet<Approval>) -> Vec<Approval> {
    let concerns = |word: &&Approval| {
        let placement = placed.of(&word.application);
        placement.is_some_and(|placement| placement.application.digest() == word.digest)
    };
    approved.iter().filter(concerns).cloned().collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::{Digest, Settings};

    use super::*;
    use crate::last_good::Placement;

    fn placed(names: &[&str]) -> Arc<Placements> {
        let placements = names.iter().map(|name| Placement {
            target: "all".into(),
            application: Arc::new(DesiredApplication::new(
                name.parse().unwrap(),
                "r".into(),
                Settings::default(),
                Vec::new(),
            )),
        });
        Arc::new(placements.collect())
    }

    #[test]
    fn what_did_not_change_is_the_same_allocation_and_what_did_is_made_anew() {
        let (a, b): (ClusterName, ClusterName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (one, two) = (placed(&["web"]), placed(&["db", "web"]));
        let held = || Removals::Held("why".into());
        let mut alike = Alike::default();
        let mut made = |first: &Arc<Placements>, removals, approved: &BTreeSet<Approval>| {
            let clusters = [(&a, first, removals), (&b, &one, Removals::Released)];
            let made = alike.desired(clusters.into_iter(), approved);
            (made[&a].clone(), made[&b].clone())
        };
        let nothing = BTreeSet::new();
        let (first, second) = made(&one, Removals::Released, &nothing);
        assert!(Arc::ptr_eq(&first, &second));
        let (moved, stays) = made(&two, Removals::Released, &nothing);
        assert_eq!(moved.applications.len(), 2);
        assert!(Arc::ptr_eq(&second, &stays));
        let (waits, stays) = made(&two, held(), &nothing);
        assert_eq!(waits.removals, held());
        assert!(Arc::ptr_eq(&second, &stays));
        let word = word_for(&one[0].application);
        let other = Approval {
            digest: Digest::ZERO,
            ..word.clone()
        };
        let (first, second) = made(&one, Removals::Released, &[word.clone(), other].into());
        assert_eq!(
            (&first.approvals, &second.approvals),
            (&vec![word.clone()], &vec![word])
        );
        let (first, _) = made(&one, Removals::Released, &nothing);
        assert!(first.approvals.is_empty());
    }
}
