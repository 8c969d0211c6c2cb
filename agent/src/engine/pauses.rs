//! Which applications are paused, looked at again when that may have changed. Part of the engine's task.

use std::time::Duration;

use tokio::time::Instant;

use super::state::State;
use crate::plan::Paused;

/// The time of day may jump (a sleeping machine, a corrected clock): while something is paused it is looked at this
/// often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl State {
    /// Judges the pauses of the accepted state by the time of day; what is no longer paused is decided about anew.
    pub(super) fn look_at_pauses(&mut self, now: Instant) {
        let clock = self.clock.now();
        let paused = Paused::at(&self.desired.pauses, clock);
        let standing = self.desired.pauses.iter();
        let standing = standing.filter(|pause| pause.holds(clock));
        self.pauses_at = standing
            .map(|pause| {
                let left = u64::try_from(pause.until.0 - clock.0).unwrap_or(0);
                now + Duration::from_millis(left).min(LOOK_EVERY)
            })
            .min();
        if paused == self.guards.paused {
            return;
        }
        tracing::info!(?paused, "what is paused has changed");
        self.guards.paused = paused;
        self.queue.dirty.extend(self.objects.keys().cloned());
        self.rows_changed = true;
    }
}
