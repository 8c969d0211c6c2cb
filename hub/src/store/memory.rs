//! The store in memory, for simulation: it answers as the one on disk does, takes its time, and forgets what was not
//! acknowledged when its hub dies on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_decide::last_good::{Changes, Rows as Decided};
use muster_proto::{ApplicationName, Approval, ClusterName, Generation, Pause, Rows, Timestamp};
use tokio::sync::watch;

use super::{
    ApiToken, Audit, Cluster, ClusterState, Commit, HubIdentity, Redeemed, Result, Stamp,
    StoredCertificate, StoredReport,
};

/// How long a write takes to arrive, and its answer to come back: a hub that ends within the first wrote nothing, one
/// that ends within the second has written and does not know.
const HALF_A_WRITE: Duration = Duration::from_millis(2);

/// The handle. Clones share one content, which outlives the hubs that use it.
#[derive(Clone)]
pub struct Memory {
    hub: Arc<HubIdentity>,
    content: watch::Sender<Content>,
    /// Which of the hubs that used it, one after the other.
    life: u64,
}

/// The tables.
#[derive(Clone, Default)]
struct Content {
    lives: u64,
    api_tokens: BTreeMap<String, ApiToken>,
    clusters: BTreeMap<ClusterName, Cluster>,
    join_tokens: BTreeMap<[u8; 32], JoinToken>,
    certificates: BTreeMap<String, StoredCertificate>,
    audit: Vec<Audit>,
    approvals: BTreeSet<Approval>,
    decided: Decided,
    /// With the number of clusters that got a new generation.
    history: Vec<(Commit, i64)>,
    reports: BTreeMap<ClusterName, (Timestamp, Rows)>,
    pauses: BTreeMap<(ClusterName, ApplicationName), Pause>,
}

#[derive(Clone)]
struct JoinToken {
    cluster: ClusterName,
    expires: Timestamp,
    redeemed: bool,
}

impl Memory {
    /// An empty one, of this hub.
    pub fn new(hub: HubIdentity) -> Self {
        Self {
            hub: Arc::new(hub),
            content: watch::Sender::default(),
            life: 0,
        }
    }

    /// For the next hub. Writes of those before never arrive any more.
    #[must_use]
    pub fn next_life(&self) -> Self {
        self.content.send_modify(|content| content.lives += 1);
        Self {
            life: self.read().lives,
            ..self.clone()
        }
    }

