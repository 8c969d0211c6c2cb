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
}

impl Tool {
    /// All there are.
    pub const ALL: [Self; 1] = [Self::Kustomize];

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kustomize => "kustomize",
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
    /// The files it may read, and no others: object id by path.
    pub files: BTreeMap<String, String>,
}

impl Job {
    /// Names the output: the same for the same files, under the same version of the tool.
    pub fn key(&self, tools: &Tools) -> Digest {
        let version = tools.0.get(&self.tool).map_or("", String::as_str);
        let files = self.files.iter();
        let files = files.flat_map(|(path, oid)| [path.as_str(), oid.as_str()]);
        let head = [self.tool.name(), version, self.folder.as_str()];
        Digest::of(head.into_iter().chain(files))
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
