//! The files that `helm template` reads for a chart, found before it is run.
//!
//! A chart is its folder with all that is in it, and the charts that it names: those in its folder `charts/`, those in
//! the repository that it names by `file://`, and of the rest those that its lock pins ([`lock`]), which the hub fetches
//! before ([`asked`]) and Helm finds packed in `charts/`. Value files are anywhere in the fleet repository.

use std::collections::BTreeMap;

use super::closure::inside;
use super::tool::{self, Given, Job, Tool};
use super::{Subject, Wrong, kustomize};
use crate::address::Address;
use crate::model::application::join;
use crate::model::{Chart, FILE_NAME, Origin, Repository, Values, split};
use crate::placement::Seen;
use crate::problem::Location;
use crate::snapshot::{FileContent, Snapshot};
use crate::yaml::{self, Node, Value};

mod lock;

use lock::Locked;

/// What makes a folder a chart.
const CHART: &str = "Chart.yaml";
/// The files that name what a chart depends on, the second as of Helm 2, and the lock of each.
const LISTS: [(&str, &str); 2] = [
    (CHART, "Chart.lock"),
    ("requirements.yaml", "requirements.lock"),
];

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
    let mut walk = Walk::of(subject);
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
    let (kubernetes, asked) = match subject.seen {
        Seen::As(capabilities) => (&*capabilities.kubernetes, Some(&capabilities.api_versions)),
        Seen::Any | Seen::Unknown => ("", None),
    };
    let served = asked.into_iter().flatten().filter(|(_, served)| **served);
    Ok(Job {
        tool: Tool::Helm,
        folder: folder.clone(),
        files: walk.files,
        given: walk.given,
        release: Some(tool::Release {
            name: release.name.clone(),
            namespace: subject.namespace.to_owned(),
            values,
            kubernetes: kubernetes.to_owned(),
            api_versions: served.map(|(it, _)| it.clone()).collect(),
            keep_first: release.keep_first,
        }),
    })
}

/// The charts to fetch for a chart: those that it names and that are nowhere in its repository.
pub(super) fn asked(subject: &Subject<'_>) -> BTreeMap<Origin, Repository> {
    Walk::of(subject).asked
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
    subject: &'s Subject<'s>,
    snapshot: &'s Snapshot,
    /// Found so far: object id by the path at which Helm sees the file.
    files: BTreeMap<String, String>,
    /// Packed charts of other repositories, likewise.
    given: BTreeMap<String, Given>,
    /// Where these are.
    asked: BTreeMap<Origin, Repository>,
    wrong: Vec<Wrong>,
}

/// A chart that another one names.
struct Dependency {
    /// Its place in the list.
    index: usize,
    name: String,
    repository: String,
    location: Location,
}

