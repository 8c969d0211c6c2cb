//! Lists, whole or in pages, and objects reduced to their metadata.
//!
//! In: what is asked for. Out: the list as the server writes it. A later page shows objects as they were when the
//! first was made, for as long as the log of changes reaches back; then it is 410.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::select::Selector;
use super::state::State;
use super::status::Refusal;
use super::write::in_version;

/// What a list asks for.
pub struct Asked {
    /// Which objects.
    pub selector: Selector,
    /// How many at most; 0 for all.
    pub limit: usize,
    /// The token of the page before.
    pub after: Option<String>,
    /// The revision that must be known, or is meant exactly.
    pub revision: Option<String>,
    /// Whether the revision is meant exactly, not at least.
    pub exact: bool,
    /// Whether only metadata is wanted.
    pub metadata_only: bool,
}

/// The list.
pub fn list(state: &State, kind: &Kind, namespace: &str, asked: &Asked) -> Result<Value, Refusal> {
    let newest = state.store.revision();
    let (revision, after) = match &asked.after {
        None => (None, None),
        Some(token) => {
            let bad = || Refusal::bad("continue key is not valid");
            let mut parts = token.splitn(3, '/');
            let mut part = || parts.next().ok_or_else(bad);
            let revision: u64 = part()?.parse().map_err(|_| bad())?;
            let key = (part()?, part()?);
            (Some(revision), Some(key))
        }
    };
    let given = revision_of(asked.revision.as_deref())?;
    if given > newest {
        return Err(Refusal::too_large(given, newest));
    }
    let revision = revision.or((asked.exact && given > 0).then_some(given));
    let objects = state
        .store
        .at(&kind.store(), namespace, revision.unwrap_or(newest))
        .map_err(|_| match &asked.after {
            Some(_) => Refusal::expired(
                "The provided continue parameter is too old to display a consistent list result.",
            ),
            None => Refusal::expired("The resourceVersion for the provided list is too old."),
        })?;
    let revision = revision.unwrap_or(newest);
    let meant: Vec<_> = objects
        .iter()
        .filter(|((ns, name), _)| after.is_none_or(|a| (ns.as_str(), name.as_str()) > a))
        .filter(|(_, object)| asked.selector.matches(object))
        .collect();
    let page = if asked.limit == 0 {
        meant.len()
    } else {
        asked.limit.min(meant.len())
    };
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if page < meant.len() {
        let ((namespace, name), _) = meant[page - 1];
        metadata["continue"] = json!(format!("{revision}/{namespace}/{name}"));
        if asked.selector.is_everything() {
            metadata["remainingItemCount"] = json!(meant.len() - page);
        }
    }
    let item = |object: &Value| {
        let mut object = in_version(kind, object);
        if asked.metadata_only {
            return metadata_only(&object);
        }
        // Typed lists say the kind once.
        if kind.custom.is_none()
            && let Some(object) = object.as_object_mut()
        {
            object.remove("kind");
            object.remove("apiVersion");
        }
        object
    };
    let items: Vec<Value> = meant[..page]
        .iter()
        .map(|(_, object)| item(object))
        .collect();
    let (list_kind, version) = match asked.metadata_only {
        true => (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        ),
        false => (format!("{}List", kind.kind), kind.api_version()),
    };
    Ok(json!({"kind": list_kind, "apiVersion": version, "metadata": metadata, "items": items}))
}

/// A revision as clients write it; 0 for none.
pub(super) fn revision_of(given: Option<&str>) -> Result<u64, Refusal> {
    let given = given.unwrap_or("0");
    given
        .parse()
        .map_err(|_| Refusal::bad(format!("invalid resource version: {given:?}")))
}

/// The object as `PartialObjectMetadata`.
#[must_use]
pub fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
