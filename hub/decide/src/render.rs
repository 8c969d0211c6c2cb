//! From files to objects: every variant once, whatever the number of clusters.
//!
//! In: the folder of a variant in a [`Snapshot`]. Out: its [`Manifest`]s, or everything that is wrong with them, with
//! file and line. A rendering is a function of the files that it reads ([`Closure`]), so [`Closure::key`] names its
//! result, and [`Cache`] finds it again at the next commit.
//!
//! Plain YAML is parsed here ([`plain`]). What a program renders is a [`Job`] first: [`Cache::jobs`] names those whose
//! output is not known, the hub runs them, and [`Cache::take`] takes in what came of it. Patches and placeholders come
//! after ([`variation`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_proto::{ApplicationName, Digest, DigestKey, Object};

use crate::model::{self, Application, Fleet, Known, Origin, Repository, Target};
use crate::placement::{Placed, Seen};
use crate::problem::Location;
use crate::snapshot::{Others, Snapshot, Sources};

mod closure;
mod difference;
mod files;
mod helm;
mod hidden;
mod hooks;
mod kustomize;
mod plain;
#[cfg(test)]
mod tests;
mod tool;
mod variation;

use files::{Files, Found};

pub(crate) use closure::inside;
pub use closure::{Closure, Plain, closure};
pub use difference::difference;
pub(crate) use helm::is_chart;
pub use hidden::hidden;
pub(crate) use plain::filled;
pub use plain::plain;
pub use tool::{Failure, Given, Job, Output, Release, Tool, Tools, Values};
pub(crate) use variation::Varied;

/// One object and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What is applied; equal objects are one allocation.
    pub object: Arc<Object>,
    /// The line it begins at.
    pub location: Location,
}

/// The manifests of one variant in the order of their files, or what is wrong with them.
pub type Rendered = Result<Arc<Vec<Manifest>>, Arc<Vec<Wrong>>>;

/// Why something does not render.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// Where.
    pub location: Location,
    /// One sentence; quotes no values.
    pub message: String,
}

/// Documents and renderings of earlier commits, by content. Losing it costs time, nothing else.
#[derive(Debug, Default)]
pub struct Cache {
    tools: Tools,
    documents: Known,
    files: Files,
    /// With what they read, which is known for as long as they are.
    renderings: HashMap<Digest, (Rendered, Vec<Arc<Found>>)>,
    used: BTreeSet<Digest>,
    /// What failed and may go well with the same files: forgotten with the commit.
    unlucky: BTreeSet<Digest>,
    variations: HashMap<Digest, variation::Kept>,
    specialised: HashMap<variation::SpecialisedKey, variation::Lists>,
    /// Of the commit that is being decided.
    next_specialised: HashMap<variation::SpecialisedKey, variation::Lists>,
    objects: Objects,
}

/// What is rendered, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'s> {
    /// Holds the manifests.
    pub(crate) snapshot: &'s Snapshot,
    /// The fleet repository, which holds value files.
    pub(crate) fleet: &'s Snapshot,
    /// Where charts are that charts name.
    pub(crate) others: &'s Others,
    /// Those that documents declare.
    pub(crate) repositories: &'s BTreeMap<String, Repository>,
    /// Folders whose manifests belong to others.
    pub(crate) homes: &'s BTreeSet<String>,
    pub(crate) target: &'s Target,
    /// How it sees its clusters.
    pub(crate) seen: &'s Seen,
    /// Fills the objects that state none.
    pub(crate) namespace: &'s str,
}

impl<'s> Subject<'s> {
    /// A target of an application, whose manifests are in `snapshot`, as it sees its clusters.
    pub(crate) fn of(
        sources: &'s Sources,
        placed: &'s Placed,
        application: &'s Application,
        snapshot: &'s Snapshot,
        target: usize,
        seen: &'s Seen,
    ) -> Self {
        Self {
            snapshot,
            fleet: &sources.fleet,
            others: &sources.others,
            repositories: &placed.fleet.repositories,
            homes: placed.homes(application),
            target: &application.targets[target],
            seen,
            namespace: &application.settings.namespace,
        }
    }
}

/// The charts that charts name and that are not in their repositories: to be fetched, as far as the sources that are
/// there tell.
pub fn charts(sources: &Sources, placed: &Placed) -> BTreeMap<Origin, Repository> {
    let mut asked = BTreeMap::new();
    for application in placed.fleet.applications.values() {
        let Ok(snapshot) = sources.of(application) else {
            continue;
        };
        for target in 0..application.targets.len() {
            let subject = Subject::of(sources, placed, application, snapshot, target, &Seen::Any);
            if helm::is_chart(snapshot, &subject.target.path) {
                asked.extend(helm::asked(&subject));
            }
        }
    }
    asked
}

/// A run of a tool that a commit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// One of those that need it.
    pub application: ApplicationName,
    /// Where its files are; `None`: in the fleet repository.
    pub origin: Option<Origin>,
    /// What to run.
    pub job: Job,
    /// Fills the objects that state none.
    namespace: String,
    /// Stands for every line of the output.
    location: Location,
}

/// Objects by digest, so that equal ones are one allocation.
#[derive(Debug, Default)]
pub struct Objects(HashMap<Digest, Arc<Object>>);

impl Objects {
    /// The one allocation of an object.
    pub fn share(&mut self, object: Arc<Object>) -> Arc<Object> {
        let shared = self.0.entry(object.digest).or_insert(object);
        Arc::clone(shared)
    }
}

