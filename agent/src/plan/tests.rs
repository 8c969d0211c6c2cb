//! Plans as a table, and what must hold for every plan.

use std::sync::Arc;

use muster_proto::{DesiredApplication, Digest, DigestKey, HealthStatus, Object, Settings};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::discovery::{Catalogue, Kind, Kinds};
use crate::health::Health;
use crate::live::Ours;

const FIELDS: &str = r#"{"f:data":{}}"#;

fn catalogue() -> Catalogue {
    let kind = Kind::config_map();
    let mut catalogue = Catalogue::default();
    catalogue.learn(
        "v1",
        Kinds::from([("ConfigMap".to_owned(), Arc::new(kind))]),
    );
    catalogue
}

fn key(name: u8) -> ObjectKey {
    ObjectKey {
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: "web".into(),
        name: format!("c{name}"),
    }
}

/// Applications by number, each with objects by number and value.
type Shape = BTreeMap<u8, BTreeMap<u8, u8>>;

fn desired(shape: &Shape, settings: &Settings, removals: Removals) -> Desired {
    let digest_key = DigestKey::new([9; 32]);
    let applications = shape.iter().map(|(name, objects)| {
        let objects = objects.iter().map(|(name, value)| {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"v": value.to_string()},
                "metadata": {"name": format!("c{name}"), "namespace": "web"}});
            Arc::new(Object::new(&body, &digest_key).unwrap())
        });
        let name = format!("app-{name}").parse().unwrap();
        Arc::new(DesiredApplication::new(name, String::new(), settings.clone(), objects.collect()))
    });
    Desired::new(1, applications.collect(), removals, Vec::new())
}

fn entry(application: u8, digest: Option<Digest>) -> Entry {
    Entry {
        api_version: "v1".into(),
        application: format!("app-{application}").parse().unwrap(),
        uid: Some("u".into()),
        digest,
        fields: Some(FIELDS.into()),
        ..Entry::planned("v1", &format!("app-{application}").parse().unwrap())
    }
}

fn live() -> LiveObject {
    LiveObject {
        uid: "u".into(),
        resource_version: 1,
        ours: Some(Ours {
            api_version: "v1".into(),
            fields: live::fields_digest(FIELDS),
        }),
        values: None,
        application: None,
        foreign: None,
        left: None,
        take_over: false,
        added: false,
        keep: None,
        applying: Applying::Always,
        terminating: false,
        changed: None,
        health: Health::new(HealthStatus::Current, ""),
        pods: None,
        ruled: None,
    }
}

/// Inventory and sight of a cluster.
#[derive(Debug, Clone, Default)]
struct World {
    entries: BTreeMap<ObjectKey, Entry>,
    sights: BTreeMap<ObjectKey, Sight>,
}

fn resolve(desired: &Desired, world: &World) -> Resolved {
    let owner = |key: &ObjectKey| {
        world
            .entries
            .get(key)
            .map(|entry| entry.application.clone())
    };
    crate::desired::resolved::resolve(desired, &catalogue(), owner, &Resolved::default())
}

fn plan_of(desired: &Desired, world: &World) -> BTreeMap<ObjectKey, Step> {
    let resolved = resolve(desired, world);
    let mut guards = guards(desired, &resolved, &world.entries, None);
    guards.paused = Paused::at(&desired.pauses, muster_proto::Timestamp(0));
    let keys: std::collections::BTreeSet<&ObjectKey> = resolved
        .wanted
        .keys()
        .map(|key| &**key)
        .chain(world.entries.keys())
        .collect();
    let inputs = keys.into_iter().map(|key| {
        let sight = world.sights.get(key).unwrap_or(&Sight::Absent);
        (key, resolved.wanted.get(key), world.entries.get(key), sight)
    });
    plan(inputs, &guards)
}

