//! Two applications that claim one object on a cluster: the owner in the last good state keeps it, the newcomer stays
//! as it was; where nobody owned it, the first by name owns it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, Content, DesiredApplication, Digest, ObjectKey};

use super::Variants;
use super::cases::{Case, put};
use crate::last_good::{Placement, of};
use crate::problem::{Location, Problem};
use crate::render::filled;

/// What is wished and what was before: cases with the same have the same outcome. A digest does not tell whose
/// content it is, so names belong to it.
type Question = (
    Vec<(ApplicationName, Digest)>,
    Vec<(ApplicationName, Digest)>,
);

/// Settles claims, each question once.
pub(super) struct Claims<'a> {
    variants: &'a Variants<'a>,
    locations: &'a BTreeMap<ApplicationName, Location>,
    held: HashMap<Question, Vec<ApplicationName>>,
    problems: Vec<Problem>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(
        variants: &'a Variants<'a>,
        locations: &'a BTreeMap<ApplicationName, Location>,
    ) -> Self {
        Self {
            variants,
            locations,
            held: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// Whether any two applications could collide on any cluster: whether any object is written in two, or in one and
    /// in what another one had.
    pub(super) fn are_possible(&self, cases: &[Case]) -> bool {
        let mut holders: HashMap<ObjectKey, &ApplicationName> = HashMap::new();
        let mut is_held = |key: ObjectKey, by| *holders.entry(key).or_insert(by) != by;
        for (name, key) in self.variants.all_written() {
            if is_held(key.clone(), name) {
                return true;
            }
        }
        let mut seen: HashSet<*const DesiredApplication> = HashSet::new();
        for placement in cases.iter().flat_map(|case| &case.old) {
            let application = &placement.application;
            if !seen.insert(Arc::as_ptr(application)) {
                continue;
            }
            for key in keys(placement) {
                if is_held(key, &application.name) {
                    return true;
                }
            }
        }
        false
    }

    /// What clusters run, and one of the applications that are held there, if any.
    pub(super) fn settle(
        &mut self,
        mut wished: Vec<Placement>,
        before: &[Placement],
    ) -> (Vec<Placement>, Option<ApplicationName>) {
        let question = (digests(&wished), digests(before));
        let held = match self.held.get(&question) {
            Some(held) => held.clone(),
            None => {
                let held = self.find(wished.clone(), before);
                self.held.insert(question, held.clone());
                held
            }
        };
        for name in &held {
            hold(&mut wished, before, name);
        }
        (wished, held.into_iter().next())
    }

    /// Holds newcomers until no object is claimed twice. Ends: each round holds one more application, and the last good
    /// state has no object twice.
    fn find(&mut self, mut wished: Vec<Placement>, before: &[Placement]) -> Vec<ApplicationName> {
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
                wished.retain(|placement| placement.application.name != newcomer);
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
            variants: Vec::new(),
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

fn digests(placements: &[Placement]) -> Vec<(ApplicationName, Digest)> {
    let applications = placements.iter().map(|placement| &placement.application);
    applications
        .map(|application| (application.name.clone(), application.digest()))
        .collect()
}

fn hold(wished: &mut Vec<Placement>, before: &[Placement], name: &ApplicationName) {
    match of(before, name) {
        Some(last) => put(wished, last.clone()),
        None => wished.retain(|placement| placement.application.name != *name),
    };
}

fn owners(placements: &[Placement]) -> HashMap<ObjectKey, ApplicationName> {
    let owned = placements.iter().flat_map(|placement| {
        let name = &placement.application.name;
        keys(placement).map(move |key| (key, name.clone()))
    });
    owned.collect()
}

/// The first object, in the order of applications, that two of them hold.
fn claimed_twice(
    placements: &[Placement],
) -> Option<(ObjectKey, ApplicationName, ApplicationName)> {
    let mut holders: HashMap<ObjectKey, &ApplicationName> = HashMap::new();
    for placement in placements {
        let name = &placement.application.name;
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
