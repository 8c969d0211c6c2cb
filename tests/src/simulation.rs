//! A seeded simulation of one cluster: the agent's engine, the hub's deciding, an API server in memory, and a history
//! of commits, hand edits, restarts, restores, cut sessions, API errors and watches that expire; then calm.
//!
//! In: a seed. Out: a hash of all that happened, or the first thing that must not be, with what came before it. It runs
//! on one thread under a clock that stands still while anybody works, so a seed is one history: [`replay`] says how
//! to see it again.
//!
//! What is looked at, at every step: generations never fall, and one names one content (invariant 4); nothing is
//! deleted that the accepted state holds, or while its removals wait (6); secret values are in no row (10); fields and
//! objects of others stay (11). In the calm: nothing is left of ours that is not desired (5), hand edits are undone
//! with the hub away (7), rows say what is there (12), and all is as the newest good commit says (1).
//!
//! Not simulated: Git, the hub's own task and its SQLite, gRPC. [`hub`] stands for them: it decides by the hub's own
//! function, stamps generations and keeps its store by the same rules.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_agent::engine::{self, Engine, EngineOptions};
use muster_proto::{Desired, Digest, Generation, Removals, SyncStatus, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::memory::{Call, Faults, Options, Rule, Server};

mod chance;
mod cluster;
mod hub;
mod link;

use chance::Chance;
use cluster::Hands;
use hub::Hub;

/// Where the objects are.
const NAMESPACE: &str = "shop";
/// What no row may hold: in plain and in Base64.
const SECRET: [&str; 2] = ["hunter2", "aHVudGVyM"];
/// Things that happen before the calm.
const STEPS: usize = 24;
/// The calm must do it in this time; repairs of what is edited again and again wait up to five minutes.
const CALM: Duration = Duration::from_secs(1200);

/// How to see a seed again.
#[must_use]
pub fn replay(seed: u64) -> String {
    format!(
        "MUSTER_SEED={seed} cargo test -p muster-tests --test simulation one_seed -- --nocapture"
    )
}

/// What happened, in order.
pub(crate) struct Log {
    start: Instant,
    lines: Mutex<Vec<String>>,
}

impl Log {
    fn say(&self, what: &str) {
        let line = format!("{:>9} {what}", self.start.elapsed().as_millis());
        locked(&self.lines).push(line);
    }
}

/// All that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// What happened, in order, each with its millisecond.
    pub lines: Vec<String>,
}

