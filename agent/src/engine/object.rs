//! What the engine knows of one object, and what it says of it.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::{Drift, DriftKind, FieldChange, HealthStatus, ObjectKey, SyncStatus, Timestamp};
use tokio::time::Instant;

use super::braking;
use super::pods::Pods;
use crate::apply::Failure;
use crate::desired::wanted::Wanted;
use crate::drift;
use crate::health::Rule;
use crate::inventory::Entry;
use crate::live::Sight;
use crate::plan::{self, Found, Guards, Step};
use crate::report::Line;

/// One object: wanted, ours, or both.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    /// What Git wants of it.
    pub(crate) wanted: Option<Wanted>,
    /// What the inventory says.
    pub(crate) entry: Option<Entry>,
    /// What was seen.
    pub(crate) sight: Sight,
    /// What last happened to it behind Git's back.
    pub(crate) drift: Option<Drift>,
    /// A call about it is on its way.
    pub(crate) flying: bool,
    /// It is being looked at, to learn what an event did not say.
    pub(crate) looking: bool,
    /// What it waits for; empty when it waits for nothing.
    pub(crate) waits: String,
    /// The last call failed.
    pub(crate) failure: Option<Failure>,
    /// How often in a row.
    pub(crate) failures: u32,
    /// May not be removed, found out while trying.
    pub(crate) blocked: Option<String>,
    /// Nothing is tried before.
    pub(crate) not_before: Option<Instant>,
    /// Corrections in short order.
    pub(crate) streak: u32,
    /// When it was last corrected.
    pub(crate) corrected: Option<Instant>,
    /// Of a workload in trouble.
    pub(crate) pods: Option<Box<Pods>>,
    /// What an apply would change, where nothing is applied.
    pub(crate) found: Option<Found>,
    /// When that is asked again.
    pub(crate) compare_at: Option<Instant>,
}

impl Tracked {
    /// What to do with it.
    pub(crate) fn step(&self, key: &ObjectKey, guards: &Guards) -> Step {
        let step = plan::step(
            key,
            self.wanted.as_ref(),
            self.entry.as_ref(),
            &self.sight,
            guards,
        );
        match &self.wanted {
            Some(wanted) if wanted.settings.detect_only => {
                plan::detect(step, wanted, &self.sight, self.found.as_ref())
            }
            _ => step,
        }
    }

    /// Selects its Pods, when it is a workload in trouble.
    pub(crate) fn pod_selector(&self) -> Option<String> {
        self.sight.object()?.pods.clone()
    }

    /// The health rule of its application.
    pub(crate) fn rule(&self) -> Option<&Rule> {
        self.wanted.as_ref()?.rule.as_deref()
    }

