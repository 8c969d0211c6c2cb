//! The example fleet (`deploy/example-fleet`) inside this program, and the edits that the story makes to it.
//!
//! Out: files by path, as a commit takes them. Each application's ConfigMap `settings` says which release it is, so
//! that what Git holds at a revision and what a cluster holds can be compared.

/// One of the three applications.
pub(super) struct Application {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    /// The Deployment that makes it healthy.
    pub(super) deployment: Option<&'static str>,
}

/// By name, as `muster` lists them.
pub(super) const APPLICATIONS: [Application; 3] = [
    Application {
        name: "monitoring",
        namespace: "demo-monitoring",
        deployment: Some("prometheus"),
    },
    Application {
        name: "platform",
        namespace: "demo-platform",
        deployment: None,
    },
    Application {
        name: "web",
        namespace: "demo-web",
        deployment: Some("web"),
    },
];

/// Clusters that the repository names, and their stage; production and staging first, for small fleets.
pub(super) const CLUSTERS: [(&str, &str); 5] = [
    ("eu-prod-1", PRODUCTION),
    ("eu-staging-1", "staging"),
    ("us-prod-1", PRODUCTION),
    ("us-staging-1", "staging"),
    ("dev-1", "development"),
];

/// A cluster that Git does not name: its labels come with its token.
pub(super) const NEWCOMER: (&str, &[&str]) = ("ap-prod-1", &["region=ap", "stage=production"]);

/// The ClusterRole, and its binding, that the example grants to people on call, in every cluster.
pub(super) const ON_CALL: &str = "demo-on-call";

/// The stage whose clusters take a variant of `web` of their own.
pub(super) const PRODUCTION: &str = "production";

/// What production clusters know of their release of `web`.
pub(super) const SETTINGS: &str = "apps/web/production/settings.yaml";

macro_rules! embedded {
    ($($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../deploy/example-fleet/", $path)))),*]
    };
}

/// Every file of the example.
const FILES: &[(&str, &str)] = embedded! {
    "README.md"
    "apps/monitoring/muster.yaml"
    "apps/monitoring/namespace.yaml"
    "apps/monitoring/prometheus.yaml"
    "apps/monitoring/settings.yaml"
    "apps/platform/access.yaml"
    "apps/platform/muster.yaml"
    "apps/platform/namespace.yaml"
    "apps/platform/settings.yaml"
    "apps/web/muster.yaml"
    "apps/web/production/namespace.yaml"
    "apps/web/production/settings.yaml"
    "apps/web/production/web.yaml"
    "apps/web/standard/namespace.yaml"
    "apps/web/standard/settings.yaml"
    "apps/web/standard/web.yaml"
    "clusters/dev-1/muster.yaml"
    "clusters/eu-prod-1/muster.yaml"
    "clusters/eu-staging-1/muster.yaml"
    "clusters/us-prod-1/muster.yaml"
    "clusters/us-staging-1/muster.yaml"
};

/// The example with only these clusters: one that never comes would be shown as missing.
pub(super) fn files<'a>(clusters: &[&str]) -> Vec<(&'a str, &'a str)> {
    let kept = |path: &str| match path.strip_prefix("clusters/") {
        Some(rest) => clusters.iter().any(|name| {
            rest.strip_prefix(name)
                .is_some_and(|end| end.starts_with('/'))
        }),
        None => true,
    };
    let files = FILES.iter().copied();
    files.filter(|(path, _)| kept(path)).collect()
}

/// The second release of `web`, for production.
pub(super) fn second_release() -> (&'static str, String) {
    (SETTINGS, embedded(SETTINGS).replace("\"1\"", "\"2\""))
}

/// A third release with a mistake in one of its two files, and the line of the mistake.
pub(super) fn broken_release() -> ([(&'static str, String); 2], usize) {
    let workload = "apps/web/production/web.yaml";
    let replicas = embedded(workload).replace("replicas: 3", "replicas: 5");
    let settings = embedded(SETTINGS).replace("  release: \"1\"", "\trelease: \"3\"");
    let line = settings.lines().take_while(|line| !line.starts_with('\t'));
    let line = line.count() + 1;
    ([(SETTINGS, settings), (workload, replicas)], line)
}

/// Where an application says which release it is; `target` is the variant that a cluster takes.
pub(super) fn settings_of(application: &str, target: &str) -> String {
    match application {
        "web" => format!("apps/web/{target}/settings.yaml"),
        other => format!("apps/{other}/settings.yaml"),
    }
}

/// The release that such a file states.
pub(super) fn release_in(settings: &str) -> Option<&str> {
    let line = settings
        .lines()
        .find_map(|line| line.trim().strip_prefix("release: "));
    line.map(|value| value.trim_matches('"'))
}

fn embedded(path: &str) -> &'static str {
    let file = FILES.iter().find(|(name, _)| *name == path);
    file.expect("a file of the example").1
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_decide::{File, FileContent, Snapshot};
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Every file below a folder, relative to it.
    fn below(folder: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![folder.to_owned()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let relative = path.strip_prefix(folder).unwrap();
                    found.insert(relative.to_str().unwrap().to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn every_file_of_the_example_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/example-fleet");
        let embedded: BTreeSet<_> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(below(&folder), embedded);
    }

    #[test]
    fn the_example_has_nothing_to_complain_about_and_says_where_everything_goes() {
        let file = |content: &'static str| File {
            oid: String::new(),
            content: FileContent::Bytes(content.into()),
        };
        let files = FILES
            .iter()
            .map(|(path, content)| ((*path).to_owned(), file(content)));
        let snapshot = Snapshot {
            repository: None,
            revision: "r".to_owned(),
            files: files.collect(),
        };
        let fleet = muster_decide::model::read(&snapshot);
        assert_eq!(fleet.problems, []);
        let names: Vec<_> = fleet.applications.keys().map(ToString::to_string).collect();
        assert_eq!(names, APPLICATIONS.map(|application| application.name));
        for (name, stage) in CLUSTERS {
            let labels = &fleet.clusters[name].spec.labels;
            assert_eq!(labels["stage"], stage, "{name}");
        }
    }

    #[test]
    fn every_application_states_its_release_and_edits_change_it() {
        for application in APPLICATIONS {
            for target in ["production", "standard"] {
                let path = settings_of(application.name, target);
                assert_eq!(release_in(embedded(&path)), Some("1"), "{path}");
            }
        }
        assert_eq!(release_in(&second_release().1), Some("2"));
        let ([(_, settings), (_, workload)], line) = broken_release();
        assert_eq!(settings.lines().nth(line - 1), Some("\trelease: \"3\""));
        assert!(workload.contains("replicas: 5"));
    }

    #[test]
    fn a_small_fleet_leaves_the_other_clusters_out() {
        let files = files(&["eu-prod-1"]);
        let clusters = files
            .iter()
            .filter(|(path, _)| path.starts_with("clusters/"));
        assert_eq!(clusters.count(), 1);
        assert_eq!(files.len(), FILES.len() - CLUSTERS.len() + 1);
    }
}
