//! The files that `helm template` reads for a chart, found before it is run.
//!
//! A chart is its folder with all that is in it, and the charts beside it that it names by `file://`. Charts that are
//! elsewhere must be in its folder `charts/` already: nothing is fetched while rendering. Value files are anywhere in
//! the fleet repository.

use std::collections::BTreeMap;

use super::closure::inside;
use super::tool::{self, Job, Tool};
use super::{Subject, Wrong, kustomize};
use crate::model::application::join;
use crate::model::{FILE_NAME, Values, split};
use crate::placement::Seen;
use crate::problem::Location;
use crate::snapshot::{FileContent, Snapshot};
use crate::yaml::{self, Node, Value};

/// What makes a folder a chart.
const CHART: &str = "Chart.yaml";
/// Where charts of Helm 2 name what they depend on.
const REQUIREMENTS: &str = "requirements.yaml";

/// Whether a folder holds a chart, and no kustomization.
pub(crate) fn is_chart(snapshot: &Snapshot, folder: &str) -> bool {
    snapshot.files.contains_key(&root_file(folder))
        && kustomize::root_file(snapshot, folder).is_none()
}

/// The file that makes a folder a chart.
pub(super) fn root_file(folder: &str) -> String {
    inside(folder, CHART)
}

/// What to run for a folder that holds a chart.
///
/// # Errors
/// With the place of every link, and of every dependency and value file that is not there.
pub(super) fn job(subject: &Subject<'_>) -> Result<Job, Vec<Wrong>> {
    let (folder, release) = (&subject.target.path, &subject.target.release);
    let mut walk = Walk {
        snapshot: subject.snapshot,
        files: BTreeMap::new(),
        wrong: Vec::new(),
    };
    walk.chart(folder, folder, &mut Vec::new());
    let mut values = Vec::new();
    for stated in &release.values {
        match stated {
            Values::Stated(json) => values.push(tool::Values::Stated(json.clone())),
            Values::File { path, location } => match value_file(subject.fleet, path) {
                Ok(file) => values.push(file),
                Err(message) => walk.say(location.clone(), message),
            },
        }
    }
    if !walk.wrong.is_empty() {
        return Err(walk.wrong);
    }
    let (kubernetes, api_versions) = match subject.seen {
        Seen::As(capabilities) => (&*capabilities.kubernetes, Some(&capabilities.api_versions)),
        Seen::Any | Seen::Unknown => ("", None),
    };
    Ok(Job {
        tool: Tool::Helm,
        folder: folder.clone(),
        files: walk.files,
        release: Some(tool::Release {
            name: release.name.clone(),
            namespace: subject.namespace.to_owned(),
            values,
            kubernetes: kubernetes.to_owned(),
            api_versions: api_versions.into_iter().flatten().cloned().collect(),
            keep_first: release.keep_first,
        }),
    })
}

fn value_file(fleet: &Snapshot, path: &str) -> Result<tool::Values, String> {
    let file = fleet.files.get(path);
    let file = file.ok_or_else(|| format!("the repository has no file {path}"))?;
    match &file.content {
        FileContent::Bytes(content) => Ok(tool::Values::File {
            path: path.to_owned(),
            oid: file.oid.clone(),
            content: content.clone(),
        }),
        FileContent::Unread => Err(format!(
            "{path} is no value file: name it .yaml, .yml or .json"
        )),
        link => Err(format!("{path} is {}: name the file itself", link.what())),
    }
}

struct Walk<'s> {
    snapshot: &'s Snapshot,
    /// Found so far: object id by the path at which Helm sees the file.
    files: BTreeMap<String, String>,
    wrong: Vec<Wrong>,
}

/// A chart that another one names.
struct Dependency {
    name: String,
    repository: String,
    location: Location,
}

