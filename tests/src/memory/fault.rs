//! Faults that a test asks for: of single calls by a [`Rule`], or of any call with some probability ([`Faults`]).
//!
//! In: a rule, set while the server runs. Out: for each call, whether it fails and how. The same [`Faults`] and the
//! same calls give the same faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::state::mixed;

/// One call, as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `get list watch create update patch apply delete deletecollection`.
    pub verb: &'a str,
    /// The path.
    pub path: &'a str,
    /// The User-Agent.
    pub agent: &'a str,
    /// The field manager: as the query says, else the first word of the User-Agent.
    pub manager: &'a str,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is answered with this HTTP status, and has no effect. A 429 says to come again after a second.
    Status(u16),
    /// The call takes this long, and is done then.
    Late(Duration),
    /// The connection ends before the call arrives: it has no effect.
    Undelivered,
    /// The call is done, and the connection ends before the answer.
    Unanswered,
    /// A watch is cut off after this time, in the middle of a line. Other calls are done as ever.
    Cut(Duration),
}

/// Decides which calls fail.
pub type Rule = Arc<dyn Fn(&Call<'_>) -> Option<Fault> + Send + Sync>;

impl Call<'_> {
    /// Whether the call would change anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

/// Of a thousand calls so many fail, each in one way at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Where chance comes from.
    pub seed: u64,
    /// Calls that take up to [`Faults::latest`] longer.
    pub late: u16,
    /// How long a late call takes at most.
    pub latest: Duration,
    /// Writes answered with 409.
    pub conflicts: u16,
    /// Calls answered with 429.
    pub too_many: u16,
    /// Calls answered with 500 or 503.
    pub errors: u16,
    /// Calls that do not arrive.
    pub undelivered: u16,
    /// Writes that are done, and not answered.
    pub unanswered: u16,
    /// Watches that are cut off within [`Faults::latest`].
    pub cut: u16,
}

impl Faults {
    /// The rule that makes them.
    #[must_use]
    pub fn rule(self) -> Rule {
        let number = AtomicU64::new(0);
        Arc::new(move |call| self.of(number.fetch_add(1, Ordering::SeqCst), call))
    }

    /// The fault of the call with this number.
    fn of(&self, number: u64, call: &Call<'_>) -> Option<Fault> {
        let chance = mixed(self.seed ^ mixed(number));
        let latest = u64::try_from(self.latest.as_micros()).unwrap_or(u64::MAX);
        let time = Duration::from_micros(mixed(chance) % latest.max(1));
        let only = |holds: bool, share: u16| if holds { share } else { 0 };
        let writes = call.writes();
        let error = if chance & (1 << 40) == 0 { 500 } else { 503 };
        let shares = [
            (self.late, Fault::Late(time)),
            (only(writes, self.conflicts), Fault::Status(409)),
            (self.too_many, Fault::Status(429)),
            (self.errors, Fault::Status(error)),
            (self.undelivered, Fault::Undelivered),
            (only(writes, self.unanswered), Fault::Unanswered),
            (only(call.verb == "watch", self.cut), Fault::Cut(time)),
        ];
        let mut left = chance % 1000;
        for (share, fault) in shares {
            match left.checked_sub(u64::from(share)) {
                Some(less) => left = less,
                None => return Some(fault),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Call<'_> = Call {
        verb: "apply",
        path: "",
        agent: "",
        manager: "",
    };

    #[test]
    fn the_same_seed_gives_the_same_faults_and_about_as_many_as_asked_for() {
        let faults = Faults {
            seed: 7,
            conflicts: 50,
            unanswered: 100,
            cut: 500,
            ..Faults::default()
        };
        let run = |faults: Faults| -> Vec<Option<Fault>> {
            let rule = faults.rule();
            (0..10_000).map(|_| rule(&WRITE)).collect()
        };
        let all = run(faults);
        assert_eq!(all, run(faults));
        assert_ne!(all, run(Faults { seed: 8, ..faults }));
        let count = |fault| all.iter().filter(|f| **f == Some(fault)).count();
        assert!((400..600).contains(&count(Fault::Status(409))));
        assert!((850..1150).contains(&count(Fault::Unanswered)));
        assert!(!all.iter().flatten().any(|f| matches!(f, Fault::Cut(_))));
        let reads = Call {
            verb: "list",
            ..WRITE
        };
        let rule = faults.rule();
        assert!((0..1000).all(|_| rule(&reads).is_none()));
    }
}
