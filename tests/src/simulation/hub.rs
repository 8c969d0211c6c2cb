//! The hub as the simulation has it: a fleet repository as a value, the hub's own deciding, generations, and a store
//! that forgets what was not written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use muster_decide::render::Cache;
use muster_decide::{
    File, FileContent, LastGood, Members, Placed, Snapshot, Sources, decide, model,
};
use muster_proto::{Desired, Digest, DigestKey, Generation, Removals};
use tokio::sync::watch;

use super::NAMESPACE;
use super::chance::Chance;

const APPLICATIONS: [&str; 3] = ["front", "back", "side"];
/// The last of them is a Secret.
pub(super) const OBJECTS: u64 = 6;

/// The hub.
pub(crate) struct Hub {
    members: Members,
    key: DigestKey,
    tree: Tree,
    commits: u64,
    head: Snapshot,
    stored: Stored,
    backups: Vec<Stored>,
    publish: watch::Sender<Arc<Desired>>,
}

/// What survives a restart.
#[derive(Clone, Default)]
struct Stored {
    last_good: LastGood,
    generation: Generation,
    digest: Option<Digest>,
    /// The agent was ahead of this store: removals wait for a person's word.
    behind: bool,
}

/// The fleet repository.
#[derive(Default)]
struct Tree {
    /// Object number to application and value.
    objects: BTreeMap<u64, (&'static str, u64)>,
    broken: Broken,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Broken {
    #[default]
    Nothing,
    Document(&'static str),
    Manifest(&'static str),
    Everything,
}

impl Hub {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            members: [("one".parse()?, BTreeMap::new())].into(),
            key: DigestKey::new([5; 32]),
            tree: Tree::default(),
            commits: 0,
            head: Snapshot::default(),
            stored: Stored::default(),
            backups: vec![],
            publish: watch::Sender::new(Arc::new(Desired::none())),
        })
    }

    pub(super) fn newest(&self) -> watch::Receiver<Arc<Desired>> {
        self.publish.subscribe()
    }

    /// Somebody commits; `good`: nothing is broken any more. What they did.
    pub(super) fn commit(&mut self, chance: &mut Chance, good: bool) -> String {
        self.tree.change(chance);
        let application = *chance.one(&APPLICATIONS);
        self.tree.broken = match chance.below(12) {
            _ if good => Broken::Nothing,
            0..2 => Broken::Document(application),
            2..4 => Broken::Manifest(application),
            4 => Broken::Everything,
            _ => Broken::Nothing,
        };
        self.commits += 1;
        self.head = self.tree.snapshot(self.commits);
        self.decide();
        format!("{:?} {:?}", self.tree.broken, self.tree.objects)
    }

    /// Begins again with what was stored, at the newest commit.
    pub(super) fn restart(&mut self) {
        self.decide();
    }

    /// Begins again with what was stored at some time before.
    pub(super) fn restore(&mut self, chance: &mut Chance) {
        if !self.backups.is_empty() {
            self.stored = chance.one(&self.backups).clone();
        }
        self.decide();
    }

    /// A person lets removals go on.
    pub(super) fn approve(&mut self) {
        if std::mem::take(&mut self.stored.behind) {
            self.decide();
        }
    }

    /// What an agent says it holds: it may be ahead of us.
    pub(super) fn hello(&mut self, generation: Generation, digest: Digest) {
        let ours = self.stored.digest;
        let same = generation == self.stored.generation && ours == Some(digest);
        if generation > self.stored.generation
            || (generation == self.stored.generation && generation > 0 && !same)
        {
            self.stored.behind |= generation > self.stored.generation;
            self.stored.generation = generation;
            self.stored.digest = None;
            self.decide();
        }
    }

    fn decide(&mut self) {
        let last_good = &self.stored.last_good;
        let decision = decide(
            &Sources::from(self.head.clone()),
            &Placed::new(model::read(&self.head), &self.members, last_good),
            last_good,
            &BTreeSet::new(),
            &self.key,
            &mut Cache::default(),
        );
        // A commit without any application is refused whole: what is published stays.
        let mut desired = match decision {
            Ok(decision) => {
                let desired = decision.clusters["one"].desired(0, Vec::new());
                self.stored.last_good = decision.last_good;
                desired
            }
            Err(_) => Desired::clone(&self.publish.borrow()),
        };
        if self.stored.behind {
            let why = "the store is older than its agents".to_owned();
            desired.removals = Removals::Held(why);
            desired = Desired::new(0, desired.applications, desired.removals, Vec::new());
        }
        if self.stored.digest != Some(desired.digest()) {
            self.stored.generation += 1;
            self.stored.digest = Some(desired.digest());
        }
        // Stored before anybody hears of it.
        self.backups.push(self.stored.clone());
        self.publish
            .send_replace(Arc::new(desired.stamped(self.stored.generation)));
    }
}

impl Tree {
    /// Objects come, change, move and go.
    fn change(&mut self, chance: &mut Chance) {
        for _ in 0..=chance.below(3) {
            let number = chance.below(OBJECTS);
            let application = *chance.one(&APPLICATIONS);
            if chance.below(4) == 0 {
                self.objects.remove(&number);
            } else {
                let value = chance.below(3);
                self.objects.insert(number, (application, value));
            }
        }
        if self.objects.is_empty() {
            self.objects.insert(0, ("front", 0));
        }
    }

    fn snapshot(&self, commit: u64) -> Snapshot {
        let mut files: Vec<(String, String)> = Vec::new();
        for application in APPLICATIONS {
            if !self
                .objects
                .values()
                .any(|(owner, _)| *owner == application)
            {
                continue;
            }
            let nonsense = match self.broken {
                Broken::Document(broken) if broken == application => "  nonsense: 1\n",
                _ => "",
            };
            files.push((
                format!("{application}/muster.yaml"),
                format!(
                    "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {application}\nspec:\n  namespace: {NAMESPACE}\n{nonsense}"
                ),
            ));
            if self.broken == Broken::Manifest(application) {
                files.push((format!("{application}/broken.yaml"), "kind: [".into()));
            }
        }
        for (number, (application, value)) in &self.objects {
            let (kind, field, word) = match *number + 1 == OBJECTS {
                true => ("Secret", "stringData", "hunter2"),
                false => ("ConfigMap", "data", "plain"),
            };
            files.push((
                format!("{application}/o{number}.yaml"),
                format!(
                    "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: o{number}\n{field}:\n  value: {word}-{value}\n"
                ),
            ));
        }
        if self.broken == Broken::Everything {
            files.clear();
        }
        let file = |(path, text): (String, String)| {
            let file = File {
                oid: format!("{path}-{text}"),
                content: FileContent::Bytes(text.into()),
            };
            (path, file)
        };
        Snapshot {
            repository: None,
            revision: format!("{commit:040x}"),
            files: files.into_iter().map(file).collect(),
        }
    }
}
