//! `cargo demo`: a hub, a fleet repository, clusters and agents of its own, and the story of what Muster does with them.
//!
//! In: flags. Out: each step with its time, on a terminal beside a live picture of the fleet; an error that names the
//! step and what was seen when one fails. Needs `git` and nothing else, unless real clusters are asked for.

mod fleet;
mod look;
mod picture;
mod screen;
mod stage;
mod story;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use muster_cli::Environment;
use serde_json::json;

use screen::Screen;
use stage::{Choice, Stage};

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
    /// How long a step may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true)]
    within: u64,
    /// Answer every write of the agents with 500; the story must then fail.
    #[arg(long, hide = true, conflicts_with_all = ["real", "contexts"])]
    break_writes: bool,
}

/// Plays the story.
///
/// # Errors
/// The step that failed, and what was seen; or what could not be started.
pub async fn run(arguments: Arguments) -> Result<()> {
    let choice = choice(&arguments)?;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    println!("{}\n", introduction(&choice));
    let mut stage = tokio::select! {
        stage = Stage::set(&choice, arguments.break_writes) => stage?,
        _ = &mut interrupted => bail!("interrupted"),
    };
    let played = tokio::select! {
        played = play(&mut stage, &arguments) => played,
        _ = &mut interrupted => Err(anyhow::anyhow!("interrupted")),
    };
    if arguments.keep && played.is_ok() {
        println!("{}", how_to_ask(&stage)?);
        interrupted.await?;
    }
    let cleared = stage.clear().await;
    played.and(cleared)
}

fn choice(arguments: &Arguments) -> Result<Choice> {
    if arguments.contexts.len() > fleet::CLUSTERS.len() {
        bail!(
            "the example has {} clusters: name fewer contexts",
            fleet::CLUSTERS.len()
        );
    }
    Ok(match arguments.real {
        Some(count) => Choice::Real(count.into()),
        None if arguments.contexts.is_empty() => Choice::Memory,
        None => Choice::Contexts(arguments.contexts.clone()),
    })
}

fn introduction(choice: &Choice) -> String {
    let clusters = match choice {
        Choice::Memory => "five clusters in memory".to_owned(),
        Choice::Real(count) => format!("{count} real Kubernetes API servers"),
        Choice::Contexts(contexts) => contexts.join(", "),
    };
    format!("A hub, a Git repository with the example fleet, and agents in {clusters}.")
}

/// Plays the story on the screen that fits, and writes down how it went.
async fn play(stage: &mut Stage, arguments: &Arguments) -> Result<()> {
    let terminal = Environment::of_process().terminal;
    let live = terminal.filter(|_| !arguments.once && std::io::stdin().is_terminal());
    let screen = match live {
        Some(terminal) => Screen::live(stage.world.environment()?, terminal),
        None => Screen::plain(),
    };
    let within = Duration::from_secs(arguments.within);
    let played = story::play(stage, &screen, within).await;
    let outcomes = screen.outcomes();
    screen.close().await;
    if let Some(file) = &arguments.json {
        let steps = serde_json::to_vec_pretty(&json!({"steps": outcomes}))?;
        std::fs::write(file, steps)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    if played.is_err() {
        // In the words a person would read first.
        let status = stage.world.muster(&["status"]).await?;
        eprintln!("muster status:\n{}{}", status.out, status.err);
        return played;
    }
    println!(
        "Each step was seen by two: a client of the API servers themselves, and `muster -o json`."
    );
    if live.is_some() && !arguments.keep {
        println!(
            "\nNext:\n  cargo demo -- --keep        the same, and everything stays up for you to try\n  \
             cargo demo -- --real 2      on real Kubernetes API servers\n  \
             README.md                   your own repository and your own cluster"
        );
    }
    Ok(())
}

/// The lines to try while everything runs.
fn how_to_ask(stage: &Stage) -> Result<String> {
    let environment = stage.world.environment()?;
    let path = |path: Option<PathBuf>| path.unwrap_or_default().display().to_string();
    let kubeconfigs = stage.clusters.iter().map(|(name, cluster)| {
        format!(
            "  kubectl --kubeconfig {} get all -n demo-web   # {name}\n",
            cluster.kubeconfig.display()
        )
    });
    Ok(format!(
        "Everything runs until Ctrl-C. In another terminal:\n\n  \
         export MUSTER_SERVER={} MUSTER_CA_FILE={} MUSTER_TOKEN_FILE={}\n  \
         cargo run -q --bin muster -- status --watch\n  \
         cargo run -q --bin muster -- get app web\n  \
         cargo run -q --bin muster -- drift\n\n\
         The fleet repository; the hub looks every two seconds:\n\n  \
         cd {}\n  git commit -am 'My change' && git push origin HEAD:main\n\n\
         The clusters; what you change by hand is repaired:\n\n{}",
        environment.server.unwrap_or_default(),
        path(environment.ca_file),
        path(environment.token_file),
        Path::display(&stage.world.repository.work()),
        kubeconfigs.collect::<String>(),
    ))
}
