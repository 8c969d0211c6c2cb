//! What waits for a person's word: much that leaves at once, and a repository without any application.

use proptest::prelude::*;

use super::*;

/// Twenty clusters of stage production, and two of stage test.
fn twenty_two() -> Hub {
    let names: Vec<String> = (0..22).map(|n| format!("c{n:02}")).collect();
    let stage = |n: usize| if n < 20 { "production" } else { "test" };
    let members = names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.as_str(), stage(n)));
    Hub::with(&members.collect::<Vec<_>>())
}

/// An application with one object of its own name, on the clusters of these names.
fn on(name: &str, clusters: &[usize]) -> [(String, String); 2] {
    let names: Vec<String> = clusters.iter().map(|n| format!("c{n:02}")).collect();
    let targets = format!(
        "  targets:\n  - name: all\n    clusters: {{names: [{}]}}\n",
        names.join(", ")
    );
    [
        (format!("{name}/muster.yaml"), application(name, &targets)),
        (format!("{name}/x.yaml"), config_map(name, "one")),
    ]
}

impl Hub {
    fn place(&mut self, revision: &str, applications: &[(&str, &[usize])]) -> Decision {
        let files: Vec<_> = applications
            .iter()
            .flat_map(|(name, clusters)| on(name, clusters))
            .collect();
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.clone()))
            .collect();
        self.commit(revision, &files).unwrap()
    }
}

/// On how many clusters an application runs.
fn runs(decision: &Decision, name: &str) -> usize {
    let clusters = decision.clusters.values();
    let runs = |cluster: &&ClusterDecision| {
        cluster
            .placements
            .iter()
            .any(|at| at.application.name.as_str() == name)
    };
    clusters.filter(runs).count()
}

fn upto(n: usize) -> Vec<usize> {
    (0..n).collect()
}

#[test]
fn an_application_that_leaves_many_clusters_stays_until_a_person_approves_exactly_that() {
    let mut hub = twenty_two();
    let (all, few) = (upto(20), upto(1));
    hub.place("r1", &[("web", &all), ("other", &few)]);
    let decision = hub.place("r2", &[("other", &few)]);
    assert_eq!(runs(&decision, "web"), 20);
    assert!(!decision.complete && decision.problems.is_empty());
    let [waiting] = &decision.waiting[..] else {
        panic!("{:?}", decision.waiting)
    };
    assert_eq!(waiting.clusters.len(), 20);
    assert_eq!(
        waiting.message,
        "application web would leave 20 of 20 clusters: it stays there until `muster approve web`, or until Git places it there again"
    );
    assert_eq!(shown(&decision, "c05"), "web/web=one");
    assert!(decision.applications.contains_key("web"));

    // A word for another loss is none for this one.
    let other = Approval {
        digest: Digest::of(["another loss"]),
        ..waiting.approval.clone()
    };
    hub.approved.insert(other);
    assert_eq!(runs(&hub.place("r2", &[("other", &few)]), "web"), 20);
    hub.approved.insert(waiting.approval.clone());
    let decision = hub.place("r2", &[("other", &few)]);
    assert_eq!((runs(&decision, "web"), runs(&decision, "other")), (0, 1));
    assert!(decision.complete && decision.waiting.is_empty());
    assert!(!decision.applications.contains_key("web"));
}

