//! What is done about a damaged ledger: while it was closed it is rebuilt from the live objects that are ours, tried
//! again until every kind answers; what is damaged under our hands is written anew. Part of the engine's task.

use std::time::Duration;

use muster_proto::ObjectKey;
use tokio::time::Instant;

use super::state::State;
use super::work;
use crate::inventory::Entry;
use crate::ledger::LedgerError;
use crate::ledger::shown::Shown;

/// Between two tries: each lists every kind there is.
pub(super) const AGAIN: Duration = Duration::from_secs(60);

impl State {
    /// Somebody's hand may have been in the ledger. What it should hold is known here, so it is written anew; nothing
    /// is removed or forgotten for it.
    ///
    /// # Errors
    /// Why nothing may be written any more.
    pub(super) async fn look_at_ledger(&mut self, shown: &Shown) -> Result<(), String> {
        if let Some(why) = shown.taken(self.ledger.instance()) {
            return Err(why);
        }
        match self.ledger.look(shown).await {
            Ok(None) => Ok(()),
            Ok(Some(damage)) => {
                tracing::warn!(%damage, "the ledger was damaged: it is written anew");
                Ok(())
            }
            Err(LedgerError::Lost(why)) => Err(why),
            Err(error) => {
                tracing::warn!(%error, "the ledger can't be looked at: it is written anew");
                Ok(())
            }
        }
    }

    /// Looks for what the ledger had lost, when it is time.
    pub(super) fn rebuild_when_due(&mut self, now: Instant) {
        if self.damaged.is_some() && self.rebuild_at.is_some_and(|at| at <= now) {
            self.rebuild_at = None;
            self.flying.push(work::rebuild(self.client.clone()));
        }
    }

    pub(super) fn rebuilt(&mut self, found: Result<Vec<(ObjectKey, Entry)>, String>) {
        match found {
            Ok(found) => {
                for (key, entry) in found {
                    let object = self.objects.entry(key.into()).or_default();
                    object.entry.get_or_insert(entry);
                }
                tracing::info!("the damaged ledger is rebuilt from the live objects that are ours");
                self.damaged = None;
                self.ledger.mended();
                let desired = self.desired.clone();
                let placed = self.place(&desired);
                self.take_on(desired, placed);
            }
            Err(why) => {
                tracing::warn!(%why, "the damaged ledger can't be rebuilt; tried again");
                self.damaged = Some(why);
                self.rebuild_at = Some(Instant::now() + AGAIN);
            }
        }
    }
}
