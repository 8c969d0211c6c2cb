//! `cargo measure engine --peer flux`: the same commits through hub and agent and through Flux, in turn, on one API
//! server; both are told at once that there is a commit. Beside them a bare loop of the same writes: no one is faster.
//!
//! Flux's first sync begins with the commit fetched and its Kustomizations being made, ours with the push: where the
//! two can't begin alike, Flux has the shorter way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use serde_json::json;

use super::audit::Audit;
use super::bare;
use super::bed::Bed;
use super::figure::{Figure, Promise};
use super::flux::{self, Flux};
use super::load::Load;
use super::objects::{First, pass};
use super::{process, shipped};
use crate::cluster::{Cluster, real};
use crate::git::Repository;
use crate::git::server::GitServer;
use crate::programs::Programs;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(600);
/// Calls and processor time that come late still count for the commit before them.
const LATE: Duration = Duration::from_secs(5);
/// After a first sync, and after what was removed: controllers have their work with it, which is none of what follows.
const SETTLES: Duration = Duration::from_secs(15);

/// Applications of so many objects.
#[derive(Debug, Clone, Copy)]
struct Work {
    applications: usize,
    objects: usize,
}

const WORK: [Work; 2] = [
    Work {
        applications: 100,
        objects: 10,
    },
    Work {
        applications: 1,
        objects: 1_000,
    },
];

impl Work {
    fn load(self) -> Load {
        Load {
            count: self.applications * self.objects,
        }
    }

    fn folders(self) -> Vec<String> {
        (0..self.applications)
            .map(|nth| format!("app-{nth:03}"))
            .collect()
    }

    /// The manifests, in a folder an application.
    fn files(self) -> Vec<(String, String)> {
        let (load, folders) = (self.load(), self.folders());
        (0..load.count)
            .map(|index| load.file(&folders[index / self.objects], index, "1"))
            .collect()
    }
}

/// What one side took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Seconds until every application was ready.
    first_sync: f64,
    /// Seconds from the push to the object in the cluster.
    to_object: f64,
    /// Seconds from the push until every application was ready at the commit.
    to_last: f64,
    /// API calls of the one-object commit, watches aside.
    calls: f64,
    /// Processor seconds of the one-object commit.
    processor: f64,
    /// Resident MiB of all its processes after it.
    memory: f64,
}

/// Both sides at both kinds of work, and how they compare.
pub(super) async fn measure() -> Result<Vec<Figure>> {
    muster_proto::tls::install_crypto();
    println!("This takes about 11 minutes, and some 5 more the first time, when Flux is built.");
    let programs = shipped::build().await?;
    let (cluster, log) = real::start_audited("one").await?;
    let audit = || Audit::new(log.clone());
    let mut figures = Vec::new();
    for work in WORK {
        let label = format!("{} x {}", work.applications, work.objects);
        let ours = ours(&programs, &cluster, audit(), work).await?;
        println!("{label}: muster {ours:?}");
        let flux = theirs(&cluster, &audit(), work, false).await?;
        println!("{label}: Flux {flux:?}");
        let tuned = theirs(&cluster, &audit(), work, true).await?;
        println!("{label}: Flux, tuned {tuned:?}");
        let limit = limit(&cluster, work).await?;
        println!("{label}: a bare loop {limit:.2} s");
        figures.extend(compare(&label, ours, flux, tuned));
        figures.push(Figure::new(
            format!("{label}: first sync, a bare loop of the same writes"),
            limit,
            "s",
            Promise::None,
        ));
    }
    Ok(figures)
}

fn compare(label: &str, ours: Taken, flux: Taken, tuned: Taken) -> Vec<Figure> {
    type Row = (
        &'static str,
        &'static str,
        fn(&Taken) -> f64,
        Promise,
        Promise,
    );
    let ahead = Promise::AtLeast(1.0);
    let rows: [Row; 6] = [
        (
            "first sync",
            "s",
            |it| it.first_sync,
            Promise::None,
            Promise::AtLeast(10.0),
        ),
        (
            "one-object commit to the object",
            "s",
            |it| it.to_object,
            Promise::AtMost(1.0),
            ahead,
        ),
        (
            "one-object commit to the last application",
            "s",
            |it| it.to_last,
            Promise::None,
            Promise::AtLeast(20.0),
        ),
        (
            "one-object commit, API calls",
            "calls",
            |it| it.calls,
            Promise::None,
            ahead,
        ),
        (
            "one-object commit, processor time",
            "s",
            |it| it.processor,
            Promise::None,
            ahead,
        ),
        (
            "memory, hub included",
            "MiB",
            |it| it.memory,
            Promise::None,
            Promise::AtLeast(4.0),
        ),
    ];
    let mut figures = Vec::new();
    for (what, unit, of, promise, against) in rows {
        let figure = |who: &str, figure, unit, promise| {
            Figure::new(format!("{label}: {what}{who}"), figure, unit, promise)
        };
        figures.push(figure("", of(&ours), unit, promise));
        figures.push(figure(" (Flux)", of(&flux), unit, Promise::None));
        figures.push(figure(" (Flux tuned)", of(&tuned), unit, Promise::None));
        figures.push(figure(
            ", Flux's by ours",
            of(&flux) / of(&ours),
            "x",
            against,
        ));
        figures.push(figure(
            ", tuned Flux's by ours",
            of(&tuned) / of(&ours),
            "x",
            ahead,
        ));
    }
    figures
}

