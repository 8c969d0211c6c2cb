//! What the server says it serves: `/api`, `/apis`, the lists of resources, and both aggregated.
//!
//! In: the kinds. Out: JSON, groups and kinds in a fixed order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::{Kind, Kinds};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const SUB_VERBS: [&str; 3] = ["get", "patch", "update"];

/// `/api`, plain.
#[must_use]
pub fn versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`, plain.
#[must_use]
pub fn groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> = by_group(kinds)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_of(&group, versions.keys()))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
#[must_use]
pub fn group(kinds: &Kinds, name: &str) -> Option<Value> {
    let versions = by_group(kinds).remove(name).filter(|_| !name.is_empty())?;
    let mut out = group_of(name, versions.keys());
    out["kind"] = json!("APIGroup");
    out["apiVersion"] = json!("v1");
    Some(out)
}

fn group_of<'a>(group: &str, versions: impl Iterator<Item = &'a String>) -> Value {
    let mut versions: Vec<&String> = versions.collect();
    versions.sort_by_key(|v| std::cmp::Reverse(rank(v)));
    let of = |v: &String| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    let list: Vec<Value> = versions.iter().map(|v| of(v)).collect();
    json!({"name": group, "versions": list, "preferredVersion": list[0]})
}

/// `/api/v1` and `/apis/GROUP/VERSION`, plain.
#[must_use]
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let of_group: Vec<&Kind> = kinds
        .all()
        .map(AsRef::as_ref)
        .filter(|k| k.group == group && k.version == version)
        .collect();
    let first = of_group.first()?;
    let mut list = Vec::new();
    for kind in &of_group {
        let mut main = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": VERBS,
        });
        if !kind.short.is_empty() {
            main["shortNames"] = json!(kind.short);
        }
        if !kind.categories.is_empty() {
            main["categories"] = json!(kind.categories);
        }
        list.push(main);
        for (name, _, group, version, scaled) in subresources(kind) {
            let mut sub = json!({
                "name": format!("{}/{name}", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": scaled,
                "verbs": SUB_VERBS,
            });
            if name == "scale" {
                sub["group"] = json!(group);
                sub["version"] = json!(version);
            }
            list.push(sub);
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(),
        "resources": list,
    }))
}

/// `/api` (the core group) or `/apis` (all others), aggregated.
#[must_use]
pub fn aggregated(kinds: &Kinds, core: bool) -> Value {
    let mut items = Vec::new();
    for (group, versions) in by_group(kinds) {
        if group.is_empty() != core {
            continue;
        }
        let mut names: Vec<&String> = versions.keys().collect();
        names.sort_by_key(|v| std::cmp::Reverse(rank(v)));
        let versions: Vec<Value> = names
            .into_iter()
            .map(|version| {
                let resources: Vec<Value> = versions[version]
                    .iter()
                    .map(|kind| aggregated_resource(kind))
                    .collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let metadata = if core {
            json!({})
        } else {
            json!({"name": group})
        };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response = |g: &str, v: &str, k: &str| json!({"group": g, "version": v, "kind": k});
    let mut out = json!({
        "resource": kind.plural,
        "responseKind": response(&kind.group, &kind.version, &kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": VERBS,
    });
    if !kind.short.is_empty() {
        out["shortNames"] = json!(kind.short);
    }
    if !kind.categories.is_empty() {
        out["categories"] = json!(kind.categories);
    }
    let subs: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|(name, _, group, version, kind)| {
            json!({
                "subresource": name,
                "responseKind": response(&group, &version, &kind),
                "verbs": SUB_VERBS,
            })
        })
        .collect();
    if !subs.is_empty() {
        out["subresources"] = json!(subs);
    }
    out
}

/// `/openapi/v3`: a document for each group version.
#[must_use]
pub fn openapi(kinds: &Kinds) -> Value {
    let mut paths = serde_json::Map::new();
    for kind in kinds.all() {
        let path = match kind.group.as_str() {
            "" => format!("api/{}", kind.version),
            group => format!("apis/{group}/{}", kind.version),
        };
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The document of a group version: no types, only that patches take `fieldValidation`. That is what kubectl
/// looks for before it lets the server validate.
#[must_use]
pub fn openapi_document(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut paths = serde_json::Map::new();
    for kind in kinds
        .all()
        .filter(|k| k.group == group && k.version == version)
    {
        let patch = json!({
            "parameters": [{"name": "fieldValidation", "in": "query"}],
            "responses": {},
            "x-kubernetes-group-version-kind":
                {"group": group, "version": version, "kind": kind.kind},
        });
        paths.insert(format!("/{}", kind.plural), json!({"patch": patch}));
    }
    let info = json!({"title": "Kubernetes", "version": version});
    json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}})
}

/// Name, of which kind, and what it answers with: group, version, kind.
fn subresources(kind: &Kind) -> Vec<(&'static str, &Kind, String, String, String)> {
    let mut out = Vec::new();
    if kind.scale {
        out.push((
            "scale",
            kind,
            "autoscaling".into(),
            "v1".into(),
            "Scale".into(),
        ));
    }
    if kind.status {
        let (group, version) = (kind.group.clone(), kind.version.clone());
        out.push(("status", kind, group, version, kind.kind.clone()));
    }
    out
}

type Groups<'a> = BTreeMap<String, BTreeMap<String, Vec<&'a Kind>>>;

fn by_group(kinds: &Kinds) -> Groups<'_> {
    let mut out = Groups::new();
    for kind in kinds.all() {
        let versions = out.entry(kind.group.clone()).or_default();
        versions.entry(kind.version.clone()).or_default().push(kind);
    }
    out
}

/// Versions by age of their promise: `v2` before `v1` before `v1beta2` before `v1alpha1`.
fn rank(version: &str) -> (u8, u32, u32) {
    let numbers = version.trim_start_matches('v');
    let split = |word: &str| numbers.split_once(word);
    let parse = |text: &str| text.parse().unwrap_or(0);
    if let Some((major, minor)) = split("beta") {
        (1, parse(major), parse(minor))
    } else if let Some((major, minor)) = split("alpha") {
        (0, parse(major), parse(minor))
    } else {
        (2, parse(numbers), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_discovery_name_the_same_kinds() {
        let kinds = Kinds::built_in();
        let plain = resources(&kinds, "apps", "v1").unwrap();
        let names: Vec<&str> = plain["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"deployments") && names.contains(&"deployments/scale"));
        let all = aggregated(&kinds, false);
        let apps = all["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|g| g["metadata"]["name"] == "apps")
            .unwrap();
        assert_eq!(
            apps["versions"][0]["resources"].as_array().unwrap().len(),
            names.iter().filter(|n| !n.contains('/')).count()
        );
        assert!(resources(&kinds, "apps", "v9").is_none());
    }

    #[test]
    fn stable_versions_come_first() {
        let mut versions = vec!["v1alpha1", "v1", "v2", "v1beta1", "v2beta1"];
        versions.sort_by_key(|v| std::cmp::Reverse(rank(v)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta1", "v1alpha1"]);
    }
}
