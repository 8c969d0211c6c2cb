//! `cargo measure render`: a whole fleet decided in this process, as the hub does it: how long a commit takes from its
//! files to every cluster's desired state, and what that keeps in memory.
//!
//! Nothing is fetched, run or stored: Git, kustomize and the database take their own time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use muster_decide::last_good::Changes;
use muster_decide::plan::Plan;
use muster_decide::render::Cache;
use muster_decide::{
    Alike, Decision, File, FileContent, LastGood, Members, Placed, Snapshot, Sources, decide,
};
use muster_proto::{ClusterName, Desired, Digest, DigestKey};

use super::engine::median;
use super::figure::{Figure, Promise};
use super::plan;
use super::process::memory;

/// Folders of an application; clusters are spread over them.
const VARIANTS: [&str; 3] = ["prod", "test", "dev"];
/// In each of them.
const OBJECTS: usize = 10;

/// How much.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    applications: usize,
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    clusters: usize,
    /// In how many of the applications one object of each variant names its cluster. May be repeated.
    #[arg(long, value_name = "COUNT", default_values_t = [0, 1])]
    placeholders: Vec<usize>,
    /// How often each change is made; the median counts.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: usize,
}

/// What a case is beside: of memory, in MiB.
struct Beside {
    /// The process.
    empty: f64,
    /// The files, once they are there.
    files: Option<f64>,
}

/// A hub's memory, without the hub.
struct Fleet {
    files: BTreeMap<String, String>,
    members: Members,
    last_good: LastGood,
    cache: Cache,
    key: DigestKey,
    alike: Alike,
    desired: BTreeMap<ClusterName, Arc<Desired>>,
}

/// All figures.
pub(super) async fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    ensure!(
        arguments.clusters >= 3 && arguments.applications >= 1 && arguments.rounds >= 1,
        "at least three clusters, one application and one round"
    );
    println!(
        "{} applications x {} clusters",
        arguments.applications, arguments.clusters
    );
    let mut beside = Beside {
        empty: memory(std::process::id())?.own,
        files: None,
    };
    let mut figures = Vec::new();
    for placeholders in &arguments.placeholders {
        figures.extend(measure_one(arguments, *placeholders, &mut beside).await?);
    }
    Ok(figures)
}

/// A fleet in which so many applications name the cluster.
async fn measure_one(
    arguments: &Arguments,
    placeholders: usize,
    beside: &mut Beside,
) -> Result<Vec<Figure>> {
    let mut fleet = Fleet::new(arguments, placeholders);
    let own = || anyhow::Ok(memory(std::process::id())?.own - beside.empty);
    let files = match beside.files {
        Some(files) => files,
        None => own()?,
    };
    let mut figures = Vec::new();
    let mut tell = |name: &str, figure: f64, unit, promise| {
        let all = match placeholders {
            0 => format!("all alike: {name}"),
            count => format!("{count} with placeholders: {name}"),
        };
        println!("{all}: {figure:.3} {unit}");
        figures.push(Figure::new(all, figure, unit, promise));
    };

    let (cold, _) = fleet.commit("cold")?;
    tell("cold", cold, "s", Promise::None);
    // What a case before had is free, and taken again or counted here.
    let kept = own()? - files;
    let promised = Promise::AtMost(1024.0);
    tell("memory of what is decided", kept, "MiB", promised);
    if beside.files.replace(files).is_none() {
        tell("memory of the files", files, "MiB", Promise::None);
    }
    let (again, changes) = fleet.commit("again")?;
    ensure!(changes == Changes::default(), "nothing changed");
    tell("a commit that changes nothing", again, "s", Promise::None);

    let (mut commits, mut labels) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        fleet.change_an_object(round);
        let (seconds, changes) = fleet.commit(&format!("object-{round}"))?;
        ensure!(!changes.put.renderings.is_empty(), "an object changed");
        commits.push(seconds);
        fleet.change_a_label(round);
        let (seconds, changes) = fleet.commit(&format!("label-{round}"))?;
        ensure!(!changes.put.documents.is_empty(), "a cluster moved");
        labels.push(seconds);
    }
    let promised = Promise::AtMost(1.0);
    tell(
        "a commit to one application",
        median(commits),
        "s",
        promised,
    );
    let promised = Promise::AtMost(50.0);
    let label = median(labels) * 1000.0;
    tell("a label of one cluster", label, "ms", promised);

    fleet.change_an_object(arguments.rounds);
    let sources = fleet.sources("plan");
    let begin = Instant::now();
    let decision = fleet.decide(&sources)?;
    let plan = Plan::new(&fleet.last_good, &decision);
    let planned = begin.elapsed().as_secs_f64();
    ensure!(!plan.is_empty(), "an object changed");
    tell(
        "plan of a commit to one application",
        planned,
        "s",
        Promise::None,
    );
    let files = std::mem::take(&mut fleet.files);
    for per_cluster in [false, true].into_iter().take(1 + placeholders.min(1)) {
        let change = change(&files, per_cluster, arguments.clusters);
        let rows = plan::measure(&files, &fleet.members, &change, arguments.rounds).await?;
        for (name, figure, unit, promise) in rows {
            let of = match per_cluster {
                false => format!("{name}, {} diffs", change.diffs),
                true => format!("{name}, a diff a cluster"),
            };
            tell(&of, figure, unit, promise);
        }
    }
    let peak = memory(std::process::id())?.peak;
    tell("memory at its peak, all in all", peak, "MiB", Promise::None);
    Ok(figures)
}

