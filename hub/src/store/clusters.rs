//! Clusters, their join tokens and certificates, and what people did to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::{ClusterName, Digest, Generation, Removals, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::database::Database;
use super::{Result, Stamp};

/// One cluster as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// Where it is in its life.
    pub state: ClusterState,
    /// Since when.
    pub state_since: Timestamp,
    /// Of its join token.
    pub labels: Arc<BTreeMap<String, String>>,
    /// UID of its namespace kube-system; empty before it joined.
    pub uid: String,
    /// Last stamped.
    pub generation: Generation,
    /// Digest of what was stamped; `None` before the first.
    pub desired_digest: Option<Digest>,
    /// Removals of what was stamped.
    pub removals: Removals,
    /// Held by the agent, as it last said.
    pub accepted_generation: Generation,
    /// The agent was ahead of this store; removals wait for a person.
    pub store_was_older: bool,
    /// As the agent said.
    pub agent_version: String,
    /// As the agent said.
    pub kubernetes_version: String,
    /// As the agent said: what it was asked about, and whether its cluster serves it.
    pub api_versions: Arc<BTreeMap<String, bool>>,
    /// Last sign of life.
    pub last_seen: Timestamp,
}

impl Cluster {
    /// Takes a stamp of this cluster.
    pub fn take(&mut self, stamp: Stamp) {
        self.generation = stamp.generation;
        self.desired_digest = Some(stamp.digest);
        self.removals = stamp.removals;
    }
}

/// The life of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// A join token was made.
    Invited,
    /// A join token was redeemed.
    Member,
    /// A person wants it gone with its objects.
    Removing,
    /// Gone. The row stays, so that an agent that comes back is told.
    Removed,
}

impl ClusterState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Member => "member",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Invited, Self::Member, Self::Removing, Self::Removed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCertificate {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Whose.
    pub cluster: ClusterName,
    /// Its end.
    pub not_after: Timestamp,
    /// No longer good.
    pub revoked: bool,
}

/// What a person did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// Such as `cluster.remove`.
    pub action: &'static str,
    /// To what, and how.
    pub what: String,
}

/// What became of a join token that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// It lets a cluster in, by this certificate, and is used now.
    Now(StoredCertificate),
    /// It was used before.
    Before(ClusterName),
    /// Its time is over.
    Expired(ClusterName),
    /// Nobody made it.
    Unknown,
}

impl Cluster {
    /// A cluster that was just invited.
    pub fn invited(name: ClusterName, labels: BTreeMap<String, String>, now: Timestamp) -> Self {
        Self {
            name,
            state: ClusterState::Invited,
            state_since: now,
            labels: Arc::new(labels),
            uid: String::new(),
            generation: 0,
            desired_digest: None,
            removals: Removals::Released,
            accepted_generation: 0,
            store_was_older: false,
            agent_version: String::new(),
            kubernetes_version: String::new(),
            api_versions: Arc::default(),
            last_seen: Timestamp(0),
        }
    }
}

impl Database {
    /// Every cluster that has a row, by name.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn clusters(&self) -> Result<Vec<Cluster>> {
        let rows = sqlx::query("SELECT * FROM cluster ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        rows.iter().map(|row| self.cluster(row)).collect()
    }

    fn cluster(&self, row: &SqliteRow) -> Result<Cluster> {
        let state: &str = row.get("state");
        let digest: Option<Vec<u8>> = row.get("desired_digest");
        Ok(Cluster {
            name: self.name(row.get("name"))?,
            state: ClusterState::read(state)
                .ok_or_else(|| self.damaged(format!("{state} is no state of a cluster")))?,
            state_since: Timestamp(row.get("state_since_ms")),
            labels: serde_json::from_str(row.get("labels"))
                .map(Arc::new)
                .map_err(|error| self.damaged(format!("labels of a cluster: {error}")))?,
            uid: row.get("uid"),
            generation: row.get::<i64, _>("generation").cast_unsigned(),
            desired_digest: match digest {
                None => None,
                Some(bytes) => Some(
                    Digest::from_slice(&bytes)
                        .ok_or_else(|| self.damaged("a digest is not 32 bytes"))?,
                ),
            },
            removals: match row.get("removals_held") {
                None => Removals::Released,
                Some(why) => Removals::Held(why),
            },
            accepted_generation: row.get::<i64, _>("accepted_generation").cast_unsigned(),
            store_was_older: row.get("store_was_older"),
            agent_version: row.get("agent_version"),
            kubernetes_version: row.get("kubernetes_version"),
            api_versions: serde_json::from_str(row.get("api_versions"))
                .map(Arc::new)
                .map_err(|error| self.damaged(format!("API versions of a cluster: {error}")))?,
            last_seen: Timestamp(row.get("last_seen_ms")),
        })
    }

