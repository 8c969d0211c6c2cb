//! Who may begin a session, and what their Hello says about the hub's own memory. Pure.

use muster_proto::{ClusterName, Digest, Generation, Timestamp};

use super::{Certificate, Hello, Refused};
use crate::store::{Cluster, ClusterState, StoredCertificate};

/// A session may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// The cluster's row with what Hello said.
    pub(super) cluster: Cluster,
    /// Something in the row must be remembered before the session begins.
    pub(super) changed: bool,
    /// A certificate that the store does not know is remembered, too.
    pub(super) certificate: Option<StoredCertificate>,
}

/// Decides whether a session may begin. The certificate's chain and dates were checked by the handshake.
pub(super) fn admit(
    stored: Option<&Cluster>,
    certificate: Option<&StoredCertificate>,
    hello: &Hello,
    now: Timestamp,
) -> Result<Admitted, Refused> {
    // Our CA signed the certificate, so a name that the store does not know was forgotten, not made up.
    let known = stored.cloned();
    let forgotten = known.is_none();
    let before =
        known.unwrap_or_else(|| Cluster::invited(hello.cluster.clone(), Default::default(), now));
    if let Some(other) = may_come(&before, certificate, hello)? {
        return Err(other);
    }
    let mut cluster = before.clone();
    cluster.uid.clone_from(&hello.cluster_uid);
    if cluster.state == ClusterState::Invited {
        // It redeemed a token after the backup that this store comes from.
        cluster.state = ClusterState::Member;
        cluster.state_since = now;
    }
    if forgotten || is_ahead(&cluster, hello.generation, hello.desired_digest) {
        cluster.store_was_older = true;
    }
    let changed = forgotten || cluster != before;
    cluster.agent_version.clone_from(&hello.agent_version);
    cluster
        .kubernetes_version
        .clone_from(&hello.kubernetes_version);
    cluster.accepted_generation = hello.generation;
    cluster.last_seen = now;
    Ok(Admitted {
        changed,
        certificate: match certificate {
            Some(_) => None,
            None => Some(hello.certificate.clone().stored_for(cluster.name.clone())),
        },
        cluster,
    })
}

/// Whether an agent that does not run the cluster may say so; with what to say of it when it runs in another one.
pub(super) fn may_wait(
    cluster: &Cluster,
    certificate: Option<&StoredCertificate>,
    hello: &Hello,
) -> Result<Option<String>, Refused> {
    let elsewhere = may_come(cluster, certificate, hello)?;
    // One that never began does not know where it is.
    let elsewhere = elsewhere.filter(|_| !hello.cluster_uid.is_empty());
    Ok(elsewhere.map(|other| other.to_string()))
}

/// Whether anybody with this certificate may come; with the refusal for one who wants to run the cluster, when it runs
/// in another one than was enrolled.
fn may_come(
    cluster: &Cluster,
    certificate: Option<&StoredCertificate>,
    hello: &Hello,
) -> Result<Option<Refused>, Refused> {
    if cluster.state == ClusterState::Removed {
        return Err(Refused::Removed);
    }
    if certificate.is_some_and(|certificate| certificate.revoked) {
        return Err(Refused::Revoked);
    }
    let is_another = !cluster.uid.is_empty() && cluster.uid != hello.cluster_uid;
    Ok(is_another.then(|| Refused::OtherCluster {
        cluster: hello.cluster.clone(),
        enrolled: cluster.uid.clone(),
        found: hello.cluster_uid.clone(),
    }))
}

impl Certificate {
    /// As it is remembered: good.
    pub(super) fn stored_for(self, cluster: ClusterName) -> StoredCertificate {
        StoredCertificate {
            serial: self.serial,
            cluster,
            not_after: self.not_after,
            revoked: false,
        }
    }
}

