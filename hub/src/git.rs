//! Follows the fleet repository: one branch, polled, and fetched at once when someone asks.
//!
//! In: where the repository is ([`Repository`]). Out: `watch<Arc<Tracked>>`: the newest commit's files, and what went
//! wrong since. A failed fetch keeps the commit before; a rewound branch is just a newer state. The mirror in the data
//! directory is a cache: lost or damaged, it is cloned anew.

mod mirror;
mod read;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use muster_decide::Snapshot;
use muster_proto::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Repository;
use mirror::Mirror;

/// A fetch that takes longer is told to stop, and shown as failed.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// The first wait after a failed fetch; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest wait after failed fetches, unless polling is slower anyway.
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// So many failed fetches in a row may be the mirror's fault: clone anew.
const DISTRUST_MIRROR_AFTER: u32 = 3;

/// The fleet repository as last seen.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    /// Without credentials.
    pub url: String,
    /// Followed.
    pub branch: String,
    /// The newest commit's files; `None` before the first fetch.
    pub snapshot: Option<Arc<Snapshot>>,
    /// First line of the newest commit's message.
    pub subject: String,
    /// Last successful fetch; 0 before the first.
    pub fetched_at: Timestamp,
    /// Why the last fetch failed, and what to do; `None` when it did not.
    pub error: Option<String>,
    /// Files that the snapshot does not hold.
    pub blobs: Blobs,
}

/// Reads files out of the mirror by their object id; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Blobs(Option<Arc<Mirror>>);

impl Blobs {
    /// The files of these ids, in their order. Blocks.
    ///
    /// # Errors
    /// When one is not there: the mirror was cloned anew at a later commit, or is damaged.
    pub fn read<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Vec<Bytes>> {
        let mut ids = ids.into_iter().peekable();
        if ids.peek().is_none() {
            return Ok(Vec::new());
        }
        let mirror = self.0.as_ref().context("nothing was fetched yet")?;
        mirror.blobs(ids)
    }
}

/// The handle to the following task.
#[derive(Debug, Clone)]
pub struct Git {
    /// Always the newest.
    pub tracked: watch::Receiver<Arc<Tracked>>,
    asked: mpsc::UnboundedSender<oneshot::Sender<Arc<Tracked>>>,
}

impl Git {
    /// Fetches now and answers with what is then known; callers at the same time share one fetch. `None` when the hub
    /// is stopping.
    pub async fn fetch_now(&self) -> Option<Arc<Tracked>> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(answer).ok()?;
        answered.await.ok()
    }
}

/// The handle to a repository that somebody else follows: nothing is fetched, what comes is taken.
pub fn fed(tracked: watch::Receiver<Arc<Tracked>>) -> Git {
    let (asked, _nobody) = mpsc::unbounded_channel();
    Git { tracked, asked }
}

/// Follows `repository` until `shutdown`, with its mirror in `directory`/git. Spawn the future.
pub fn follow(
    repository: Repository,
    directory: &Path,
    clock: Clock,
    shutdown: CancellationToken,
) -> (
    Git,
    impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let mut start = Tracked {
        url: repository.url.clone(),
        branch: repository.branch.clone(),
        ..Tracked::default()
    };
    let poll = repository.poll;
    let mirror = Arc::new(Mirror::new(repository, directory.join("git")));
    start.blobs = Blobs(Some(mirror.clone()));
    let (publish, tracked) = watch::channel(Arc::new(start));
    let (asked, questions) = mpsc::unbounded_channel();
    let task = Follower {
        mirror,
        poll,
        clock,
        shutdown,
        publish,
        questions,
    };
    (Git { tracked, asked }, task.run())
}

struct Follower {
    mirror: Arc<Mirror>,
    poll: Duration,
    clock: Clock,
    shutdown: CancellationToken,
    publish: watch::Sender<Arc<Tracked>>,
    questions: mpsc::UnboundedReceiver<oneshot::Sender<Arc<Tracked>>>,
}