impl History {
    /// The same for the same history.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lines.hash(&mut hasher);
        hasher.finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of day, `start` being a day in 2027.
fn wall(start: Instant) -> jiff::Timestamp {
    let passed = i64::try_from(start.elapsed().as_millis()).unwrap_or(0);
    jiff::Timestamp::from_millisecond(1_800_000_000_000 + passed).expect("a time of this century")
}

/// Lets time pass.
async fn pass(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// Plays one history. To be run on a current-thread runtime whose clock is paused.
///
/// # Errors
/// What must not be, and all that happened until then.
pub async fn play(seed: u64) -> Result<History> {
    let log = Arc::new(Log {
        start: Instant::now(),
        lines: Mutex::default(),
    });
    let played = World::new(seed, log.clone())?.play().await;
    played.with_context(|| {
        let lines = locked(&log.lines);
        format!("seed {seed}\n{}\nagain: {}", lines.join("\n"), replay(seed))
    })?;
    let lines = std::mem::take(&mut *locked(&log.lines));
    Ok(History { lines })
}

struct World {
    chance: Chance,
    log: Arc<Log>,
    server: Arc<Server>,
    judge: Arc<Judge>,
    hub: Arc<Mutex<Hub>>,
    hands: Hands,
    /// Whether the agent reaches the hub.
    up: watch::Sender<bool>,
    agent: Option<Agent>,
    agents: u64,
    seen: Seen,
}

/// A running agent. Dropping it is a crash.
struct Agent {
    engine: Engine,
    _engine: AbortOnDropHandle<()>,
    _link: AbortOnDropHandle<()>,
}

/// What was seen of accepted states.
#[derive(Default)]
struct Seen {
    highest: Generation,
    contents: BTreeMap<Generation, Digest>,
}

impl World {
    fn new(seed: u64, log: Arc<Log>) -> Result<Self> {
        let start = log.start;
        let server = Server::new(Options {
            seed,
            clock: Arc::new(move || wall(start)),
            ..Options::default()
        });
        let judge = Arc::new(Judge {
            log: log.clone(),
            faults: Mutex::default(),
            held: Mutex::default(),
            wrong: Mutex::default(),
        });
        let at_each_call = judge.clone();
        server.set_fault(Some(Arc::new(move |call| at_each_call.hear(call))));
        Ok(Self {
            chance: Chance::new(seed),
            hands: Hands::new(server.client()),
            hub: Arc::new(Mutex::new(Hub::new()?)),
            up: watch::Sender::new(true),
            agent: None,
            agents: 0,
            seen: Seen::default(),
            log,
            server,
            judge,
        })
    }

    async fn play(mut self) -> Result<()> {
        self.hands.make_stranger().await?;
        locked(&self.hub).commit(&mut self.chance, true);
        self.start_agent()?;
        for _ in 0..STEPS {
            self.step().await?;
            let time = self.chance.time(20_000);
            pass(time).await;
            self.check().await?;
        }
        self.calm().await
    }

    fn start_agent(&mut self) -> Result<()> {
        self.agent = None;
        self.agents += 1;
        let options = EngineOptions {
            namespace: "muster-system".into(),
            hub: "hub.test/abc".into(),
            cluster: "one".parse()?,
            instance: format!("instance-{}", self.agents),
        };
        let start = self.log.start;
        let clock =
            muster_agent::clock::Clock::new(move || Timestamp(wall(start).as_millisecond()));
        let (engine, task) = engine::start_at(self.server.client(), options, clock);
        *locked(&self.judge.held) = Some((
            engine.held(),
            [Desired::none(), Desired::none()].map(Arc::new),
        ));
        let link = link::run(
            engine.clone(),
            self.hub.clone(),
            self.up.subscribe(),
            self.log.clone(),
        );
        self.agent = Some(Agent {
            _engine: AbortOnDropHandle::new(tokio::spawn(task)),
            _link: AbortOnDropHandle::new(tokio::spawn(link)),
            engine,
        });
        Ok(())
    }

    /// One thing happens.
    async fn step(&mut self) -> Result<()> {
        match self.chance.below(20) {
            0..6 => {
                let what = locked(&self.hub).commit(&mut self.chance, false);
                self.log.say(&format!("commit: {what}"));
            }
            6..10 => {
                let what = self.hands.edit(&mut self.chance).await?;
                self.log.say(&format!("by hand: {what}"));
            }
            10..12 => {
                self.log.say("the agent crashes and starts again");
                self.start_agent()?;
            }
            12 => {
                self.log.say("the hub restarts");
                locked(&self.hub).restart();
                self.cut();
            }
            13 => {
                self.log.say("the hub is restored from a backup");
                locked(&self.hub).restore(&mut self.chance);
                self.cut();
            }
            14 => {
                let up = !*self.up.borrow();
                self.log.say(if up {
                    "the hub is there again"
                } else {
                    "the hub is away"
                });
                self.up.send_replace(up);
            }
            15 => {
                self.log.say("the session is cut");
                self.cut();
            }
            16..18 => {
                let faults = self.chance.faults();
                self.log.say(&format!("calls fail: {faults:?}"));
                *locked(&self.judge.faults) = Some(faults.rule());
            }
            18 => {
                self.log.say("calls succeed");
                *locked(&self.judge.faults) = None;
            }
            _ => {
                self.log.say("the API server forgets its history");
                self.server.forget_history();
            }
        }
        Ok(())
    }

    /// The session ends, and begins again if the hub is there.
    fn cut(&self) {
        let up = *self.up.borrow();
        self.up.send_replace(false);
        self.up.send_replace(up);
    }

    /// What holds at any time.
    async fn check(&mut self) -> Result<()> {
        if let Some(wrong) = locked(&self.judge.wrong).take() {
            anyhow::bail!("{wrong}");
        }
        let agent = self.agent.as_ref().context("no agent")?;
        let held = agent.engine.held().borrow().clone();
        let rows = agent.engine.rows().borrow().clone();
        if held.generation > 0 {
            let highest = self.seen.highest;
            ensure!(
                held.generation >= highest,
                "invariant 4: generation {} after {highest}",
                held.generation
            );
            self.seen.highest = held.generation;
            let digest = self.seen.contents.entry(held.generation);
            let digest = digest.or_insert_with(|| held.digest());
            ensure!(
                *digest == held.digest(),
                "invariant 4: generation {} has two contents",
                held.generation
            );
        }
        let said = format!("{rows:?}");
        ensure!(
            !SECRET.iter().any(|secret| said.contains(secret)),
            "invariant 10: a row holds a secret value: {said}"
        );
        self.hands.check().await
    }

    /// Nothing happens any more; the cluster becomes what it should be.
    async fn calm(mut self) -> Result<()> {
        *locked(&self.judge.faults) = None;
        if self.chance.below(2) == 0 {
            self.log.say("calm, with the hub away");
            self.up.send_replace(false);
            self.start_agent()?;
            let what = self.hands.edit(&mut self.chance).await?;
            self.log.say(&format!("by hand: {what}"));
            self.until("invariant 7: without the hub", async |world| {
                let agent = world.agent.as_ref().context("no agent")?;
                agent.engine.loaded().await.map_err(anyhow::Error::msg)?;
                let held = agent.engine.held().borrow().clone();
                world.hands.holds(&held).await
            })
            .await?;
        }
        self.log.say("calm");
        locked(&self.hub).commit(&mut self.chance, true);
        self.up.send_replace(true);
        self.until("in the end", async |world| {
            // A person gives the word whenever the hub asks for it.
            locked(&world.hub).approve();
            let newest = world.hub_says();
            ensure!(
                newest.removals == Removals::Released,
                "{:?}",
                newest.removals
            );
            let agent = world.agent.as_ref().context("no agent")?;
            let held = agent.engine.held().borrow().clone();
            ensure!(
                held.digest() == newest.digest(),
                "it holds generation {} and should hold {}",
                held.generation,
                newest.generation
            );
            world.hands.holds(&newest).await?;
            let rows = agent.engine.rows().borrow().clone();
            ensure!(
                rows.generation() == newest.generation,
                "rows of {}",
                rows.generation()
            );
            for application in &newest.applications {
                let row = rows.applications().get(&application.name);
                let good = row.is_some_and(|row| {
                    row.sync == SyncStatus::Synced && row.digest == application.digest()
                });
                ensure!(good, "invariant 12: {row:?}");
            }
            ensure!(
                rows.applications().len() == newest.applications.len(),
                "{rows:?}"
            );
            Ok(())
        })
        .await
    }

    fn hub_says(&self) -> Arc<Desired> {
        locked(&self.hub).newest().borrow().clone()
    }

    async fn until(&mut self, what: &str, look: impl AsyncFn(&Self) -> Result<()>) -> Result<()> {
        let end = Instant::now() + CALM;
        loop {
            self.check().await?;
            match look(self).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= end => {
                    return Err(error).with_context(|| format!("{what}, after {CALM:?}"));
                }
                Err(_) => pass(Duration::from_secs(5)).await,
            }
        }
    }
}

/// What the agent holds, and the two states before that were seen.
type Held = (watch::Receiver<Arc<Desired>>, [Arc<Desired>; 2]);

/// Hears every call to the API server: writes it down, lets it fail, and judges deletions.
struct Judge {
    log: Arc<Log>,
    faults: Mutex<Option<Rule>>,
    held: Mutex<Option<Held>>,
    wrong: Mutex<Option<String>>,
}

impl Judge {
    fn hear(&self, call: &Call<'_>) -> Option<crate::memory::Fault> {
        if cluster::is_hand(call.manager) {
            return None;
        }
        let fault = locked(&self.faults).as_ref().and_then(|rule| rule(call));
        if call.writes() {
            let fault = fault.map(|fault| format!(" {fault:?}"));
            let fault = fault.unwrap_or_default();
            self.log.say(&format!("{} {}{fault}", call.verb, call.path));
        }
        if call.verb == "delete" && call.path.contains(&format!("/namespaces/{NAMESPACE}/")) {
            self.judge_deletion(call.path);
        }
        fault
    }