#[test]
fn what_waits_goes_on_waiting_whatever_else_is_committed_and_ends_when_git_takes_it_back() {
    let mut hub = twenty_two();
    let (all, most) = (upto(20), upto(4));
    hub.place("r1", &[("web", &all), ("a", &all), ("b", &all)]);
    let before = hub.place("r2", &[("web", &most), ("a", &all), ("b", &all)]);
    assert_eq!((runs(&before, "web"), before.waiting.len()), (20, 1));
    // Less than the guard asks about, and yet part of what waits.
    let partly = hub.place("r3", &[("web", &upto(15)), ("a", &all), ("b", &all)]);
    assert_eq!(
        (runs(&partly, "web"), partly.waiting[0].clusters.len()),
        (20, 5)
    );
    assert_ne!(partly.waiting[0].approval, before.waiting[0].approval);
    // What another application loses is counted without it.
    let other = hub.place("r4", &[("web", &upto(15)), ("a", &upto(12)), ("b", &all)]);
    assert_eq!((runs(&other, "web"), runs(&other, "a")), (20, 12));
    let back = hub.place("r5", &[("web", &all), ("a", &upto(12)), ("b", &all)]);
    assert!(back.complete && runs(&back, "web") == 20);
    // And counts as nothing lost afterwards.
    let few = hub.place("r6", &[("web", &upto(15)), ("a", &upto(12)), ("b", &all)]);
    assert_eq!(runs(&few, "web"), 15);
}

#[test]
fn both_limits_must_be_passed_for_one_application_or_for_all_together() {
    let names: Vec<String> = (0..20).map(|n| format!("app-{n:02}")).collect();
    // Clusters before, clusters after, applications that change so, of twenty; whether they wait.
    for (before, after, changed, waits) in [
        (10, 0, 1, false),
        (11, 0, 1, true),
        (20, 10, 1, false),
        (20, 9, 1, true),
        // 3 of 20 clusters each, the same ones: too few clusters.
        (20, 17, 20, false),
        // Ten clusters and all that is there.
        (10, 0, 19, false),
    ] {
        let mut hub = twenty_two();
        let state = |clusters: Vec<usize>| -> Vec<(&str, Vec<usize>)> {
            let names = names.iter().enumerate();
            names
                .map(|(n, name)| {
                    (
                        name.as_str(),
                        if n < changed {
                            clusters.clone()
                        } else {
                            upto(before)
                        },
                    )
                })
                .collect()
        };
        let place = |hub: &mut Hub, revision: &str, state: &[(&str, Vec<usize>)]| {
            let state: Vec<_> = state
                .iter()
                .map(|(name, on)| (*name, on.as_slice()))
                .collect();
            hub.place(revision, &state)
        };
        place(&mut hub, "r1", &state(upto(before)));
        let decision = place(&mut hub, "r2", &state(upto(after)));
        assert_eq!(
            !decision.waiting.is_empty(),
            waits,
            "{before} -> {after} of {changed}"
        );
    }
}

#[test]
fn many_applications_that_leave_a_few_clusters_each_are_counted_together() {
    let mut hub = twenty_two();
    let names: Vec<String> = (0..4).map(|n| format!("app-{n}")).collect();
    let all = upto(20);
    let everywhere: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), all.as_slice()))
        .collect();
    hub.place("r1", &everywhere);
    // Each leaves four other clusters: 16 clusters and 16 of 80 placements.
    let left: Vec<Vec<usize>> = (0..4)
        .map(|n| all.iter().copied().filter(|at| at / 4 != n).collect())
        .collect();
    let after: Vec<_> = names
        .iter()
        .zip(&left)
        .map(|(name, on)| (name.as_str(), on.as_slice()))
        .collect();
    let decision = hub.place("r2", &after);
    assert_eq!(decision.waiting.len(), 4);
    // A word for one lets that one go; the rest is still waited for, though it would pass alone.
    hub.approved.insert(decision.waiting[0].approval.clone());
    for revision in ["r2", "r3"] {
        let decision = hub.place(revision, &after);
        assert_eq!((runs(&decision, "app-0"), decision.waiting.len()), (16, 3));
    }
}

#[test]
fn an_object_that_moves_to_another_application_waits_with_it() {
    let mut hub = twenty_two();
    let all = upto(20);
    hub.place("r1", &[("web", &all)]);
    // The same object in an application of another name.
    let [document, (_, manifest)] = on("shop", &all);
    let [_, (_, object)] = on("web", &all);
    assert_ne!(manifest, object);
    let files = [
        (document.0.as_str(), document.1.clone()),
        ("shop/x.yaml", object),
    ];
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!((runs(&decision, "web"), runs(&decision, "shop")), (20, 0));
    hub.approved.insert(decision.waiting[0].approval.clone());
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!((runs(&decision, "web"), runs(&decision, "shop")), (0, 20));
}

