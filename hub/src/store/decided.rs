//! What was decided for good: documents and renderings, and the generations stamped with them, in one transaction.

use muster_decide::last_good::{Changes, RenderingKey, Rows};
use muster_proto::{Approval, ClusterName, Digest, Generation, Removals, Timestamp};
use sqlx::{Row, Sqlite, Transaction};

use super::approvals::forget;
use super::database::Database;
use super::{Result, pack, unpack};

/// A cluster's new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Whose.
    pub cluster: ClusterName,
    /// The new one.
    pub generation: Generation,
    /// Of the desired state.
    pub digest: Digest,
    /// Of the desired state.
    pub removals: Removals,
}

/// For the history: which commit it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// When it was decided.
    pub at: Timestamp,
    /// The commit.
    pub revision: String,
    /// First line of its message.
    pub subject: String,
    /// Every document parsed, every application rendered.
    pub complete: bool,
}

impl Database {
    /// Writes the last good state's changes, the new generations and a line of history, and forgets the words that were
    /// `spent`: all or nothing.
    ///
    /// # Errors
    /// When it can't be written; then nothing may be published.
    pub async fn put_decided(
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
        let mut transaction = self.write().await?;
        let written = async {
            write_changes(&mut transaction, changes).await?;
            for stamp in stamps {
                write_stamp(&mut transaction, stamp).await?;
            }
            for approval in spent {
                forget(&mut transaction, approval).await?;
            }
            if let Some(commit) = commit {
                sqlx::query(
                    "INSERT INTO history (id, at_ms, revision, subject, complete, clusters) VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(uuid::Uuid::new_v4().to_string())
                .bind(commit.at.0)
                .bind(&commit.revision)
                .bind(&commit.subject)
                .bind(commit.complete)
                .bind(i64::try_from(stamps.len()).unwrap_or(i64::MAX))
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
    }

    /// All documents and renderings.
    ///
    /// # Errors
    /// When the database can't be read. A single damaged rendering is left out: it is kept as it is in the clusters.
    pub async fn decided(&self) -> Result<Rows> {
        let mut rows = Rows::default();
        let documents = sqlx::query("SELECT key, body FROM document")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        for row in documents {
            let key: String = row.get("key");
            let body = serde_json::from_str(row.get("body"));
            let body =
                body.map_err(|_| self.damaged(format!("the document {key} can't be read")))?;
            rows.documents.insert(key, body);
        }
        let renderings = sqlx::query("SELECT application, digest, body FROM rendering")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        for row in renderings {
            let application: String = row.get("application");
            let digest = Digest::from_slice(row.get("digest"));
            let body = unpack(row.get("body"));
            let (Ok(name), Some(digest), Ok(body)) = (application.parse(), digest, body) else {
                tracing::error!(application, "a stored rendering is damaged and left out");
                continue;
            };
            let key = RenderingKey {
                application: name,
                digest,
            };
            rows.renderings.insert(key, body);
        }
        Ok(rows)
    }

    /// The commit that was decided last, and whether it was complete.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn last_decided(&self) -> Result<Option<(String, bool)>> {
        let row = sqlx::query(
            "SELECT revision, complete FROM history ORDER BY at_ms DESC, id DESC LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.explain(error))?;
        Ok(row.map(|row| (row.get("revision"), row.get("complete"))))
    }

    /// The newest commit that was complete; empty before the first.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn last_adopted(&self) -> Result<String> {
        let revision = sqlx::query_scalar(
            "SELECT revision FROM history WHERE complete ORDER BY at_ms DESC, id DESC LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.explain(error))?;
        Ok(revision.unwrap_or_default())
    }

    /// Commits that were decided, as `(revision, clusters that got a new generation)`, oldest first.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn history(&self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query("SELECT revision, clusters FROM history ORDER BY at_ms, id")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        Ok(rows
            .iter()
            .map(|row| (row.get("revision"), row.get("clusters")))
            .collect())
    }
}

type Written = std::result::Result<(), sqlx::Error>;

async fn write_changes(
    transaction: &mut Transaction<'static, Sqlite>,
    changes: &Changes,
) -> Written {
    for (key, row) in &changes.put.documents {
        sqlx::query(
            "INSERT INTO document (key, body) VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET body = excluded.body",
        )
        .bind(key)
        .bind(serde_json::to_string(row).expect("documents can be written as JSON"))
        .execute(&mut **transaction)
        .await?;
    }
    for (key, row) in &changes.put.renderings {
        sqlx::query(
            "INSERT INTO rendering (application, digest, revision, body) VALUES ($1, $2, $3, $4)
             ON CONFLICT (application, digest) DO UPDATE SET revision = excluded.revision, body = excluded.body",
        )
        .bind(key.application.as_str())
        .bind(key.digest.as_bytes().as_slice())
        .bind(&row.revision)
        .bind(pack(row))
        .execute(&mut **transaction)
        .await?;
    }
    for key in &changes.removed_documents {
        sqlx::query("DELETE FROM document WHERE key = $1")
            .bind(key)
            .execute(&mut **transaction)
            .await?;
    }
    for key in &changes.removed_renderings {
        sqlx::query("DELETE FROM rendering WHERE application = $1 AND digest = $2")
            .bind(key.application.as_str())
            .bind(key.digest.as_bytes().as_slice())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

pub(super) async fn write_stamp(
    transaction: &mut Transaction<'static, Sqlite>,
    stamp: &Stamp,
) -> Written {
    let held = match &stamp.removals {
        Removals::Released => None,
        Removals::Held(why) => Some(why),
    };
    // The condition is the last guard of the first rule: a generation never decreases.
    sqlx::query(
        "UPDATE cluster SET generation = $2, desired_digest = $3, removals_held = $4
         WHERE name = $1 AND generation < $2",
    )
    .bind(stamp.cluster.as_str())
    .bind(stamp.generation.cast_signed())
    .bind(stamp.digest.as_bytes().as_slice())
    .bind(held)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