impl Fleet {
    fn new(arguments: &Arguments, placeholders: usize) -> Self {
        let mut files = BTreeMap::new();
        for application in 0..arguments.applications {
            let holed = application < placeholders;
            let folder = format!("apps/a{application}");
            files.insert(
                format!("{folder}/muster.yaml"),
                document(application, holed),
            );
            for variant in VARIANTS {
                for object in 0..OBJECTS {
                    let path = format!("{folder}/{variant}/o{object}.yaml");
                    let cluster = match (holed, object) {
                        (true, 0) => "${cluster.name}",
                        _ => "any",
                    };
                    let text = format!(
                        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: o{object}}}\ndata:\n  application: a{application}\n  variant: {variant}\n  cluster: {cluster}\n  text: {}\n",
                        "x".repeat(400)
                    );
                    files.insert(path, text);
                }
            }
        }
        let clusters = (0..arguments.clusters).map(|cluster| {
            let stage = VARIANTS[cluster % VARIANTS.len()];
            (name(cluster), Arc::new(labels(stage, cluster)))
        });
        Self {
            files,
            members: clusters.collect(),
            last_good: LastGood::default(),
            cache: Cache::default(),
            key: DigestKey::new([1; 32]),
            alike: Alike::default(),
            desired: BTreeMap::new(),
        }
    }

    fn change_an_object(&mut self, round: usize) {
        let text = self.files.get_mut("apps/a0/prod/o3.yaml");
        let text = text.expect("it was made");
        text.push_str(&format!("  round-{round}: \"done\"\n"));
    }

    /// From one variant of every application to another.
    fn change_a_label(&mut self, round: usize) {
        let stage = VARIANTS[(round + 1) % VARIANTS.len()];
        self.members.insert(name(0), Arc::new(labels(stage, 0)));
    }

    /// A commit's files in memory.
    fn sources(&self, revision: &str) -> Sources {
        let files = self.files.iter().map(|(path, text)| {
            let file = File {
                oid: Digest::of([text]).to_string(),
                content: FileContent::Bytes(text.clone().into_bytes().into()),
            };
            (path.clone(), file)
        });
        Sources::from(Snapshot {
            repository: None,
            revision: revision.to_owned(),
            files: files.collect(),
        })
    }

    fn decide(&mut self, sources: &Sources) -> Result<Decision> {
        let documents = self.cache.read(&sources.fleet);
        let placed = Placed::new(documents, &self.members, &self.last_good);
        let decision = decide(
            sources,
            &placed,
            &self.last_good,
            &BTreeSet::new(),
            &self.key,
            &mut self.cache,
        )?;
        ensure!(decision.complete, "{:?}", decision.problems);
        Ok(decision)
    }

    /// Seconds until every cluster has its desired state and it is known what to store.
    fn commit(&mut self, revision: &str) -> Result<(f64, Changes)> {
        let sources = self.sources(revision);
        let begin = Instant::now();
        let decision = self.decide(&sources)?;
        let clusters = decision.clusters.iter();
        let clusters = clusters.map(|(name, it)| (name, &it.placements, it.removals.clone()));
        let desired = self.alike.desired(clusters, &BTreeSet::new());
        let changes = decision.last_good.changes_since(&self.last_good);
        let seconds = begin.elapsed().as_secs_f64();
        self.desired = desired;
        self.last_good = decision.last_good;
        Ok((seconds, changes))
    }
}

/// A line more in one object of each variant of an application, which says the same on all clusters or names each.
fn change(files: &BTreeMap<String, String>, per_cluster: bool, clusters: usize) -> plan::Change {
    let (line, diffs) = match per_cluster {
        false => ("done", VARIANTS.len()),
        true => ("${cluster.name}", clusters),
    };
    let files = VARIANTS.map(|variant| {
        let path = format!("apps/a0/{variant}/o3.yaml");
        let text = format!("{}  plan: \"{variant}, {line}\"\n", files[&path]);
        (path, text)
    });
    plan::Change {
        files: files.into(),
        diffs,
    }
}

fn name(cluster: usize) -> ClusterName {
    format!("c{cluster}").parse().expect("a name")
}

fn labels(stage: &str, cluster: usize) -> muster_decide::Labels {
    let rack = (cluster % 50).to_string();
    BTreeMap::from([("stage".into(), stage.into()), ("rack".into(), rack)])
}

fn document(application: usize, holed: bool) -> String {
    let variables = if holed { "  variables: {}\n" } else { "" };
    let targets = VARIANTS.map(|stage| {
        format!("  - name: {stage}\n    clusters: {{matchLabels: {{stage: {stage}}}}}\n    path: {stage}\n")
    });
    format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: a{application}}}\nspec:\n  namespace: n{application}\n{variables}  targets:\n{}",
        targets.concat()
    )
}
