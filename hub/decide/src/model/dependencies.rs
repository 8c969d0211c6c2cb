//! What `dependsOn` names. A name that exists nowhere is a mistake, and applications that wait for each other in a
//! circle would wait for ever: both are refused, as a document that can't be read is.
//!
//! An application that exists but is not placed on a cluster holds nobody up there; that is for the agent to see.

use std::collections::BTreeSet;

use muster_proto::ApplicationName;

use super::document::{Broken, Kind};
use super::{Application, Fleet};
use crate::nearest::did_you_mean;

/// Rejects every application that depends on one that exists nowhere, and every one that depends on itself, by
/// whatever way; the error names the way.
pub(super) fn refuse(fleet: &mut Fleet) {
    let wrong = fleet.applications.values();
    let wrong: Vec<_> = wrong
        .filter_map(|application| {
            unknown(fleet, application).or_else(|| circle(fleet, application))
        })
        .collect();
    for (name, broken) in wrong {
        fleet.applications.remove(&name);
        fleet.reject(broken);
    }
}

/// The first dependency that no document declares. One whose document can't be read is not unknown.
fn unknown(fleet: &Fleet, application: &Application) -> Option<(ApplicationName, Broken)> {
    let unknown = application.settings.depends_on.iter().find(|name| {
        !fleet.applications.contains_key(*name) && !fleet.may_hide(Kind::Application, name.as_str())
    })?;
    let others = fleet
        .applications
        .keys()
        .filter(|name| **name != application.name);
    let meant = did_you_mean(unknown.as_str(), others.map(ApplicationName::as_str));
    let message = format!(
        "spec.dependsOn: there is no application {:?}{meant}",
        unknown.as_str()
    );
    Some(rejected(application, unknown, message))
}

/// A way from an application back to itself.
fn circle(fleet: &Fleet, application: &Application) -> Option<(ApplicationName, Broken)> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![&application.name]];
    while let Some(way) = ways.pop() {
        let Some(last) = fleet.applications.get(*way.last()?) else {
            continue;
        };
        for next in &last.settings.depends_on {
            let mut longer = way.clone();
            longer.push(next);
            if *next == application.name {
                let names: Vec<_> = longer.iter().map(|name| name.as_str()).collect();
                let message = format!(
                    "spec.dependsOn goes round in a circle: {}",
                    names.join(" -> ")
                );
                return Some(rejected(application, longer[1], message));
            }
            if seen.insert(next) {
                ways.push(longer);
            }
        }
    }
    None
}

/// The error stands at the dependency's own line.
fn rejected(
    application: &Application,
    dependency: &ApplicationName,
    message: String,
) -> (ApplicationName, Broken) {
    let line = application.dependencies.get(dependency);
    let location = line.unwrap_or(&application.location).clone();
    let name = application.name.clone();
    let broken = Broken::named(Kind::Application, name.as_str(), location, message);
    (name, broken)
}

#[cfg(test)]
mod tests {
    use crate::model::{Fleet, Kind, read};
    use crate::snapshot::Snapshot;

    /// A fleet with an application a folder, each with its dependencies from line 7 on.
    fn fleet(applications: &[(&str, &[&str])]) -> Fleet {
        let files: Vec<_> = applications.iter().map(|(name, on)| {
            let list: String = on.iter().map(|on| format!("  - {on}\n")).collect();
                let on = match on {
                    [] => "  namespace: default\n".to_owned(),
                    _ => format!("  dependsOn:\n{list}"),
                };
            let text = format!("apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {name}\nspec:\n{on}");
            (format!("{name}/muster.yaml"), text)
        }).collect();
        let files = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        read(&Snapshot::of("r", files))
    }

    fn problems(fleet: &Fleet) -> String {
        let shown: Vec<_> = fleet.problems.iter().map(ToString::to_string).collect();
        shown.join("\n")
    }

    fn names(fleet: &Fleet) -> Vec<&str> {
        fleet
            .applications
            .keys()
            .map(|name| name.as_str())
            .collect()
    }

    #[test]
    fn applications_that_wait_for_each_other_are_refused() {
        let fleet = fleet(&[
            ("a", &["b"]),
            ("b", &["a-base", "c"]),
            ("c", &["b"]),
            ("d", &["d"]),
            ("a-base", &[]),
        ]);
        insta::assert_snapshot!(problems(&fleet), @r"
        b/muster.yaml:8: spec.dependsOn goes round in a circle: b -> c -> b
        c/muster.yaml:7: spec.dependsOn goes round in a circle: c -> b -> c
        d/muster.yaml:7: spec.dependsOn goes round in a circle: d -> d
        ");
        assert_eq!(names(&fleet), ["a", "a-base"]);
    }

    #[test]
    fn a_dependency_that_exists_nowhere_names_its_line_and_the_nearest_that_does() {
        let fleet = fleet(&[
            ("web", &["cache", "databse"]),
            ("shop", &["web"]),
            ("database", &[]),
            ("cache", &[]),
            ("job", &["queue"]),
        ]);
        insta::assert_snapshot!(problems(&fleet), @r#"
        job/muster.yaml:7: spec.dependsOn: there is no application "queue"
        web/muster.yaml:8: spec.dependsOn: there is no application "databse"; did you mean "database"?
        "#);
        // What depends on a refused application has a dependency: its document is there.
        assert_eq!(names(&fleet), ["cache", "database", "shop"]);
        assert!(fleet.may_hide(Kind::Application, "web"));
    }

    #[test]
    fn a_dependency_whose_document_is_broken_is_not_unknown() {
        let web = "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec: {dependsOn: [database]}\n";
        let named = "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: database}\nspec: {wrong: 1}\n";
        for broken in [named, "a: [\n"] {
            let fleet = read(&Snapshot::of(
                "r",
                [("web/muster.yaml", web), ("db/muster.yaml", broken)],
            ));
            assert_eq!(names(&fleet), ["web"]);
            assert_eq!(fleet.problems.len(), 1, "{}", problems(&fleet));
        }
    }
}
