//! Clusters that have the same outcome, and what they are wished to run before two applications can be in each other's
//! way.

use std::sync::Arc;

use muster_proto::{ApplicationName, ClusterName};

use crate::last_good::{Placement, Placements, of};
use crate::render::Wrong;

/// Clusters that take the same targets, fill placeholders alike and ran the same before.
pub(super) struct Case<'a> {
    /// By name.
    pub(super) clusters: Vec<&'a ClusterName>,
    /// What they ran.
    pub(super) before: Option<&'a Arc<Placements>>,
    /// Placeholders that can't be filled in there, by application and target.
    pub(super) wrong: Vec<(ApplicationName, Option<usize>, Arc<Vec<Wrong>>)>,
    /// By application name.
    pub(super) wishes: Vec<Placement>,
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
            wishes: Vec::new(),
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
        put(&mut self.wishes, placement.clone());
        self.old.push(placement.clone());
    }

    pub(super) fn wishes_for(&self, application: &ApplicationName) -> bool {
        of(&self.wishes, application).is_some()
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
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.application.name.cmp(&b.application.name),
        };
        Some((
            order.is_le().then(|| before.next()).flatten(),
            order.is_ge().then(|| now.next()).flatten(),
        ))
    })
}
