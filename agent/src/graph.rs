//! Order inside one apply: stages, and the real dependencies between objects. Pure.
//!
//! A stage says what goes first when nothing is known; it never blocks. A dependency does: what stands in a namespace
//! that Git states waits for it, a custom resource waits for its definition. Deleting runs both backwards.

use std::collections::BTreeMap;

use muster_proto::ObjectKey;
use serde_json::Value;

/// Position in the order of one apply; lower goes first.
pub(crate) type Stage = u8;

/// Stage of a kind.
pub(crate) fn stage(group: &str, kind: &str) -> Stage {
    match (group, kind) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => 1,
        ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass")
        | ("node.k8s.io", "RuntimeClass")
        | ("networking.k8s.io", "IngressClass")
        | ("gateway.networking.k8s.io", "GatewayClass") => 2,
        ("", "ServiceAccount" | "ConfigMap" | "Secret" | "LimitRange" | "ResourceQuota")
        | ("" | "storage.k8s.io", "PersistentVolume" | "PersistentVolumeClaim")
        | ("rbac.authorization.k8s.io", _) => 3,
        ("", "Service") => 4,
        ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", "APIService") => 6,
        _ => 5,
    }
}

/// True for a CustomResourceDefinition.
pub(crate) fn is_definition(key: &ObjectKey) -> bool {
    key.group == "apiextensions.k8s.io" && key.kind == "CustomResourceDefinition"
}

/// True for a Namespace.
pub(crate) fn is_namespace(key: &ObjectKey) -> bool {
    key.group.is_empty() && key.kind == "Namespace"
}

/// Group and kind that a CustomResourceDefinition defines.
pub(crate) fn defines(definition: &Value) -> Option<(String, String)> {
    let text = |pointer| definition.pointer(pointer).and_then(Value::as_str);
    Some((
        text("/spec/group")?.to_owned(),
        text("/spec/names/kind")?.to_owned(),
    ))
}

/// The definitions of a desired state, by the group and kind they define.
pub(crate) type Definitions = BTreeMap<(String, String), ObjectKey>;

/// What must be there before this object, among what the desired state could hold: its namespace, its definition.
pub(crate) fn needs(key: &ObjectKey, definitions: &Definitions) -> Vec<ObjectKey> {
    let namespace = (!key.namespace.is_empty()).then(|| namespace_key(&key.namespace));
    let definition = definitions
        .get(&(key.group.clone(), key.kind.clone()))
        .cloned();
    namespace.into_iter().chain(definition).collect()
}

/// Identity of a Namespace.
pub(crate) fn namespace_key(name: &str) -> ObjectKey {
    ObjectKey {
        group: String::new(),
        kind: "Namespace".into(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stages_follow_the_order_people_expect() {
        let order = [
            ("", "Namespace"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("storage.k8s.io", "StorageClass"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
            ("", "Service"),
            ("apps", "Deployment"),
            (
                "admissionregistration.k8s.io",
                "ValidatingWebhookConfiguration",
            ),
        ];
        assert!(
            order
                .windows(2)
                .all(|pair| stage(pair[0].0, pair[0].1) < stage(pair[1].0, pair[1].1))
        );
    }

    #[test]
    fn a_custom_resource_needs_its_namespace_and_its_definition() {
        let definition = json!({"spec": {"group": "shop.io", "names": {"kind": "Cart"}}});
        let key = |group: &str, kind: &str, namespace: &str, name: &str| ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let crd = key(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "",
            "carts.shop.io",
        );
        let definitions = Definitions::from([(defines(&definition).unwrap(), crd.clone())]);
        assert_eq!(
            needs(&key("shop.io", "Cart", "web", "c"), &definitions),
            [namespace_key("web"), crd]
        );
        assert_eq!(needs(&namespace_key("web"), &definitions), []);
    }
}
