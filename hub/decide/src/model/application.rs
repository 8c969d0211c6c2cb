//! `Application`: where manifests are, how they are rendered, and which clusters take which variant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, HealthRule, IgnoreRule, PruneBudget, Settings};

use super::chart::{Chart, ChartSource};
use super::document::{Broken, Document};
use super::release::{self, Release};
use super::repository::Origin;
use super::spec::{ApplicationSpec, TargetSpec};
use super::{split, unsupported};
use crate::placement::ClusterSelector;
use crate::problem::Location;
use crate::{patch, specialise};

/// One application as Git states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Unique in the fleet.
    pub name: ApplicationName,
    /// Where its document is.
    pub location: Location,
    /// Where its manifests are; `None`: in the fleet repository.
    pub origin: Option<Origin>,
    /// First match wins; never empty.
    pub targets: Vec<Target>,
    /// What the agent must know.
    pub settings: Settings,
    /// Where each of `dependsOn` is written.
    pub dependencies: BTreeMap<ApplicationName, Location>,
    /// What it asks for that can't be done yet, and where: such an application keeps what it had.
    pub unsupported: Option<(Location, String)>,
    /// The whole document.
    pub spec: ApplicationSpec,
}

/// Clusters that take one variant of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the variant: as written, else `target-N` by its place, else `default`.
    pub name: Arc<str>,
    /// Which clusters.
    pub clusters: ClusterSelector,
    /// Folder of its manifests, from the root of their repository; empty: the root.
    pub path: String,
    /// Where the path is stated.
    pub location: Location,
    /// How a chart in the folder is released.
    pub release: Release,
    /// Laid over what the folder renders to, one after the other.
    pub patches: Vec<patch::Stated>,
    /// What `${vars.NAME}` stands for; `None` leaves every placeholder as it is.
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
}

pub(super) fn read(document: &Document) -> Result<Application, Broken> {
    let spec: ApplicationSpec = document.spec()?;
    let origin = origin(&spec, document)?;
    let folder = match origin {
        None => split(&document.file).0,
        Some(_) => "",
    };
    let path_of = |path: &str, field: &[&str]| {
        let line = document.line(field);
        join(folder, path)
            .map(|path| (path, Location::new(document.file.as_str(), line)))
            .map_err(|why| document.broken(line, format!("spec.{}: {why}", field.join("."))))
    };
    let own_path = spec.source.path.as_deref().unwrap_or("");
    let (path, location) = path_of(own_path, &["source", "path"])?;
    let release = |index: Option<usize>| {
        let own = index.and_then(|index| spec.targets.as_ref()?[index].helm.as_ref());
        let above = |rest: [&str; 1]| -> Vec<String> { rest.map(str::to_owned).into() };
        let fields = [
            above(["helm"]),
            index.map_or(Vec::new(), |index| {
                ["targets", &index.to_string(), "helm"]
                    .map(str::to_owned)
                    .into()
            }),
        ];
        let place = |level: usize| {
            let field: Vec<&str> = fields[level].iter().map(String::as_str).collect();
            Location::new(document.file.as_str(), document.line(&field))
        };
        let stated = [
            spec.helm.as_ref().map(|helm| (helm, place(0))),
            own.map(|helm| (helm, place(1))),
        ];
        release::release(&document.name, stated, |level, at, written| {
            let at = at.to_string();
            let above = fields[level].iter().map(String::as_str);
            let field: Vec<&str> = above.chain(["valueFiles", &at]).collect();
            let line = document.line(&field);
            join(split(&document.file).0, written)
                .map(|path| (path, Location::new(document.file.as_str(), line)))
                .map_err(|why| document.broken(line, format!("spec.{}: {why}", field.join("."))))
        })
    };
    let mut targets = Vec::new();
    let mut names = BTreeSet::new();
    for (index, target) in spec.targets.iter().flatten().enumerate() {
        let index_text = index.to_string();
        let name: Arc<str> = match &target.name {
            Some(name) => name.as_str().into(),
            None => format!("target-{}", index + 1).into(),
        };
        if !names.insert(name.clone()) {
            let line = document.line(&["targets", &index_text, "name"]);
            return Err(document.broken(
                line,
                format!("spec.targets[{index}]: another target is called {name:?}"),
            ));
        }
        let (path, location) = match &target.path {
            Some(own) => path_of(own, &["targets", &index_text, "path"])?,
            None => (path.clone(), location.clone()),
        };
        targets.push(Target {
            name,
            clusters: target.clusters.clone(),
            path,
            location,
            release: release(Some(index))?,
            patches: patches(target, index, document)?,
            variables: specialise::variables(spec.variables.as_ref(), target.variables.as_ref()),
        });
    }
    if spec.targets.is_none() {
        targets.push(Target {
            name: "default".into(),
            clusters: ClusterSelector::default(),
            path,
            location,
            release: release(None)?,
            patches: Vec::new(),
            variables: specialise::variables(spec.variables.as_ref(), None),
        });
    }
    if targets.is_empty() {
        let line = document.line(&["targets"]);
        let message =
            "spec.targets: is empty; leave it out to place the application on every cluster";
        return Err(document.broken(line, message.into()));
    }
    let unsupported = unsupported::first(&spec, document);
    Ok(Application {
        name: document
            .name
            .parse()
            .expect("names are checked with the head of the document"),
        location: document.location(),
        origin,
        targets,
        settings: settings(&spec, document)?,
        dependencies: dependencies(&spec, document),
        unsupported,
        spec,
    })
}