    /// Neither wanted nor ours.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_none() && self.entry.is_none()
    }

    /// Takes over what Git wants of it now, under a new desired state: whatever failed may pass. False when that leaves
    /// nothing to decide: it is wanted as before, and as desired. No guard and no pause makes more or less of that, and
    /// what others wait for in it they have.
    pub(crate) fn want(
        &mut self,
        key: &ObjectKey,
        wanted: Option<&Wanted>,
        guards: &Guards,
    ) -> bool {
        let same = self.wanted.as_ref().zip(wanted);
        let same = same.is_some_and(|(before, now)| before.is_same(now));
        let waited = self.failure.is_some() || self.not_before.is_some();
        self.wanted = wanted.cloned();
        self.forgive();
        !same || waited || self.step(key, guards) != Step::InSync
    }

    /// Whatever failed may pass now.
    pub(crate) fn forgive(&mut self) {
        self.failure = None;
        self.failures = 0;
        self.blocked = None;
        self.not_before = None;
        self.waits.clear();
    }

    /// Drift that nobody has put right.
    pub(crate) fn standing_drift(&self) -> Option<&Drift> {
        self.drift
            .as_ref()
            .filter(|drift| drift.repaired_at.is_none())
    }

    /// Notes that it was found changed; true when that is news.
    pub(crate) fn note_drift(
        &mut self,
        kind: DriftKind,
        changed: drift::Changed,
        changes: Vec<FieldChange>,
        now: Timestamp,
    ) -> bool {
        let fields = changed.fields();
        // The API server's clock may be ahead of ours.
        let at = changed.at.map_or(now, |at| at.min(now));
        let count = match &mut self.drift {
            Some(standing) if standing.repaired_at.is_none() => {
                let news = standing.kind != kind || standing.fields != fields;
                standing.kind = kind;
                standing.fields = fields;
                standing.manager = changed.manager;
                standing.changes = changes;
                return news;
            }
            Some(before) => before.count,
            None => 0,
        };
        self.drift = Some(Drift {
            kind,
            fields,
            manager: changed.manager,
            at,
            repaired_at: None,
            count: count + 1,
            changes,
        });
        true
    }

    /// A call failed: when to try again.
    pub(crate) fn failed(&mut self, failure: Failure, now: Instant) -> Instant {
        self.failures += 1;
        let doublings = self.failures.min(9) - 1;
        let wait = if failure.passing {
            Duration::from_millis(500 << doublings).min(Duration::from_secs(60))
        } else {
            Duration::from_secs(2 << doublings).min(Duration::from_secs(300))
        };
        let asked = failure.retry_after.min(braking::LONGEST);
        let wait = wait.max(braking::pause(&failure).unwrap_or(asked));
        self.failure = Some(failure);
        let at = now + wait;
        self.not_before = Some(at);
        at
    }

    /// It was applied.
    pub(crate) fn applied(&mut self, repair: bool, now: Instant, clock: Timestamp) {
        if repair {
            let fight = self
                .corrected
                .is_some_and(|last| drift::goes_on(self.streak, now - last));
            self.streak = if fight { self.streak + 1 } else { 1 };
            self.corrected = Some(now);
        }
        if let Some(drift) = self
            .drift
            .as_mut()
            .filter(|drift| drift.repaired_at.is_none())
        {
            drift.repaired_at = Some(clock);
        }
        self.forgive();
    }

    /// When the next correction may happen; none: at once.
    pub(crate) fn patience(&self, now: Instant) -> Option<Instant> {
        let last = self.corrected?;
        if !drift::goes_on(self.streak, now - last) {
            return None;
        }
        Some(last + drift::delay(self.streak)).filter(|at| *at > now)
    }

    /// What to report of it; `None` when there is nothing to say.
    pub(crate) fn line(
        &self,
        key: &Arc<ObjectKey>,
        guards: &Guards,
        now: Timestamp,
    ) -> Option<Line> {
        let application = match (&self.wanted, &self.entry) {
            (Some(wanted), _) => wanted.application.clone(),
            (None, Some(entry)) => entry.application.clone(),
            (None, None) => return None,
        };
        let step = self.step(key, guards);
        let (sync, mut message) = self.sync(&step);
        let (health, why) = match &self.sight {
            Sight::Present(object) => object.health.at(now),
            Sight::Absent if sync == SyncStatus::Kept => (HealthStatus::Suspended, ""),
            Sight::Absent if sync == SyncStatus::Progressing => (HealthStatus::InProgress, ""),
            Sight::Absent => (HealthStatus::NotFound, "it is not there"),
            Sight::Unknown if sync == SyncStatus::Failed => (HealthStatus::Unknown, ""),
            Sight::Unknown => (HealthStatus::InProgress, ""),
        };
        if let Step::Leave(kind) = &step
            && let Some(why) = guards
                .paused
                .any(plan::owners(self.wanted.as_ref(), self.entry.as_ref()))
        {
            message = format!("{}, and not repaired: {why}", found(*kind));
        }
        if message.is_empty() {
            let pods = self
                .pods
                .as_ref()
                .filter(|_| health != HealthStatus::Current);
            let of_pod = pods.and_then(|pods| pods.reason.as_deref());
            message = of_pod.unwrap_or(why).to_owned();
        }
        Some(Line {
            key: key.clone(),
            application,
            wanted: self.wanted.is_some(),
            unapproved: matches!(step, Step::Unapproved(_)),
            sync,
            health,
            message,
            drift: self.drift.clone(),
            changed: None,
        })
    }

    /// Why what differs from Git is not put right, or not now; empty when it is.
    pub(crate) fn held(&self, key: &ObjectKey, guards: &Guards) -> String {
        let step = self.step(key, guards);
        let owners = plan::owners(self.wanted.as_ref(), self.entry.as_ref());
        let wanted = self.wanted.as_ref();
        let detects = wanted.is_some_and(|wanted| wanted.settings.detect_only);
        match &step {
            Step::InSync | Step::Look | Step::Compare | Step::Differs(_) if detects => {
                "the application only detects (sync.detectOnly)".into()
            }
            Step::InSync => String::new(),
            Step::Leave(kind) => match (guards.paused.any(owners), kind) {
                (Some(why), _) => why.to_owned(),
                (None, DriftKind::Added) => {
                    "what people add is reported only (sync.additions)".into()
                }
                (None, _) => "self-heal is off (sync.selfHeal)".into(),
            },
            Step::Abandon(why) => why.clone(),
            Step::Repair(kind) => {
                let (_, message) = self.sync(&step);
                if message == found(*kind) {
                    String::new()
                } else {
                    message
                }
            }
            _ => self.sync(&step).1,
        }
    }

    fn sync(&self, step: &Step) -> (SyncStatus, String) {
        let failure = || self.failure.as_ref().map(|failure| failure.message.clone());
        match step {
            Step::InSync => (SyncStatus::Synced, String::new()),
            Step::Conflict(why) | Step::Refused(why) => (SyncStatus::Failed, why.clone()),
            Step::Blocked(why) | Step::Unapproved(why) => (SyncStatus::PruneBlocked, why.clone()),
            Step::Stays(why) | Step::Exempt(why) => (SyncStatus::Kept, why.clone()),
            Step::Wait(why) => (SyncStatus::Progressing, why.clone()),
            Step::Leave(DriftKind::Added) => (
                SyncStatus::Drifted,
                format!("{}, and reported only", found(DriftKind::Added)),
            ),
            Step::Leave(kind) => (
                SyncStatus::Drifted,
                format!("{}, and not repaired: self-heal is off", found(*kind)),
            ),
            Step::Repair(kind) => match failure() {
                Some(failure) => (SyncStatus::Failed, failure),
                None => (
                    SyncStatus::Drifted,
                    self.fight().unwrap_or_else(|| found(*kind).into()),
                ),
            },
            Step::Prune if self.blocked.is_some() => (
                SyncStatus::PruneBlocked,
                self.blocked.clone().unwrap_or_default(),
            ),
            Step::Differs(how) => (SyncStatus::Drifted, how.clone()),
            Step::Look | Step::Apply | Step::Compare | Step::Prune | Step::Abandon(_) => {
                match failure() {
                    Some(failure) => (SyncStatus::Failed, failure),
                    None => (SyncStatus::Progressing, self.waits.clone()),
                }
            }
        }
    }

    /// Something changes it again and again.
    fn fight(&self) -> Option<String> {
        let wait = drift::delay(self.streak);
        let drift = self.drift.as_ref().filter(|_| !wait.is_zero())?;
        let who = if drift.manager.is_empty() {
            "somebody"
        } else {
            &drift.manager
        };
        Some(format!(
            "{who} changes {} again and again: it is corrected every {} s",
            drift.fields.join(", "),
            wait.as_secs()
        ))
    }
}

