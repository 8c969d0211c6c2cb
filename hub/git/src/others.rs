//! The repositories and charts that the documents of the fleet name: a follower each, started and stopped as they come and go.
//!
//! In: what the newest commit names ([`Order::Follow`]), and whose fetch is wanted now. Out: `watch<Arc<Others>>`. A
//! repository that is not named any more is followed on as long as a document of the commit can't be read: it may be the
//! one that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_decide::Snapshot;
use muster_decide::address::Address;
use muster_decide::model::{Origin, Repository};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Tracked;
use super::chart;
use super::follower::{self, Following, Terms};
use super::source::{Source, folder_of};

/// Every repository that is followed beside the fleet's.
pub type Others = BTreeMap<Origin, Other>;

/// One of them.
#[derive(Debug, Clone)]
pub struct Other {
    /// What the document says.
    pub repository: Repository,
    /// As last seen.
    pub tracked: Arc<Tracked>,
}

impl Other {
    /// The newest commit of it that is here, or why there is none.
    ///
    /// # Errors
    /// For people.
    pub fn newest(&self) -> Result<Arc<Snapshot>, String> {
        match (&self.tracked.snapshot, &self.tracked.error) {
            // What was fetched stays good while the repository is away.
            (Some(snapshot), _) => Ok(snapshot.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err("is not fetched yet".to_owned()),
        }
    }
}

/// What the task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Follow these. `whole`: no other document may name another one.
    Follow {
        origins: BTreeMap<Origin, Repository>,
        whole: bool,
    },
    /// Fetch these now; answered when they are.
    Fetch(Which, oneshot::Sender<()>),
}

/// Which repositories to fetch.
#[derive(Debug, Clone)]
pub enum Which {
    /// Every one.
    All,
    /// Those at one of these URLs.
    At(Vec<Address>),
}

impl Which {
    /// Whether a repository is among them.
    pub fn has(&self, url: &str) -> bool {
        match self {
            Self::All => true,
            Self::At(wanted) => Address::parse(url)
                .is_ok_and(|url| wanted.iter().any(|wanted| wanted.is_same_repository(&url))),
        }
    }
}

/// The task's state.
pub(super) struct Set {
    pub(super) terms: Terms,
    /// Charts wait for charts only.
    pub(super) chart_fetches: Arc<Semaphore>,
    /// URL of the fleet repository.
    pub(super) fleet: String,
    /// The credentials that the hub holds.
    pub(super) credentials: Option<PathBuf>,
    /// Of all mirrors.
    pub(super) mirrors: PathBuf,
    /// Of all charts.
    pub(super) charts: PathBuf,
    pub(super) publish: watch::Sender<Arc<Others>>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) followed: BTreeMap<Origin, Member>,
    pub(super) tasks: JoinSet<()>,
    pub(super) moved: Arc<Notify>,
}

/// One that is followed.
pub(super) struct Member {
    repository: Repository,
    following: Following,
    /// Of what it keeps.
    folder: PathBuf,
    stop: CancellationToken,
}

impl Set {
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = self.terms.shutdown.cancelled() => return Ok(()),
                order = self.orders.recv() => match order {
                    None => return Ok(()),
                    Some(Order::Follow { origins, whole }) => self.follow(origins, whole).await,
                    Some(Order::Fetch(which, done)) => self.fetch(&which, done),
                },
                () = self.moved.notified() => {}
                Some(ended) = self.tasks.join_next() => ended?,
            }
            self.tell();
        }
    }

    async fn follow(&mut self, origins: BTreeMap<Origin, Repository>, whole: bool) {
        self.followed.retain(|origin, followed| {
            let keep = match origins.get(origin) {
                Some(repository) => *repository == followed.repository,
                None => !whole,
            };
            if !keep {
                followed.stop.cancel();
            }
            keep
        });
        for (origin, repository) in origins {
            if !self.followed.contains_key(&origin) {
                let followed = self.start(&origin, repository);
                self.followed.insert(origin, followed);
            }
        }
        if whole {
            let kept = self.followed.values();
            let kept: BTreeSet<PathBuf> = kept.map(|followed| followed.folder.clone()).collect();
            let (mirrors, charts) = (self.mirrors.clone(), self.charts.clone());
            let cleaned = tokio::task::spawn_blocking(move || {
                clean(&mirrors, &kept);
                chart::kept::clean(&charts, &kept);
            });
            if let Err(error) = cleaned.await {
                tracing::error!(%error, "removing old mirrors failed");
            }
        }
    }

    fn start(&mut self, origin: &Origin, repository: Repository) -> Member {
        let stop = self.terms.shutdown.child_token();
        let (place, fetches) = match origin.chart {
            None => (&self.mirrors, &self.terms.fetches),
            Some(_) => (&self.charts, &self.chart_fetches),
        };
        let folder = place.join(folder_of(origin, &repository));
        let credentials = self.credentials.clone();
        let source = Source::named(
            origin,
            &repository,
            credentials,
            &self.fleet,
            folder.clone(),
        );
        let following = match source {
            Err(why) => {
                let tracked = Tracked {
                    url: repository.url.clone(),
                    error: Some(why),
                    ..Tracked::default()
                };
                Following {
                    tracked: watch::channel(Arc::new(tracked)).1,
                    asked: mpsc::unbounded_channel().0,
                }
            }
            Ok(source) => {
                let terms = Terms {
                    shutdown: stop.clone(),
                    fetches: fetches.clone(),
                    ..self.terms.clone()
                };
                let (following, task) = follower::follow(source, terms);
                self.tasks.spawn(task);
                self.tasks.spawn(announce(
                    following.tracked.clone(),
                    self.moved.clone(),
                    stop.clone(),
                ));
                following
            }
        };
        Member {
            repository,
            following,
            folder,
            stop,
        }
    }

    fn fetch(&mut self, which: &Which, done: oneshot::Sender<()>) {
        let mut answers = Vec::new();
        for followed in self.followed.values() {
            if which.has(&followed.repository.url) {
                let (answer, answered) = oneshot::channel();
                if followed.following.asked.send(answer).is_ok() {
                    answers.push(answered);
                }
            }
        }
        self.tasks.spawn(async move {
            for answered in answers {
                // None: it is not followed any more.
                answered.await.ok();
            }
            done.send(()).ok();
        });
    }

    fn tell(&self) {
        let others: Others = self
            .followed
            .iter()
            .map(|(origin, followed)| {
                let other = Other {
                    repository: followed.repository.clone(),
                    tracked: followed.following.tracked.borrow().clone(),
                };
                (origin.clone(), other)
            })
            .collect();
        self.publish.send_if_modified(|before| {
            let same = before.len() == others.len()
                && before.iter().zip(&others).all(|((a, x), (b, y))| {
                    a == b && x.repository == y.repository && Arc::ptr_eq(&x.tracked, &y.tracked)
                });
            if !same {
                *before = Arc::new(others);
            }
            !same
        });
    }
}

/// Says that one of them moved.
async fn announce(
    mut tracked: watch::Receiver<Arc<Tracked>>,
    moved: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        moved.notify_one();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = tracked.changed() => if changed.is_err() { return },
        }
    }
}

/// Removes the mirrors that nobody uses any more.
fn clean(folder: &Path, kept: &BTreeSet<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        if !kept.contains(&path)
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::debug!(%error, folder = %path.display(), "an old mirror can't be removed yet");
        }
    }
}
