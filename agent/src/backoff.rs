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

/// Waiting times that grow with every failure: anything between nothing and 1 s, 2 s, 4 s … 60 s.
#[derive(Debug, Clone)]
pub struct Backoff {
    waits: Waits,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(waits: Waits) -> Self {
        Self { waits, failures: 0 }
    }

    /// The next wait; `random` is in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Duration {
        let doubled = self.waits.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        whole_milliseconds(doubled.min(self.waits.longest).mul_f64(random))
    }

    /// Something worked for `long`: when that is long enough, begin anew.
    pub fn worked(&mut self, long: Duration) {
        if long >= self.waits.lasted {
            self.failures = 0;
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
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.worked(Duration::from_secs(59));
        assert_eq!(backoff.next(1.0).as_secs(), 60);
        backoff.worked(Duration::from_secs(60));
        assert_eq!(backoff.next(1.0).as_secs(), 1);
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
