//! What one session sends of a cluster's desired state: only what the agent lacks, the newest wins.
//!
//! In: what the agent said it holds, desired states as they are published, the agent's answers. Out: the next message,
//! one at a time, so that a newer state gets its turn between two frames. Pure: no clock, no network. It holds no
//! content of its own, only shared objects.

use std::collections::HashSet;
use std::sync::Arc;

use muster_proto::wire::v1::hub_message::Message;
use muster_proto::wire::{self, digest_bytes, v1};
use muster_proto::{Desired, DesiredApplication, Digest, Generation, Object};

/// Where one session stands.
pub(super) struct Outgoing {
    /// Generation and digest of the state that the agent accepted last.
    agent: (Generation, Option<Digest>),
    /// Applications of which the agent surely holds every object.
    held: Vec<Arc<DesiredApplication>>,
    /// Objects sent since the agent last accepted a state: it keeps these too.
    sent: HashSet<Digest>,
    /// Published and not yet looked at.
    newest: Option<Arc<Desired>>,
    phase: Phase,
}

enum Phase {
    Idle,
    Sending {
        desired: Arc<Desired>,
        begin: Option<v1::Begin>,
        lacking: Vec<Arc<Object>>,
        whole: bool,
    },
    /// `Done` was sent. What the agent holds is unsure until it answers, so nothing new begins.
    Awaiting {
        desired: Arc<Desired>,
        whole: bool,
    },
}

impl Outgoing {
    /// `known` are applications that the agent says it holds and whose content the hub still has.
    pub(super) fn new(
        generation: Generation,
        digest: Option<Digest>,
        known: Vec<Arc<DesiredApplication>>,
    ) -> Self {
        Self {
            agent: (generation, digest),
            held: known,
            sent: HashSet::new(),
            newest: None,
            phase: Phase::Idle,
        }
    }

    /// A desired state was published. It replaces one that is only half sent.
    pub(super) fn offer(&mut self, desired: Arc<Desired>) {
        self.newest = Some(desired);
    }

    /// Whether [`Outgoing::next`] should be asked.
    pub(super) fn has_next(&self) -> bool {
        match self.phase {
            Phase::Idle => self.newest.is_some(),
            Phase::Sending { .. } => true,
            Phase::Awaiting { .. } => false,
        }
    }

    /// The next message, if there is something to say.
    pub(super) fn next(&mut self) -> Option<Message> {
        if matches!(self.phase, Phase::Awaiting { .. }) {
            return None;
        }
        if let Some(newest) = self.newest.take() {
            self.phase = self.start(newest);
        }
        let Phase::Sending {
            desired,
            begin,
            lacking,
            whole,
        } = &mut self.phase
        else {
            return None;
        };
        if let Some(begin) = begin.take() {
            return Some(Message::Begin(begin));
        }
        let frame = wire::object_frames(lacking.iter()).next();
        if let Some(frame) = frame {
            for object in lacking.drain(..frame.objects.len()) {
                self.sent.insert(object.digest);
            }
            return Some(Message::Objects(frame));
        }
        let done = v1::Done {
            digest: digest_bytes(desired.digest()),
        };
        self.phase = Phase::Awaiting {
            desired: desired.clone(),
            whole: *whole,
        };
        Some(Message::Done(done))
    }

    fn start(&self, desired: Arc<Desired>) -> Phase {
        // Generation 0: nothing has been decided, which is not the same as nothing to run.
        let nothing_new = (desired.generation, Some(desired.digest())) == self.agent;
        if desired.generation == 0 || nothing_new {
            return Phase::Idle;
        }
        let held: HashSet<_> = self
            .held
            .iter()
            .map(|held| (&held.name, held.digest()))
            .collect();
        let has_whole = |application: &DesiredApplication| {
            held.contains(&(&application.name, application.digest()))
        };
        let mut bodies: HashSet<Digest> = self.held.iter().flat_map(|held| digests(held)).collect();
        bodies.extend(&self.sent);
        let changed = desired
            .applications
            .iter()
            .filter(|application| !has_whole(application));
        let lacking = changed
            .flat_map(|application| application.objects())
            .filter(|object| bodies.insert(object.digest))
            .cloned()
            .collect();
        let begin = Some(wire::begin(&desired, has_whole));
        let whole = self.held.is_empty() && self.sent.is_empty();
        Phase::Sending {
            desired,
            begin,
            lacking,
            whole,
        }
    }

    /// The agent answered a `Done`: what it holds now, and whether it refused what was announced. False when nothing
    /// was waiting for an answer.
    #[must_use]
    pub(super) fn answered(&mut self, agent: (Generation, Option<Digest>), refused: bool) -> bool {
        let Phase::Awaiting { desired, whole } = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return false;
        };
        self.agent = agent;
        self.sent = HashSet::new();
        if refused || agent != (desired.generation, Some(desired.digest())) {
            // It may lack what we took for held: send everything once.
            self.held = Vec::new();
            if !whole && self.newest.is_none() {
                self.newest = Some(desired);
            }
        } else {
            self.held = desired.applications.clone();
        }
        true
    }
}

