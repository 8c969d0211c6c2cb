//! How long to wait before the next try: exponential, with full jitter, so that ten thousand agents that lost their hub
//! in the same second come back spread out.
//!
//! In: a random number, and how patient to be. Out: a duration. Pure; the caller sleeps.

use std::time::Duration;

/// How patient the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// The most that the first retry waits.
    pub first: Duration,
    /// The most that any retry waits.
    pub longest: Duration,
    /// What worked for as long was good: the next failure is a first one.
    pub lasted: Duration,
    /// How often a hub that has turned this cluster away is asked again, on average.
    pub rarely: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            lasted: Duration::from_secs(60),
            rarely: Duration::from_secs(600),
        }
    }
}

/// Waiting times that grow with the outage: anything between nothing and as long as was waited so far, 1 s at least
/// and 60 s at most. So a hub that was away for two seconds is found again within two more, however often it was tried
/// meanwhile.
#[derive(Debug, Clone)]
pub struct Backoff {
    waits: Waits,
    waited: Duration,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(waits: Waits) -> Self {
        Self {
            waits,
            waited: Duration::ZERO,
        }
    }

    /// The next wait; `random` is in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Duration {
        let most = self.waited.max(self.waits.first).min(self.waits.longest);
        let wait = whole_milliseconds(most.mul_f64(random));
        self.waited = self.waited.saturating_add(wait);
        wait
    }

    /// Something worked for `long`: when that is long enough, begin anew.
    pub fn worked(&mut self, long: Duration) {
        if long >= self.waits.lasted {
            self.waited = Duration::ZERO;
        }
    }

    /// The wait of one who was turned away: around [`Waits::rarely`].
    pub fn rarely(&self, random: f64) -> Duration {
        whole_milliseconds(self.waits.rarely.mul_f64(0.5 + random))
    }
}

/// For people who read it in a log.
fn whole_milliseconds(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// Evenly in `0.0..1.0`, by the operating system.
pub fn random() -> f64 {
    let mut bytes = [0; 4];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    // A system without randomness could not have made a key either; any number serves to wait.
    filled.map_or(0.5, |()| {
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_good_minute() {
        let mut backoff = Backoff::new(Waits::default());
        let seconds: Vec<u64> = (0..9).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.worked(Duration::from_secs(59));
        assert_eq!(backoff.next(1.0).as_secs(), 60);
        backoff.worked(Duration::from_secs(60));
        assert_eq!(backoff.next(1.0).as_secs(), 1);
    }

    #[test]
    fn no_wait_is_longer_than_the_outage_so_far_unless_that_was_less_than_a_second() {
        let mut backoff = Backoff::new(Waits::default());
        let mut away = Duration::ZERO;
        // As unlucky as it was seen: short waits at first, and then the longest.
        for random in [0.1, 0.9, 0.2, 0.1, 1.0, 1.0, 1.0] {
            let wait = backoff.next(random);
            assert!(
                wait <= away.max(Duration::from_secs(1)),
                "{wait:?} after {away:?}"
            );
            away += wait;
        }
        assert!(away > Duration::from_secs(5));
    }

    #[test]
    fn jitter_is_full() {
        let mut backoff = Backoff::new(Waits {
            first: Duration::from_secs(60),
            ..Waits::default()
        });
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.5), Duration::from_secs(30));
        let spread: std::collections::BTreeSet<u64> =
            (0..100).map(|_| backoff.next(random()).as_secs()).collect();
        assert!(
            spread.len() > 10 && spread.iter().all(|&seconds| seconds < 60),
            "{spread:?}"
        );
    }
}
