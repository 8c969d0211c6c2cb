//! What people and enrolment ask of the fleet task. Each answer comes after it is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_git::{Tracked, Which};
use muster_proto::{ClusterName, Digest, Timestamp};
use ring::rand::SecureRandom;

use super::task::Task;
use super::{
    Certificate, Certify, Closed, CommandFailed, NewToken, Objects, STOPPING, TokenRefused,
};
use crate::ca::Issued;
use crate::store::{Audit, Cluster, ClusterState, Redeemed, StoreError};
use crate::view::Connection;

/// Who asks for a fetch waits so long for the repositories beside the fleet's.
const PATIENCE: Duration = Duration::from_secs(20);

impl From<StoreError> for CommandFailed {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Task {
    pub(super) async fn redeem(
        &mut self,
        secret: &str,
        cluster_uid: &str,
        certify: Certify,
    ) -> Result<(ClusterName, Issued), TokenRefused> {
        let now = self.now();
        let mut issued = None;
        let certify = |name: ClusterName| {
            let certificate = Certificate::from(&*issued.insert(certify(&name)));
            certificate.stored_for(name)
        };
        let hash = hash(secret);
        let redeemed = self.store.redeem(&hash, cluster_uid, now, certify).await;
        let redeemed = redeemed.map_err(|error| TokenRefused::Unavailable(error.to_string()))?;
        let certificate = match redeemed {
            Redeemed::Now(certificate) => certificate,
            Redeemed::Before(name) => return Err(TokenRefused::Used(name)),
            Redeemed::Expired(name) => return Err(TokenRefused::Expired(name)),
            Redeemed::Unknown => return Err(TokenRefused::Unknown),
        };
        let name = certificate.cluster.clone();
        tracing::debug!(cluster = %name, "a join token was redeemed");
        self.revoke(&name);
        self.remember_certificate(certificate);
        if let Some(member) = self.members.get_mut(&name) {
            member.close_all(Closed::Revoked);
            member.row.state = ClusterState::Member;
            member.row.state_since = now;
            member.row.uid = cluster_uid.to_owned();
        }
        self.dirty.insert(name.clone());
        Ok((name, issued.expect("a token that is redeemed is certified")))
    }

    /// Of a live session, so of no certificate that was revoked.
    pub(super) async fn renewed(
        &mut self,
        name: &ClusterName,
        certificate: Certificate,
    ) -> Result<(), CommandFailed> {
        let certificate = certificate.stored_for(name.clone());
        let now = self.now();
        self.store.put_certificate(&certificate, now).await?;
        self.remember_certificate(certificate);
        Ok(())
    }

    pub(super) async fn create_join_token(
        &mut self,
        by: String,
        name: ClusterName,
        labels: BTreeMap<String, String>,
        valid: Duration,
    ) -> Result<NewToken, CommandFailed> {
        let now = self.now();
        let mut row = match self.members.get(&name).map(|member| &member.row) {
            Some(row) if row.state == ClusterState::Removing => {
                return Err(CommandFailed::Refused(format!(
                    "cluster {name} is being removed with its objects: wait until it is gone, or end that with `muster cluster remove {name} --keep-objects`"
                )));
            }
            Some(row) => row.clone(),
            None => Cluster::invited(name.clone(), BTreeMap::new(), now),
        };
        row.labels = Arc::new(labels);
        if row.state == ClusterState::Removed {
            (row.state, row.state_since) = (ClusterState::Invited, now);
            row.uid.clear();
        }
        let valid = i64::try_from(valid.as_millis()).unwrap_or(i64::MAX);
        let expires = Timestamp(now.0.saturating_add(valid));
        let secret = secret();
        let audit = Audit {
            at: now,
            who: by,
            action: "cluster.invite",
            what: format!("{name}, good until {}", expires.0),
        };
        self.store
            .put_token(&hash(&secret), &row, expires, &audit)
            .await?;
        self.put_row(row);
        self.members_changed = true;
        Ok(NewToken { secret, expires })
    }