fn found(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::Changed => "it was changed in the cluster",
        DriftKind::Missing => "it was deleted in the cluster",
        DriftKind::Added => "fields were added in the cluster",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::resolved::{Resolved, resolve};
    use crate::discovery::{Catalogue, Kind};
    use crate::graph::Trouble;
    use crate::live;
    use muster_proto::{
        Desired, DesiredApplication, Digest, DigestKey, Object, Removals, Settings,
    };

    #[test]
    fn what_nobody_reports_on_says_so_also_when_it_counts_as_working() {
        let mut kind = Kind::config_map();
        kind.resource.group = "shop.io".into();
        kind.has_status = true;
        let object = serde_json::json!({"metadata": {"name": "c", "creationTimestamp": "1970-01-01T00:00:00Z"}});
        let object = serde_json::from_value(object).unwrap();
        let tracked = Tracked {
            entry: Some(Entry::planned("shop.io/v1", &"shop".parse().unwrap())),
            sight: Sight::Present(live::look(&object, &kind, None)),
            ..Tracked::default()
        };
        let key = Arc::new(crate::graph::namespace_key("c"));
        let line = |now| {
            let line = tracked
                .line(&key, &Guards::default(), Timestamp(now))
                .unwrap();
            (line.health, line.message)
        };
        let silent = "its controller has not reported a status yet".to_owned();
        assert_eq!(line(59_999), (HealthStatus::InProgress, silent));
        let settled = "no controller reports status".to_owned();
        assert_eq!(line(60_000), (HealthStatus::Current, settled));
    }

    /// An application of one ConfigMap, as it is wanted here.
    fn wanted(settings: Settings, value: &str) -> (Arc<ObjectKey>, Wanted) {
        let body = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "c", "namespace": "web"}, "data": {"v": value}});
        let object = Arc::new(Object::new(&body, &DigestKey::new([0; 32])).unwrap());
        let name = "shop".parse().unwrap();
        let shop = DesiredApplication::new(name, String::new(), settings, vec![object]);
        let state = Desired::new(1, vec![Arc::new(shop)], Removals::Released, Vec::new());
        let mut catalogue = Catalogue::default();
        let kind = Arc::new(Kind::config_map());
        catalogue.learn("v1", [("ConfigMap".to_owned(), kind)].into());
        let resolved = resolve(&state, &catalogue, |_| None, &Resolved::default());
        resolved.wanted.into_iter().next().unwrap()
    }

    #[test]
    fn under_a_newer_state_all_is_decided_about_but_what_is_wanted_as_before_and_as_desired() {
        let guards = Guards::default();
        let (key, as_before) = wanted(Settings::default(), "1");
        let in_sync = || {
            let live = serde_json::json!({"metadata": {"name": "c", "uid": "u"}});
            let live = serde_json::from_value(live).unwrap();
            let entry = Entry::planned("v1", &as_before.application);
            Tracked {
                wanted: Some(as_before.clone()),
                entry: Some(Entry {
                    uid: Some("u".into()),
                    digest: Some(as_before.digest),
                    ..entry
                }),
                sight: Sight::Present(live::look(&live, &Kind::config_map(), None)),
                ..Tracked::default()
            }
        };
        assert_eq!(in_sync().step(&key, &guards), Step::InSync);
        assert!(!in_sync().want(&key, Some(&as_before), &guards));
        // Equal, and read anew.
        let (_, equal) = wanted(Settings::default(), "1");
        assert!(!in_sync().want(&key, Some(&equal), &guards));

        let settings = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            wanted(settings, "1").1
        };
        let trouble = Wanted {
            trouble: Some(Trouble::Wrong("a cycle".into())),
            ..as_before.clone()
        };
        let ruled = Kind {
            ruled: Some(Digest::ZERO),
            ..Kind::config_map()
        };
        let ruled = Wanted {
            kind: Arc::new(ruled),
            ..as_before.clone()
        };
        for other in [
            wanted(Settings::default(), "2").1,
            settings(|settings| settings.self_heal = false),
            settings(|settings| settings.detect_only = true),
            settings(|settings| settings.depends_on = vec!["base".parse().unwrap()]),
            settings(|settings| settings.service_account = "web/robot".into()),
            trouble,
            ruled,
        ] {
            assert!(in_sync().want(&key, Some(&other), &guards), "{other:?}");
        }
        assert!(in_sync().want(&key, None, &guards));

        type Otherwise = fn(&mut Tracked);
        let otherwise: [(&str, Otherwise); 5] = [
            ("failed", |it| it.failure = Some(Failure::default())),
            ("waits", |it| it.not_before = Some(Instant::now())),
            ("new", |it| it.wanted = None),
            ("unseen", |it| it.sight = Sight::Unknown),
            ("changed", |it| it.entry.as_mut().unwrap().digest = None),
        ];
        for (what, change) in otherwise {
            let mut object = in_sync();
            change(&mut object);
            assert!(object.want(&key, Some(&as_before), &guards), "{what}");
        }
    }

    #[tokio::test]
    async fn the_api_server_is_left_alone_for_as_long_as_it_asks() {
        let now = Instant::now();
        let wait = |code, retry_after| {
            let failure = Failure {
                passing: true,
                code,
                retry_after: Duration::from_secs(retry_after),
                ..Failure::default()
            };
            Tracked::default().failed(failure, now) - now
        };
        assert_eq!(wait(500, 0), Duration::from_millis(500));
        assert_eq!(wait(429, 0), Duration::from_secs(1));
        assert_eq!(wait(429, 17), Duration::from_secs(17));
        assert_eq!(wait(503, 86_400), braking::LONGEST);
    }
}
