//! Pauses: people stop all writes to an application's objects on some clusters, and let them go on.
//!
//! A pause is kept for each cluster where the application is when it is asked for, so that a resume can take single
//! clusters out. It travels inside the desired state; the agent ends it by itself, and the hub a moment later.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_decide::labels::Selector;
use muster_proto::{ApplicationName, ClusterName, Generation, Pause, Timestamp};

use super::CommandFailed;
use super::member::Member;
use super::task::Task;
use crate::store::{Audit, StoreError};

/// Longest list of clusters that is spelled out.
const NAMED: usize = 10;

/// On which clusters something is asked for.
#[derive(Debug, Clone, Default)]
pub struct Where {
    /// Only this one.
    pub cluster: Option<ClusterName>,
    /// Only clusters with these labels.
    pub selector: Selector,
}

/// What a pause led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// Where it is paused now, and the generation that says so, which the agent may not have taken yet.
    pub clusters: BTreeMap<ClusterName, Generation>,
    /// When it ends by itself.
    pub until: Timestamp,
}

impl Where {
    fn takes(&self, name: &ClusterName, member: &Member) -> bool {
        let named = self.cluster.as_ref().is_none_or(|cluster| cluster == name);
        named && self.selector.matches(&member.labels)
    }
}

impl Task {
    pub(super) async fn pause(
        &mut self,
        by: String,
        application: ApplicationName,
        on: &Where,
        length: Duration,
        reason: String,
    ) -> Result<Paused, CommandFailed> {
        let now = self.now();
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let pause = Pause {
            application: application.clone(),
            until: Timestamp(now.0.saturating_add(length)),
            since: now,
            by: by.clone(),
            reason,
        };
        let mut paused = BTreeMap::new();
        for (name, member) in &self.members {
            if !(member.is_in() && on.takes(name, member) && member.has(&application)) {
                continue;
            }
            let others = member.pauses.iter();
            let others = others.filter(|other| other.application != application);
            let mut pauses: Vec<Pause> = others.cloned().collect();
            pauses.push(pause.clone());
            pauses.sort();
            paused.insert(name.clone(), pauses);
        }
        let clusters: Vec<ClusterName> = paused.keys().cloned().collect();
        if clusters.is_empty() {
            return Err(nowhere(&application, on, "does not run"));
        }
        let audit = Audit {
            at: now,
            who: by,
            action: "application.pause",
            what: format!(
                "{application} on {}, until {}: {}",
                named(&clusters),
                pause.until.0,
                pause.reason
            ),
        };
        let put: Vec<_> = clusters
            .iter()
            .map(|name| (name.clone(), pause.clone()))
            .collect();
        self.take_pauses(paused, &put, &[], Some(&audit)).await?;
        let stamped = |name: ClusterName| {
            let generation = self.members[&name].row.generation;
            (name, generation)
        };
        Ok(Paused {
            clusters: clusters.into_iter().map(stamped).collect(),
            until: pause.until,
        })
    }

    pub(super) async fn resume(
        &mut self,
        by: String,
        application: ApplicationName,
        on: &Where,
    ) -> Result<Vec<ClusterName>, CommandFailed> {
        let ours = |pause: &Pause| pause.application == application;
        let resumed: BTreeMap<_, _> = self
            .members
            .iter()
            .filter(|(name, member)| on.takes(name, member) && member.pauses.iter().any(ours))
            .map(|(name, member)| {
                let others = member.pauses.iter().filter(|pause| !ours(pause));
                (name.clone(), others.cloned().collect())
            })
            .collect();
        let clusters: Vec<ClusterName> = resumed.keys().cloned().collect();
        if clusters.is_empty() {
            return Err(nowhere(&application, on, "is not paused"));
        }
        let audit = Audit {
            at: self.now(),
            who: by,
            action: "application.resume",
            what: format!("{application} on {}", named(&clusters)),
        };
        let ended: Vec<_> = clusters
            .iter()
            .map(|name| (name.clone(), application.clone()))
            .collect();
        self.take_pauses(resumed, &[], &ended, Some(&audit)).await?;
        Ok(clusters)
    }

    /// Takes out what is over. Agents did so by themselves; this tells those whose clock is slow, and people.
    pub(super) async fn end_pauses(&mut self, now: Timestamp) {
        let mut left = BTreeMap::new();
        let mut ended = Vec::new();
        for (name, member) in &self.members {
            let (stand, over): (Vec<_>, Vec<_>) =
                member.pauses.iter().partition(|pause| pause.holds(now));
            if over.is_empty() {
                continue;
            }
            let over = over.into_iter().map(|pause| pause.application.clone());
            ended.extend(over.map(|application| (name.clone(), application)));
            left.insert(name.clone(), stand.into_iter().cloned().collect());
        }
        if ended.is_empty() {
            return;
        }
        match self.take_pauses(left, &[], &ended, None).await {
            Ok(()) => self.store_works(),
            // The next tick tries again.
            Err(error) => self.store_failed(&error),
        }
    }

    /// The pauses that stand on some clusters from now on: stored with the generations that follow, then published.
    async fn take_pauses(
        &mut self,
        pauses: BTreeMap<ClusterName, Vec<Pause>>,
        put: &[(ClusterName, Pause)],
        ended: &[(ClusterName, ApplicationName)],
        audit: Option<&Audit>,
    ) -> Result<(), StoreError> {
        let mut stamps = Vec::new();
        for (name, pauses) in &pauses {
            let member = self.members.get_mut(name).expect("pauses are of members");
            let before = std::mem::replace(&mut member.pauses, pauses.clone());
            let target = member.target();
            // Not before it is stored.
            member.pauses = before;
            stamps.extend(target.and_then(|target| member.stamp(&target)));
        }
        self.store.put_pauses(put, ended, &stamps, audit).await?;
        self.take_stamps(stamps);
        for (name, pauses) in pauses {
            let member = self.members.get_mut(&name).expect("pauses are of members");
            member.pauses = pauses;
            if let Some(target) = member.target()
                && member.row.desired_digest == Some(target.digest())
            {
                member.publish(&target);
            }
            self.dirty.insert(name);
        }
        Ok(())
    }
}

fn nowhere(application: &ApplicationName, on: &Where, is_not: &str) -> CommandFailed {
    CommandFailed::Refused(match &on.cluster {
        Some(cluster) => format!("application {application} {is_not} on cluster {cluster}"),
        None if on.selector == Selector::default() => {
            format!("application {application} {is_not} on any cluster")
        }
        None => format!("application {application} {is_not} on any cluster with these labels"),
    })
}

fn named(clusters: &[ClusterName]) -> String {
    let some: Vec<&str> = clusters
        .iter()
        .take(NAMED)
        .map(ClusterName::as_str)
        .collect();
    match clusters.len().saturating_sub(NAMED) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}
