//! The order of removals: what was applied last goes first, and is awaited gone where something depended. Pure.
//!
//! An object that leaves holds what it was applied after: what it named, earlier stages, applications its own depended
//! on. A custom resource holds every plain object that leaves with it, because one of them may be the operator that
//! must still run its finalizers. In: keys and entries. Out: who holds whom.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{ApplicationName, ObjectKey};

use super::Key;
use crate::inventory::Entry;

/// Whom something that leaves holds back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// This object.
    Object(ObjectKey),
    /// Objects of this application.
    Application(ApplicationName),
    /// Objects of this application in stages before this one.
    Stage(ApplicationName, i32),
    /// Objects of this application that are no custom resources.
    Plain(ApplicationName),
}

/// Who holds whom.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    of: BTreeMap<Key, BTreeSet<Hold>>,
    by: BTreeMap<Hold, BTreeSet<Key>>,
}

/// Whom an object holds while it leaves. `operators` are the applications that own definitions of its group.
pub(crate) fn of_leaving<'a>(
    key: &ObjectKey,
    entry: &'a Entry,
    operators: impl IntoIterator<Item = &'a ApplicationName>,
) -> BTreeSet<Hold> {
    let mut holds = of_changing(entry);
    let depended_on = entry
        .after
        .iter()
        .filter(|other| **other != entry.application);
    holds.extend(depended_on.cloned().map(Hold::Application));
    holds.insert(Hold::Stage(entry.application.clone(), entry.stage));
    if is_custom(key) {
        let applications = operators.into_iter().chain([&entry.application]);
        holds.extend(applications.cloned().map(Hold::Plain));
    }
    holds
}

/// Whom an object holds whose change is not applied yet: in the cluster it still uses what it named before.
pub(crate) fn of_changing(entry: &Entry) -> BTreeSet<Hold> {
    entry.needs.iter().cloned().map(Hold::Object).collect()
}

impl Holds {
    /// Notes whom an object holds; true when that changed.
    pub(crate) fn set(&mut self, key: &Key, holds: BTreeSet<Hold>) -> bool {
        if self
            .of
            .get(key)
            .map_or(holds.is_empty(), |before| *before == holds)
        {
            return false;
        }
        for hold in self.of.remove(key).unwrap_or_default() {
            if let Some(keys) = self.by.get_mut(&hold) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by.remove(&hold);
                }
            }
        }
        for hold in &holds {
            self.by.entry(hold.clone()).or_default().insert(key.clone());
        }
        if !holds.is_empty() {
            self.of.insert(key.clone(), holds);
        }
        true
    }

    /// Who must be gone before this object is removed.
    pub(crate) fn holder(&self, key: &ObjectKey, entry: &Entry) -> Option<&Key> {
        let application = &entry.application;
        let others = |hold: &Hold| {
            let keys = self.by.get(hold).into_iter().flatten();
            keys.filter(|other| ***other != *key)
        };
        let direct = [
            Hold::Object(key.clone()),
            Hold::Application(application.clone()),
        ];
        if let Some(holder) = direct.iter().find_map(|hold| others(hold).next()) {
            return Some(holder);
        }
        let later = Hold::Stage(application.clone(), entry.stage.saturating_add(1))
            ..=Hold::Stage(application.clone(), i32::MAX);
        if entry.stage < i32::MAX
            && let Some((_, keys)) = self.by.range(later).next()
        {
            return keys.first();
        }
        if is_custom(key) {
            return None;
        }
        // Unless it was the other way round: this object was applied after that custom resource.
        others(&Hold::Plain(application.clone())).find(|custom| !self.is_after(key, entry, custom))
    }

    /// Was this object applied after `other`, by what is known of both?
    fn is_after(&self, key: &ObjectKey, entry: &Entry, other: &Key) -> bool {
        let stage = |holds: &BTreeSet<Hold>| {
            holds.iter().find_map(|hold| match hold {
                Hold::Stage(application, stage) if *application == entry.application => {
                    Some(*stage)
                }
                _ => None,
            })
        };
        if self
            .of
            .get(other)
            .and_then(stage)
            .is_some_and(|stage| stage < entry.stage)
        {
            return true;
        }
        let mut seen = BTreeSet::new();
        let mut next = vec![key];
        while let Some(key) = next.pop() {
            if !seen.insert(key) {
                continue;
            }
            for hold in self.of.get(key).into_iter().flatten() {
                if let Hold::Object(held) = hold {
                    if *held == **other {
                        return true;
                    }
                    next.push(held);
                }
            }
        }
        false
    }
}

