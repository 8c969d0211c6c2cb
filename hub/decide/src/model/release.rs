//! `helm` of an application and of a target, laid over each other: how a chart is released on the clusters of a target.

use std::collections::BTreeSet;

use super::spec::Helm;
use crate::problem::Location;

/// How a chart is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Name of the release.
    pub name: String,
    /// Later ones win.
    pub values: Vec<Values>,
    /// API versions that the chart asks for, where the cluster serves them.
    pub api_versions: BTreeSet<String>,
    /// The first rendering stays.
    pub keep_first: bool,
    /// Where `helm` is stated, if it is: only charts have it.
    pub stated: Option<Location>,
}

/// Values of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// A file of the fleet repository, from its root.
    File {
        /// Its path.
        path: String,
        /// Where it is named.
        location: Location,
    },
    /// Stated in the document: a JSON object.
    Stated(String),
}

/// Lays what a target states over what its application states: each time files first, then values.
///
/// `file` finds a value file by the path that is written and its field.
pub(super) fn release<E>(
    application: &str,
    stated: [Option<(&Helm, Location)>; 2],
    mut file: impl FnMut(usize, usize, &str) -> Result<(String, Location), E>,
) -> Result<Release, E> {
    let mut release = Release {
        name: application.to_owned(),
        values: Vec::new(),
        api_versions: BTreeSet::new(),
        keep_first: false,
        stated: None,
    };
    for (level, (helm, location)) in stated
        .into_iter()
        .enumerate()
        .filter_map(|(level, stated)| Some((level, stated?)))
    {
        release.stated = Some(location);
        if let Some(name) = &helm.release_name {
            release.name.clone_from(name);
        }
        for (index, written) in helm.value_files.iter().enumerate() {
            let (path, location) = file(level, index, written)?;
            release.values.push(Values::File { path, location });
        }
        if !helm.values.is_empty() {
            let values = serde_json::Value::Object(helm.values.clone());
            release.values.push(Values::Stated(values.to_string()));
        }
        release
            .api_versions
            .extend(helm.api_versions.iter().cloned());
        release.keep_first |= helm.keep_first;
    }
    Ok(release)
}
