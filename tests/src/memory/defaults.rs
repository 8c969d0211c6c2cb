//! What the server fills into built-in objects: when it reads them (the writer owns it), and when it stores
//! them (nobody does).
//!
//! In: an object, shaped. Out: the same with defaults. Done: workloads with their Pod templates, Service,
//! Secret, Namespace, RBAC bindings, NetworkPolicy, volumes and claims, classes, webhooks,
//! CustomResourceDefinition. Not done: autoscaler behaviour, rarely used volume sources, what admission
//! plugins add to Pods.

use serde_json::{Value, json};

use super::kinds::Kind;

mod pod;

/// Defaults on reading: whoever creates or updates the object owns them.
pub fn on_read(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => {
            let name = object["metadata"]["name"].clone();
            if name.as_str().is_some_and(|n| !n.is_empty()) {
                let labels = child(&mut object["metadata"], "labels");
                put(labels, "kubernetes.io/metadata.name", name);
            }
        }
        ("", "Secret") => {
            secret_data(object);
            put(object, "type", json!("Opaque"));
        }
        ("", "Service") => service(&mut object["spec"]),
        ("", "Pod") => {
            pod::spec(&mut object["spec"]);
            put(&mut object["spec"], "enableServiceLinks", json!(true));
        }
        ("", "PodTemplate") => pod::spec(child(child(object, "template"), "spec")),
        ("", "PersistentVolumeClaim") => {
            put(&mut object["spec"], "volumeMode", json!("Filesystem"));
        }
        ("", "PersistentVolume") => {
            put(&mut object["spec"], "volumeMode", json!("Filesystem"));
            put(
                &mut object["spec"],
                "persistentVolumeReclaimPolicy",
                json!("Retain"),
            );
        }
        ("apps" | "batch", _) => workload(&kind.kind, object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(object),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(&mut object["spec"]),
        ("storage.k8s.io", "StorageClass") => {
            put(object, "reclaimPolicy", json!("Delete"));
            put(object, "volumeBindingMode", json!("Immediate"));
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            put(object, "preemptionPolicy", json!("PreemptLowerPriority"));
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            put(&mut object["spec"], "minReplicas", json!(1));
        }
        ("admissionregistration.k8s.io", _) => each(object.get_mut("webhooks"), webhook),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(&mut object["spec"]),
        _ => {}
    }
}

/// What the registry adds to an object that is new: nobody owns it.
pub fn on_create(kind: &Kind, object: &mut Value, number: u64) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => {
            object["status"] = json!({"phase": "Active"});
            object["spec"] = json!({"finalizers": ["kubernetes"]});
        }
        ("", "PersistentVolume" | "PersistentVolumeClaim" | "Pod") => {
            object["status"]["phase"] = json!("Pending");
        }
        ("", "Service") => addresses(&mut object["spec"], number),
        ("batch", "Job") if object["spec"]["manualSelector"] != true => job_selector(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let versions = object.pointer("/spec/versions").and_then(Value::as_array);
            let stored = versions
                .into_iter()
                .flatten()
                .filter(|v| v["storage"] == true);
            let names: Vec<Value> = stored.map(|v| v["name"].clone()).collect();
            object["status"]["storedVersions"] = json!(names);
        }
        _ => {}
    }
}

/// Addresses given to a Service stay when a writer leaves them out.
pub fn on_update(kind: &Kind, live: &Value, object: &mut Value) {
    if kind.is("", "Service") && object["spec"]["type"] != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(old) = live["spec"].get(field) {
                put(&mut object["spec"], field, old.clone());
            }
        }
    }
    if kind.is("", "Namespace")
        && let Some(old) = live["spec"].get("finalizers")
    {
        put(&mut object["spec"], "finalizers", old.clone());
    }
}

/// Sets a field that is absent, in an object that is there.
pub(super) fn put(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(map) = object {
        map.entry(field).or_insert(value);
    }
}

/// A map inside, made when absent.
fn child<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    put(object, field, json!({}));
    &mut object[field]
}

/// Runs over the items of a list that may be absent.
pub(super) fn each(list: Option<&mut Value>, change: impl Fn(&mut Value)) {
    if let Some(Value::Array(items)) = list {
        items.iter_mut().for_each(change);
    }
}

