//! A seeded simulation of one cluster and its hub: a history of commits, hand edits, crashes, restarts, restores, slow,
//! stalled and cut wires, API errors and watches that expire; then calm.
//!
//! In: a seed. Out: a hash of all that happened, or the first thing that must not be, with what came before it. It runs
//! on one thread under a clock that stands still while anybody works, so a seed is one history: [`replay`] says how
//! to see it again.
//!
//! What runs is the product: the hub's fleet task and its listener for agents, the agent's engine and session, gRPC
//! between them; its listener for clusters that join, its certificate authority, and the agent's way into the fleet.
//! Simulated are: the API server ([`crate::memory`]), the wire (pipes without TLS, which tell whom a certificate names),
//! the hub's store (memory that forgets what was not acknowledged), Git (a snapshot is a value), and all clocks. Left
//! out are what people ask by gRPC, and more than one cluster.
//!
//! What is looked at, at every write of the agent: generations never fall, and one names one content (invariant 4);
//! what is written stands in the ledger as it is stored at that moment, and leaves it when it is gone or abandoned (5);
//! removals are released only by a state that is one whole commit, and nothing goes that such a state has (6). At every
//! step: secret values are in no row (10); fields and objects of others stay (11); every row says since when, and a
//! silent cluster is unknown (12). In the calm: nothing is left that is not desired (5), hand edits are undone with the
//! hub away (7), rows say what is there (12), all is as the newest good commit says (1), and the cluster is a member by a
//! certificate that is not old.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_hub::ca::Ca;
use muster_hub::view::{Connection, View};
use muster_proto::{ClusterName, Desired, HealthStatus, SyncStatus, Timestamp};
use tokio::time::Instant;

use crate::memory::{Faults, Options, Server};

mod agent;
mod calm;
mod chance;
mod cluster;
pub mod crash;
mod hub;
mod joining;
mod judge;
mod tree;
mod wire;

use agent::{Agent, Home};
use chance::Chance;
use cluster::Hands;
use hub::Hub;
use joining::Invitation;
use judge::Judge;
use tree::Tree;
use wire::Wire;

/// Where the objects are.
const NAMESPACE: &str = "shop";
/// What no row may hold: in plain and in Base64.
const SECRET: [&str; 2] = ["hunter2", "aHVudGVyM"];
/// Things that happen before the calm.
const STEPS: usize = 24;
/// A day in 2027, in seconds.
const DAY: i64 = 1_800_000_000;
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

/// The time of day, which days may go by at once.
#[derive(Clone)]
struct Time {
    start: Instant,
    /// Milliseconds.
    gone_by: Arc<AtomicI64>,
}

impl Time {
    fn begin(start: Instant) -> Self {
        Self {
            start,
            gone_by: Arc::new(AtomicI64::new(DAY * 1000)),
        }
    }

    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        Timestamp(self.gone_by.load(Ordering::Relaxed) + passed)
    }

    fn go_by(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap_or(0);
        self.gone_by.fetch_add(time, Ordering::Relaxed);
    }
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
    time: Time,
    wire: Arc<Wire>,
    tree: Tree,
    hub: Hub,
    hands: Hands,
    cluster_uid: String,
    invitation: Invitation,
    home: Home,
    agent: Agent,
    agents: u64,
    /// Since when nothing can come over the wire, with the hub running all the time.
    silent: Option<Instant>,
}

impl World {
    async fn new(seed: u64, log: Arc<Log>) -> Result<Self> {
        chance::begin_jitter(seed);
        let time = Time::begin(log.start);
        let of_server = time.clone();
        let server = Server::new(Options {
            seed,
            clock: Arc::new(move || {
                let now = of_server.now().0;
                jiff::Timestamp::from_millisecond(now).expect("a time of this century")
            }),
            ..Options::default()
        });
        let judge = Arc::new(Judge::new(log.clone(), &server));
        let at_each_call = judge.clone();
        server.set_fault(Some(Arc::new(move |call| at_each_call.hear(call))));
        let hands = Hands::new(server.client());
        let cluster_uid = hands.make_stranger().await?;
        let cluster: ClusterName = "one".parse()?;
        let ca = Arc::new(Ca::open(tempfile::tempdir()?.path())?);
        let of_hub = time.clone();
        let clock: muster_hub::clock::Clock = Arc::new(move || of_hub.now());
        let wire = Wire::new(seed, ca.clone(), clock.clone());
        let mut hub = Hub::start(ca, cluster, wire.clone(), clock).await?;
        let mut chance = Chance::new(seed);
        let mut tree = Tree::default();
        let what = tree.commit(&mut chance, true);
        log.say(&format!("commit: {what}"));
        judge.committed(&tree);
        hub.fetched(&tree);
        let invitation = Invitation::new(hub.invite().await?);
        let of_agent = time.clone();
        let home = Home {
            client: server.client(),
            wire: wire.clone(),
            clock: muster_agent::clock::Clock::new(move || of_agent.now()),
            judge: judge.clone(),
        };
        let agent = Agent::start(&home, invitation.token.clone(), 1);
        Ok(Self {
            chance,
            hands,
            tree,
            hub,
            cluster_uid,
            invitation,
            home,
            agent,
            agents: 1,
            silent: None,
            log,
            server,
            judge,
            time,
            wire,
        })
    }

    async fn play(mut self) -> Result<()> {
        if self.chance.below(2) == 0 {
            self.trouble().await?;
        }
        for _ in 0..STEPS {
            let time = self.chance.time(20_000);
            pass(time).await;
            self.check().await?;
            if self.chance.below(2) == 0 {
                self.help().await?;
            }
            self.step().await?;
        }
        self.calm().await
    }

    /// A hub that begins has heard of nobody's silence.
    async fn hub_begins(&mut self) -> Result<()> {
        self.hub.begin().await?;
        self.silent = None;
        Ok(())
    }

    fn restart_agent(&mut self) {
        self.agents += 1;
        // The one before is gone before the next one comes.
        self.agent = Agent::start(&self.home, self.invitation.token.clone(), self.agents);
    }

    /// One thing happens.
    async fn step(&mut self) -> Result<()> {
        match self.chance.below(30) {
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
                self.hub_begins().await?;
            }
            13 => {
                self.log.say("the hub crashes and starts again");
                self.hub.crash();
                self.hub_begins().await?;
            }
            14 => {
                self.log.say("the hub is restored from a backup");
                self.hub.crash();
                self.hub.restore(&mut self.chance);
                self.invitation.may_be_forgotten = true;
                self.hub_begins().await?;
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
            22..24 => self.days_go_by(),
            24 => self.remove().await?,
            25 => {
                self.invite().await?;
                self.trouble().await?;
            }
            26 => self.copy().await?,
            27 => {
                self.log.say("the repository can't be reached");
                self.hub.fetch_fails();
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
        // One that let go of its cluster takes any.
        if self.agent.held().generation == 0 {
            return;
        }
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
        let (held, rows) = (self.agent.held(), self.agent.rows());
        let view = self.hub.view()?;
        let said = format!("{rows:?} {view:?}");
        let secrets = [SECRET[0], SECRET[1], &self.invitation.token.secret];
        ensure!(
            !secrets.iter().any(|secret| said.contains(secret)),
            "invariant 10: a row holds a secret value: {said}"
        );
        let silent = !self.wire.is_up();
        let silent = silent.then(|| *self.silent.get_or_insert_with(Instant::now));
        self.silent = silent;
        let silent = silent.is_some_and(|since| since.elapsed() > SILENT);
        let now = self.time.now();
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
