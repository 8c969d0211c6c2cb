//! `cargo measure NAME`: benchmarks that print each figure beside what was promised, and say whether it holds.
//!
//! In: what to measure. Out: a table, JSON if asked for, and an error when a promise does not hold. The engine runs as
//! the processes that ship, against a real API server, and calls are counted by that server and not by us.

mod audit;
mod bare;
mod bed;
mod engine;
mod figure;
mod flux;
mod load;
mod objects;
mod peer;
mod plan;
mod process;
mod render;
mod shipped;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

/// What can be measured.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Write the figures: [{"name", "figure", "unit", "promise", "holds"}].
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One agent on one API server: rate, calls, repair, memory.
    Engine(engine::Arguments),
    /// Deciding for a whole fleet: a commit, a label, memory.
    Render(render::Arguments),
}

/// Measures, and prints as it goes.
///
/// # Errors
/// When something can't be measured, or a promise does not hold.
pub async fn run(arguments: Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!(
            "This is a debug build: figures say nothing. `cargo measure` builds for release."
        );
    }
    let figures = match arguments.what {
        What::Engine(what) if what.peer.is_some() => peer::measure().await?,
        What::Engine(what) => engine::measure(&what).await?,
        What::Render(what) => render::measure(&what).await?,
    };
    print!("\n{}", figure::table(&figures));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_vec_pretty(&figures)?;
        std::fs::write(file, text)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    let broken = figures
        .iter()
        .filter(|figure| figure.holds() == Some(false))
        .count();
    ensure!(
        broken == 0,
        "{broken} of {} promises do not hold",
        figures.len()
    );
    Ok(())
}