/// `stringData` is written in plain and kept in `data`.
fn secret_data(object: &mut Value) {
    use base64::Engine as _;
    let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData"))
    else {
        return;
    };
    let data = child(object, "data");
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        data[key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

fn service(spec: &mut Value) {
    put(spec, "sessionAffinity", json!("None"));
    put(spec, "type", json!("ClusterIP"));
    if spec["sessionAffinity"] == "ClientIP" {
        put(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10800}}),
        );
    }
    each(spec.get_mut("ports"), |port| {
        put(port, "protocol", json!("TCP"));
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null));
        if unset || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = port["port"].clone();
        }
    });
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        put(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        put(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        put(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

fn addresses(spec: &mut Value, number: u64) {
    if spec["type"] == "ExternalName" {
        return;
    }
    let address = format!("10.96.{}.{}", number / 250 % 250, number % 250 + 1);
    put(spec, "clusterIP", json!(address));
    let address = spec["clusterIP"].clone();
    put(spec, "clusterIPs", json!([address]));
    put(spec, "ipFamilies", json!(["IPv4"]));
    put(spec, "ipFamilyPolicy", json!("SingleStack"));
}

fn workload(kind: &str, object: &mut Value) {
    let spec = &mut object["spec"];
    let rolling = json!("RollingUpdate");
    match kind {
        "Deployment" => {
            put(spec, "replicas", json!(1));
            put(spec, "revisionHistoryLimit", json!(10));
            put(spec, "progressDeadlineSeconds", json!(600));
            let strategy = child(spec, "strategy");
            put(strategy, "type", rolling);
            if strategy["type"] == "RollingUpdate" {
                let update = child(strategy, "rollingUpdate");
                put(update, "maxUnavailable", json!("25%"));
                put(update, "maxSurge", json!("25%"));
            }
        }
        "StatefulSet" => {
            put(spec, "replicas", json!(1));
            put(spec, "revisionHistoryLimit", json!(10));
            put(spec, "podManagementPolicy", json!("OrderedReady"));
            let strategy = child(spec, "updateStrategy");
            put(strategy, "type", rolling);
            if strategy["type"] == "RollingUpdate" {
                put(child(strategy, "rollingUpdate"), "partition", json!(0));
            }
            let policy = child(spec, "persistentVolumeClaimRetentionPolicy");
            put(policy, "whenDeleted", json!("Retain"));
            put(policy, "whenScaled", json!("Retain"));
            each(spec.get_mut("volumeClaimTemplates"), |claim| {
                put(&mut claim["spec"], "volumeMode", json!("Filesystem"));
                put(child(claim, "status"), "phase", json!("Pending"));
            });
        }
        "DaemonSet" => {
            put(spec, "revisionHistoryLimit", json!(10));
            let strategy = child(spec, "updateStrategy");
            put(strategy, "type", rolling);
            if strategy["type"] == "RollingUpdate" {
                let update = child(strategy, "rollingUpdate");
                put(update, "maxUnavailable", json!(1));
                put(update, "maxSurge", json!(0));
            }
        }
        "ReplicaSet" => put(spec, "replicas", json!(1)),
        "Job" => job(spec),
        "CronJob" => {
            put(spec, "concurrencyPolicy", json!("Allow"));
            put(spec, "suspend", json!(false));
            put(spec, "successfulJobsHistoryLimit", json!(3));
            put(spec, "failedJobsHistoryLimit", json!(1));
            pod::spec(&mut spec["jobTemplate"]["spec"]["template"]["spec"]);
            return;
        }
        _ => return,
    }
    if spec.get("template").is_some_and(Value::is_object) {
        pod::spec(&mut spec["template"]["spec"]);
    }
}

fn job(spec: &mut Value) {
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        put(spec, "completions", json!(1));
    }
    put(spec, "parallelism", json!(1));
    if spec.get("backoffLimitPerIndex").is_none() {
        put(spec, "backoffLimit", json!(6));
    }
    put(spec, "completionMode", json!("NonIndexed"));
    put(spec, "suspend", json!(false));
    put(spec, "manualSelector", json!(false));
    let policy = match spec.get("podFailurePolicy") {
        Some(_) => "Failed",
        None => "TerminatingOrFailed",
    };
    put(spec, "podReplacementPolicy", json!(policy));
}

fn job_selector(object: &mut Value) {
    let uid = object["metadata"]["uid"].clone();
    let name = object["metadata"]["name"].clone();
    let template = child(&mut object["spec"], "template");
    let labels = child(child(template, "metadata"), "labels");
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        put(labels, key, value.clone());
    }
    object["spec"]["selector"] =
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

fn binding(object: &mut Value) {
    let group = json!("rbac.authorization.k8s.io");
    let unset = |v: Option<&Value>| v.is_none_or(|v| v.as_str() == Some(""));
    if unset(object["roleRef"].get("apiGroup")) {
        object["roleRef"]["apiGroup"] = group.clone();
    }
    each(object.get_mut("subjects"), |subject| {
        let named = matches!(subject["kind"].as_str(), Some("User" | "Group"));
        if named && unset(subject.get("apiGroup")) {
            subject["apiGroup"] = group.clone();
        }
    });
}

fn network_policy(spec: &mut Value) {
    let egress = spec.get("egress").is_some();
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    put(spec, "policyTypes", types);
    for direction in ["ingress", "egress"] {
        each(spec.get_mut(direction), |rule| {
            each(rule.get_mut("ports"), |port| {
                put(port, "protocol", json!("TCP"))
            });
        });
    }
}

fn webhook(webhook: &mut Value) {
    put(webhook, "failurePolicy", json!("Fail"));
    put(webhook, "matchPolicy", json!("Equivalent"));
    put(webhook, "namespaceSelector", json!({}));
    put(webhook, "objectSelector", json!({}));
    put(webhook, "timeoutSeconds", json!(10));
    each(webhook.get_mut("rules"), |rule| {
        put(rule, "scope", json!("*"))
    });
    if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
        put(service, "port", json!(443));
    }
}

fn definition(spec: &mut Value) {
    put(spec, "conversion", json!({"strategy": "None"}));
    let names = &mut spec["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    let unset = |v: Option<&Value>| v.is_none_or(|v| v.as_str() == Some(""));
    if unset(names.get("singular")) {
        names["singular"] = json!(kind.to_lowercase());
    }
    if unset(names.get("listKind")) {
        names["listKind"] = json!(format!("{kind}List"));
    }
}