#[test]
fn a_cluster_that_a_person_removes_is_no_loss() {
    let mut hub = twenty_two();
    let all = upto(20);
    hub.place("r1", &[("web", &all)]);
    hub.members.retain(|name, _| name.as_str() < "c05");
    let decision = hub.place("r1", &[("web", &all)]);
    assert_eq!((runs(&decision, "web"), decision.waiting.len()), (5, 0));
}

#[test]
fn an_emptied_repository_is_refused_whole_until_a_person_approves_that_very_commit() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let empty = [("README.md", "empty".to_owned())];
    let refused = hub.commit("r2", &empty).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "commit r2 holds no Application at all, where there were 2: nothing is changed or removed until `muster approve --emptied r2`"
    );
    hub.approved.extend(refused.approvals());
    assert!(hub.commit("r3", &empty).is_err());
    let decision = hub.commit("r2", &empty).unwrap();
    assert_eq!(shown(&decision, "one"), "");
    assert!(decision.complete);
    assert!(
        hub.commit("r3", &empty).is_ok(),
        "there is nothing left to lose"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Bit n of an application: it is placed on cluster n. Some of what waits is approved after each commit.
    #[test]
    fn nothing_past_the_guard_is_lost_without_a_word(
        history in prop::collection::vec((prop::array::uniform3(any::<u32>()), any::<u8>()), 1..6),
    ) {
        let mut hub = twenty_two();
        let names = ["a", "b", "c"];
        for (step, (bits, words)) in history.into_iter().enumerate() {
            // Often the same as all clusters, so that there is much to lose.
            let placed = bits.map(|bits| match bits % 3 {
                0 => upto(22),
                1 => Vec::new(),
                _ => (0..22).filter(|n| bits & (4 << n) != 0).collect(),
            });
            let state: Vec<_> = names.iter().zip(&placed).filter(|(_, on)| !on.is_empty()).map(|(name, on)| (*name, on.as_slice())).collect();
            if state.is_empty() {
                continue;
            }
            // Decided twice: before and after people say a word.
            for turn in 0..2 {
                let before = hub.last_good.clusters().clone();
                let decision = hub.place(&format!("r{step}"), &state);
                let (mut lost, mut all, mut on) = (0, 0, std::collections::BTreeSet::new());
                for (name, wanted) in names.iter().zip(&placed) {
                    let was: Vec<_> = before.iter().filter(|(_, placed)| placed.iter().any(|at| at.application.name.as_str() == *name)).map(|(at, _)| at).collect();
                    let is = |at: &ClusterName| decision.clusters[at].placements.iter().any(|here| here.application.name.as_str() == *name);
                    let gone: Vec<_> = was.iter().filter(|at| !is(at)).collect();
                    let is_wanted = |at: &ClusterName| wanted.iter().any(|n| format!("c{n:02}") == at.as_str());
                    prop_assert!(gone.iter().all(|at| !is_wanted(at)), "only what Git gave up goes");
                    let approved = hub.approved.iter().any(|word| word.application.as_str() == *name);
                    if !approved {
                        prop_assert!(gone.len() <= 10 || gone.len() * 10 <= was.len(), "{name} left {} of {}", gone.len(), was.len());
                        lost += gone.len();
                        on.extend(gone.into_iter().map(|at| (*at).clone()));
                    }
                    all += was.len();
                }
                prop_assert!(on.len() <= 10 || lost * 10 <= all, "{lost} of {all} on {} clusters", on.len());
                hub.approved.clear();
                if turn == 0 {
                    let said = decision.waiting.iter().enumerate().filter(|(n, _)| words & (1 << n) != 0);
                    hub.approved.extend(said.map(|(_, waiting)| waiting.approval.clone()));
                }
            }
        }
    }
}
