//! A desired state on its way in: what was announced, and the parts that have come.
//!
//! In: the hub's Begin, Objects and Done. Out: a whole [`Desired`], or what is wrong with it. Parts stay usable until a
//! state was accepted, so a newer Begin, a refusal or a lost connection costs no second transfer: applications that
//! were complete are named in the next Hello.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_proto::wire::{Incomplete, InvalidMessage, assemble, digest, v1};
use muster_proto::{ApplicationName, Desired, DesiredApplication, Digest, Object};

/// What has come since the last accepted state.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    announced: Option<v1::Begin>,
    bodies: HashMap<Digest, Arc<Object>>,
    /// Applications that were whole when a session broke off.
    whole: BTreeMap<ApplicationName, Arc<DesiredApplication>>,
}

impl Transfer {
    /// A state begins; one that was unfinished is forgotten, its parts are not.
    pub(super) fn begin(&mut self, begin: v1::Begin) {
        self.announced = Some(begin);
    }

    /// Bodies came.
    pub(super) fn objects(&mut self, objects: v1::Objects) -> Result<(), InvalidMessage> {
        for message in objects.objects {
            let object = Object::try_from(message)?;
            self.bodies.insert(object.digest, Arc::new(object));
        }
        Ok(())
    }

    /// Everything has come: the announced state, from what came and what is held.
    pub(super) fn done(&mut self, done: &v1::Done, held: &Desired) -> Result<Desired, Incomplete> {
        let announced = self
            .announced
            .take()
            .ok_or_else(|| InvalidMessage::new("done", "nothing was begun"))?;
        let desired = self.assemble(&announced, held)?;
        if desired.digest() != digest("done.digest", &done.digest)? {
            let problem = "the announced state adds up to something else";
            return Err(InvalidMessage::new("done.digest", problem).into());
        }
        Ok(desired)
    }

    /// The agent holds the state now: no part is needed any more.
    pub(super) fn accepted(&mut self) {
        *self = Self::default();
    }

    /// The session broke off: keeps what the next one need not send again.
    pub(super) fn interrupted(&mut self, held: &Desired) {
        let Some(announced) = self.announced.take() else {
            return;
        };
        let one_by_one = announced
            .applications
            .into_iter()
            .map(|application| v1::Begin {
                applications: vec![application],
                ..Default::default()
            });
        let whole: Vec<_> = one_by_one
            .filter_map(|begin| self.assemble(&begin, held).ok())
            .flat_map(|desired| desired.applications)
            .collect();
        self.bodies.clear();
        self.whole = whole
            .into_iter()
            .map(|application| (application.name.clone(), application))
            .collect();
    }

    /// What a Hello names beside the accepted state.
    pub(super) fn whole(&self) -> impl Iterator<Item = &Arc<DesiredApplication>> {
        self.whole.values()
    }

