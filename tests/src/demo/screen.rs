//! Where the story is shown: line by line, or on a terminal as a picture of the fleet that is drawn again whenever it
//! changes.
//!
//! The story tells a [`Screen`] what happens, and the screen keeps the time of each step. Behind a live one a task asks
//! `muster` for the fleet, as anybody may, another draws, and a third listens to the keys; all end with the screen.

use std::time::{Duration, Instant};

use anyhow::Result;
use muster_cli::{Environment, Terminal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::clock::Clock;
use super::follow::{Fleet, follow, rows};
use super::picture::{Said, Told, fold, paint, picture, with_keys};
use super::story::{Outcome, Step};
use super::terminal;

/// How long a person reads what comes next, or looks at what came of it.
const BEAT: Duration = Duration::from_millis(2200);
/// How long a person sees what must not last: agents wait the longer for a hub, the longer it was away.
const GLANCE: Duration = Duration::from_millis(900);
/// How often a running time is drawn again.
const TICK: Duration = Duration::from_millis(100);
/// The width of lines that are read by nobody knows whom.
const COLUMNS: usize = 100;

/// Shows the story.
pub(super) struct Screen {
    told: watch::Sender<Told>,
    live: Option<Live>,
}

struct Live {
    fleet: watch::Receiver<Fleet>,
    size: Terminal,
    /// How often a key was pressed that means "go on".
    urged: watch::Receiver<u32>,
    /// Whether the one that means "quit" was.
    quit: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    held: terminal::Held,
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
    ///
    /// # Errors
    /// When the terminal can't be had.
    pub(super) async fn live(environment: Environment, size: Terminal) -> Result<Self> {
        let told = watch::Sender::default();
        let (fleets, mut fleet) = watch::channel(Fleet::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(environment, fleets));
        // The first picture has the clusters in it, so that nothing jumps when they are known.
        let known = fleet.wait_for(|fleet| rows(&fleet.status["clusters"]).next().is_some());
        drop(timeout(BEAT, known).await);
        let (held, typed) = terminal::hold()?;
        let (urging, urged) = watch::channel(0);
        let (quitting, quit) = watch::channel(false);
        tasks.spawn(draw(told.subscribe(), fleet.clone(), size));
        tasks.spawn(listen(typed, urging, quitting));
        let live = Some(Live {
            fleet,
            size,
            urged,
            quit,
            tasks,
            held,
        });
        Ok(Self { told, live })
    }

    /// A step begins.
    pub(super) async fn begin(&self, step: Step) {
        self.told.send_modify(|told| {
            told.now = Some((step, Clock::started(Instant::now())));
            told.lines = vec![Said::Aim(step.aim())];
        });
        if self.live.is_none() {
            let number = self.told.borrow().done.len() + 1;
            print(&format!("{number}. {}\n", step.name()));
            print_folded(step.aim());
        }
        self.beat().await;
    }

    /// What counts begins now: what was done before was only getting ready.
    pub(super) fn act(&self) {
        self.time(|clock, now| *clock = Clock::started(now));
    }

    /// Something is done now; a command, or what stands for one.
    pub(super) fn did(&self, command: &str) {
        self.say(Said::Did(command.to_owned()));
        if self.live.is_none() {
            print_folded(&format!("$ {command}"));
        }
    }

    /// Something was seen.
    pub(super) fn saw(&self, what: &str) {
        self.say(Said::Saw(what.to_owned()));
        if self.live.is_none() {
            print_folded(what);
        }
    }

    /// The step ended.
    pub(super) async fn end(&self, ok: bool) {
        let now = Instant::now();
        let mut ended = None;
        self.told.send_modify(|told| {
            if let Some((step, clock)) = told.now.take() {
                let outcome = Outcome::new(step, ok, clock.reading(now));
                told.done.push(outcome.clone());
                ended = Some(outcome);
            }
        });
        if let (None, Some(outcome)) = (&self.live, ended) {
            let word = if outcome.ok { "ok" } else { "FAILED" };
            print(&format!("   {word}, {:.2} s\n\n", outcome.seconds));
        }
        self.beat().await;
    }

    /// Gives a person time to look, when there is one; the clock stands still.
    pub(super) async fn beat(&self) {
        self.stand_still(BEAT).await;
    }

    /// As [`Screen::beat`], but shorter.
    pub(super) async fn glance(&self) {
        self.stand_still(GLANCE).await;
    }

    async fn stand_still(&self, long: Duration) {
        let Some(live) = &self.live else { return };
        self.time(|clock, now| clock.stand(now));
        let mut urged = live.urged.clone();
        urged.mark_unchanged();
        let _urged_or_over = timeout(long, urged.changed()).await;
        self.time(|clock, now| clock.go_on(now));
    }

    /// Resolves when a person wants no more.
    pub(super) async fn quit(&self) {
        let Some(live) = &self.live else {
            return std::future::pending().await;
        };
        let mut quit = live.quit.clone();
        if quit.wait_for(|quit| *quit).await.is_err() {
            // Nobody listens to keys any more; signals are still there.
            std::future::pending().await
        }
    }

    /// Whether it draws.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// What became of every step that ended.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.told.borrow().done.clone()
    }

    /// Gives the terminal back, and prints there what was drawn last.
    pub(super) async fn close(self) {
        let Some(mut live) = self.live else { return };
        live.tasks.shutdown().await;
        drop(live.held);
        let (columns, rows) = size(live.size);
        let last = picture(
            &live.fleet.borrow(),
            &self.told.borrow(),
            Instant::now(),
            (columns, rows),
        );
        print(&paint(&last, columns, live.size.colour));
        print("\n");
    }

    fn say(&self, said: Said) {
        self.told.send_modify(|told| told.lines.push(said));
    }

    fn time(&self, change: impl FnOnce(&mut Clock, Instant)) {
        self.told.send_modify(|told| {
            if let Some((_, clock)) = &mut told.now {
                change(clock, Instant::now());
            }
        });
    }
}

/// Prints, and goes on when nobody reads: what is seen counts, not who hears of it.
pub(super) fn print(text: &str) {
    terminal::write(text);
}

fn print_folded(text: &str) {
    for line in fold(text, COLUMNS) {
        print(&format!("   {line}\n"));
    }
}

/// Draws whenever something looks different.
async fn draw(mut told: watch::Receiver<Told>, fleet: watch::Receiver<Fleet>, terminal: Terminal) {
    let mut ticks = interval(TICK);
    let mut drawn = (String::new(), (0, 0));
    loop {
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
        let (columns, rows) = size(terminal);
        let now = Instant::now();
        let lines = picture(
            &fleet.borrow(),
            &told.borrow_and_update(),
            now,
            (columns, rows),
        );
        let mut lines = with_keys(lines, columns);
        lines.truncate(rows);
        let drawing = (paint(&lines, columns, terminal.colour), (columns, rows));
        if drawing != drawn {
            terminal::draw(&drawing.0);
            drawn = drawing;
        }
    }
}

/// Columns and rows.
fn size(terminal: Terminal) -> (usize, usize) {
    let (columns, rows) = (terminal.size)().unwrap_or((80, 24));
    (columns.into(), rows.into())
}

/// What the keys mean.
async fn listen(
    mut typed: mpsc::Receiver<u8>,
    urging: watch::Sender<u32>,
    quitting: watch::Sender<bool>,
) {
    while let Some(key) = typed.recv().await {
        match key {
            b' ' | b'\n' | b'\r' => urging.send_modify(|urged| *urged += 1),
            b'q' | b'Q' => drop(quitting.send_replace(true)),
            _ => {}
        }
    }
}
