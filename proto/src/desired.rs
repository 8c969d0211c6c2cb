//! What one cluster should run: three levels of digests, so that equal parts are found by comparing one.
//!
//! `Desired` -> `DesiredApplication` -> `Object`. The hub makes it, the wire carries what the agent lacks, the agent
//! keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ApplicationName, Digest, IgnoreRule, Object, Pause};

/// Counts the desired states of one cluster. Never decreases; 0 means none yet.
pub type Generation = u64;

/// Everything one cluster should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Stamped by the hub; higher is newer.
    pub generation: Generation,
    /// Ordered by name, each name once.
    pub applications: Vec<Arc<DesiredApplication>>,
    /// Whether objects that are no longer here may go.
    pub removals: Removals,
    /// What a person has approved for this cluster.
    pub approvals: Vec<Approval>,
    /// Applications that are left as they are for now, by application, each once.
    pub pauses: Vec<Pause>,
    digest: Digest,
}

/// Removals wait until every document parsed and every application concerned rendered (DESIGN.md, invariant 6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Removals {
    /// What is in the inventory and not here is pruned.
    Released,
    /// Nothing is pruned; the text says why, for people.
    Held(String),
}

/// A person's word for something that waits, kept by application and digest of what was approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Approval {
    /// The application whose removal or shrinking was approved.
    pub application: ApplicationName,
    /// The application digest it was approved for.
    pub digest: Digest,
}

/// One application on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredApplication {
    /// Its name, unique in a `Desired`.
    pub name: ApplicationName,
    /// Commit that the rendering comes from. Not part of the digest: a commit without change changes nothing.
    pub revision: String,
    /// What it holds.
    pub content: Content,
    digest: Digest,
}

/// Either objects, or the word to leave everything as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Make it so.
    Objects {
        /// How.
        settings: Settings,
        /// In the order of the rendering; each key once.
        objects: Vec<Arc<Object>>,
    },
    /// There is no good rendering: apply nothing, prune nothing. The text says why.
    Keep(String),
}

/// What the agent must know of an application beside its objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Fills namespaced objects that state none; empty: such an object is an error.
    pub namespace: String,
    /// Objects that leave Git are removed.
    pub prune: bool,
    /// Drift is repaired, not only reported.
    pub self_heal: bool,
    /// Applications that must be healthy first.
    pub depends_on: Vec<ApplicationName>,
    /// `namespace/name` of the ServiceAccount to impersonate; empty: the agent's own.
    pub service_account: String,
    /// What to do with an object that exists already.
    pub adoption: Adoption,
    /// What to do with fields that people add to its objects.
    #[serde(default, skip_serializing_if = "is_default")]
    pub additions: Additions,
    /// How much may be removed without a person's word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prune_budget: PruneBudget,
    /// Health of kinds, instead of the rules that the agent knows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Vec<HealthRule>,
    /// Nothing is applied or removed: differences are reported.
    #[serde(default, skip_serializing_if = "is_default")]
    pub detect_only: bool,
    /// An object whose change the API server refuses, because the field is immutable, is deleted and made anew.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replace: bool,
    /// Field managers whose fields are taken over, beside kubectl's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub take_over: Vec<String>,
    /// Fields that others may own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ignore: Vec<IgnoreRule>,
}

/// What to do with fields that people put on our objects and Git does not state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Additions {
    /// Take them away.
    #[default]
    Repair,
    /// Show them.
    Report,
    /// Leave them.
    Ignore,
}

/// An application that is still declared may lose objects without a person's word, unless both are exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneBudget {
    /// Of the objects that leave and those that stay, 0 to 100.
    pub percent: u8,
    /// So many objects.
    pub objects: u32,
}

impl Default for PruneBudget {
    fn default() -> Self {
        Self {
            percent: 50,
            objects: 10,
        }
    }
}

