//! What applications hold, by digest: what an agent that comes back may have already need not be sent again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use muster_proto::{ApplicationName, DesiredApplication, Digest};

/// Content that no cluster wants any more is known for so many decisions, for agents that come back with it.
const RETIRED_DECISIONS: usize = 4;

/// Application contents by digest: what is wanted now, and what was until lately.
#[derive(Default)]
pub(super) struct Contents {
    current: HashMap<Digest, Arc<DesiredApplication>>,
    retired: VecDeque<HashMap<Digest, Arc<DesiredApplication>>>,
}

impl Contents {
    pub(super) fn replace(&mut self, current: HashMap<Digest, Arc<DesiredApplication>>) {
        let mut old = std::mem::replace(&mut self.current, current);
        old.retain(|digest, _| !self.current.contains_key(digest));
        if !old.is_empty() {
            self.retired.push_front(old);
            self.retired.truncate(RETIRED_DECISIONS);
        }
    }

    /// What an application of that name and digest holds. Another one may hold the same: it was renamed, say.
    pub(super) fn get(
        &self,
        name: &ApplicationName,
        digest: Digest,
    ) -> Option<Arc<DesiredApplication>> {
        let found = std::iter::once(&self.current)
            .chain(&self.retired)
            .find_map(|contents| contents.get(&digest))?;
        if found.name == *name {
            return Some(found.clone());
        }
        let mut same = DesiredApplication::clone(found);
        same.name = name.clone();
        Some(Arc::new(same))
    }
}