    /// Writes a cluster's row, with the audit row of who wanted it. With `revoke`, every certificate and unused
    /// join token of that name stops being good.
    ///
    /// # Errors
    /// When it can't be written; then nothing was.
    pub async fn put_cluster(
        &self,
        cluster: &Cluster,
        revoke: bool,
        audit: Option<&Audit>,
    ) -> Result<()> {
        let mut transaction = self.write().await?;
        let written = async {
            upsert(&mut transaction, cluster).await?;
            if revoke {
                revoke_all(&mut transaction, &cluster.name).await?;
            }
            if let Some(audit) = audit {
                write_audit(&mut transaction, audit).await?;
            }
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
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
        let mut transaction = self.write().await?;
        let written = async {
            upsert(&mut transaction, cluster).await?;
            sqlx::query(
                "INSERT INTO join_token (hash, cluster, created_ms, expires_ms) VALUES ($1, $2, $3, $4)",
            )
            .bind(hash.as_slice())
            .bind(cluster.name.as_str())
            .bind(audit.at.0)
            .bind(expires.0)
            .execute(&mut *transaction)
            .await?;
            write_audit(&mut transaction, audit).await?;
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
    }

    /// Uses a join token up. Of two at once, one gets [`Redeemed::Now`]: then the cluster is a member with that UID,
    /// and what `certify` makes for its name is its only good certificate.
    ///
    /// # Errors
    /// When it can't be written; then the token is as good as before.
    pub async fn redeem(
        &self,
        hash: &[u8; 32],
        uid: &str,
        now: Timestamp,
        certify: impl FnOnce(ClusterName) -> StoredCertificate,
    ) -> Result<Redeemed> {
        let mut transaction = self.write().await?;
        let redeemed = async {
            let used = sqlx::query_scalar::<_, String>(
                "UPDATE join_token SET redeemed_ms = $2
                 WHERE hash = $1 AND redeemed_ms IS NULL AND expires_ms > $2
                     AND EXISTS (SELECT 1 FROM cluster
                         WHERE name = join_token.cluster AND state IN ('invited', 'member'))
                 RETURNING cluster",
            )
            .bind(hash.as_slice())
            .bind(now.0)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(cluster) = used else {
                let row =
                    sqlx::query("SELECT cluster, redeemed_ms FROM join_token WHERE hash = $1")
                        .bind(hash.as_slice())
                        .fetch_optional(&mut *transaction)
                        .await?;
                return Ok(Err(row.map(|row| {
                    (
                        row.get::<String, _>("cluster"),
                        row.get::<Option<i64>, _>("redeemed_ms").is_some(),
                    )
                })));
            };
            sqlx::query(
                "UPDATE cluster SET state = $2, state_since_ms = $3, uid = $4 WHERE name = $1",
            )
            .bind(&cluster)
            .bind(ClusterState::Member.as_str())
            .bind(now.0)
            .bind(uid)
            .execute(&mut *transaction)
            .await?;
            let audit = Audit {
                at: now,
                who: format!("cluster {cluster}"),
                action: "cluster.join",
                what: cluster.clone(),
            };
            write_audit(&mut transaction, &audit).await?;
            sqlx::query("UPDATE certificate SET revoked = TRUE WHERE cluster = $1")
                .bind(&cluster)
                .execute(&mut *transaction)
                .await?;
            let name = cluster.parse();
            let name = name.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            // In one transaction with the revocation, or two who join at once would both be left good.
            let certificate = certify(name);
            insert_certificate(&mut transaction, &certificate).await?;
            transaction.commit().await?;
            Ok(Ok(certificate))
        };
        let redeemed: std::result::Result<_, sqlx::Error> = redeemed.await;
        Ok(match redeemed.map_err(|error| self.explain(error))? {
            Ok(certificate) => Redeemed::Now(certificate),
            Err(None) => Redeemed::Unknown,
            Err(Some((cluster, true))) => Redeemed::Before(self.name(cluster)?),
            Err(Some((cluster, false))) => Redeemed::Expired(self.name(cluster)?),
        })
    }

    /// Every certificate that was issued and has not ended.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn certificates(&self, now: Timestamp) -> Result<Vec<StoredCertificate>> {
        let rows = sqlx::query(
            "SELECT serial, cluster, not_after_ms, revoked FROM certificate WHERE not_after_ms > $1",
        )
        .bind(now.0)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.explain(error))?;
        rows.iter()
            .map(|row| {
                Ok(StoredCertificate {
                    serial: row.get("serial"),
                    cluster: self.name(row.get("cluster"))?,
                    not_after: Timestamp(row.get("not_after_ms")),
                    revoked: row.get("revoked"),
                })
            })
            .collect()
    }