impl PruneBudget {
    /// Are these more than an application may lose without a person's word? Both limits must be passed: small
    /// applications change as they like, and of large ones a part may go.
    pub fn is_exceeded_by(&self, gone: usize, kept: usize) -> bool {
        let many = gone > usize::try_from(self.objects).unwrap_or(usize::MAX);
        many && gone * 100 > (gone + kept) * usize::from(self.percent)
    }
}

/// Health of one kind, in CEL over the object as `self`. `failed` is asked first, then `inProgress`, then `current`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthRule {
    /// API group; the core group when it says nothing.
    #[serde(default)]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// True: it works.
    #[serde(default)]
    pub current: Option<String>,
    /// True: not yet.
    #[serde(default)]
    pub in_progress: Option<String>,
    /// True: it needs a person.
    #[serde(default)]
    pub failed: Option<String>,
}

/// What says nothing new is not written: a state from before a setting existed keeps its digest.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What to do with an object that exists already and belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Adoption {
    /// Take it over.
    #[default]
    Always,
    /// Take it over when an apply would change nothing.
    IfEqual,
    /// Report it, leave it.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            prune: true,
            self_heal: true,
            depends_on: Vec::new(),
            service_account: String::new(),
            adoption: Adoption::Always,
            additions: Additions::Repair,
            prune_budget: PruneBudget::default(),
            health: Vec::new(),
            detect_only: false,
            replace: false,
            take_over: Vec::new(),
            ignore: Vec::new(),
        }
    }
}

impl Desired {
    /// Puts a desired state together; applications are sorted by name.
    pub fn new(
        generation: Generation,
        mut applications: Vec<Arc<DesiredApplication>>,
        removals: Removals,
        mut approvals: Vec<Approval>,
    ) -> Self {
        applications.sort_by(|a, b| a.name.cmp(&b.name));
        approvals.sort();
        let mut desired = Self {
            generation,
            applications,
            removals,
            approvals,
            pauses: Vec::new(),
            digest: Digest::ZERO,
        };
        desired.digest = desired.digested();
        desired
    }

    /// The same with these pauses instead.
    #[must_use]
    pub fn with_pauses(mut self, mut pauses: Vec<Pause>) -> Self {
        pauses.sort();
        self.pauses = pauses;
        self.digest = self.digested();
        self
    }

    fn digested(&self) -> Digest {
        let Self {
            applications,
            removals,
            approvals,
            pauses,
            ..
        } = self;
        let mut parts: Vec<Vec<u8>> = Vec::with_capacity(2 * applications.len() + 3);
        parts.push(serde_json::to_vec(removals).expect("text can be written"));
        parts.push(serde_json::to_vec(approvals).expect("text can be written"));
        for application in applications {
            parts.push(application.name.as_str().into());
            parts.push(application.digest.as_bytes().to_vec());
        }
        // What says nothing new is not written: a state from before there were pauses keeps its digest.
        if !pauses.is_empty() {
            parts.push(serde_json::to_vec(pauses).expect("text can be written"));
        }
        Digest::of(parts)
    }

    /// The state of a cluster nobody has decided about yet: generation 0, nothing to run, nothing to remove.
    pub fn none() -> Self {
        Self::new(
            0,
            Vec::new(),
            Removals::Held("no commit has been read yet".into()),
            Vec::new(),
        )
    }

    /// Over everything but the generation and the revisions.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The same content under another generation.
    #[must_use]
    pub fn stamped(&self, generation: Generation) -> Self {
        Self {
            generation,
            ..self.clone()
        }
    }

    /// The application of that name.
    pub fn application(&self, name: &str) -> Option<&Arc<DesiredApplication>> {
        let at = self
            .applications
            .binary_search_by(|application| application.name.as_str().cmp(name));
        at.ok().map(|at| &self.applications[at])
    }
}