    /// A backup: what is in it now, by itself.
    #[must_use]
    pub fn backup(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            content: watch::Sender::new(self.read().clone()),
            life: self.life,
        }
    }

    pub(super) fn hub(&self) -> &HubIdentity {
        &self.hub
    }

    fn read(&self) -> watch::Ref<'_, Content> {
        self.content.borrow()
    }

    async fn write<T>(&self, change: impl FnOnce(&mut Content) -> T) -> Result<T> {
        tokio::time::sleep(HALF_A_WRITE).await;
        if self.read().lives != self.life {
            return std::future::pending().await;
        }
        let mut done = None;
        self.content
            .send_modify(|content| done = Some(change(content)));
        tokio::time::sleep(HALF_A_WRITE).await;
        Ok(done.expect("it was just done"))
    }

    pub(super) async fn api_tokens(&self) -> Result<Vec<ApiToken>> {
        Ok(self.read().api_tokens.values().cloned().collect())
    }

    pub(super) async fn put_api_token(&self, token: &ApiToken, _now: Timestamp) -> Result<()> {
        self.write(|content| {
            content.api_tokens.insert(token.name.clone(), token.clone());
        })
        .await
    }

    pub(super) async fn clusters(&self) -> Result<Vec<Cluster>> {
        Ok(self.read().clusters.values().cloned().collect())
    }

    pub(super) async fn put_cluster(
        &self,
        cluster: &Cluster,
        revoke: bool,
        audit: Option<&Audit>,
    ) -> Result<()> {
        self.write(|content| {
            content.put_cluster(cluster);
            if revoke {
                content.revoke(&cluster.name);
                let unused = |token: &JoinToken| token.cluster == cluster.name && !token.redeemed;
                content.join_tokens.retain(|_, token| !unused(token));
            }
            content.audit.extend(audit.cloned());
        })
        .await
    }

    pub(super) async fn put_token(
        &self,
        hash: &[u8; 32],
        cluster: &Cluster,
        expires: Timestamp,
        audit: &Audit,
    ) -> Result<()> {
        self.write(|content| {
            content.put_cluster(cluster);
            let token = JoinToken {
                cluster: cluster.name.clone(),
                expires,
                redeemed: false,
            };
            content.join_tokens.insert(*hash, token);
            content.audit.push(audit.clone());
        })
        .await
    }

    pub(super) async fn redeem(
        &self,
        hash: &[u8; 32],
        uid: &str,
        now: Timestamp,
        certify: impl FnOnce(ClusterName) -> StoredCertificate,
    ) -> Result<Redeemed> {
        self.write(|content| {
            let Some(token) = content.join_tokens.get_mut(hash) else {
                return Redeemed::Unknown;
            };
            let name = token.cluster.clone();
            let may_join = |cluster: &&mut Cluster| {
                matches!(cluster.state, ClusterState::Invited | ClusterState::Member)
            };
            let cluster = content.clusters.get_mut(&name).filter(may_join);
            match cluster {
                _ if token.redeemed => return Redeemed::Before(name),
                Some(cluster) if token.expires > now => {
                    cluster.state = ClusterState::Member;
                    cluster.state_since = now;
                    uid.clone_into(&mut cluster.uid);
                    token.redeemed = true;
                }
                _ => return Redeemed::Expired(name),
            }
            content.audit.push(Audit {
                at: now,
                who: format!("cluster {name}"),
                action: "cluster.join",
                what: name.to_string(),
            });
            content.revoke(&name);
            let certificate = certify(name);
            content.put_certificate(&certificate);
            Redeemed::Now(certificate)
        })
        .await
    }

    pub(super) async fn certificates(&self, now: Timestamp) -> Result<Vec<StoredCertificate>> {
        let content = self.read();
        let all = content.certificates.values().cloned();
        Ok(all
            .filter(|certificate| certificate.not_after > now)
            .collect())
    }

    pub(super) async fn put_certificate(
        &self,
        certificate: &StoredCertificate,
        now: Timestamp,
    ) -> Result<()> {
        self.write(|content| {
            content.certificates.retain(|_, old| old.not_after > now);
            content.put_certificate(certificate);
        })
        .await
    }

    pub(super) async fn audit(&self, audit: &Audit) -> Result<()> {
        self.write(|content| content.audit.push(audit.clone()))
            .await
    }

    pub(super) async fn audit_log(&self) -> Result<Vec<(String, String, String)>> {
        let mut all = self.read().audit.clone();
        all.sort_by_key(|audit| audit.at);
        let row = |audit: Audit| (audit.who, audit.action.to_owned(), audit.what);
        Ok(all.into_iter().map(row).collect())
    }

    pub(super) async fn approvals(&self) -> Result<BTreeSet<Approval>> {
        Ok(self.read().approvals.clone())
    }

    pub(super) async fn put_approvals(&self, approvals: &[Approval], audit: &Audit) -> Result<()> {
        self.write(|content| {
            content.approvals.extend(approvals.iter().cloned());
            content.audit.push(audit.clone());
        })
        .await
    }

    pub(super) async fn put_decided(
        &self,
        changes: &Changes,
        stamps: &[Stamp],
        commit: Option<&Commit>,
        spent: &[Approval],
    ) -> Result<()> {
        let nothing = stamps.is_empty() && commit.is_none() && spent.is_empty();
        if nothing && *changes == Changes::default() {
            return Ok(());
        }
        self.write(|content| {
            let decided = &mut content.decided;
            decided.documents.extend(changes.put.documents.clone());
            decided.renderings.extend(changes.put.renderings.clone());
            for key in &changes.removed_documents {
                decided.documents.remove(key);
            }
            for key in &changes.removed_renderings {
                decided.renderings.remove(key);
            }
            content.put_stamps(stamps);
            content.approvals.retain(|word| !spent.contains(word));
            let clusters = i64::try_from(stamps.len()).unwrap_or(i64::MAX);
            content
                .history
                .extend(commit.map(|commit| (commit.clone(), clusters)));
        })
        .await
    }

    pub(super) async fn decided(&self) -> Result<Decided> {
        Ok(self.read().decided.clone())
    }

    pub(super) async fn last_decided(&self) -> Result<Option<(String, bool)>> {
        let newest = self.read().history.last().cloned();
        Ok(newest.map(|(commit, _)| (commit.revision, commit.complete)))
    }

    pub(super) async fn last_adopted(&self) -> Result<String> {
        let content = self.read();
        let newest = content.history.iter().rfind(|(commit, _)| commit.complete);
        Ok(newest
            .map(|(commit, _)| commit.revision.clone())
            .unwrap_or_default())
    }

    pub(super) async fn history(&self) -> Result<Vec<(String, i64)>> {
        let content = self.read();
        let row = |(commit, clusters): &(Commit, i64)| (commit.revision.clone(), *clusters);
        Ok(content.history.iter().map(row).collect())
    }

    pub(super) async fn put_reports(&self, reports: &[StoredReport]) -> Result<()> {
        self.write(|content| {
            for report in reports {
                if let Some(row) = content.clusters.get_mut(&report.cluster) {
                    row.last_seen = report.last_seen;
                    row.accepted_generation = report.accepted_generation;
                    row.agent_version.clone_from(&report.agent_version);
                    row.kubernetes_version
                        .clone_from(&report.kubernetes_version);
                    row.api_versions.clone_from(&report.api_versions);
                }
                let said = (report.reported_at, Rows::clone(&report.rows));
                content.reports.insert(report.cluster.clone(), said);
            }
        })
        .await
    }

    pub(super) async fn reports(&self) -> Result<Vec<(ClusterName, Timestamp, Rows)>> {
        let content = self.read();
        let row = |(name, (at, rows)): (&ClusterName, &(Timestamp, Rows))| {
            (name.clone(), *at, rows.clone())
        };
        Ok(content.reports.iter().map(row).collect())
    }

    pub(super) async fn pauses(&self) -> Result<Vec<(ClusterName, Pause)>> {
        let content = self.read();
        let row =
            |((cluster, _), pause): (&(ClusterName, _), &Pause)| (cluster.clone(), pause.clone());
        Ok(content.pauses.iter().map(row).collect())
    }

    pub(super) async fn put_pauses(
        &self,
        put: &[(ClusterName, Pause)],
        ended: &[(ClusterName, ApplicationName)],
        stamps: &[Stamp],
        audit: Option<&Audit>,
    ) -> Result<()> {
        self.write(|content| {
            content.pauses.retain(|place, _| !ended.contains(place));
            for (cluster, pause) in put {
                let place = (cluster.clone(), pause.application.clone());
                content.pauses.insert(place, pause.clone());
            }
            content.put_stamps(stamps);
            content.audit.extend(audit.cloned());
        })
        .await
    }
}

impl Content {
    fn put_cluster(&mut self, cluster: &Cluster) {
        self.clusters.insert(cluster.name.clone(), cluster.clone());
    }

    fn put_certificate(&mut self, certificate: &StoredCertificate) {
        let known = self.certificates.entry(certificate.serial.clone());
        let known = known.or_insert_with(|| certificate.clone());
        known.revoked = certificate.revoked;
    }

    fn revoke(&mut self, cluster: &ClusterName) {
        let its = self.certificates.values_mut();
        for certificate in its.filter(|certificate| certificate.cluster == *cluster) {
            certificate.revoked = true;
        }
    }

    /// A generation never decreases.
    fn put_stamps(&mut self, stamps: &[Stamp]) {
        let grows = |row: &&mut Cluster, to: Generation| row.generation < to;
        for stamp in stamps {
            let row = self.clusters.get_mut(&stamp.cluster);
            if let Some(row) = row.filter(|row| grows(row, stamp.generation)) {
                row.take(stamp.clone());
            }
        }
    }
}
