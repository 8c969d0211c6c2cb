//! The brake of the whole engine: an API server that turns one call away is asked nothing else before its time. Part
//! of the engine's task.
//!
//! In: what came of calls. Out: whether another may start. What is on its way ends. Ledger and discovery have waits of
//! their own.

use std::time::Duration;

use tokio::time::Instant;

use super::state::State;
use super::work::Outcome;
use crate::apply::Failure;

/// What priority and fairness asks of a client that it turns away.
const SHORTEST: Duration = Duration::from_secs(1);
/// The API server is left alone for no longer, whatever it asks: it may be a proxy that asks.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

impl State {
    /// Nothing more is asked for a while when this was turned away.
    pub(super) fn brake(&mut self, outcome: &Outcome) {
        let Some(wait) = outcome.failure().and_then(pause) else {
            return;
        };
        if self.brake.is_none() {
            tracing::warn!(?wait, "the API server turns calls away: it is left alone");
        }
        self.brake = self.brake.max(Some(Instant::now() + wait));
    }

    /// May another call about an object start?
    pub(super) fn may_call(&mut self, now: Instant) -> bool {
        self.brake = self.brake.filter(|at| *at > now);
        self.brake.is_none()
    }
}

/// For how long it wants to be left alone by whoever it turns away; `None` when it turned nobody away.
pub(super) fn pause(failure: &Failure) -> Option<Duration> {
    let asks = !failure.retry_after.is_zero();
    let turned_away = failure.code == 429 || failure.code == 503 && asks;
    turned_away.then(|| failure.retry_after.clamp(SHORTEST, LONGEST))
}
