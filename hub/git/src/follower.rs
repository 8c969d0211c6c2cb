//! Follows one repository at one ref, or one chart: polled, and fetched at once when someone asks. Backs off alone when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::source::Source;
use super::{Clock, Tracked};

/// A fetch that takes longer is told to stop, and shown as failed.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// The first wait after a failed fetch; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest wait after failed fetches, unless polling is slower anyway.
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// So many failed fetches in a row may be the mirror's fault: clone anew.
const DISTRUST_MIRROR_AFTER: u32 = 3;

/// Who asks for a fetch gets what is known after it.
pub(super) type Question = oneshot::Sender<Arc<Tracked>>;

/// What a follower needs beside its repository.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) poll: Duration,
    pub(super) clock: Clock,
    /// Fetches at the same time.
    pub(super) fetches: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
}

/// The way to a follower.
#[derive(Debug, Clone)]
pub(super) struct Following {
    /// Always the newest.
    pub(super) tracked: watch::Receiver<Arc<Tracked>>,
    pub(super) asked: mpsc::UnboundedSender<Question>,
}

/// Follows `source` until the terms' `shutdown`. Spawn the future.
pub(super) fn follow(
    source: Source,
    terms: Terms,
) -> (Following, impl Future<Output = ()> + Send + 'static) {
    let (publish, tracked) = watch::channel(Arc::new(source.unseen()));
    let (asked, questions) = mpsc::unbounded_channel();
    let follower = Follower {
        source: Arc::new(source),
        terms,
        publish,
        questions,
    };
    (Following { tracked, asked }, follower.run())
}

struct Follower {
    source: Arc<Source>,
    terms: Terms,
    publish: watch::Sender<Arc<Tracked>>,
    questions: mpsc::UnboundedReceiver<Question>,
}

impl Follower {
    async fn run(mut self) {
        self.publish_mirrored().await;
        let (mut failures, mut waiting): (_, Vec<Question>) = (0, Vec::new());
        let mut has_all = self.source.is_complete() && self.publish.borrow().snapshot.is_some();
        loop {
            if !std::mem::take(&mut has_all) {
                self.fetch(&mut failures).await;
            }
            for answer in waiting.drain(..) {
                answer.send(self.publish.borrow().clone()).ok();
            }
            let rests = self.source.is_pinned() && failures == 0;
            tokio::select! {
                biased;
                () = self.terms.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause(self.terms.poll, failures, spread())), if !rests => {}
                question = self.questions.recv() => match question {
                    // Without a handle nobody listens any more.
                    None => return,
                    Some(answer) => waiting.push(answer),
                },
            }
            while let Ok(answer) = self.questions.try_recv() {
                waiting.push(answer);
            }
        }
    }

    fn url(&self) -> String {
        self.publish.borrow().url.clone()
    }

    /// What the last run of the hub left here, so that a restart need not wait for the network.
    async fn publish_mirrored(&self) {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source.read_newest());
        let url = self.url();
        match read.await {
            Ok(Ok(Some(commit))) => self.publish.send_modify(|tracked| {
                let tracked = Arc::make_mut(tracked);
                tracked.snapshot = Some(commit.snapshot);
                tracked.subject = commit.subject;
                tracked.fetched_at = commit.fetched_at;
                tracked.since = commit.fetched_at;
                tracked.picked = commit.picked.unwrap_or_default();
            }),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, url, "the mirror of a repository can't be used and is fetched anew");
            }
            Err(error) => {
                tracing::error!(%error, url, "reading the mirror of a repository failed");
            }
        }
    }

    async fn fetch(&self, failures: &mut u32) {
        let turn = tokio::select! {
            biased;
            () = self.terms.shutdown.cancelled() => return,
            turn = self.terms.fetches.clone().acquire_owned() => turn,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let source = self.source.clone();
        let before = self.publish.borrow().snapshot.clone();
        let anew = *failures > 0 && failures.is_multiple_of(DISTRUST_MIRROR_AFTER);
        let mut fetch = tokio::task::spawn_blocking({
            let (stop, clock) = (stop.clone(), self.terms.clock.clone());
            move || {
                let _turn = turn;
                source.fetch(before.as_ref(), anew, || clock(), &stop)
            }
        });
        let fetched = loop {
            tokio::select! {
                biased;
                fetched = &mut fetch => break fetched,
                // Not waited for: a transfer looks at the flag between packets, and nobody wants it any more.
                () = self.terms.shutdown.cancelled() => {
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
                match &commit.trouble {
                    None => *failures = 0,
                    Some(_) => *failures += 1,
                }
                let url = self.url();
                self.publish.send_modify(|tracked| {
                    let news = tracked.snapshot.as_ref() != Some(&commit.snapshot);
                    if news {
                        let revision = &commit.snapshot.revision;
                        tracing::info!(url, %revision, subject = commit.subject, "fetched a new commit");
                    }
                    let tracked = Arc::make_mut(tracked);
                    if news {
                        tracked.snapshot = Some(commit.snapshot);
                        tracked.subject = commit.subject;
                        tracked.since = commit.fetched_at;
                    }
                    tracked.picked = commit.picked.unwrap_or_default();
                    tracked.fetched_at = commit.fetched_at;
                    tracked.error = commit.trouble;
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
        tracing::warn!(error, "a repository can't be fetched");
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
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_spread_around_the_poll() {
        let poll = Duration::from_secs(60);
        let pauses: Vec<u64> = [1, 2, 3, 8, 9, 40]
            .map(|failures| pause(poll, failures, 0.5).as_secs())
            .to_vec();
        assert_eq!(pauses, [2, 4, 8, 256, 300, 300]);
        assert_eq!(pause(poll, 0, 0.0), Duration::from_secs(54));
        assert_eq!(pause(poll, 0, 1.0), Duration::from_secs(66));
    }
}
