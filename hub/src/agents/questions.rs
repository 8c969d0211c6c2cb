//! What people asked of one agent, from their question to its answer. Pure.

use std::collections::{BTreeMap, VecDeque};

use muster_proto::wire::v1;
use tokio::sync::oneshot;

use crate::fleet::Asked;

/// Questions that an agent answers at once.
const AT_ONCE: usize = 4;

/// Questions of one session. Dropped with it, and everybody who waits learns that there is no answer.
#[derive(Default)]
pub(super) struct Questions {
    last: u64,
    to_send: VecDeque<v1::Ask>,
    waiting: BTreeMap<u64, oneshot::Sender<v1::Answer>>,
}

impl Questions {
    /// May another one be put? Those for which nobody waits any more don't count.
    pub(super) fn has_room(&mut self) -> bool {
        self.waiting.retain(|_, answer| !answer.is_closed());
        self.waiting.len() < AT_ONCE
    }

    /// One more.
    pub(super) fn put(&mut self, asked: Asked) {
        self.last += 1;
        let id = self.last;
        self.waiting.insert(id, asked.answer);
        self.to_send.push_back(v1::Ask { id, ..asked.ask });
    }

    /// Whether [`Questions::next`] should be asked.
    pub(super) fn has_next(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// The next one to send.
    pub(super) fn next(&mut self) -> Option<v1::Ask> {
        self.to_send.pop_front()
    }

    /// The agent answered; an answer that nobody waits for is dropped.
    pub(super) fn answered(&mut self, answer: v1::Answer) {
        if let Some(waiting) = self.waiting.remove(&answer.id) {
            waiting.send(answer).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(application: &str) -> (Asked, oneshot::Receiver<v1::Answer>) {
        let (answer, answered) = oneshot::channel();
        let ask = v1::Ask {
            application: application.into(),
            ..v1::Ask::default()
        };
        (Asked { ask, answer }, answered)
    }

    #[test]
    fn each_answer_reaches_who_asked_whatever_order_they_come_in() {
        let mut questions = Questions::default();
        let (one, mut first) = asked("one");
        let (two, mut second) = asked("two");
        questions.put(one);
        questions.put(two);
        let ids = [questions.next().unwrap(), questions.next().unwrap()].map(|ask| ask.id);
        assert!(!questions.has_next());
        for (id, message) in [(ids[1], "two"), (ids[0], "one"), (99, "nobody asked")] {
            let message = message.into();
            questions.answered(v1::Answer {
                id,
                message,
                ..v1::Answer::default()
            });
        }
        assert_eq!(first.try_recv().unwrap().message, "one");
        assert_eq!(second.try_recv().unwrap().message, "two");
    }

    #[test]
    fn only_a_few_are_open_and_who_has_given_up_makes_room() {
        let mut questions = Questions::default();
        let mut waiting = Vec::new();
        for _ in 0..AT_ONCE {
            assert!(questions.has_room());
            let (asked, answered) = asked("shop");
            questions.put(asked);
            waiting.push(answered);
        }
        assert!(!questions.has_room());
        waiting.pop();
        assert!(questions.has_room());
    }
}
