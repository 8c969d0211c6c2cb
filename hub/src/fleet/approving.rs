//! A person's word for what waits: stored with who gave it, then acted on.

use std::sync::Arc;

use super::CommandFailed;
use super::task::Task;
use crate::store::{Audit, Cluster};
use crate::view::What;

impl Task {
    pub(super) async fn approve(
        &mut self,
        by: String,
        ids: &[String],
    ) -> Result<Vec<String>, CommandFailed> {
        let all = self.board.waiting();
        let find = |id: &String| {
            let waits = all.iter().find(|waiting| {
                // The view follows a moment after what it shows.
                let stands = match &waiting.what {
                    What::Restored(cluster) => {
                        let member = self.members.get(cluster);
                        member.is_some_and(|member| member.row.store_was_older)
                    }
                    What::Emptied { .. } | What::Leaves(_) | What::Prune(_) => true,
                };
                stands && waiting.what.id() == *id
            });
            waits.cloned().ok_or_else(|| {
                CommandFailed::NotFound(format!(
                    "{id:?} does not wait for approval (any more): `muster status` shows what does"
                ))
            })
        };
        let found = ids.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let mut done = Vec::new();
        for waiting in found {
            let id = waiting.what.id();
            let said = waiting.what.approved(waiting.clusters.len());
            let audit = Audit {
                at: self.now(),
                who: by.clone(),
                action: "approve",
                what: format!("{id}: {said}"),
            };
            let approvals = match waiting.what {
                What::Restored(cluster) => {
                    let row = Cluster {
                        store_was_older: false,
                        ..self.member(&cluster)?.row.clone()
                    };
                    self.restamp(row, Some(&audit)).await?;
                    Vec::new()
                }
                What::Emptied { approvals, .. } => approvals,
                What::Leaves(approval) | What::Prune(approval) => vec![approval],
            };
            if !approvals.is_empty() {
                self.store.put_approvals(&approvals, &audit).await?;
                Arc::make_mut(&mut self.approvals).extend(approvals);
                self.members_changed = true;
            }
            self.board.put_approved(self.approvals.clone());
            self.view_dirty = true;
            tracing::info!(by, id, "approved");
            done.push(said);
        }
        Ok(done)
    }
}
