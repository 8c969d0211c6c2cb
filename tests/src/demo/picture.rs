//! The picture of the fleet, as lines of coloured words.
//!
//! In: what `muster` said last, and how far the story is. Out: who runs which revision of what, what is wrong, the steps
//! with their times, and what happens now. All of it stays in its place on a screen of 80 by 24.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::follow::{Fleet, rows, text};
use super::story::{Outcome, Step};

/// How long a change is shown as new.
const NEW: Duration = Duration::from_millis(2500);
/// What all of it takes.
const LEAST: usize = 24;
/// The most lines that are told of one step.
const TOLD: usize = 5;

/// How far the story is.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Steps that ended.
    pub(super) done: Vec<Outcome>,
    /// The one that is played now.
    pub(super) now: Option<(Step, Clock)>,
    /// What happened in it, or in the one that ended last.
    pub(super) lines: Vec<Said>,
}

/// Something that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// What a step is there to show.
    Aim(&'static str),
    /// A command, or what stands for one.
    Did(String),
    /// What came of it.
    Saw(String),
}

/// How words look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Good,
    New,
    Busy,
    Bad,
    Faint,
}

/// Words of one tone each.
pub(super) type Line = Vec<(Tone, String)>;

/// Everything on one screen of so many columns and rows; with as few rows as it takes when there are none too many.
pub(super) fn picture(
    fleet: &Fleet,
    told: &Told,
    at: Instant,
    (columns, rows): (usize, usize),
) -> Vec<Line> {
    let mut lines = vec![head(fleet), notice(fleet)];
    if rows > LEAST {
        lines.push(Line::new());
    }
    lines.extend(table(fleet, at));
    lines.push(Line::new());
    lines.extend(steps(told, at));
    lines.push(Line::new());
    lines.extend(telling(&told.lines, columns));
    lines
}

/// [`picture`] with the keys that are there in its first line.
pub(super) fn with_keys(mut picture: Vec<Line>, columns: usize) -> Vec<Line> {
    const KEYS: &str = "  space: go on  q: quit";
    if let Some(head) = picture.first_mut() {
        let room = columns.saturating_sub(KEYS.len());
        let mut left = room;
        for (_, words) in head.iter_mut() {
            *words = words.chars().take(left).collect();
            left -= words.chars().count();
        }
        head.push((Tone::Faint, " ".repeat(left) + KEYS));
    }
    picture
}

/// Lines as a terminal takes them: cut to its width, coloured if wanted, each ended.
pub(super) fn paint(lines: &[Line], columns: usize, colour: bool) -> String {
    let mut painted = String::new();
    for line in lines {
        let mut left = columns;
        for (tone, words) in line {
            let shown: String = words.chars().take(left).collect();
            left -= shown.chars().count();
            let _infallible = match code(*tone) {
                Some(code) if colour => write!(painted, "\x1b[{code}m{shown}\x1b[0m"),
                _ => write!(painted, "{shown}"),
            };
        }
        painted.push('\n');
    }
    painted
}

fn code(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Strong => Some("1"),
        Tone::Good => Some("32"),
        Tone::New => Some("1;32"),
        Tone::Busy => Some("33"),
        Tone::Bad => Some("31"),
        Tone::Faint => Some("2"),
    }
}

fn head(fleet: &Fleet) -> Line {
    let source = &fleet.status["source"];
    vec![
        (Tone::Strong, "Muster".to_owned()),
        (Tone::Faint, format!("  {} ", text(source, "branch"))),
        (Tone::Strong, short(text(source, "revision"))),
        (Tone::Plain, format!(" {}", text(source, "subject"))),
    ]
}

/// What is wrong, in one line; empty when nothing is.
fn notice(fleet: &Fleet) -> Line {
    if fleet.away {
        let words = "the hub is away: this is what it said last";
        return vec![(Tone::Busy, words.to_owned())];
    }
    let problems = rows(&fleet.status["problems"]);
    let mut problems =
        problems.map(|it| format!("{}: {}", text(it, "location"), text(it, "message")));
    let first = problems.next();
    first.map_or_else(Line::new, |first| vec![(Tone::Bad, first)])
}

/// A row a cluster, a column an application, a cell the revision that is there.
fn table(fleet: &Fleet, at: Instant) -> Vec<Line> {
    let applications: Vec<_> = rows(&fleet.status["applications"])
        .map(|application| text(application, "name"))
        .collect();
    let mut title = format!("{:<13} {:<12}{:<12}", "CLUSTER", "STAGE", "AGENT");
    for application in &applications {
        let _infallible = write!(title, " {:<13}", application.to_uppercase());
    }
    let mut lines = vec![vec![(Tone::Faint, title)]];
    for cluster in rows(&fleet.status["clusters"]) {
        let name = text(cluster, "name");
        let (tone, connection) = match text(cluster, "connection") {
            _ if fleet.away => (Tone::Faint, "?"),
            "connected" => (Tone::Good, "connected"),
            "never-joined" => (Tone::Faint, "never-joined"),
            other => (Tone::Busy, other),
        };
        let mut line = vec![
            (Tone::Strong, format!("{name:<13} ")),
            (
                Tone::Plain,
                format!("{:<12}", text(&cluster["labels"], "stage")),
            ),
            (tone, format!("{connection:<12}")),
        ];
        for application in &applications {
            let (tone, words) = cell(fleet, name, application, at);
            line.push((tone, format!(" {words:<13}")));
        }
        lines.push(line);
    }
    lines
}

