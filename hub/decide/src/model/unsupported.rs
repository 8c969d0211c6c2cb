//! What the format has and this version can't do yet. Such an application is told so, with file and line, and keeps
//! what it had: nothing that Git states is silently left out.

use super::document::Document;
use super::spec::{ApplicationSpec, Helm};
use crate::problem::Location;

/// The first thing in the document that can't be done yet.
pub(super) fn first(spec: &ApplicationSpec, document: &Document) -> Option<(Location, String)> {
    let own = [
        (spec.rollout.is_some(), "rollout"),
        (asks(spec.helm.as_ref()), "helm.apiVersions"),
        (spec.sync.retry.is_some(), "sync.retry"),
        (spec.sync.timeout.is_some(), "sync.timeout"),
    ];
    let line = |path: &str| document.line(&path.split('.').collect::<Vec<_>>());
    let own = own
        .into_iter()
        .filter(|(used, _)| *used)
        .map(|(_, field)| (line(field), field.to_owned()));
    let targets = spec.targets.iter().flatten().enumerate();
    let targets = targets.filter(|(_, target)| asks(target.helm.as_ref()));
    let targets = targets.map(|(index, _)| {
        let line = line(&format!("targets.{index}.helm.apiVersions"));
        (line, format!("targets[{index}].helm.apiVersions"))
    });
    let (line, field) = own.chain(targets).min()?;
    let location = Location::new(document.file.as_str(), line);
    Some((
        location,
        format!("spec.{field} is not supported yet: the application keeps what it had"),
    ))
}

/// Agents don't say yet what their clusters serve.
fn asks(helm: Option<&Helm>) -> bool {
    helm.is_some_and(|helm| !helm.api_versions.is_empty())
}
