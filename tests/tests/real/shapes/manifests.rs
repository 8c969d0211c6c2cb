//! Definitions and configuration that other projects ship, and a definition of nearly a megabyte.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use muster_decide::render::{Closure, Objects, closure, plain};
use muster_decide::snapshot::{File, FileContent, Snapshot};
use muster_proto::DigestKey;
use muster_tests::cluster::real;
use serde_json::{Value, json};

use super::Noted;

/// What a file of manifests holds, read as the hub reads it.
fn manifests(text: String) -> Result<Vec<Value>> {
    let file = File {
        oid: "1".into(),
        content: FileContent::Bytes(text.into_bytes().into()),
    };
    let snapshot = Snapshot {
        revision: "abc".into(),
        files: BTreeMap::from([("shop/all.yaml".to_owned(), file)]),
        ..Snapshot::default()
    };
    let wrong = |wrong: &dyn std::fmt::Debug| anyhow!("{wrong:?}");
    let found = closure(&snapshot, &BTreeSet::new(), "shop").map_err(|it| wrong(&it))?;
    let Closure::Plain(files) = found else {
        bail!("a program is to render it");
    };
    let key = DigestKey::new([5; 32]);
    let rendered =
        plain(&files, |at| at, "shop", &key, &mut Objects::default()).map_err(|it| wrong(&it))?;
    Ok(rendered.iter().map(|it| it.object.value()).collect())
}

async fn shipped(name: &str) -> Result<Vec<Value>> {
    let file = real::program(name).await?;
    manifests(std::fs::read_to_string(file)?).with_context(|| name.to_owned())
}

/// Twelve definitions, objects of three of them, roles, a FlowSchema, a StorageClass, a Deployment in another
/// namespace.
#[tokio::test]
async fn what_kwok_ships_is_applied_stays_and_goes() -> Result<()> {
    let mut objects = shipped("kwok-shapes.yaml").await?;
    ensure!(objects.len() > 30, "{}", objects.len());
    // What its kustomization would add.
    for object in objects.iter_mut().filter(|it| it["kind"] == "Deployment") {
        let labels = json!({"app": "kwok-controller"});
        object["spec"]["selector"] = json!({"matchLabels": labels});
        object["spec"]["template"]["metadata"]["labels"] = labels;
    }
    let mut noted = Noted::start(real::shared("shapes").await?, "shapes-kwok").await?;
    noted.come_and_stay(&objects).await?;
    noted.go_but(&[]).await
}

#[tokio::test]
async fn the_definitions_of_flux_are_applied_stay_and_go() -> Result<()> {
    let objects = shipped("flux-crds.yaml").await?;
    ensure!(objects.len() > 5, "{}", objects.len());
    let mut noted = Noted::start(real::shared("shapes").await?, "shapes-flux").await?;
    noted.come_and_stay(&objects).await?;
    noted.go_but(&[]).await
}

/// More than an annotation can hold, and nearly more than an object may have.
#[tokio::test]
async fn a_definition_of_nine_hundred_kilobytes_is_applied_stays_and_goes() -> Result<()> {
    let mut noted = Noted::start(real::shared("shapes").await?, "shapes-large").await?;
    let group = format!("{}.example.com", noted.bed.namespace);
    let field = |n: usize| {
        let words = format!("field {n} of a definition that somebody wrote down at length. ");
        let schema = json!({"type": "object", "description": words.repeat(7),
            "properties": {"value": {"type": "string", "maxLength": 63}, "count": {"type": "integer"}}});
        (format!("field{n}"), schema)
    };
    let fields: serde_json::Map<String, Value> = (0..1600).map(field).collect();
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("carts.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Cart", "plural": "carts"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": fields}}}}}]}});
    let size = definition.to_string().len();
    ensure!((880_000..1_000_000).contains(&size), "{size}");
    let cart = json!({"apiVersion": format!("{group}/v1"), "kind": "Cart", "metadata": {"name": "first"},
        "spec": {"field7": {"value": "x", "count": 3}}});
    noted.come_and_stay(&[definition, cart]).await?;
    noted.go_but(&[]).await
}
