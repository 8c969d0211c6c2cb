//! One object compared: what is told of each field, and that no Secret's value is.

use std::sync::Arc;

use muster_proto::{
    ApplicationName, DigestKey, HealthStatus, IgnoreRule, Object, ObjectStatus, Settings,
    SyncStatus, Timestamp,
};
use proptest::prelude::*;

use super::*;
use crate::desired::resolved;
use crate::discovery::{Catalogue, Kind};
use crate::inventory::Entry;
use crate::live::Sight;

fn kind(api_version: &str, kind: &str) -> Arc<Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
    Arc::new(Kind {
        resource: kube::core::ApiResource::from_gvk(&kind),
        namespaced: true,
        has_status: false,
        listable: true,
        ruled: None,
    })
}

/// An object as the engine knows it.
fn known(stated: &Value, settings: Settings) -> (Known, Wanted) {
    let object = Arc::new(Object::new(stated, &DigestKey::new([1; 32])).unwrap());
    let (version, name) = (object.api_version.clone(), object.key.kind.clone());
    let mut catalogue = Catalogue::default();
    catalogue.learn(&version, [(name.clone(), kind(&version, &name))].into());
    let application: ApplicationName = "shop".parse().unwrap();
    let desired = muster_proto::DesiredApplication::new(
        application.clone(),
        "abc".into(),
        settings,
        vec![object],
    );
    let desired = muster_proto::Desired::new(
        1,
        vec![Arc::new(desired)],
        muster_proto::Removals::Released,
        Vec::new(),
    );
    let placed = resolved::resolve(
        &desired,
        &catalogue,
        |_| None,
        &resolved::Resolved::default(),
    );
    let (key, wanted) = placed.wanted.into_iter().next().expect("it has a place");
    let known = Known {
        key: key.clone(),
        status: ObjectStatus {
            key: (*key).clone(),
            application: application.clone(),
            sync: SyncStatus::Synced,
            health: HealthStatus::Current,
            message: String::new(),
            since: Timestamp(0),
            last_drift: None,
        },
        wanted: Some(wanted.clone()),
        entry: Some(Entry::planned(&version, &application)),
        sight: Sight::Unknown,
        kind: None,
        abandoned: false,
        held: String::new(),
    };
    (known, wanted)
}

fn entry(manager: &str, operation: &str, second: u8, fields: Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": format!("2026-01-01T00:00:{second:02}Z"), "fieldsV1": fields})
}

/// An object that somebody manages.
fn with(mut object: Value, managed: &[Value]) -> Value {
    object["metadata"]["managedFields"] = json!(managed);
    object
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}, "data": data})
}

fn no() -> Failure {
    Failure {
        message: "no".into(),
        ..Failure::default()
    }
}

fn set(names: &[&str]) -> Value {
    let fields = names.iter().map(|name| (format!("f:{name}"), json!({})));
    json!({"f:data": fields.collect::<Map<_, _>>()})
}

fn told(known: &Known, wanted: &Wanted, live: Value, dry: Value) -> v1::ObjectComparison {
    let preview = Preview {
        stated: wanted.object.value(),
        sent: wanted.object.value(),
        live: Some(live),
        outcome: Outcome::Applied(dry),
    };
    of_wanted(known, wanted, &preview, false)
}

/// `.path: live -> desired, how, by whom`.
fn lines(told: &v1::ObjectComparison) -> Vec<String> {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let line = |field: &v1::FieldComparison| {
        format!(
            "{}: {} -> {}, {} by {}",
            field.path,
            or_none(&field.live),
            or_none(&field.desired),
            field.how,
            field.manager
        )
    };
    told.fields.iter().map(line).collect()
}

#[test]
fn a_changed_field_has_both_values_and_who_wrote_and_when() {
    let (known, wanted) = known(&config(json!({"a": "1", "b": "2"})), Settings::default());
    let live = with(
        config(json!({"a": "9", "b": "2"})),
        &[
            entry("muster", "Apply", 1, set(&["b"])),
            entry("kubectl-edit", "Update", 5, set(&["a"])),
        ],
    );
    let dry = with(
        config(json!({"a": "1", "b": "2"})),
        &[entry("muster", "Apply", 9, set(&["a", "b"]))],
    );
    let told = told(&known, &wanted, live, dry);
    assert_eq!(told.change, "update");
    assert_eq!(
        lines(&told),
        [".data.a: \"9\" -> \"1\", changed by kubectl-edit"]
    );
    // 2026-01-01T00:00:05Z.
    assert_eq!(told.fields[0].at_ms, 1_767_225_605_000);
}

