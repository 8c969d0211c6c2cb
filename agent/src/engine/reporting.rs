//! What the engine says of everything, and when it begins to say it. Part of the engine's task.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::Rows;
use tokio::time::Instant;

use super::state::State;
use crate::report;
use crate::since;

/// Times alone are written this long after they changed,
const KEEP_AFTER: Duration = Duration::from_secs(5);
/// and not more often than this: something may come and go all day.
const KEEP_EVERY: Duration = Duration::from_secs(60);

impl State {
    /// Has everything that is ours been looked at, and what failed before been tried again? Nothing is said before:
    /// a restart must not look like a change.
    pub(super) fn has_looked_around(&self) -> bool {
        self.watches.kinds().all(|id| self.is_settled(id))
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
        let lines = self
            .objects
            .iter()
            .filter_map(|(key, object)| object.line(key, &self.guards, now));
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
            let due = (Instant::now() + KEEP_AFTER).max(self.keep_rows_not_before);
            self.keep_rows_at.get_or_insert(due);
        }
        self.rows.clone()
    }

    /// Since when each row stands goes along with whatever is written, and alone when it is time.
    pub(super) fn note_times(&mut self, now: Instant) {
        let due = self.keep_rows_at.is_some_and(|at| at <= now);
        if (self.unsaved.is_empty() && !due) || self.save_not_before.is_some_and(|at| at > now) {
            return;
        }
        let rows = self.report();
        self.keep_rows_at = None;
        let change = since::change(&self.kept_rows, &rows);
        if !change.is_empty() {
            if self.unsaved.is_empty() {
                self.keep_rows_not_before = now + KEEP_EVERY;
            }
            self.unsaved.extend(change);
            self.kept_rows = rows;
        }
    }
}
