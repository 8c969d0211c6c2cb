//! What sessions tell the fleet task: who begins, accepts, reports, lives, ends.

use std::sync::Arc;

use muster_proto::{ClusterName, Report, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::admission::{admit, is_ahead, may_wait};
use super::idle::Idler;
use super::member::{Live, Member};
use super::task::Task;
use super::{
    Accepted, Asked, Closed, CommandFailed, FromSession, Grant, Hello, Idle, Knows, NotAsked,
    Refused, Session, SessionId, Waiting,
};
use crate::store::{Audit, Cluster, ClusterState, StoreError};
use crate::view::Connection;

/// Questions that wait for one session at most.
const QUESTIONS: usize = 4;

impl Task {
    pub(super) async fn connect(&mut self, hello: Hello) -> Result<Grant, Refused> {
        let now = self.now();
        let name = hello.cluster.clone();
        let stored = self.members.get(&name).map(|member| &member.row);
        let was = self.members.get(&name).map(|member| member.connection(now));
        let version = stored.map(|stored| stored.kubernetes_version.clone());
        let certificate = self.certificates.get(&hello.certificate.serial);
        let certificate = certificate.filter(|certificate| certificate.cluster == name);
        let admitted = match admit(stored, certificate, &hello, now) {
            Ok(admitted) => admitted,
            Err(refused) => {
                tracing::warn!(cluster = %name, error = %refused, "refused a session");
                return Err(refused);
            }
        };
        let unavailable = |error: StoreError| Refused::Unavailable(error.to_string());
        if let Some(certificate) = admitted.certificate {
            let stored = self.store.put_certificate(&certificate, now).await;
            stored.map_err(unavailable)?;
            self.remember_certificate(certificate);
        }
        let (row, changed) = (admitted.cluster, admitted.changed);
        let ahead = is_ahead(&row, hello.generation, hello.desired_digest);
        if changed || ahead {
            self.restamp(above(row, ahead, hello.generation), None)
                .await
                .map_err(unavailable)?;
        } else {
            let member = self.members.get_mut(&name);
            member.expect("it was admitted by its row").row = row;
        }
        // Charts may look at it.
        self.members_changed |= version.as_ref() != Some(&hello.kubernetes_version);
        let (close, closed) = oneshot::channel();
        let (line, asked) = mpsc::channel(QUESTIONS);
        self.last_session += 1;
        let id = self.last_session;
        let known = hello.applications.iter();
        let known = known.filter_map(|(name, digest)| self.contents.get(name, *digest));
        let known = known.collect();
        let member = self.members.get_mut(&name).expect("it has a row now");
        member.idlers.reconnects(&hello.instance);
        let before = member.live.as_ref();
        member.close(
            match before.is_some_and(|live| live.instance == hello.instance) {
                true => Closed::Reconnected,
                false => Closed::Superseded,
            },
        );
        member.live = Some(Live {
            id,
            instance: hello.instance,
            close,
            knows: hello.knows,
            line,
        });
        member.refused = None;
        member.hindrance = hello.hindrance;
        member.unkept = hello.unkept;
        // The row's last sign of life is already this one: what was before decides.
        if was != Some(Connection::Connected) {
            member.connected_since = Some(now);
        }
        let desired = member.desired.subscribe();
        tracing::debug!(cluster = %name, agent = hello.agent_version, generation = hello.generation, "a session begins");
        self.unstored.insert(name.clone());
        self.dirty.insert(name.clone());
        Ok(Grant {
            session: Session {
                cluster: name,
                id,
                requests: self.sender.clone(),
            },
            desired,
            known,
            api_versions: self.serving.asked(),
            asked,
            closed,
        })
    }

    /// The way to the agent that runs a cluster.
    pub(super) fn line_to(
        &self,
        name: &ClusterName,
        knows: fn(&Knows) -> bool,
    ) -> Result<mpsc::Sender<Asked>, NotAsked> {
        let live = self.members.get(name).and_then(|it| it.live.as_ref());
        let live = live.ok_or(NotAsked::Away)?;
        match knows(&live.knows) {
            true => Ok(live.line.clone()),
            false => Err(NotAsked::TooOld),
        }
    }

    /// Begins the session of an agent that does not run its cluster.
    pub(super) fn wait(&mut self, hello: Hello, idle: Idle) -> Result<Waiting, Refused> {
        let now = self.now();
        let name = hello.cluster.clone();
        let certificate = self.certificates.get(&hello.certificate.serial);
        let Some(member) = self.members.get_mut(&name) else {
            // What the store forgot, it learns of the agent that runs the cluster.
            return Err(match idle.for_good {
                true => Refused::Unavailable(format!("it knows no cluster {name}")),
                false => Refused::Free,
            });
        };
        let elsewhere = may_wait(&member.row, certificate, &hello)?;
        let runs_it = member.live.as_ref();
        if runs_it.is_some_and(|live| live.instance == hello.instance) {
            // Of what it says of itself, this is the newer.
            member.live = None;
        }
        if !idle.for_good && elsewhere.is_none() && member.is_deserted(now, self.started) {
            return Err(Refused::Free);
        }
        let (close, closed) = oneshot::channel();
        self.last_session += 1;
        let id = self.last_session;
        member.idlers.reconnects(&hello.instance);
        tracing::warn!(cluster = %name, instance = hello.instance, reason = idle.why, "an agent is there and does not run its cluster");
        let idler = Idler {
            instance: hello.instance,
            idle,
            elsewhere,
            since: now,
            close,
        };
        member.idlers.put(id, idler);
        self.dirty.insert(name.clone());
        Ok(Waiting {
            session: Session {
                cluster: name,
                id,
                requests: self.sender.clone(),
            },
            closed,
        })
    }

    /// What the live session of a cluster says; a superseded one is not heard.
    pub(super) async fn heard_from(&mut self, name: ClusterName, id: SessionId, what: FromSession) {
        let now = self.now();
        if let Some(member) = self.members.get_mut(&name)
            && matches!(what, FromSession::Ended)
            && member.idlers.remove(id)
        {
            self.dirty.insert(name);
            return;
        }
        let live = self.members.get_mut(&name);
        let live = live.filter(|member| member.live.as_ref().is_some_and(|live| live.id == id));
        let Some(member) = live else {
            match what {
                FromSession::Accepted(_, answer) | FromSession::Serves(_, answer) => {
                    answer.send(()).ok()
                }
                FromSession::Report(_, answer) => answer.send(true).ok(),
                FromSession::Renewed(_, answer) => answer.send(Err(over())).ok(),
                FromSession::Alive(_) | FromSession::Ended => None,
            };
            return;
        };
        match what {
            FromSession::Accepted(accepted, answer) => {
                member.heard(now, now);
                self.accepted(&name, accepted).await;
                answer.send(()).ok();
            }
            FromSession::Report(report, answer) => {
                member.heard(now, now);
                let agrees = take_in(member, report, now);
                self.unstored.insert(name.clone());
                self.finish_removal(&name).await;
                answer.send(agrees).ok();
            }
            FromSession::Serves(served, answer) => {
                member.heard(now, now);
                self.agent_serves(&name, served);
                answer.send(()).ok();
            }
            FromSession::Renewed(certificate, answer) => {
                answer.send(self.renewed(&name, certificate).await).ok();
            }
            FromSession::Alive(ago) => {
                let before = member.connected_since;
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                member.heard(Timestamp(now.0.saturating_sub(ago)), now);
                if member.connected_since == before {
                    // `last_seen` alone is shown with the next change.
                    return;
                }
            }
            FromSession::Ended => {
                member.live = None;
                tracing::debug!(cluster = %name, "a session ended");
                self.unstored.insert(name.clone());
            }
        }
        self.dirty.insert(name);
    }

    async fn accepted(&mut self, name: &ClusterName, accepted: Accepted) {
        let member = self.members.get_mut(name).expect("the caller found it");
        member.row.accepted_generation = accepted.generation;
        member.refused = accepted.refused;
        // It was kept, or has nothing to do with keeping.
        member.hindrance.clear();
        self.unstored.insert(name.clone());
        if let Some(why) = &member.refused {
            tracing::warn!(cluster = %name, generation = accepted.generation, error = why, "an agent refused a desired state");
        }
        // Judged on a refusal only: an answer may cross a newer desired state on its way.
        let ahead = member.refused.is_some()
            && is_ahead(&member.row, accepted.generation, accepted.desired_digest);
        if ahead {
            let row = above(member.row.clone(), true, accepted.generation);
            if let Err(error) = self.restamp(row, None).await {
                self.store_failed(&error);
            }
        }
    }

    /// The agent of a cluster that is being removed says that nothing is left.
    async fn finish_removal(&mut self, name: &ClusterName) {
        let member = &self.members[name];
        let nothing_left = member.row.state == ClusterState::Removing
            && member.rows.generation() >= member.row.generation
            && member.rows.applications().is_empty()
            && member.rows.objects().is_empty();
        if !nothing_left {
            return;
        }
        let now = self.now();
        let row = Cluster {
            state: ClusterState::Removed,
            state_since: now,
            ..member.row.clone()
        };
        let audit = Audit {
            at: now,
            who: format!("cluster {name}"),
            action: "cluster.removed",
            what: format!("{name}: its objects are deleted"),
        };
        match self.store.put_cluster(&row, true, Some(&audit)).await {
            Ok(()) => {
                tracing::info!(cluster = %name, "a cluster is removed with its objects");
                self.revoke(name);
                let member = self.members.get_mut(name).expect("it is being removed");
                member.row = row;
                member.close_all(Closed::Removed);
            }
            // The next report brings us here again.
            Err(error) => self.store_failed(&error),
        }
    }
}

fn over() -> CommandFailed {
    CommandFailed::Refused("this session is over".into())
}

fn take_in(member: &mut Member, report: Report, now: Timestamp) -> bool {
    member.reported_at = now;
    Arc::make_mut(&mut member.rows).take_in(report)
}

/// The row of a cluster whose agent is ahead: whatever is stamped next lies above what the agent holds.
fn above(mut row: Cluster, ahead: bool, held: muster_proto::Generation) -> Cluster {
    if ahead {
        row.store_was_older = true;
        row.generation = row.generation.max(held);
        row.desired_digest = None;
    }
    row
}
