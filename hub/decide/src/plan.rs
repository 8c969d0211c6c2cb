//! What a commit would change on the whole fleet: the question that a reviewer asks before a merge.
//!
//! In: what every cluster runs by the last good state, and the [`Decision`] that the commit would lead to. Out: a
//! [`Plan`], in which clusters with the same change stand together. The hub compares what it would send; what a cluster
//! holds beside that, only its agent knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{
    ApplicationName, ClusterName, Content, DesiredApplication, Digest, ObjectKey, Removals,
    Settings,
};
use serde::{Deserialize, Serialize};

use crate::desired::{Decision, Waiting};
use crate::last_good::LastGood;
use crate::problem::Problem;
use crate::render::filled;

mod fields;
mod immutable;
mod trial;

pub use fields::FieldChange;
pub use trial::{Coming, DryRun, Outcome, Trial, Tried};

/// What a commit would change. As JSON it is the form that `muster plan -o json` prints: fields are only added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How many clusters there are.
    pub clusters: usize,
    /// Distinct changes; those of most clusters first, then by application.
    pub diffs: Vec<Diff>,
    /// What would stay until a person approves that it goes.
    pub waiting: Vec<Waiting>,
    /// What the commit is wrong about.
    pub problems: Vec<Problem>,
    /// What can't be planned, because clusters are first asked about it when it is merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<Unheard>,
}

/// Clusters whose agents have not said whether they serve what the charts of a target ask: what the charts make of it
/// there is not known, and the application stays there as it is until they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unheard {
    /// Whose charts ask.
    pub application: ApplicationName,
    /// Which of its targets.
    pub variant: Arc<str>,
    /// What is asked.
    pub api_versions: Vec<String>,
    /// By name.
    pub clusters: Vec<ClusterName>,
}

/// The same change of one application on some clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// Which application.
    pub application: ApplicationName,
    /// What becomes of it there.
    pub kind: DiffKind,
    /// Where, by name.
    pub clusters: Vec<ClusterName>,
    /// How it is applied: paths of the settings that the agent is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<FieldChange>,
    /// By identity.
    pub objects: Vec<ObjectChange>,
    /// Why removals would wait; `None` when they would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removals_wait: Option<String>,
    /// What an API server says to it; `None` when none was asked, or nothing of it would be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
}

/// What becomes of an application on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DiffKind {
    /// It comes to clusters where it was not.
    Gained,
    /// It leaves clusters.
    Lost,
    /// It stays and changes.
    Changed,
}

/// What becomes of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// Which object, with the namespace of its application filled in.
    pub object: ObjectKey,
    /// What becomes of it.
    pub action: Action,
    /// For a change: its fields, by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It is made.
    Create,
    /// Fields of it change.
    Change,
    /// A field changes that the API server does not let change: it is deleted and made anew.
    Replace,
    /// A field changes that the API server does not let change, and nothing allows to replace it: the apply will fail.
    Refused,
    /// It is removed.
    Prune,
    /// It leaves Git and stays in the cluster.
    Leave,
}

