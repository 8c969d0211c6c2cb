//! `cargo demo`: a hub, a fleet repository, clusters and agents of its own, and the story of what Muster does with them.
//!
//! In: flags. Out: each step with its time, on a terminal beside a live picture of the fleet; when one fails, its name
//! and what was seen. Needs `git` and nothing else, unless real clusters are asked for.

mod borrowed;
mod clock;
mod fleet;
mod follow;
mod logged;
mod look;
mod picture;
mod screen;
mod stage;
mod story;
mod terminal;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use muster_cli::Environment;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use logged::Logged;
use screen::{Screen, print};
use stage::{Choice, Stage};
use story::{Outcome, Step};

/// What can be asked of the demo.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Play the story line by line, without pauses and without a picture; so it does where there is no terminal.
    #[arg(long)]
    once: bool,
    /// Play on so many real API servers, built at their first use, instead of in-memory ones.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(2..=5))]
    real: Option<u8>,
    /// Play on this cluster of your kubeconfig; may be repeated. What the demo puts there is removed at the end.
    #[arg(long = "kube-context", value_name = "NAME", conflicts_with = "real")]
    contexts: Vec<String>,
    /// Write how the steps went: {"steps": [{"name", "ok", "seconds"}]}.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave everything running afterwards, and say how to ask it, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// How long what must come of a step may take; 60, or 300 on clusters of your own, which fetch images.
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// Answer every write of the agents with 500; the story must then fail.
    #[arg(long, hide = true, conflicts_with_all = ["real", "contexts"])]
    break_writes: bool,
}

/// How the story went.
enum Played {
    Well,
    /// A person wanted no more.
    Stopped,
    Badly(anyhow::Error),
}

/// Plays the story; fails when a step did, or when it was stopped before its end.
///
/// # Errors
/// What could not be started, or not be taken away again.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let logged = logged::keep()?;
    let choice = choice(&arguments)?;
    print(&format!("{}\n\n", introduction(&choice)));
    let stage = tokio::select! {
        stage = Stage::set(&choice, arguments.break_writes) => stage,
        stopped = stopped() => return stopped.map(|()| ExitCode::from(STOPPED)),
    };
    let mut stage = stage?;
    if !matches!(choice, Choice::Memory) {
        print("\n");
    }
    let played = play(&mut stage, &arguments, within(&arguments)).await;
    let played = played.unwrap_or_else(Played::Badly);
    let code = match &played {
        Played::Well => ExitCode::SUCCESS,
        Played::Stopped => ExitCode::from(STOPPED),
        Played::Badly(error) => {
            explain(error, &stage, &logged).await;
            ExitCode::FAILURE
        }
    };
    if arguments.keep && !matches!(played, Played::Stopped) {
        print(&how_to_ask(&stage)?);
        stopped().await?;
    }
    tokio::select! {
        cleared = stage.clear() => cleared?,
        stopped = stopped() => {
            stopped?;
            bail!("stopped before your clusters were as they had been: what is left begins with demo- or muster-");
        }
    }
    Ok(code)
}

/// What a shell makes of Ctrl-C.
const STOPPED: u8 = 130;

