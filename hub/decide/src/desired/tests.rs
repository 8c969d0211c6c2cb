//! What is decided, commit after commit: one fleet that is told a story.

use std::collections::BTreeMap;

use muster_proto::{ClusterName, Content, DigestKey, Removals};

use super::*;
use crate::last_good::{Changes, Rows};
use crate::model::Origin;
use crate::render::Tools;
use crate::snapshot::Snapshot;

mod guarded;
mod histories;
mod targets;

/// A fleet whose hub remembers.
#[derive(Default)]
struct Hub {
    last_good: LastGood,
    cache: Cache,
    members: Members,
    approved: BTreeSet<Approval>,
    others: BTreeMap<Origin, Result<Arc<Snapshot>, String>>,
}

impl Hub {
    fn with(members: &[(&str, &str)]) -> Self {
        let members = members.iter().map(|(name, stage)| {
            let labels = BTreeMap::from([("stage".to_owned(), (*stage).to_owned())]);
            (name.parse::<ClusterName>().unwrap(), Arc::new(labels))
        });
        Self {
            members: members.collect(),
            ..Self::default()
        }
    }

    fn commit(&mut self, revision: &str, files: &[(&str, String)]) -> Result<Decision, Refused> {
        let files = files.iter().map(|(path, text)| (*path, text.as_str()));
        let sources = Sources {
            fleet: Arc::new(Snapshot::of(revision, files)),
            others: self.others.clone(),
        };
        let fleet = self.cache.read(&sources.fleet);
        let key = DigestKey::new([1; 32]);
        let placed = |last_good| Placed::new(fleet.clone(), &self.members, last_good);
        let decision = decide(
            &sources,
            &placed(&self.last_good),
            &self.last_good,
            &self.approved,
            &key,
            &mut self.cache,
        )?;
        // A hub that restarts with this commit decides the same again.
        let stored = decision.last_good.changes_since(&LastGood::default()).put;
        let read_back = LastGood::from_rows(stored);
        assert_eq!(read_back, decision.last_good);
        let again = decide(
            &sources,
            &placed(&read_back),
            &read_back,
            &self.approved,
            &key,
            &mut Cache::knowing(read_back.objects(), Tools::default()),
        )?;
        assert_eq!(again, decision);
        self.last_good = decision.last_good.clone();
        Ok(decision)
    }
}

fn application(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {name}\nspec:\n  namespace: shop\n{rest}"
    )
}

fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  k: {value}\n")
}

/// What runs on a cluster: `application/object=value`, and `held` when removals wait.
fn shown(decision: &Decision, cluster: &str) -> String {
    let cluster = &decision.clusters[cluster];
    let mut shown = Vec::new();
    for placement in cluster.placements.iter() {
        let application = &placement.application;
        if let Content::Keep(_) = application.content {
            shown.push(format!("{} kept", application.name));
        }
        for object in application.objects() {
            let value = object.value()["data"]["k"]
                .as_str()
                .unwrap_or("?")
                .to_owned();
            shown.push(format!("{}/{}={value}", application.name, object.key.name));
        }
    }
    if let Removals::Held(_) = cluster.removals {
        shown.push("held".into());
    }
    shown.join(" ")
}

fn problems(decision: &Decision) -> Vec<String> {
    decision.problems.iter().map(ToString::to_string).collect()
}

fn two() -> Vec<(&'static str, String)> {
    vec![
        ("a/muster.yaml", application("a", "")),
        ("a/x.yaml", config_map("x", "one")),
        ("b/muster.yaml", application("b", "")),
        ("b/w.yaml", config_map("w", "one")),
    ]
}

#[test]
fn first_match_wins_and_clusters_without_a_match_get_nothing() {
    let targets = "  targets:\n  - name: production\n    clusters: {matchLabels: {stage: production}}\n    path: p\n  - clusters: {matchLabels: {stage: test}}\n    path: t\n";
    let files = [
        ("a/muster.yaml", application("a", targets)),
        ("a/p/x.yaml", config_map("x", "gold")),
        ("a/t/x.yaml", config_map("x", "grey")),
    ];
    let mut hub = Hub::with(&[("one", "production"), ("two", "test"), ("three", "other")]);
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=gold");
    assert_eq!(shown(&decision, "two"), "a/x=grey");
    assert_eq!(shown(&decision, "three"), "");
    assert!(decision.complete);
}

#[test]
fn a_broken_rendering_stays_at_its_last_good_and_others_move() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let mut files = two();
    files[1].1 = "kind: [".into();
    files[3].1 = config_map("w", "two");
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=two held");
    assert!(
        problems(&decision)[0].starts_with("a/x.yaml:"),
        "{:?}",
        problems(&decision)
    );
    assert!(!decision.complete);
}

