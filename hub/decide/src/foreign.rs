//! What a repository holds for other tools of its kind: Flux's and Fleet's own resources, and Fleet's `fleet.yaml`.
//!
//! In: what an application writes, and its folder. Out: a note for people, which is no problem. The resources are applied
//! as the objects that they are, and what those tools make of them is not ours to see.

use std::collections::BTreeSet;

use muster_proto::ObjectKey;

use crate::problem::Location;
use crate::render::inside;
use crate::snapshot::Snapshot;

/// How Fleet is told what to make of a folder.
const FLEET_YAML: &str = "fleet.yaml";

/// The notes on an application, and where each thing stands.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// Tool, kind, and its first place.
    objects: BTreeSet<(&'static str, String)>,
    first: Option<Location>,
    unread: BTreeSet<String>,
}

impl Foreign {
    /// Takes an object that is applied in.
    pub(crate) fn object(&mut self, key: &ObjectKey, location: &Location) {
        if let Some(tool) = tool(&key.group) {
            self.objects.insert((tool, key.kind.clone()));
            if self.first.as_ref().is_none_or(|first| location < first) {
                self.first = Some(location.clone());
            }
        }
    }

    /// Takes a folder that is rendered in.
    pub(crate) fn folder(&mut self, snapshot: &Snapshot, folder: &str) {
        let path = inside(folder, FLEET_YAML);
        if snapshot.files.contains_key(&path) {
            self.unread.insert(path);
        }
    }

    /// One sentence, when there is anything to say.
    pub(crate) fn note(&self) -> Option<String> {
        let tools: BTreeSet<&str> = self.objects.iter().map(|(tool, _)| *tool).collect();
        let applied = tools.into_iter().map(|tool| {
            let own = self.objects.iter().filter(|(of, _)| *of == tool);
            let kinds: Vec<&str> = own.map(|(_, kind)| kind.as_str()).collect();
            format!("{tool}'s {}", kinds.join(", "))
        });
        let applied: Vec<String> = applied.collect();
        let applied = self.first.as_ref().map(|first| {
            let applied = applied.join(" and ");
            format!(
                "{applied} are applied as objects ({first}): what comes of them is not shown here"
            )
        });
        let unread = self
            .unread
            .first()
            .map(|path| format!("{path} is for Fleet and is not read"));
        let sentences: Vec<String> = applied.into_iter().chain(unread).collect();
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }
}

/// Whose kinds these are.
fn tool(group: &str) -> Option<&'static str> {
    match group {
        "fleet.cattle.io" => Some("Fleet"),
        group if group.ends_with(".toolkit.fluxcd.io") => Some("Flux"),
        _ => None,
    }
}

/// Whether a document of a folder of manifests is Fleet's word about that folder, and no manifest: Fleet knows the file by
/// its name.
pub(crate) fn is_for_fleet(path: &str, is_object: bool) -> bool {
    !is_object && crate::model::split(path).1 == FLEET_YAML
}

#[cfg(test)]
mod tests {
    use muster_proto::DigestKey;

    use super::*;
    use crate::render::Cache;
    use crate::snapshot::Sources;
    use crate::{Decision, LastGood, Members, Placed, decide, model};

    /// What is decided for an application whose folder holds these, on one cluster.
    fn decided(files: &[(&str, &str)]) -> Decision {
        let document = "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec: {namespace: web}\n";
        let all = files.iter().copied().chain([("muster.yaml", document)]);
        let sources = Sources::from(Snapshot::of("r", all));
        let members: Members = [("eu-1".parse().unwrap(), Default::default())].into();
        let last_good = LastGood::default();
        let placed = Placed::new(model::read(&sources.fleet), &members, &last_good);
        let key = DigestKey::new([1; 32]);
        let approved = BTreeSet::new();
        decide(
            &sources,
            &placed,
            &last_good,
            &approved,
            &key,
            &mut Cache::default(),
        )
        .unwrap()
    }

    fn object(api_version: &str, kind: &str) -> String {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n")
    }

    #[test]
    fn what_other_tools_act_on_is_applied_and_said() {
        let texts = [
            object("source.toolkit.fluxcd.io/v1", "GitRepository"),
            object("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
            object("fleet.cattle.io/v1alpha1", "GitRepo"),
            object("v1", "ConfigMap"),
        ];
        let names = ["c.yaml", "b.yaml", "d.yaml", "a.yaml"];
        let files: Vec<_> = names
            .into_iter()
            .zip(texts.iter().map(String::as_str))
            .collect();
        let decision = decided(&files);
        assert_eq!(decision.problems, []);
        assert!(decision.complete);
        let application = &decision.clusters["eu-1"].placements[0].application;
        assert_eq!(application.objects().len(), 4);
        assert_eq!(
            decision.notes["web"],
            "Fleet's GitRepo and Flux's GitRepository, HelmRelease are applied as objects (b.yaml:1): what comes of them is not shown here"
        );
        assert!(decided(&files[3..]).notes.is_empty());
    }

    #[test]
    fn what_tells_fleet_about_a_folder_is_no_manifest_and_said() {
        let map = object("v1", "ConfigMap");
        let fleet = "defaultNamespace: shop\nhelm: {chart: ./chart}\n";
        let decision = decided(&[
            ("a.yaml", &map),
            ("fleet.yaml", fleet),
            ("b/fleet.yaml", fleet),
        ]);
        assert_eq!(decision.problems, []);
        assert_eq!(
            decision.notes["web"],
            "fleet.yaml is for Fleet and is not read"
        );
        // Any other file must hold objects, and an object may be in a file of any name.
        let decision = decided(&[("a.yaml", &map), ("flet.yaml", fleet)]);
        assert_eq!(
            decision.problems[0].to_string(),
            "flet.yaml:1: a manifest needs an apiVersion"
        );
        let namespace = object("v1", "Namespace");
        let decision = decided(&[("a.yaml", &map), ("fleet.yaml", &namespace)]);
        assert_eq!(
            decision.clusters["eu-1"].placements[0]
                .application
                .objects()
                .len(),
            2
        );
    }
}
