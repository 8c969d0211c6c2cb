//! Which objects a patch is for.
//!
//! In: `target` of a patch, or the object that a strategic merge patch names; the objects of a rendering. Out: those
//! that it is for. Group, version, kind, namespace and name are regular expressions that must match as a whole, and
//! selectors are written as for `kubectl -l`, as in `kustomize` (api/types/selector.go). Objects are known by what
//! they were rendered as, also when a patch before gave them another name.

use std::sync::Arc;

use muster_proto::{DigestKey, Object};
use regex::Regex;
use serde_json::Value;

use crate::Labels;
use crate::builtin::is_cluster_scoped;
use crate::labels::Selector;
use crate::model::spec::PatchTarget;
use crate::nearest::did_you_mean;
use crate::problem::Location;
use crate::render::{Manifest, Wrong};

/// An object of a rendering on its way through the patches.
#[derive(Debug)]
pub(super) struct Candidate<'m> {
    rendered: &'m Manifest,
    /// Stated, else the application's; empty where the kind has none.
    namespace: String,
    /// What it is now, once somebody asked; `None` inside: deleted.
    value: Option<Option<Value>>,
    /// The patch that changed it last.
    changed: Option<Location>,
}

/// `target`, read.
#[derive(Debug)]
pub(super) struct Target {
    stated: PatchTarget,
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    namespace: Option<Regex>,
    name: Option<Regex>,
    labels: Selector,
    annotations: Selector,
}

impl Target {
    pub(super) fn read(stated: &PatchTarget) -> Result<Self, String> {
        let pattern = |field: &str, text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Regex::new(&format!("^(?:{text})$"))
                .map(Some)
                .map_err(|_| format!("{field}: {text:?} is no regular expression")),
        };
        let selector = |field: &str, text: &Option<String>| {
            Selector::parse(text.as_deref().unwrap_or("")).map_err(|why| format!("{field}: {why}"))
        };
        Ok(Self {
            group: pattern("group", &stated.group)?,
            version: pattern("version", &stated.version)?,
            kind: pattern("kind", &stated.kind)?,
            namespace: pattern("namespace", &stated.namespace)?,
            name: pattern("name", &stated.name)?,
            labels: selector("labelSelector", &stated.label_selector)?,
            annotations: selector("annotationSelector", &stated.annotation_selector)?,
            stated: stated.clone(),
        })
    }

    pub(super) fn selects(&self, candidate: &mut Candidate) -> bool {
        let object = candidate.object();
        let of = |pattern: &Option<Regex>, text: &str| {
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(text))
        };
        of(&self.group, &object.key.group)
            && of(&self.version, version(&object.api_version))
            && of(&self.kind, &object.key.kind)
            && of(&self.name, &object.key.name)
            && of(&self.namespace, &candidate.namespace)
            && !candidate.is_gone()
            && candidate.has(&self.labels, "labels")
            && candidate.has(&self.annotations, "annotations")
    }

    /// What is said when it selects nothing.
    pub(super) fn nothing(&self, candidates: &[Candidate]) -> String {
        let (field, wanted, known): (_, _, Vec<&str>) = match (&self.stated.name, &self.stated.kind)
        {
            (Some(name), _) => (
                "name",
                name,
                candidates
                    .iter()
                    .map(|it| it.object().key.name.as_str())
                    .collect(),
            ),
            (None, Some(kind)) => (
                "kind",
                kind,
                candidates
                    .iter()
                    .map(|it| it.object().key.kind.as_str())
                    .collect(),
            ),
            (None, None) => return "the target of the patch selects no object".into(),
        };
        let hint = match known.contains(&wanted.as_str()) {
            true => String::new(),
            false => did_you_mean(wanted, known),
        };
        format!("the target of the patch (with {field} {wanted:?}) selects no object{hint}")
    }
}