/// What is there of one application on one cluster, whether it is well, and how often it was repaired.
fn cell(fleet: &Fleet, cluster: &str, application: &str, at: Instant) -> (Tone, String) {
    let place = (cluster.to_owned(), application.to_owned());
    let Some(placement) = fleet.placements.get(&place) else {
        return (Tone::Faint, "-".to_owned());
    };
    let status = &placement["status"];
    let (tone, mark) = match (text(status, "sync"), text(status, "health")) {
        _ if fleet.away => (Tone::Faint, "?"),
        _ if placement["connection"] != "connected" => (Tone::Faint, "?"),
        _ if placement["current"] != true => (Tone::Busy, "…"),
        ("Synced", "Current") => (Tone::Good, "✓"),
        ("Synced" | "Progressing", _) => (Tone::Busy, "…"),
        _ => (Tone::Bad, "!"),
    };
    let changed = fleet.changed.get(&place);
    let is_new = changed.is_some_and(|since| at.saturating_duration_since(*since) < NEW);
    let tone = match tone {
        Tone::Good if is_new => Tone::New,
        tone => tone,
    };
    let repairs = match fleet.repairs.get(&place) {
        Some(count) => format!(" ↺{count}"),
        None => String::new(),
    };
    let revision = short(text(placement, "desiredRevision"));
    (tone, format!("{mark} {revision}{repairs}"))
}

fn steps(told: &Told, at: Instant) -> impl Iterator<Item = Line> {
    Step::ALL.into_iter().map(move |step| {
        let done = told.done.iter().find(|outcome| outcome.name == step.name());
        let now = told.now.filter(|(now, _)| *now == step);
        let (tone, mark, seconds) = match (done, now) {
            (Some(outcome), _) if outcome.ok => (Tone::Good, "✓", Some(outcome.seconds)),
            (Some(outcome), _) => (Tone::Bad, "✗", Some(outcome.seconds)),
            (None, Some((_, clock))) => (Tone::Busy, "▸", Some(clock.reading(at).as_secs_f64())),
            (None, None) => (Tone::Faint, "·", None),
        };
        let words = match tone {
            Tone::Good => Tone::Plain,
            Tone::Busy => Tone::Strong,
            tone => tone,
        };
        let seconds = seconds.map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
        vec![
            (tone, format!("{mark} {seconds:>8}  ")),
            (words, step.name().to_owned()),
        ]
    })
}

/// The last lines of what is told, whole words.
fn telling(lines: &[Said], columns: usize) -> Vec<Line> {
    let told = lines.iter().flat_map(|said| {
        let (tone, words) = match said {
            Said::Aim(words) => (Tone::Faint, (*words).to_owned()),
            Said::Did(words) => (Tone::Strong, format!("$ {words}")),
            Said::Saw(words) => (Tone::Plain, words.clone()),
        };
        let folded = fold(&words, columns);
        folded.into_iter().map(move |line| vec![(tone, line)])
    });
    let told: Vec<_> = told.collect();
    told[told.len().saturating_sub(TOLD)..].to_vec()
}

