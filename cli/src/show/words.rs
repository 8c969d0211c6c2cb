//! The words and numbers that every table uses: statuses with their tone, ages, revisions, labels.

use std::collections::BTreeMap;

use muster_proto::Timestamp;
use muster_proto::wire::v1;

use crate::text::{Cell, Tone};

/// A cluster that speaks with the hub.
pub(crate) const CONNECTED: &str = "connected";
/// A cluster that has been silent for too long.
pub(crate) const SILENT: &str = "unknown";
/// A cluster that has a name and no agent yet.
pub(crate) const NEVER_JOINED: &str = "never-joined";
/// A cluster that is being emptied by its agent.
pub(crate) const REMOVING: &str = "removing";
/// A cluster that a person took out of the fleet.
pub(crate) const REMOVED: &str = "removed";

/// A sync or health word in its tone. A row without one is unknown.
pub(crate) fn status(word: &str) -> Cell {
    let tone = match word {
        "Synced" | "Current" => Tone::Good,
        "Failed" | "Drifted" | "NotFound" | "PruneBlocked" => Tone::Bad,
        _ => Tone::Busy,
    };
    match word {
        "" => Cell::new("Unknown", tone),
        word => Cell::new(word, tone),
    }
}

/// A sync or health word of a cluster: what a silent cluster said last is no longer known to hold.
pub(crate) fn status_if_heard(connection: &str, word: &str) -> Cell {
    match is_heard(connection) {
        true => status(word),
        false => status("Unknown"),
    }
}

/// Does what the cluster last said still hold?
pub(crate) fn is_heard(connection: &str) -> bool {
    matches!(connection, CONNECTED | REMOVING)
}

/// A cluster's connection; for a silent one also since when.
pub(crate) fn connection(word: &str, since_ms: i64, now: Timestamp) -> Cell {
    match word {
        CONNECTED => Cell::new("Connected", Tone::Good),
        SILENT if since_ms == 0 => Cell::new("Unknown", Tone::Bad),
        SILENT => Cell::new(format!("Unknown (since {})", age(since_ms, now)), Tone::Bad),
        NEVER_JOINED => Cell::new("Never joined", Tone::Busy),
        REMOVING => Cell::new("Removing", Tone::Busy),
        REMOVED => Cell::new("Removed", Tone::Plain),
        other => Cell::new(other, Tone::Busy),
    }
}

/// How long ago: `12s`, `5m`, `3h12m`, `17h`, `2d4h`, `40d`; `-` for never.
pub(crate) fn age(then_ms: i64, now: Timestamp) -> String {
    if then_ms == 0 {
        return "-".to_owned();
    }
    // Clocks differ a little: what lies just ahead is now.
    span(now.0.saturating_sub(then_ms).max(0) / 1000)
}

/// A length of time, as [`age`] writes it.
pub(crate) fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..36_000 => pair(hours, 'h', minutes % 60, 'm'),
        36_000..86_400 => format!("{hours}h"),
        86_400..864_000 => pair(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

/// A commit as people write it; `-` before the first.
pub(crate) fn revision(revision: &str) -> String {
    let hexadecimal = revision.chars().all(|c| c.is_ascii_hexdigit());
    match revision {
        "" => "-".to_owned(),
        hash if hexadecimal && hash.len() > 7 => hash[..7].to_owned(),
        other => other.to_owned(),
    }
}

/// `part/whole`, marked while something is missing.
pub(crate) fn part(part: u32, whole: u32) -> Cell {
    let tone = match part {
        part if part >= whole => Tone::Plain,
        _ => Tone::Busy,
    };
    Cell::new(format!("{part}/{whole}"), tone)
}

/// `key=value,key=value`; `-` when there is none.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    or_dash(&pairs.join(","))
}

/// The text, or `-` for none.
pub(crate) fn or_dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

/// `1 cluster`, `2 clusters`.
pub(crate) fn count(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        many => format!("{many} {word}s"),
    }
}

/// `deployment.apps/web`, as kubectl names it.
pub(crate) fn object(key: &v1::ObjectKey) -> String {
    let kind = key.kind.to_lowercase();
    match key.group.as_str() {
        "" => format!("{kind}/{}", key.name),
        group => format!("{kind}.{group}/{}", key.name),
    }
}

/// Sentences in one line.
pub(crate) fn sentences<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

/// A moment by the calendar, UTC: `2026-11-23T10:30:05Z`.
pub(crate) fn moment(ms: i64) -> String {
    jiff::Timestamp::from_second(ms / 1000).map_or_else(|_| "-".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_keep_two_units_where_the_second_still_matters() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (3 * 3600 + 12 * 60, "3h12m"),
            (17 * 3600 + 59, "17h"),
            (2 * 86_400 + 4 * 3600, "2d4h"),
            (40 * 86_400, "40d"),
        ] {
            assert_eq!(age(5_000, Timestamp(5_000 + seconds * 1000)), text);
        }
        assert_eq!(age(0, Timestamp(1)), "-");
        assert_eq!(
            age(9_000, Timestamp(1_000)),
            "0s",
            "the hub's clock is ahead"
        );
    }

    #[test]
    fn only_hashes_are_cut() {
        assert_eq!(revision("4be1c2a900fe"), "4be1c2a");
        assert_eq!(revision("release-2026-11"), "release-2026-11");
        assert_eq!(revision(""), "-");
    }
}
