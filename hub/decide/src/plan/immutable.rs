//! Fields that the API server does not let change once an object is there, as far as that is known without asking it.
//!
//! Source: the update rules of Kubernetes' own kinds (pkg/apis/*/validation and the strategies of their registries,
//! v1.37). Of custom resources nothing is known here.

use muster_proto::ObjectKey;
use serde_json::Value;

/// Group, kind, and what may not change: a path and all below it.
const FIELDS: [(&str, &str, &str); 19] = [
    ("apps", "DaemonSet", ".spec.selector"),
    ("apps", "Deployment", ".spec.selector"),
    ("apps", "ReplicaSet", ".spec.selector"),
    ("apps", "StatefulSet", ".spec.podManagementPolicy"),
    ("apps", "StatefulSet", ".spec.selector"),
    ("apps", "StatefulSet", ".spec.serviceName"),
    ("apps", "StatefulSet", ".spec.volumeClaimTemplates"),
    ("batch", "Job", ".spec.completionMode"),
    ("batch", "Job", ".spec.podFailurePolicy"),
    ("batch", "Job", ".spec.selector"),
    ("batch", "Job", ".spec.template"),
    (
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        ".roleRef",
    ),
    ("rbac.authorization.k8s.io", "RoleBinding", ".roleRef"),
    ("scheduling.k8s.io", "PriorityClass", ".value"),
    ("storage.k8s.io", "StorageClass", ".parameters"),
    ("storage.k8s.io", "StorageClass", ".provisioner"),
    ("storage.k8s.io", "StorageClass", ".reclaimPolicy"),
    ("storage.k8s.io", "StorageClass", ".volumeBindingMode"),
    ("", "Secret", ".type"),
];
/// Of a PersistentVolumeClaim's spec, all but these.
const CLAIM: [&str; 2] = [".spec.resources", ".spec.volumeAttributesClassName"];

/// Whether the API server will refuse the change of a field.
pub(super) fn is_immutable(key: &ObjectKey, path: &str, before: &Value, after: &Value) -> bool {
    let (group, kind) = (key.group.as_str(), key.kind.as_str());
    let listed = |(of_group, of_kind, field): &(&str, &str, &str)| {
        (*of_group, *of_kind) == (group, kind) && is_below(path, field)
    };
    match (group, kind) {
        ("", "ConfigMap" | "Secret") if before["immutable"] == true => {
            is_below(path, ".data")
                || is_below(path, ".binaryData")
                || is_below(path, ".stringData")
                || path == ".immutable"
        }
        // Stated before and after: an address is never exchanged for another.
        ("", "Service") => {
            let both = |object: &Value| {
                let address = &object["spec"]["clusterIP"];
                address.is_string() && address != ""
            };
            path == ".spec.clusterIP" && both(before) && both(after)
        }
        ("", "PersistentVolumeClaim") => {
            is_below(path, ".spec") && !CLAIM.iter().any(|field| is_below(path, field))
        }
        _ => FIELDS.iter().any(listed),
    }
}

fn is_below(path: &str, field: &str) -> bool {
    let rest = path.strip_prefix(field);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
