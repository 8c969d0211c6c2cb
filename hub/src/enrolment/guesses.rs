//! How often an address was wrong lately. Pure; bounded in size whatever the number of addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use muster_proto::Timestamp;

/// Wrong tries an address has in one minute.
const TRIES: u32 = 10;
const MINUTE_MS: i64 = 60_000;
/// Addresses remembered; past that the oldest minutes are forgotten.
const ADDRESSES: usize = 10_000;

/// Wrong tries by address, each with the start of its minute.
#[derive(Debug, Default)]
pub(super) struct Guesses(HashMap<IpAddr, (Timestamp, u32)>);

impl Guesses {
    /// Whether the address still has a try.
    pub(super) fn may_try(&self, address: IpAddr, now: Timestamp) -> bool {
        match self.0.get(&address) {
            Some((since, tries)) => *tries < TRIES || over(*since, now),
            None => true,
        }
    }

    /// Counts a wrong try.
    pub(super) fn wrong(&mut self, address: IpAddr, now: Timestamp) {
        if self.0.len() >= ADDRESSES {
            self.0.retain(|_, (since, _)| !over(*since, now));
            if self.0.len() >= ADDRESSES {
                self.0.clear();
            }
        }
        let entry = self.0.entry(address).or_insert((now, 0));
        if over(entry.0, now) {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}

fn over(since: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back must not lock anyone out for longer.
    !(since.0..since.0.saturating_add(MINUTE_MS)).contains(&now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_tries_close_the_door_for_the_rest_of_the_minute_to_that_address_only() {
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut guesses = Guesses::default();
        for _ in 0..10 {
            assert!(guesses.may_try(bad, Timestamp(5)));
            guesses.wrong(bad, Timestamp(5));
        }
        assert!(!guesses.may_try(bad, Timestamp(60_004)));
        assert!(guesses.may_try(good, Timestamp(60_004)));
        assert!(guesses.may_try(bad, Timestamp(60_005)));
    }

    #[test]
    fn memory_stays_bounded() {
        let mut guesses = Guesses::default();
        for n in 0..30_000u32 {
            guesses.wrong(IpAddr::from(n.to_be_bytes()), Timestamp(0));
        }
        assert!(guesses.0.len() <= ADDRESSES);
    }
}
