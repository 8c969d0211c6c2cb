//! Two applications that claim one object on a cluster: the owner in the last good state keeps it, the newcomer stays
//! as it was; where nobody owned it, the first by name owns it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, Content, DesiredApplication, Digest, ObjectKey};

use super::Variants;
use crate::last_good::Placement;
use crate::problem::{Location, Problem};
use crate::render::filled;

type Placements = BTreeMap<ApplicationName, Placement>;
/// What is wished and what was before: clusters with the same have the same outcome. A digest does not tell whose
/// content it is, so names belong to it.
type Case = (
    Vec<(ApplicationName, Digest)>,
    Vec<(ApplicationName, Digest)>,
);

/// Settles claims, once for all clusters in the same case.
pub(super) struct Claims<'a> {
    variants: &'a Variants,
    locations: &'a BTreeMap<ApplicationName, Location>,
    held: HashMap<Case, Vec<ApplicationName>>,
    problems: Vec<Problem>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(
        variants: &'a Variants,
        locations: &'a BTreeMap<ApplicationName, Location>,
    ) -> Self {
        Self {
            variants,
            locations,
            held: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// What a cluster runs, and one of the applications that are held there, if any.
    pub(super) fn settle(
        &mut self,
        mut wished: Placements,
        before: Placements,
    ) -> (Placements, Option<ApplicationName>) {
        let case = (digests(&wished), digests(&before));
        let held = match self.held.get(&case) {
            Some(held) => held.clone(),
            None => {
                let held = self.find(wished.clone(), &before);
                self.held.insert(case, held.clone());
                held
            }
        };
        for name in &held {
            hold(&mut wished, &before, name);
        }
        (wished, held.into_iter().next())
    }

    /// Holds newcomers until no object is claimed twice. Ends: each round holds one more application, and the last good
    /// state has no object twice.
    fn find(&mut self, mut wished: Placements, before: &Placements) -> Vec<ApplicationName> {
        let owned = owners(before);
        let mut held: Vec<ApplicationName> = Vec::new();
        while let Some((key, first, second)) = claimed_twice(&wished) {
            let second_owns = owned.get(&key) == Some(&second);
            let second_must_stay = held.contains(&second) && !held.contains(&first);
            let (owner, newcomer) = match second_owns || second_must_stay {
                true => (second, first),
                false => (first, second),
            };
            if held.contains(&newcomer) {
                // Both are as they were and still collide: the store was damaged. Only one can be there.
                wished.remove(&newcomer);
                continue;
            }
            let problem = self.problem(&key, &owner, &newcomer);
            self.problems.push(problem);
            hold(&mut wished, before, &newcomer);
            held.push(newcomer);
        }
        held
    }

    fn problem(
        &self,
        key: &ObjectKey,
        owner: &ApplicationName,
        newcomer: &ApplicationName,
    ) -> Problem {
        let place = |name: &ApplicationName| {
            let written = self.variants.written(name, key);
            written.or_else(|| self.locations.get(name)).cloned()
        };
        let of_owner = place(owner).map(|location| format!(" ({location})"));
        Problem {
            application: Some(newcomer.clone()),
            cluster: None,
            location: place(newcomer),
            message: format!(
                "{key} belongs to application {owner}{}: application {newcomer} keeps what it had until one of them gives it up",
                of_owner.unwrap_or_default()
            ),
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// Whether any two applications could collide on any cluster: whether any object is in the renderings of two.
pub(super) fn are_possible<'p>(placements: impl Iterator<Item = &'p Placement>) -> bool {
    let mut seen: HashSet<*const DesiredApplication> = HashSet::new();
    let mut holders: HashMap<ObjectKey, &ApplicationName> = HashMap::new();
    for placement in placements {
        let application = &placement.application;
        if !seen.insert(Arc::as_ptr(application)) {
            continue;
        }
        for key in keys(placement) {
            let holder = *holders.entry(key).or_insert(&application.name);
            if *holder != application.name {
                return true;
            }
        }
    }
    false
}

fn digests(placements: &Placements) -> Vec<(ApplicationName, Digest)> {
    let digest = |(name, placement): (&ApplicationName, &Placement)| {
        (name.clone(), placement.application.digest())
    };
    placements.iter().map(digest).collect()
}

fn hold(wished: &mut Placements, before: &Placements, name: &ApplicationName) {
    match before.get(name) {
        Some(last) => wished.insert(name.clone(), last.clone()),
        None => wished.remove(name),
    };
}

fn owners(placements: &Placements) -> HashMap<ObjectKey, ApplicationName> {
    let owned = placements
        .iter()
        .flat_map(|(name, placement)| keys(placement).map(move |key| (key, name.clone())));
    owned.collect()
}

/// The first object, in the order of applications, that two of them hold.
fn claimed_twice(placements: &Placements) -> Option<(ObjectKey, ApplicationName, ApplicationName)> {
    let mut holders: HashMap<ObjectKey, &ApplicationName> = HashMap::new();
    for (name, placement) in placements {
        for key in keys(placement) {
            if let Some(first) = holders.get(&key)
                && *first != name
            {
                return Some((key, (*first).clone(), name.clone()));
            }
            holders.insert(key, name);
        }
    }
    None
}

/// Identities as far as the hub can see them.
fn keys(placement: &Placement) -> impl Iterator<Item = ObjectKey> + '_ {
    let (namespace, objects) = match &placement.application.content {
        Content::Objects { settings, objects } => (settings.namespace.as_str(), objects.as_slice()),
        Content::Keep(_) => ("", &[][..]),
    };
    objects
        .iter()
        .map(move |object| filled(&object.key, namespace))
}