    fn assemble(&self, announced: &v1::Begin, held: &Desired) -> Result<Desired, Incomplete> {
        let applications = || held.applications.iter().chain(self.whole.values());
        let objects: HashMap<Digest, &Arc<Object>> = applications()
            .flat_map(|application| application.objects())
            .chain(self.bodies.values())
            .map(|object| (object.digest, object))
            .collect();
        assemble(
            announced,
            |name, digest| {
                applications()
                    .find(|application| application.name == *name && application.digest() == digest)
                    .cloned()
            },
            |digest| objects.get(&digest).map(|object| Arc::clone(object)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::wire::{begin, digest_bytes, object_frames};
    use muster_proto::{DigestKey, Removals, Settings};
    use serde_json::json;

    fn application(name: &str, objects: &[&str]) -> Arc<DesiredApplication> {
        let objects = objects.iter().map(|data| {
            let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": data}, "data": {"k": data}});
            Arc::new(Object::new(&value, &DigestKey::new([0; 32])).unwrap())
        });
        Arc::new(DesiredApplication::new(
            name.parse().unwrap(),
            "r1".into(),
            Settings::default(),
            objects.collect(),
        ))
    }

    fn desired(generation: u64, applications: &[Arc<DesiredApplication>]) -> Desired {
        Desired::new(
            generation,
            applications.to_vec(),
            Removals::Released,
            Vec::new(),
        )
    }

    fn send(transfer: &mut Transfer, objects: &[Arc<Object>]) {
        for frame in object_frames(objects) {
            transfer.objects(frame).unwrap();
        }
    }

    fn done(state: &Desired) -> v1::Done {
        v1::Done {
            digest: digest_bytes(state.digest()),
        }
    }

    #[test]
    fn a_newer_state_uses_what_came_for_the_older() {
        let (a, b) = (application("a", &["1", "2"]), application("b", &["3"]));
        let (older, newer) = (
            desired(1, std::slice::from_ref(&a)),
            desired(2, &[a.clone(), b.clone()]),
        );
        let mut transfer = Transfer::default();
        transfer.begin(begin(&older, |_| false));
        send(&mut transfer, a.objects());
        transfer.begin(begin(&newer, |_| false));
        send(&mut transfer, b.objects());
        assert_eq!(transfer.done(&done(&newer), &Desired::none()), Ok(newer));
    }

    #[test]
    fn what_is_held_need_not_come() {
        let (a, b) = (application("a", &["1"]), application("b", &["2"]));
        let (held, next) = (
            desired(1, std::slice::from_ref(&a)),
            desired(2, &[a.clone(), b.clone()]),
        );
        let mut transfer = Transfer::default();
        transfer.begin(begin(&next, |application| application.name == a.name));
        send(&mut transfer, b.objects());
        assert_eq!(transfer.done(&done(&next), &held), Ok(next));
    }

    #[test]
    fn an_interrupted_transfer_keeps_the_applications_that_were_whole() {
        let (a, b) = (application("a", &["1"]), application("b", &["2", "3"]));
        let state = desired(1, &[a.clone(), b.clone()]);
        let mut transfer = Transfer::default();
        transfer.begin(begin(&state, |_| false));
        send(&mut transfer, a.objects());
        send(&mut transfer, &b.objects()[..1]);
        transfer.interrupted(&Desired::none());
        assert_eq!(transfer.whole().collect::<Vec<_>>(), [&a]);

        transfer.begin(begin(&state, |application| application.name == a.name));
        send(&mut transfer, b.objects());
        assert_eq!(transfer.done(&done(&state), &Desired::none()), Ok(state));
        transfer.accepted();
        assert_eq!(transfer.whole().count(), 0);
    }

    #[test]
    fn a_second_interruption_loses_nothing() {
        let (a, b) = (application("a", &["1"]), application("b", &["2"]));
        let state = desired(1, &[a.clone(), b.clone()]);
        let mut transfer = Transfer::default();
        transfer.begin(begin(&state, |_| false));
        send(&mut transfer, a.objects());
        transfer.interrupted(&Desired::none());
        transfer.interrupted(&Desired::none());
        transfer.begin(begin(&state, |application| application.name == a.name));
        transfer.interrupted(&Desired::none());
        assert_eq!(transfer.whole().collect::<Vec<_>>(), [&a]);
    }

    #[test]
    fn parts_that_do_not_add_up_are_no_state() {
        let a = application("a", &["1"]);
        let state = desired(1, std::slice::from_ref(&a));
        let mut transfer = Transfer::default();
        assert!(
            transfer.done(&done(&state), &Desired::none()).is_err(),
            "nothing was begun"
        );
        transfer.begin(begin(&state, |_| false));
        assert_eq!(
            transfer.done(&done(&state), &Desired::none()),
            Err(Incomplete::Lacking(format!(
                "object {}",
                a.objects()[0].digest.short()
            )))
        );
        transfer.begin(begin(&state, |_| false));
        send(&mut transfer, a.objects());
        let other = done(&desired(1, &[]));
        assert!(
            transfer.done(&other, &Desired::none()).is_err(),
            "another digest was announced"
        );
    }
}