impl Plan {
    /// Compares what clusters run with what they would run.
    pub fn new(before: &LastGood, after: &Decision) -> Self {
        // Clusters that ran the same and would run the same differ in nothing.
        let mut same: BTreeMap<_, Vec<&ClusterName>> = BTreeMap::new();
        for (cluster, decision) in &after.clusters {
            let had = before.clusters().get(cluster);
            let had = had.filter(|had| !Arc::ptr_eq(had, &decision.placements));
            let is_same = had.is_none() && before.clusters().contains_key(cluster);
            if is_same {
                continue;
            }
            let held = match &decision.removals {
                Removals::Released => None,
                Removals::Held(why) => Some(why.as_str()),
            };
            let now = Arc::as_ptr(&decision.placements);
            same.entry((had.map(Arc::as_ptr), now, held))
                .or_default()
                .push(cluster);
        }
        let mut pairs: BTreeMap<Pair, Vec<ClusterName>> = BTreeMap::new();
        let mut contents: BTreeMap<(ApplicationName, Digest), Arc<DesiredApplication>> =
            BTreeMap::new();
        for ((_, _, held), clusters) in same {
            let had = before.clusters().get(clusters[0]);
            let had = had.map_or(&[][..], |had| had).iter();
            let had = had.map(|placement| &placement.application);
            let has = after.clusters[clusters[0]].placements.iter();
            let has = has.map(|placement| &placement.application);
            let mut both: BTreeMap<&ApplicationName, [Option<Digest>; 2]> = BTreeMap::new();
            for (side, application) in had.map(|it| (0, it)).chain(has.map(|it| (1, it))) {
                let digest = application.digest();
                both.entry(&application.name).or_default()[side] = Some(digest);
                contents
                    .entry((application.name.clone(), digest))
                    .or_insert_with(|| application.clone());
            }
            for (application, [before, after]) in both {
                if before != after {
                    let pair = (application.clone(), before, after, held);
                    let all = pairs.entry(pair).or_default();
                    all.extend(clusters.iter().copied().cloned());
                }
            }
        }
        let mut distinct: BTreeMap<Shown, BTreeSet<ClusterName>> = BTreeMap::new();
        for ((application, before, after, held), clusters) in pairs {
            let content = |digest: Option<Digest>| {
                let content = contents.get(&(application.clone(), digest?))?;
                Some(&**content)
            };
            if let Some(shown) = shown(application.clone(), content(before), content(after), held) {
                distinct.entry(shown).or_default().extend(clusters);
            }
        }
        let diffs = distinct.into_iter().map(|(shown, clusters)| Diff {
            application: shown.application,
            kind: shown.kind,
            clusters: clusters.into_iter().collect(),
            settings: shown.settings,
            objects: shown.objects,
            removals_wait: shown.removals_wait,
            dry_run: None,
        });
        let mut diffs: Vec<Diff> = diffs.collect();
        diffs.sort_by_key(|diff| std::cmp::Reverse(diff.clusters.len()));
        Self {
            diffs,
            waiting: after.waiting.clone(),
            problems: after.problems.clone(),
            unheard: Vec::new(),
            clusters: after.clusters.len(),
        }
    }

    /// Leaves only what concerns one cluster or one application, where one is given, and what concerns no single one.
    pub fn narrow(&mut self, cluster: Option<&ClusterName>, application: Option<&ApplicationName>) {
        let is = |name: &ApplicationName| application.is_none_or(|only| only == name);
        let keep = |clusters: &mut Vec<ClusterName>| {
            clusters.retain(|name| cluster.is_none_or(|only| only == name));
            !clusters.is_empty()
        };
        self.diffs
            .retain_mut(|diff| is(&diff.application) && keep(&mut diff.clusters));
        self.waiting
            .retain_mut(|it| is(&it.approval.application) && keep(&mut it.clusters));
        self.unheard
            .retain_mut(|it| is(&it.application) && keep(&mut it.clusters));
        self.problems.retain(|problem| {
            let here = |name: &ClusterName| cluster.is_none_or(|only| only == name);
            problem.application.as_ref().is_none_or(is) && problem.cluster.as_ref().is_none_or(here)
        });
        if cluster.is_some() {
            self.clusters = 1;
        }
    }

    /// Whether the commit would surely change nothing, anywhere.
    pub fn is_empty(&self) -> bool {
        self.diffs.is_empty() && self.waiting.is_empty() && self.unheard.is_empty()
    }
}

/// An application's content before and after, and why removals wait.
type Pair<'a> = (
    ApplicationName,
    Option<Digest>,
    Option<Digest>,
    Option<&'a str>,
);

/// All of a [`Diff`] but where: contents that differ in what does not change are shown as one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    application: ApplicationName,
    kind: DiffKind,
    settings: Vec<FieldChange>,
    objects: Vec<ObjectChange>,
    removals_wait: Option<String>,
}

