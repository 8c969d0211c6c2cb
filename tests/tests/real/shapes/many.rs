//! Two hundred objects of forty kinds.

use anyhow::Result;
use muster_tests::cluster::real;
use serde_json::{Value, json};

use super::Noted;

/// One object of each kind. `own` is a prefix for names that the whole cluster shares.
fn one_of_each(own: &str, n: usize) -> Vec<Value> {
    let name = format!("{own}-{n}");
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}});
    let once = json!({"metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "web", "image": "web"}]}});
    let selector = json!({"matchLabels": labels});
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": "default"}]);
    let rbac = "rbac.authorization.k8s.io";
    let refers = |kind: &str| json!({"apiGroup": rbac, "kind": kind, "name": name});
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let group = format!("{name}.example.com");
    let object_rule = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothings"]}]);
    let hook = |suffix: &str| {
        json!([{"name": format!("{suffix}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Ignore", "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": object_rule}])
    };
    let of = |api_version: &str, kind: &str, rest: Value| {
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        for (field, value) in rest.as_object().cloned().unwrap_or_default() {
            object[field] = value;
        }
        object
    };
    let mut definition = of(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({"spec": {"group": group, "scope": "Cluster", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}),
    );
    definition["metadata"]["name"] = json!(format!("carts.{group}"));
    let mut secret = of(
        "v1",
        "Secret",
        json!({"stringData": {"password": "hunter2"}}),
    );
    secret["metadata"]["annotations"] = json!({"note": "text, to be stored as bytes"});
    vec![
        of("v1", "Namespace", json!({})),
        of(
            "v1",
            "ConfigMap",
            json!({"data": {"a": "b"}, "binaryData": {"c": "AAEC"}}),
        ),
        secret,
        of(
            "v1",
            "ServiceAccount",
            json!({"automountServiceAccountToken": false}),
        ),
        of(
            "v1",
            "Service",
            json!({"spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "web"}]}}),
        ),
        of(
            "v1",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]}),
        ),
        of("v1", "Pod", json!({"spec": template["spec"]})),
        of("v1", "PodTemplate", json!({"template": template})),
        of(
            "v1",
            "ReplicationController",
            json!({"spec": {"replicas": 0, "selector": labels, "template": template}}),
        ),
        of(
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1024Gi"}}]}}),
        ),
        of(
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"count/secrets": "1000", "requests.cpu": "1000000m"}}}),
        ),
        of("resource.k8s.io/v1", "DeviceClass", json!({"spec": {}})),
        of(
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"spec": {"type": "Limited",
            "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}}),
        ),
        of(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 1, "selector": selector, "template": template}}),
        ),
        of(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"replicas": 0, "selector": selector, "serviceName": name, "template": template}}),
        ),
        of(
            "apps/v1",
            "DaemonSet",
            json!({"spec": {"selector": selector, "template": template}}),
        ),
        of(
            "apps/v1",
            "ReplicaSet",
            json!({"spec": {"replicas": 0, "selector": selector, "template": template}}),
        ),
        of("batch/v1", "Job", json!({"spec": {"template": once}})),
        of(
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "@yearly", "jobTemplate": {"spec": {"template": once}}}}),
        ),
        of(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name}}}),
        ),
        of(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"maxUnavailable": "50%", "selector": selector}}),
        ),
        of(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": selector, "policyTypes": ["Ingress"]}}),
        ),
        of(
            "networking.k8s.io/v1",
            "IngressClass",
            json!({"spec": {"controller": "example.com/none"}}),
        ),
        of(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"ingressClassName": name,
            "defaultBackend": {"service": {"name": name, "port": {"number": 80}}}}}),
        ),
        of(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.8"]}],
            "ports": [{"port": 80}]}),
        ),
        of(
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 40}}),
        ),
        of(&format!("{rbac}/v1"), "Role", json!({"rules": rules})),
        of(
            &format!("{rbac}/v1"),
            "RoleBinding",
            json!({"roleRef": refers("Role"), "subjects": subjects}),
        ),
        of(
            &format!("{rbac}/v1"),
            "ClusterRole",
            json!({"rules": rules}),
        ),
        of(
            &format!("{rbac}/v1"),
            "ClusterRoleBinding",
            json!({"roleRef": refers("ClusterRole"), "subjects": subjects}),
        ),
        of(
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "example.com/none", "volumeBindingMode": "WaitForFirstConsumer"}),
        ),
        of(
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"attachRequired": false}}),
        ),
        of("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 7})),
        of("node.k8s.io/v1", "RuntimeClass", json!({"handler": "none"})),
        of(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": hook("check")}),
        ),
        of(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            json!({"webhooks": hook("change")}),
        ),
        of(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({"spec": {
            "matchConstraints": {"resourceRules": object_rule}, "validations": [{"expression": "true"}]}}),
        ),
        of(
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": {"matchingPrecedence": 9000,
            "priorityLevelConfiguration": {"name": "global-default"}}}),
        ),
        definition,
        of(
            &format!("{group}/v1"),
            "Cart",
            json!({"spec": {"n": n, "half": 0.5, "nothing": {}}}),
        ),
    ]
}

#[tokio::test]
async fn two_hundred_objects_of_forty_kinds_are_applied_stay_and_go() -> Result<()> {
    let mut noted = Noted::start(real::shared("shapes").await?, "shapes-many").await?;
    let own = noted.bed.namespace.clone();
    let mut objects: Vec<Value> = (0..5).flat_map(|n| one_of_each(&own, n)).collect();
    let mut kinds: Vec<&str> = objects
        .iter()
        .filter_map(|it| it["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!((objects.len(), kinds.len()), (200, 40));
    let marked = ["ConfigMap", "StorageClass"];
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if marked.contains(&kind.as_str())
            && object["metadata"]["name"] == json!(format!("{own}-3"))
        {
            object["metadata"]["annotations"] = json!({"muster.dev/prune": "disabled"});
        }
    }
    noted.come_and_stay(&objects).await?;
    // Both that are marked have this name.
    noted.go_but(&[&format!("{own}-3")]).await
}
