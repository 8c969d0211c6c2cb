//! Defaults inside a Pod's specification, also where it is a template.

use serde_json::{Value, json};

use super::{each, put};

/// Fills in one specification.
pub(super) fn spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    put(spec, "dnsPolicy", json!("ClusterFirst"));
    put(spec, "restartPolicy", json!("Always"));
    put(spec, "terminationGracePeriodSeconds", json!(30));
    put(spec, "securityContext", json!({}));
    put(spec, "schedulerName", json!("default-scheduler"));
    // Two names of one field.
    if let Some(name) = spec.get("serviceAccountName").cloned() {
        spec["serviceAccount"] = name;
    } else if let Some(name) = spec.get("serviceAccount").cloned() {
        spec["serviceAccountName"] = name;
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec.get_mut(containers), container);
    }
    each(spec.get_mut("volumes"), volume);
}

fn container(container: &mut Value) {
    put(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    put(container, "terminationMessagePolicy", json!("File"));
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let digest = image.contains('@');
    let latest = !digest && last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    let policy = if latest { "Always" } else { "IfNotPresent" };
    put(container, "imagePullPolicy", json!(policy));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            put(probe, "timeoutSeconds", json!(1));
            put(probe, "periodSeconds", json!(10));
            put(probe, "successThreshold", json!(1));
            put(probe, "failureThreshold", json!(3));
            if let Some(get) = probe.get_mut("httpGet") {
                http_get(get);
            }
            if let Some(grpc) = probe.get_mut("grpc") {
                put(grpc, "service", json!(""));
            }
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            http_get(get);
        }
    }
    each(container.get_mut("env"), |variable| {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            put(reference, "apiVersion", json!("v1"));
        }
    });
}

fn http_get(get: &mut Value) {
    put(get, "path", json!("/"));
    put(get, "scheme", json!("HTTP"));
}

fn volume(volume: &mut Value) {
    let sourceless = volume
        .as_object()
        .is_some_and(|v| v.len() == 1 && v.contains_key("name"));
    if sourceless {
        put(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            put(source, "defaultMode", json!(420));
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        put(path, "type", json!(""));
    }
    each(volume.pointer_mut("/projected/sources"), |source| {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            put(token, "expirationSeconds", json!(3600));
        }
        each(source.pointer_mut("/downwardAPI/items"), field_reference);
    });
    each(volume.pointer_mut("/downwardAPI/items"), field_reference);
}

fn field_reference(item: &mut Value) {
    if let Some(reference) = item.get_mut("fieldRef") {
        put(reference, "apiVersion", json!("v1"));
    }
}
