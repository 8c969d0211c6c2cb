//! The clusters that only a hub knows, as `muster clusters -o json` lists them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use muster_decide::Labels;
use muster_proto::ClusterName;
use muster_proto::wire::v1;
use serde::Deserialize;

use crate::failure::Failure;
use crate::show::words::{REMOVED, REMOVING};

/// What is listed of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listed {
    /// Of its join token and its document together: the list does not tell them apart.
    pub(super) labels: Labels,
    /// Such as `v1.37.2`; empty when its agent never said it.
    pub(super) kubernetes: String,
}

#[derive(Deserialize)]
struct List {
    clusters: Vec<v1::ClusterSummary>,
}

/// Reads a list from a file, or from standard input by the name `-`.
pub(super) fn read(file: &Path) -> Result<BTreeMap<ClusterName, Listed>, Failure> {
    let text = match file.to_str() {
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map(|_| text)
        }
        _ => std::fs::read_to_string(file),
    };
    let shown = file.display();
    let text = text.map_err(|error| {
        Failure::told(format!("the clusters in {shown} can't be read: {error}"))
    })?;
    parse(&text).map_err(|why| {
        Failure::told(format!(
            "{shown} does not list clusters: {why}; write what `muster clusters -o json` prints into it"
        ))
    })
}

fn parse(text: &str) -> Result<BTreeMap<ClusterName, Listed>, String> {
    let list: List = serde_json::from_str(text)
        .map_err(|error| format!("line {} is no JSON with `clusters`", error.line()))?;
    let mut clusters = BTreeMap::new();
    for cluster in list.clusters {
        // What leaves the fleet is not decided for.
        if [REMOVED, REMOVING].contains(&cluster.connection.as_str()) {
            continue;
        }
        let name: ClusterName = cluster
            .name
            .parse()
            .map_err(|error| format!("{:?}: {error}", cluster.name))?;
        let listed = Listed {
            labels: cluster.labels.into_iter().collect(),
            kubernetes: cluster.kubernetes_version,
        };
        clusters.insert(name, listed);
    }
    Ok(clusters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_clusters_is_read_and_those_that_leave_are_left_out() {
        let text = r#"{"clusters": [
            {"name": "eu-1", "labels": {"stage": "prod"}, "kubernetesVersion": "v1.37.2", "connection": "connected"},
            {"name": "new"},
            {"name": "gone", "connection": "removed"}
        ]}"#;
        let clusters = parse(text).unwrap();
        let names: Vec<_> = clusters.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["eu-1", "new"]);
        assert_eq!(clusters["eu-1"].labels["stage"], "prod");
        assert_eq!(clusters["eu-1"].kubernetes, "v1.37.2");
    }

    #[test]
    fn what_is_no_list_is_told() {
        let said =
            ["", "[]", r#"{"clusters": [{"name": "EU_1"}]}"#].map(|text| parse(text).unwrap_err());
        insta::assert_snapshot!(said.join("\n"), @r#"
        line 1 is no JSON with `clusters`
        line 1 is no JSON with `clusters`
        "EU_1": cluster name "EU_1" must be 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit
        "#);
    }
}