impl Follower {
    async fn run(mut self) -> anyhow::Result<()> {
        self.publish_mirrored().await;
        let (mut failures, mut waiting) = (0, Vec::new());
        loop {
            self.fetch(&mut failures).await;
            for answer in waiting.drain(..) {
                let answer: oneshot::Sender<_> = answer;
                answer.send(self.publish.borrow().clone()).ok();
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause(self.poll, failures, spread())) => {}
                question = self.questions.recv() => match question {
                    // Without a handle nobody listens any more.
                    None => return Ok(()),
                    Some(answer) => waiting.push(answer),
                },
            }
            while let Ok(answer) = self.questions.try_recv() {
                waiting.push(answer);
            }
        }
    }

    /// What the last run of the hub left here, so that a restart need not wait for the network.
    async fn publish_mirrored(&self) {
        let mirror = self.mirror.clone();
        let read = tokio::task::spawn_blocking(move || mirror.read_newest());
        match read.await {
            Ok(Ok(Some(commit))) => self.publish.send_modify(|tracked| {
                let tracked = Arc::make_mut(tracked);
                tracked.snapshot = Some(commit.snapshot);
                tracked.subject = commit.subject;
                tracked.fetched_at = commit.fetched_at;
            }),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the mirror of the fleet repository can't be read and is cloned anew");
            }
            Err(error) => {
                tracing::error!(%error, "reading the mirror of the fleet repository failed")
            }
        }
    }

    async fn fetch(&self, failures: &mut u32) {
        let stop = Arc::new(AtomicBool::new(false));
        let mirror = self.mirror.clone();
        let before = self.publish.borrow().snapshot.clone();
        let anew = *failures > 0 && failures.is_multiple_of(DISTRUST_MIRROR_AFTER);
        let mut fetch = tokio::task::spawn_blocking({
            let (stop, clock) = (stop.clone(), self.clock.clone());
            move || mirror.fetch(before.as_ref(), anew, || clock(), &stop)
        });
        let fetched = loop {
            tokio::select! {
                fetched = &mut fetch => break fetched,
                // Not waited for: a transfer looks at the flag between packets, and the process is ending.
                () = self.shutdown.cancelled() => {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
                () = tokio::time::sleep(FETCH_TIMEOUT), if !stop.load(Ordering::Relaxed) => {
                    stop.store(true, Ordering::Relaxed);
                    self.failed(format!("the fetch has taken more than {} minutes", FETCH_TIMEOUT.as_secs() / 60));
                }
            }
        };
        match fetched {
            Ok(Ok(commit)) => {
                *failures = 0;
                self.publish.send_modify(|tracked| {
                    let before = tracked.snapshot.as_ref().map(|before| &before.revision);
                    let news = before != Some(&commit.snapshot.revision);
                    if news {
                        let revision = &commit.snapshot.revision;
                        tracing::info!(%revision, subject = commit.subject, "fetched a new commit");
                    }
                    let tracked = Arc::make_mut(tracked);
                    if news {
                        tracked.snapshot = Some(commit.snapshot);
                        tracked.subject = commit.subject;
                    }
                    tracked.fetched_at = commit.fetched_at;
                    tracked.error = None;
                });
            }
            Ok(Err(error)) => {
                *failures += 1;
                self.failed(error);
            }
            Err(error) => {
                *failures += 1;
                self.failed(format!("the fetch ended in a panic: {error}"));
            }
        }
    }

    fn failed(&self, error: String) {
        tracing::warn!(error, "the fleet repository can't be fetched");
        self.publish
            .send_modify(|tracked| Arc::make_mut(tracked).error = Some(error));
    }
}

/// How long to wait for the next fetch. `spread` in 0..=1 keeps several hubs from asking in step.
fn pause(poll: Duration, failures: u32, spread: f64) -> Duration {
    let wait = match failures {
        0 => poll,
        failures => {
            let doubled = FIRST_RETRY * 2u32.saturating_pow((failures - 1).min(10));
            doubled.min(LONGEST_RETRY.max(poll))
        }
    };
    wait.mul_f64(0.9 + 0.2 * spread)
}

fn spread() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
