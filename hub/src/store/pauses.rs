//! What people paused, and the generations stamped with that, in one transaction.

use muster_proto::{ApplicationName, ClusterName, Pause, Timestamp};
use sqlx::Row;

use super::clusters::write_audit;
use super::database::Database;
use super::decided::write_stamp;
use super::{Audit, Result, Stamp};

impl Database {
    /// All pauses, those that are over included: somebody has to end them.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn pauses(&self) -> Result<Vec<(ClusterName, Pause)>> {
        let rows = sqlx::query("SELECT * FROM pause ORDER BY cluster, application")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        rows.iter()
            .map(|row| {
                let application: &str = row.get("application");
                let pause = Pause {
                    application: application.parse().map_err(|error| self.damaged(error))?,
                    until: Timestamp(row.get("until_ms")),
                    since: Timestamp(row.get("since_ms")),
                    by: row.get("paused_by"),
                    reason: row.get("reason"),
                };
                Ok((self.name(row.get("cluster"))?, pause))
            })
            .collect()
    }

    /// Writes pauses (a newer one of the same place replaces the older), takes others out, and keeps the generations
    /// that follow from that: all or nothing.
    ///
    /// # Errors
    /// When it can't be written; then nothing may be published.
    pub async fn put_pauses(
        &self,
        put: &[(ClusterName, Pause)],
        ended: &[(ClusterName, ApplicationName)],
        stamps: &[Stamp],
        audit: Option<&Audit>,
    ) -> Result<()> {
        let mut transaction = self.write().await?;
        let written = async {
            for (cluster, application) in ended {
                sqlx::query("DELETE FROM pause WHERE cluster = $1 AND application = $2")
                    .bind(cluster.as_str())
                    .bind(application.as_str())
                    .execute(&mut *transaction)
                    .await?;
            }
            for (cluster, pause) in put {
                sqlx::query(
                    "INSERT INTO pause (application, cluster, until_ms, since_ms, paused_by, reason)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (application, cluster) DO UPDATE SET until_ms = excluded.until_ms,
                         since_ms = excluded.since_ms, paused_by = excluded.paused_by, reason = excluded.reason",
                )
                .bind(pause.application.as_str())
                .bind(cluster.as_str())
                .bind(pause.until.0)
                .bind(pause.since.0)
                .bind(&pause.by)
                .bind(&pause.reason)
                .execute(&mut *transaction)
                .await?;
            }
            for stamp in stamps {
                write_stamp(&mut transaction, stamp).await?;
            }
            if let Some(audit) = audit {
                write_audit(&mut transaction, audit).await?;
            }
            transaction.commit().await
        };
        written.await.map_err(|error| self.explain(error))
    }
}
