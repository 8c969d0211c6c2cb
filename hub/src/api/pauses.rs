//! Pauses: what people may ask for, and how those that stand are told. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_proto::wire::v1;
use muster_proto::{ApplicationName, Pause};

use crate::view::ClusterView;

/// How long a pause is unless told.
const USUAL: Duration = Duration::from_secs(3600);
/// The longest: what has to stay for longer belongs into Git.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest reason.
const LONGEST_REASON: usize = 256;

/// How long a pause that was asked for is; 0 asks for the usual.
pub(super) fn length(seconds: i64) -> Result<Duration, String> {
    match u64::try_from(seconds).map(Duration::from_secs) {
        Ok(Duration::ZERO) => Ok(USUAL),
        Ok(length) if length <= LONGEST => Ok(length),
        _ => Err(
            "a pause is 7 days at most: for longer, set `sync.selfHeal: false` in Git, or pause again before it ends"
                .into(),
        ),
    }
}

/// A reason as it is kept.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() <= LONGEST_REASON && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("a reason is one line of 256 characters at most".into()),
    }
}

/// The pauses on these clusters, one for each word of a person; of one application, unless `of` is none.
pub(super) fn standing<'a>(
    clusters: impl Iterator<Item = &'a ClusterView>,
    of: Option<&ApplicationName>,
) -> Vec<v1::Paused> {
    let mut words: BTreeMap<&Pause, Vec<String>> = BTreeMap::new();
    for cluster in clusters {
        for pause in &cluster.pauses {
            if of.is_none_or(|of| *of == pause.application) {
                words
                    .entry(pause)
                    .or_default()
                    .push(cluster.name.to_string());
            }
        }
    }
    let told = words.into_iter().map(|(pause, clusters)| v1::Paused {
        application: pause.application.to_string(),
        clusters,
        until_ms: pause.until.0,
        since_ms: pause.since.0,
        by: pause.by.clone(),
        reason: pause.reason.clone(),
    });
    told.collect()
}

/// On how many clusters each application is paused.
pub(super) fn counts<'a>(
    clusters: impl Iterator<Item = &'a ClusterView>,
) -> BTreeMap<&'a str, u32> {
    let mut counts = BTreeMap::new();
    for pause in clusters.flat_map(|cluster| &cluster.pauses) {
        *counts.entry(pause.application.as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_an_hour_unless_told_and_seven_days_at_most() {
        for (seconds, length_or) in [
            (0, Some(3600)),
            (90, Some(90)),
            (604_800, Some(604_800)),
            (604_801, None),
            (-1, None),
        ] {
            assert_eq!(
                length(seconds).ok(),
                length_or.map(Duration::from_secs),
                "{seconds}"
            );
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason(" looking ").as_deref(), Ok("looking"));
        assert!(reason("a\nb").is_err() && reason(&"x".repeat(257)).is_err());
    }
}