#[test]
fn a_broken_document_keeps_its_application_and_holds_all_removals() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let mut files = two();
    files[0].1 = files[0].1.replace("namespace", "namespce");
    files.truncate(2);
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one held");
    let decision = hub.commit("r3", &two()[..2]).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one");
}

#[test]
fn an_unchanged_application_keeps_the_commit_it_came_with() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let mut files = two();
    files[3].1 = config_map("w", "two");
    let decision = hub.commit("r2", &files).unwrap();
    let revisions = decision.clusters["one"].placements.iter();
    let revisions: Vec<_> = revisions
        .map(|placement| placement.application.revision.as_str())
        .collect();
    assert_eq!(revisions, ["r1", "r2"]);
}

#[test]
fn only_rows_of_what_changed_are_written() {
    let mut hub = Hub::with(&[("one", "test")]);
    let before = hub.commit("r1", &two()).unwrap().last_good;
    let mut files = two();
    files[3].1 = config_map("w", "two");
    let changes = hub
        .commit("r2", &files)
        .unwrap()
        .last_good
        .changes_since(&before);
    // The clusters that run the same now, and what that is.
    let kinds = |keys: &mut dyn Iterator<Item = &String>| {
        let kinds = keys.map(|key| key.split('/').next().unwrap().to_owned());
        kinds.collect::<Vec<_>>()
    };
    let written = kinds(&mut changes.put.documents.keys());
    assert_eq!(written, ["Part", "Placements"]);
    let mut gone = kinds(&mut changes.removed_documents.iter());
    gone.sort();
    assert_eq!(gone, ["Part", "Placements"]);
    assert_eq!(
        (
            changes.put.renderings.len(),
            changes.removed_renderings.len()
        ),
        (1, 1)
    );
    let same = hub.commit("r3", &files).unwrap().last_good;
    assert_eq!(same.changes_since(&hub.last_good), Changes::default());
}

#[test]
fn a_label_that_changes_on_one_of_many_clusters_writes_what_two_groups_hold() {
    let target = |stage: &str| {
        format!("  - {{name: {stage}, clusters: {{matchLabels: {{stage: {stage}}}}}}}\n")
    };
    let targets = format!("  targets:\n{}{}", target("test"), target("production"));
    let mut files = Vec::new();
    let names: Vec<String> = (0..40).map(|n| format!("a{n}")).collect();
    for name in &names {
        files.push((format!("{name}/muster.yaml"), application(name, &targets)));
        files.push((format!("{name}/x.yaml"), config_map(name, "one")));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.clone()))
        .collect();
    let clusters: Vec<String> = (0..50).map(|n| format!("c{n}")).collect();
    let stages = clusters.iter().enumerate();
    let stages = stages.map(|(n, name)| (name.as_str(), ["test", "production"][n % 2]));
    let mut hub = Hub::with(&stages.collect::<Vec<_>>());
    let before = hub.commit("r1", &files).unwrap();
    let stage = |name: &str| BTreeMap::from([("stage".to_owned(), name.to_owned())]);
    hub.members
        .insert("c0".parse().unwrap(), Arc::new(stage("production")));
    let after = hub.commit("r1", &files).unwrap();
    let changes = after.last_good.changes_since(&before.last_good);
    let written: Vec<_> = changes.put.documents.keys().collect();
    assert_eq!(written.len(), 2, "{written:?}");
    assert!(changes.removed_documents.is_empty() && changes.put.renderings.is_empty());
    let placements = |decision: &Decision, name: &str| decision.clusters[name].placements.clone();
    assert!(Arc::ptr_eq(
        &placements(&after, "c0"),
        &placements(&before, "c1")
    ));
    assert!(Arc::ptr_eq(
        &placements(&after, "c2"),
        &placements(&before, "c2")
    ));
}

#[test]
fn rows_of_an_older_store_are_read_and_written_anew() {
    let mut hub = Hub::with(&[("one", "test"), ("two", "test")]);
    let now = hub.commit("r1", &two()).unwrap().last_good;
    let rows = now.changes_since(&LastGood::default()).put;
    assert!(!rows.are_older());
    // As they were written when each application said where it runs.
    let mut older = Rows {
        renderings: rows.renderings.clone(),
        documents: BTreeMap::new(),
    };
    for key in rows.renderings.keys() {
        let row = format!(
            r#"{{"application":{{"location":{{"file":"{0}/muster.yaml","line":1}},"placements":[{{"target":"default","digest":"{1}","clusters":["one","two"]}}]}}}}"#,
            key.application, key.digest
        );
        let row = serde_json::from_str(&row).unwrap();
        older
            .documents
            .insert(format!("Application/{}", key.application), row);
    }
    assert!(older.are_older());
    assert_eq!(LastGood::from_rows(older), now);
}

