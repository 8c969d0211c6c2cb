//! Marks that people put on objects: do not remove this, do not apply this. Pure.
//!
//! In: labels and annotations, of Git or of the cluster. Out: what they forbid. Other tools' marks that protect count
//! too: who wrote them meant it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// Says whether an object is applied: `disabled` or `create-only`.
pub(crate) const APPLY: &str = "muster.dev/apply";
/// Says whether an object is removed: `disabled`.
pub(crate) const PRUNE: &str = "muster.dev/prune";

/// Says whether an object may be deleted and made anew where it can't be changed: `enabled` or `disabled`.
const REPLACE: &str = "muster.dev/replace";

/// What a manifest says of replacing; `None`: its application decides.
pub(crate) fn replace(manifest: &Value) -> Option<bool> {
    let annotations = manifest.pointer("/metadata/annotations");
    match annotations.and_then(|annotations| annotations.get(REPLACE)?.as_str())? {
        "enabled" => Some(true),
        // Whatever else it says, it was not said that it may go.
        _ => Some(false),
    }
}

/// What a mark says of applying.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Applying {
    /// Nothing.
    #[default]
    Always,
    /// It is created when it is absent, and left alone after that.
    CreateOnly,
    /// It is left alone, also when it left Git.
    Disabled,
    /// A word that is none of these.
    Unclear(String),
}

impl Applying {
    fn of(word: Option<&str>) -> Self {
        match word {
            None => Self::Always,
            Some("create-only") => Self::CreateOnly,
            Some("disabled") => Self::Disabled,
            Some(other) => Self::Unclear(format!(
                "{APPLY}: {other:?} is no known word: write disabled or create-only"
            )),
        }
    }

    /// By a manifest of Git.
    pub(crate) fn stated(manifest: &Value) -> Self {
        let annotations = manifest.pointer("/metadata/annotations");
        Self::of(annotations.and_then(|annotations| annotations.get(APPLY)?.as_str()))
    }

    /// By an object of the cluster. A word that nobody knows says nothing there: Git decides.
    pub(crate) fn found(metadata: &ObjectMeta) -> Self {
        match Self::of(annotation(metadata, APPLY)) {
            Self::Unclear(_) => Self::Always,
            known => known,
        }
    }
}

/// Marks that forbid to remove an object, and the value that does.
const KEEPS: [(&str, &str); 6] = [
    (PRUNE, "disabled"),
    (APPLY, "disabled"),
    ("helm.sh/resource-policy", "keep"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
    ("cli-utils.sigs.k8s.io/on-remove", "keep"),
    ("client.lifecycle.config.k8s.io/deletion", "detach"),
];
/// Argo CD's list of options.
const ARGO: &str = "argocd.argoproj.io/sync-options";

/// All marks: people put them on objects by hand, and nobody takes them off but who put them there.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    KEEPS.into_iter().map(|(mark, _)| mark).chain([ARGO])
}

/// Is an annotation or a label of this name a mark?
pub(crate) fn is_mark(name: &str) -> bool {
    all().any(|mark| mark == name)
}

/// The mark that forbids to remove an object, as written.
pub(crate) fn keep(metadata: &ObjectMeta) -> Option<String> {
    for (mark, value) in KEEPS {
        // As their tools read them: on either side, in any case.
        let found = [annotation(metadata, mark), value_of(&metadata.labels, mark)];
        let forbids = |found: &str| found.trim().eq_ignore_ascii_case(value);
        if found.into_iter().flatten().any(forbids) {
            return Some(format!("{mark}: {value}"));
        }
    }
    let options = annotation(metadata, ARGO)?;
    let forbids = |option: &str| matches!(option.trim(), "Prune=false" | "Delete=false");
    options
        .split(',')
        .any(forbids)
        .then(|| format!("{ARGO}: {options}"))
}

fn annotation<'a>(metadata: &'a ObjectMeta, mark: &str) -> Option<&'a str> {
    value_of(&metadata.annotations, mark)
}

fn value_of<'a>(map: &'a Option<BTreeMap<String, String>>, mark: &str) -> Option<&'a str> {
    map.as_ref()?.get(mark).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(metadata: Value) -> Option<String> {
        keep(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn marks_that_protect_are_seen() {
        for (mark, value) in [
            ("muster.dev/prune", "disabled"),
            ("muster.dev/apply", "disabled"),
            ("helm.sh/resource-policy", "keep"),
            ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
            ("cli-utils.sigs.k8s.io/on-remove", "keep"),
            ("client.lifecycle.config.k8s.io/deletion", "detach"),
            (
                "argocd.argoproj.io/sync-options",
                "Validate=false, Prune=false",
            ),
            ("argocd.argoproj.io/sync-options", "Delete=false"),
        ] {
            let expected = Some(format!("{mark}: {value}"));
            assert_eq!(kept(json!({"annotations": {mark: value}})), expected);
        }
        let label = json!({"labels": {"kustomize.toolkit.fluxcd.io/prune": "disabled"}});
        assert!(kept(label).is_some());
        let loud = json!({"annotations": {"helm.sh/resource-policy": " Keep"}});
        assert!(kept(loud).is_some());
        let both = json!({"annotations": {"kustomize.toolkit.fluxcd.io/prune": "enabled"},
            "labels": {"kustomize.toolkit.fluxcd.io/prune": "disabled"}});
        assert!(kept(both).is_some());
        for harmless in [
            json!({"annotations": {"muster.dev/prune": "enabled"}}),
            json!({"annotations": {"muster.dev/apply": "create-only"}}),
            json!({"annotations": {"argocd.argoproj.io/sync-options": "Prune=true"}}),
            json!({}),
        ] {
            assert_eq!(kept(harmless), None);
        }
    }

    #[test]
    fn a_word_that_nobody_knows_is_an_error_in_git_and_nothing_in_the_cluster() {
        let marked = |word: &str| json!({"metadata": {"annotations": {APPLY: word}}});
        assert_eq!(Applying::stated(&marked("disabled")), Applying::Disabled);
        assert_eq!(
            Applying::stated(&marked("create-only")),
            Applying::CreateOnly
        );
        assert_eq!(Applying::stated(&json!({})), Applying::Always);
        assert_eq!(
            Applying::stated(&marked("disable")),
            Applying::Unclear(
                "muster.dev/apply: \"disable\" is no known word: write disabled or create-only"
                    .into()
            )
        );
        let found = serde_json::from_value(marked("disable")["metadata"].clone()).unwrap();
        assert_eq!(Applying::found(&found), Applying::Always);
    }
}
