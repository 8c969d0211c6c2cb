//! Runs the programs that render: bounded in number, time, memory and output, in a jail, each output once.
//!
//! In: a [`Job`], the commit and its mirror. Out: an [`Output`]. A job's key names its output, so that what was
//! rendered before comes from the disk, also after a restart. A program that is missing fails the applications that
//! need it and nothing else.

mod cache;
mod confinement;
mod folder;
pub mod jail;
#[cfg(target_os = "linux")]
mod loader;
mod process;
mod programs;
mod words;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use muster_decide::Snapshot;
use muster_decide::render::{Failure, Job, Output, Tool, Tools, difference, hidden};
use muster_git::Blobs;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use cache::Outputs;
use folder::Folder;
use process::{Ended, Limits};
use programs::Program;

/// What a tool may write to its output, and one entry of a chart or kustomization may hold.
const LARGEST_OUTPUT: usize = 32 << 20;
/// What a tool may have of memory for data: ten times what large charts take.
const MEMORY: u64 = 1 << 30;

/// The programs that render, and what they may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// Where each is.
    pub tools: BTreeMap<Tool, ToolFile>,
    /// Runs at the same time; `None`: one for each processor.
    pub concurrency: Option<NonZeroUsize>,
    /// A run that takes longer is ended.
    pub timeout: Duration,
    /// Bytes of outputs that are kept on disk.
    pub cache_size: u64,
    /// Go on where the kernel can't confine programs.
    pub allow_unconfined: bool,
    /// Who renders, for what people are told.
    pub by: By,
    /// A program that knows `render-jail`; `None`: this one. Only who embeds a hub says something else.
    pub jail: Option<PathBuf>,
}

/// Who renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A hub, which people ask from elsewhere.
    Hub,
    /// A command of a person.
    Command,
}

/// Where a program that renders is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolFile {
    /// In the first of these folders that has it.
    Search(Vec<PathBuf>),
    /// This file.
    At(PathBuf),
    /// It is not used.
    None,
}

impl std::str::FromStr for ToolFile {
    type Err = String;

    /// A program by its path, or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            path if path.contains('/') => Ok(Self::At(path.into())),
            _ => Err("is no path: write such as /usr/local/bin/kustomize, or `none`".to_owned()),
        }
    }
}

/// A handle to the programs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Renderer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    programs: BTreeMap<Tool, Program>,
    by: By,
    jail: jail::Jail,
    limits: Limits,
    slots: Semaphore,
    /// For what nobody's cluster waits for.
    aside: Semaphore,
    /// Where private folders are made.
    work: PathBuf,
    /// Removes `work` when it is dropped, unless the next start does.
    _own: Option<TempDir>,
    outputs: Outputs,
    /// Of charts whose first rendering stays.
    kept: Outputs,
}

impl Renderer {
    /// Finds the programs and asks them for their versions. The folder `data` belongs to this process.
    ///
    /// # Errors
    /// When a program that was configured can't be used, when the kernel can't confine one and nobody allowed to go
    /// without, or when `data` can't be written.
    pub async fn start(rendering: &Rendering, data: &Path) -> anyhow::Result<Self> {
        Self::start_where(confinement::kernel_confines(), rendering, data).await
    }

    /// [`Renderer::start`] on a kernel that can confine programs, or can't.
    ///
    /// # Errors
    /// As [`Renderer::start`].
    pub async fn start_where(
        kernel_confines: bool,
        rendering: &Rendering,
        data: &Path,
    ) -> anyhow::Result<Self> {
        let place = data.join("render");
        let work = folder::clean(&place.join("work")).with_context(|| unwritable(&place))?;
        let jail = jail::Jail::new(rendering, kernel_confines)?;
        Self::with(rendering, jail, &place, work, None).await
    }

    /// As [`Renderer::start`], in a folder that other processes use at the same time.
    ///
    /// # Errors
    /// As [`Renderer::start`].
    pub async fn sharing(rendering: &Rendering, cache: &Path) -> anyhow::Result<Self> {
        let place = cache.join("render");
        let own = folder::own(&place).with_context(|| unwritable(&place))?;
        let work = own.path().canonicalize()?;
        let jail = jail::Jail::new(rendering, confinement::kernel_confines())?;
        Self::with(rendering, jail, &place, work, Some(own)).await
    }

    async fn with(
        rendering: &Rendering,
        jail: jail::Jail,
        place: &Path,
        work: PathBuf,
        own: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let programs = programs::find(rendering).await?;
        if let (false, Some((tool, program))) = (jail.is_confining(), programs.iter().next())
            && !rendering.allow_unconfined
        {
            bail!(
                "this kernel can't confine programs (it takes Landlock with network rules, Linux 6.7), and {} would run on whatever the repository holds: give --{} none to render without it, or --allow-unconfined-render",
                program.file.display(),
                tool.name(),
            );
        }
        for (tool, program) in &programs {
            tracing::info!(
                tool = tool.name(),
                version = program.version,
                file = %program.file.display(),
                confined = jail.is_confining(),
                "found a program that renders"
            );
        }
        let open = |name: &str| {
            let opened = Outputs::open(place.join(name), rendering.cache_size);
            opened.with_context(|| unwritable(place))
        };
        let (outputs, kept) = (open("outputs")?, open("kept")?);
        let slots = rendering.concurrency.map_or_else(cores, NonZeroUsize::get);
        Ok(Self(Arc::new(Shared {
            programs,
            by: rendering.by,
            jail,
            limits: Limits {
                time: rendering.timeout,
                memory: MEMORY,
                output: LARGEST_OUTPUT,
            },
            slots: Semaphore::new(slots),
            aside: Semaphore::new((slots / 2).max(1)),
            work,
            _own: own,
            outputs,
            kept,
        })))
    }

