//! The stored rows of clusters and certificates, and the same in memory: written first, then seen.

use muster_proto::{ClusterName, Timestamp};

use super::member::Member;
use super::task::Task;
use crate::store::{Audit, Cluster, Stamp, StoreError, StoredCertificate};

impl Task {
    /// Stores a cluster's row, with a new generation when what it should hold is another than was stamped; then
    /// publishes.
    pub(super) async fn restamp(
        &mut self,
        row: Cluster,
        audit: Option<&Audit>,
    ) -> Result<(), StoreError> {
        let name = row.name.clone();
        let members_changed = !self.members.contains_key(&name);
        let member = self
            .members
            .entry(name.clone())
            .or_insert_with(|| Member::new(row.clone()));
        let before = std::mem::replace(&mut member.row, row);
        let target = member.target();
        let mut row = member.row.clone();
        if let Some(stamp) = target.as_ref().and_then(|target| member.stamp(target)) {
            row.take(stamp);
        }
        // Nobody may see it before it is stored.
        member.row = before;
        if let Err(error) = self.store.put_cluster(&row, false, audit).await {
            if members_changed {
                self.members.remove(&name);
            }
            return Err(error);
        }
        self.members_changed |= members_changed;
        let member = self.members.get_mut(&name).expect("it was just there");
        member.row = row;
        if let Some(target) = target {
            member.publish(&target);
        }
        self.dirty.insert(name);
        Ok(())
    }

    /// Takes stamps of members that are stored already.
    pub(super) fn take_stamps(&mut self, stamps: Vec<Stamp>) {
        for stamp in stamps {
            self.dirty.insert(stamp.cluster.clone());
            let member = self.members.get_mut(&stamp.cluster);
            member.expect("stamps are of members").row.take(stamp);
        }
    }

    /// Takes a row that is stored already.
    pub(super) fn put_row(&mut self, row: Cluster) {
        let name = row.name.clone();
        match self.members.get_mut(&name) {
            Some(member) => member.row = row,
            None => {
                self.members.insert(name.clone(), Member::new(row));
            }
        }
        self.dirty.insert(name);
    }

    pub(super) fn remember_certificate(&mut self, certificate: StoredCertificate) {
        if let Some(member) = self.members.get_mut(&certificate.cluster)
            && !certificate.revoked
        {
            member.certificate_expires = member.certificate_expires.max(certificate.not_after);
            self.dirty.insert(certificate.cluster.clone());
        }
        self.certificates
            .insert(certificate.serial.clone(), certificate);
    }

    /// Marks every certificate of a cluster as revoked, as the store did.
    pub(super) fn revoke(&mut self, name: &ClusterName) {
        let certificates = self.certificates.values_mut();
        for certificate in certificates.filter(|certificate| certificate.cluster == *name) {
            certificate.revoked = true;
        }
        if let Some(member) = self.members.get_mut(name) {
            member.certificate_expires = Timestamp(0);
        }
        self.dirty.insert(name.clone());
    }
}
