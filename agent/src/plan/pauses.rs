//! What a pause makes of a plan: everything is still looked at, and nothing is written. Pure; time is an argument.

use std::collections::BTreeMap;

use muster_proto::{ApplicationName, Pause, Timestamp};

use super::Step;

/// Applications that are paused now, each with the words for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paused(BTreeMap<ApplicationName, String>);

impl Paused {
    /// Those of these pauses that hold at `now`.
    pub(crate) fn at(pauses: &[Pause], now: Timestamp) -> Self {
        let standing = pauses.iter().filter(|pause| pause.holds(now));
        Self(
            standing
                .map(|pause| (pause.application.clone(), in_words(pause)))
                .collect(),
        )
    }

    /// Why nothing is written for these applications; `None` when none of them is paused. An object that moves from
    /// one application to another is in the hands of both.
    pub(crate) fn any<'a>(
        &self,
        applications: impl IntoIterator<Item = &'a ApplicationName>,
    ) -> Option<&str> {
        let mut words = applications.into_iter().map(|name| self.0.get(name));
        words.find_map(|words| words.map(String::as_str))
    }
}

/// The step that is left of one while its application is paused.
pub(crate) fn under_pause(step: Step, why: &str) -> Step {
    match step {
        Step::Apply => Step::Wait(format!("{why}: what Git states waits")),
        Step::Repair(kind) => Step::Leave(kind),
        Step::Prune => Step::Blocked(format!("{why}: it left Git and waits to be removed")),
        still => still,
    }
}

/// `paused until 2026-11-23T13:06:40Z by anna (looking)`.
fn in_words(pause: &Pause) -> String {
    let until = jiff::Timestamp::from_second(pause.until.0.div_euclid(1000))
        .map_or_else(|_| "further notice".to_owned(), |at| at.to_string());
    match pause.reason.as_str() {
        "" => format!("paused until {until} by {}", pause.by),
        reason => format!("paused until {until} by {} ({reason})", pause.by),
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::DriftKind;

    use super::*;

    #[test]
    fn a_paused_plan_writes_nothing_and_hides_nothing() {
        let wait = |text: &str| Step::Wait(format!("paused{text}"));
        for (step, left) in [
            (Step::Apply, wait(": what Git states waits")),
            (
                Step::Repair(DriftKind::Changed),
                Step::Leave(DriftKind::Changed),
            ),
            (
                Step::Repair(DriftKind::Missing),
                Step::Leave(DriftKind::Missing),
            ),
            (
                Step::Prune,
                Step::Blocked("paused: it left Git and waits to be removed".into()),
            ),
            (Step::InSync, Step::InSync),
            (Step::Look, Step::Look),
            (Step::Conflict("x".into()), Step::Conflict("x".into())),
            (Step::Stays("x".into()), Step::Stays("x".into())),
            (Step::Abandon("x".into()), Step::Abandon("x".into())),
        ] {
            assert_eq!(under_pause(step.clone(), "paused"), left, "{step:?}");
        }
    }

    #[test]
    fn a_pause_holds_until_its_end_for_its_application_alone() {
        let name = |name: &str| name.parse::<ApplicationName>().unwrap();
        let pause = Pause {
            application: name("shop"),
            until: Timestamp(1_795_435_600_000),
            since: Timestamp(1),
            by: "anna".into(),
            reason: "looking".into(),
        };
        let paused = Paused::at(std::slice::from_ref(&pause), Timestamp(pause.until.0 - 1));
        assert_eq!(
            paused.any([&name("web"), &name("shop")]),
            Some("paused until 2026-11-23T12:06:40Z by anna (looking)")
        );
        assert_eq!(paused.any([&name("web")]), None);
        assert_eq!(
            Paused::at(std::slice::from_ref(&pause), pause.until),
            Paused::default()
        );
    }
}
