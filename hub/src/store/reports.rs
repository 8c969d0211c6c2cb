//! What each agent last said, written in batches: the newest of each cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::{ApplicationStatus, ClusterName, Generation, ObjectStatus, Rows, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::clusters::json;
use super::database::Database;
use super::{Result, pack, unpack};

/// So many clusters share a transaction: others who write get their turn in between.
const BATCH: usize = 200;

/// What is remembered of a cluster between decisions.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReport {
    /// Whose.
    pub cluster: ClusterName,
    /// When the agent last said something; 0 when it never did.
    pub reported_at: Timestamp,
    /// What it said.
    pub rows: Arc<Rows>,
    /// Last sign of life.
    pub last_seen: Timestamp,
    /// Generation that its agent holds.
    pub accepted_generation: Generation,
    /// As its agent said.
    pub agent_version: String,
    /// As its agent said.
    pub kubernetes_version: String,
    /// As its agent said.
    pub api_versions: Arc<BTreeMap<String, bool>>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    applications: Vec<ApplicationStatus>,
    objects: Vec<ObjectStatus>,
}

impl Database {
    /// Writes what agents last said. Losing the last of these costs nothing: an agent says everything again.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn put_reports(&self, reports: &[StoredReport]) -> Result<()> {
        for batch in reports.chunks(BATCH) {
            let mut transaction = self.write().await?;
            let written = async {
                for report in batch {
                    sqlx::query(
                        "UPDATE cluster SET last_seen_ms = $2, accepted_generation = $3, agent_version = $4,
                             kubernetes_version = $5, api_versions = $6 WHERE name = $1",
                    )
                    .bind(report.cluster.as_str())
                    .bind(report.last_seen.0)
                    .bind(report.accepted_generation.cast_signed())
                    .bind(&report.agent_version)
                    .bind(&report.kubernetes_version)
                    .bind(json(&report.api_versions))
                    .execute(&mut *transaction)
                    .await?;
                    let body = Body {
                        applications: report.rows.applications().values().cloned().collect(),
                        objects: report.rows.objects().values().cloned().collect(),
                    };
                    sqlx::query(
                        "INSERT INTO report (cluster, generation, reported_ms, body) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (cluster) DO UPDATE SET generation = excluded.generation,
                             reported_ms = excluded.reported_ms, body = excluded.body",
                    )
                    .bind(report.cluster.as_str())
                    .bind(report.rows.generation().cast_signed())
                    .bind(report.reported_at.0)
                    .bind(pack(&body))
                    .execute(&mut *transaction)
                    .await?;
                }
                transaction.commit().await
            };
            written.await.map_err(|error| self.explain(error))?;
        }
        Ok(())
    }

    /// What each agent last said, and when.
    ///
    /// # Errors
    /// When the database can't be read. A single damaged report is left out: the agent says it again.
    pub async fn reports(&self) -> Result<Vec<(ClusterName, Timestamp, Rows)>> {
        let stored = sqlx::query("SELECT cluster, generation, reported_ms, body FROM report")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        let mut reports = Vec::with_capacity(stored.len());
        for row in stored {
            let cluster = self.name(row.get("cluster"))?;
            match unpack::<Body>(row.get("body")) {
                Err(error) => {
                    tracing::warn!(%cluster, error, "a stored report is damaged and left out");
                }
                Ok(body) => {
                    let generation = row.get::<i64, _>("generation").cast_unsigned();
                    let rows = Rows::new(generation, body.applications, body.objects);
                    reports.push((cluster, Timestamp(row.get("reported_ms")), rows));
                }
            }
        }
        Ok(reports)
    }
}