#[test]
fn an_object_that_moves_to_a_broken_application_is_not_released() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let mut files = two();
    files[1] = ("a/z.yaml", config_map("z", "new"));
    files.push(("b/x.yaml", config_map("x", "one")));
    files.push(("b/broken.yaml", "kind: Nothing\n".into()));
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/z=new b/w=one held");
    files.pop();
    let decision = hub.commit("r3", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/z=new b/w=one b/x=one");
}

#[test]
fn an_application_that_renders_to_nothing_keeps_what_it_had() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let mut files = two();
    files.remove(1);
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=one held");
}

#[test]
fn the_owner_keeps_what_a_newcomer_claims_whatever_their_names() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    // `a` comes first by name, and `b` owns w.
    let mut files = two();
    files.push(("a/w.yaml", config_map("w", "mine")));
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=one held");
    assert_eq!(
        problems(&decision),
        [
            "a/w.yaml:1: ConfigMap shop/w belongs to application b (b/w.yaml:1): application a keeps what it had until one of them gives it up"
        ]
    );
    // Given up by its owner in the same commit it is a move.
    files.remove(3);
    files.push(("b/z.yaml", config_map("z", "new")));
    let decision = hub.commit("r3", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/w=mine a/x=one b/z=new");
}

#[test]
fn what_is_not_supported_keeps_what_it_had_everywhere() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()).unwrap();
    let mut files = two();
    files[0].1 = application("a", "  rollout: careful\n");
    files[1].1 = config_map("x", "two");
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=one held");
}

#[test]
fn an_application_that_fails_leaves_no_cluster_however_often_it_is_decided() {
    let targets = |stages: &str| {
        format!(
            "  targets:\n  - name: all\n    clusters: {{matchExpressions: [{{key: stage, operator: In, values: [{stages}]}}]}}\n"
        )
    };
    let mut hub = Hub::with(&[("one", "production"), ("two", "test")]);
    let mut files = two();
    files[0].1 = application("a", &targets("production, test"));
    hub.commit("r1", &files).unwrap();
    files[0].1 = application("a", &targets("test"));
    files.push(("a/broken.yaml", "kind: [".into()));
    for _ in 0..3 {
        let decision = hub.commit("r2", &files).unwrap();
        assert_eq!(shown(&decision, "one"), "a/x=one b/w=one held");
    }
    files.pop();
    let decision = hub.commit("r3", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "b/w=one");
}

