//! From a real server's published schema and discovery to the committed table `facts.txt`.
//!
//! In: `/openapi/v3` (one document a group version), aggregated discovery, `/version`. Out: text, sorted, one
//! line a field: what [`super::schema`] and [`super::kinds`] read. `testbed distil` writes it; a test distils
//! again from the pinned server and compares. Only kinds that can be created, listed, watched, patched and
//! deleted are kept, with the types they reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use kube::Client;
use serde_json::Value;

/// What a kind must allow to be served by us.
const VERBS: [&str; 7] = [
    "create", "delete", "get", "list", "patch", "update", "watch",
];

/// The `Accept` header for aggregated discovery.
pub const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// Reads a server and writes the table.
pub async fn distil(client: &Client) -> Result<String> {
    let get = async |path: &str, accept: &str| -> Result<Value> {
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())?;
        client
            .request::<Value>(request)
            .await
            .with_context(|| format!("GET {path}"))
    };
    let json = "application/json";
    let version = get("/version", json).await?;
    let version = version["gitVersion"]
        .as_str()
        .context("no gitVersion")?
        .to_owned();
    let discovery = [
        get("/api", AGGREGATED).await?,
        get("/apis", AGGREGATED).await?,
    ];
    let index = get("/openapi/v3", json).await?;
    let paths = index["paths"]
        .as_object()
        .context("no paths in /openapi/v3")?;
    let mut documents = Vec::new();
    for (_, path) in paths {
        let url = path["serverRelativeURL"]
            .as_str()
            .context("no serverRelativeURL")?;
        documents.push(get(url, json).await?);
    }
    table(&version, &discovery, &documents)
}

/// The table for these answers.
pub fn table(version: &str, discovery: &[Value], documents: &[Value]) -> Result<String> {
    let mut schemas: BTreeMap<&str, &Value> = BTreeMap::new();
    for document in documents {
        let found = document
            .pointer("/components/schemas")
            .and_then(Value::as_object);
        schemas.extend(found.into_iter().flatten().map(|(k, v)| (k.as_str(), v)));
    }
    let by_kind = kinds_of(&schemas);
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    for (group_version, resource) in resources(discovery) {
        let text = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str);
        let words = |key: &str| -> Vec<&str> {
            let list = resource[key].as_array();
            list.into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        };
        let verbs = words("verbs");
        if !VERBS.iter().all(|v| verbs.contains(v)) {
            continue;
        }
        let plural = text("/resource").context("a resource without a name")?;
        let kind = text("/responseKind/kind").context("a resource without a kind")?;
        let Some(name) = by_kind.get(&(group_version.clone(), kind.to_owned())) else {
            bail!("{group_version} {kind} has no schema");
        };
        collect(name, &schemas, &mut types)?;
        let subresources: Vec<&str> = resource["subresources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s["subresource"].as_str())
            .filter(|s| ["status", "scale"].contains(s))
            .collect();
        let scope = text("/scope").context("a resource without a scope")?;
        let mut line = format!("kind {group_version} {kind} {plural}");
        write!(
            line,
            " {} {scope}",
            text("/singularResource").unwrap_or_default()
        )?;
        write!(line, " type={}", short(name))?;
        let lists = [
            ("short", words("shortNames")),
            ("categories", words("categories")),
            ("subresources", subresources),
        ];
        for (key, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            write!(line, " {key}={}", list.join(","))?;
        }
        kinds.insert(line);
    }
    let mut out = format!(
        "# How the built-in kinds of Kubernetes merge. Written by `testbed distil`; do not edit.\n\
         server {version}\n"
    );
    for line in kinds {
        out.push_str(&line);
        out.push('\n');
    }
    for text in types.values() {
        out.push_str(text);
    }
    Ok(out)
}

/// Each resource of aggregated discovery, with its group version.
fn resources(discovery: &[Value]) -> Vec<(String, &Value)> {
    let mut out = Vec::new();
    for group in discovery.iter().flat_map(|d| list(&d["items"])) {
        let name = group
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        for version in list(&group["versions"]) {
            let number = version["version"].as_str().unwrap_or_default();
            let group_version = match name {
                "" => number.to_owned(),
                name => format!("{name}/{number}"),
            };
            for resource in list(&version["resources"]) {
                out.push((group_version.clone(), resource));
            }
        }
    }
    out
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The name of the schema that says it is this kind; several kinds may share one (`DeleteOptions`).
fn kinds_of(schemas: &BTreeMap<&str, &Value>) -> BTreeMap<(String, String), String> {
    let mut out = BTreeMap::new();
    for (name, schema) in schemas {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        for gvk in kinds.into_iter().flatten() {
            let text = |key: &str| gvk[key].as_str().unwrap_or_default();
            let group_version = match text("group") {
                "" => text("version").to_owned(),
                group => format!("{group}/{}", text("version")),
            };
            out.insert((group_version, text("kind").to_owned()), (*name).to_owned());
        }
    }
    out
}

/// `io.k8s.api.apps.v1.Deployment` as `api.apps.v1.Deployment`.
fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.").unwrap_or(name)
}

