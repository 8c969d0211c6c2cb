//! Hears every call to the API server: writes it down, lets it fail, and judges deletions.

use std::sync::{Arc, Mutex};

use muster_proto::{Desired, Removals};
use tokio::sync::watch;

use super::{Log, NAMESPACE, cluster, locked};
use crate::memory::{Call, Fault, Rule};

/// What the agent holds, and the two states before that were seen.
type Held = (watch::Receiver<Arc<Desired>>, [Arc<Desired>; 2]);

pub(super) struct Judge {
    log: Arc<Log>,
    /// Which calls fail.
    faults: Mutex<Option<Rule>>,
    held: Mutex<Option<Held>>,
    wrong: Mutex<Option<String>>,
    kill: Mutex<Option<Kill>>,
}

/// When the agent dies.
struct Kill {
    /// Writes until then, the last one included.
    left: u64,
    /// Whether that one arrives.
    arrives: bool,
    died: watch::Sender<bool>,
}

impl Judge {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            faults: Mutex::default(),
            held: Mutex::default(),
            wrong: Mutex::default(),
            kill: Mutex::default(),
        }
    }

    /// From now on calls fail by this rule.
    pub(super) fn set_faults(&self, rule: Option<Rule>) {
        *locked(&self.faults) = rule;
    }

    /// From now on these are the states that deletions are judged by.
    pub(super) fn follow(&self, held: watch::Receiver<Arc<Desired>>) {
        let nothing = [Desired::none(), Desired::none()].map(Arc::new);
        *locked(&self.held) = Some((held, nothing));
    }

    /// The first thing that must not be.
    pub(super) fn wrong(&self) -> Option<String> {
        locked(&self.wrong).take()
    }

    /// The agent dies at this write from now: nothing of it arrives any more. Turns true then.
    pub(super) fn kill_at(&self, write: u64, arrives: bool) -> watch::Receiver<bool> {
        let (died, hears) = watch::channel(false);
        *locked(&self.kill) = Some(Kill {
            left: write,
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
        kill.left -= u64::from(call.writes());
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
