//! `--watch`: the same question again whenever the fleet changed.
//!
//! In: the hub's stream of fleets, which also says when to ask again about one cluster, application or drift.
//! Out: on a terminal a table that is redrawn in place, ages running; elsewhere a table, a JSON line or a YAML document
//! for each change. A hub that goes away is waited for.

use std::io::Write;
use std::time::Duration;

use muster_proto::wire::v1;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::answer::{Answer, now, print_data};
use crate::args::{Output, ViewArgs};
use crate::config::{Hub, Terminal};
use crate::failure::Failure;
use crate::hub::{self, Session};
use crate::question::{self, Question, ask, fleet_request};
use crate::show::Look;
use crate::text::Paper;

/// How often ages are redrawn, and details asked for again, between changes of the fleet.
const TICK: Duration = Duration::from_secs(1);
/// How long to wait before the hub is dialled again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Prints the answer again whenever it changed, until the reader goes away or the hub refuses.
pub(crate) async fn watch(
    hub: &Hub,
    question: &Question,
    view: &ViewArgs,
    terminal: Option<Terminal>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut page = Page::new(view, terminal);
    // The first connection must work: a wrong address is told at once.
    let mut session = hub::connect(hub).await?;
    let mut wait = RETRY.0;
    loop {
        let shown = page.printed;
        let failure = match follow(&mut session, question, &mut page, out).await {
            Ok(never) => match never {},
            Err(failure) if failure.may_pass() && page.printed > 0 => failure,
            Err(failure) => return Err(failure),
        };
        writeln!(err, "muster: {failure}; trying again")?;
        page.start_below();
        if page.printed != shown {
            wait = RETRY.0;
        }
        session = loop {
            sleep_until(Instant::now() + wait).await;
            wait = (wait * 2).min(RETRY.1);
            match hub::connect(hub).await {
                Ok(session) => break session,
                Err(failure) if failure.may_pass() => {}
                Err(failure) => return Err(failure),
            }
        };
    }
}

/// Follows one connection until it fails.
async fn follow(
    session: &mut Session,
    question: &Question,
    page: &mut Page<'_>,
    out: &mut (dyn Write + Send),
) -> Result<std::convert::Infallible, Failure> {
    let request = fleet_request(question.selector());
    let stream = session.client.watch_fleet(request).await;
    let mut stream = session.answer(stream)?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut begun = false;
    loop {
        // Both arms lose nothing when the other wins: a message stays in the stream, a tick comes again.
        let fleet: Option<v1::Fleet> = tokio::select! {
            message = stream.message() => {
                let message = message.map_err(|status| Failure::hub(&session.server, status))?;
                let ended = || tonic::Status::unavailable("it closed the connection");
                Some(message.ok_or_else(|| Failure::hub(&session.server, ended()))?)
            }
            _ = tick.tick() => None,
        };
        begun |= fleet.is_some();
        match fleet.map(|fleet| question::from_fleet(question, fleet)) {
            Some(Some(answer)) => page.show(answer, out)?,
            None if question.is_about_the_fleet() => page.redraw(out)?,
            _ if begun => page.show(ask(session, question).await?, out)?,
            _ => {}
        }
    }
}

/// What has been printed so far.
struct Page<'a> {
    view: &'a ViewArgs,
    terminal: Option<Terminal>,
    answer: Option<Answer>,
    /// How many times something was printed.
    printed: usize,
    /// Lines above the cursor that the next drawing replaces, as they are.
    drawn: String,
}

impl<'a> Page<'a> {
    fn new(view: &'a ViewArgs, terminal: Option<Terminal>) -> Self {
        let drawn = String::new();
        Self {
            view,
            terminal,
            answer: None,
            printed: 0,
            drawn,
        }
    }

    /// Prints an answer if it says something new.
    fn show(&mut self, answer: Answer, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
        if self.answer.as_ref() == Some(&answer) {
            return self.redraw(out);
        }
        let answer = self.answer.insert(answer);
        self.printed += 1;
        match (self.view.output, self.terminal) {
            (Output::Json, _) => {
                let line = serde_json::to_string(answer)
                    .map_err(|error| Failure::told(format!("can't be printed: {error}")))?;
                writeln!(out, "{line}")?;
            }
            (Output::Yaml, _) => {
                out.write_all(b"---\n")?;
                print_data(answer, Output::Yaml, out)?;
            }
            (Output::Table | Output::Wide, None) => {
                if self.printed > 1 {
                    writeln!(out)?;
                }
                answer.print(self.view, None, out)?;
            }
            (Output::Table | Output::Wide, Some(_)) => return self.redraw(out),
        }
        out.flush()?;
        Ok(())
    }

    /// On a terminal: draws the answer over its last drawing, if it looks different by now.
    fn redraw(&mut self, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
        let table = matches!(self.view.output, Output::Table | Output::Wide);
        let (Some(terminal), Some(answer), true) = (self.terminal, &self.answer, table) else {
            return Ok(());
        };
        let paper = Paper {
            colour: terminal.colour,
            // The last row is the cursor's.
            size: (terminal.size)().map(|(columns, rows)| (columns, rows.saturating_sub(1).max(1))),
        };
        let drawing = answer.text(Look::of(self.view, now())).paint(paper);
        if drawing != self.drawn {
            let up = self.drawn.lines().count();
            if up > 0 {
                write!(out, "\x1b[{up}A")?;
            }
            for line in drawing.lines() {
                writeln!(out, "{line}\x1b[K")?;
            }
            write!(out, "\x1b[J")?;
            out.flush()?;
            self.drawn = drawing;
        }
        Ok(())
    }

    /// Somebody else wrote to the terminal: the next drawing goes below.
    fn start_below(&mut self) {
        self.drawn.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(url: &str) -> Answer {
        Answer::Status(v1::Fleet {
            source: Some(v1::Source {
                url: url.to_owned(),
                ..v1::Source::default()
            }),
            ..v1::Fleet::default()
        })
    }

    fn text(out: &[u8]) -> &str {
        std::str::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_printed_again_only_when_it_changed() {
        let view = ViewArgs {
            output: Output::Json,
            ..ViewArgs::default()
        };
        let mut page = Page::new(&view, None);
        let mut out = Vec::new();
        for url in ["a", "a", "b"] {
            page.show(fleet(url), &mut out).unwrap();
        }
        let urls = text(&out).lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["source"]["url"].as_str().unwrap().to_owned()
        });
        assert_eq!(urls.collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_terminal_is_redrawn_in_place() {
        let view = ViewArgs::default();
        let terminal = Terminal {
            colour: false,
            size: || Some((80, 3)),
        };
        let mut page = Page::new(&view, Some(terminal));
        let mut out = Vec::new();
        page.show(fleet("a"), &mut out).unwrap();
        assert_eq!(text(&out).lines().count(), 3, "{}", text(&out));
        assert!(!text(&out).contains("\x1b[2A"));
        out.clear();
        page.redraw(&mut out).unwrap();
        assert_eq!(text(&out), "", "nothing looks different");
        page.show(fleet("b"), &mut out).unwrap();
        assert!(text(&out).starts_with("\x1b[2A"), "{:?}", text(&out));
        out.clear();
        page.start_below();
        page.redraw(&mut out).unwrap();
        assert!(!text(&out).starts_with('\x1b'), "{:?}", text(&out));
    }
}