/// Is this an object of a kind that Kubernetes does not bring itself?
fn is_custom(key: &ObjectKey) -> bool {
    const OWN: [&str; 22] = [
        "",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    ];
    !OWN.contains(&key.group.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key(text: &str) -> Key {
        let (kind, name) = text.split_once('/').unwrap();
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        Arc::new(ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: "web".into(),
            name: name.into(),
        })
    }

    fn entry(application: &str) -> Entry {
        Entry::planned("v1", &application.parse().unwrap())
    }

    /// All leave at once; in which rounds do they go?
    fn rounds(mut leaving: Vec<(Key, Entry)>) -> Vec<Vec<String>> {
        let mut holds = Holds::default();
        let operator: ApplicationName = "operator".parse().unwrap();
        for (key, entry) in &leaving {
            holds.set(key, of_leaving(key, entry, [&operator]));
        }
        let mut rounds = Vec::new();
        while !leaving.is_empty() {
            let (free, held): (Vec<_>, Vec<_>) = leaving
                .into_iter()
                .partition(|(key, entry)| holds.holder(key, entry).is_none());
            assert!(!free.is_empty(), "nothing can go: {held:?}");
            for (key, _) in &free {
                holds.set(key, BTreeSet::new());
            }
            rounds.push(free.iter().map(|(key, _)| key.to_string()).collect());
            leaving = held;
        }
        rounds
    }

    #[test]
    fn what_was_applied_last_goes_first() {
        let deployment = Entry {
            needs: vec![(*key("ConfigMap/c")).clone()],
            ..entry("shop")
        };
        let late = Entry {
            stage: 2,
            ..entry("shop")
        };
        let dependant = Entry {
            after: vec!["shop".parse().unwrap()],
            ..entry("front")
        };
        let gone = rounds(vec![
            (key("ConfigMap/c"), entry("shop")),
            (key("Deployment.apps/d"), deployment),
            (key("Job.batch/j"), late),
            (key("ConfigMap/f"), dependant),
        ]);
        assert_eq!(
            gone,
            [
                vec!["ConfigMap web/f"],
                vec!["Job.batch web/j"],
                vec!["Deployment.apps web/d"],
                vec!["ConfigMap web/c"]
            ]
        );
    }

    #[test]
    fn custom_resources_go_before_what_may_be_their_operator_here_and_where_their_definition_is() {
        let gone = rounds(vec![
            (key("Deployment.apps/controller"), entry("operator")),
            (key("ServiceAccount/robot"), entry("shop")),
            (key("ConfigMap/other"), entry("unrelated")),
            (key("Cart.shop.io/c"), entry("shop")),
        ]);
        assert_eq!(gone[0], ["ConfigMap web/other", "Cart.shop.io web/c"]);
        assert_eq!(
            gone[1],
            ["Deployment.apps web/controller", "ServiceAccount web/robot"]
        );
    }

    #[test]
    fn a_workload_that_was_applied_after_a_custom_resource_is_not_held_by_it() {
        let by_name = Entry {
            needs: vec![(*key("Secret/s")).clone()],
            ..entry("shop")
        };
        let secret = Entry {
            needs: vec![(*key("Certificate.cert.io/c")).clone()],
            ..entry("shop")
        };
        let by_stage = Entry {
            stage: 1,
            ..entry("shop")
        };
        let gone = rounds(vec![
            (key("Certificate.cert.io/c"), entry("shop")),
            (key("Deployment.apps/d"), by_name),
            (key("Secret/s"), secret),
            (key("Job.batch/j"), by_stage),
        ]);
        assert_eq!(gone.last().unwrap(), &["Certificate.cert.io web/c"]);
    }

    #[test]
    fn an_object_whose_change_was_not_applied_holds_what_it_used_before() {
        let mut holds = Holds::default();
        let deployment = key("Deployment.apps/d");
        let used = Entry {
            needs: vec![(*key("ConfigMap/old")).clone()],
            ..entry("shop")
        };
        assert!(holds.set(&deployment, of_changing(&used)));
        assert_eq!(
            holds.holder(&key("ConfigMap/old"), &entry("shop")),
            Some(&deployment)
        );
        assert!(holds.set(&deployment, BTreeSet::new()));
        assert_eq!(holds.holder(&key("ConfigMap/old"), &entry("shop")), None);
    }
}
