//! What clusters serve, of what charts ask about: their agents are asked, and what they said is kept for when they are
//! away.
//!
//! Only what a chart asks is asked, so that a fleet without such charts pays nothing, and the list of a cluster with a
//! thousand definitions never comes here. What an agent does not speak of stays as it was: it may not know it now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::ClusterName;
use tokio::sync::watch;

use super::member::Member;
use super::task::Task;

/// What an agent was asked about, and whether its cluster serves it.
pub(crate) type Served = BTreeMap<String, bool>;

/// What is asked of all agents, and what they said.
pub(super) struct Serving {
    asked: watch::Sender<Arc<BTreeSet<String>>>,
    /// Most clusters say the same: it is kept once.
    alike: BTreeSet<Arc<Served>>,
}

impl Serving {
    /// Nothing is asked before the first commit is read.
    pub(super) fn new() -> Self {
        Self {
            asked: watch::Sender::default(),
            alike: BTreeSet::new(),
        }
    }

    /// What is asked, for a session.
    pub(super) fn asked(&self) -> watch::Receiver<Arc<BTreeSet<String>>> {
        self.asked.subscribe()
    }

    /// What people should know of an agent whose version does not know the question, when charts wait for its answer.
    pub(super) fn unheard(&self, member: &Member) -> Option<String> {
        let live = member.live.as_ref()?;
        let mut asked = self.asked.borrow().clone();
        Arc::make_mut(&mut asked).retain(|it| !member.row.api_versions.contains_key(it));
        let waits = !live.knows.api_versions && !asked.is_empty();
        waits.then(|| {
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            format!(
                "its agent, version {}, is too old to say whether the cluster serves {}: applications whose charts ask about it stay there as they are; upgrade the agent",
                member.row.agent_version,
                asked.join(", ")
            )
        })
    }

    /// One allocation for all who say the same.
    pub(super) fn share(&mut self, said: Served) -> Arc<Served> {
        if let Some(known) = self.alike.get(&said) {
            return known.clone();
        }
        self.alike.retain(|known| Arc::strong_count(known) > 1);
        let said = Arc::new(said);
        self.alike.insert(said.clone());
        said
    }
}

impl Task {
    /// Asks all agents about what the charts of a commit ask about.
    pub(super) fn ask_agents(&mut self, wanted: BTreeSet<String>) {
        let news = self.serving.asked.send_if_modified(|asked| {
            let news = **asked != wanted;
            if news {
                *asked = Arc::new(wanted);
            }
            news
        });
        // Whether an agent is too old for the question is shown.
        self.all_dirty |= news;
    }

    /// Takes in what the agent of a cluster says.
    pub(super) fn agent_serves(&mut self, name: &ClusterName, said: Served) {
        let asked = self.serving.asked.borrow().clone();
        let member = self.members.get_mut(name).expect("the caller found it");
        let mut all = Served::clone(&member.row.api_versions);
        all.extend(said);
        all.retain(|it, _| asked.contains(it));
        if all == *member.row.api_versions {
            return;
        }
        member.row.api_versions = self.serving.share(all);
        // Charts look at it.
        self.members_changed = true;
        self.dirty.insert(name.clone());
        self.unstored.insert(name.clone());
    }
}
