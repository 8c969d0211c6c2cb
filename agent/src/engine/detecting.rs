//! Compares the objects of applications that only detect: when Git or the object changed, and every few minutes,
//! because an object that is not ours is not watched. Part of the engine's task.

use std::time::Duration;

use tokio::time::Instant;

use super::launch::CONCURRENCY;
use super::queue::Key;
use super::state::State;
use super::work;
use crate::apply::{Failure, Order};
use crate::live::Sight;
use crate::plan::Found;

/// What nobody told of a change of is compared again.
const AGAIN: Duration = Duration::from_secs(300);
/// What changes all the time is not compared all the time.
pub(super) const SOON: Duration = Duration::from_secs(5);

impl State {
    /// Puts an object where it is compared: now, or when it is time.
    pub(super) fn queue_compare(&mut self, key: Key, at_once: bool, now: Instant) {
        let Some(object) = self.objects.get(&key) else {
            return;
        };
        match object.compare_at.filter(|at| *at > now) {
            Some(at) if !at_once => self.queue.at(at, key),
            _ if object.sight.object().is_some() => {
                self.queue.compares.insert(key);
            }
            // It would be created: whether somebody else made it is looked at now and then.
            Some(at) => self.queue.at(at, key),
            None => {
                let due = object.compare_at.is_some();
                let Some(object) = self.objects.get_mut(&key) else {
                    return;
                };
                object.compare_at = Some(now + AGAIN);
                self.queue.at(now + AGAIN, key.clone());
                if due {
                    object.sight = Sight::Unknown;
                    self.queue.dirty.insert(key);
                }
            }
        }
    }

    pub(super) fn start_compares(&mut self) {
        while self.flying.len() < CONCURRENCY {
            let Some(key) = self.queue.compares.pop_first() else {
                return;
            };
            let Some(object) = self.objects.get_mut(&key) else {
                continue;
            };
            let Some(wanted) = &object.wanted else {
                continue;
            };
            let order = Order::new(self.client.clone(), key, wanted, &object.sight, false);
            object.flying = true;
            self.flying.push(work::compare(order));
        }
    }

    pub(super) fn compared(&mut self, key: &Key, result: Result<Option<Found>, Failure>) {
        let now = Instant::now();
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.flying = false;
        match result {
            Ok(Some(found)) => {
                object.forgive();
                object.found = Some(found);
                object.compare_at = Some(now + AGAIN);
            }
            Ok(None) => object.sight = Sight::Absent,
            Err(failure) => {
                let at = object.failed(failure, now);
                self.queue.at(at, key.clone());
            }
        }
        self.after_change(key.clone());
    }
}
