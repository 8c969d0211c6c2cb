//! Histories of a cluster from seeds: each one ends well, and is the same each time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use muster_tests::simulation::{self, History};

const SEEDS: u64 = 1000;

/// Under a clock that stands still while anybody works.
fn play(seed: u64) -> Result<History> {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(simulation::play(seed))
}

#[test]
fn every_history_ends_well() -> Result<()> {
    let next = AtomicU64::new(0);
    let wrong = Mutex::new(Vec::new());
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= SEEDS {
                        return;
                    }
                    if let Err(error) = play(seed) {
                        let mut wrong = wrong.lock().expect("nobody panics with it");
                        wrong.push((seed, format!("{error:?}")));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner()?;
    wrong.sort();
    let seeds: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
    if let Some((_, first)) = wrong.first() {
        anyhow::bail!(
            "{} of {SEEDS} histories: {seeds:?}; the first:\n{first}",
            seeds.len()
        );
    }
    Ok(())
}

#[test]
fn a_seed_is_one_history() -> Result<()> {
    for seed in 0..20 {
        let (first, second) = (play(seed)?, play(seed)?);
        let pairs = first.lines.iter().zip(&second.lines);
        if let Some((index, (one, other))) = pairs.enumerate().find(|(_, (a, b))| a != b) {
            let before = first.lines[index.saturating_sub(10)..index].join("\n");
            anyhow::bail!("seed {seed}: after\n{before}\nonce\n{one}\nand once\n{other}");
        }
        ensure!(
            first.hash() == second.hash(),
            "seed {seed} ends in two ways"
        );
        ensure!(first.hash() != play(seed + 1000)?.hash());
    }
    Ok(())
}

/// The seed that `MUSTER_SEED` names; any will do when it names none.
#[test]
fn one_seed() -> Result<()> {
    let seed = std::env::var("MUSTER_SEED").unwrap_or_else(|_| "1".into());
    let history = play(seed.parse()?)?;
    println!(
        "{}\nseed {seed}: {:x}",
        history.lines.join("\n"),
        history.hash()
    );
    Ok(())
}
