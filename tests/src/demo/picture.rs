//! The picture of the fleet, as lines of coloured words.
//!
//! In: what `muster status -o json` and `muster get app -o json` said last, and how far the story is. Out: who runs
//! which revision of what, what is wrong, and the steps with their times.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::Value;

use super::story::{Outcome, Step};

/// The fleet as `muster` told it last.
#[derive(Debug, Clone, Default)]
pub(super) struct Fleet {
    /// `muster status -o json`.
    pub(super) status: Value,
    /// The placements of every `muster get app NAME -o json`.
    pub(super) placements: Vec<Value>,
}

/// How far the story is.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Steps that ended.
    pub(super) done: Vec<Outcome>,
    /// The one that is played now.
    pub(super) now: Option<(Step, Instant)>,
    /// What happened in it, or in the one that ended last.
    pub(super) lines: Vec<String>,
}

/// How words look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Good,
    Busy,
    Bad,
    Faint,
}

/// Words of one tone each.
pub(super) type Line = Vec<(Tone, String)>;

/// Everything on one screen.
pub(super) fn picture(fleet: &Fleet, told: &Told, at: Instant) -> Vec<Line> {
    let mut lines = vec![head(&fleet.status), Line::new()];
    lines.extend(table(fleet));
    lines.push(Line::new());
    for problem in rows(&fleet.status["problems"]) {
        let place = text(problem, "location");
        lines.push(vec![(
            Tone::Bad,
            format!("{place}: {}", text(problem, "message")),
        )]);
    }
    lines.push(Line::new());
    lines.extend(steps(told, at));
    lines.push(Line::new());
    lines.extend(
        told.lines
            .iter()
            .map(|line| vec![(Tone::Plain, format!("  {line}"))]),
    );
    lines
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
        Tone::Busy => Some("33"),
        Tone::Bad => Some("31"),
        Tone::Faint => Some("2"),
    }
}

fn head(status: &Value) -> Line {
    let source = &status["source"];
    vec![
        (Tone::Strong, "Muster".to_owned()),
        (Tone::Faint, format!("  {} ", text(source, "branch"))),
        (Tone::Strong, short(text(source, "revision"))),
        (Tone::Plain, format!(" {}", text(source, "subject"))),
    ]
}

/// A row a cluster, a column an application, a cell the revision that is there.
fn table(fleet: &Fleet) -> Vec<Line> {
    let applications: Vec<_> = rows(&fleet.status["applications"])
        .map(|application| text(application, "name"))
        .collect();
    let mut title = format!("{:<14} {:<12} {:<12}", "CLUSTER", "STAGE", "AGENT");
    for application in &applications {
        let _infallible = write!(title, " {:<13}", application.to_uppercase());
    }
    let mut lines = vec![vec![(Tone::Faint, title)]];
    for cluster in rows(&fleet.status["clusters"]) {
        let name = text(cluster, "name");
        let connection = text(cluster, "connection");
        let tone = match connection {
            "connected" => Tone::Good,
            "never-joined" => Tone::Faint,
            _ => Tone::Busy,
        };
        let mut line = vec![
            (Tone::Strong, format!("{name:<14} ")),
            (
                Tone::Plain,
                format!("{:<12} ", text(&cluster["labels"], "stage")),
            ),
            (tone, format!("{connection:<12}")),
        ];
        for application in &applications {
            let placement = fleet.placements.iter().find(|placement| {
                text(placement, "cluster") == name && text(placement, "application") == *application
            });
            let (tone, words) = placement.map_or((Tone::Faint, "-".to_owned()), cell);
            line.push((tone, format!(" {words:<13}")));
        }
        lines.push(line);
    }
    lines
}

/// What is there of one placement, and whether it is well.
fn cell(placement: &Value) -> (Tone, String) {
    let status = &placement["status"];
    let revision = short(text(placement, "desiredRevision"));
    let (tone, mark) = match (text(status, "sync"), text(status, "health")) {
        _ if placement["connection"] != "connected" => (Tone::Faint, "?"),
        _ if placement["current"] != true => (Tone::Busy, "…"),
        ("Synced", "Current") => (Tone::Good, "✓"),
        ("Synced", "InProgress") => (Tone::Busy, "…"),
        _ => (Tone::Bad, "!"),
    };
    (tone, format!("{mark} {revision}"))
}

fn steps(told: &Told, at: Instant) -> impl Iterator<Item = Line> {
    Step::ALL.into_iter().map(move |step| {
        let done = told.done.iter().find(|outcome| outcome.name == step.name());
        let (tone, mark, seconds) = match done {
            Some(outcome) if outcome.ok => (Tone::Good, "✓", Some(outcome.seconds)),
            Some(outcome) => (Tone::Bad, "✗", Some(outcome.seconds)),
            None => match told.now {
                Some((now, begun)) if now == step => {
                    (Tone::Busy, "▸", Some((at - begun).as_secs_f64()))
                }
                _ => (Tone::Faint, "·", None),
            },
        };
        let seconds = seconds.map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
        vec![
            (tone, format!("  {mark} {seconds:>8}  ")),
            (tone, step.name().to_owned()),
        ]
    })
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

fn short(revision: &str) -> String {
    revision.chars().take(7).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn fleet() -> Fleet {
        let placement = |cluster: &str, connection: &str, current: bool, sync: &str| {
            json!({"application": "web", "cluster": cluster, "connection": connection, "current": current,
                "desiredRevision": "0123456789", "status": {"sync": sync, "health": "Current"}})
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
            placements: vec![
                placement("eu-prod-1", "connected", true, "Synced"),
                placement("us-prod-1", "connected", false, "Synced"),
                placement("eu-staging-1", "connected", true, "OutOfSync"),
                placement("dev-1", "unknown", true, "Synced"),
            ],
        }
    }

    #[test]
    fn the_picture_shows_what_runs_where_what_is_wrong_and_how_far_the_story_is() {
        let begun = Instant::now();
        let told = Told {
            done: vec![Outcome {
                name: Step::FirstSync.name(),
                ok: true,
                seconds: 1.234,
            }],
            now: Some((Step::Release, begun)),
            lines: vec!["git push".to_owned()],
        };
        let lines = picture(&fleet(), &told, begun + Duration::from_millis(1500));
        let painted: Vec<_> = paint(&lines, 80, false)
            .lines()
            .map(|it| it.trim_end().to_owned())
            .collect();
        insta::assert_snapshot!(painted.join("\n"), @"
        Muster  main 0123456 Release 2

        CLUSTER        STAGE        AGENT        WEB
        eu-prod-1      production   connected    ✓ 0123456
        us-prod-1      production   connected    … 0123456
        eu-staging-1   staging      connected    ! 0123456
        dev-1                       unknown      ? 0123456
        late                        never-joined -

        apps/web/muster.yaml:3: what is this

          ✓   1.23 s  first sync
          ▸   1.50 s  a commit that changes production only
          ·           a hand edit is repaired
          ·           a cluster joins by its token
          ·           the hub restarts, and a hand edit is repaired without it
          ·           a broken commit changes nothing
          ·           git revert
          ·           an application is removed and pruned

          git push
        ");
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
}
