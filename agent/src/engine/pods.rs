//! Follows a workload that is not ready down to its Pods, for the reason that people want to see. Part of the engine's
//! task.
//!
//! Pods are not watched: they are listed by the workload's selector a moment after it is seen in trouble, and less and
//! less often while it stays so. A cluster at rest costs nothing.

use std::time::Duration;

use muster_proto::ObjectKey;
use tokio::time::Instant;

use super::queue::Key;
use super::state::State;
use super::work;
use crate::apply::Failure;

/// Most rollouts are through before anybody asks.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause while it stays in trouble.
const LONGEST: Duration = Duration::from_secs(120);

/// What is known of the Pods of one workload.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    /// What to say, when a Pod is in the way.
    pub(crate) reason: Option<String>,
    /// When they are asked for next.
    at: Option<Instant>,
    /// The last pause.
    wait: Duration,
}

impl State {
    /// A workload was seen: does it need an explanation?
    pub(super) fn wonder(&mut self, key: &Key) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let troubled = object.pod_selector().is_some();
        match (&mut object.pods, troubled) {
            (pods @ None, true) => {
                let at = Instant::now() + FIRST;
                *pods = Some(Box::new(Pods {
                    reason: None,
                    at: Some(at),
                    wait: FIRST,
                }));
                self.queue.at(at, key.clone());
            }
            (pods @ Some(_), false) => *pods = None,
            _ => {}
        }
    }

    /// Asks for the Pods when it is time.
    pub(super) fn ask_for_pods(&mut self, key: &Key, now: Instant) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(selector) = object.pod_selector() else {
            return;
        };
        let Some(pods) = object
            .pods
            .as_mut()
            .filter(|pods| pods.at.is_some_and(|at| at <= now))
        else {
            return;
        };
        if let Some(at) = self.brake.filter(|at| *at > now) {
            self.queue.at(at, key.clone());
            return;
        }
        pods.at = None;
        self.flying
            .push(work::pods(self.client.clone(), key.clone(), selector));
    }

    /// Takes in why a Pod is in the way.
    pub(super) fn pods_seen(&mut self, key: &ObjectKey, result: Result<Option<String>, Failure>) {
        let Some((key, _)) = self.objects.get_key_value(key) else {
            return;
        };
        let key = key.clone();
        let Some(pods) = self
            .objects
            .get_mut(&key)
            .and_then(|object| object.pods.as_mut())
        else {
            return;
        };
        if let Ok(reason) = result {
            self.rows_changed |= pods.reason != reason;
            pods.reason = reason;
        }
        pods.wait = (pods.wait * 2).min(LONGEST);
        let at = Instant::now() + pods.wait;
        pods.at = Some(at);
        self.queue.at(at, key);
    }
}
