//! Where the story is shown: line by line, or on a terminal as a picture of the fleet that is drawn again whenever it
//! changes.
//!
//! The story tells a [`Screen`] what happens. Behind a live one, a task asks `muster` for the fleet, as anybody may,
//! and another draws; both end with the screen.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use muster_cli::{Environment, Terminal};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

use super::picture::{Fleet, Told, paint, picture};
use super::story::{Outcome, Step};
use crate::world::ask;

/// How long a person looks at a step that ended.
const PAUSE: Duration = Duration::from_millis(3500);
/// How often a running time is drawn again, and a hub that is away is asked again.
const TICK: Duration = Duration::from_millis(100);

/// Shows the story.
pub(super) struct Screen {
    told: watch::Sender<Told>,
    live: Option<Live>,
}

struct Live {
    painter: JoinHandle<()>,
    _asking: JoinSet<()>,
}

impl Screen {
    /// One that prints lines.
    pub(super) fn plain() -> Self {
        Self {
            told: watch::Sender::default(),
            live: None,
        }
    }

    /// One that draws on a terminal; `environment` is where `muster` finds the hub.
    pub(super) fn live(environment: Environment, terminal: Terminal) -> Self {
        let told = watch::Sender::default();
        let (fleets, fleet) = watch::channel(Fleet::default());
        let mut asking = JoinSet::new();
        asking.spawn(follow(environment, fleets));
        let painter = tokio::spawn(draw(told.subscribe(), fleet, terminal));
        let live = Some(Live {
            painter,
            _asking: asking,
        });
        Self { told, live }
    }

    /// A step begins.
    pub(super) fn begin(&self, step: Step) {
        self.told.send_modify(|told| {
            told.now = Some((step, Instant::now()));
            told.lines.clear();
        });
        if self.live.is_none() {
            println!("{}", step.name());
        }
    }

    /// Something was done or seen in this step.
    pub(super) fn say(&self, line: &str) {
        self.told
            .send_modify(|told| told.lines.push(line.to_owned()));
        if self.live.is_none() {
            println!("    {line}");
        }
    }

    /// The step ended.
    pub(super) fn end(&self, outcome: Outcome) {
        if self.live.is_none() {
            let word = if outcome.ok { "ok" } else { "FAILED" };
            println!("    {word}, {:.2} s\n", outcome.seconds);
        }
        self.told.send_modify(|told| {
            told.now = None;
            told.done.push(outcome);
        });
    }

    /// Gives a person time to look, when there is one.
    pub(super) async fn pause(&self) {
        if self.live.is_some() {
            let _always_elapses = timeout(PAUSE, std::future::pending::<()>()).await;
        }
    }

    /// What became of every step that ended.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.told.borrow().done.clone()
    }

    /// Draws a last time; what is printed from now on stands below.
    pub(super) async fn close(self) {
        drop(self.told);
        if let Some(live) = self.live {
            let _ended = live.painter.await;
        }
    }
}

/// Keeps the newest fleet in `fleets`, until nobody looks.
async fn follow(environment: Environment, fleets: watch::Sender<Fleet>) {
    let mut statuses = Statuses::default();
    let mut status = statuses.newest.subscribe();
    let watching = async {
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            let line = ["muster", "status", "--watch", "-o", "json"];
            // It ends when the hub can't be reached; then it is asked again.
            muster_cli::run_in(&environment, line, &mut statuses, &mut io::sink()).await;
        }
    };
    let telling = async {
        while status.changed().await.is_ok() {
            let status = status.borrow_and_update().clone();
            let mut placements = Vec::new();
            for application in status["applications"].as_array().into_iter().flatten() {
                let name = application["name"].as_str().unwrap_or_default();
                let answer = ask(&environment, &["get", "app", name, "-o", "json"]).await;
                let Ok(detail) = answer.and_then(|answer| answer.json()) else {
                    continue;
                };
                placements.extend(detail["placements"].as_array().cloned().unwrap_or_default());
            }
            fleets.send_replace(Fleet { status, placements });
        }
    };
    tokio::select! {
        () = telling => {}
        () = watching => {}
    }
}

/// Takes the lines of `muster status --watch -o json` apart.
#[derive(Default)]
struct Statuses {
    unfinished: Vec<u8>,
    newest: watch::Sender<Value>,
}

impl Write for Statuses {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            self.newest.send_replace(serde_json::from_slice(&line)?);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Draws whenever something looks different, over the last drawing, until the story ends.
async fn draw(mut told: watch::Receiver<Told>, fleet: watch::Receiver<Fleet>, terminal: Terminal) {
    let mut ticks = interval(TICK);
    let mut drawn = String::new();
    loop {
        let over = tokio::select! {
            changed = told.changed() => changed.is_err(),
            _ = ticks.tick() => false,
        };
        let (columns, rows) = (terminal.size)().unwrap_or((100, 50));
        let mut lines = picture(&fleet.borrow(), &told.borrow_and_update(), Instant::now());
        // The last row is the cursor's.
        lines.truncate(usize::from(rows).saturating_sub(1));
        let drawing = paint(&lines, columns.into(), terminal.colour);
        if drawing != drawn {
            print!("{}", over_the_last(&drawing, drawn.lines().count()));
            let _a_terminal_that_is_gone = io::stdout().flush();
            drawn = drawing;
        }
        if over {
            return;
        }
    }
}

/// What draws `drawing` in the place of one of so many lines.
fn over_the_last(drawing: &str, lines: usize) -> String {
    let up = match lines {
        0 => String::new(),
        lines => format!("\x1b[{lines}A"),
    };
    format!("{up}{}\x1b[J", drawing.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_replaces_the_last_one() {
        assert_eq!(over_the_last("a\nb\n", 0), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(over_the_last("a\n", 2), "\x1b[2Aa\x1b[K\n\x1b[J");
    }

    #[test]
    fn statuses_are_read_line_by_line_however_they_come() {
        let mut statuses = Statuses::default();
        for part in ["{\"a\"", ": 1}\n{\"a\": 2}\n{\"a\"", ": 3"] {
            statuses.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(*statuses.newest.borrow(), serde_json::json!({"a": 2}));
        statuses.write_all(b"}\n").unwrap();
        assert_eq!(*statuses.newest.borrow(), serde_json::json!({"a": 3}));
    }
}
