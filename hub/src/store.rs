//! Everything durable of a hub: one SQLite file in the data directory, or, for simulation, nothing but memory.
//!
//! In and out: plain values. What a person or an agent was told is written before they hear of it. The data directory
//! belongs to one hub at a time.

mod approvals;
mod clusters;
mod database;
mod decided;
mod memory;
mod pauses;
mod reports;

pub use clusters::{Audit, Cluster, ClusterState, Redeemed, StoredCertificate};
pub use database::Database;
pub use decided::{Commit, Stamp};
pub use memory::Memory;
pub use reports::StoredReport;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use muster_decide::last_good::{Changes, Rows as Decided};
use muster_proto::{ApplicationName, Approval, ClusterName, DigestKey, Pause, Rows, Timestamp};

/// The name of the database in the data directory.
pub const FILE: &str = "muster.db";

/// The handle. Clones share one store.
#[derive(Clone)]
pub enum Store {
    /// A file.
    Database(Database),
    /// Memory, which lives as long as its owner says.
    Memory(Memory),
}

/// Who this hub is, from its first start on.
#[derive(Debug, Clone)]
pub struct HubIdentity {
    /// Of the SPIFFE names it gives.
    pub trust_domain: String,
    /// Secret key of object digests.
    pub digest_key: DigestKey,
    /// First start.
    pub created: Timestamp,
}

/// Who may ask, by the hash of their token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// For the audit log.
    pub name: String,
    /// BLAKE3 or SHA-256: the caller's choice.
    pub hash: [u8; 32],
}

/// Why the store can't be used. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory can't be made, read or written.
    #[error(
        "the data directory {path} can't be used: {problem}; give the hub a folder of its own that it may write",
        path = .0.display(), problem = .1
    )]
    Directory(PathBuf, std::io::Error),
    /// Another hub holds it.
    #[error(
        "another hub works with the data directory {}: stop it first, or give this one a folder of its own", .0.display()
    )]
    Locked(PathBuf),
    /// SQLite can't make sense of the file, or values in it break their rules.
    #[error(
        "the database {path} is damaged ({problem}) and was left as it is: put back a backup of it, or move it away to start with an empty one (agents then keep what they run, and removals wait for approval)",
        path = .0.display(), problem = .1
    )]
    Corrupt(PathBuf, String),
    /// A newer hub wrote it.
    #[error(
        "the database {path} was written by a newer muster-hub (schema {version}) and was left as it is: run that version or a newer one, or put back the backup made before the upgrade",
        path = .0.display(), version = .1
    )]
    Newer(PathBuf, i64),
    /// The configuration asks for another trust domain than the certificates out there carry.
    #[error(
        "{path} belongs to the trust domain {stored}, but {configured} is configured: certificates carry it, so it can't change; configure {stored}, or start with an empty data directory",
        path = .path.display()
    )]
    TrustDomain {
        /// The database.
        path: PathBuf,
        /// What it says.
        stored: String,
        /// What was asked for.
        configured: String,
    },
    /// Anything else that SQLite answered: a full disk, say.
    #[error("the database {path} can't be used: {problem}", path = .0.display(), problem = .1)]
    Database(PathBuf, sqlx::Error),
}

/// What a store operation gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Asks the store, whichever it is.
macro_rules! either {
    ($self:ident, $store:ident => $asked:expr) => {
        match $self {
            Self::Database($store) => $asked.await,
            Self::Memory($store) => $asked.await,
        }
    };
}

impl Store {
    /// Opens the database in a data directory, making both when absent. On the first start it takes the given trust
    /// domain, or makes one up.
    ///
    /// # Errors
    /// When the directory or file can't be used; then nothing was changed.
    pub async fn open(
        directory: &Path,
        trust_domain: Option<&str>,
        now: Timestamp,
    ) -> Result<Self> {
        let database = Database::open(directory, trust_domain, now).await?;
        Ok(Self::Database(database))
    }

    /// Who this hub is.
    pub fn hub(&self) -> &HubIdentity {
        match self {
            Self::Database(store) => store.hub(),
            Self::Memory(store) => store.hub(),
        }
    }

    /// Writes out what is buffered, and leaves the store to the next hub.
    pub async fn close(&self) {
        match self {
            Self::Database(store) => store.close().await,
            Self::Memory(_) => {}
        }
    }

