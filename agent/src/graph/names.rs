//! What an object says of others: whom it names, whom it wants to wait for, its stage. Pure.
//!
//! In: a manifest and its identity. Out: [`Names`], or none when it says nothing. Only references whose meaning is
//! known by kind are followed; a name that nobody states is no edge later.

use std::collections::BTreeSet;

use muster_proto::ObjectKey;
use serde_json::Value;

use super::Trouble;

/// `muster.dev/depends-on: KIND[.GROUP]/[NAMESPACE/]NAME, …`
const DEPENDS_ON: &str = "muster.dev/depends-on";
/// `muster.dev/stage: "2"`
const STAGE: &str = "muster.dev/stage";

/// What one object says of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Objects that must be applied before it.
    pub(crate) references: BTreeSet<ObjectKey>,
    /// Services whose workloads must be ready before it.
    pub(crate) services: BTreeSet<ObjectKey>,
    /// What its annotation wants it to wait for.
    pub(crate) depends_on: Vec<Wish>,
    /// Its stage, when it states one.
    pub(crate) stage: Option<i32>,
    /// What is wrong with its annotations.
    pub(crate) wrong: Option<String>,
}

/// One object of `muster.dev/depends-on`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// None: whatever group has this kind.
    pub(crate) group: Option<String>,
    pub(crate) kind: String,
    /// Its own when it says nothing.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// As written.
    pub(crate) text: String,
}

impl Wish {
    /// Is this the object?
    pub(crate) fn means(&self, key: &ObjectKey) -> bool {
        self.kind == key.kind
            && self.name == key.name
            && self.group.as_ref().is_none_or(|group| *group == key.group)
            && (key.namespace.is_empty() || key.namespace == self.namespace)
    }
}

impl Wish {
    /// What to say when nothing of that name is wanted; `early` when it is stated and has no place yet.
    pub(super) fn trouble(&self, early: bool) -> Trouble {
        let text = &self.text;
        if early {
            Trouble::Early(format!(
                "waits for {text}, which has no place in this cluster yet"
            ))
        } else {
            Trouble::Wrong(format!(
                "{DEPENDS_ON} names {text}, which Git does not state for this cluster: correct the name, or take it out"
            ))
        }
    }
}

/// What `object`, which is `key` in this cluster, says of others; `None` when it says nothing.
pub(crate) fn names(object: &Value, key: &ObjectKey) -> Option<Names> {
    let mut names = Names::default();
    let annotation = |name: &str| object.pointer("/metadata/annotations")?.get(name)?.as_str();
    if let Some(text) = annotation(DEPENDS_ON) {
        match wishes(text, &key.namespace) {
            Ok(wishes) => names.depends_on = wishes,
            Err(why) => names.wrong = Some(why),
        }
    }
    if let Some(text) = annotation(STAGE) {
        match text.trim().parse() {
            Ok(stage) => names.stage = Some(stage),
            Err(_) => names.wrong = Some(format!("{STAGE}: {text:?} is no whole number")),
        }
    }
    let mut found = Found {
        namespace: &key.namespace,
        names: &mut names,
    };
    found.by_kind(object, key);
    names.references.remove(key);
    (names != Names::default()).then_some(names)
}

fn wishes(text: &str, namespace: &str) -> Result<Vec<Wish>, String> {
    let one = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts[..] {
            [kind, name] => (kind, namespace, name),
            [kind, namespace, name] => (kind, namespace, name),
            _ => ("", "", ""),
        };
        let (kind, group) = match kind.split_once('.') {
            Some((kind, group)) => (kind, Some(group.to_owned())),
            None => (kind, None),
        };
        if kind.is_empty() || name.is_empty() {
            return Err(format!(
                "{DEPENDS_ON}: {text:?} is not KIND[.GROUP]/NAME or KIND[.GROUP]/NAMESPACE/NAME, such as Deployment.apps/db"
            ));
        }
        Ok(Wish {
            group,
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            text: text.to_owned(),
        })
    };
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(one).collect()
}