/// Does everything a plan says, as if every call went well.
fn perform(desired: &Desired, world: &mut World) {
    let resolved = resolve(desired, world);
    for (key, step) in plan_of(desired, world) {
        match step {
            Step::Apply | Step::Repair(_) => {
                let wanted = &resolved.wanted[&key];
                let done = Entry {
                    application: wanted.application.clone(),
                    ..entry(0, Some(wanted.digest))
                };
                world.entries.insert(key.clone(), done);
                world.sights.insert(key, Sight::Present(live()));
            }
            Step::Prune | Step::Abandon(_) => {
                world.entries.remove(&key);
                world.sights.remove(&key);
            }
            _ => {}
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let objects = prop::collection::btree_map(0u8..6, 0u8..3, 0..5);
    prop::collection::btree_map(0u8..3, objects, 0..3)
}

prop_compose! {
    fn world()(
        entries in prop::collection::btree_map(0u8..6, (0u8..3, any::<bool>()), 0..6),
        sights in prop::collection::btree_map(0u8..6, 0u8..4, 0..6),
    ) -> World {
        let sight = |which| match which {
            0 => Sight::Absent,
            1 => Sight::Present(live()),
            2 => Sight::Present(LiveObject { uid: "other".into(), ours: None, ..live() }),
            _ => Sight::Present(LiveObject { ours: None, ..live() }),
        };
        World {
            entries: entries.into_iter().map(|(name, (application, known))| {
                let mut entry = entry(application, None);
                if !known { entry.uid = None; entry.fields = None; }
                (key(name), entry)
            }).collect(),
            sights: sights.into_iter().map(|(name, which)| (key(name), sight(which))).collect(),
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_is_wanted_is_ever_removed(shape in shape(), world in world(), held in any::<bool>()) {
        let removals = if held { Removals::Held("why".into()) } else { Removals::Released };
        let state = desired(&shape, &Settings::default(), removals);
        for (key, step) in plan_of(&state, &world) {
            let removed = matches!(step, Step::Prune | Step::Abandon(_));
            let wanted = shape.values().flatten().any(|(name, _)| super::tests::key(*name) == key);
            prop_assert!(!(removed && (wanted || held && step == Step::Prune)), "{key}: {step:?}");
        }
    }

    #[test]
    fn the_same_inputs_in_any_order_give_the_same_plan(shape in shape(), world in world()) {
        let state = desired(&shape, &Settings::default(), Removals::Released);
        let mut turned = state.clone();
        turned.applications.reverse();
        let turned = Desired::new(1, turned.applications, Removals::Released, Vec::new());
        prop_assert_eq!(plan_of(&state, &world), plan_of(&turned, &world));
    }

    #[test]
    fn an_application_that_only_detects_changes_nothing(shape in shape(), world in world()) {
        let settings = Settings { detect_only: true, ..Settings::default() };
        let state = desired(&shape, &settings, Removals::Released);
        let resolved = resolve(&state, &world);
        for (key, step) in plan_of(&state, &world) {
            let Some(wanted) = resolved.wanted.get(&key) else { continue };
            let sight = world.sights.get(&key).unwrap_or(&Sight::Absent);
            for fields in [None, Some(Vec::new()), Some(vec![".data".to_owned()])] {
                let found = fields.map(|fields| Found { wanted: wanted.digest, fields });
                let step = detect(step.clone(), wanted, sight, found.as_ref());
                prop_assert!(!matches!(step, Step::Apply | Step::Repair(_) | Step::Prune | Step::Abandon(_)), "{key}: {step:?}");
            }
        }
    }

    #[test]
    fn a_pause_stops_every_write_for_its_application_and_none_for_others(shape in shape(), world in world()) {
        let state = desired(&shape, &Settings::default(), Removals::Released);
        let pause = muster_proto::Pause {
            application: "app-1".parse().unwrap(),
            until: muster_proto::Timestamp(1),
            since: muster_proto::Timestamp(0),
            by: "anna".into(),
            reason: String::new(),
        };
        let before = plan_of(&state, &world);
        let resolved = resolve(&state, &world);
        for (key, step) in plan_of(&state.with_pauses(vec![pause.clone()]), &world) {
            let wanted = resolved.wanted.get(&key);
            let paused = owners(wanted, world.entries.get(&key)).any(|name| *name == pause.application);
            if paused {
                prop_assert!(!matches!(step, Step::Apply | Step::Repair(_) | Step::Prune), "{key}: {step:?}");
            } else {
                prop_assert_eq!(&step, &before[&key], "{}", key);
            }
        }
    }

    #[test]
    fn what_is_as_desired_is_so_under_any_guard_and_pause(shape in shape(), world in world(), applied in any::<bool>()) {
        let state = desired(&shape, &Settings::default(), Removals::Released);
        let mut world = world;
        if applied {
            perform(&state, &mut world);
            perform(&state, &mut world);
        }
        let in_sync = |plan: BTreeMap<ObjectKey, Step>| -> Vec<ObjectKey> {
            plan.into_iter().filter(|(_, step)| *step == Step::InSync).map(|(key, _)| key).collect()
        };
        let pauses = (0..3).map(|name| muster_proto::Pause {
            application: format!("app-{name}").parse().unwrap(),
            until: muster_proto::Timestamp(1),
            since: muster_proto::Timestamp(0),
            by: "anna".into(),
            reason: String::new(),
        });
        let held = desired(&shape, &Settings::default(), Removals::Held("why".into())).with_pauses(pauses.collect());
        prop_assert_eq!(in_sync(plan_of(&state, &world)), in_sync(plan_of(&held, &world)));
    }

    #[test]
    fn after_a_perfect_apply_there_is_nothing_to_do(shape in shape(), world in world()) {
        let state = desired(&shape, &Settings::default(), Removals::Released);
        let mut world = world;
        perform(&state, &mut world);
        perform(&state, &mut world);
        for (key, step) in plan_of(&state, &world) {
            prop_assert!(!matches!(step, Step::Apply | Step::Repair(_) | Step::Prune | Step::Abandon(_) | Step::Look), "{key}: {step:?}");
        }
    }
}

fn one(step_of: impl FnOnce(&mut Settings, &mut World)) -> Step {
    one_of(Settings::default(), step_of)
}

/// Of an object that was applied with these settings.
fn one_of(mut settings: Settings, step_of: impl FnOnce(&mut Settings, &mut World)) -> Step {
    let mut world = World::default();
    let shape = Shape::from([(0, BTreeMap::from([(0, 0)]))]);
    let state = desired(&shape, &settings, Removals::Released);
    perform(&state, &mut world);
    step_of(&mut settings, &mut world);
    plan_of(&desired(&shape, &settings, Removals::Released), &world)[&key(0)].clone()
}

fn see(world: &mut World, object: LiveObject) {
    world.sights.insert(key(0), Sight::Present(object));
}

#[test]
fn drift_is_repaired_or_left_as_the_application_says() {
    assert_eq!(one(|_, _| {}), Step::InSync);
    let changed = || LiveObject {
        ours: None,
        ..live()
    };
    assert_eq!(
        one(|_, world| see(world, changed())),
        Step::Repair(DriftKind::Changed)
    );
    assert_eq!(
        one(|_, world| {
            world.sights.insert(key(0), Sight::Absent);
        }),
        Step::Repair(DriftKind::Missing)
    );
    // The same fields with other values: only where the values of both times are known.
    let values = |text: &str| Some(Digest::of([text]));
    for (kept, now, step) in [
        (values("a"), values("b"), Step::Repair(DriftKind::Changed)),
        (values("a"), values("a"), Step::InSync),
        (values("a"), None, Step::InSync),
        (None, values("b"), Step::InSync),
    ] {
        let rewritten = |_: &mut Settings, world: &mut World| {
            let entry = world.entries.get_mut(&key(0)).expect("it was applied");
            entry.values = kept;
            see(
                world,
                LiveObject {
                    values: now,
                    ..live()
                },
            );
        };
        assert_eq!(one(rewritten), step);
    }
    let added = || LiveObject {
        added: true,
        ..live()
    };
    assert_eq!(
        one(|_, world| see(world, added())),
        Step::Repair(DriftKind::Added)
    );
    let reported = Settings {
        additions: Additions::Report,
        ..Settings::default()
    };
    let step = one_of(reported, |_, world| see(world, added()));
    assert_eq!(step, Step::Leave(DriftKind::Added));
    // What becomes of what others write is looked at anew when that changes.
    let report = |settings: &mut Settings, _: &mut World| settings.additions = Additions::Report;
    assert_eq!(one(report), Step::Apply);
    let take_over = |settings: &mut Settings, _: &mut World| settings.take_over = vec!["x".into()];
    assert_eq!(one(take_over), Step::Apply);
    let off = |settings: &mut Settings, world: &mut World| {
        settings.self_heal = false;
        see(world, changed());
    };
    assert_eq!(one(off), Step::Leave(DriftKind::Changed));
}

#[test]
fn an_unknown_digest_is_applied_again_and_another_object_of_the_name_is_looked_at() {
    let forget =
        |_: &mut Settings, world: &mut World| world.entries.get_mut(&key(0)).unwrap().digest = None;
    assert_eq!(one(forget), Step::Apply);
    let stranger = LiveObject {
        uid: "other".into(),
        ours: None,
        foreign: Some("Helm release x manages it".into()),
        ..live()
    };
    assert!(
        matches!(one(|_, world| see(world, stranger)), Step::Conflict(why) if why.starts_with("Helm release x"))
    );
}

#[test]
fn what_another_tool_marked_and_changed_is_a_conflict_and_its_mark_alone_is_none() {
    let flux = "Flux Kustomization shop manages it";
    let marked = |changed: bool| LiveObject {
        ours: live().ours.filter(|_| !changed),
        foreign: Some(flux.into()),
        ..live()
    };
    let git_moved = |_: &mut Settings, world: &mut World| {
        world.entries.get_mut(&key(0)).unwrap().digest = Some(Digest::of(["before"]));
    };
    let off = |settings: &mut Settings, _: &mut World| settings.self_heal = false;
    let nothing = |_: &mut Settings, _: &mut World| {};
    let also: [fn(&mut Settings, &mut World); 3] = [nothing, git_moved, off];
    let wants = [Step::InSync, Step::Apply, Step::InSync];
    for (also, want) in also.into_iter().zip(wants) {
        let step = |changed| {
            one(|settings, world| {
                see(world, marked(changed));
                also(settings, world);
            })
        };
        assert_eq!(step(false), want);
        let told = format!("{flux}: take it out of one of the two");
        assert_eq!(step(true), Step::Conflict(told));
    }
}

#[test]
fn a_mark_that_git_states_is_nobody_elses_on_what_is_ours() {
    let mut desired = desired(
        &Shape::from([(0, BTreeMap::from([(0, 1)]))]),
        &Settings::default(),
        Removals::Released,
    );
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c0", "namespace": "web",
        "labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}});
    let object = Arc::new(Object::new(&body, &DigestKey::new([9; 32])).unwrap());
    let name = "app-0".parse().unwrap();
    let application =
        DesiredApplication::new(name, String::new(), Settings::default(), vec![object]);
    desired = Desired::new(1, vec![Arc::new(application)], desired.removals, Vec::new());
    let step = |by: &str, uid: &str, ours: bool| {
        let mut world = World::default();
        let entry = Entry {
            uid: Some("u".into()),
            ..entry(0, Some(Digest::of(["before"])))
        };
        world.entries.insert(key(0), entry);
        let object = LiveObject {
            uid: uid.into(),
            ours: live().ours.filter(|_| ours),
            foreign: Some(format!("Flux Kustomization {by} manages it")),
            ..live()
        };
        see(&mut world, object);
        plan_of(&desired, &world).remove(&key(0)).unwrap()
    };
    assert_eq!(step("shop", "u", false), Step::Apply);
    // Our first apply, whose answer never came.
    assert_eq!(step("shop", "new", true), Step::Apply);
    for (by, uid, ours) in [("other", "u", false), ("shop", "new", false)] {
        let step = step(by, uid, ours);
        assert!(matches!(step, Step::Conflict(_)), "{by} {uid}: {step:?}");
    }
}

#[test]
fn what_our_lost_apply_made_moves_between_our_applications_and_nobody_elses_does() {
    // Application 1 wrote it ahead and never heard of it; now application 0 wants it.
    let moved = |label: &str, ours: bool| {
        one(|_, world| {
            let entry = Entry::planned("v1", &"app-1".parse().unwrap());
            world.entries.insert(key(0), entry);
            let object = LiveObject {
                application: Some(label.into()),
                ours: live().ours.filter(|_| ours),
                ..live()
            };
            see(world, object);
        })
    };
    assert_eq!(moved("app-1", true), Step::Apply);
    for (label, ours) in [("app-2", true), ("app-1", false)] {
        assert!(matches!(moved(label, ours), Step::Conflict(_)), "{label}");
    }
}

#[test]
fn a_mark_keeps_an_object_from_being_applied() {
    let exempt = |step| match step {
        Step::Exempt(mark) => mark,
        other => panic!("{other:?}"),
    };
    let marked = |applying: Applying, uid: &str| LiveObject {
        uid: uid.into(),
        applying,
        ours: None,
        ..live()
    };
    let disabled = one(|_, world| see(world, marked(Applying::Disabled, "u")));
    assert_eq!(exempt(disabled), "muster.dev/apply: disabled");
    // Whoever made it: once it is there it is left alone.
    let created = one(|_, world| see(world, marked(Applying::CreateOnly, "other")));
    assert_eq!(exempt(created), "muster.dev/apply: create-only");
}

#[test]
fn a_mark_of_git_counts_before_the_object_is_there() {
    let body = |mark: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c0", "namespace": "web", "annotations": {"muster.dev/apply": mark}}})
    };
    let step_of = |mark: &str, world: &World| {
        let object = Arc::new(Object::new(&body(mark), &DigestKey::new([9; 32])).unwrap());
        let name = "app-0".parse().unwrap();
        let settings = Settings::default();
        let application = DesiredApplication::new(name, String::new(), settings, vec![object]);
        let state = Desired::new(
            1,
            vec![Arc::new(application)],
            Removals::Released,
            Vec::new(),
        );
        plan_of(&state, world)[&key(0)].clone()
    };
    let (absent, mut there) = (World::default(), World::default());
    see(&mut there, live());
    assert!(matches!(step_of("disabled", &absent), Step::Exempt(_)));
    assert_eq!(step_of("create-only", &absent), Step::Apply);
    assert!(matches!(step_of("create-only", &there), Step::Exempt(_)));
    assert!(matches!(step_of("no", &there), Step::Refused(why) if why.contains("no known word")));
}

fn gone(shape: &Shape, settings: &Settings, removals: Removals, object: LiveObject) -> Step {
    let mut world = World::default();
    world.entries.insert(key(5), entry(0, None));
    world.sights.insert(key(5), Sight::Present(object));
    plan_of(&desired(shape, settings, removals), &world)[&key(5)].clone()
}

#[test]
fn what_left_git_goes_unless_something_holds_it() {
    let shape = Shape::from([(0, BTreeMap::new())]);
    let settings = Settings::default();
    assert_eq!(
        gone(&shape, &settings, Removals::Released, live()),
        Step::Prune
    );
    assert_eq!(
        gone(&Shape::new(), &settings, Removals::Released, live()),
        Step::Prune
    );
    let held = gone(&shape, &settings, Removals::Held("broken".into()), live());
    assert_eq!(held, Step::Blocked("broken".into()));
    let off = Settings {
        prune: false,
        ..Settings::default()
    };
    assert!(matches!(
        gone(&shape, &off, Removals::Released, live()),
        Step::Stays(_)
    ));
    let marked = LiveObject {
        keep: Some("muster.dev/prune: disabled".into()),
        ..live()
    };
    assert!(matches!(
        gone(&shape, &settings, Removals::Released, marked),
        Step::Abandon(_)
    ));
    let strange = LiveObject {
        uid: "other".into(),
        ours: None,
        ..live()
    };
    assert!(matches!(
        gone(&shape, &settings, Removals::Released, strange),
        Step::Abandon(_)
    ));
}

#[test]
fn an_application_that_shrinks_suspiciously_waits_for_a_word() {
    let mut world = World::default();
    for name in 0..12 {
        world.entries.insert(key(name), entry(0, None));
        world.sights.insert(key(name), Sight::Present(live()));
    }
    let shape = Shape::from([(0, BTreeMap::from([(0, 0)]))]);
    let state = desired(&shape, &Settings::default(), Removals::Released);
    assert!(
        matches!(&plan_of(&state, &world)[&key(5)], Step::Unapproved(why) if why.contains("11 objects"))
    );
    let approval = Approval {
        application: "app-0".parse().unwrap(),
        digest: state.applications[0].digest(),
    };
    let approved = Desired::new(
        1,
        state.applications.clone(),
        Removals::Released,
        vec![approval],
    );
    assert_eq!(plan_of(&approved, &world)[&key(5)], Step::Prune);
    // A document that was deleted is intent.
    let removed = desired(&Shape::new(), &Settings::default(), Removals::Released);
    assert_eq!(plan_of(&removed, &world)[&key(5)], Step::Prune);
}

#[test]
fn nothing_goes_while_the_ledger_is_damaged() {
    let state = desired(&Shape::new(), &Settings::default(), Removals::Released);
    let inventory = BTreeMap::from([(key(5), entry(0, None))]);
    let resolved = resolve(&state, &World::default());
    let step_of = |damaged| {
        let guards = guards(&state, &resolved, &inventory, damaged);
        let sight = Sight::Present(live());
        step(&key(5), None, inventory.get(&key(5)), &sight, &guards)
    };
    assert_eq!(step_of(None), Step::Prune);
    assert!(
        matches!(step_of(Some("a shard is missing")), Step::Blocked(why) if why.contains("a shard is missing"))
    );
}

#[test]
fn an_object_of_another_application_is_left_under_every_policy() {
    let other = || LiveObject {
        uid: "other".into(),
        application: Some("app-7".into()),
        ..live()
    };
    for adoption in [Adoption::Always, Adoption::IfEqual, Adoption::Never] {
        let step = one(|settings, world| {
            settings.adoption = adoption;
            see(world, other());
        });
        assert!(matches!(step, Step::Conflict(why) if why.contains("app-7")));
    }
}
