//! Every object that applications state, under the identity it has in this cluster. Pure.
//!
//! In: the desired state, what is known of the cluster's kinds. Out: [`Claim`]s in the order of the identities, so that
//! what stands side by side is found by going along, and not by a search for each of thousands.

use std::borrow::Cow;
use std::sync::Arc;

use muster_proto::{ApplicationName, Content, Desired, Object, ObjectKey, Settings};

use crate::discovery::{Catalogue, Kind};

/// One object that an application states.
pub(super) struct Claim<'a> {
    /// Who it is here; as stated, where the cluster does not serve its kind.
    pub(super) key: Cow<'a, ObjectKey>,
    /// Who states it.
    pub(super) application: &'a ApplicationName,
    /// As Git states it.
    pub(super) object: &'a Arc<Object>,
    /// Its kind, where the cluster serves it.
    pub(super) kind: Option<&'a Arc<Kind>>,
}

/// By identity; of those with one identity by the name of the application, and then as stated.
pub(super) fn claims<'a>(desired: &'a Desired, catalogue: &'a Catalogue) -> Vec<Claim<'a>> {
    let mut claims = Vec::new();
    for application in &desired.applications {
        let Content::Objects { settings, objects } = &application.content else {
            continue;
        };
        claims.extend(objects.iter().map(|object| {
            let kind = catalogue.kind(&object.api_version, &object.key.kind);
            Claim {
                key: identity(object, kind, settings),
                application: &application.name,
                object,
                kind,
            }
        }));
    }
    claims.sort_by(|a, b| a.key.cmp(&b.key));
    claims
}

/// Those of one identity at a time.
pub(super) fn by_identity<'a, 'b>(
    claims: &'b [Claim<'a>],
) -> impl Iterator<Item = &'b [Claim<'a>]> {
    claims.chunk_by(|a, b| a.key == b.key)
}

/// Identity in this cluster: the namespace filled in, or dropped from what has none.
fn identity<'a>(
    object: &'a Object,
    kind: Option<&Arc<Kind>>,
    settings: &Settings,
) -> Cow<'a, ObjectKey> {
    let namespace = match kind {
        Some(kind) if !kind.namespaced => "",
        _ => namespace(object, settings),
    };
    if namespace == object.key.namespace {
        return Cow::Borrowed(&object.key);
    }
    let mut key = object.key.clone();
    namespace.clone_into(&mut key.namespace);
    Cow::Owned(key)
}

/// The namespace that an object is stated for.
pub(super) fn namespace<'a>(object: &'a Object, settings: &'a Settings) -> &'a str {
    match object.key.namespace.as_str() {
        "" => &settings.namespace,
        stated => stated,
    }
}