impl DesiredApplication {
    /// An application with objects.
    pub fn new(
        name: ApplicationName,
        revision: String,
        settings: Settings,
        objects: Vec<Arc<Object>>,
    ) -> Self {
        let settings_bytes = serde_json::to_vec(&settings).expect("settings can be written");
        let parts = [b"objects".as_slice(), &settings_bytes]
            .into_iter()
            .chain(objects.iter().map(|object| object.digest.as_ref()));
        let digest = Digest::of(parts);
        Self {
            name,
            revision,
            content: Content::Objects { settings, objects },
            digest,
        }
    }

    /// An application that is to be left as it is.
    pub fn keep(name: ApplicationName, revision: String, why: String) -> Self {
        let digest = Digest::of(["keep", &why]);
        Self {
            name,
            revision,
            content: Content::Keep(why),
            digest,
        }
    }

    /// Over settings and objects, or the reason to keep.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its objects; none when it is kept as it is.
    pub fn objects(&self) -> &[Arc<Object>] {
        match &self.content {
            Content::Objects { objects, .. } => objects,
            Content::Keep(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DigestKey;
    use serde_json::json;

    fn application(name: &str, data: &str, revision: &str) -> Arc<DesiredApplication> {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": data}});
        let object = Arc::new(Object::new(&object, &DigestKey::new([0; 32])).unwrap());
        Arc::new(DesiredApplication::new(
            name.parse().unwrap(),
            revision.into(),
            Settings::default(),
            vec![object],
        ))
    }

    fn desired(applications: Vec<Arc<DesiredApplication>>) -> Desired {
        Desired::new(1, applications, Removals::Released, Vec::new())
    }

    #[test]
    fn the_digest_follows_content_and_not_order_revision_or_generation() {
        let one = desired(vec![
            application("a", "1", "r1"),
            application("b", "1", "r1"),
        ]);
        let two = desired(vec![
            application("b", "1", "r2"),
            application("a", "1", "r2"),
        ])
        .stamped(9);
        assert_eq!(one.digest(), two.digest());
        assert_ne!(
            one.digest(),
            desired(vec![application("a", "2", "r1")]).digest()
        );
    }

    #[test]
    fn holding_removals_is_part_of_the_content() {
        let held = Desired::new(1, Vec::new(), Removals::Held("why".into()), Vec::new());
        assert_ne!(held.digest(), desired(Vec::new()).digest());
    }

    #[test]
    fn a_pause_is_part_of_the_content_and_no_pause_is_none() {
        let pause = |until| Pause {
            application: "a".parse().unwrap(),
            until: crate::Timestamp(until),
            since: crate::Timestamp(1),
            by: "admin".into(),
            reason: String::new(),
        };
        let state = desired(Vec::new());
        let paused = state.clone().with_pauses(vec![pause(9)]);
        assert_ne!(paused.digest(), state.digest());
        assert_ne!(
            paused.digest(),
            state.clone().with_pauses(vec![pause(10)]).digest()
        );
        assert_eq!(paused.with_pauses(Vec::new()), state);
        assert!(pause(9).holds(crate::Timestamp(8)) && !pause(9).holds(crate::Timestamp(9)));
    }

    #[test]
    fn an_application_is_found_by_its_name() {
        let state = desired(vec![application("b", "1", "r"), application("a", "1", "r")]);
        assert_eq!(state.application("b").unwrap().name.as_str(), "b");
        assert!(state.application("c").is_none());
    }

    #[test]
    fn a_budget_is_exceeded_when_both_its_limits_are() {
        let usual = PruneBudget::default();
        let strict = PruneBudget {
            percent: 0,
            objects: 0,
        };
        for (budget, gone, kept, waits) in [
            (usual, 10, 0, false),
            (usual, 11, 0, true),
            (usual, 11, 10, true),
            (usual, 11, 11, false),
            (usual, 500, 499, true),
            (strict, 0, 5, false),
            (strict, 1, 500, true),
        ] {
            assert_eq!(
                budget.is_exceeded_by(gone, kept),
                waits,
                "{gone} of {}",
                gone + kept
            );
        }
    }
}