impl Wanted {
    /// Names what comes of it: the same for the same run, read in the same way.
    pub fn key(&self, tools: &Tools) -> Digest {
        Closure::Tool(self.job.clone()).key(&self.namespace, tools)
    }
}

impl Cache {
    /// An empty cache that knows the objects of what was decided before, so that equal ones are shared with them. Later
    /// on it knows them anyway. `tools` are those that will run.
    pub fn knowing<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>>, tools: Tools) -> Self {
        let mut cache = Self {
            tools,
            ..Self::default()
        };
        for object in objects {
            cache.objects.share(Arc::clone(object));
        }
        cache
    }

    /// Reads the documents of a commit of the fleet repository.
    pub fn read(&mut self, snapshot: &Snapshot) -> Fleet {
        model::read_anew(snapshot, &mut self.documents)
    }

    /// What has to be run before a commit can be decided: each once.
    pub fn jobs(&self, sources: &Sources, placed: &Placed) -> Vec<Wanted> {
        let mut known = BTreeSet::new();
        let mut wanted = Vec::new();
        for application in placed.fleet.applications.values() {
            let namespace = &application.settings.namespace;
            let Ok(snapshot) = sources.of(application) else {
                continue;
            };
            for (target, seen) in &placed.variants(application, snapshot) {
                if *seen == Seen::Unknown {
                    continue;
                }
                // What is wrong is said when it is rendered.
                let subject = Subject::of(sources, placed, application, snapshot, *target, seen);
                let closure = closure::of(&subject);
                let Ok(closure @ Closure::Tool(_)) = closure else {
                    continue;
                };
                let key = closure.key(namespace, &self.tools);
                let Closure::Tool(job) = closure else {
                    continue;
                };
                if !self.renderings.contains_key(&key) && known.insert(key) {
                    wanted.push(Wanted {
                        application: application.name.clone(),
                        origin: application.origin.clone(),
                        location: snapshot.shown(place(snapshot, &job)),
                        job,
                        namespace: namespace.clone(),
                    });
                }
            }
        }
        wanted
    }

    /// Takes in what came of a job.
    pub fn take(&mut self, wanted: Wanted, output: Output, key: &DigestKey) {
        let digest = wanted.key(&self.tools);
        let Wanted {
            job,
            namespace,
            location,
            ..
        } = wanted;
        let rendered = match output {
            Ok(bytes) => {
                let is_chart = job.tool == Tool::Helm;
                let origins = is_chart.then(|| helm::Origins::of(&bytes, &location.file));
                let at = |line| match origins.as_ref().and_then(|origins| origins.at(line)) {
                    Some(file) => Location::new(file, 0),
                    None => location.clone(),
                };
                plain::output(&bytes, is_chart, at, &namespace, key, &mut self.objects)
            }
            Err(Failure { message, again }) => {
                if again {
                    self.unlucky.insert(digest);
                }
                Err(Arc::new(vec![Wrong { location, message }]))
            }
        };
        self.renderings.insert(digest, (rendered, Vec::new()));
    }

    /// Renders a subject, or finds the rendering of the same files.
    pub(crate) fn render(&mut self, subject: &Subject<'_>, key: &DigestKey) -> Rendered {
        let Subject {
            snapshot,
            target,
            namespace,
            ..
        } = *subject;
        let closure = closure::of(subject);
        let closure = closure.map_err(|mut wrong| {
            for wrong in &mut wrong {
                wrong.location = match &wrong.location.file {
                    file if file.is_empty() => target.location.clone(),
                    // The document of the application itself.
                    file if *file == target.location.file => wrong.location.clone(),
                    _ => snapshot.shown(wrong.location.clone()),
                };
            }
            Arc::new(wrong)
        })?;
        let digest = closure.key(namespace, &self.tools);
        self.used.insert(digest);
        if let Some((rendered, _)) = self.renderings.get(&digest) {
            return rendered.clone();
        }
        match &closure {
            Closure::Plain(plain) => {
                let at = |location| snapshot.shown(location);
                let (files, objects) = (&mut self.files, &mut self.objects);
                let (rendered, found) =
                    plain::plain_anew(plain, at, namespace, key, files, objects);
                self.renderings.insert(digest, (rendered.clone(), found));
                rendered
            }
            Closure::Tool(job) => Err(Arc::new(vec![Wrong {
                location: snapshot.shown(place(snapshot, job)),
                message: format!(
                    "{} is rendering it: until then it stays as it was",
                    job.tool.name()
                ),
            }])),
        }
    }

    /// Forgets what was not asked for since the last call, and what failed without being to blame.
    pub(crate) fn end_of_commit(&mut self) {
        let used = std::mem::take(&mut self.used);
        let unlucky = std::mem::take(&mut self.unlucky);
        self.renderings
            .retain(|digest, _| used.contains(digest) && !unlucky.contains(digest));
        self.end_of_variations();
        self.files.end_of_commit();
        self.objects
            .0
            .retain(|_, object| Arc::strong_count(object) > 1);
    }
}

/// What stands for every line of a tool's output.
fn place(snapshot: &Snapshot, job: &Job) -> Location {
    let file = match job.tool {
        Tool::Kustomize => kustomize::root_file(snapshot, &job.folder),
        Tool::Helm => Some(helm::root_file(&job.folder)),
    };
    Location::new(file.unwrap_or_else(|| job.folder.clone()), 0)
}
