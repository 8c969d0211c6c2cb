//! Judges removals by what Git meant: they are released only by a state that is one whole commit, and an object goes only
//! when such a state does not have it (invariant 6).
//!
//! In: commits as they are made, states as they are accepted. Out: what must not be. A commit in which anything is
//! broken means nothing here: whatever is broken could hold any object.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::{Desired, Generation, Removals};
use tokio::time::Instant;

use super::super::cluster::{Contents, contents};

/// A deletion that was decided by one state may be sent so long after the next one was accepted: it looks at the object
/// first, and calls are late.
const ON_ITS_WAY: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(super) struct Removing {
    /// In their order.
    commits: Vec<Commit>,
    states: Vec<State>,
}

pub(super) struct Commit {
    pub(super) revision: String,
    /// None when anything in it is broken.
    pub(super) meant: Option<Contents>,
}

struct State {
    desired: Arc<Desired>,
    contents: Contents,
    /// When the next one was accepted.
    until: Option<Instant>,
}

impl Removing {
    pub(super) fn committed(&mut self, commit: Commit) {
        self.commits.push(commit);
    }

    /// Takes in a state that was accepted.
    ///
    /// # Errors
    /// When it releases removals and is no whole commit.
    pub(super) fn accepted(&mut self, desired: Arc<Desired>) -> Result<(), String> {
        if let Some(last) = self.states.last_mut() {
            if last.desired == desired {
                return Ok(());
            }
            last.until = Some(Instant::now());
        }
        let contents = contents(&desired);
        let meant = self.is_a_commit(&desired, &contents);
        let (generation, removals) = (desired.generation, desired.removals.clone());
        let state = State {
            desired,
            contents,
            until: None,
        };
        self.states.push(state);
        match removals {
            Removals::Released if generation > 0 && !meant => Err(format!(
                "invariant 6: generation {generation} releases removals, and is no whole commit"
            )),
            _ => Ok(()),
        }
    }

    /// Whether a commit of which nothing is broken means exactly this: one that is not older than any of its parts.
    fn is_a_commit(&self, desired: &Desired, contents: &Contents) -> bool {
        let revisions = desired.applications.iter().map(|of| of.revision.as_str());
        let newest = revisions.max().unwrap_or_default();
        let commits = self.commits.iter();
        let mut candidates = commits.filter(|commit| commit.revision.as_str() >= newest);
        candidates.any(|commit| commit.meant.as_ref() == Some(contents))
    }

    /// Whether the object of this name may be deleted now.
    ///
    /// # Errors
    /// By which states it may not.
    pub(super) fn deleted(&self, name: &str) -> Result<(), String> {
        let recent = |state: &&State| state.until.is_none_or(|until| until.elapsed() < ON_ITS_WAY);
        let recent: Vec<&State> = self.states.iter().filter(recent).collect();
        let lets = |state: &&State| {
            state.desired.removals == Removals::Released && !state.contents.contains_key(name)
        };
        if recent.iter().any(lets) {
            return Ok(());
        }
        let states = recent.iter().map(|state| {
            let has = state.contents.contains_key(name);
            (state.desired.generation, has, &state.desired.removals)
        });
        let states: Vec<(Generation, bool, &Removals)> = states.collect();
        Err(format!(
            "invariant 6: {name} is deleted, and none of these lets it go (generation, has it, removals): {states:?}"
        ))
    }

    /// The states that were accepted, oldest first.
    pub(super) fn states(&self) -> impl Iterator<Item = &Arc<Desired>> {
        self.states.iter().map(|state| &state.desired)
    }
}