    pub(super) async fn remove_cluster(
        &mut self,
        by: String,
        name: ClusterName,
        objects: Objects,
    ) -> Result<String, CommandFailed> {
        let now = self.now();
        let member = self.member(&name)?;
        let connected = member.connection(now) == Connection::Connected;
        let joined = member.row.state != ClusterState::Invited;
        if member.row.state == ClusterState::Removed {
            return Err(CommandFailed::Refused(format!(
                "cluster {name} is removed already"
            )));
        }
        let delete = objects == Objects::Delete && joined;
        let row = Cluster {
            state: match delete {
                true => ClusterState::Removing,
                false => ClusterState::Removed,
            },
            state_since: now,
            ..member.row.clone()
        };
        let audit = Audit {
            at: now,
            who: by,
            action: "cluster.remove",
            what: match objects {
                Objects::Keep => format!("{name}, its objects stay"),
                Objects::Delete => format!("{name}, its objects go"),
            },
        };
        self.members_changed = true;
        if delete {
            self.restamp(row, Some(&audit)).await?;
            return Ok(match connected {
                true => format!("cluster {name} is deleting its objects and is removed then"),
                false => format!(
                    "cluster {name} is silent: it deletes its objects when its agent comes back, and is removed then"
                ),
            });
        }
        self.store.put_cluster(&row, true, Some(&audit)).await?;
        self.revoke(&name);
        self.put_row(row);
        let member = self.members.get_mut(&name).expect("it was just found");
        member.close_all(Closed::Removed);
        Ok(match joined {
            true => format!(
                "cluster {name} is removed; its objects stay, and its agent repairs nothing more"
            ),
            false => format!("cluster {name} is removed; no agent ever came"),
        })
    }

    /// The fetch is waited for beside the task.
    pub(super) async fn sync_now(
        &mut self,
        by: String,
        which: Which,
        answer: tokio::sync::oneshot::Sender<Result<String, CommandFailed>>,
    ) {
        let audit = Audit {
            at: self.now(),
            who: by,
            action: "source.sync",
            what: String::new(),
        };
        // A webhook is no person, and comes with every push.
        if audit.who != "webhook"
            && let Err(error) = self.store.audit(&audit).await
        {
            answer.send(Err(error.into())).ok();
            return;
        }
        let git = self.git.clone();
        tokio::spawn(async move {
            let fleet = async {
                let url = git.tracked.borrow().url.clone();
                match which.has(&url) {
                    true => git.fetch_now().await,
                    false => Some(git.tracked.borrow().clone()),
                }
            };
            // A slow one is fetched on, but nobody is kept waiting for it.
            let others = tokio::time::timeout(PATIENCE, git.fetch_others(which.clone()));
            let (fleet, _) = tokio::join!(fleet, others);
            let outcome = match fleet.as_deref() {
                None => Err(CommandFailed::Unavailable(STOPPING.into())),
                Some(Tracked {
                    error: Some(error), ..
                }) => Err(CommandFailed::Unavailable(error.clone())),
                Some(tracked) => {
                    let snapshot = tracked.snapshot.as_ref();
                    Ok(snapshot
                        .map(|read| read.revision.clone())
                        .unwrap_or_default())
                }
            };
            answer.send(outcome).ok();
        });
    }

    pub(super) fn member(
        &self,
        name: &ClusterName,
    ) -> Result<&super::member::Member, CommandFailed> {
        self.members.get(name).ok_or_else(|| {
            CommandFailed::NotFound(match self.declared.contains_key(name) {
                true => format!(
                    "cluster {name} never joined: only Git names it, so remove its Cluster document there"
                ),
                false => format!("there is no cluster {name}"),
            })
        })
    }
}

/// 256 random bits: too many to guess, so a plain hash keeps them.
fn secret() -> String {
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(secret: &str) -> [u8; 32] {
    *Digest::of(["muster join token", secret]).as_bytes()
}
