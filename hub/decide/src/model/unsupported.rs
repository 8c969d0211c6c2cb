//! What the format has and this version can't do yet. Such an application is told so, with file and line, and keeps
//! what it had: nothing that Git states is silently left out.

use super::document::Document;
use super::spec::ApplicationSpec;
use crate::problem::Location;

/// The first thing in the document that can't be done yet.
pub(super) fn first(spec: &ApplicationSpec, document: &Document) -> Option<(Location, String)> {
    let all = [
        (spec.rollout.is_some(), "rollout"),
        (spec.sync.retry.is_some(), "sync.retry"),
        (spec.sync.timeout.is_some(), "sync.timeout"),
    ];
    let line = |path: &str| document.line(&path.split('.').collect::<Vec<_>>());
    let used = all.into_iter().filter(|(used, _)| *used);
    let (line, field) = used.map(|(_, field)| (line(field), field)).min()?;
    let location = Location::new(document.file.as_str(), line);
    Some((
        location,
        format!("spec.{field} is not supported yet: the application keeps what it had"),
    ))
}
