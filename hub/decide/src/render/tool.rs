//! What a program renders, and what comes back. Pure: the hub runs it.
//!
//! In: a folder that a tool is for. Out: a [`Job`], which holds everything that the output follows from; so its key
//! names the output, and who has the output of a key needs not run anything.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_proto::Digest;

/// Which program, at which version: part of every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// `kustomize build`.
    Kustomize,
    /// `helm template`.
    Helm,
}

impl Tool {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Kustomize, Self::Helm];

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kustomize => "kustomize",
            Self::Helm => "helm",
        }
    }
}

/// The versions of the programs that render, as they say them themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tools(pub BTreeMap<Tool, String>);

/// One run of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which program.
    pub tool: Tool,
    /// What it is run on: a folder, from the root of the repository; empty: the root.
    pub folder: String,
    /// The files it may read, and no others: object id by the path at which it sees them.
    pub files: BTreeMap<String, String>,
    /// Packed charts of other repositories, likewise.
    pub given: BTreeMap<String, Given>,
    /// How a chart is released; Helm alone has it.
    pub release: Option<Release>,
}

/// A file that is not of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Names what it holds.
    pub oid: String,
    /// What it holds.
    pub content: Bytes,
}

/// How a chart is released on clusters that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace; empty: Helm's own choice.
    pub namespace: String,
    /// Later ones win.
    pub values: Vec<Values>,
    /// Minor version of the clusters' Kubernetes, such as `1.37`.
    pub kubernetes: String,
    /// Those that the application asks for and the clusters serve.
    pub api_versions: Vec<String>,
    /// What it renders first stays, and need not be the same each time.
    pub keep_first: bool,
}

/// Values of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// A file that is none of the chart's.
    File {
        /// As people know it.
        path: String,
        /// Object id.
        oid: String,
        /// What it holds.
        content: Bytes,
    },
    /// A JSON object.
    Stated(String),
}

impl Job {
    /// Names the output: the same for the same files, under the same version of the tool. What stays once it is
    /// rendered hangs on neither the tool nor the clusters.
    pub fn key(&self, tools: &Tools) -> Digest {
        let version = tools.0.get(&self.tool).map_or("", String::as_str);
        let version = if self.keeps_first() { "" } else { version };
        let files = self.files.iter();
        let files = files.flat_map(|(path, oid)| [path.as_str(), oid.as_str()]);
        let given = self.given.iter();
        let given = given.flat_map(|(path, given)| [path.as_str(), given.oid.as_str()]);
        // Files come in pairs: a word alone is none of them.
        let word = (!self.given.is_empty()).then_some("given");
        let release = self.release.iter().flat_map(Release::parts);
        let head = [self.tool.name(), version, self.folder.as_str()];
        let parts = head.into_iter().chain(release).chain(files);
        Digest::of(parts.chain(word).chain(given))
    }

    /// Whether what it renders first stays.
    pub fn keeps_first(&self) -> bool {
        self.release
            .as_ref()
            .is_some_and(|release| release.keep_first)
    }
}

impl Release {
    /// What names it, with a word before each list.
    fn parts(&self) -> Vec<&str> {
        let mut parts = vec![self.name.as_str(), self.namespace.as_str()];
        if self.keep_first {
            parts.push("first");
        } else {
            parts.extend([self.kubernetes.as_str(), "versions"]);
            parts.extend(self.api_versions.iter().map(String::as_str));
        }
        parts.push("values");
        for values in &self.values {
            match values {
                Values::File { path, oid, .. } => parts.extend(["file", path, oid]),
                Values::Stated(json) => parts.extend(["stated", json]),
            }
        }
        parts.push("files");
        parts
    }
}

/// What a run came to: a stream of YAML documents, or why there is none.
pub type Output = Result<Bytes, Failure>;

/// Why a run gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the tool said, for people.
    pub message: String,
    /// It may go well at the next try, with the same files.
    pub again: bool,
}
