//! Lists, whole or in pages, and objects reduced to their metadata.
//!
//! In: what is asked for. Out: the list as the server writes it. A later page shows objects as they are by
//! then: no snapshot of the first page is kept.

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
    /// Whether only metadata is wanted.
    pub metadata_only: bool,
}

/// The list.
pub fn list(state: &State, kind: &Kind, namespace: &str, asked: &Asked) -> Result<Value, Refusal> {
    let after = match &asked.after {
        None => None,
        Some(token) => {
            let key = token.split_once('/');
            Some(key.ok_or_else(|| Refusal::bad("continue key is not valid"))?)
        }
    };
    let meant: Vec<_> = state
        .store
        .list(&kind.store(), namespace)
        .filter(|((ns, name), _)| after.is_none_or(|a| (ns.as_str(), name.as_str()) > a))
        .filter(|(_, object)| asked.selector.matches(object))
        .collect();
    let page = if asked.limit == 0 {
        meant.len()
    } else {
        asked.limit.min(meant.len())
    };
    let mut metadata = json!({"resourceVersion": state.store.revision().to_string()});
    if page < meant.len() {
        let ((namespace, name), _) = meant[page - 1];
        metadata["continue"] = json!(format!("{namespace}/{name}"));
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

/// The object as `PartialObjectMetadata`.
#[must_use]
pub fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
