//! Do two agents claim one cluster? Told from which process (`instance`) dials when. Pure.
//!
//! An agent that restarts has a new instance and the old one never comes back. An instance that comes back after
//! another took its place shows that both live.

use muster_proto::Timestamp;

/// A dispute is shown for so long after its last sign.
const SHOWN_MS: i64 = 10 * 60 * 1000;
/// So many replaced instances are remembered.
const REMEMBERED: usize = 16;

/// Which instances dialled for one cluster.
#[derive(Debug, Default)]
pub(super) struct Claims {
    newest: Option<String>,
    replaced: Vec<String>,
    disputed_at: Option<Timestamp>,
    disputed_since: Option<Timestamp>,
}

impl Claims {
    /// An instance begins a session.
    pub(super) fn begins(&mut self, instance: &str, now: Timestamp) {
        if self.newest.as_deref() == Some(instance) {
            return;
        }
        if let Some(at) = self
            .replaced
            .iter()
            .position(|replaced| replaced == instance)
        {
            self.replaced.remove(at);
            self.disputed(now);
        }
        if let Some(old) = self.newest.replace(instance.to_owned()) {
            self.replaced.push(old);
            if self.replaced.len() > REMEMBERED {
                self.replaced.remove(0);
            }
        }
    }

    /// Somebody else showed this cluster's credentials.
    pub(super) fn disputed(&mut self, now: Timestamp) {
        if self.since(now).is_none() {
            self.disputed_since = Some(now);
        }
        self.disputed_at = Some(now);
    }

    /// Since when two agents claim the cluster, if they do.
    pub(super) fn since(&self, now: Timestamp) -> Option<Timestamp> {
        let fresh = self.disputed_at.is_some_and(|at| now.0 - at.0 < SHOWN_MS);
        self.disputed_since.filter(|_| fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disputed(instances: &[&str]) -> Option<Timestamp> {
        let mut claims = Claims::default();
        for (at, instance) in instances.iter().enumerate() {
            claims.begins(instance, Timestamp(at as i64));
        }
        claims.since(Timestamp(100))
    }

    #[test]
    fn reconnects_and_restarts_are_no_dispute() {
        assert_eq!(disputed(&["a", "a", "b", "b", "c"]), None);
    }

    #[test]
    fn an_instance_that_comes_back_after_another_is_one() {
        assert_eq!(disputed(&["a", "b", "a", "b"]), Some(Timestamp(2)));
    }

    #[test]
    fn a_dispute_is_over_when_it_was_quiet_for_long() {
        let mut claims = Claims::default();
        claims.disputed(Timestamp(5));
        claims.disputed(Timestamp(SHOWN_MS));
        assert_eq!(claims.since(Timestamp(SHOWN_MS + 1)), Some(Timestamp(5)));
        assert_eq!(claims.since(Timestamp(2 * SHOWN_MS)), None);
    }
}
