//! One document of a `muster.yaml`: what kind, which name, and its spec still unread.

use std::fmt;

use muster_proto::{ApplicationName, ClusterName};
use serde::de::DeserializeOwned;

use crate::problem::{Location, Problem};
use crate::yaml::{self, Fault, Node, Value};

/// `apiVersion` of all our documents.
pub(crate) const API_VERSION: &str = "muster.dev/v1alpha1";

/// What a document declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Manifests and where they go.
    Application,
    /// Labels and values of a cluster.
    Cluster,
    /// Another Git source.
    Repository,
    /// A strategy for changes.
    Rollout,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Application,
        Self::Cluster,
        Self::Repository,
        Self::Rollout,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Cluster => "Cluster",
            Self::Repository => "Repository",
            Self::Rollout => "Rollout",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A document whose head is fine.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) node: Node,
}

/// A document, or a whole file, that can't be read.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    kind: Option<Kind>,
    name: Option<String>,
    location: Location,
    message: String,
}

/// The documents of a file, each on its own; a file that is no YAML is one broken document.
pub(crate) fn read(path: &str, bytes: &[u8]) -> Vec<Result<Document, Broken>> {
    match yaml::documents(bytes) {
        Ok(nodes) => nodes.into_iter().map(|node| head(path, node)).collect(),
        Err(fault) => vec![Err(Broken::unreadable(
            Location::new(path, fault.line),
            fault.message,
        ))],
    }
}

fn head(path: &str, node: Node) -> Result<Document, Broken> {
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| node.text(&["kind"]) == Some(kind.as_str()));
    let name = node
        .text(&["metadata", "name"])
        .filter(|name| is_name(kind, name).is_ok());
    let broken = |line: u32, message: String| Broken {
        kind,
        name: name.map(str::to_owned),
        location: Location::new(path, line),
        message,
    };
    let at = |path: &[&str]| {
        let known = path.iter().scan(&node, |node, key| {
            *node = node.get(key)?;
            Some(node.line)
        });
        known.last().unwrap_or(node.line)
    };
    let Value::Map(entries) = &node.value else {
        let found = node.value.what();
        return Err(broken(
            node.line,
            format!("a document must be a mapping, found {found}"),
        ));
    };
    let known = ["apiVersion", "kind", "metadata", "spec"];
    for (key, _) in entries {
        if !known.contains(&key.text.as_str()) {
            let message = yaml::read::unknown_field(&key.text, &known);
            return Err(broken(key.line, message));
        }
    }
    match node.text(&["apiVersion"]) {
        Some(API_VERSION) => {}
        _ => {
            return Err(broken(
                at(&["apiVersion"]),
                format!("apiVersion must be {API_VERSION}"),
            ));
        }
    }
    let Some(kind) = kind else {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        return Err(broken(
            at(&["kind"]),
            format!("kind must be one of {kinds}"),
        ));
    };
    let metadata = node
        .get("metadata")
        .map(|metadata| yaml::read::typed::<Metadata>(metadata, "metadata"));
    let metadata = match metadata {
        Some(Ok(metadata)) => metadata,
        Some(Err(fault)) => return Err(broken(fault.line, fault.message)),
        None => return Err(broken(node.line, "needs \"metadata\" with a name".into())),
    };
    if let Err(message) = is_name(Some(kind), &metadata.name) {
        return Err(broken(at(&["metadata", "name"]), message));
    }
    if kind == Kind::Cluster && !metadata.labels.is_empty() {
        let message = "labels of a cluster stand in spec.labels, not in metadata.labels".into();
        return Err(broken(at(&["metadata", "labels"]), message));
    }
    Ok(Document {
        kind,
        name: metadata.name,
        file: path.to_owned(),
        node,
    })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default, deserialize_with = "crate::labels::labels")]
    labels: crate::Labels,
    #[serde(default, rename = "annotations")]
    _annotations: crate::Labels,
}

fn is_name(kind: Option<Kind>, name: &str) -> Result<(), String> {
    let cluster = name.parse::<ClusterName>().map(|_| ());
    match kind {
        Some(Kind::Cluster) => cluster.map_err(|error| error.to_string()),
        _ => name
            .parse::<ApplicationName>()
            .map(|_| ())
            .map_err(|error| match kind {
                Some(kind) if kind != Kind::Application => {
                    error.to_string().replacen("application", kind.as_str(), 1)
                }
                _ => error.to_string(),
            }),
    }
}

impl Document {
    /// Where it begins.
    pub(crate) fn location(&self) -> Location {
        Location::new(self.file.as_str(), self.node.line)
    }

    /// Its spec; a document without one has every field at its default.
    pub(crate) fn spec<T: DeserializeOwned>(&self) -> Result<T, Broken> {
        let absent = Node {
            line: self.node.line,
            value: Value::Null,
        };
        let node = self.node.get("spec").unwrap_or(&absent);
        yaml::read::typed(node, "spec")
            .map_err(|Fault { line, message }| self.broken(line, message))
    }

    /// The line of a field below `spec`, or of the nearest thing above it; list items are numbers.
    pub(crate) fn line(&self, path: &[&str]) -> u32 {
        let mut at = &self.node;
        for step in std::iter::once(&"spec").chain(path) {
            let next = match &at.value {
                Value::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index)),
                _ => at.get(step),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at.line
    }

    /// What makes this document unusable.
    pub(crate) fn broken(&self, line: u32, message: String) -> Broken {
        let location = Location::new(self.file.as_str(), line);
        Broken::named(self.kind, &self.name, location, message)
    }
}

impl Broken {
    /// Something that could be any document.
    pub(crate) fn unreadable(location: Location, message: String) -> Self {
        Self {
            kind: None,
            name: None,
            location,
            message,
        }
    }

    /// A document that can be told by its name.
    pub(crate) fn named(kind: Kind, name: &str, location: Location, message: String) -> Self {
        Self {
            kind: Some(kind),
            name: Some(name.to_owned()),
            location,
            message,
        }
    }

    /// What it declares, where that can be told.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Every document that it may be; none: it may be any.
    pub(crate) fn names(&self) -> Vec<(Kind, String)> {
        match (&self.name, self.kind) {
            (Some(name), Some(kind)) => vec![(kind, name.clone())],
            (Some(name), None) => Kind::ALL.map(|kind| (kind, name.clone())).into(),
            // Nothing but a repository or rollout refers to these by name.
            (None, Some(kind @ (Kind::Repository | Kind::Rollout))) => vec![(kind, String::new())],
            (None, _) => Vec::new(),
        }
    }
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        let named = |kind| broken.name.as_deref().filter(|_| broken.kind == Some(kind));
        Self {
            application: named(Kind::Application).and_then(|name| name.parse().ok()),
            variants: Vec::new(),
            cluster: named(Kind::Cluster).and_then(|name| name.parse().ok()),
            location: Some(broken.location),
            message: broken.message,
        }
    }
}
