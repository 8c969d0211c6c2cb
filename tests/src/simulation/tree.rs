//! The fleet repository as a value: a few applications, whose objects come, change, move and go, and commits that are
//! broken in one of four ways.

use std::collections::BTreeMap;

use muster_decide::{File, FileContent, Snapshot};

use super::NAMESPACE;
use super::chance::Chance;

const APPLICATIONS: [&str; 3] = ["front", "back", "side"];
/// The last of them is a Secret.
pub(super) const OBJECTS: u64 = 6;

/// The newest commit.
#[derive(Default)]
pub(super) struct Tree {
    commits: u64,
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

impl Tree {
    /// Somebody commits; `good`: nothing is broken any more. What they did.
    pub(super) fn commit(&mut self, chance: &mut Chance, good: bool) -> String {
        self.change(chance);
        let application = *chance.one(&APPLICATIONS);
        self.broken = match chance.below(12) {
            _ if good => Broken::Nothing,
            0..2 => Broken::Document(application),
            2..4 => Broken::Manifest(application),
            4 => Broken::Everything,
            _ => Broken::Nothing,
        };
        self.commits += 1;
        format!("{} {:?} {:?}", self.commits, self.broken, self.objects)
    }

    /// Somebody commits exactly these: object number to application and value. What they did.
    pub(super) fn put(&mut self, objects: BTreeMap<u64, (&'static str, u64)>) -> String {
        self.objects = objects;
        self.broken = Broken::Nothing;
        self.commits += 1;
        format!("{} {:?}", self.commits, self.objects)
    }

    /// The name of the commit.
    pub(super) fn revision(&self) -> String {
        format!("{:040x}", self.commits)
    }

    /// What a cluster holds that is as the commit says: object name to application and value.
    pub(super) fn wanted(&self) -> BTreeMap<String, (String, String)> {
        let wanted = self.objects.iter().map(|(number, (application, value))| {
            let (_, _, word) = kind(*number);
            let value = (application.to_string(), format!("{word}-{value}"));
            (format!("o{number}"), value)
        });
        wanted.collect()
    }

    /// The same, if Git means it: not when anything is broken that there is.
    pub(super) fn meant(&self) -> Option<BTreeMap<String, (String, String)>> {
        let broken = match self.broken {
            Broken::Nothing => false,
            Broken::Document(application) | Broken::Manifest(application) => self
                .objects
                .values()
                .any(|(owner, _)| *owner == application),
            Broken::Everything => true,
        };
        (!broken).then(|| self.wanted())
    }

    /// How many applications it has.
    pub(super) fn applications(&self) -> usize {
        let has = |application: &&&str| {
            self.objects
                .values()
                .any(|(owner, _)| owner == *application)
        };
        APPLICATIONS.iter().filter(has).count()
    }

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

    /// The commit's files.
    pub(super) fn snapshot(&self) -> Snapshot {
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
            let (kind, field, word) = kind(*number);
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
            revision: self.revision(),
            files: files.into_iter().map(file).collect(),
        }
    }
}

/// Kind, where the value is, and what it begins with.
fn kind(number: u64) -> (&'static str, &'static str, &'static str) {
    match number + 1 == OBJECTS {
        true => ("Secret", "stringData", "hunter2"),
        false => ("ConfigMap", "data", "plain"),
    }
}
