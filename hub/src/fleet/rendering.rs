//! The runs of tools that a commit waits for, beside the fleet task.
//!
//! In: what a decision lacks ([`Wanted`]). Out: what came of it, for the next decision. A slow tool holds up its own
//! applications only: after a short while it is decided with what is there, and again when the rest has come. What a
//! newer commit does not want any more is ended; what failed without being to blame is tried again, less and less often.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_decide::render::{Failure, Output, Tools, Wanted};
use muster_decide::{Placed, Snapshot, Sources};
use muster_git::Blobs;
use muster_proto::Digest;
use muster_render::Renderer;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::deciding::Basis;

/// So long a decision waits for tools; each run of a small tree takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first wait after a run that may go well the next time; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest wait.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// What runs, and what came of it.
#[derive(Debug)]
pub(super) struct Renders {
    renderer: Renderer,
    tools: Tools,
    running: JoinSet<(Digest, Output)>,
    wanted: HashMap<Digest, (Wanted, AbortHandle)>,
    /// For the next decision.
    arrived: Vec<(Wanted, Output)>,
    unlucky: HashMap<Digest, Unlucky>,
    /// When to decide with what is there.
    decide_at: Option<Instant>,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    /// Decide now, whatever still runs.
    rush: bool,
    /// There is something to decide anew for.
    news: bool,
    /// The commit that it runs for, and how that is placed.
    placed: Option<(String, Box<Placed>)>,
}

/// A run that may go well the next time.
#[derive(Debug)]
struct Unlucky {
    failure: Failure,
    times: u32,
    again_at: Instant,
}

/// What the next decision gets of it.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) outputs: Vec<(Wanted, Output)>,
    pub(super) rush: bool,
    /// The same commit and clusters, as placed before.
    pub(super) placed: Option<Box<Placed>>,
}

impl Renders {
    pub(super) fn new(renderer: Renderer) -> Self {
        Self {
            tools: renderer.tools(),
            renderer,
            running: JoinSet::new(),
            wanted: HashMap::new(),
            arrived: Vec::new(),
            unlucky: HashMap::new(),
            decide_at: None,
            retry_at: None,
            rush: false,
            news: false,
            placed: None,
        }
    }

    pub(super) fn tools(&self) -> Tools {
        self.tools.clone()
    }

    /// Whether to decide anew.
    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// The commit or the clusters changed.
    pub(super) fn forget_places(&mut self) {
        self.placed = None;
    }

    /// What there is for a decision about these commits.
    pub(super) fn take(&mut self, sources: &Sources) -> Arrived {
        self.news = false;
        let placed = self.placed.take();
        let placed = placed.filter(|(revision, _)| *revision == sources.fleet.revision);
        Arrived {
            outputs: std::mem::take(&mut self.arrived),
            rush: std::mem::take(&mut self.rush),
            placed: placed.map(|(_, placed)| placed),
        }
    }

    /// Runs what a commit lacks and is not running yet, and ends what it does not lack. `decided`: it was decided
    /// without waiting.
    pub(super) fn want(
        &mut self,
        lacking: Vec<Wanted>,
        placed: Option<Box<Placed>>,
        basis: &Basis,
        decided: bool,
    ) {
        let now = Instant::now();
        let lacking: HashMap<Digest, Wanted> = lacking
            .into_iter()
            .map(|wanted| (wanted.key(&self.tools), wanted))
            .collect();
        self.wanted.retain(|key, (_, run)| {
            let keep = lacking.contains_key(key);
            if !keep {
                run.abort();
            }
            keep
        });
        let revision = basis.sources.fleet.revision.clone();
        self.placed = placed.map(|placed| (revision, placed));
        self.decide_at = match (lacking.is_empty(), decided) {
            (false, false) => self.decide_at.or(Some(now + PATIENCE)),
            _ => None,
        };
        for (key, wanted) in lacking {
            if self.wanted.contains_key(&key) {
                continue;
            }
            match self.unlucky.get(&key) {
                Some(unlucky) if unlucky.again_at > now => {
                    self.arrived.push((wanted, Err(unlucky.failure.clone())));
                }
                _ => {
                    let Some(snapshot) = snapshot_of(&basis.sources, &wanted) else {
                        continue;
                    };
                    let run = self.running.spawn(run(
                        self.renderer.clone(),
                        key,
                        wanted.clone(),
                        snapshot,
                        basis.blobs(wanted.origin.as_ref()),
                    ));
                    self.wanted.insert(key, (wanted, run));
                }
            }
        }
        self.news |= self.wanted.is_empty() && !self.arrived.is_empty();
        self.next_retry(now);
    }

