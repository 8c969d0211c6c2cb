//! Reports are written beside the task, the newest of each cluster; and what is said when the store can't be written.

use super::member::Member;
use super::showing::hub_problem;
use super::task::Task;
use crate::store::StoreError;

impl Task {
    pub(super) fn write_reports(&mut self) {
        if self.writing.is_some() || self.unstored.is_empty() {
            return;
        }
        let reports: Vec<_> = std::mem::take(&mut self.unstored)
            .iter()
            .filter_map(|name| self.members.get(name))
            .map(Member::report)
            .collect();
        let store = self.store.clone();
        self.writing = Some(tokio::spawn(
            async move { store.put_reports(&reports).await },
        ));
    }

    pub(super) fn reports_written(
        &mut self,
        written: Result<Result<(), StoreError>, tokio::task::JoinError>,
    ) {
        match written {
            Ok(Ok(())) => self.store_works(),
            // Agents say it again; until then the older rows are what a restart shows.
            Ok(Err(error)) => self.store_failed(&error),
            Err(error) => tracing::error!(%error, "writing reports ended in a panic"),
        }
    }

    pub(super) async fn write_last_reports(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.await.ok();
        }
        self.write_reports();
        if let Some(writing) = self.writing.take()
            && let Ok(Err(error)) = writing.await
        {
            tracing::warn!(%error, "the last reports could not be written");
        }
    }

    pub(super) fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(%error, "the store can't be written");
        let now = self.now();
        let problem = hub_problem(format!("{error}; nothing new is published until it can be"));
        self.board.put_problems("store", [problem], now);
        self.view_dirty = true;
    }

    pub(super) fn store_works(&mut self) {
        if self.board.has_problems("store") {
            let now = self.now();
            self.board.put_problems("store", [], now);
            self.view_dirty = true;
        }
    }
}
