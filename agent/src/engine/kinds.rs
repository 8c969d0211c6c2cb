//! Which kinds the cluster serves: asked for what is in use, asked again while something has no place. Part of the
//! engine's task.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_proto::Desired;
use tokio::time::Instant;

use super::state::State;
use super::work::{self, Outcome};
use crate::apply::said;
use crate::discovery::Kinds;

/// How long an unfinished discovery may keep an offered state waiting.
const DISCOVERY: Duration = Duration::from_secs(5);

impl State {
    /// Asks for API versions that nothing is known of, in one go and not for long.
    pub(super) async fn discover_for(&mut self, desired: &Desired) {
        let unknown: Vec<String> = self.api_versions(desired).into_iter().collect();
        if unknown.is_empty() {
            return;
        }
        let asked = work::discover(&self.client, unknown);
        if let Ok(answers) = tokio::time::timeout(DISCOVERY, asked).await {
            self.learn(answers);
        }
    }

    /// API versions in use whose kinds are not all known.
    pub(super) fn api_versions(&self, desired: &Desired) -> BTreeSet<String> {
        let mut unknown = BTreeSet::new();
        for application in &desired.applications {
            for object in application.objects() {
                if self
                    .catalogue
                    .kind(&object.api_version, &object.key.kind)
                    .is_none()
                {
                    unknown.insert(object.api_version.clone());
                }
            }
        }
        for object in self.objects.values() {
            if let Some(entry) = object
                .entry
                .as_ref()
                .filter(|entry| !self.catalogue.knows(&entry.api_version))
            {
                unknown.insert(entry.api_version.clone());
            }
        }
        unknown
    }

    pub(super) fn learn(&mut self, answers: Vec<(String, Result<Kinds, kube::Error>)>) -> bool {
        let mut news = false;
        for (api_version, answer) in answers {
            match answer {
                Ok(kinds) => news |= self.catalogue.learn(&api_version, kinds),
                Err(error) => {
                    let error = said(&error);
                    tracing::warn!(%api_version, error, "the kinds of an API version can't be read")
                }
            }
        }
        news
    }

    /// Takes in which kinds there are.
    pub(super) fn discovered(&mut self, answers: Vec<(String, Result<Kinds, kube::Error>)>) {
        self.discovering = false;
        if self.learn(answers) {
            let desired = self.desired.clone();
            let placed = self.place(&desired);
            self.take_on(desired, placed);
        }
        if !self.api_versions(&self.desired).is_empty() {
            self.discovery_wait = (self.discovery_wait * 2).min(Duration::from_secs(30));
            self.discovery_at = Some(Instant::now() + self.discovery_wait);
        }
    }

    pub(super) fn discover_when_due(&mut self, now: Instant) {
        if self.discovering || self.discovery_at.is_none_or(|at| at > now) {
            return;
        }
        self.discovery_at = None;
        let unknown: Vec<String> = self.api_versions(&self.desired).into_iter().collect();
        if unknown.is_empty() {
            return;
        }
        self.discovering = true;
        let client = self.client.clone();
        self.flying.push(Box::pin(async move {
            Outcome::Discovered(work::discover(&client, unknown).await)
        }));
    }
}
