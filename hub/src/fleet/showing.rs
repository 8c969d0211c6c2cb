//! What people see, told by the task: the source, the clusters that changed, what is wrong with the hub itself.

use std::sync::Arc;

use muster_git::{Others, Tracked};
use muster_proto::Timestamp;
use tokio::time::Instant;

use super::task::Task;
use crate::view::{Problem, RepositoryView, Source};

impl Task {
    pub(super) fn is_dirty(&self) -> bool {
        self.view_dirty || self.all_dirty || !self.dirty.is_empty()
    }

    /// Publishes the view of now.
    pub(super) fn show(&mut self, now: Timestamp) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.all_dirty) {
            dirty.extend(self.members.keys().cloned());
            dirty.extend(self.declared.keys().cloned());
            dirty.extend(self.board.names().cloned());
        }
        for name in &dirty {
            let (view, problems) = match self.members.get_mut(name) {
                Some(member) => {
                    member.shown_as = Some(member.connection(now));
                    let unheard = member.is_in().then(|| self.serving.unheard(member));
                    let unheard = unheard.flatten().map(|message| Problem {
                        cluster: Some(name.clone()),
                        ..hub_problem(message)
                    });
                    let mut problems = member.problems();
                    problems.extend(unheard);
                    (member.view(now), problems)
                }
                None => (self.declared.get(name).cloned(), Vec::new()),
            };
            self.board.put_cluster(name, view);
            self.board
                .put_problems(&format!("cluster {name}"), problems, now);
        }
        let source = Source {
            adopted_revision: self.adopted_revision.clone(),
            ..self.board.source().clone()
        };
        self.board.put_source(source);
        self.view_dirty = false;
        self.viewed_at = Instant::now();
        self.publish.send_modify(|view| {
            *view = Arc::new(self.board.view(view));
        });
    }

    pub(super) fn see_source(&mut self, tracked: &Tracked) {
        let revision = tracked.snapshot.as_ref().map(|read| read.revision.clone());
        self.board.put_source(Source {
            url: tracked.url.clone(),
            branch: tracked.reference.clone(),
            revision: revision.unwrap_or_default(),
            adopted_revision: self.adopted_revision.clone(),
            fetched_at: tracked.fetched_at,
            error: tracked.error.clone().unwrap_or_default(),
            subject: tracked.subject.clone(),
        });
        self.view_dirty = true;
    }
}

impl Task {
    pub(super) fn see_repositories(&mut self, others: &Others) {
        let views = others.iter().map(|(origin, other)| {
            let tracked = &other.tracked;
            let revision = tracked.snapshot.as_ref().map(|read| read.revision.clone());
            RepositoryView {
                name: origin.repository.clone(),
                url: tracked.url.clone(),
                reference: tracked.reference.clone(),
                picked: tracked.picked.clone(),
                revision: revision.unwrap_or_default(),
                subject: tracked.subject.clone(),
                since: tracked.since,
                fetched_at: tracked.fetched_at,
                error: tracked.error.clone().unwrap_or_default(),
            }
        });
        self.board.put_repositories(views.collect());
        self.view_dirty = true;
    }
}

/// Something that is wrong with the hub, and with no application or cluster of its own.
pub(super) fn hub_problem(message: String) -> Problem {
    Problem {
        application: None,
        variants: Vec::new(),
        cluster: None,
        location: String::new(),
        message,
        since: Timestamp(0),
    }
}
