//! Chance from a seed: the same numbers in the same order, always.

use std::cell::RefCell;
use std::time::Duration;

/// A generator (SplitMix64).
pub(crate) struct Chance(u64);

thread_local! {
    /// Of the history on this thread, for the agent's session, which takes a plain function. Nobody else draws from it:
    /// how often libraries draw from theirs depends on which of their tasks runs first.
    static JITTER: RefCell<Chance> = const { RefCell::new(Chance(0)) };
}

/// A history begins on this thread.
pub(super) fn begin_jitter(seed: u64) {
    JITTER.set(Chance::new(seed));
}

/// Evenly in `0.0..1.0`.
pub(super) fn jitter() -> f64 {
    const WHOLE: u64 = 1 << 32;
    let drawn = JITTER.with_borrow_mut(|jitter| jitter.below(WHOLE));
    f64::from(u32::try_from(drawn).unwrap_or(0)) / 4_294_967_296.0
}

impl Chance {
    /// Seeds are mixed, so that the numbers of one are not those of its neighbour, a few later.
    pub(super) fn new(seed: u64) -> Self {
        Self(Self(seed).next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these.
    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = self.below(of.len() as u64);
        &of[usize::try_from(index).unwrap_or(0)]
    }

    /// Up to so many milliseconds; short times as often as long ones.
    pub(super) fn time(&mut self, most: u64) -> Duration {
        let most = 1 + self.below(most);
        Duration::from_millis(self.below(most))
    }
}
