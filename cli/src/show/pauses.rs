//! Pauses that stand: what nobody repairs for now, until when, and whose word it is.

use muster_proto::wire::v1;

use super::rows::{SCREENFUL, more};
use super::{Look, words};
use crate::text::{Cell, Text, Tone};

/// So many clusters are named in a row.
const NAMED: usize = 3;

/// The table; nothing when nothing is paused.
pub(crate) fn pauses(pauses: &[v1::Paused], look: Look) -> Text {
    let rows = pauses.iter().take(SCREENFUL).map(|pause| {
        vec![
            Cell::new(&pause.application, Tone::Busy),
            clusters(&pause.clusters, look).into(),
            left(pause.until_ms, look).into(),
            words::moment(pause.until_ms).into(),
            pause.by.as_str().into(),
            words::age(pause.since_ms, look.now).into(),
            words::or_dash(&pause.reason).into(),
        ]
    });
    let columns = [
        "PAUSED", "CLUSTERS", "LEFT", "UNTIL", "BY", "SINCE", "REASON",
    ];
    let mut text = Text::table(look.headers, &columns, rows.collect());
    text.append(more(pauses.len(), "muster status -o json"));
    text
}

/// `paused for 47m more`, for a row that speaks of one place; empty when it is not paused.
pub(crate) fn in_words(until_ms: i64, look: Look) -> String {
    match until_ms {
        0 => String::new(),
        until => format!("paused for {} more", left(until, look)),
    }
}

/// `paused on 2 of 5 clusters`; empty when it is paused nowhere.
pub(crate) fn counted(paused: u32, of: u32) -> String {
    match paused {
        0 => String::new(),
        all if all == of => "paused".to_owned(),
        some => format!("paused on {some} of {of} clusters"),
    }
}

/// Up to the next minute, as long as it is minutes: an hour is an hour although a moment of it has passed.
fn left(until_ms: i64, look: Look) -> String {
    let seconds = (until_ms - look.now.0).max(0).div_euclid(1000);
    words::span(match seconds {
        ..60 => seconds,
        _ => (seconds + 59) / 60 * 60,
    })
}

fn clusters(names: &[String], look: Look) -> String {
    let shown = if look.wide { usize::MAX } else { NAMED };
    let some: Vec<&str> = names.iter().take(shown).map(String::as_str).collect();
    match names.len().saturating_sub(shown) {
        0 => some.join(","),
        more => format!("{} and {more} more", some.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn a_pause_says_where_for_how_long_and_whose_word_it_is() {
        let look = example::look();
        let pause = v1::Paused {
            application: "shop".into(),
            clusters: ["eu-1", "eu-2", "eu-3", "us-1"].map(str::to_owned).into(),
            until_ms: look.now.0 + 47 * 60_000 - 1,
            since_ms: look.now.0 - 13 * 60_000,
            by: "anna".into(),
            reason: "looking at the queue".into(),
        };
        insta::assert_snapshot!(pauses(&[pause], look).paint(Paper::default()), @r"
        PAUSED   CLUSTERS                    LEFT   UNTIL                  BY     SINCE   REASON
        shop     eu-1,eu-2,eu-3 and 1 more   47m    2026-11-23T11:53:39Z   anna   13m     looking at the queue
        ");
    }

    #[test]
    fn a_row_says_how_long_it_is_left_alone() {
        let look = example::look();
        assert_eq!(in_words(0, look), "");
        assert_eq!(in_words(look.now.0 + 90_000, look), "paused for 2m more");
        assert_eq!(in_words(look.now.0 + 30_000, look), "paused for 30s more");
        assert_eq!(counted(0, 4), "");
        assert_eq!(counted(4, 4), "paused");
        assert_eq!(counted(1, 4), "paused on 1 of 4 clusters");
    }
}
