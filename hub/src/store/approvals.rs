//! What people have given their word for. The table could hold words for single clusters; a word holds for all, so that
//! it still holds for a cluster that was offline when it was given.

use std::collections::BTreeSet;

use muster_proto::{Approval, Digest};
use sqlx::{Row, Sqlite, Transaction};

use super::Result;
use super::clusters::{Audit, write_audit};
use super::database::Database;

impl Database {
    /// Every word that still counts.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn approvals(&self) -> Result<BTreeSet<Approval>> {
        let rows = sqlx::query("SELECT application, digest FROM approval WHERE cluster = ''")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        rows.iter()
            .map(|row| {
                let application: &str = row.get("application");
                Ok(Approval {
                    application: application.parse().map_err(|error| self.damaged(error))?,
                    digest: Digest::from_slice(row.get("digest"))
                        .ok_or_else(|| self.damaged("a digest is not 32 bytes"))?,
                })
            })
            .collect()
    }

    /// Remembers a word and who gave it.
    ///
    /// # Errors
    /// When it can't be written; then nothing may follow from it.
    pub async fn put_approvals(&self, approvals: &[Approval], audit: &Audit) -> Result<()> {
        let mut transaction = self.write().await?;
        let written = async {
            for approval in approvals {
                sqlx::query(
                    "INSERT INTO approval (application, digest, cluster, approved_by, approved_ms) VALUES ($1, $2, '', $3, $4)
                     ON CONFLICT (application, digest, cluster) DO NOTHING",
                )
                .bind(approval.application.as_str())
                .bind(approval.digest.as_bytes().as_slice())
                .bind(&audit.who)
                .bind(audit.at.0)
                .execute(&mut *transaction)
                .await?;
            }
            write_audit(&mut transaction, audit).await?;
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
    }
}

/// Forgets a word that has done what it was given for, or is about something that is no more.
pub(super) async fn forget(
    transaction: &mut Transaction<'static, Sqlite>,
    approval: &Approval,
) -> std::result::Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM approval WHERE application = $1 AND digest = $2")
        .bind(approval.application.as_str())
        .bind(approval.digest.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