#[test]
fn a_cluster_never_takes_what_was_meant_for_others_because_something_broke() {
    let target = |stage: &str, path: &str| {
        format!("  - clusters: {{matchLabels: {{stage: {stage}}}}}\n    path: {path}\n")
    };
    let (gold, grey) = (target("production", "p"), target("test", "t"));
    let mut files = vec![
        (
            "a/muster.yaml",
            application("a", &format!("  targets:\n{gold}{grey}")),
        ),
        ("a/p/x.yaml", config_map("x", "gold")),
        ("a/t/x.yaml", config_map("x", "grey")),
    ];
    let mut hub = Hub::with(&[("one", "production"), ("two", "test")]);
    hub.commit("r1", &files).unwrap();
    // The targets have no names, and one is put before them while all are broken.
    let first = target("first", "p");
    files[0].1 = application("a", &format!("  targets:\n{first}{gold}{grey}"));
    files[1].1 = "kind: [".into();
    files[2].1 = "kind: [".into();
    let decision = hub.commit("r2", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=gold held");
    assert_eq!(shown(&decision, "two"), "a/x=grey held");
}

#[test]
fn a_claim_is_settled_for_the_applications_of_each_cluster() {
    // `b` and `c` have equal content, so equal digests, and each collides with `a` on another cluster.
    let on = |stage: &str| {
        format!("  targets:\n  - name: all\n    clusters: {{matchLabels: {{stage: {stage}}}}}\n")
    };
    let files = [
        ("a/muster.yaml", application("a", "")),
        ("a/x.yaml", config_map("x", "one")),
        ("b/muster.yaml", application("b", &on("test"))),
        ("b/x.yaml", config_map("x", "two")),
        ("c/muster.yaml", application("c", &on("production"))),
        ("c/x.yaml", config_map("x", "two")),
    ];
    let mut hub = Hub::with(&[("one", "test"), ("two", "production")]);
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one held");
    assert_eq!(shown(&decision, "two"), "a/x=one held");
    assert_eq!(problems(&decision).len(), 2);
}

#[test]
fn clusters_with_the_same_content_share_one_allocation() {
    let mut hub = Hub::with(&[("one", "test"), ("two", "test")]);
    let mut files = two();
    files[3].1 = files[1].1.clone();
    files[2].1 = application("b", "").replace("namespace: shop", "namespace: other");
    let decision = hub.commit("r1", &files).unwrap();
    let [one, two] = ["one", "two"].map(|name| &decision.clusters[name].placements);
    assert!(Arc::ptr_eq(&one[0].application, &two[0].application));
    // Equal objects of different applications, too.
    let objects = |at: usize| &one[at].application.objects()[0];
    assert!(Arc::ptr_eq(objects(0), objects(1)));
    // And with what was decided before a restart.
    hub.cache = Cache::knowing(hub.last_good.objects(), Tools::default());
    files[2].1.push_str("  sync: {selfHeal: false}\n");
    let decision = hub.commit("r2", &files).unwrap();
    let changed = &decision.clusters["one"].placements[1].application;
    assert!(Arc::ptr_eq(&changed.objects()[0], objects(1)));
}

#[test]
fn an_application_of_another_repository_moves_with_that_one_and_stays_while_it_is_away() {
    let mut hub = Hub::with(&[("one", "test")]);
    let repository = "---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {name: shop}\nspec: {url: \"https://example.com/shop.git\"}\n";
    let source = "  source: {repository: shop, path: deploy, ref: {tag: v1}}\n";
    let document = application("a", source) + repository;
    let files = [
        ("apps/muster.yaml", document),
        ("apps/deploy/x.yaml", config_map("x", "not this one")),
        // Another application's home, in the fleet repository only.
        ("deploy/muster.yaml", application("b", "")),
        ("deploy/w.yaml", config_map("w", "one")),
    ];
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(
        problems(&decision),
        ["apps/muster.yaml:7: Repository shop is not fetched yet"]
    );
    assert_eq!(shown(&decision, "one"), "b/w=one held");

    let fleet = crate::model::read(&Snapshot::of(
        "r1",
        files.iter().map(|(path, text)| (*path, text.as_str())),
    ));
    let (origin, of) = fleet.origins().pop_first().unwrap();
    assert_eq!(of.url, "https://example.com/shop.git");
    let at = |revision: &str, text: &str| {
        let files = [
            ("deploy/x.yaml", text),
            ("deploy/muster.yaml", "no document"),
        ];
        let mut snapshot = Snapshot::of(revision, files);
        snapshot.repository = Some("shop".into());
        Ok(Arc::new(snapshot))
    };
    hub.others
        .insert(origin.clone(), at("s1", &config_map("x", "one")));
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=one");
    let revisions = decision.clusters["one"].placements.iter();
    let revisions: Vec<_> = revisions
        .map(|placement| placement.application.revision.as_str())
        .collect();
    assert_eq!(revisions, ["s1", "r1"]);

    hub.others.insert(origin.clone(), at("s2", "kind: ["));
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=one held");
    assert!(problems(&decision)[0].starts_with("shop:deploy/x.yaml:1: not YAML"));

    hub.others.insert(origin, Err("it has no tag v1".into()));
    let decision = hub.commit("r1", &files).unwrap();
    assert_eq!(shown(&decision, "one"), "a/x=one b/w=one held");
    assert_eq!(
        problems(&decision),
        ["apps/muster.yaml:7: Repository shop: it has no tag v1"]
    );
}

#[test]
fn an_empty_commit_after_one_that_was_not_read_whole_is_refused_as_well() {
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()[..2]).unwrap();
    // The only good application leaves, and another's document, which was never good, can't be read.
    let broken = [("b/muster.yaml", application("b", "  nonsense: true\n"))];
    let decision = hub.commit("r2", &broken).unwrap();
    assert_eq!(shown(&decision, "one"), "held");
    assert!(decision.applications.is_empty());

    let refused = hub.commit("r3", &[]).unwrap_err();
    assert_eq!(refused.applications, ["a".parse().unwrap()]);
    hub.approved = refused.approvals().into_iter().collect();
    assert_eq!(shown(&hub.commit("r3", &[]).unwrap(), "one"), "");
    // A commit that is read whole needs no word to let it go for good.
    let mut hub = Hub::with(&[("one", "test")]);
    hub.commit("r1", &two()[..2]).unwrap();
    hub.commit("r2", &broken).unwrap();
    let decision = hub.commit("r3", &two()[2..]).unwrap();
    assert_eq!(shown(&decision, "one"), "b/w=one");
    assert!(decision.complete);
}
