//! `metadata.managedFields`: who owns which fields, by which operation, since when.
//!
//! In and out: the JSON list of an object. In between: one [`Owned`] a [`Manager`], ordered, so that nothing
//! here depends on the order of a hash map.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fieldset::Set;

/// Everybody who owns fields of one object.
pub type Managers = BTreeMap<Manager, Owned>;

/// What tells one entry from another. An applier is the same whatever version it applies with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// The field manager's name.
    pub name: String,
    /// Apply, or everything else.
    pub operation: Operation,
    /// The version it wrote with; empty for appliers.
    pub api_version: String,
    /// The subresource it wrote through; empty for the object itself.
    pub subresource: String,
}

/// How fields came to be owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Create, update, or any other patch.
    Update,
}

/// What one manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The version in which the paths are to be read.
    pub api_version: String,
    /// The paths.
    pub fields: Set,
    /// Its last change, RFC 3339 in seconds.
    pub time: Option<String>,
}

/// The name under which old updaters are merged when there are too many.
const ANCIENT: &str = "ancient-changes";
/// How many updaters an object keeps apart.
const MOST_UPDATERS: usize = 10;

impl Manager {
    /// Who writes: a name, by this operation, in this version, through this subresource.
    #[must_use]
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let api_version = match operation {
            Operation::Apply => "",
            Operation::Update => api_version,
        };
        Self {
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// As conflict messages name it: `"kubectl" using v1`.
    #[must_use]
    pub fn printed(&self) -> String {
        let mut out = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            out = format!("{out} with subresource {:?}", self.subresource);
        }
        match self.operation {
            Operation::Apply => out,
            Operation::Update => format!("{out} using {}", self.api_version),
        }
    }
}

/// Reads the entries of an object; `Err` says why they can't be read.
pub fn decode(object: &Value) -> Result<Managers, String> {
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let mut out = Managers::new();
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => {
                return Err(format!(
                    "missing fieldsType in managed fields entry {index}"
                ));
            }
            other => {
                return Err(format!(
                    "invalid fieldsType {other:?} in managed fields entry {index}"
                ));
            }
        }
        let manager = Manager {
            name: text("manager").to_owned(),
            ..Manager::new("", operation, text("apiVersion"), text("subresource"))
        };
        let owned = Owned {
            api_version: text("apiVersion").to_owned(),
            fields: Set::from_json(entry.get("fieldsV1").unwrap_or(&Value::Null))?,
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
        };
        out.insert(manager, owned);
    }
    Ok(out)
}

/// Writes the entries into an object: appliers first, then by time (in seconds), name, version, subresource.
pub fn encode(managers: &Managers, object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if managers.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let mut entries: Vec<_> = managers.iter().collect();
    entries.sort_by_key(|(m, o)| {
        (
            m.operation,
            o.time.clone(),
            m.name.clone(),
            o.api_version.clone(),
            m.subresource.clone(),
        )
    });
    let json = |(manager, owned): (&Manager, &Owned)| {
        let mut entry = json!({
            "manager": manager.name,
            "operation": match manager.operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            },
            "apiVersion": owned.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": owned.fields.to_json(),
        });
        if let Some(time) = &owned.time {
            entry["time"] = json!(time);
        }
        if !manager.subresource.is_empty() {
            entry["subresource"] = json!(manager.subresource);
        }
        entry
    };
    let entries = entries.into_iter().map(json).collect();
    metadata.insert("managedFields".to_owned(), Value::Array(entries));
}

/// Merges the oldest updaters into one a version, until at most ten are left.
pub fn cap_updaters(managers: &mut Managers) {
    let is_updater = |m: &&Manager| m.operation == Operation::Update;
    let mut updaters: Vec<Manager> = managers.keys().filter(is_updater).cloned().collect();
    let mut length = updaters.len();
    updaters.sort_by_key(|m| (managers[m].time.clone(), m.clone()));
    let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
    for updater in updaters {
        if length <= MOST_UPDATERS {
            break;
        }
        let version = managers[&updater].api_version.clone();
        let bucket = Manager::new(ANCIENT, Operation::Update, &version, "");
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, updater);
            continue;
        };
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owned);
        }
        let Some(owned) = managers.remove(&updater) else {
            continue;
        };
        if let Some(old) = managers.get_mut(&bucket) {
            old.fields = old.fields.union(&owned.fields);
            old.time = owned.time;
        }
        length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(time: &str, field: &str) -> Owned {
        Owned {
            api_version: "v1".into(),
            fields: Set::from_iter([&["data", field][..]]),
            time: Some(time.into()),
        }
    }

    #[test]
    fn entries_survive_reading_and_writing_in_the_servers_order() {
        let mut managers = Managers::new();
        let updater = |name| Manager::new(name, Operation::Update, "v1", "");
        managers.insert(updater("b"), owned("2026-01-01T00:00:01Z", "x"));
        managers.insert(updater("a"), owned("2026-01-01T00:00:02Z", "y"));
        managers.insert(
            Manager::new("z", Operation::Apply, "v1", "status"),
            owned("2026-01-01T00:00:09Z", "z"),
        );
        let mut object = json!({"metadata": {"name": "n"}});
        encode(&managers, &mut object);
        let names: Vec<&str> = object["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["manager"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["z", "b", "a"]);
        assert_eq!(decode(&object), Ok(managers));
    }

    #[test]
    fn too_many_updaters_become_ancient_changes() {
        let mut managers = Managers::new();
        for n in 0..12 {
            let manager = Manager::new(&format!("m{n:02}"), Operation::Update, "v1", "");
            managers.insert(
                manager,
                owned(&format!("2026-01-01T00:00:{n:02}Z"), &format!("f{n}")),
            );
        }
        cap_updaters(&mut managers);
        assert_eq!(managers.len(), MOST_UPDATERS);
        let bucket = &managers[&Manager::new(ANCIENT, Operation::Update, "v1", "")];
        assert_eq!(bucket.fields.paths().len(), 3);
        assert_eq!(bucket.time.as_deref(), Some("2026-01-01T00:00:02Z"));
    }

    #[test]
    fn a_broken_entry_says_what_is_wrong() {
        let object = json!({"metadata": {"managedFields": [{"operation": "Guess"}]}});
        assert!(decode(&object).unwrap_err().contains("operation"));
    }
}