    /// Remembers a certificate before it is handed out, and forgets those that ended by `now`.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn put_certificate(
        &self,
        certificate: &StoredCertificate,
        now: Timestamp,
    ) -> Result<()> {
        let mut transaction = self.write().await?;
        let written = async {
            sqlx::query("DELETE FROM certificate WHERE not_after_ms <= $1")
                .bind(now.0)
                .execute(&mut *transaction)
                .await?;
            insert_certificate(&mut transaction, certificate).await?;
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
    }

    /// Writes what a person did that changed no row of its own.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn audit(&self, audit: &Audit) -> Result<()> {
        let mut transaction = self.write().await?;
        let written = async {
            write_audit(&mut transaction, audit).await?;
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
    }

    /// The audit log as `(who, action, what)`, oldest first.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn audit_log(&self) -> Result<Vec<(String, String, String)>> {
        let rows = sqlx::query("SELECT who, action, what FROM audit ORDER BY at_ms, id")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        Ok(rows
            .iter()
            .map(|row| (row.get("who"), row.get("action"), row.get("what")))
            .collect())
    }

    pub(super) fn name(&self, text: String) -> Result<ClusterName> {
        text.parse().map_err(|error| self.damaged(error))
    }
}

type Written = std::result::Result<(), sqlx::Error>;

async fn upsert(transaction: &mut Transaction<'static, Sqlite>, cluster: &Cluster) -> Written {
    let held = match &cluster.removals {
        Removals::Released => None,
        Removals::Held(why) => Some(why),
    };
    sqlx::query(
        "INSERT INTO cluster (name, state, state_since_ms, labels, uid, generation, desired_digest, removals_held,
             accepted_generation, store_was_older, agent_version, kubernetes_version, last_seen_ms, api_versions)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (name) DO UPDATE SET state = excluded.state, state_since_ms = excluded.state_since_ms,
             labels = excluded.labels, uid = excluded.uid, generation = excluded.generation,
             desired_digest = excluded.desired_digest, removals_held = excluded.removals_held,
             accepted_generation = excluded.accepted_generation, store_was_older = excluded.store_was_older,
             agent_version = excluded.agent_version, kubernetes_version = excluded.kubernetes_version,
             last_seen_ms = excluded.last_seen_ms, api_versions = excluded.api_versions",
    )
    .bind(cluster.name.as_str())
    .bind(cluster.state.as_str())
    .bind(cluster.state_since.0)
    .bind(serde_json::to_string(&cluster.labels).expect("text can be written"))
    .bind(&cluster.uid)
    .bind(cluster.generation.cast_signed())
    .bind(cluster.desired_digest.map(|digest| digest.as_bytes().to_vec()))
    .bind(held)
    .bind(cluster.accepted_generation.cast_signed())
    .bind(cluster.store_was_older)
    .bind(&cluster.agent_version)
    .bind(&cluster.kubernetes_version)
    .bind(cluster.last_seen.0)
    .bind(json(&cluster.api_versions))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// As JSON, for a column.
pub(super) fn json(api_versions: &BTreeMap<String, bool>) -> String {
    serde_json::to_string(api_versions).expect("text can be written")
}

async fn insert_certificate(
    transaction: &mut Transaction<'static, Sqlite>,
    certificate: &StoredCertificate,
) -> Written {
    sqlx::query(
        "INSERT INTO certificate (serial, cluster, not_after_ms, revoked) VALUES ($1, $2, $3, $4)
         ON CONFLICT (serial) DO UPDATE SET revoked = excluded.revoked",
    )
    .bind(&certificate.serial)
    .bind(certificate.cluster.as_str())
    .bind(certificate.not_after.0)
    .bind(certificate.revoked)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn revoke_all(
    transaction: &mut Transaction<'static, Sqlite>,
    cluster: &ClusterName,
) -> Written {
    for statement in [
        "UPDATE certificate SET revoked = TRUE WHERE cluster = $1",
        // An invitation from before is no way back.
        "DELETE FROM join_token WHERE cluster = $1 AND redeemed_ms IS NULL",
    ] {
        sqlx::query(statement)
            .bind(cluster.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

pub(super) async fn write_audit(
    transaction: &mut Transaction<'static, Sqlite>,
    audit: &Audit,
) -> Written {
    sqlx::query("INSERT INTO audit (id, at_ms, who, action, what) VALUES ($1, $2, $3, $4, $5)")
        .bind(uuid::Uuid::new_v4().to_string())
        .bind(audit.at.0)
        .bind(&audit.who)
        .bind(audit.action)
        .bind(&audit.what)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
