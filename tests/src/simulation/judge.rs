//! Hears every call to the API server: writes it down, lets it fail, and judges it by the ledger as it is stored at that
//! moment and by what Git meant.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use muster_proto::Desired;
use tokio::sync::watch;

use super::tree::Tree;
use super::{Log, NAMESPACE, cluster, locked};
use crate::memory::{Call, Fault, Rule, Server};

mod ledger;
mod removals;

use ledger::Ledger;
use removals::{Commit, Removing};

pub(super) struct Judge {
    log: Arc<Log>,
    /// It has the judge for a rule.
    server: Weak<Server>,
    /// Which calls fail.
    faults: Mutex<Option<Rule>>,
    /// What the agent says it accepted.
    held: Mutex<Option<watch::Receiver<Arc<Desired>>>>,
    known: Mutex<Known>,
    /// A person removed the cluster: its agent may let go of what it has, once it hears of it.
    may_let_go: AtomicBool,
    wrong: Mutex<Option<String>>,
    kill: Mutex<Option<Kill>>,
}

#[derive(Default)]
struct Known {
    ledger: Ledger,
    removing: Removing,
}

/// When the agent dies.
struct Kill {
    /// Which calls count.
    counts: fn(&Call<'_>) -> bool,
    /// Calls until then, the last one included.
    left: u64,
    /// Whether that one arrives.
    arrives: bool,
    died: watch::Sender<bool>,
}

impl Judge {
    pub(super) fn new(log: Arc<Log>, server: &Arc<Server>) -> Self {
        Self {
            log,
            server: Arc::downgrade(server),
            faults: Mutex::default(),
            held: Mutex::default(),
            known: Mutex::default(),
            may_let_go: AtomicBool::new(false),
            wrong: Mutex::default(),
            kill: Mutex::default(),
        }
    }

    /// From now on calls fail by this rule.
    pub(super) fn set_faults(&self, rule: Option<Rule>) {
        *locked(&self.faults) = rule;
    }

    /// From now on this is the agent.
    pub(super) fn follow(&self, held: watch::Receiver<Arc<Desired>>) {
        *locked(&self.held) = Some(held);
    }

    /// The cluster was removed.
    pub(super) fn may_let_go(&self) {
        self.may_let_go.store(true, Ordering::Relaxed);
    }

    /// Git has a new commit.
    pub(super) fn committed(&self, tree: &Tree) {
        let removing = &mut locked(&self.known).removing;
        removing.committed(Commit {
            revision: tree.revision(),
            meant: tree.meant(),
        });
    }

    /// The first thing that must not be.
    pub(super) fn wrong(&self) -> Option<String> {
        self.judge(|known| self.look(known));
        locked(&self.wrong).take()
    }

    /// UIDs of objects that the agent took out of its inventory and left: nothing in them was applied by it.
    pub(super) fn abandoned(&self) -> BTreeSet<String> {
        locked(&self.known).ledger.abandoned().clone()
    }

    /// The states that were accepted, oldest first.
    pub(super) fn states(&self) -> Vec<Arc<Desired>> {
        locked(&self.known).removing.states().cloned().collect()
    }

    /// The agent dies at so manieth call from now that counts: nothing of it arrives any more. Turns true then.
    pub(super) fn kill_at(
        &self,
        number: u64,
        counts: fn(&Call<'_>) -> bool,
        arrives: bool,
    ) -> watch::Receiver<bool> {
        let (died, hears) = watch::channel(false);
        *locked(&self.kill) = Some(Kill {
            counts,
            left: number,
            arrives,
            died,
        });
        hears
    }

    /// Calls arrive again: those of another agent.
    pub(super) fn spare(&self) {
        *locked(&self.kill) = None;
    }

    fn strikes(&self, call: &Call<'_>) -> Option<Fault> {
        let mut kill = locked(&self.kill);
        let kill = kill.as_mut()?;
        if kill.left == 0 {
            return Some(Fault::Undelivered);
        }
        kill.left -= u64::from((kill.counts)(call));
        (kill.left == 0).then(|| {
            kill.died.send_replace(true);
            match kill.arrives {
                true => Fault::Unanswered,
                false => Fault::Undelivered,
            }
        })
    }

    pub(super) fn hear(&self, call: &Call<'_>) -> Option<Fault> {
        if cluster::is_hand(call.manager) {
            return None;
        }
        let by_rule = || locked(&self.faults).as_ref().and_then(|rule| rule(call));
        let fault = self.strikes(call).or_else(by_rule);
        if call.writes() {
            let fault = fault.map(|fault| format!(" {fault:?}"));
            let fault = fault.unwrap_or_default();
            self.log.say(&format!("{} {}{fault}", call.verb, call.path));
            self.judge(|known| self.write(known, call));
        }
        fault
    }

    /// A write of the agent's, at the moment when it is sent.
    fn write(&self, known: &mut Known, call: &Call<'_>) -> Result<(), String> {
        self.look(known)?;
        let folder = format!("/api/v1/namespaces/{NAMESPACE}/");
        let place = call.path.strip_prefix(&folder);
        let Some((plural, name)) = place.and_then(|place| place.split_once('/')) else {
            return Ok(());
        };
        if !known.ledger.has(plural, name) {
            return Err(format!(
                "invariant 5: {} of {plural}/{name}, which is not in the inventory",
                call.verb
            ));
        }
        if let Some(server) = self.server.upgrade() {
            known.ledger.written(&server, plural, name);
        }
        match call.verb {
            "delete" => known.removing.deleted(name),
            _ => Ok(()),
        }
    }

    /// At the ledger, as it is stored now.
    fn look(&self, known: &mut Known) -> Result<(), String> {
        let Some(server) = self.server.upgrade() else {
            return Ok(());
        };
        if let Some(held) = &*locked(&self.held) {
            known.ledger.accepted(&held.borrow())?;
        }
        let may_let_go = self.may_let_go.load(Ordering::Relaxed);
        let accepted = known.ledger.follow(&server, may_let_go)?;
        if accepted
            .as_ref()
            .is_some_and(|accepted| accepted.generation == 0)
        {
            // Whoever let go says until its end what it held before.
            let mut held = locked(&self.held);
            let says_more = |held: &watch::Receiver<Arc<Desired>>| held.borrow().generation > 0;
            *held = held.take().filter(|held| !says_more(held));
        }
        match accepted {
            Some(accepted) => known.removing.accepted(accepted),
            None => Ok(()),
        }
    }

    fn judge(&self, by: impl FnOnce(&mut Known) -> Result<(), String>) {
        if let Err(wrong) = by(&mut locked(&self.known)) {
            self.log.say(&format!("WRONG: {wrong}"));
            locked(&self.wrong).get_or_insert(wrong);
        }
    }
}
