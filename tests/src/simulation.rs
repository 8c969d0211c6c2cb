//! A seeded simulation of one cluster and its hub: a history of commits, hand edits, crashes, restarts, restores, slow,
//! stalled and cut wires, API errors and watches that expire; then calm.
//!
//! In: a seed. Out: a hash of all that happened, or the first thing that must not be, with what came before it. It runs
//! on one thread under a clock that stands still while anybody works, so a seed is one history: [`replay`] says how
//! to see it again.
//!
//! What runs is the product: the hub's fleet task and its listener for agents, the agent's engine and session, gRPC
//! between them. Simulated are: the API server ([`crate::memory`]), the wire (pipes without TLS), the hub's store
//! (memory that forgets what was not acknowledged), Git (a snapshot is a value), and all clocks. Left out are
//! enrolment and the renewal of certificates, what people ask by gRPC, and more than one cluster.
//!
//! What is looked at, at every write of the agent: generations never fall, and one names one content (invariant 4);
//! what is written stands in the ledger as it is stored at that moment, and leaves it when it is gone or abandoned (5);
//! removals are released only by a state that is one whole commit, and nothing goes that such a state has (6). At every
//! step: secret values are in no row (10); fields and objects of others stay (11); every row says since when, and a
//! silent cluster is unknown (12). In the calm: nothing is left that is not desired (5), hand edits are undone with the
//! hub away (7), rows say what is there (12), and all is as the newest good commit says (1).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use muster_hub::view::{Connection, View};
use muster_proto::{Desired, HealthStatus, SyncStatus, Timestamp};
use tokio::time::Instant;

use crate::memory::{Faults, Options, Server};

mod agent;
mod chance;
mod cluster;
pub mod crash;
mod hub;
mod judge;
mod tree;
mod wire;

use agent::Agent;
use chance::Chance;
use cluster::Hands;
use hub::{Hub, Names};
use judge::Judge;
use tree::Tree;
use wire::Wire;

/// Where the objects are.
const NAMESPACE: &str = "shop";
/// What no row may hold: in plain and in Base64.
const SECRET: [&str; 2] = ["hunter2", "aHVudGVyM"];
/// Things that happen before the calm.
const STEPS: usize = 24;
/// The calm must do it in this time; repairs of what is edited again and again wait up to five minutes.
const CALM: Duration = Duration::from_secs(1200);
/// A day in 2027, in seconds.
const DAY: u64 = 1_800_000_000;
/// A cluster whose wire was down for so long is silent: 45 s, and what it takes to see and show it.
const SILENT: Duration = Duration::from_secs(48);

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

