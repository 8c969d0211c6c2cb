//! Who owns this cluster, and who may take it: one hub, one name, one cluster, the newest process. Pure.

use super::LABEL;
use super::format::{FORMAT, Owner, Root};

/// Who may take a cluster whose root says this?
pub(super) fn may_take(root: &Root, new: &Owner, namespace: &str) -> Result<(), String> {
    if root.format > FORMAT {
        return Err(format!(
            "the ledger was written by a newer agent (format {}, this agent knows {FORMAT}): run that agent, or a newer one",
            root.format
        ));
    }
    let Some(old) = &root.owner else {
        return Ok(());
    };
    let anew = format!(
        "to begin anew and leave all objects as they are, delete the Secrets labelled {LABEL} in namespace {namespace}"
    );
    if old.kube_system != new.kube_system {
        Err(format!(
            "the ledger in this cluster was copied from another one (its kube-system has UID {}): {anew}",
            old.kube_system
        ))
    } else if old.hub != new.hub {
        Err(format!(
            "this cluster belongs to another hub ({}) as {:?}: remove it there first; or {anew}",
            old.hub, old.cluster
        ))
    } else if old.cluster != new.cluster {
        Err(format!(
            "this cluster is enrolled already under the name {:?}: run one agent only, or remove {:?} from the fleet; or {anew}",
            old.cluster, old.cluster
        ))
    } else {
        Ok(())
    }
}

/// What to say when somebody else's name stands in the root.
pub(super) fn taken_by(root: &Root) -> String {
    match &root.owner {
        None => "this cluster was given up by another process of this agent: restart the agent to take it again".into(),
        Some(owner) => format!(
            "another agent took this cluster (hub {}, cluster name {:?}, instance {}): run one agent only and stop the other",
            owner.hub, owner.cluster, owner.instance
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(hub: &str, cluster: &str, kube_system: &str) -> Owner {
        Owner {
            hub: hub.into(),
            cluster: cluster.into(),
            kube_system: kube_system.into(),
            instance: "i".into(),
        }
    }

    #[test]
    fn a_foreign_ledger_is_refused_and_the_remedy_is_named() {
        let root = Root::new(owner("hub-a", "eu-1", "uid-1"));
        let new = owner("hub-a", "eu-1", "uid-1");
        assert_eq!(may_take(&root, &new, "ns"), Ok(()));
        for (other, part) in [
            (owner("hub-b", "eu-1", "uid-1"), "another hub (hub-a)"),
            (owner("hub-a", "eu-2", "uid-1"), "under the name \"eu-1\""),
            (owner("hub-a", "eu-1", "uid-2"), "copied from another one"),
        ] {
            let error = may_take(&root, &other, "ns").unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(
                error.contains("delete the Secrets labelled muster.dev/ledger in namespace ns"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_ledger_that_was_given_up_is_free() {
        let mut root = Root::new(owner("hub-a", "eu-1", "uid-1"));
        root.owner = None;
        assert_eq!(may_take(&root, &owner("b", "c", "d"), "ns"), Ok(()));
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let mut root = Root::new(owner("a", "b", "c"));
        root.format = FORMAT + 1;
        assert!(
            may_take(&root, &owner("a", "b", "c"), "ns")
                .unwrap_err()
                .contains("newer agent")
        );
    }
}