fn origin(spec: &ApplicationSpec, document: &Document) -> Result<Option<Origin>, Broken> {
    let source = &spec.source;
    if let Some(stated) = &source.chart {
        return chart(spec, stated, document).map(Some);
    }
    match (&source.repository, &source.reference) {
        (Some(repository), reference) => Ok(Some(Origin {
            repository: repository.clone(),
            reference: reference.clone(),
            chart: None,
        })),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let line = document.line(&["source", "ref"]);
            let message = "spec.source.ref: needs a spec.source.repository; the fleet repository is always read at its newest commit";
            Err(document.broken(line, message.into()))
        }
    }
}

/// A chart is rendered whole, and its own words say which: nothing else may stand beside it.
fn chart(
    spec: &ApplicationSpec,
    stated: &ChartSource,
    document: &Document,
) -> Result<Origin, Broken> {
    let source = &spec.source;
    let beside = [
        (source.path.is_some(), "path"),
        (source.repository.is_some(), "repository"),
        (source.reference.is_some(), "ref"),
    ];
    if let Some((_, field)) = beside.into_iter().find(|(stated, _)| *stated) {
        let line = document.line(&["source", field]);
        let message = format!(
            "spec.source.{field}: has no meaning beside spec.source.chart, which says it all: take one out"
        );
        return Err(document.broken(line, message));
    }
    let targets = spec.targets.iter().flatten();
    if let Some(index) = targets.clone().position(|target| target.path.is_some()) {
        let line = document.line(&["targets", &index.to_string(), "path"]);
        let message = format!("spec.targets[{index}].path: a chart is rendered whole: take it out");
        return Err(document.broken(line, message));
    }
    let chart = Chart::stated(stated).map_err(|problem| {
        let field = problem.split(':').next().unwrap_or_default();
        let line = document.line(&["source", "chart", field]);
        document.broken(line, format!("spec.source.chart.{problem}"))
    })?;
    Ok(Origin {
        repository: stated.repository.clone(),
        reference: None,
        chart: Some(chart),
    })
}

/// A patch says itself what it does, or names a file beside this one that does: also when the manifests are in another
/// repository.
fn patches(
    target: &TargetSpec,
    index: usize,
    document: &Document,
) -> Result<Vec<patch::Stated>, Broken> {
    let stated = target.patches.iter().enumerate().map(|(number, stated)| {
        let at = |field: &str| {
            let (index, number) = (index.to_string(), number.to_string());
            document.line(&["targets", &index, "patches", &number, field])
        };
        let broken = |line: u32, why: &str| {
            let message = format!("spec.targets[{index}].patches[{number}]: {why}");
            Err(document.broken(line, message))
        };
        let text = match (&stated.patch, &stated.path) {
            (Some(text), None) => {
                // A block begins at its first line that is not empty.
                let empty = text.len() - text.trim_start_matches('\n').len();
                let empty = u32::try_from(empty).unwrap_or_default();
                let first = at("patch").saturating_sub(empty);
                let first = Location::new(document.file.as_str(), first);
                patch::Text::Inline(text.clone(), first)
            }
            (None, Some(path)) => match join(split(&document.file).0, path) {
                Ok(path) => patch::Text::File(path),
                Err(why) => return broken(at("path"), &format!("path: {why}")),
            },
            (None, None) => return broken(at(""), "needs a patch, or the path of one"),
            (Some(_), Some(_)) => {
                return broken(at("path"), "has a patch and a path: take one out");
            }
        };
        Ok(patch::Stated {
            target: stated.target.clone(),
            text,
            location: Location::new(document.file.as_str(), at("")),
        })
    });
    stated.collect()
}