impl<'s> Walk<'s> {
    fn of(subject: &'s Subject<'s>) -> Self {
        let mut walk = Self {
            subject,
            snapshot: subject.snapshot,
            files: BTreeMap::new(),
            given: BTreeMap::new(),
            asked: BTreeMap::new(),
            wrong: Vec::new(),
        };
        let folder = &subject.target.path;
        walk.chart(folder, folder, &mut Vec::new());
        walk
    }

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
        for (list, lock) in LISTS {
            self.dependencies(folder, place, &inside(folder, list), lock, within);
        }
        within.pop();
    }

    /// Takes what a list of a chart names.
    fn dependencies(
        &mut self,
        folder: &str,
        place: &str,
        list: &str,
        lock: &str,
        within: &mut Vec<String>,
    ) {
        let root = self.document(list);
        let items = root.as_ref().and_then(|root| root.get("dependencies"));
        let Some(Value::List(items)) = items.map(|node| &node.value) else {
            return;
        };
        let mut elsewhere = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let text = |field| item.text(&[field]).unwrap_or_default().to_owned();
            let dependency = Dependency {
                index,
                name: text("name"),
                repository: text("repository"),
                location: Location::new(list, item.line),
            };
            if self.is_there(folder, &dependency.name) {
                continue;
            }
            match dependency.repository.strip_prefix("file://") {
                Some(path) => self.beside(folder, place, path, &dependency, within),
                None => elsewhere.push(dependency),
            }
        }
        let Some(first) = elsewhere.first() else {
            return;
        };
        let path = inside(folder, lock);
        let Some(pins) = self.document(&path) else {
            let message = format!(
                "the chart {} is not in charts/, and no {lock} pins it: run `helm dependency update` and commit {lock}",
                first.name
            );
            return self.say(first.location.clone(), message);
        };
        match lock::entries(items, &pins) {
            Err(problem) => self.say(Location::new(path, 0), problem),
            Ok(pins) => {
                for dependency in &elsewhere {
                    if let Err(why) = self.fetched(place, dependency, &pins[dependency.index]) {
                        let message = format!("the chart {} {why}", dependency.name);
                        self.say(dependency.location.clone(), message);
                    }
                }
            }
        }
    }

    /// Takes a chart that is elsewhere in the repository.
    fn beside(
        &mut self,
        folder: &str,
        place: &str,
        path: &str,
        dependency: &Dependency,
        within: &mut Vec<String>,
    ) {
        let Dependency {
            name,
            repository,
            location,
            ..
        } = dependency;
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

    /// Takes a packed chart of another repository. The error follows its name.
    fn fetched(
        &mut self,
        place: &str,
        dependency: &Dependency,
        pin: &Locked,
    ) -> Result<(), String> {
        if pin.name != dependency.name || pin.repository.is_empty() {
            return Err("is not in charts/, and names no repository".to_owned());
        }
        let (origin, repository) = self.origin(pin)?;
        let url = repository.url.clone();
        self.asked.insert(origin.clone(), repository);
        let snapshot = match self.subject.others.get(&origin) {
            Some(Ok(snapshot)) => snapshot,
            Some(Err(why)) => return Err(format!("{} of {url}: {why}", pin.version)),
            None => return Err(format!("{} of {url} is not fetched yet", pin.version)),
        };
        for (name, file) in &snapshot.files {
            if let FileContent::Bytes(content) = &file.content {
                let given = Given {
                    oid: file.oid.clone(),
                    content: content.clone(),
                };
                self.given
                    .insert(inside(place, &format!("charts/{name}")), given);
            }
        }
        Ok(())
    }

    /// Where a pinned chart is fetched from: by the credential of the nearest `Repository` above it, if there is one.
    fn origin(&self, pin: &Locked) -> Result<(Origin, Repository), String> {
        let repositories = self.subject.repositories;
        let alias = pin.repository.strip_prefix('@');
        let alias = alias.or_else(|| pin.repository.strip_prefix("alias:"));
        let url = match alias {
            None => &pin.repository,
            Some(alias) => {
                let known = repositories.get(alias).map(|repository| &repository.url);
                known.ok_or_else(|| {
                    format!(
                        "is of {}, which whoever ran `helm repo add` knows: write its URL, or declare a Repository {alias}",
                        pin.repository
                    )
                })?
            }
        };
        let url = url.trim_end_matches('/').to_owned();
        let address =
            Address::parse(&url).map_err(|problem| format!("is of {url}, which {problem}"))?;
        if address.is_ssh() || address.is_file() {
            return Err(format!(
                "is of {url}, which holds no charts: they come by https:// or oci://"
            ));
        }
        let above = |repository: &&Repository| {
            Address::parse(&repository.url).is_ok_and(|above| address.is_below(&above))
        };
        let above = repositories.values().filter(above);
        let nearest = above.max_by_key(|repository| repository.url.len());
        let repository = Repository {
            url: url.clone(),
            reference: None,
            credential: nearest.and_then(|repository| repository.credential.clone()),
            verify: None,
        };
        let chart = Chart::locked(&pin.name, &pin.version)?;
        let origin = Origin {
            repository: url,
            reference: None,
            chart: Some(chart),
        };
        Ok((origin, repository))
    }

    /// Whether a chart is in `charts/`, as a folder or packed.
    fn is_there(&self, folder: &str, name: &str) -> bool {
        let charts = inside(folder, "charts");
        let packed = format!("{charts}/{name}-");
        let is_packed = |path: &str| {
            let version = path.strip_prefix(&packed);
            let version = version.and_then(|version| version.strip_suffix(".tgz"));
            let version = version.map(|version| version.trim_start_matches('v'));
            // Of another chart whose name begins so there is more of a name.
            version
                .is_some_and(|it| !it.contains('/') && it.starts_with(|c: char| c.is_ascii_digit()))
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