/// Whether an agent holds a desired state that this store knows nothing of: it accepted a higher generation, or other
/// content under the same. Stamps are stored before they are published, so the store was put back from a backup.
pub(super) fn is_ahead(
    cluster: &Cluster,
    generation: Generation,
    desired_digest: Option<Digest>,
) -> bool {
    generation > cluster.generation
        || generation > 0
            && generation == cluster.generation
            && desired_digest != cluster.desired_digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn hello(generation: Generation) -> Hello {
        Hello {
            cluster: "eu-1".parse().unwrap(),
            certificate: Certificate {
                serial: "01".into(),
                not_after: Timestamp(9_000),
            },
            agent_version: "1.0.0".into(),
            kubernetes_version: "v1.37.2".into(),
            cluster_uid: "uid-1".into(),
            instance: "a".into(),
            generation,
            desired_digest: (generation > 0).then(|| Digest::of([[generation as u8]])),
            applications: Vec::new(),
            hindrance: String::new(),
            unkept: String::new(),
            knows: crate::fleet::Knows::default(),
        }
    }

    fn member(generation: Generation) -> Cluster {
        Cluster {
            state: ClusterState::Member,
            uid: "uid-1".into(),
            generation,
            desired_digest: (generation > 0).then(|| Digest::of([[generation as u8]])),
            ..Cluster::invited("eu-1".parse().unwrap(), Default::default(), Timestamp(1))
        }
    }

    fn certificate(revoked: bool) -> StoredCertificate {
        StoredCertificate {
            serial: "01".into(),
            cluster: "eu-1".parse().unwrap(),
            not_after: Timestamp(9_000),
            revoked,
        }
    }

    #[test]
    fn a_member_that_comes_back_changes_nothing_that_must_be_written() {
        let admitted = admit(Some(&member(5)), Some(&certificate(false)), &hello(5), NOW).unwrap();
        assert!(!admitted.changed && admitted.certificate.is_none());
        assert!(!admitted.cluster.store_was_older);
        assert_eq!(admitted.cluster.accepted_generation, 5);
        let behind = admit(Some(&member(5)), Some(&certificate(false)), &hello(3), NOW).unwrap();
        assert!(!behind.cluster.store_was_older);
    }

    #[test]
    fn an_agent_ahead_of_the_store_shows_that_the_store_is_older() {
        let mut other_content = hello(5);
        other_content.desired_digest = Some(Digest::of(["other"]));
        for hello in [hello(6), other_content] {
            let admitted = admit(Some(&member(5)), None, &hello, NOW).unwrap();
            assert!(admitted.changed && admitted.cluster.store_was_older);
            assert!(admitted.certificate.is_some());
        }
    }

    #[test]
    fn a_cluster_that_the_store_forgot_is_taken_in_again_with_removals_waiting() {
        let invited = Cluster::invited("eu-1".parse().unwrap(), Default::default(), Timestamp(1));
        for (stored, older) in [(None, true), (Some(&invited), false)] {
            let admitted = admit(stored, None, &hello(0), NOW).unwrap();
            assert!(admitted.changed);
            assert_eq!(admitted.cluster.state, ClusterState::Member);
            assert_eq!(admitted.cluster.uid, "uid-1");
            assert_eq!(admitted.cluster.store_was_older, older);
        }
    }

    #[test]
    fn removed_revoked_and_other_clusters_are_refused_with_the_reason() {
        let removed = Cluster {
            state: ClusterState::Removed,
            ..member(5)
        };
        assert_eq!(
            admit(Some(&removed), None, &hello(5), NOW),
            Err(Refused::Removed)
        );
        assert_eq!(
            admit(Some(&member(5)), Some(&certificate(true)), &hello(5), NOW),
            Err(Refused::Revoked)
        );
        let mut other = hello(5);
        other.cluster_uid = "uid-2".into();
        let refused = admit(Some(&member(5)), None, &other, NOW).unwrap_err();
        assert!(
            refused.to_string().starts_with("two agents claim eu-1"),
            "{refused}"
        );
    }
}
