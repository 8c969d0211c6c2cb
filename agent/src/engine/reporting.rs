//! What the engine says of everything, and when it begins to say it. Part of the engine's task.

use std::sync::Arc;

use futures::StreamExt as _;
use muster_proto::{ApplicationStatus, Rows, SyncStatus};

use super::state::State;
use crate::report;
use crate::since;

impl State {
    /// Has everything that is ours been looked at, and what failed before been tried again? Nothing is said before:
    /// a restart must not look like a change.
    pub(super) fn has_looked_around(&self) -> bool {
        self.watches.scopes().all(|scope| self.is_settled(scope))
            && self.queue.is_quiet()
            && self.flying.is_empty()
    }

    /// Rows that nobody was told of yet.
    pub(super) fn news(&mut self) -> Option<Arc<Rows>> {
        let rows = self.report();
        std::mem::take(&mut self.rows_untold).then_some(rows)
    }

    /// Rows of everything, anew when something changed.
    fn report(&mut self) -> Arc<Rows> {
        if !std::mem::take(&mut self.rows_changed)
            || self.desired.generation == 0 && self.objects.is_empty()
        {
            return self.rows.clone();
        }
        let now = self.clock.now();
        let lines = self.objects.iter().filter_map(|(key, object)| {
            let mut line = object.line(key, &self.guards, now)?;
            if !self.spoke {
                line.changed = object.sight.object().and_then(|seen| seen.changed);
            }
            Some(line)
        });
        let rows = report::rows(
            self.desired.generation,
            &self.desired,
            &self.resolved,
            lines,
            &self.rows,
            now,
        );
        if rows != *self.rows {
            self.rows = Arc::new(rows);
            // Some application may wait for another.
            self.queue.unblock_applications();
            self.rows_untold = true;
        }
        self.rows.clone()
    }

    /// How a commit ended is written by itself where nothing else is to be written: it is known nowhere else. Every
    /// other time waits for a write that is made anyway, because nothing is written at rest.
    pub(super) fn note_times(&mut self) {
        if !self.spoke {
            return;
        }
        let goes_on = |row: &ApplicationStatus| row.sync == SyncStatus::Progressing;
        let rows = self.report();
        let ended = self.commit_goes_on && !rows.applications().values().any(goes_on);
        if !self.unsaved.is_empty() || ended {
            self.keep_times();
            self.commit_goes_on &= !ended;
        }
    }

    /// Since when each row stands goes along with what is written.
    pub(super) fn keep_times(&mut self) {
        if self.spoke {
            let rows = self.report();
            self.unsaved.extend(since::change(&self.kept_rows, &rows));
            self.kept_rows = rows;
        }
    }

    /// The agent ends in good order: what is on its way comes back, and everything is written down.
    pub(super) async fn farewell(mut self) {
        while let Some(outcome) = self.flying.next().await {
            self.outcome(outcome);
        }
        self.keep_times();
        let change = std::mem::take(&mut self.unsaved);
        if !change.is_empty()
            && let Err(error) = self.save(&change).await
        {
            tracing::warn!(%error, "the ledger could not be written at the end: what it lacks is looked at again at the next start");
        }
    }
}