impl Walk<'_> {
    /// Takes the chart in `folder`, which Helm sees at `place`. `within` are the charts that lead to it.
    fn chart(&mut self, folder: &str, place: &str, within: &mut Vec<String>) {
        let snapshot = self.snapshot;
        let prefix = inside(folder, "");
        for (path, file) in snapshot.below(folder) {
            if split(path).1 == FILE_NAME {
                continue;
            }
            match &file.content {
                FileContent::Bytes(_) | FileContent::Unread => {
                    let place = inside(place, &path[prefix.len()..]);
                    self.files.insert(place, file.oid.clone());
                }
                link => {
                    let message = format!("is {}: put the file itself here", link.what());
                    self.say(Location::new(path.as_str(), 0), message);
                }
            }
        }
        within.push(folder.to_owned());
        for dependency in self.dependencies(folder) {
            self.dependency(folder, place, &dependency, within);
        }
        within.pop();
    }

    fn dependency(
        &mut self,
        folder: &str,
        place: &str,
        dependency: &Dependency,
        within: &mut Vec<String>,
    ) {
        let Dependency {
            name,
            repository,
            location,
        } = dependency;
        if self.is_there(folder, name) {
            return;
        }
        let Some(path) = repository.strip_prefix("file://") else {
            let message = format!(
                "the chart {name} is not in charts/, and nothing is fetched while rendering: run `helm dependency update` and commit what it puts there"
            );
            return self.say(location.clone(), message);
        };
        let found = match join(folder, path) {
            Ok(found) => found,
            Err(why) => return self.say(location.clone(), format!("{repository} {why}")),
        };
        if within.contains(&found) {
            let message = format!("{repository} leads back to the chart in {found}");
            self.say(location.clone(), message);
        } else if is_chart(self.snapshot, &found) {
            self.chart(&found, &inside(place, &format!("charts/{name}")), within);
        } else {
            let message = format!("the repository has no chart in {found}");
            self.say(location.clone(), message);
        }
    }

    /// Whether a chart is in `charts/`, as a folder or packed.
    fn is_there(&self, folder: &str, name: &str) -> bool {
        let charts = inside(folder, "charts");
        let packed = format!("{charts}/{name}-");
        let is_packed = |path: &str| {
            let version = path.strip_prefix(&packed);
            version.is_some_and(|version| version.ends_with(".tgz") && !version.contains('/'))
        };
        let called = |path: &str| {
            let (above, file) = split(path);
            let (beside, own) = split(above);
            if file != CHART || beside != charts {
                return false;
            }
            let node = self.document(path);
            own == name || node.as_ref().and_then(|node| node.text(&["name"])) == Some(name)
        };
        let mut below = self.snapshot.below(&charts).map(|(path, _)| path);
        below.any(|path| is_packed(path) || called(path))
    }

    fn dependencies(&mut self, folder: &str) -> Vec<Dependency> {
        let mut all = Vec::new();
        for file in [CHART, REQUIREMENTS] {
            let path = inside(folder, file);
            let Some(root) = self.document(&path) else {
                continue;
            };
            let Some(Value::List(items)) = root.get("dependencies").map(|node| &node.value) else {
                continue;
            };
            for item in items {
                let text = |field| item.text(&[field]).unwrap_or_default().to_owned();
                all.push(Dependency {
                    name: text("name"),
                    repository: text("repository"),
                    location: Location::new(path.as_str(), item.line),
                });
            }
        }
        all
    }

    /// The document of a file; what can't be read is left to Helm to refuse.
    fn document(&self, path: &str) -> Option<Node> {
        match &self.snapshot.files.get(path)?.content {
            FileContent::Bytes(bytes) => yaml::documents(bytes).ok()?.into_iter().next(),
            _ => None,
        }
    }

    fn say(&mut self, location: Location, message: String) {
        self.wrong.push(Wrong { location, message });
    }
}

/// Where each document of Helm's output comes from: it says so before each, by the name of the chart.
pub(super) struct Origins(Vec<(u32, String)>);

impl Origins {
    /// `chart` is the chart's file, as it is shown.
    pub(super) fn of(output: &[u8], chart: &str) -> Self {
        let prefix = chart.strip_suffix(CHART).unwrap_or(chart);
        let text = String::from_utf8_lossy(output);
        let mut before = "";
        let mut origins = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if let (Some(source), "---") = (line.strip_prefix("# Source: "), before) {
                let path = source.split_once('/').map_or(source, |(_, path)| path);
                origins.push((number, format!("{prefix}{path}")));
            }
            before = line;
        }
        Self(origins)
    }

    /// The template of what begins at a line.
    pub(super) fn at(&self, line: u32) -> Option<&str> {
        let after = self.0.partition_point(|(first, _)| *first <= line);
        let (_, path) = self.0.get(after.checked_sub(1)?)?;
        Some(path)
    }
}

#[cfg(test)]
mod tests;