/// Resolves when the process is told to end.
async fn stopped() -> Result<()> {
    let (mut interrupt, mut terminate, mut hangup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

fn choice(arguments: &Arguments) -> Result<Choice> {
    ensure!(
        arguments.contexts.len() <= fleet::CLUSTERS.len(),
        "the example has {} clusters: name fewer contexts",
        fleet::CLUSTERS.len()
    );
    Ok(match arguments.real {
        Some(count) => Choice::Real(count.into()),
        None if arguments.contexts.is_empty() => Choice::Memory,
        None => Choice::Contexts(arguments.contexts.clone()),
    })
}

fn within(arguments: &Arguments) -> Duration {
    let usual = if arguments.contexts.is_empty() {
        60
    } else {
        300
    };
    Duration::from_secs(arguments.within.unwrap_or(usual))
}

fn introduction(choice: &Choice) -> String {
    let clusters = match choice {
        Choice::Memory => "five clusters in memory".to_owned(),
        Choice::Real(count) => {
            format!("{count} real Kubernetes API servers, and in one more that joins later")
        }
        Choice::Contexts(contexts) => format!("your clusters {}", contexts.join(", ")),
    };
    format!("A hub, a Git repository with the example fleet, and agents in {clusters}.")
}

/// Plays the story on the screen that fits, and writes down how it went.
async fn play(stage: &mut Stage, arguments: &Arguments, within: Duration) -> Result<Played> {
    let screen = screen(stage, arguments).await?;
    let played = tokio::select! {
        played = story::play(stage, &screen, within) => match played {
            Ok(()) => Played::Well,
            Err(error) => Played::Badly(error),
        },
        () = screen.quit() => Played::Stopped,
        stopped = stopped() => stopped.map(|()| Played::Stopped)?,
    };
    let outcomes = screen.outcomes();
    let live = screen.is_live();
    screen.close().await;
    if let Some(file) = &arguments.json {
        let steps = serde_json::to_vec_pretty(&json!({"steps": outcomes}))?;
        std::fs::write(file, steps)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    match played {
        Played::Well => {
            print(&summary(&outcomes));
            if live && !arguments.keep {
                print(NEXT);
            }
        }
        Played::Stopped => print(&format!(
            "Stopped after {} of {} steps.\n",
            outcomes.len(),
            Step::ALL.len()
        )),
        Played::Badly(_) => {}
    }
    Ok(played)
}

/// A picture where a person sits, lines elsewhere.
async fn screen(stage: &Stage, arguments: &Arguments) -> Result<Screen> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let person = std::io::stdin().is_terminal() && !arguments.once && !dumb;
    match Environment::of_process().terminal.filter(|_| person) {
        Some(terminal) => Screen::live(stage.world.environment()?, terminal).await,
        None => Ok(Screen::plain()),
    }
}

fn summary(outcomes: &[Outcome]) -> String {
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    format!(
        "{} of {} steps in {seconds:.1} s; each was seen by two who agree:\n\
         a client of the API servers themselves, and `muster -o json`.\n",
        outcomes.len(),
        Step::ALL.len()
    )
}

const NEXT: &str = "
Next:
  cargo demo -- --keep      the same, and everything stays up for you to try
  cargo demo -- --real 2    on real Kubernetes API servers
  README.md                 your own repository and your own cluster
";

/// Says why the story failed: what was seen, what was logged, and what a person would ask first.
async fn explain(error: &anyhow::Error, stage: &Stage, logged: &Logged) {
    let mut words = format!("{error}:\n");
    for cause in error.chain().skip(1) {
        words += &format!("  {}\n", cause.to_string().replace('\n', "\n  "));
    }
    let lines = logged.lines();
    if !lines.is_empty() {
        words += &format!("\nHub and agents logged:\n  {}\n", lines.join("\n  "));
    }
    eprintln!("{words}");
    match stage.world.muster(&["status"]).await {
        Ok(status) => eprintln!("$ muster status\n{}{}", status.out, status.err),
        Err(error) => eprintln!("muster can't be asked: {error:#}"),
    }
}

/// The lines to try while everything runs.
fn how_to_ask(stage: &Stage) -> Result<String> {
    let environment = stage.world.environment()?;
    let path = |path: Option<PathBuf>| path.unwrap_or_default().display().to_string();
    let kubeconfigs = stage.clusters.iter().map(|(name, cluster)| {
        format!(
            "  kubectl --kubeconfig {} get configmaps -n demo-web   # {name}\n",
            cluster.kubeconfig.display()
        )
    });
    let kubectl = stage.kubectl.as_ref();
    let kubectl = kubectl.map(|path| format!("  alias kubectl='{}'\n", path.display()));
    Ok(format!(
        "
Everything runs until Ctrl-C. Ask it, in another terminal:

  export MUSTER_SERVER={} MUSTER_CA_FILE={} MUSTER_TOKEN_FILE={}
  alias muster='{} muster'
  muster status --watch
  muster get app web
  muster drift

Change the fleet; the hub looks every two seconds:

  cd {}
  sed -i 's/greeting: .*/greeting: Hello/' apps/web/*/settings.yaml
  git commit -am 'Say hello' && git push

The clusters; what you change by hand is repaired:

{}{}",
        environment.server.unwrap_or_default(),
        path(environment.ca_file),
        path(environment.token_file),
        std::env::current_exe()?.display(),
        Path::display(&stage.world.repository.work()),
        kubectl.unwrap_or_default(),
        kubeconfigs.collect::<String>(),
    ))
}