fn dependencies(
    spec: &ApplicationSpec,
    document: &Document,
) -> BTreeMap<ApplicationName, Location> {
    let lines = spec.depends_on.iter().enumerate().map(|(index, name)| {
        let line = document.line(&["dependsOn", &index.to_string()]);
        (name.clone(), Location::new(document.file.as_str(), line))
    });
    lines.collect()
}

fn settings(spec: &ApplicationSpec, document: &Document) -> Result<Settings, Broken> {
    let namespace = spec.namespace.clone().unwrap_or_default();
    let service_account = match spec.service_account.as_deref() {
        None => String::new(),
        Some(account) if account.contains('/') => account.to_owned(),
        Some(account) if !namespace.is_empty() => format!("{namespace}/{account}"),
        Some(_) => {
            let line = document.line(&["serviceAccount"]);
            let message =
                "spec.serviceAccount: write NAMESPACE/NAME, or give the application a namespace";
            return Err(document.broken(line, message.into()));
        }
    };
    Ok(Settings {
        namespace,
        prune: spec.sync.prune,
        self_heal: spec.sync.self_heal,
        depends_on: spec.depends_on.clone(),
        service_account,
        adoption: spec.adoption,
        additions: spec.sync.additions.unwrap_or_default(),
        prune_budget: prune_budget(spec, document)?,
        health: health(spec, document)?,
        detect_only: spec.sync.detect_only,
        replace: spec.sync.replace,
        take_over: spec.take_over.clone(),
        ignore: ignore(spec, document)?,
    })
}

/// A rule that ignores nothing, or everything, is a slip of the pen.
fn ignore(spec: &ApplicationSpec, document: &Document) -> Result<Vec<IgnoreRule>, Broken> {
    for (index, rule) in spec.ignore_differences.iter().enumerate() {
        let wrong = |field: &str, what: &str| {
            let line = document.line(&["ignoreDifferences", &index.to_string(), field]);
            let message = format!("spec.ignoreDifferences[{index}]{what}");
            Err(document.broken(line, message))
        };
        let pointers = rule.json_pointers.iter();
        let lists = rule.list_items.iter().map(|item| &item.list);
        if let Some(pointer) = pointers.chain(lists).find(|it| !it.starts_with('/')) {
            return wrong(
                "jsonPointers",
                &format!(": {pointer:?} is no JSON pointer, such as /spec/replicas"),
            );
        }
        if rule.managers.iter().any(|manager| manager == "muster") {
            return wrong("managers", ": muster is our own field manager");
        }
        if rule.json_pointers.is_empty() && rule.list_items.is_empty() && rule.managers.is_empty() {
            return wrong(
                "",
                " ignores nothing: give it jsonPointers, listItems or managers",
            );
        }
    }
    Ok(spec.ignore_differences.clone())
}

fn health(spec: &ApplicationSpec, document: &Document) -> Result<Vec<HealthRule>, Broken> {
    for (index, rule) in spec.health.iter().enumerate() {
        if let Err(why) = rule.compile() {
            let line = document.line(&["health", &index.to_string()]);
            return Err(document.broken(line, format!("spec.health[{index}]: {why}")));
        }
    }
    Ok(spec.health.clone())
}

fn prune_budget(spec: &ApplicationSpec, document: &Document) -> Result<PruneBudget, Broken> {
    let (stated, usual) = (spec.sync.prune_budget.clone(), PruneBudget::default());
    let stated = stated.unwrap_or_default();
    let budget = PruneBudget {
        percent: stated.percent.unwrap_or(usual.percent),
        objects: stated.objects.unwrap_or(usual.objects),
    };
    if budget.percent > 100 {
        let line = document.line(&["sync", "pruneBudget", "percent"]);
        let message = "spec.sync.pruneBudget.percent: is of 100";
        return Err(document.broken(line, message.into()));
    }
    Ok(budget)
}

/// A path that is written in a file of `folder`, from the root of the repository.
pub(crate) fn join(folder: &str, path: &str) -> Result<String, &'static str> {
    if path.starts_with('/') {
        return Err("must be relative to the folder of this file");
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or("leads out of the repository")?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_and_stay_in_the_repository() {
        let cases = [
            ("", "", Ok("")),
            ("a/b", "", Ok("a/b")),
            ("a/b", "./c/", Ok("a/b/c")),
            ("a/b", "../c", Ok("a/c")),
            ("a", "../..", Err("leads out of the repository")),
            (
                "a",
                "/c",
                Err("must be relative to the folder of this file"),
            ),
        ];
        for (folder, path, joined) in cases {
            assert_eq!(
                join(folder, path).as_deref(),
                joined.as_ref().map(|path| *path),
                "{folder} {path}"
            );
        }
    }
}