#[test]
fn a_field_that_was_taken_out_is_guessed_of_the_newest_other_writer_if_it_was_ever_ours() {
    let (mut known, wanted) = known(&config(json!({"a": "1", "new": "1"})), Settings::default());
    let entry_of_ours = known.entry.as_mut().unwrap();
    entry_of_ours.fields = Some(set(&["a"]).to_string());
    let live = with(
        config(json!({})),
        &[entry(
            "kubectl-patch",
            "Update",
            5,
            json!({"f:metadata": {}}),
        )],
    );
    let dry = with(
        config(json!({"a": "1", "new": "1"})),
        &[entry("muster", "Apply", 9, set(&["a", "new"]))],
    );
    assert_eq!(
        lines(&told(&known, &wanted, live, dry)),
        [
            ".data.a: - -> \"1\", changed by kubectl-patch",
            ".data.new: - -> \"1\", changed by "
        ]
    );
}

#[test]
fn what_a_person_added_would_go_and_what_a_controller_added_stays() {
    let managed = [
        entry("muster", "Apply", 1, set(&["a"])),
        entry("kubectl-edit", "Update", 5, set(&["debug"])),
        entry("controller", "Update", 6, set(&["theirs"])),
    ];
    let live = with(
        config(json!({"a": "1", "debug": "1", "theirs": "1"})),
        &managed,
    );
    let cases = [(Additions::Repair, 1), (Additions::Ignore, 0)];
    for (additions, fields) in cases {
        let settings = Settings {
            additions,
            ..Settings::default()
        };
        let (known, wanted) = known(&config(json!({"a": "1"})), settings);
        let told = told(&known, &wanted, live.clone(), live.clone());
        assert_eq!(told.fields.len(), fields, "{additions:?}");
        assert_eq!(told.change, if fields == 0 { "none" } else { "update" });
        if fields == 1 {
            assert_eq!(
                lines(&told),
                [".data.debug: \"1\" -> -, added by kubectl-edit"]
            );
        }
    }
}

#[test]
fn an_added_item_of_a_list_goes_as_a_whole_and_one_that_others_hold_too_stays() {
    let item = |name: &str, below: Value| {
        let mut below = below;
        below["."] = json!({});
        json!({"f:spec": {"f:containers": {format!("k:{{\"name\":\"{name}\"}}"): below}}})
    };
    let mut value = json!({"spec": {"containers": [{"name": "web", "image": "a"}, {"name": "debug", "image": "b"}]}});
    let all = item("debug", json!({"f:image": {}}));
    let mut kept = value.clone();
    take_out(&mut kept, &all, &item("debug", json!({})));
    assert_eq!(
        kept,
        json!({"spec": {"containers": [{"name": "web", "image": "a"}, {"name": "debug"}]}})
    );
    take_out(&mut value, &all, &item("web", json!({})));
    assert_eq!(
        value,
        json!({"spec": {"containers": [{"name": "web", "image": "a"}]}})
    );
}

#[test]
fn what_a_rule_leaves_to_others_is_shown_as_ignored_and_is_no_change() {
    let rule = IgnoreRule {
        json_pointers: vec!["/data/a".into()],
        ..IgnoreRule::default()
    };
    let settings = Settings {
        ignore: vec![rule],
        ..Settings::default()
    };
    let stated = config(json!({"a": "git", "b": "1"}));
    let (known, wanted) = known(&stated, settings);
    let live = with(
        config(json!({"a": "theirs", "b": "1"})),
        &[
            entry("muster", "Apply", 1, set(&["b"])),
            entry("tuner", "Update", 2, set(&["a"])),
        ],
    );
    let preview = Preview {
        sent: crate::ignore::fit(stated.clone(), &live, wanted.ignore.as_deref()),
        stated,
        outcome: Outcome::Applied(live.clone()),
        live: Some(live),
    };
    let told = of_wanted(&known, &wanted, &preview, false);
    assert_eq!(told.change, "none");
    assert!(!says_nothing(&told));
    assert_eq!(
        lines(&told),
        [".data.a: \"theirs\" -> \"git\", ignored by tuner"]
    );
}