fn digests(application: &DesiredApplication) -> impl Iterator<Item = Digest> {
    application.objects().iter().map(|object| object.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    use muster_proto::{Content, DigestKey, Removals, Settings};
    use proptest::prelude::*;
    use serde_json::json;

    fn object(name: u8, size: usize) -> Arc<Object> {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("o{name}")}, "data": {"k": "x".repeat(size)}});
        Arc::new(Object::new(&body, &DigestKey::new([3; 32])).unwrap())
    }

    fn desired(generation: Generation, applications: &BTreeMap<u8, Vec<u8>>) -> Arc<Desired> {
        let applications = applications.iter().map(|(name, objects)| {
            let name = format!("app-{name}").parse().unwrap();
            let objects = objects.iter().map(|name| object(*name, 100_000)).collect();
            Arc::new(DesiredApplication::new(
                name,
                "r".into(),
                Settings::default(),
                objects,
            ))
        });
        Arc::new(Desired::new(
            generation,
            applications.collect(),
            Removals::Released,
            Vec::new(),
        ))
    }

    /// An agent as the protocol describes it: keeps what it accepted and what came since.
    struct Agent {
        accepted: Arc<Desired>,
        received: BTreeMap<Digest, Arc<Object>>,
        begin: Option<v1::Begin>,
        bodies: usize,
    }

    impl Agent {
        fn new() -> Self {
            Self {
                accepted: Arc::new(Desired::none()),
                received: BTreeMap::new(),
                begin: None,
                bodies: 0,
            }
        }

        fn session(&self) -> Outgoing {
            let digest = (self.accepted.generation > 0).then(|| self.accepted.digest());
            Outgoing::new(
                self.accepted.generation,
                digest,
                self.accepted.applications.clone(),
            )
        }

        /// Takes a message; answers after `Done`: what it holds, and whether it refused.
        fn take(&mut self, message: Message) -> Option<((Generation, Option<Digest>), bool)> {
            match message {
                Message::Begin(begin) => self.begin = Some(begin),
                Message::Objects(frame) => {
                    for message in frame.objects {
                        self.bodies += 1;
                        let object = Object::try_from(message).unwrap();
                        self.received.insert(object.digest, Arc::new(object));
                    }
                }
                Message::Done(_) => {
                    let begin = self.begin.take().expect("Begin comes first");
                    let held = |digest| {
                        let objects = self
                            .accepted
                            .applications
                            .iter()
                            .flat_map(|held| held.objects());
                        objects
                            .into_iter()
                            .find(|object| object.digest == digest)
                            .cloned()
                    };
                    let assembled = wire::assemble(
                        &begin,
                        |name, digest| {
                            let held = self.accepted.application(name.as_str());
                            held.filter(|held| held.digest() == digest).cloned()
                        },
                        |digest| self.received.get(&digest).cloned().or_else(|| held(digest)),
                    );
                    let refused = assembled.is_err();
                    if let Ok(assembled) = assembled {
                        self.accepted = Arc::new(assembled);
                        self.received.clear();
                    }
                    return Some((
                        (self.accepted.generation, Some(self.accepted.digest())),
                        refused,
                    ));
                }
                _ => unreachable!("no state"),
            }
            None
        }

        /// Runs a session until it has nothing to say; true when something was refused on the way.
        fn drain(&mut self, session: &mut Outgoing) -> bool {
            let mut any_refused = false;
            while let Some(message) = session.next() {
                if let Some((agent, refused)) = self.take(message) {
                    any_refused |= refused;
                    assert!(session.answered(agent, refused));
                }
            }
            any_refused
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// States come at any point between two messages, sessions break and are dialled anew; in the end the agent
        /// holds the newest, and was never sent what it could not put together.
        #[test]
        fn the_agent_ends_with_the_newest_state_whatever_interrupts(
            states in prop::collection::vec(
                prop::collection::btree_map(0u8..4, prop::collection::btree_set(0u8..6, 1..5), 0..4), 1..6),
            steps in prop::collection::vec(0usize..4, 0..24),
        ) {
            let mut agent = Agent::new();
            let mut session = agent.session();
            let mut steps = steps.into_iter();
            let mut newest = Arc::new(Desired::none());
            for (index, applications) in states.into_iter().enumerate() {
                let applications = applications.into_iter().map(|(name, objects)| (name, objects.into_iter().collect())).collect();
                newest = desired(index as u64 + 1, &applications);
                session.offer(newest.clone());
                for _ in 0..steps.next().unwrap_or(0) {
                    let Some(message) = session.next() else { break };
                    if let Some((holds, refused)) = agent.take(message) {
                        prop_assert!(!refused);
                        prop_assert!(session.answered(holds, refused));
                    }
                }
                if steps.next() == Some(0) {
                    agent.received.clear();
                    agent.begin = None;
                    session = agent.session();
                    session.offer(newest.clone());
                }
            }
            prop_assert!(!agent.drain(&mut session));
            prop_assert_eq!(agent.accepted, newest);
        }
    }

    fn after_first(applications: &BTreeMap<u8, Vec<u8>>) -> (Agent, Outgoing) {
        let mut agent = Agent::new();
        let mut session = agent.session();
        session.offer(desired(1, applications));
        assert!(!agent.drain(&mut session));
        (agent, session)
    }

    #[test]
    fn nothing_is_sent_to_an_agent_that_holds_the_newest_and_before_anything_is_decided() {
        let (agent, _) = after_first(&BTreeMap::from([(0, vec![1])]));
        let mut session = agent.session();
        session.offer(agent.accepted.clone());
        assert!(session.next().is_none());
        let mut session = Agent::new().session();
        session.offer(Arc::new(Desired::none()));
        assert!(session.next().is_none());
    }

    #[test]
    fn one_changed_object_of_a_known_application_is_one_body() {
        let (mut agent, mut session) =
            after_first(&BTreeMap::from([(0, vec![1, 2, 3]), (1, vec![4])]));
        assert_eq!(agent.bodies, 4);
        session.offer(desired(
            2,
            &BTreeMap::from([(0, vec![1, 2, 5]), (1, vec![4])]),
        ));
        assert!(!agent.drain(&mut session));
        assert_eq!(agent.bodies, 5);
    }

    #[test]
    fn another_generation_of_the_same_content_is_announced_without_bodies() {
        let (mut agent, mut session) = after_first(&BTreeMap::from([(0, vec![1])]));
        session.offer(Arc::new(agent.accepted.stamped(9)));
        assert!(!agent.drain(&mut session));
        assert_eq!((agent.accepted.generation, agent.bodies), (9, 1));
    }

    #[test]
    fn a_newer_state_replaces_a_half_sent_one_and_bodies_already_sent_stay_usable() {
        let mut agent = Agent::new();
        let mut session = agent.session();
        session.offer(desired(1, &BTreeMap::from([(0, vec![1, 2, 3, 4, 5])])));
        for _ in 0..2 {
            assert!(agent.take(session.next().unwrap()).is_none());
        }
        let sent = agent.bodies;
        assert!((1..5).contains(&sent));
        session.offer(desired(2, &BTreeMap::from([(0, vec![1, 2, 3, 4])])));
        assert!(!agent.drain(&mut session));
        assert_eq!((agent.accepted.generation, agent.bodies), (2, 4));
    }

    #[test]
    fn nothing_new_begins_before_the_agent_answered() {
        let (mut agent, mut session) = after_first(&BTreeMap::from([(0, vec![1])]));
        session.offer(desired(2, &BTreeMap::from([(0, vec![2])])));
        let mut answer = None;
        while let Some(message) = session.next() {
            answer = agent.take(message).or(answer);
        }
        session.offer(desired(3, &BTreeMap::from([(0, vec![1])])));
        assert!(!session.has_next());
        let (holds, refused) = answer.unwrap();
        assert!(session.answered(holds, refused));
        assert!(!agent.drain(&mut session));
        assert_eq!((agent.accepted.generation, agent.bodies), (3, 3));
    }

    #[test]
    fn an_agent_that_lost_what_it_said_it_holds_gets_everything_once() {
        let (mut agent, _) = after_first(&BTreeMap::from([(0, vec![1, 2])]));
        let mut session = agent.session();
        agent.accepted = Arc::new(Desired::none());
        session.offer(desired(2, &BTreeMap::from([(0, vec![1, 2]), (1, vec![3])])));
        assert!(
            agent.drain(&mut session),
            "the first try can't be put together"
        );
        assert_eq!(agent.accepted.generation, 2);
    }

    #[test]
    fn a_whole_state_that_is_refused_is_not_sent_again_until_a_newer_one() {
        let mut session = Agent::new().session();
        session.offer(desired(1, &BTreeMap::from([(0, vec![1])])));
        while session.next().is_some() {}
        assert!(session.answered((7, None), true));
        assert!(session.next().is_none());
        session.offer(desired(8, &BTreeMap::from([(0, vec![1])])));
        assert!(matches!(session.next(), Some(Message::Begin(_))));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_noticed() {
        assert!(!Agent::new().session().answered((1, None), false));
    }

    #[test]
    fn a_kept_application_is_announced_with_its_reason_and_no_objects() {
        let (mut agent, mut session) = after_first(&BTreeMap::from([(0, vec![1])]));
        let keep = DesiredApplication::keep(
            "app-0".parse().unwrap(),
            "r".into(),
            "it does not render".into(),
        );
        session.offer(Arc::new(Desired::new(
            2,
            vec![Arc::new(keep)],
            Removals::Released,
            Vec::new(),
        )));
        assert!(!agent.drain(&mut session));
        assert!(matches!(
            agent.accepted.applications[0].content,
            Content::Keep(_)
        ));
        session.offer(desired(3, &BTreeMap::from([(0, vec![1])])));
        assert!(!agent.drain(&mut session));
        assert_eq!(agent.bodies, 2);
    }
}