    /// Waits for a moment to decide anew. Cancel-safe: what came is kept.
    pub(super) async fn turn(&mut self) {
        let far = Instant::now() + Duration::from_secs(3600);
        loop {
            let (decide_at, retry_at) = (self.decide_at, self.retry_at);
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next() => {
                    // One that was ended has no key in `wanted` any more.
                    if let Ok((key, output)) = ended {
                        self.arrive(key, output);
                    }
                    if self.wanted.is_empty() && !self.arrived.is_empty() {
                        break;
                    }
                }
                () = sleep_until(decide_at.unwrap_or(far)), if decide_at.is_some() => {
                    self.decide_at = None;
                    self.rush = true;
                    break;
                }
                () = sleep_until(retry_at.unwrap_or(far)), if retry_at.is_some() => {
                    self.retry_at = None;
                    break;
                }
                else => std::future::pending().await,
            }
        }
        self.news = true;
    }

    fn arrive(&mut self, key: Digest, output: Output) {
        let Some((wanted, _)) = self.wanted.remove(&key) else {
            return;
        };
        let now = Instant::now();
        match &output {
            Err(failure) if failure.again => {
                let times = self.unlucky.get(&key).map_or(0, |unlucky| unlucky.times);
                let wait = FIRST_RETRY * 2u32.saturating_pow(times.min(10));
                tracing::warn!(
                    application = %wanted.application,
                    error = failure.message,
                    "a rendering failed and is tried again"
                );
                let unlucky = Unlucky {
                    failure: failure.clone(),
                    times: times + 1,
                    again_at: now + wait.min(LONGEST_RETRY),
                };
                self.unlucky.insert(key, unlucky);
            }
            _ => {
                self.unlucky.remove(&key);
            }
        }
        self.arrived.push((wanted, output));
        // The rest may take longer.
        self.decide_at.get_or_insert(now + PATIENCE);
        self.next_retry(now);
    }

    fn next_retry(&mut self, now: Instant) {
        // What nobody asked for in a long while is of an older commit.
        self.unlucky
            .retain(|_, unlucky| unlucky.again_at + LONGEST_RETRY > now);
        let times = self.unlucky.values().map(|unlucky| unlucky.again_at);
        self.retry_at = times.filter(|at| *at > now).min();
    }
}

/// The commit that a run reads.
pub(super) fn snapshot_of(sources: &Sources, wanted: &Wanted) -> Option<Arc<Snapshot>> {
    match &wanted.origin {
        None => Some(sources.fleet.clone()),
        Some(origin) => sources.others.get(origin)?.clone().ok(),
    }
}

async fn run(
    renderer: Renderer,
    key: Digest,
    wanted: Wanted,
    snapshot: Arc<Snapshot>,
    blobs: Blobs,
) -> (Digest, Output) {
    let output = renderer.run(&wanted.job, &snapshot, &blobs).await;
    (key, output)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use muster_decide::render::{Cache, Tool};
    use muster_decide::{File, FileContent, LastGood, Members, model};
    use muster_render::{By, Rendering, ToolFile};

    use super::*;

    /// A commit that takes one run of kustomize, and that run.
    fn commit(tools: Tools) -> (Sources, Vec<Wanted>) {
        let texts = [
            (
                "web/muster.yaml",
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec: {namespace: web}\n",
            ),
            ("web/kustomization.yaml", "namePrefix: a-\n"),
        ];
        let file = |(path, text): (&str, &'static str)| {
            let content = FileContent::Bytes(text.into());
            let oid = path.to_owned();
            (path.to_owned(), File { oid, content })
        };
        let sources = Sources::from(Snapshot {
            repository: None,
            revision: "1".into(),
            files: texts.map(file).into(),
        });
        let members: Members = [("eu-1".parse().unwrap(), Arc::default())].into();
        let fleet = model::read(&sources.fleet);
        let placed = Placed::new(fleet, &members, &LastGood::default());
        let jobs = Cache::knowing([], tools).jobs(&sources, &placed);
        assert_eq!(jobs.len(), 1);
        (sources, jobs)
    }

    /// One whose kustomize says its version, and can't be run: there is no jail.
    async fn renderer(folder: &std::path::Path) -> Renderer {
        let tool = folder.join("kustomize");
        std::fs::write(&tool, "#!/bin/sh\necho v0.0.0\n").unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let tools = [
            (Tool::Kustomize, ToolFile::At(tool)),
            (Tool::Helm, ToolFile::None),
        ];
        let rendering = Rendering {
            tools: tools.into(),
            concurrency: None,
            timeout: Duration::from_secs(60),
            cache_size: 1 << 20,
            allow_unconfined: true,
            by: By::Hub,
            jail: Some(folder.join("nowhere")),
        };
        Renderer::start(&rendering, folder).await.unwrap()
    }

    /// The next output, as the fleet task comes to it.
    async fn output(renders: &mut Renders, sources: &Sources) -> Output {
        loop {
            let mut arrived = renders.take(sources);
            match arrived.outputs.pop() {
                Some((_, output)) => return output,
                None => renders.turn().await,
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_to_blame_is_tried_again_less_and_less_often() {
        let folder = tempfile::tempdir().unwrap();
        let mut renders = Renders::new(renderer(folder.path()).await);
        let (sources, jobs) = commit(renders.tools());
        let basis = Basis::of(sources.clone());
        tokio::time::pause();
        let mut waits = Vec::new();
        for _ in 0..10 {
            renders.want(jobs.clone(), None, &basis, false);
            let failure = output(&mut renders, &sources).await.unwrap_err();
            assert!(failure.again, "{failure:?}");
            let failed = Instant::now();
            // It is decided with that; a commit in between changes nothing about when it is tried again.
            renders.want(jobs.clone(), None, &basis, true);
            assert_eq!(output(&mut renders, &sources).await, Err(failure));
            renders.want(Vec::new(), None, &basis, true);
            renders.turn().await;
            waits.push(failed.elapsed().as_secs_f32().round() as u32);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        // What went well begins anew.
        let key = jobs[0].key(&renders.tools());
        renders.want(jobs.clone(), None, &basis, false);
        renders.arrive(key, Ok(bytes::Bytes::new()));
        assert!(renders.unlucky.is_empty() && renders.retry_at.is_none());
    }
}