#[test]
fn an_object_that_is_not_there_would_be_created_and_one_that_is_refused_says_why() {
    let (known, wanted) = known(&config(json!({"a": "1"})), Settings::default());
    let preview = |live, outcome| Preview {
        stated: wanted.object.value(),
        sent: wanted.object.value(),
        live,
        outcome,
    };
    let created = preview(None, Outcome::Applied(wanted.object.value()));
    let created = of_wanted(&known, &wanted, &created, false);
    assert_eq!(created.change, "create");
    assert!(
        created.desired.contains("\"a\":\"1\""),
        "{}",
        created.desired
    );
    let live = with(config(json!({"a": "2", "more": "3"})), &[]);
    let refused = preview(Some(live), Outcome::Refused(no()));
    let refused = of_wanted(&known, &wanted, &refused, false);
    assert_eq!(
        (refused.change.as_str(), refused.error.as_str()),
        ("refused", "no")
    );
    assert_eq!(lines(&refused), [".data.a: \"2\" -> \"1\", changed by "]);
}

#[test]
fn of_one_object_the_fields_that_are_as_git_says_are_told_too_and_both_states() {
    let (known, wanted) = known(&config(json!({"a": "1"})), Settings::default());
    let live = with(
        config(json!({"a": "1", "other": "x"})),
        &[entry("muster", "Apply", 1, set(&["a"]))],
    );
    let preview = Preview {
        stated: wanted.object.value(),
        sent: wanted.object.value(),
        live: Some(live.clone()),
        outcome: Outcome::Applied(live),
    };
    let told = of_wanted(&known, &wanted, &preview, true);
    assert_eq!(lines(&told), [".data.a: \"1\" -> \"1\", same by muster"]);
    assert!(told.live.contains("\"other\":\"x\"") && !told.live.contains("managedFields"));
    assert!(told.desired.contains("\"a\":\"1\""));
}

#[test]
fn what_left_git_would_be_deleted_unless_it_is_not_there_or_not_ours() {
    let (mut known, _) = known(&config(json!({})), Settings::default());
    known.wanted = None;
    let change = |known: &Known, live: Option<Value>, blocked: Option<&str>| {
        let extra = Extra {
            live,
            blocked: blocked.map(str::to_owned),
        };
        let told = of_extra(known, &extra, false);
        (told.change, told.held)
    };
    let there = || Some(config(json!({})));
    assert_eq!(
        change(&known, there(), None),
        ("delete".into(), String::new())
    );
    assert_eq!(
        change(&known, there(), Some("in use")),
        ("delete".into(), "in use".into())
    );
    assert_eq!(change(&known, None, None).0, "none");
    known.abandoned = true;
    assert_eq!(change(&known, there(), None).0, "none");
}

proptest! {
    /// Whatever a Secret holds, wherever it differs and whoever wrote it: not one value is told.
    #[test]
    fn no_value_of_a_secret_is_in_any_comparison(
        git in prop::collection::btree_map("[a-c]", "[A-Z]{12}", 0..4),
        live in prop::collection::btree_map("[a-c]", "[A-Z]{12}", 0..4),
        quoted in "[A-Z]{12}",
        refused in any::<bool>(),
        whole in any::<bool>(),
    ) {
        let secret = |data: &std::collections::BTreeMap<String, String>| json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
            "metadata": {"name": "s", "namespace": "shop", "annotations": {"note": quoted}}});
        let stated = secret(&git);
        let (known, wanted) = known(&stated, Settings::default());
        let names: Vec<&str> = live.keys().map(String::as_str).collect();
        let there = with(secret(&live), &[
            entry("muster", "Apply", 1, set(&names[..names.len() / 2])),
            entry("kubectl-edit", "Update", 2, set(&names)),
        ]);
        let git_names: Vec<&str> = git.keys().map(String::as_str).collect();
        let dry = with(stated.clone(), &[entry("muster", "Apply", 3, set(&git_names))]);
        for live_state in [Some(there), None] {
            let preview = Preview {
                stated: stated.clone(),
                sent: stated.clone(),
                live: live_state,
                outcome: match refused {
                    true => Outcome::Refused(no()),
                    false => Outcome::Applied(dry.clone()),
                },
            };
            let told = of_wanted(&known, &wanted, &preview, whole);
            let text = format!("{told:?}");
            for value in git.values().chain(live.values()).chain([&quoted]) {
                prop_assert!(!text.contains(value.as_str()), "{value} is in {text}");
            }
            let differs = git != live;
            prop_assert!(!differs || told.change != "none");
        }
    }
}