/// The object that a strategic merge patch names.
pub(super) fn named<'c, 'm>(
    candidates: &'c mut [Candidate<'m>],
    patch: &Value,
    namespace: &str,
) -> Result<&'c mut Candidate<'m>, String> {
    let text = |pointer: &str| patch.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let name = text("/metadata/name");
    if [api_version, kind, name].contains(&"") {
        return Err(
            "a patch without a target names its object: apiVersion, kind and metadata.name".into(),
        );
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let own = effective(text("/metadata/namespace"), namespace, group, kind);
    let is_named = |it: &&mut Candidate| {
        let object = it.object();
        object.api_version == api_version
            && object.key.kind == kind
            && object.key.name == name
            && it.namespace == own
            && !it.is_gone()
    };
    let known: Vec<_> = candidates.iter().map(Candidate::object).collect();
    let names = known
        .iter()
        .filter(|it| it.key.kind == kind && it.key.group == group);
    let others: Vec<String> = names.clone().map(|it| it.key.name.clone()).collect();
    let elsewhere = names.clone().find(|it| it.key.name == name);
    let shown = match own.as_str() {
        "" => format!("{api_version} {kind} {name}"),
        own => format!("{api_version} {kind} {own}/{name}"),
    };
    let hint = match elsewhere {
        Some(it) => format!("; there is {} {}", it.api_version, it.key),
        None => did_you_mean(name, others.iter().map(String::as_str)),
    };
    candidates
        .iter_mut()
        .find(is_named)
        .ok_or_else(|| format!("the patch is for {shown}, which is not rendered{hint}"))
}

/// The namespace that counts: stated, else the application's, else `default`; empty where the kind has none.
fn effective(stated: &str, application: &str, group: &str, kind: &str) -> String {
    let known = [stated, application, "default"];
    match is_cluster_scoped(group, kind) {
        true => String::new(),
        false => known
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default()
            .to_owned(),
    }
}

fn version(api_version: &str) -> &str {
    api_version
        .split_once('/')
        .map_or(api_version, |(_, version)| version)
}

impl<'m> Candidate<'m> {
    pub(super) fn new(rendered: &'m Manifest, namespace: &str) -> Self {
        let key = &rendered.object.key;
        Self {
            rendered,
            namespace: effective(&key.namespace, namespace, &key.group, &key.kind),
            value: None,
            changed: None,
        }
    }

    /// As it was rendered.
    pub(super) fn object(&self) -> &'m Object {
        &self.rendered.object
    }

    /// As it is now; null when it is gone.
    pub(super) fn value(&mut self) -> &Value {
        let rendered = self.rendered;
        let value = self
            .value
            .get_or_insert_with(|| Some(rendered.object.value()));
        value.as_ref().unwrap_or(&Value::Null)
    }

    pub(super) fn change(&mut self, value: Option<Value>, by: &Location) {
        self.value = Some(value);
        self.changed = Some(by.clone());
    }

    fn is_gone(&self) -> bool {
        matches!(self.value, Some(None))
    }

    fn has(&mut self, selector: &Selector, field: &str) -> bool {
        if *selector == Selector::default() {
            return true;
        }
        let texts = self.value()["metadata"][field].as_object().into_iter();
        let texts = texts.flatten().filter_map(|(name, value)| {
            let value = value.as_str()?;
            Some((name.clone(), value.to_owned()))
        });
        selector.matches(&texts.collect::<Labels>())
    }

    /// The object that came out; the rendered one itself when no patch was for it.
    pub(super) fn finish(self, key: &DigestKey) -> Result<Option<Manifest>, Wrong> {
        let (Some(by), Some(value)) = (self.changed, self.value) else {
            return Ok(Some(self.rendered.clone()));
        };
        let Some(value) = value else {
            return Ok(None);
        };
        match Object::new(&value, key) {
            Ok(object) => Ok(Some(Manifest {
                object: Arc::new(object),
                location: self.rendered.location.clone(),
            })),
            Err(invalid) => Err(Wrong {
                location: by,
                message: format!(
                    "leaves {} as no object: {invalid}",
                    self.rendered.object.key
                ),
            }),
        }
    }
}
