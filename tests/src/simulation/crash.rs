//! The agent dies at a random write, as SIGKILL has it, with many writes on their way: its write arrived or did not, and
//! nothing of it arrives any more. The next one finishes the work, and may die of it once more.
//!
//! Of what came half goes again before anybody applied it once more, so that only the inventory knows of it; and the
//! agent dies between the change that it accepted and the end of the removals that it asks for.
//!
//! In: a seed. Out: what happened, and how often the agent died. In the end the cluster is as Git says: nothing that
//! stays was deleted on the way, nothing is left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use super::chance::Chance;
use super::{History, Log, NAMESPACE, World, locked};
use crate::memory::{Call, Fault, Faults};

/// Objects that there may be.
const MANY: u64 = 32;
/// The write that it dies at is one of so many.
const WRITES: u64 = 16;

/// How to see a seed again.
fn replay(seed: u64) -> String {
    format!(
        "MUSTER_SEED={seed} cargo test -p muster-tests --test simulation one_kill -- --nocapture"
    )
}

/// Plays one seed, as [`super::play`] does.
///
/// # Errors
/// What must not be, and all that happened until then.
pub async fn kill(seed: u64) -> Result<(History, u32)> {
    let log = Arc::new(Log {
        start: Instant::now(),
        lines: std::sync::Mutex::default(),
    });
    let played = async { killed(World::new(seed, log.clone()).await?).await };
    let deaths = played.await.with_context(|| {
        let lines = locked(&log.lines);
        format!("seed {seed}\n{}\nagain: {}", lines.join("\n"), replay(seed))
    })?;
    let lines = std::mem::take(&mut *locked(&log.lines));
    Ok((History { lines }, deaths))
}

async fn killed(mut world: World) -> Result<u32> {
    let first = objects(&mut world.chance, &BTreeMap::new());
    world.settle(first.clone()).await?;
    let before = world.hands.uids().await?;
    let slow = Faults {
        seed: world.chance.next(),
        late: 800,
        latest: Duration::from_millis(30),
        ..Faults::default()
    };
    let slow = || Some(slow.rule());
    world.judge.set_faults(slow());
    let mut second = objects(&mut world.chance, &first);
    world.put(second.clone());
    let mut deaths = 0;
    for writes in [WRITES, WRITES / 2] {
        let (write, arrives) = (1 + world.chance.below(writes), world.chance.below(2) == 0);
        deaths += u32::from(world.dies_at(write, |call| call.writes(), arrives).await);
    }
    // Nothing is applied any more until the accepted state is another one.
    world.judge.set_faults(Some(Arc::new(|call| {
        let applies = call.verb == "apply" && is_object(call);
        applies.then_some(Fault::Status(503))
    })));
    let coming = second.keys().filter(|number| !first.contains_key(number));
    let leaving: Vec<u64> = coming.copied().step_by(2).collect();
    second.retain(|number, _| !leaving.contains(number));
    world.restart_agent();
    world.put(second.clone());
    let (deletion, arrives) = (1 + world.chance.below(4), world.chance.below(2) == 0);
    let deletes = |call: &Call<'_>| call.verb == "delete" && is_object(call);
    let died = world.dies_at(deletion, deletes, arrives).await;
    deaths += u32::from(died);
    world.judge.set_faults(slow());
    world.settle(second.clone()).await?;
    let after = world.hands.uids().await?;
    for number in first.keys().filter(|number| second.contains_key(number)) {
        let name = format!("o{number}");
        ensure!(
            before.get(&name) == after.get(&name),
            "{NAMESPACE}/{name} stays, and was deleted and made again"
        );
    }
    Ok(deaths)
}

fn is_object(call: &Call<'_>) -> bool {
    call.path.contains(&format!("/namespaces/{NAMESPACE}/"))
}

/// A commit: what stays, what changes, what moves to another application, what comes and goes. Not so much goes that it
/// would wait for a person.
fn objects(
    chance: &mut Chance,
    before: &BTreeMap<u64, (&'static str, u64)>,
) -> BTreeMap<u64, (&'static str, u64)> {
    let mut objects = before.clone();
    for number in 0..MANY {
        let fresh = (*chance.one(&["front", "back"]), chance.below(3));
        match (before.contains_key(&number), chance.below(4)) {
            (false, 0..3) | (true, 0) => drop(objects.insert(number, fresh)),
            (true, 1) => drop(objects.remove(&number)),
            _ => {}
        }
    }
    objects
}

impl World {
    fn put(&mut self, objects: BTreeMap<u64, (&'static str, u64)>) {
        let what = self.tree.put(objects);
        self.committed(&what);
    }

    /// Brings the cluster to these objects, undisturbed.
    async fn settle(&mut self, objects: BTreeMap<u64, (&'static str, u64)>) -> Result<()> {
        self.judge.set_faults(None);
        self.put(objects);
        self.comes_true("settled").await
    }

    /// Whether the agent came to so manieth of these calls and died there; another one runs then.
    async fn dies_at(&mut self, number: u64, counts: fn(&Call<'_>) -> bool, arrives: bool) -> bool {
        let mut died = self.judge.kill_at(number, counts, arrives);
        let died = died.wait_for(|died| *died);
        let died = tokio::time::timeout(Duration::from_secs(30), died).await;
        let died = matches!(died, Ok(Ok(_)));
        if died {
            self.log.say("the agent is dead, and another one starts");
            self.restart_agent();
        }
        self.judge.spare();
        died
    }
}
