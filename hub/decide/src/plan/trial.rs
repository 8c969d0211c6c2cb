//! A plan put to the API server of a cluster: what would be sent there, and what was answered. Pure; the asking is the
//! hub's.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::{ClusterName, Content, Object, ObjectKey, Settings};
use serde::{Deserialize, Serialize};

use super::{Action, Diff, Plan, parts};
use crate::desired::Decision;
use crate::last_good::LastGood;

/// What the API server of one cluster said to a [`Diff`], by dry runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Which cluster was asked, for all of the diff's; `None`: none could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Objects that it takes.
    pub taken: usize,
    /// The others, by identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Tried>,
    /// Why nobody was asked, or not about all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

/// An object that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Which.
    pub object: ObjectKey,
    /// What came of it.
    pub outcome: Outcome,
    /// Why; no value of a Secret is in it.
    pub message: String,
}

/// What came of trying an object that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The apply would fail.
    Refused,
    /// It depends on what the same plan makes, so it can't be known before.
    NotTried,
    /// Nobody could find out.
    Unknown,
}

impl DryRun {
    /// Whether nothing is known to fail, and nothing that could be tried was left out.
    pub fn is_well(&self) -> bool {
        let is_well = |tried: &Tried| tried.outcome == Outcome::NotTried;
        self.incomplete.is_none() && self.objects.iter().all(is_well)
    }
}

impl Plan {
    /// Whether a merge is known to go wrong, or it could not be found out although that was asked for.
    pub fn is_broken(&self) -> bool {
        let dry_runs = self.diffs.iter().filter_map(|diff| diff.dry_run.as_ref());
        !self.problems.is_empty() || !dry_runs.into_iter().all(DryRun::is_well)
    }
}

/// What an apply of a diff would send to a cluster.
pub struct Trial {
    /// How it is applied.
    pub settings: Settings,
    /// What is made or changed.
    pub objects: Vec<Arc<Object>>,
}

impl Trial {
    /// What would be sent to one of the diff's clusters; `None` when that is nothing.
    pub fn of(diff: &Diff, cluster: &ClusterName, after: &Decision) -> Option<Self> {
        let applied: BTreeSet<&ObjectKey> = diff
            .objects
            .iter()
            .filter(|change| !matches!(change.action, Action::Prune | Action::Leave))
            .map(|change| &change.object)
            .collect();
        let placement = after
            .clusters
            .get(cluster)?
            .placements
            .of(&diff.application)?;
        let Content::Objects { settings, objects } = &placement.application.content else {
            return None;
        };
        let sent = objects.iter();
        let sent = sent.filter(|object| {
            let key = crate::render::filled(&object.key, &settings.namespace);
            applied.contains(&key)
        });
        let objects: Vec<_> = sent.cloned().collect();
        // What only detects writes nothing.
        (!objects.is_empty() && !settings.detect_only).then(|| Self {
            settings: settings.clone(),
            objects,
        })
    }
}

/// What a commit makes or changes on a cluster and other objects depend on: these can't be tried before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coming {
    /// Names.
    pub namespaces: BTreeSet<String>,
    /// Groups and kinds, by the definitions of custom resources.
    pub kinds: BTreeSet<(String, String)>,
    /// Roles, their bindings or service accounts.
    pub rights: bool,
}

impl Coming {
    /// To one cluster, by whichever application.
    pub fn to(cluster: &ClusterName, before: &LastGood, after: &Decision) -> Self {
        let mut coming = Self::default();
        let Some(has) = after.clusters.get(cluster) else {
            return coming;
        };
        let had = before.clusters().get(cluster);
        for placement in has.placements.iter() {
            let name = &placement.application.name;
            let had = had.and_then(|had| had.of(name));
            let is_same =
                had.is_some_and(|had| had.application.digest() == placement.application.digest());
            if is_same {
                continue;
            }
            let had = had.and_then(|had| parts(&had.application));
            let had = had.map(|(_, objects)| objects).unwrap_or_default();
            for (key, object) in parts(&placement.application)
                .map(|it| it.1)
                .unwrap_or_default()
            {
                if had.get(&key).is_none_or(|had| had.digest != object.digest) {
                    coming.add(&key, object);
                }
            }
        }
        coming
    }

    fn add(&mut self, key: &ObjectKey, object: &Object) {
        match (key.group.as_str(), key.kind.as_str()) {
            ("", "Namespace") => _ = self.namespaces.insert(key.name.clone()),
            ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                let definition = object.value();
                let text = |at| definition.pointer(at).and_then(|it| it.as_str());
                if let (Some(group), Some(kind)) = (text("/spec/group"), text("/spec/names/kind")) {
                    self.kinds.insert((group.to_owned(), kind.to_owned()));
                }
            }
            ("rbac.authorization.k8s.io", _) | ("", "ServiceAccount") => self.rights = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_known_before_is_no_failure_and_what_nobody_found_out_is_one() {
        let tried = |outcome| Tried {
            object: ObjectKey {
                group: String::new(),
                kind: "ConfigMap".into(),
                namespace: "shop".into(),
                name: "a".into(),
            },
            outcome,
            message: "why".into(),
        };
        let cases = [
            (Vec::new(), None, true),
            (vec![Outcome::NotTried], None, true),
            (vec![Outcome::NotTried, Outcome::Refused], None, false),
            (vec![Outcome::Unknown], None, false),
            (Vec::new(), Some("nobody is connected"), false),
        ];
        for (outcomes, incomplete, is_well) in cases {
            let dry_run = DryRun {
                objects: outcomes.iter().copied().map(tried).collect(),
                incomplete: incomplete.map(str::to_owned),
                ..DryRun::default()
            };
            assert_eq!(dry_run.is_well(), is_well, "{dry_run:?}");
        }
    }
}
