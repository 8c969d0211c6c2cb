//! Properties of deciding: whatever commits come one after the other, nothing is lost.

use proptest::prelude::*;

use super::*;

/// What can happen to an application's folder in a commit.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Gone,
    BrokenDocument,
    BrokenManifest,
    Good(u8),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        1 => Just(Fate::Gone),
        1 => Just(Fate::BrokenDocument),
        2 => Just(Fate::BrokenManifest),
        4 => (0u8..8).prop_map(Fate::Good),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bit n of a good application says whether it holds object n, so objects move between applications.
    #[test]
    fn nothing_is_released_by_a_commit_that_is_broken_anywhere(history in prop::collection::vec((fate(), fate()), 1..6)) {
        let mut hub = Hub::with(&[("one", "test")]);
        for (index, (a, b)) in history.into_iter().enumerate() {
            let mut files: Vec<(String, String)> = Vec::new();
            for (name, fate) in [("a", a), ("b", b)] {
                let document = application(name, "");
                let bits = match fate {
                    Fate::Gone => continue,
                    Fate::BrokenDocument => {
                        files.push((format!("{name}/muster.yaml"), format!("{document}  nonsense: 1\n")));
                        continue;
                    }
                    Fate::BrokenManifest => {
                        files.push((format!("{name}/broken.yaml"), "kind: [".into()));
                        0
                    }
                    Fate::Good(bits) => bits,
                };
                files.push((format!("{name}/muster.yaml"), document));
                for bit in (0..3).filter(|bit| bits & (1 << bit) != 0) {
                    files.push((format!("{name}/o{bit}.yaml"), config_map(&format!("o{bit}"), name)));
                }
            }
            let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
            let Ok(decision) = hub.commit(&format!("r{index}"), &files) else { continue };
            if !decision.complete {
                let held = matches!(decision.clusters["one"].removals, Removals::Held(_));
                prop_assert!(held, "{:?}", problems(&decision));
            }
            let mut seen = std::collections::BTreeSet::new();
            for placement in decision.clusters["one"].placements.iter() {
                for object in placement.application.objects() {
                    prop_assert!(seen.insert(object.key.clone()), "{} is there twice", object.key);
                }
            }
        }
    }
}

/// An application's folder in a commit: its document, the stages of the clusters that take it, and its manifests.
#[derive(Debug, Clone, Copy)]
struct Folder {
    document: Document,
    test: bool,
    production: bool,
    /// Bit n: it holds object n. `None`: it does not render.
    objects: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Document {
    Absent,
    Good,
    UnknownField,
    NoYaml,
}

prop_compose! {
    fn folder()(
        document in prop_oneof![
            2 => Just(Document::Absent),
            8 => Just(Document::Good),
            1 => Just(Document::UnknownField),
            1 => Just(Document::NoYaml),
        ],
        test in prop::bool::weighted(0.8),
        production in prop::bool::weighted(0.8),
        objects in prop_oneof![1 => Just(None), 4 => (1u8..16).prop_map(Some)],
    ) -> Folder {
        Folder { document, test, production, objects }
    }
}

impl Folder {
    fn takes(self, cluster: &str) -> bool {
        match cluster {
            "one" => self.test,
            _ => self.production,
        }
    }

    fn files(self, name: &str, commit: usize) -> Vec<(String, String)> {
        let mut stages = vec!["none"];
        stages.extend(self.test.then_some("test"));
        stages.extend(self.production.then_some("production"));
        let document = application(
            name,
            &format!(
                "  targets:\n  - name: all\n    clusters: {{matchExpressions: [{{key: stage, operator: In, values: [{}]}}]}}\n",
                stages.join(", ")
            ),
        );
        let document = match self.document {
            Document::Absent => return Vec::new(),
            Document::Good => document,
            Document::UnknownField => document + "  nonsense: 1\n",
            Document::NoYaml => "[".into(),
        };
        let mut files = vec![(format!("{name}/muster.yaml"), document)];
        let bits = self.objects.unwrap_or_else(|| {
            files.push((format!("{name}/broken.yaml"), "kind: [".into()));
            0
        });
        for bit in (0..4).filter(|bit| bits & (1 << bit) != 0) {
            let value = format!("{name}-{commit}");
            files.push((
                format!("{name}/o{bit}.yaml"),
                config_map(&format!("o{bit}"), &value),
            ));
        }
        files
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Two clusters and three applications; the inventory is what an agent would have.
    #[test]
    fn no_object_leaves_a_cluster_unless_all_documents_parsed_and_all_concerned_rendered(
        history in prop::collection::vec(prop::array::uniform3(folder()), 1..6),
    ) {
        let mut hub = Hub::with(&[("one", "test"), ("two", "production")]);
        let mut inventories = [("one", Vec::new()), ("two", Vec::new())];
        for (commit, folders) in history.into_iter().enumerate() {
            let named: Vec<_> = ["a", "b", "c"].into_iter().zip(folders).collect();
            let files: Vec<_> = named.iter().flat_map(|(name, folder)| folder.files(name, commit)).collect();
            let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
            let before = hub.last_good.clusters().clone();
            let Ok(decision) = hub.commit(&format!("r{commit}"), &files) else {
                // Refused whole: the last good state stays as it is.
                continue;
            };
            let parsed = folders.iter().all(|folder| matches!(folder.document, Document::Absent | Document::Good));
            for (cluster, inventory) in &mut inventories {
                let decided = &decision.clusters[*cluster];
                let held = matches!(decided.removals, Removals::Held(_));
                let desired: Vec<_> = decided
                    .placements
                    .iter()
                    .flat_map(|placement| placement.application.objects())
                    .map(|object| object.key.clone())
                    .collect();
                let was_there = |name: &str| {
                    let placed = before.iter().find(|(placed, _)| placed.as_str() == *cluster);
                    placed.is_some_and(|(_, placements)| {
                        placements.iter().any(|placement| placement.application.name.as_str() == name)
                    })
                };
                let rendered = named.iter().all(|(name, folder)| {
                    let concerned = folder.takes(cluster) || was_there(name);
                    // A folder that no cluster takes is not rendered, and nothing can have moved to it.
                    let is_rendered = folder.test || folder.production;
                    folder.document != Document::Good || !concerned || !is_rendered || folder.objects.is_some()
                });
                if !held && inventory.iter().any(|key| !desired.contains(key)) {
                    prop_assert!(parsed && rendered, "{cluster} at r{commit}: {:?}", decision.problems);
                }
                if held {
                    inventory.extend(desired);
                } else {
                    *inventory = desired;
                }
            }
        }
    }

    /// Where an application goes depends on what is in its documents, not on the order in which anything came.
    #[test]
    fn placement_does_not_depend_on_the_order_of_clusters_and_documents(
        folders in prop::array::uniform3(folder()),
        order in Just(["a", "b", "c"]).prop_shuffle(),
        turned in any::<bool>(),
    ) {
        let files = |names: &[&'static str]| -> Vec<(String, String)> {
            let folder = |name: &str| folders["abc".find(name).unwrap()];
            names.iter().flat_map(|name| folder(name).files(name, 0)).collect()
        };
        let mut members = [("one", "test"), ("two", "production")];
        let decided = [files(&["a", "b", "c"]), files(&order)].map(|files| {
            let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
            let decision = Hub::with(&members).commit("r", &files);
            if turned {
                members.reverse();
            }
            decision
        });
        prop_assert_eq!(&decided[0], &decided[1]);
    }
}
