//! Histories of a cluster from seeds: each one ends well, and is the same each time.

use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use muster_tests::simulation::{self, History};

const SEEDS: Range<u64> = 0..1000;
/// Played again, here and in another process.
const AGAIN: Range<u64> = 0..40;

/// Seeds of an agent that is killed.
const KILLS: Range<u64> = 0..200;

fn play(seed: u64) -> Result<History> {
    stand_still(seed, simulation::play(seed))
}

/// Under a clock that stands still while anybody works.
fn stand_still<T>(seed: u64, history: impl Future<Output = Result<T>>) -> Result<T> {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(history)
}

/// Something of each seed, in their order; on as many threads as there are processors, each history on one.
fn of_each<T: Send>(seeds: Range<u64>, of: impl Fn(u64) -> T + Sync) -> Result<Vec<(u64, T)>> {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::SeqCst);
        if seed >= seeds.end {
            return;
        }
        let one = of(seed);
        all.lock().expect("nobody panics with it").push((seed, one));
    };
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().expect("nobody panicked with it");
    all.sort_by_key(|(seed, _)| *seed);
    Ok(all)
}

#[test]
fn every_history_ends_well() -> Result<()> {
    all_end_well(of_each(SEEDS, play)?).map(drop)
}

#[test]
fn an_agent_killed_at_a_random_write_with_many_on_their_way_is_finished_by_the_next() -> Result<()>
{
    let kill = |seed| stand_still(seed, simulation::crash::kill(seed));
    let played = all_end_well(of_each(KILLS, kill)?)?;
    let deaths: Vec<u32> = played.into_iter().map(|(_, deaths)| deaths).collect();
    let struck = deaths.iter().filter(|deaths| **deaths > 0).count();
    ensure!(
        struck > 150,
        "only {struck} of {KILLS:?} came to the write to die at"
    );
    Ok(())
}

/// What came of each seed; else the first that went wrong, and which others did.
fn all_end_well<T>(played: Vec<(u64, Result<T>)>) -> Result<Vec<T>> {
    let (mut well, mut wrong) = (Vec::new(), Vec::new());
    for (seed, played) in played {
        match played {
            Ok(good) => well.push(good),
            Err(error) => wrong.push((seed, error)),
        }
    }
    let seeds: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
    if let Some((_, first)) = wrong.first() {
        anyhow::bail!(
            "{} of {} histories: {seeds:?}; the first:\n{first:?}",
            wrong.len(),
            wrong.len() + well.len()
        );
    }
    Ok(well)
}

#[test]
fn a_seed_is_one_history_in_every_process() -> Result<()> {
    let first = of_each(AGAIN, play)?;
    let again = of_each(AGAIN, play)?;
    for ((seed, first), (_, again)) in first.iter().zip(&again) {
        let (first, again) = match (first, again) {
            (Ok(first), Ok(again)) => (first, again),
            (Err(error), _) | (_, Err(error)) => anyhow::bail!("{error:?}"),
        };
        let pairs = first.lines.iter().zip(&again.lines);
        if let Some((index, (one, other))) = pairs.enumerate().find(|(_, (a, b))| a != b) {
            let before = first.lines[index.saturating_sub(10)..index].join("\n");
            anyhow::bail!("seed {seed}: after\n{before}\nonce\n{one}\nand once\n{other}");
        }
        ensure!(first == again, "seed {seed} ends in two ways");
    }
    let mine: String = first
        .iter()
        .flat_map(|(seed, history)| Some(line(*seed, history.as_ref().ok()?)))
        .collect();
    let elsewhere = Command::new(std::env::current_exe()?)
        .args(["seeds_as_hashes", "--exact", "--nocapture"])
        .env("MUSTER_SEEDS", format!("{}..{}", AGAIN.start, AGAIN.end))
        .output()?;
    let elsewhere = String::from_utf8(elsewhere.stdout)?;
    ensure!(
        mine.lines().all(|line| elsewhere.contains(line)),
        "here:\n{mine}\nin another process:\n{elsewhere}"
    );
    let differ: std::collections::BTreeSet<_> = mine.lines().map(|line| &line[10..]).collect();
    ensure!(
        differ.len() == first.len(),
        "two seeds are one history:\n{mine}"
    );
    Ok(())
}

fn line(seed: u64, history: &History) -> String {
    format!("seed {seed:>4} {:016x}\n", history.hash())
}

/// The hashes of the seeds that `MUSTER_SEEDS` names, as `0..40`; of two when it names none.
#[test]
fn seeds_as_hashes() -> Result<()> {
    let seeds = std::env::var("MUSTER_SEEDS").unwrap_or_else(|_| "0..2".into());
    let (start, end) = seeds.split_once("..").context("give seeds as 0..40")?;
    for (seed, history) in of_each(start.parse()?..end.parse()?, play)? {
        print!("{}", line(seed, &history?));
    }
    Ok(())
}

/// The seed that `MUSTER_SEED` names, of an agent that is killed.
#[test]
fn one_kill() -> Result<()> {
    let seed = std::env::var("MUSTER_SEED").unwrap_or_else(|_| "1".into());
    let seed = seed.parse()?;
    let (history, deaths) = stand_still(seed, simulation::crash::kill(seed))?;
    println!("{}\n{deaths} deaths", history.lines.join("\n"));
    Ok(())
}

/// The seed that `MUSTER_SEED` names; any will do when it names none. `RUST_LOG=info` shows what hub and agent log.
#[test]
fn one_seed() -> Result<()> {
    let _set_once = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .without_time()
        .with_test_writer()
        .try_init();
    let seed = std::env::var("MUSTER_SEED").unwrap_or_else(|_| "1".into());
    let seed = seed.parse()?;
    let history = play(seed)?;
    print!("{}\n{}", history.lines.join("\n"), line(seed, &history));
    Ok(())
}