    /// One that has no program: whatever needs one fails.
    pub fn without_tools() -> Self {
        Self(Arc::new(Shared {
            programs: BTreeMap::new(),
            by: By::Hub,
            jail: jail::Jail::default(),
            limits: Limits {
                time: Duration::ZERO,
                memory: 0,
                output: 0,
            },
            slots: Semaphore::new(1),
            aside: Semaphore::new(1),
            work: PathBuf::new(),
            _own: None,
            outputs: Outputs::default(),
            kept: Outputs::default(),
        }))
    }

    /// The versions of the programs that are there.
    pub fn tools(&self) -> Tools {
        let programs = self.0.programs.iter();
        Tools(
            programs
                .map(|(tool, program)| (*tool, program.version.clone()))
                .collect(),
        )
    }

    /// Runs a job, or finds its output of an earlier time. Cancel-safe: to drop the future kills what runs.
    pub async fn run(&self, job: &Job, snapshot: &Arc<Snapshot>, blobs: &Blobs) -> Output {
        self.run_in(&self.0.slots, job, snapshot, blobs).await
    }

    /// As [`Renderer::run`], for a plan: in places of its own, half as many, so that no cluster waits for it.
    pub async fn run_aside(&self, job: &Job, snapshot: &Arc<Snapshot>, blobs: &Blobs) -> Output {
        self.run_in(&self.0.aside, job, snapshot, blobs).await
    }

    async fn run_in(
        &self,
        slots: &Semaphore,
        job: &Job,
        snapshot: &Arc<Snapshot>,
        blobs: &Blobs,
    ) -> Output {
        let key = job.key(&self.tools());
        let shared = &self.0;
        let Some(program) = shared.programs.get(&job.tool) else {
            return Err(Failure {
                message: programs::missing(job.tool, shared.by),
                again: false,
            });
        };
        let outputs = match job.keeps_first() {
            true => &shared.kept,
            false => &shared.outputs,
        };
        if let Some(output) = outputs.get(key).await {
            return Ok(output);
        }
        let slot = slots.acquire().await;
        let _slot = slot.map_err(|_| again("it is stopping"))?;
        let output = self.once(program, job, snapshot, blobs).await?;
        if job.tool == Tool::Helm && !job.keeps_first() {
            // Charts may make things up; kustomize can't.
            let second = self.once(program, job, snapshot, blobs).await?;
            if let Some(what) = difference(&output, &second) {
                return Err(Failure {
                    message: format!(
                        "{} renders something else each time: {what}: state it in helm.values, or let helm.keepFirst: true keep what is rendered first",
                        job.tool.name()
                    ),
                    again: false,
                });
            }
        }
        match outputs.put(key, output.clone()).await {
            Ok(()) => Ok(output),
            Err(error) if job.keeps_first() => Err(again(&format!(
                "what is rendered first must be kept, and it can't be written: {error}"
            ))),
            Err(error) => {
                tracing::warn!(%error, "a rendering could not be kept on disk and will be made again after a restart");
                Ok(output)
            }
        }
    }

    async fn once(
        &self,
        program: &Program,
        job: &Job,
        snapshot: &Arc<Snapshot>,
        blobs: &Blobs,
    ) -> Output {
        let shared = &self.0;
        let folder = {
            let (work, job) = (shared.work.clone(), job.clone());
            let (snapshot, blobs) = (snapshot.clone(), blobs.clone());
            let made =
                tokio::task::spawn_blocking(move || Folder::of(&work, &job, &snapshot, &blobs));
            let made = made.await.map_err(|error| again(&error.to_string()))?;
            made.map_err(|error| again(&format!("its files can't be written: {error:#}")))?
        };
        let arguments = programs::arguments(job, &folder);
        let command = shared
            .jail
            .command(&program.file, &arguments, &folder, &shared.limits);
        let tool = job.tool.name();
        let output = match process::run(command, &shared.limits).await {
            Ok(Ended::Well(output)) => Ok(output),
            Ok(Ended::Badly(said)) if words::is_out_of_memory(&said) => Err(Failure {
                message: format!(
                    "{tool} took more than {} MiB of memory and was ended",
                    shared.limits.memory >> 20
                ),
                again: false,
            }),
            Ok(Ended::Badly(said)) => {
                let hidden = hidden(job, |path| {
                    let read = std::fs::read(folder.files().join(path));
                    read.ok().map(Bytes::from)
                });
                Err(Failure {
                    message: words::failure(job, &said, &folder, &hidden),
                    again: false,
                })
            }
            Ok(Ended::Jail(said)) => Err(again(&format!("{tool} can't be run: {said}"))),
            Ok(Ended::Killed(signal)) => Err(again(&format!(
                "{tool} was killed by signal {signal}: it may have taken more than its share of processor time or memory"
            ))),
            Ok(Ended::TooLong) => Err(again(&format!(
                "{tool} was still running after {} s and was ended (--render-timeout)",
                shared.limits.time.as_secs()
            ))),
            Ok(Ended::TooMuch) => Err(Failure {
                message: format!(
                    "{tool} wrote more than {} MiB and was ended",
                    shared.limits.output >> 20
                ),
                again: false,
            }),
            Err(error) => Err(again(&format!("{tool} can't be run: {error}"))),
        };
        // Off the path of whoever waits.
        tokio::task::spawn_blocking(move || drop(folder));
        output
    }
}

fn unwritable(place: &Path) -> String {
    format!("{} can't be written", place.display())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// May go well the next time.
fn again(message: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        again: true,
    }
}