/// Seconds of the writes alone: what the API server takes, whoever asks.
async fn limit(cluster: &Cluster, work: Work) -> Result<f64> {
    let namespace = "by-a-loop";
    let began = Instant::now();
    bare::apply(cluster, namespace, &work.load()).await?;
    let took = began.elapsed().as_secs_f64();
    remove_namespaces(cluster, &[namespace]).await?;
    Ok(took)
}

async fn ours(programs: &Programs, cluster: &Cluster, audit: Audit, work: Work) -> Result<Taken> {
    let namespace = "by-muster";
    let anchor = Load { count: 1 }.files("anchor");
    let bed = Bed::on(programs, cluster.clone(), audit, &anchor).await?;
    bed.synced("anchor").await?;
    make_namespace(cluster, namespace).await?;
    let mut files = work.files();
    files.extend(work.folders().iter().map(|folder| {
        let document = json!({
            "apiVersion": "muster.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"name": folder},
            "spec": {"namespace": namespace},
        });
        (format!("{folder}/muster.yaml"), document.to_string())
    }));

    let revision = bed.commit("Deploy", &files)?;
    let began = Instant::now();
    bed.tell().await?;
    bed.all_synced(&revision, work.applications + 1).await?;
    let first_sync = began.elapsed().as_secs_f64();

    pass(SETTLES).await;
    let pids = [bed.hub.pid, bed.agent.pid];
    let (mark, before) = (bed.audit.mark()?, processor(&pids)?);
    let first = First::watch(cluster, namespace).await?;
    let file = work.load().file(&work.folders()[0], 0, "2");
    let revision = bed.commit("Change one", &[file])?;
    let began = Instant::now();
    bed.tell().await?;
    let seen = async {
        first.changes_to("2").await?;
        anyhow::Ok(began.elapsed().as_secs_f64())
    };
    let last = async {
        bed.all_synced(&revision, work.applications + 1).await?;
        anyhow::Ok(began.elapsed().as_secs_f64())
    };
    let (to_object, to_last) = tokio::try_join!(seen, last)?;
    pass(LATE).await;
    let calls = bed.audit.since(mark, "muster-agent")?;
    let taken = Taken {
        first_sync,
        to_object,
        to_last: to_last.max(to_object),
        calls: calls.iter().filter(|call| call.verb != "watch").count() as f64,
        processor: processor(&pids)? - before,
        memory: resident(&pids)?,
    };
    bed.stop().await?;
    remove_namespaces(cluster, &[namespace, "anchor", "muster-system"]).await?;
    Ok(taken)
}

async fn theirs(cluster: &Cluster, audit: &Audit, work: Work, tuned: bool) -> Result<Taken> {
    let namespace = "by-flux";
    make_namespace(cluster, namespace).await?;
    let files = work.files();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let repository = Repository::with(&[("README.md", "Nothing yet.")])?;
    let git = GitServer::start(repository.root().to_owned(), None).await?;
    let flux = Flux::start(cluster, &git.url("fleet.git"), tuned).await?;
    flux.fetched(&repository.head()?).await?;

    let revision = repository.commit("Deploy", &files)?;
    let began = Instant::now();
    flux.tell().await?;
    // A Kustomization of a folder that is not there yet would fail first, and be tried again later.
    flux.fetched(&revision).await?;
    let folders = work.folders();
    let made = flux.deploy(&folders, namespace);
    let applied = flux.applied(work.applications, &revision);
    tokio::try_join!(made, applied)?;
    let first_sync = began.elapsed().as_secs_f64();

    pass(SETTLES).await;
    let pids = [flux.processes[0].pid, flux.processes[1].pid];
    let (mark, before) = (audit.mark()?, processor(&pids)?);
    let first = First::watch(cluster, namespace).await?;
    let (path, text) = work.load().file(&work.folders()[0], 0, "2");
    let revision = repository.commit("Change one", &[(&path, &text)])?;
    let began = Instant::now();
    flux.tell().await?;
    let seen = async {
        first.changes_to("2").await?;
        anyhow::Ok(began.elapsed().as_secs_f64())
    };
    let last = async {
        flux.applied(work.applications, &revision).await?;
        anyhow::Ok(began.elapsed().as_secs_f64())
    };
    let (to_object, to_last) = tokio::try_join!(seen, last)?;
    pass(LATE).await;
    let mut calls = 0;
    for program in flux::PROGRAMS {
        let made = audit.since(mark, program)?;
        calls += made.iter().filter(|call| call.verb != "watch").count();
    }
    ensure!(
        calls > 0,
        "the API server knows Flux under other names than {:?}",
        flux::PROGRAMS
    );
    let taken = Taken {
        first_sync,
        to_object,
        to_last,
        calls: calls as f64,
        processor: processor(&pids)? - before,
        memory: resident(&pids)?,
    };
    flux.stop().await?;
    remove_namespaces(cluster, &[namespace]).await?;
    Ok(taken)
}

fn processor(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| process::processor(*pid)).sum()
}

fn resident(pids: &[u32]) -> Result<f64> {
    pids.iter()
        .map(|pid| Ok(process::memory(*pid)?.resident))
        .sum()
}

async fn make_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let api: Api<Namespace> = Api::all(cluster.client()?);
    api.create(&PostParams::default(), &namespace)
        .await
        .map(drop)
        .context(name.to_owned())
}

async fn remove_namespaces(cluster: &Cluster, names: &[&str]) -> Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client()?);
    for name in names {
        api.delete(name, &DeleteParams::default()).await?;
    }
    wait::until("the namespaces are gone", PATIENCE, async || {
        for name in names {
            ensure!(api.get_opt(name).await?.is_none(), "{name} is still there");
        }
        Ok(())
    })
    .await?;
    pass(SETTLES).await;
    Ok(())
}
