//! The rules an object must obey to be stored.
//!
//! In: an object as it would be stored, and the one it replaces. Out: nothing, or the 422 with its causes.

use serde_json::Value;

use super::super::delete::names;
use super::super::kinds::Kind;
use super::super::state::is_dying;
use super::super::status::Refusal;

/// The rules every object obeys, and the few per kind that clients meet often.
pub(super) fn valid(
    kind: &Kind,
    name: &str,
    live: Option<&Value>,
    new: &Value,
) -> Result<(), Refusal> {
    let mut causes: Vec<(String, String, &str)> = Vec::new();
    if let Some(custom) = &kind.custom {
        causes.extend(custom.faults(new));
    }
    containers(kind, new, &mut causes);
    finalizers(live, new, &mut causes);
    owners(new, &mut causes);
    let immutable: &[(&str, &str, &[&str])] = &[
        ("apps", "Deployment", &["/spec/selector"]),
        ("apps", "DaemonSet", &["/spec/selector"]),
        ("apps", "ReplicaSet", &["/spec/selector"]),
        (
            "batch",
            "Job",
            &["/spec/selector", "/spec/template", "/spec/completionMode"],
        ),
        ("rbac.authorization.k8s.io", "RoleBinding", &["/roleRef"]),
        (
            "rbac.authorization.k8s.io",
            "ClusterRoleBinding",
            &["/roleRef"],
        ),
        ("", "Secret", &["/type"]),
    ];
    if let Some(live) = live {
        let fields = immutable.iter().filter(|(group, k, _)| kind.is(group, k));
        for pointer in fields.flat_map(|(_, _, pointers)| *pointers) {
            if live.pointer(pointer) != new.pointer(pointer) {
                let field = pointer.trim_start_matches('/').replace('/', ".");
                let value = new.pointer(pointer).unwrap_or(&Value::Null);
                let message = if kind.group == "rbac.authorization.k8s.io" {
                    format!("Invalid value: {value}: cannot change roleRef")
                } else {
                    format!("Invalid value: {value}: field is immutable")
                };
                causes.push((field, message, "FieldValueInvalid"));
            }
        }
        let frozen = ["ConfigMap", "Secret"].iter().any(|k| kind.is("", k));
        if frozen && live["immutable"] == true {
            for field in ["data", "binaryData", "immutable"] {
                if live.get(field) != new.get(field) {
                    let message =
                        "Forbidden: field is immutable when `immutable` is set".to_owned();
                    causes.push((field.to_owned(), message, "FieldValueForbidden"));
                }
            }
        }
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid(kind, name, &causes))
    }
}

/// Whether an update may leave out the state it was made from.
pub(super) fn unconditional(kind: &Kind) -> bool {
    let guarded = match kind.group.as_str() {
        "admissionregistration.k8s.io"
        | "apiextensions.k8s.io"
        | "coordination.k8s.io"
        | "node.k8s.io"
        | "policy" => true,
        "storage.k8s.io" => {
            !["StorageClass", "VolumeAttributesClass"].contains(&kind.kind.as_str())
        }
        _ => kind.custom.is_some(),
    };
    !guarded
}

/// An object that is being deleted gets no new finalizers.
fn finalizers(live: Option<&Value>, new: &Value, causes: &mut Vec<(String, String, &str)>) {
    let Some(live) = live.filter(|live| is_dying(live)) else {
        return;
    };
    let before = names(&live["metadata"]);
    let mut added = names(&new["metadata"]);
    added.retain(|name| !before.contains(name));
    if !added.is_empty() {
        let list: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
        let what = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{{{}}}",
            list.join(", ")
        );
        causes.push((
            "metadata.finalizers".to_owned(),
            what,
            "FieldValueForbidden",
        ));
    }
}

/// Each owner is named in full, and one of them at most controls.
fn owners(new: &Value, causes: &mut Vec<(String, String, &str)>) {
    let owners = new["metadata"]["ownerReferences"].as_array();
    let mut controller: Option<&Value> = None;
    for (index, owner) in owners.into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{field}");
                let what = "Invalid value: \"\": must not be empty".to_owned();
                causes.push((field, what, "FieldValueInvalid"));
            }
        }
        if owner["controller"] == true {
            if let Some(first) = controller {
                let named = |owner: &Value| {
                    let part = |field: &str| owner[field].as_str().unwrap_or_default();
                    format!("{}/{}", part("kind"), part("name"))
                };
                let what = format!(
                    "Invalid value: [{}]: Only one reference can have Controller set to true. Found \"true\" \
                     in references for {} and {}",
                    owners
                        .into_iter()
                        .flatten()
                        .map(printed)
                        .collect::<Vec<_>>()
                        .join(","),
                    named(first),
                    named(owner)
                );
                let field = "metadata.ownerReferences".to_owned();
                causes.push((field, what, "FieldValueInvalid"));
                break;
            }
            controller = Some(owner);
        }
    }
}

/// An owner as Go prints it: fields in the order of their type.
fn printed(owner: &Value) -> String {
    let fields = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ];
    let print = |field: &&str| Some(format!("{field:?}:{}", owner.get(*field)?));
    let fields: Vec<String> = fields.iter().filter_map(print).collect();
    format!("{{{}}}", fields.join(","))
}

/// A Pod has containers, and each a name and an image.
fn containers(kind: &Kind, object: &Value, causes: &mut Vec<(String, String, &str)>) {
    let pod = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => "spec",
        ("", "PodTemplate") => "template.spec",
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => {
            "spec.template.spec"
        }
        ("batch", "CronJob") => "spec.jobTemplate.spec.template.spec",
        _ => return,
    };
    let missing = |field: String| (field, "Required value".to_owned(), "FieldValueRequired");
    for list in ["initContainers", "containers"] {
        let pointer = format!("/{}/{list}", pod.replace('.', "/"));
        let items = object.pointer(&pointer).and_then(Value::as_array);
        let items = items.map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() && list == "containers" {
            causes.push(missing(format!("{pod}.containers")));
        }
        for (index, container) in items.iter().enumerate() {
            for field in ["name", "image"] {
                if container[field].as_str().unwrap_or_default().is_empty() {
                    causes.push(missing(format!("{pod}.{list}[{index}].{field}")));
                }
            }
        }
    }
}

pub(super) fn valid_name(kind: &Kind, name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        let cause = (
            "metadata.name".to_owned(),
            "Required value: name or generateName is required".to_owned(),
        );
        return Err(Refusal::invalid(
            kind,
            name,
            &[(cause.0, cause.1, "FieldValueRequired")],
        ));
    }
    let free = kind.group == "rbac.authorization.k8s.io"
        || kind.custom.is_none() && kind.group == "apiregistration.k8s.io";
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let subdomain = name.len() <= 253
        && name.starts_with(plain)
        && name.ends_with(plain)
        && name.chars().all(|c| plain(c) || c == '-' || c == '.');
    if free || subdomain {
        return Ok(());
    }
    let message = format!(
        "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case \
         alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
         (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    );
    Err(Refusal::invalid(
        kind,
        name,
        &[("metadata.name".to_owned(), message, "FieldValueInvalid")],
    ))
}
