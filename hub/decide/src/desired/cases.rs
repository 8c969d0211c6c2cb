//! Clusters that have the same outcome, and what they are wished to run before two applications can be in each other's
//! way.

use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName, DesiredApplication};

use crate::last_good::{Placement, Placements, of, side_by_side};
use crate::render::Wrong;

/// Clusters that take the same targets, fill placeholders alike and ran the same before.
pub(super) struct Case<'a> {
    /// By name.
    pub(super) clusters: Vec<&'a ClusterName>,
    /// What they ran.
    pub(super) before: Option<&'a Arc<Placements>>,
    /// Placeholders that can't be filled in there, by application and target.
    pub(super) wrong: Vec<(ApplicationName, Option<usize>, Arc<Vec<Wrong>>)>,
    pub(super) wishes: Wishes<'a>,
    /// Of these, those that this commit did not render.
    pub(super) old: Vec<Placement>,
    /// Why removals wait there.
    pub(super) held: Option<String>,
}

impl<'a> Case<'a> {
    pub(super) fn of(before: Option<&'a Arc<Placements>>) -> Self {
        Self {
            clusters: Vec::new(),
            before,
            wrong: Vec::new(),
            wishes: Wishes::over(before.map_or(&[], |before| before)),
            old: Vec::new(),
            held: None,
        }
    }

    /// What they ran.
    pub(super) fn before(&self) -> &'a [Placement] {
        self.before.map_or(&[], |before| before)
    }

    /// Leaves an application as it was.
    pub(super) fn keep(&mut self, placement: &Placement) {
        self.wishes.put(placement);
        self.old.push(placement.clone());
    }

    /// Removals wait for an application that does not render.
    pub(super) fn hold_for(&mut self, application: &ApplicationName) {
        let why = || format!("application {application} does not render");
        self.held.get_or_insert_with(why);
    }

    pub(super) fn wishes_for(&self, application: &ApplicationName) -> bool {
        of(&self.wishes, application).is_some()
    }
}

/// What clusters are wished to run, by application name. For as long as nothing differs it is what they ran: most
/// commits change few clusters, and to tell that takes no list of its own.
#[derive(Debug, Default)]
pub(super) struct Wishes<'a> {
    before: &'a [Placement],
    /// So many of these are wished for, while there is no list.
    same: usize,
    list: Option<Vec<Placement>>,
}

impl std::ops::Deref for Wishes<'_> {
    type Target = [Placement];

    fn deref(&self) -> &[Placement] {
        match &self.list {
            Some(list) => list,
            None => &self.before[..self.same],
        }
    }
}

impl<'a> Wishes<'a> {
    fn over(before: &'a [Placement]) -> Self {
        Self {
            before,
            same: 0,
            list: None,
        }
    }

    /// Wishes for what they ran, if that is what comes next.
    pub(super) fn push_same(&mut self, is_it: impl FnOnce(&Placement) -> bool) -> bool {
        let next = self.before.get(self.same).filter(|_| self.list.is_none());
        let is_next = next.is_some_and(is_it);
        self.same += usize::from(is_next);
        is_next
    }

    /// Wishes for one whose name comes after those that are there.
    pub(super) fn push(&mut self, target: &Arc<str>, application: &Arc<DesiredApplication>) {
        let is_it = |next: &Placement| {
            Arc::ptr_eq(&next.application, application) && next.target == *target
        };
        match self.push_same(is_it) {
            true => {}
            false => self.listed().push(Placement {
                target: target.clone(),
                application: application.clone(),
            }),
        }
    }

    /// Wishes for one in its place, instead of what is there of its name.
    fn put(&mut self, placement: &Placement) {
        let last = self.last().map(|last| &last.application.name);
        match last.is_none_or(|last| *last < placement.application.name) {
            true => self.push(&placement.target, &placement.application),
            false => put(self.listed(), placement.clone()),
        }
    }

    fn listed(&mut self) -> &mut Vec<Placement> {
        let before = &self.before[..self.same];
        self.list.get_or_insert_with(|| before.to_vec())
    }

    /// Whether that is what they ran.
    pub(super) fn are_as_before(&self) -> bool {
        self.list.is_none() && self.same == self.before.len()
    }

    /// `None` when that is what they ran.
    pub(super) fn into_list(mut self) -> Option<Vec<Placement>> {
        match self.are_as_before() {
            true => None,
            false => Some(std::mem::take(self.listed())),
        }
    }
}

/// Puts a placement into a list by application name.
pub(super) fn put(list: &mut Vec<Placement>, placement: Placement) {
    let name = &placement.application.name;
    match list.binary_search_by(|placed| placed.application.name.cmp(name)) {
        Ok(at) => list[at] = placement,
        Err(at) => list.insert(at, placement),
    }
}

/// Two lists by application name, side by side.
pub(super) fn both<'b, 'n>(
    before: &'b [Placement],
    now: &'n [Placement],
) -> impl Iterator<Item = (Option<&'b Placement>, Option<&'n Placement>)> {
    side_by_side(before.iter(), now.iter(), |a, b| {
        a.application.name.cmp(&b.application.name)
    })
}
