//! The files of commits, as the hub read them out of Git, and those of charts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Application, Origin, split};
use crate::problem::Location;

/// Everything that is decided from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// The newest commit of the fleet repository.
    pub fleet: Arc<Snapshot>,
    /// The commits and charts that its documents ask for.
    pub others: Others,
}

/// Commits and charts of other repositories, or why there is none, for people.
pub type Others = BTreeMap<Origin, Result<Arc<Snapshot>, String>>;

/// One commit of a repository, or one version of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The name of its `Repository`, for a chart with the chart's; `None`: the fleet repository.
    pub repository: Option<Arc<str>>,
    /// The commit's object id, or the packed chart's sha256, in hex.
    pub revision: String,
    /// Every file by its path from the root, with `/` and without a leading one.
    pub files: BTreeMap<String, File>,
}

/// One entry of a tree that is no folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Object id in Git, or of a chart's file its sha256, in hex: equal ids are equal content.
    pub oid: String,
    /// What it holds.
    pub content: FileContent,
}

/// What an entry of a tree holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// The bytes of a plain file.
    Bytes(Bytes),
    /// A plain file that [`is_read`] says nobody will ask for.
    Unread,
    /// What stands for a file in Git LFS; to use one is an error.
    LfsPointer,
    /// A symbolic link; to use one is an error.
    Symlink,
    /// A commit of another repository that could not be had; to use one is an error.
    Submodule,
}

/// How the file that makes a folder one of kustomize's may be called.
pub(crate) const KUSTOMIZATION_FILES: [&str; 3] =
    ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// How the files are called that pin what a chart names.
pub(crate) const LOCKS: [&str; 2] = ["Chart.lock", "requirements.lock"];

/// Whether a file of this path must come with its bytes; others may be [`FileContent::Unread`].
pub fn is_read(path: &str) -> bool {
    let name = split(path).1;
    is_manifest(path) || KUSTOMIZATION_FILES.contains(&name) || LOCKS.contains(&name)
}

/// Whether a file of this path holds manifests, in a folder of plain YAML.
pub(crate) fn is_manifest(path: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|end| path.ends_with(end))
}

impl From<Snapshot> for Sources {
    /// The fleet repository, and no other.
    fn from(fleet: Snapshot) -> Self {
        Self {
            fleet: Arc::new(fleet),
            others: BTreeMap::new(),
        }
    }
}

impl Sources {
    /// The commit that an application is rendered from.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) fn of(&self, application: &Application) -> Result<&Arc<Snapshot>, String> {
        let Some(origin) = &application.origin else {
            return Ok(&self.fleet);
        };
        let name = &origin.repository;
        let name = match &origin.chart {
            None => name.clone(),
            Some(chart) => format!("{name}, chart {}", chart.name),
        };
        match self.others.get(origin) {
            Some(Ok(snapshot)) => Ok(snapshot),
            Some(Err(why)) => Err(format!("Repository {name}: {why}")),
            None => Err(format!("Repository {name} is not fetched yet")),
        }
    }
}

impl Snapshot {
    /// A place in this commit as people find it: in another repository than the fleet's with that one's name before it.
    pub(crate) fn shown(&self, location: Location) -> Location {
        match &self.repository {
            None => location,
            Some(name) => Location::new(format!("{name}:{}", location.file), location.line),
        }
    }

    /// Everything below a folder, by path.
    pub(crate) fn below(&self, folder: &str) -> impl Iterator<Item = (&String, &File)> {
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let from_prefix = self.files.range(prefix.clone()..);
        from_prefix.take_while(move |(path, _)| path.starts_with(&prefix))
    }
}

impl FileContent {
    /// What it is, for messages.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Bytes(_) | Self::Unread => "a file",
            Self::LfsPointer => "a Git LFS pointer",
            Self::Symlink => "a symbolic link",
            Self::Submodule => "a submodule",
        }
    }
}

#[cfg(test)]
impl Snapshot {
    /// A commit with these text files, for tests.
    pub(crate) fn of<'a>(
        revision: &str,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let file = |(path, text): (&str, &str)| {
            let file = File {
                oid: blake3::hash(text.as_bytes()).to_hex().to_string(),
                content: FileContent::Bytes(Bytes::copy_from_slice(text.as_bytes())),
            };
            (path.to_owned(), file)
        };
        Self {
            repository: None,
            revision: revision.to_owned(),
            files: files.into_iter().map(file).collect(),
        }
    }
}
