//! What the format has and this version can't do yet. Such an application is told so, with file and line, and keeps
//! what it had: nothing that Git states is silently left out.

use super::document::Document;
use super::spec::{ApplicationSpec, TargetSpec};
use crate::problem::Location;

/// The first thing in the document that can't be done yet.
pub(super) fn first(spec: &ApplicationSpec, document: &Document) -> Option<(Location, String)> {
    let own = [
        (spec.rollout.is_some(), "rollout"),
        (spec.helm.is_some(), "helm"),
        (spec.sync.retry.is_some(), "sync.retry"),
        (spec.sync.timeout.is_some(), "sync.timeout"),
    ];
    let line = |path: &str| document.line(&path.split('.').collect::<Vec<_>>());
    let own = own
        .into_iter()
        .filter(|(used, _)| *used)
        .map(|(_, field)| (line(field), field.to_owned()));
    let targets = spec.targets.iter().flatten().enumerate();
    let targets = targets.flat_map(|(index, target)| {
        in_target(target).map(move |field| {
            let line = line(&format!("targets.{index}.{field}"));
            (line, format!("targets[{index}].{field}"))
        })
    });
    let (line, field) = own.chain(targets).min()?;
    let location = Location::new(document.file.as_str(), line);
    Some((
        location,
        format!("spec.{field} is not supported yet: the application keeps what it had"),
    ))
}

fn in_target(target: &TargetSpec) -> impl Iterator<Item = &'static str> {
    let used = [(target.helm.is_some(), "helm")];
    used.into_iter()
        .filter(|(used, _)| *used)
        .map(|(_, field)| field)
}