/// The time of day.
fn wall(start: Instant) -> jiff::Timestamp {
    let passed = i64::try_from(start.elapsed().as_millis()).unwrap_or(0);
    let milliseconds = i64::try_from(DAY * 1000).unwrap_or(0) + passed;
    jiff::Timestamp::from_millisecond(milliseconds).expect("a time of this century")
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
    let played = async { World::new(seed, log.clone()).await?.play().await };
    played.await.with_context(|| {
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
    names: Arc<Names>,
    wire: Arc<Wire>,
    tree: Tree,
    hub: Hub,
    hands: Hands,
    agent: Agent,
    agents: u64,
    /// Since when nothing can come over the wire, with the hub running all the time.
    silent: Option<Instant>,
}

impl World {
    async fn new(seed: u64, log: Arc<Log>) -> Result<Self> {
        chance::begin_jitter(seed);
        let start = log.start;
        let server = Server::new(Options {
            seed,
            clock: Arc::new(move || wall(start)),
            ..Options::default()
        });
        let judge = Arc::new(Judge::new(log.clone(), &server));
        let at_each_call = judge.clone();
        server.set_fault(Some(Arc::new(move |call| at_each_call.hear(call))));
        let hands = Hands::new(server.client());
        let uid = hands.make_stranger().await?;
        let names = Arc::new(Names::new(
            SystemTime::UNIX_EPOCH + Duration::from_secs(DAY),
        )?);
        let wire = Wire::new(seed, names.identity.clone(), names.certificate.clone());
        let clock: muster_hub::clock::Clock =
            Arc::new(move || Timestamp(wall(start).as_millisecond()));
        let mut hub = Hub::start(names.clone(), wire.clone(), clock, uid).await?;
        let mut chance = Chance::new(seed);
        let mut tree = Tree::default();
        let what = tree.commit(&mut chance, true);
        log.say(&format!("commit: {what}"));
        judge.committed(&tree);
        hub.fetched(&tree);
        let agent = start_agent(&server, &judge, &names, &wire, start, 1);
        Ok(Self {
            chance,
            hands,
            tree,
            hub,
            agent,
            agents: 1,
            silent: None,
            log,
            server,
            judge,
            names,
            wire,
        })
    }

    async fn play(mut self) -> Result<()> {
        for _ in 0..STEPS {
            let time = self.chance.time(20_000);
            pass(time).await;
            self.check().await?;
            self.step().await?;
        }
        self.calm().await
    }

    fn restart_agent(&mut self) {
        self.agents += 1;
        // The one before is gone before the next one comes.
        let (server, start) = (&self.server, self.log.start);
        self.agent = start_agent(
            server,
            &self.judge,
            &self.names,
            &self.wire,
            start,
            self.agents,
        );
    }

    /// One thing happens.
    async fn step(&mut self) -> Result<()> {
        match self.chance.below(24) {
            0..6 => self.commit(false),
            6..10 => {
                let what = self.hands.edit(&mut self.chance).await?;
                self.log.say(&format!("by hand: {what}"));
            }
            10..12 => {
                self.log.say("the agent crashes and starts again");
                self.restart_agent();
            }
            12 => {
                self.log.say("the hub stops and starts again");
                self.hub.stop().await?;
                self.hub.begin().await?;
                self.silent = None;
            }
            13 => {
                self.log.say("the hub crashes and starts again");
                self.hub.crash();
                self.hub.begin().await?;
                self.silent = None;
            }
            14 => {
                self.log.say("the hub is restored from a backup");
                self.hub.crash();
                self.hub.restore(&mut self.chance);
                self.hub.begin().await?;
                self.silent = None;
            }
            15 => {
                let up = !self.wire.is_up();
                self.log.say(if up {
                    "the hub can be reached again"
                } else {
                    "the hub can't be reached"
                });
                self.wire.set_up(up);
            }
            16 => {
                self.log.say("the wire is cut");
                self.wire.cut();
            }
            17 => {
                self.log.say("the wire stalls");
                self.wire.stall();
            }
            18..20 => {
                let faults = self.chance.faults();
                self.log.say(&format!("calls fail: {faults:?}"));
                self.judge.set_faults(Some(faults.rule()));
            }
            20 => {
                self.log.say("calls succeed");
                self.judge.set_faults(None);
            }
            21 => {
                self.log.say("the API server forgets its history");
                self.server.forget_history();
            }
            _ => self.offer_older(),
        }
        Ok(())
    }

    /// A state of before comes once more, as it was or under the newest generation.
    fn offer_older(&mut self) {
        let states = self.judge.states();
        let Some(newest) = states.last().filter(|newest| newest.generation > 0) else {
            return;
        };
        let older = self.chance.one(&states);
        let offered = match self.chance.below(2) {
            0 => Desired::clone(older),
            _ => older.stamped(newest.generation),
        };
        self.log.say(&format!(
            "generation {} is offered with what {} had, and {} is held",
            offered.generation, older.generation, newest.generation
        ));
        self.agent.offer(offered);
    }

    fn commit(&mut self, good: bool) {
        let what = self.tree.commit(&mut self.chance, good);
        self.committed(&what);
    }

    fn committed(&mut self, what: &str) {
        self.log.say(&format!("commit: {what}"));
        self.judge.committed(&self.tree);
        self.hub.fetched(&self.tree);
    }

    /// What holds at any time.
    async fn check(&mut self) -> Result<()> {
        if let Some(wrong) = self.judge.wrong() {
            anyhow::bail!("{wrong}");
        }
        self.agent.check()?;
        let held = self.agent.engine.held().borrow().clone();
        let rows = self.agent.engine.rows().borrow().clone();
        let view = self.hub.view()?;
        let said = format!("{rows:?} {view:?}");
        ensure!(
            !SECRET.iter().any(|secret| said.contains(secret)),
            "invariant 10: a row holds a secret value: {said}"
        );
        let silent = !self.wire.is_up();
        let silent = silent.then(|| *self.silent.get_or_insert_with(Instant::now));
        self.silent = silent;
        let silent = silent.is_some_and(|since| since.elapsed() > SILENT);
        let now = Timestamp(wall(self.log.start).as_millisecond());
        let told = rows_are_honest(&view, silent, now);
        told.with_context(|| format!("invariant 12: {view:#?}"))?;
        if let Some(cluster) = view.cluster("one") {
            self.log.say(&format!(
                "the agent holds {}; the hub says {}, {} of {}, {:?} and {:?}",
                held.generation,
                cluster.connection.as_str(),
                cluster.accepted_generation,
                cluster.generation,
                cluster.sync,
                cluster.health
            ));
        }
        self.hands.check().await
    }

    /// Nothing happens any more; the cluster becomes what it should be.
    async fn calm(mut self) -> Result<()> {
        self.judge.set_faults(None);
        if self.chance.below(2) == 0 {
            self.log.say("calm, with the hub away");
            self.wire.set_up(false);
            self.restart_agent();
            let what = self.hands.edit(&mut self.chance).await?;
            self.log.say(&format!("by hand: {what}"));
            self.until("invariant 7: without the hub", async |world| {
                let engine = &world.agent.engine;
                engine.loaded().await.map_err(anyhow::Error::msg)?;
                let held = engine.held().borrow().clone();
                world
                    .hands
                    .holds_state(&held, &world.judge.abandoned())
                    .await
            })
            .await?;
        }
        self.log.say("calm");
        self.commit(true);
        self.wire.set_up(true);
        self.comes_true("in the end").await
    }

    /// Waits until the cluster is as Git means it, and hub and agent say so.
    async fn comes_true(&mut self, when: &str) -> Result<()> {
        self.until(when, async |world| {
            // A person gives the word whenever the hub asks for it.
            world.hub.approve().await?;
            world
                .hands
                .holds(&world.tree.wanted(), &world.judge.abandoned())
                .await?;
            world.all_is_well()
        })
        .await
    }

    /// Hub and agent say what is there, and nothing else.
    fn all_is_well(&self) -> Result<()> {
        let view = self.hub.view()?;
        let cluster = view.cluster("one").context("the hub knows no cluster")?;
        let revision = self.tree.revision();
        ensure!(
            view.source.adopted_revision == revision,
            "{:?}",
            view.source
        );
        ensure!(view.waiting.is_empty(), "{:?}", view.waiting);
        ensure!(cluster.connection == Connection::Connected, "{cluster:?}");
        let held = self.agent.engine.held().borrow().clone();
        ensure!(
            held.generation == cluster.generation && held.generation == cluster.accepted_generation,
            "the agent holds {}, the hub says {} of {}",
            held.generation,
            cluster.accepted_generation,
            cluster.generation
        );
        let count = self.tree.applications();
        ensure!(
            cluster.placements.len() == count && cluster.rows.applications().len() == count,
            "{cluster:?}"
        );
        for row in cluster.placements() {
            let good = row.status.is_some_and(|status| {
                status.sync == SyncStatus::Synced && status.health == HealthStatus::Current
            });
            ensure!(row.current && good, "invariant 12: {row:?}");
        }
        let rows = self.agent.engine.rows().borrow().clone();
        ensure!(
            *rows == *cluster.rows,
            "the agent says {rows:?}, the hub {cluster:?}"
        );
        Ok(())
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

fn start_agent(
    server: &Arc<Server>,
    judge: &Judge,
    names: &Names,
    wire: &Arc<Wire>,
    start: Instant,
    number: u64,
) -> Agent {
    let clock = muster_agent::clock::Clock::new(move || Timestamp(wall(start).as_millisecond()));
    let agent = Agent::start(server.client(), names, wire.clone(), clock, number);
    judge.follow(agent.engine.held());
    agent
}

/// Every row says since when it is known; a silent cluster is unknown, never its last green.
fn rows_are_honest(view: &View, silent: bool, now: Timestamp) -> Result<()> {
    let Some(cluster) = view.cluster("one") else {
        return Ok(());
    };
    ensure!(
        !(silent && cluster.connection == Connection::Connected),
        "nothing came for {SILENT:?} and more, and it is shown as connected"
    );
    if cluster.connection != Connection::Connected {
        let unknown = (SyncStatus::Unknown, HealthStatus::Unknown, 0, 0);
        let shown = (
            cluster.sync,
            cluster.health,
            cluster.synced,
            cluster.healthy,
        );
        ensure!(
            shown == unknown,
            "it is not connected, and shown as {shown:?}"
        );
    }
    ensure!(cluster.since.0 > 0 && cluster.since <= now, "since when?");
    for row in cluster.rows.applications().values() {
        ensure!(
            row.since.0 > 0 && row.since <= now,
            "{} says since {:?}",
            row.application,
            row.since
        );
    }
    Ok(())
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