/// Folds a text to lines of so many columns; what follows the first is set in by two.
pub(super) fn fold(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always one");
        let begins = last.trim_start().is_empty();
        if !begins && last.chars().count() + 1 + word.chars().count() > columns {
            lines.push(format!("  {word}"));
        } else {
            if !begins {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

fn short(revision: &str) -> String {
    revision.chars().take(7).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fleet(at: Instant) -> Fleet {
        let place = |cluster: &str| (cluster.to_owned(), "web".to_owned());
        let placement = |cluster: &str, connection: &str, current: bool, sync: &str| {
            (
                place(cluster),
                json!({"connection": connection, "current": current, "desiredRevision": "0123456789",
                    "status": {"sync": sync, "health": "Current"}}),
            )
        };
        Fleet {
            status: json!({
                "source": {"branch": "main", "revision": "0123456789", "subject": "Release 2"},
                "applications": [{"name": "web"}],
                "clusters": [
                    {"name": "eu-prod-1", "labels": {"stage": "production"}, "connection": "connected"},
                    {"name": "us-prod-1", "labels": {"stage": "production"}, "connection": "connected"},
                    {"name": "eu-staging-1", "labels": {"stage": "staging"}, "connection": "connected"},
                    {"name": "dev-1", "labels": {}, "connection": "unknown"},
                    {"name": "late", "labels": {}, "connection": "never-joined"},
                ],
                "problems": [{"location": "apps/web/muster.yaml:3", "message": "what is this"}],
            }),
            away: false,
            placements: [
                placement("eu-prod-1", "connected", true, "Synced"),
                placement("us-prod-1", "connected", false, "Synced"),
                placement("eu-staging-1", "connected", true, "OutOfSync"),
                placement("dev-1", "unknown", true, "Synced"),
            ]
            .into(),
            repairs: [(place("eu-prod-1"), 1)].into(),
            changed: [(place("eu-prod-1"), at)].into(),
        }
    }

    fn told(begun: Instant) -> Told {
        let said = |words: &str| words.to_owned();
        Told {
            done: vec![Outcome {
                name: Step::FirstSync.name(),
                ok: true,
                seconds: 1.234,
            }],
            now: Some((Step::Release, Clock::started(begun))),
            lines: vec![
                Said::Aim("An aim that was told so many lines ago that it stands here no more"),
                Said::Did(said("git commit && git push")),
                Said::Saw(said("one")),
                Said::Saw(said("two")),
                Said::Saw(said(
                    "three, which is told with so many words that they do not fit into one line of the terminal",
                )),
            ],
        }
    }

    fn shown(lines: &[Line]) -> String {
        let painted = paint(lines, 80, false);
        let lines: Vec<_> = painted.lines().map(str::trim_end).collect();
        lines.join("\n")
    }

    #[test]
    fn the_picture_shows_what_runs_where_what_is_wrong_and_how_far_the_story_is() {
        let begun = Instant::now();
        let at = begun + Duration::from_millis(1500);
        let lines = with_keys(picture(&fleet(begun), &told(begun), at, (80, 24)), 80);
        insta::assert_snapshot!(shown(&lines), @"
        Muster  main 0123456 Release 2                             space: go on  q: quit
        apps/web/muster.yaml:3: what is this
        CLUSTER       STAGE       AGENT        WEB
        eu-prod-1     production  connected    ✓ 0123456 ↺1
        us-prod-1     production  connected    … 0123456
        eu-staging-1  staging     connected    ! 0123456
        dev-1                     unknown      ? 0123456
        late                      never-joined -

        ✓   1.23 s  first sync
        ▸   1.50 s  a commit that changes production only
        ·           a hand edit is repaired
        ·           a cluster joins by its token
        ·           the hub restarts, and a hand edit is repaired without it
        ·           a broken commit changes nothing
        ·           git revert
        ·           an application is removed and pruned

        $ git commit && git push
        one
        two
        three, which is told with so many words that they do not fit into one line of
          the terminal
        ");
    }

    #[test]
    fn all_of_it_has_its_place_on_a_screen_of_80_by_24() {
        let begun = Instant::now();
        let mut fleet = fleet(begun);
        let mut clusters = fleet.status["clusters"].as_array().unwrap().clone();
        clusters.push(clusters[0].clone());
        fleet.status["clusters"] = clusters.into();
        let full = picture(&fleet, &told(begun), begun, (80, 24));
        assert_eq!(full.len(), LEAST);
        let steps = |lines: &[Line]| {
            lines
                .iter()
                .position(|it| it.iter().any(|(_, it)| it == "git revert"))
        };
        let mut quiet = fleet;
        quiet.status["problems"] = json!([]);
        let calm = picture(&quiet, &Told::default(), begun, (80, 24));
        assert_eq!(steps(&full), steps(&calm), "nothing jumps");
    }

    #[test]
    fn a_hub_that_is_away_leaves_no_green() {
        let begun = Instant::now();
        let mut fleet = fleet(begun);
        fleet.away = true;
        let lines = picture(&fleet, &Told::default(), begun, (80, 24));
        assert!(shown(&lines).contains("the hub is away"));
        let tones = lines.iter().flatten().map(|(tone, _)| *tone);
        let green = tones.filter(|tone| [Tone::Good, Tone::New].contains(tone));
        assert_eq!(green.count(), 0);
    }

    #[test]
    fn a_change_is_new_for_a_moment() {
        let begun = Instant::now();
        let fleet = fleet(begun);
        let tone = |at| cell(&fleet, "eu-prod-1", "web", at).0;
        assert_eq!(tone(begun + NEW / 2), Tone::New);
        assert_eq!(tone(begun + NEW), Tone::Good);
    }

    #[test]
    fn a_line_is_cut_to_the_terminal_whatever_its_colours() {
        let line = vec![
            (Tone::Good, "✓ done".to_owned()),
            (Tone::Plain, " and more".to_owned()),
        ];
        assert_eq!(paint(std::slice::from_ref(&line), 8, false), "✓ done a\n");
        assert_eq!(paint(&[line], 4, true), "\x1b[32m✓ do\x1b[0m\n");
    }

    #[test]
    fn long_texts_are_folded_at_words() {
        assert_eq!(fold("one two three", 80), ["one two three"]);
        assert_eq!(fold("one two three", 8), ["one two", "  three"]);
        assert_eq!(
            fold("a-word-that-fits-nowhere", 8),
            ["a-word-that-fits-nowhere"]
        );
        assert_eq!(fold("", 8), [""]);
    }
}
