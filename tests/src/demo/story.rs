//! The story, step by step. Each does one thing to the fleet and waits until the API servers and `muster` have both
//! seen what must come of it; what a step throws is what they saw instead.

mod by_hand;
mod steps;

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::fleet::APPLICATIONS;
use super::look::History;
use super::screen::Screen;
use super::stage::Stage;

/// How one step went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    /// From what was done until both had seen what came of it.
    pub(super) seconds: f64,
}

impl Outcome {
    /// In whole milliseconds.
    pub(super) fn new(step: Step, ok: bool, took: Duration) -> Self {
        Self {
            name: step.name(),
            ok,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

/// The steps in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    FirstSync,
    Release,
    HandEdit,
    Join,
    HubRestart,
    BrokenCommit,
    Revert,
    Prune,
}

impl Step {
    pub(super) const ALL: [Self; 8] = [
        Self::FirstSync,
        Self::Release,
        Self::HandEdit,
        Self::Join,
        Self::HubRestart,
        Self::BrokenCommit,
        Self::Revert,
        Self::Prune,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstSync => "first sync",
            Self::Release => "a commit that changes production only",
            Self::HandEdit => "a hand edit is repaired",
            Self::Join => "a cluster joins by its token",
            Self::HubRestart => "the hub restarts, and a hand edit is repaired without it",
            Self::BrokenCommit => "a broken commit changes nothing",
            Self::Revert => "git revert",
            Self::Prune => "an application is removed and pruned",
        }
    }

    /// What it is there to show.
    pub(super) fn aim(self) -> &'static str {
        match self {
            Self::FirstSync => "Clusters join by one-time tokens, and get what Git wants of them.",
            Self::Release => {
                "One of three applications changes, for production; nothing else does."
            }
            Self::HandEdit => "What a person changes in a cluster is put back as Git has it.",
            Self::Join => "Git does not name it: its labels come with its token.",
            Self::HubRestart => "Agents go on repairing while the hub is away.",
            Self::BrokenCommit => {
                "What can't be read is named with file and line; all stays as it is."
            }
            Self::Revert => "Recovery is one command of Git.",
            Self::Prune => "What leaves Git leaves the clusters, and nothing else does.",
        }
    }
}

/// Plays all steps up to the first that fails.
///
/// # Errors
/// The step that failed, and what was seen. The outcomes on the screen tell the same.
pub(super) async fn play(stage: &mut Stage, screen: &Screen, within: Duration) -> Result<()> {
    let mut story = Story {
        stage,
        screen,
        within,
        release: "1",
        applications: APPLICATIONS.map(|application| application.name).to_vec(),
        history: History::new(),
    };
    for step in Step::ALL {
        screen.begin(step).await;
        let played = story.step(step).await;
        screen.end(played.is_ok()).await;
        played.with_context(|| format!("the step `{}` failed", step.name()))?;
    }
    Ok(())
}

struct Story<'a> {
    stage: &'a mut Stage,
    screen: &'a Screen,
    /// How long what must come may take.
    within: Duration,
    /// Of `web` on production clusters.
    release: &'static str,
    applications: Vec<&'static str>,
    history: History,
}