    /// A deletion that was decided before the newest state came may still be on its way.
    fn judge_deletion(&self, path: &str) {
        let mut slot = locked(&self.held);
        let Some((receiver, states)) = &mut *slot else {
            return;
        };
        let now = receiver.borrow().clone();
        if states[0].generation != now.generation {
            states.swap(0, 1);
            states[0] = now;
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let holds = |desired: &Desired| {
            let objects = desired.applications.iter().flat_map(|a| a.objects());
            objects.into_iter().any(|object| object.key.name == name)
        };
        let waits = |desired: &Desired| matches!(desired.removals, Removals::Held(_));
        let wrong = if states.iter().all(|state| holds(state)) {
            "it is in the accepted state"
        } else if states.iter().all(|state| waits(state)) {
            "removals wait"
        } else {
            return;
        };
        locked(&self.wrong).get_or_insert_with(|| {
            let generations = states.each_ref().map(|state| state.generation);
            format!("invariant 6: {path} is deleted, and {wrong} (generations {generations:?})")
        });
    }
}

/// The faults of a bad hour.
impl Chance {
    fn faults(&mut self) -> Faults {
        let mut share = || u16::try_from(self.below(60)).unwrap_or(0);
        let mut faults = Faults {
            late: share(),
            conflicts: share(),
            too_many: share(),
            errors: share(),
            undelivered: share(),
            unanswered: share(),
            cut: share() * 5,
            ..Faults::default()
        };
        faults.seed = self.next();
        faults.latest = self.time(8000);
        faults
    }
}