/// `None` when there is nothing to see.
fn shown(
    application: ApplicationName,
    before: Option<&DesiredApplication>,
    after: Option<&DesiredApplication>,
    held: Option<&str>,
) -> Option<Shown> {
    let (had, has) = (before.map(parts), after.map(parts));
    // Content that is kept as it is changes nothing.
    let (had, has) = match (had, has) {
        (Some(None), _) | (_, Some(None)) => return None,
        (had, has) => (had.flatten(), has.flatten()),
    };
    let kind = match (&had, &has) {
        (None, _) => DiffKind::Gained,
        (_, None) => DiffKind::Lost,
        _ => DiffKind::Changed,
    };
    let settings = match (&had, &has) {
        (Some((had, _)), Some((has, _))) => fields::of_settings(had, has),
        _ => Vec::new(),
    };
    let rules = has
        .as_ref()
        .or(had.as_ref())
        .map(|(settings, _)| *settings)?;
    let had = had.map(|(_, objects)| objects).unwrap_or_default();
    let has = has.map(|(_, objects)| objects).unwrap_or_default();
    let keys: BTreeSet<&ObjectKey> = had.keys().chain(has.keys()).collect();
    let mut objects = Vec::new();
    for key in keys {
        let (action, fields) = match (had.get(key), has.get(key)) {
            (Some(had), Some(has)) if had.digest == has.digest => continue,
            (Some(had), Some(has)) => {
                let (had, has) = (had.value(), has.value());
                let fields = fields::of_objects(key, &had, &has);
                (changed(key, &fields, &has, rules), fields)
            }
            (None, _) => (Action::Create, Vec::new()),
            (Some(had), None) => (removed(&had.value(), rules), Vec::new()),
        };
        objects.push(ObjectChange {
            object: key.clone(),
            action,
            fields,
        });
    }
    let prunes = |change: &&ObjectChange| change.action == Action::Prune;
    let gone = objects.iter().filter(prunes).count();
    let budget = kind == DiffKind::Changed && rules.prune_budget.is_exceeded_by(gone, has.len());
    let removals_wait = match held {
        _ if gone == 0 => None,
        Some(why) => Some(why.to_owned()),
        None if budget => Some(format!(
            "{gone} objects would be removed and {} stay: that needs `muster approve {application}`",
            has.len()
        )),
        None => None,
    };
    let nothing = objects.is_empty() && settings.is_empty() && kind == DiffKind::Changed;
    (!nothing).then_some(Shown {
        application,
        kind,
        settings,
        objects,
        removals_wait,
    })
}

type Objects<'a> = BTreeMap<ObjectKey, &'a muster_proto::Object>;

/// `None` when the cluster is to leave it as it is.
fn parts(application: &DesiredApplication) -> Option<(&Settings, Objects<'_>)> {
    match &application.content {
        Content::Keep(_) => None,
        Content::Objects { settings, objects } => {
            let objects = objects
                .iter()
                .map(|object| (filled(&object.key, &settings.namespace), &**object));
            Some((settings, objects.collect()))
        }
    }
}

/// What becomes of an object whose fields change.
fn changed(
    key: &ObjectKey,
    changes: &[FieldChange],
    after: &serde_json::Value,
    rules: &Settings,
) -> Action {
    let stands = changes.iter().any(|change| change.immutable);
    let replace = match mark(after, "muster.dev/replace") {
        Some(word) => word == "enabled",
        None => rules.replace,
    };
    match (stands, replace && !key.is_never_replaced()) {
        (false, _) => Action::Change,
        (true, true) => Action::Replace,
        (true, false) => Action::Refused,
    }
}

/// What becomes of an object that leaves Git.
fn removed(before: &serde_json::Value, rules: &Settings) -> Action {
    let stays = mark(before, "muster.dev/prune") == Some("disabled")
        || mark(before, "muster.dev/apply") == Some("disabled");
    match stays || !rules.prune || rules.detect_only {
        true => Action::Leave,
        false => Action::Prune,
    }
}

fn mark<'v>(object: &'v serde_json::Value, name: &str) -> Option<&'v str> {
    let annotations = object.pointer("/metadata/annotations")?;
    annotations.get(name)?.as_str()
}

#[cfg(test)]
mod tests;