/// Where a Pod template stands, by kind.
pub(crate) fn pod_template(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => Some("/spec/template"),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        "Pod" => Some(""),
        _ => None,
    }
}

/// Gathers references.
struct Found<'a> {
    namespace: &'a str,
    names: &'a mut Names,
}

impl Found<'_> {
    fn by_kind(&mut self, object: &Value, key: &ObjectKey) {
        match (key.group.as_str(), key.kind.as_str()) {
            ("" | "apps" | "batch", kind) if pod_template(kind).is_some() => {
                let template = pod_template(kind).and_then(|pointer| object.pointer(pointer));
                if let Some(pod) = template.and_then(|template| template.get("spec")) {
                    self.pod(pod);
                }
                if kind == "StatefulSet" {
                    self.text(object, "/spec/serviceName", "", "Service");
                    for claim in items(object, "/spec/volumeClaimTemplates") {
                        self.storage_class(claim);
                    }
                }
            }
            ("", "PersistentVolumeClaim") => {
                self.storage_class(object);
                self.cluster(object, "/spec/volumeName", "", "PersistentVolume");
            }
            ("", "PersistentVolume") => self.storage_class(object),
            ("", "ServiceAccount") => {
                for secret in items(object, "/imagePullSecrets") {
                    self.text(secret, "/name", "", "Secret");
                }
            }
            ("", "Secret") => {
                let owner = object
                    .pointer("/metadata/annotations")
                    .and_then(|annotations| annotations.get("kubernetes.io/service-account.name"));
                if let Some(name) = owner.and_then(Value::as_str) {
                    self.named("", "ServiceAccount", name);
                }
            }
            ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
                self.binding(object);
            }
            ("networking.k8s.io", "Ingress") => self.ingress(object),
            ("autoscaling", "HorizontalPodAutoscaler") => {
                if let Some(target) = object.pointer("/spec/scaleTargetRef") {
                    let group = text(target, "/apiVersion")
                        .split_once('/')
                        .map_or("", |(group, _)| group);
                    self.named(group, text(target, "/kind"), text(target, "/name"));
                }
            }
            ("gateway.networking.k8s.io", kind) => self.gateway(object, kind),
            ("admissionregistration.k8s.io", _) => {
                for webhook in items(object, "/webhooks") {
                    self.service(webhook, "/clientConfig/service");
                }
            }
            ("apiregistration.k8s.io", "APIService") => self.service(object, "/spec/service"),
            _ => {}
        }
    }

    fn named(&mut self, group: &str, kind: &str, name: &str) {
        self.in_namespace(group, kind, self.namespace, name);
    }

    fn in_namespace(&mut self, group: &str, kind: &str, namespace: &str, name: &str) {
        if !kind.is_empty() && !name.is_empty() {
            self.names.references.insert(ObjectKey {
                group: group.to_owned(),
                kind: kind.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
        }
    }

    fn text(&mut self, value: &Value, pointer: &str, group: &str, kind: &str) {
        self.named(group, kind, text(value, pointer));
    }

    fn cluster(&mut self, value: &Value, pointer: &str, group: &str, kind: &str) {
        self.in_namespace(group, kind, "", text(value, pointer));
    }

    fn storage_class(&mut self, claim: &Value) {
        self.cluster(
            claim,
            "/spec/storageClassName",
            "storage.k8s.io",
            "StorageClass",
        );
    }

    fn service(&mut self, value: &Value, pointer: &str) {
        if let Some(service) = value.pointer(pointer) {
            let key = ObjectKey {
                group: String::new(),
                kind: "Service".into(),
                namespace: text(service, "/namespace").to_owned(),
                name: text(service, "/name").to_owned(),
            };
            self.names.references.insert(key.clone());
            self.names.services.insert(key);
        }
    }

    fn pod(&mut self, pod: &Value) {
        // Its old name is ignored where the new one is stated.
        let account = match text(pod, "/serviceAccountName") {
            "" => "/serviceAccount",
            _ => "/serviceAccountName",
        };
        self.text(pod, account, "", "ServiceAccount");
        self.cluster(
            pod,
            "/priorityClassName",
            "scheduling.k8s.io",
            "PriorityClass",
        );
        self.cluster(pod, "/runtimeClassName", "node.k8s.io", "RuntimeClass");
        for secret in items(pod, "/imagePullSecrets") {
            self.text(secret, "/name", "", "Secret");
        }
        for volume in items(pod, "/volumes") {
            self.volume(volume);
            self.text(
                volume,
                "/persistentVolumeClaim/claimName",
                "",
                "PersistentVolumeClaim",
            );
            if let Some(claim) = volume.pointer("/ephemeral/volumeClaimTemplate") {
                self.storage_class(claim);
            }
            for source in items(volume, "/projected/sources") {
                self.volume(source);
                self.text(source, "/secret/name", "", "Secret");
            }
        }
        for containers in ["/containers", "/initContainers"] {
            for container in items(pod, containers) {
                for variable in items(container, "/env") {
                    self.text(variable, "/valueFrom/configMapKeyRef/name", "", "ConfigMap");
                    self.text(variable, "/valueFrom/secretKeyRef/name", "", "Secret");
                }
                for source in items(container, "/envFrom") {
                    self.text(source, "/configMapRef/name", "", "ConfigMap");
                    self.text(source, "/secretRef/name", "", "Secret");
                }
            }
        }
    }

    fn volume(&mut self, volume: &Value) {
        self.text(volume, "/configMap/name", "", "ConfigMap");
        self.text(volume, "/secret/secretName", "", "Secret");
    }

    fn binding(&mut self, binding: &Value) {
        let rbac = "rbac.authorization.k8s.io";
        match text(binding, "/roleRef/kind") {
            "ClusterRole" => self.cluster(binding, "/roleRef/name", rbac, "ClusterRole"),
            kind => self.named(rbac, kind, text(binding, "/roleRef/name")),
        }
        for subject in items(binding, "/subjects") {
            if text(subject, "/kind") == "ServiceAccount" {
                let namespace = match text(subject, "/namespace") {
                    "" => self.namespace.to_owned(),
                    namespace => namespace.to_owned(),
                };
                self.in_namespace("", "ServiceAccount", &namespace, text(subject, "/name"));
            }
        }
    }

    fn ingress(&mut self, ingress: &Value) {
        let networking = "networking.k8s.io";
        self.cluster(
            ingress,
            "/spec/ingressClassName",
            networking,
            "IngressClass",
        );
        self.text(ingress, "/spec/defaultBackend/service/name", "", "Service");
        for tls in items(ingress, "/spec/tls") {
            self.text(tls, "/secretName", "", "Secret");
        }
        for rule in items(ingress, "/spec/rules") {
            for path in items(rule, "/http/paths") {
                self.text(path, "/backend/service/name", "", "Service");
            }
        }
    }

    fn gateway(&mut self, object: &Value, kind: &str) {
        let group = "gateway.networking.k8s.io";
        if kind == "Gateway" {
            self.cluster(object, "/spec/gatewayClassName", group, "GatewayClass");
            for listener in items(object, "/spec/listeners") {
                for secret in items(listener, "/tls/certificateRefs") {
                    self.referent(secret, "", "Secret");
                }
            }
            return;
        }
        for rule in items(object, "/spec/rules") {
            for backend in items(rule, "/backendRefs") {
                self.referent(backend, "", "Service");
            }
        }
        for parent in items(object, "/spec/parentRefs") {
            self.referent(parent, group, "Gateway");
        }
    }

    /// Whom a reference of the Gateway API means; group and kind are what it means when it says nothing of them.
    fn referent(&mut self, reference: &Value, group: &str, kind: &str) {
        let or = |field: &str, otherwise: &str| {
            let stated = reference.get(field).and_then(Value::as_str);
            stated.unwrap_or(otherwise).to_owned()
        };
        let (group, kind) = (or("group", group), or("kind", kind));
        let namespace = or("namespace", self.namespace);
        self.in_namespace(&group, &kind, &namespace, text(reference, "/name"));
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(group: &str, kind: &str) -> ObjectKey {
        ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: "web".into(),
            name: "x".into(),
        }
    }

    fn references(group: &str, kind: &str, object: Value) -> Vec<String> {
        let names = names(&object, &key(group, kind)).unwrap_or_default();
        names.references.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_template_names_what_it_mounts_reads_and_runs_as() {
        let pod = json!({
            "serviceAccountName": "robot", "priorityClassName": "high", "runtimeClassName": "gvisor",
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"configMap": {"name": "files"}}, {"secret": {"secretName": "keys"}},
                {"persistentVolumeClaim": {"claimName": "disk"}},
                {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}},
                {"projected": {"sources": [{"configMap": {"name": "part"}}, {"secret": {"name": "token"}}]}}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "all"}}]}],
            "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "one"}}},
                {"valueFrom": {"secretKeyRef": {"name": "password"}}}], "envFrom": [{"secretRef": {"name": "more"}}]}],
        });
        let named = [
            "ConfigMap web/all",
            "ConfigMap web/files",
            "ConfigMap web/one",
            "ConfigMap web/part",
            "PersistentVolumeClaim web/disk",
            "Secret web/keys",
            "Secret web/more",
            "Secret web/password",
            "Secret web/registry",
            "Secret web/token",
            "ServiceAccount web/robot",
            "RuntimeClass.node.k8s.io gvisor",
            "PriorityClass.scheduling.k8s.io high",
            "StorageClass.storage.k8s.io fast",
        ];
        for (group, kind, object) in [
            (
                "apps",
                "Deployment",
                json!({"spec": {"template": {"spec": pod}}}),
            ),
            (
                "batch",
                "CronJob",
                json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}),
            ),
            ("", "Pod", json!({"spec": pod})),
        ] {
            assert_eq!(references(group, kind, object), named, "{kind}");
        }
    }

    #[test]
    fn the_old_name_of_a_service_account_counts_where_the_new_one_is_not_stated() {
        let of = |spec: Value| references("", "Pod", json!({"spec": spec}));
        assert_eq!(
            of(json!({"serviceAccount": "old"})),
            ["ServiceAccount web/old"]
        );
        // The API server ignores the old one then.
        let both = json!({"serviceAccount": "old", "serviceAccountName": "robot"});
        assert_eq!(of(both), ["ServiceAccount web/robot"]);
    }

    #[test]
    fn other_kinds_name_what_they_can_not_do_without() {
        let rbac = "rbac.authorization.k8s.io";
        let table = [
            (
                "apps",
                "StatefulSet",
                json!({"spec": {"serviceName": "peers", "volumeClaimTemplates": [{"spec": {"storageClassName": "fast"}}]}}),
                vec!["Service web/peers", "StorageClass.storage.k8s.io fast"],
            ),
            (
                "",
                "PersistentVolumeClaim",
                json!({"spec": {"storageClassName": "fast", "volumeName": "v"}}),
                vec!["PersistentVolume v", "StorageClass.storage.k8s.io fast"],
            ),
            (
                "",
                "ServiceAccount",
                json!({"secrets": [{"name": "made"}], "imagePullSecrets": [{"name": "registry"}]}),
                vec!["Secret web/registry"],
            ),
            (
                "",
                "Secret",
                json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "robot"}}}),
                vec!["ServiceAccount web/robot"],
            ),
            (
                rbac,
                "RoleBinding",
                json!({"roleRef": {"kind": "Role", "name": "reader"}, "subjects": [
                {"kind": "ServiceAccount", "name": "robot"}, {"kind": "ServiceAccount", "name": "other", "namespace": "far"},
                {"kind": "Group", "name": "people"}]}),
                vec![
                    "ServiceAccount far/other",
                    "ServiceAccount web/robot",
                    "Role.rbac.authorization.k8s.io web/reader",
                ],
            ),
            (
                rbac,
                "ClusterRoleBinding",
                json!({"roleRef": {"kind": "ClusterRole", "name": "reader"}}),
                vec!["ClusterRole.rbac.authorization.k8s.io reader"],
            ),
            (
                "networking.k8s.io",
                "Ingress",
                json!({"spec": {"ingressClassName": "nginx", "tls": [{"secretName": "cert"}],
                "defaultBackend": {"service": {"name": "fallback"}},
                "rules": [{"http": {"paths": [{"backend": {"service": {"name": "front"}}}]}}]}}),
                vec![
                    "Secret web/cert",
                    "Service web/fallback",
                    "Service web/front",
                    "IngressClass.networking.k8s.io nginx",
                ],
            ),
            (
                "autoscaling",
                "HorizontalPodAutoscaler",
                json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front"}}}),
                vec!["Deployment.apps web/front"],
            ),
            (
                "gateway.networking.k8s.io",
                "HTTPRoute",
                json!({"spec": {"parentRefs": [{"name": "door"}, {"name": "gate", "namespace": "edge"}],
                    "rules": [{"backendRefs": [{"name": "front"}, {"name": "far", "namespace": "edge", "kind": "Service"}]}]}}),
                vec![
                    "Service edge/far",
                    "Service web/front",
                    "Gateway.gateway.networking.k8s.io edge/gate",
                    "Gateway.gateway.networking.k8s.io web/door",
                ],
            ),
            (
                "gateway.networking.k8s.io",
                "Gateway",
                json!({"spec": {"gatewayClassName": "fancy", "listeners": [{"tls": {"certificateRefs": [{"name": "cert"}]}}]}}),
                vec![
                    "Secret web/cert",
                    "GatewayClass.gateway.networking.k8s.io fancy",
                ],
            ),
            (
                "admissionregistration.k8s.io",
                "ValidatingWebhookConfiguration",
                json!({"webhooks": [{"clientConfig": {"service": {"namespace": "guard", "name": "hook"}}}, {"clientConfig": {"url": "https://x"}}]}),
                vec!["Service guard/hook"],
            ),
            (
                "apiregistration.k8s.io",
                "APIService",
                json!({"spec": {"service": {"namespace": "metrics", "name": "api"}}}),
                vec!["Service metrics/api"],
            ),
            (
                "",
                "ConfigMap",
                json!({"data": {"serviceAccountName": "no"}}),
                vec![],
            ),
        ];
        for (group, kind, object, named) in table {
            assert_eq!(references(group, kind, object), named, "{kind}");
        }
    }

    #[test]
    fn annotations_are_read_and_what_is_wrong_with_them_is_said() {
        let of = |annotations: Value| {
            let object = json!({"metadata": {"annotations": annotations}});
            names(&object, &key("", "ConfigMap")).unwrap()
        };
        let good =
            of(json!({DEPENDS_ON: "Deployment.apps/db, ConfigMap/far/settings,", STAGE: "-1"}));
        assert_eq!(good.stage, Some(-1));
        let deployment = ObjectKey {
            name: "db".into(),
            ..key("apps", "Deployment")
        };
        assert!(good.depends_on[0].means(&deployment));
        assert!(!good.depends_on[1].means(&deployment));
        assert_eq!(good.depends_on[1].namespace, "far");
        for (annotations, why) in [
            (json!({DEPENDS_ON: "db"}), "is not KIND"),
            (json!({DEPENDS_ON: "a/b/c/d"}), "such as Deployment.apps/db"),
            (json!({STAGE: "first"}), "\"first\" is no whole number"),
        ] {
            let wrong = of(annotations).wrong.unwrap();
            assert!(wrong.contains(why), "{wrong}");
        }
    }
}