/// Writes the section of a type and of all it reaches.
fn collect(
    name: &str,
    schemas: &BTreeMap<&str, &Value>,
    types: &mut BTreeMap<String, String>,
) -> Result<()> {
    if types.contains_key(name) {
        return Ok(());
    }
    types.insert(name.to_owned(), String::new());
    let schema = schemas
        .get(name)
        .with_context(|| format!("no schema {name}"))?;
    let mut reached = BTreeSet::new();
    let mut out = format!("type {}", short(name));
    let properties = schema["properties"].as_object();
    if name.ends_with("api.resource.Quantity") {
        out.push_str(" = any\n");
    } else if name.ends_with("runtime.RawExtension") {
        out.push_str(" = raw\n");
    } else if let Some(properties) = properties.filter(|p| !p.is_empty()) {
        if schema["x-kubernetes-map-type"] == "atomic" {
            out.push_str(" atomic");
        }
        out.push('\n');
        let required = schema["required"].as_array();
        let required = |field: &str| required.is_some_and(|r| r.iter().any(|v| v == field));
        for (field, property) in properties {
            let kind =
                expression(property, &mut reached).with_context(|| format!("{name}.{field}"))?;
            write!(out, " {field} {kind}")?;
            if required(field) {
                out.push_str(" required");
            }
            if let Some(default) = property.get("default") {
                write!(out, " = {default}")?;
            }
            out.push('\n');
        }
    } else {
        writeln!(out, " = {}", expression(schema, &mut reached)?)?;
    }
    types.insert(name.to_owned(), out);
    for name in reached {
        collect(&name, schemas, types)?;
    }
    Ok(())
}

/// A property as a type expression of the table.
fn expression(property: &Value, reached: &mut BTreeSet<String>) -> Result<String> {
    let reference = property["$ref"]
        .as_str()
        .or_else(|| property.pointer("/allOf/0/$ref").and_then(Value::as_str));
    if let Some(reference) = reference {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        reached.insert(name.to_owned());
        let whole = if property["x-kubernetes-map-type"] == "atomic" {
            "!"
        } else {
            ""
        };
        return Ok(format!("@{}{whole}", short(name)));
    }
    let format = property["format"].as_str().unwrap_or_default();
    Ok(match property["type"].as_str() {
        None => "open".to_owned(),
        Some("integer" | "number") => "number".to_owned(),
        Some("boolean") => "flag".to_owned(),
        Some("string") if ["", "byte"].contains(&format) => "text".to_owned(),
        Some("string") => "any".to_owned(),
        Some("array") => {
            let item = expression(&property["items"], reached)?;
            match relation(property)? {
                None => format!("[{item}]"),
                Some(keys) if keys.is_empty() => format!("[set,{item}]"),
                Some(keys) => format!("[{}:{item}]", keys.join(",")),
            }
        }
        Some("object") if property.get("properties").is_some() => {
            bail!("a struct without a name")
        }
        Some("object") => match property.get("additionalProperties") {
            Some(item) if item.is_object() => format!("{{{}}}", expression(item, reached)?),
            _ => "{open}".to_owned(),
        },
        Some(other) => bail!("unknown type {other}"),
    })
}

/// How a list merges: `None` as one leaf, keys otherwise, no keys for a set. The older patch strategy speaks
/// where the list type does not.
pub(super) fn relation(property: &Value) -> Result<Option<Vec<String>>> {
    let text = |key: &str| property[key].as_str();
    match text("x-kubernetes-list-type") {
        Some("atomic") => return Ok(None),
        Some("set") => return Ok(Some(Vec::new())),
        Some("map") => {
            let keys = property["x-kubernetes-list-map-keys"].as_array();
            let keys = keys.context("a list of type map without x-kubernetes-list-map-keys")?;
            let keys = keys.iter().filter_map(Value::as_str).map(str::to_owned);
            return Ok(Some(keys.collect()));
        }
        Some(other) => bail!("unknown list type {other}"),
        None => {}
    }
    Ok(match text("x-kubernetes-patch-strategy") {
        Some("merge" | "merge,retainKeys") => {
            let key = text("x-kubernetes-patch-merge-key").map(str::to_owned);
            Some(key.into_iter().collect())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_published_schema_becomes_lines() {
        let discovery = [
            json!({"items": [{"metadata": {"name": "apps"}, "versions": [{
            "version": "v1", "resources": [
                {"resource": "things", "responseKind": {"kind": "Thing"}, "scope": "Namespaced",
                 "singularResource": "thing", "shortNames": ["th"], "verbs": VERBS,
                 "subresources": [{"subresource": "status"}, {"subresource": "exec"}]},
                {"resource": "reviews", "responseKind": {"kind": "Review"}, "verbs": ["create"]},
            ]}]}]}),
        ];
        let documents = [json!({"components": {"schemas": {
            "io.k8s.Thing": {
                "x-kubernetes-group-version-kind": [
                    {"group": "apps", "version": "v1", "kind": "Thing"}],
                "type": "object", "required": ["ports"],
                "properties": {
                    "ports": {"type": "array", "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port"],
                        "items": {"allOf": [{"$ref": "#/components/schemas/io.k8s.Port"}],
                            "default": {}}},
                    "at": {"type": "string", "format": "date-time"},
                    "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                }},
            "io.k8s.Port": {"type": "object", "x-kubernetes-map-type": "atomic",
                "properties": {"port": {"type": "integer", "default": 0}}},
            "io.k8s.Unreached": {"type": "object"},
        }}})];
        let text = table("v9", &discovery, &documents).unwrap();
        let body = text.split_once('\n').unwrap().1;
        assert_eq!(
            body,
            "server v9\n\
             kind apps/v1 Thing things thing Namespaced type=Thing short=th subresources=status\n\
             type Port atomic\n port number = 0\n\
             type Thing\n at any\n ports [port:@Port] required\n tags {text}\n"
        );
    }
}
