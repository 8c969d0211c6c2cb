//! Stories of two or three managers over one object.

use serde_json::json;

use super::*;

const TABLE: &str = "type t\n\
    \x20apiVersion text\n\
    \x20data {text}\n\
    \x20kind text\n\
    \x20metadata @meta = {}\n\
    \x20ports [port:@port]\n\
    type meta\n\
    \x20finalizers [set,text]\n\
    \x20labels {text}\n\
    \x20name text\n\
    type port\n\
    \x20name text\n\
    \x20port number\n";

/// One object and its owners, through a sequence of writes.
struct Story {
    schema: Schema,
    object: Value,
    managers: Managers,
    clock: u32,
}

impl Story {
    fn new() -> Self {
        Self {
            schema: Schema::parse(TABLE).unwrap(),
            object: json!({"metadata": {}}),
            managers: Managers::new(),
            clock: 0,
        }
    }

    fn write<T>(
        &mut self,
        manager: &str,
        act: impl FnOnce(&Write<'_>, &Value, Managers) -> T,
    ) -> T {
        self.clock += 1;
        let id = self.schema.named("t").unwrap();
        let schema = &self.schema;
        let types = move |version: &str| (version == "v1").then_some(Typed { schema, id });
        let write = Write {
            version: "v1",
            subresource: "",
            manager,
            now: &format!("2026-01-01T00:00:{:02}Z", self.clock),
            reset: &Set::default(),
            types: &types,
            empty: &json!({"metadata": {}}),
        };
        act(&write, &self.object, self.managers.clone())
    }

    fn apply(&mut self, manager: &str, config: Value, force: bool) -> Result<bool, Refused> {
        let (object, managers) = self.write(manager, |w, live, managers| {
            apply(w, live, &config, managers, force)
        })?;
        self.managers = managers;
        let changed = object.is_some();
        if let Some(object) = object {
            self.object = object;
        }
        Ok(changed)
    }

    fn put(&mut self, manager: &str, new: Value) {
        self.managers = self.write(manager, |w, live, managers| update(w, live, &new, managers));
        self.object = new;
    }

    fn owns(&self, manager: &str) -> Value {
        let found = self.managers.iter().find(|(m, _)| m.name == manager);
        found.map_or(Value::Null, |(_, o)| o.fields.to_json())
    }
}

#[test]
fn an_applier_removes_what_it_no_longer_states() {
    let mut story = Story::new();
    story
        .apply("a", json!({"data": {"x": "1", "y": "1"}}), false)
        .unwrap();
    story
        .apply("a", json!({"data": {"x": "1"}}), false)
        .unwrap();
    assert_eq!(story.object["data"], json!({"x": "1"}));
    assert_eq!(story.owns("a"), json!({"f:data": {"f:x": {}}}));
}

#[test]
fn what_two_state_stays_until_both_let_go() {
    let mut story = Story::new();
    story
        .apply("a", json!({"data": {"x": "1"}}), false)
        .unwrap();
    story
        .apply("b", json!({"data": {"x": "1", "z": "1"}}), false)
        .unwrap();
    story.apply("a", json!({}), false).unwrap();
    assert_eq!(story.object["data"], json!({"x": "1", "z": "1"}));
    assert_eq!(story.owns("a"), Value::Null);
    story
        .apply("b", json!({"data": {"z": "1"}}), false)
        .unwrap();
    assert_eq!(story.object["data"], json!({"z": "1"}));
}

#[test]
fn a_conflict_names_manager_and_path_and_force_takes_over() {
    let mut story = Story::new();
    story
        .apply("a", json!({"data": {"x": "1"}}), false)
        .unwrap();
    let refused = story
        .apply("b", json!({"data": {"x": "2"}}), false)
        .unwrap_err();
    let Refused::Conflicts(conflicts) = refused else {
        panic!("{refused:?}")
    };
    let (message, causes) = print_conflicts(&conflicts);
    assert_eq!(
        message,
        r#"Apply failed with 1 conflict: conflict with "a": .data.x"#
    );
    assert_eq!(causes, [(r#"conflict with "a""#.into(), ".data.x".into())]);
    story.apply("b", json!({"data": {"x": "2"}}), true).unwrap();
    assert_eq!(story.owns("a"), Value::Null);
    assert_eq!(story.owns("b"), json!({"f:data": {"f:x": {}}}));
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let mut story = Story::new();
    story.put(
        "edit",
        json!({"metadata": {}, "data": {"x": "1"}, "ports": [{"port": 1, "name": "n"}]}),
    );
    story
        .apply("a", json!({"data": {"y": "1"}}), false)
        .unwrap();
    let config = json!({"data": {"x": "2", "y": "2"}, "ports": [{"port": 1, "name": "m"}]});
    let Err(Refused::Conflicts(conflicts)) = story.apply("b", config, false) else {
        panic!("no conflict");
    };
    let (message, _) = print_conflicts(&conflicts);
    assert_eq!(
        message,
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .data.y\n\
         conflicts with \"edit\" using v1:\n- .data.x\n- .ports[port=1].name"
    );
}

#[test]
fn an_update_takes_the_changed_field_from_its_owner() {
    let mut story = Story::new();
    story
        .apply("a", json!({"data": {"x": "1", "y": "1"}}), false)
        .unwrap();
    story.put(
        "edit",
        json!({"metadata": {}, "data": {"x": "2", "y": "1"}}),
    );
    assert_eq!(story.owns("a"), json!({"f:data": {"f:y": {}}}));
    assert_eq!(story.owns("edit"), json!({"f:data": {"f:x": {}}}));
    // The applier no longer owns x: leaving it out does not remove it.
    story
        .apply("a", json!({"data": {"y": "1"}}), false)
        .unwrap();
    assert_eq!(story.object["data"], json!({"x": "2", "y": "1"}));
}

#[test]
fn an_update_that_changes_nothing_owns_nothing() {
    let mut story = Story::new();
    story
        .apply("a", json!({"data": {"x": "1"}}), false)
        .unwrap();
    let same = story.object.clone();
    story.put("edit", same);
    assert_eq!(story.owns("edit"), Value::Null);
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let mut story = Story::new();
    let config = json!({"data": {"x": "1"}, "metadata": {"labels": {"l": "1"}}});
    assert!(story.apply("a", config.clone(), false).unwrap());
    let before = story.managers.clone();
    assert!(!story.apply("a", config, false).unwrap());
    assert_eq!(story.managers, before);
}

#[test]
fn objects_nobody_managed_get_before_first_apply() {
    let mut story = Story::new();
    story.object = json!({"metadata": {}, "data": {"x": "1"}});
    story.apply("a", json!({"data": {"x": "2"}}), true).unwrap();
    assert_eq!(story.owns("before-first-apply"), json!({"f:data": {}}));
    assert_eq!(story.owns("a"), json!({"f:data": {"f:x": {}}}));
}

#[test]
fn items_of_sets_and_keyed_lists_are_owned_one_by_one() {
    let mut story = Story::new();
    let a = json!({"ports": [{"port": 1}], "metadata": {"finalizers": ["x/a"]}});
    let b = json!({"ports": [{"port": 2, "name": "two"}], "metadata": {"finalizers": ["x/b"]}});
    story.apply("a", a, false).unwrap();
    story.apply("b", b, false).unwrap();
    assert_eq!(
        story.object["ports"],
        json!([{"port": 1}, {"port": 2, "name": "two"}])
    );
    story.apply("a", json!({}), false).unwrap();
    assert_eq!(story.object["ports"], json!([{"port": 2, "name": "two"}]));
    assert_eq!(story.object["metadata"]["finalizers"], json!(["x/b"]));
}
