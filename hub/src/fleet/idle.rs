//! Agents that are there and do not run their cluster: one that another agent took the place of, one whose credentials
//! were carried to another cluster, one that may not write where it is. Each keeps a session open that says nothing, so
//! what people see of it begins and ends with it. Pure; the task writes and publishes.

use std::collections::BTreeMap;

use muster_proto::{ClusterName, Timestamp};
use tokio::sync::oneshot;

use super::{Closed, Idle, SessionId};

/// The idle agents of one cluster.
#[derive(Debug, Default)]
pub(super) struct Idlers(BTreeMap<SessionId, Idler>);

/// One of them.
#[derive(Debug)]
pub(super) struct Idler {
    pub(super) instance: String,
    pub(super) idle: Idle,
    /// What to say of one that runs in another cluster than the enrolled one.
    pub(super) elsewhere: Option<String>,
    pub(super) since: Timestamp,
    pub(super) close: oneshot::Sender<Closed>,
}

impl Idler {
    /// It would run the cluster if nobody else did.
    fn waits(&self) -> bool {
        !self.idle.for_good && self.elsewhere.is_none()
    }
}

impl Idlers {
    /// One more.
    pub(super) fn put(&mut self, id: SessionId, idler: Idler) {
        self.0.insert(id, idler);
    }

    /// Its session has ended. False: it was none of these.
    pub(super) fn remove(&mut self, id: SessionId) -> bool {
        self.0.remove(&id).is_some()
    }

    /// This process has opened another session.
    pub(super) fn reconnects(&mut self, instance: &str) {
        let old = self.0.extract_if(.., |_, idler| idler.instance == instance);
        for (_, idler) in old {
            idler.close.send(Closed::Reconnected).ok();
        }
    }

    /// Ends the sessions of those who wait for the cluster: nobody runs it. Returns whether there were any.
    pub(super) fn let_in(&mut self) -> bool {
        let waiting = self.0.extract_if(.., |_, idler| idler.waits());
        let told = waiting.map(|(_, idler)| idler.close.send(Closed::Free));
        told.count() > 0
    }

    /// Ends all their sessions.
    pub(super) fn close(&mut self, why: Closed) {
        for (_, idler) in std::mem::take(&mut self.0) {
            // It may have ended by itself.
            idler.close.send(why).ok();
        }
    }

    /// What people should know, and since when; `works`: another agent runs the cluster.
    pub(super) fn problem(&self, name: &ClusterName, works: bool) -> Option<(String, Timestamp)> {
        let since = self.0.values().map(|idler| idler.since).min()?;
        let elsewhere = self.0.values().find_map(|idler| idler.elsewhere.clone());
        let first = &self.0.values().next()?.idle;
        let why = &first.why;
        let message = match elsewhere {
            Some(message) => message,
            None if works || !first.for_good => format!(
                "two agents claim {name}: one runs it, and another one with its credentials writes nothing ({why}); stop one of them, or give it a name of its own with `muster cluster join NAME`"
            ),
            None => format!("an agent of {name} is there and writes nothing: {why}"),
        };
        Some((message, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idler(instance: &str, for_good: bool, elsewhere: Option<&str>) -> Idler {
        Idler {
            instance: instance.into(),
            idle: Idle {
                why: format!("{instance} was told so"),
                for_good,
            },
            elsewhere: elsewhere.map(str::to_owned),
            since: Timestamp(7),
            close: oneshot::channel().0,
        }
    }

    fn said(idlers: &Idlers, works: bool) -> String {
        let problem = idlers.problem(&"eu-1".parse().unwrap(), works);
        problem.map(|(message, _)| message).unwrap_or_default()
    }

    #[test]
    fn what_is_said_of_an_idle_agent_begins_and_ends_with_it() {
        let mut idlers = Idlers::default();
        assert_eq!(said(&idlers, true), "");
        idlers.put(1, idler("a", false, None));
        assert_eq!(
            said(&idlers, true),
            "two agents claim eu-1: one runs it, and another one with its credentials writes nothing (a was told so); stop one of them, or give it a name of its own with `muster cluster join NAME`"
        );
        assert!(idlers.remove(1) && !idlers.remove(1));
        assert_eq!(said(&idlers, true), "");
        idlers.put(2, idler("b", true, None));
        assert_eq!(
            said(&idlers, false),
            "an agent of eu-1 is there and writes nothing: b was told so"
        );
        assert!(said(&idlers, true).starts_with("two agents claim eu-1"));
        idlers.put(3, idler("c", false, Some("it is in another cluster")));
        assert_eq!(said(&idlers, true), "it is in another cluster");
        idlers.reconnects("c");
        idlers.reconnects("b");
        assert_eq!(said(&idlers, true), "");
    }

    #[test]
    fn of_idle_agents_only_those_that_wait_are_let_in() {
        let mut idlers = Idlers::default();
        idlers.put(1, idler("stopped", true, None));
        idlers.put(2, idler("elsewhere", false, Some("in another cluster")));
        assert!(!idlers.let_in());
        idlers.put(3, idler("waits", false, None));
        assert!(idlers.let_in());
        assert!(!idlers.remove(3));
        assert!(idlers.remove(1) && idlers.remove(2));
    }
}