    /// The tokens that may ask.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>> {
        either!(self, store => store.api_tokens())
    }

    /// Adds or replaces a token that may ask.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_api_token(&self, token: &ApiToken, now: Timestamp) -> Result<()> {
        either!(self, store => store.put_api_token(token, now))
    }

    /// Every cluster that has a row, by name.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn clusters(&self) -> Result<Vec<Cluster>> {
        either!(self, store => store.clusters())
    }

    /// Writes a cluster's row, with the audit row of who wanted it. With `revoke`, every certificate and unused join token of
    /// that name stops being good.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_cluster(
        &self,
        cluster: &Cluster,
        revoke: bool,
        audit: Option<&Audit>,
    ) -> Result<()> {
        either!(self, store => store.put_cluster(cluster, revoke, audit))
    }

    /// Remembers a join token by the hash of its secret, with the row of the cluster it invites.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_token(
        &self,
        hash: &[u8; 32],
        cluster: &Cluster,
        expires: Timestamp,
        audit: &Audit,
    ) -> Result<()> {
        either!(self, store => store.put_token(hash, cluster, expires, audit))
    }

    /// Uses a join token up. Of two at once, one gets [`Redeemed::Now`]: then the cluster is a member with that UID, and
    /// what `certify` makes for its name is its only good certificate.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn redeem(
        &self,
        hash: &[u8; 32],
        uid: &str,
        now: Timestamp,
        certify: impl FnOnce(ClusterName) -> StoredCertificate,
    ) -> Result<Redeemed> {
        either!(self, store => store.redeem(hash, uid, now, certify))
    }

    /// Every certificate that was issued and has not ended.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn certificates(&self, now: Timestamp) -> Result<Vec<StoredCertificate>> {
        either!(self, store => store.certificates(now))
    }

    /// Remembers a certificate before it is handed out, and forgets those that ended by `now`.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_certificate(
        &self,
        certificate: &StoredCertificate,
        now: Timestamp,
    ) -> Result<()> {
        either!(self, store => store.put_certificate(certificate, now))
    }

    /// Writes what a person did that changed no row of its own.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn audit(&self, audit: &Audit) -> Result<()> {
        either!(self, store => store.audit(audit))
    }

    /// The audit log as `(who, action, what)`, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn audit_log(&self) -> Result<Vec<(String, String, String)>> {
        either!(self, store => store.audit_log())
    }

    /// Every word that still counts.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn approvals(&self) -> Result<BTreeSet<Approval>> {
        either!(self, store => store.approvals())
    }

    /// Remembers a word and who gave it.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_approvals(&self, approvals: &[Approval], audit: &Audit) -> Result<()> {
        either!(self, store => store.put_approvals(approvals, audit))
    }

    /// Writes the last good state's changes, the new generations and a line of history, and forgets the words that were
    /// `spent`: all or nothing.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_decided(
        &self,
        changes: &Changes,
        stamps: &[Stamp],
        commit: Option<&Commit>,
        spent: &[Approval],
    ) -> Result<()> {
        either!(self, store => store.put_decided(changes, stamps, commit, spent))
    }

    /// All documents and renderings.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn decided(&self) -> Result<Decided> {
        either!(self, store => store.decided())
    }

    /// The commit that was decided last, and whether it was complete.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn last_decided(&self) -> Result<Option<(String, bool)>> {
        either!(self, store => store.last_decided())
    }

    /// The newest commit that was complete; empty before the first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn last_adopted(&self) -> Result<String> {
        either!(self, store => store.last_adopted())
    }

    /// Commits that were decided, as `(revision, clusters that got a new generation)`, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn history(&self) -> Result<Vec<(String, i64)>> {
        either!(self, store => store.history())
    }

    /// Writes what agents last said. Losing the last of these costs nothing: an agent says everything again.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_reports(&self, reports: &[StoredReport]) -> Result<()> {
        either!(self, store => store.put_reports(reports))
    }

    /// What each agent last said, and when.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn reports(&self) -> Result<Vec<(ClusterName, Timestamp, Rows)>> {
        either!(self, store => store.reports())
    }

    /// All pauses, those that are over included: somebody has to end them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn pauses(&self) -> Result<Vec<(ClusterName, Pause)>> {
        either!(self, store => store.pauses())
    }

    /// Writes pauses (a newer one of the same place replaces the older), takes others out, and keeps the generations that
    /// follow from that: all or nothing.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_pauses(
        &self,
        put: &[(ClusterName, Pause)],
        ended: &[(ClusterName, ApplicationName)],
        stamps: &[Stamp],
        audit: Option<&Audit>,
    ) -> Result<()> {
        either!(self, store => store.put_pauses(put, ended, stamps, audit))
    }
}

/// zstd of JSON, for what is large and read as a whole.
fn pack(value: &impl serde::Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("stored values can be written as JSON");
    zstd::bulk::compress(&json, 3).expect("memory can be compressed into memory")
}

fn unpack<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    let json = zstd::stream::decode_all(bytes).map_err(|error| error.to_string())?;
    // A parser's message may quote what it read, and that may be a secret.
    serde_json::from_slice(&json).map_err(|error| format!("{:?} error in JSON", error.classify()))
}

#[cfg(test)]
mod tests;
