//! The clock of one step. It stands still while a person looks, so that what is measured is what Muster took.

use std::time::{Duration, Instant};

/// Runs, or stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// Before it was made to run last.
    gone: Duration,
    since: Option<Instant>,
}

impl Clock {
    /// One that runs from zero.
    pub(super) fn started(at: Instant) -> Self {
        Self {
            gone: Duration::ZERO,
            since: Some(at),
        }
    }

    /// Lets it stand.
    pub(super) fn stand(&mut self, at: Instant) {
        self.gone = self.reading(at);
        self.since = None;
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self, at: Instant) {
        self.stand(at);
        self.since = Some(at);
    }

    /// How long it ran.
    pub(super) fn reading(&self, at: Instant) -> Duration {
        let running = self.since.map(|since| at.saturating_duration_since(since));
        self.gone + running.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_only_while_it_runs() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(Clock::default().reading(after(9)), Duration::ZERO);
        let mut clock = Clock::started(begun);
        assert_eq!(clock.reading(after(2)), Duration::from_secs(2));
        clock.stand(after(2));
        assert_eq!(clock.reading(after(5)), Duration::from_secs(2));
        clock.go_on(after(5));
        clock.go_on(after(6));
        assert_eq!(clock.reading(after(7)), Duration::from_secs(4));
    }
}
