//! No two objects of one application are the same object.
//!
//! In: objects and where each is written. Out: one sentence for each that is there already.

use std::collections::HashMap;

use muster_proto::{Object, ObjectKey};

use crate::problem::Location;
use crate::render::{Wrong, filled};

/// Group, kind, namespace and name.
type Identity<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Every object that another one before it is already, by identity with the application's namespace filled in.
pub(crate) fn twice<'a>(
    objects: impl IntoIterator<Item = (&'a Object, &'a Location)>,
    namespace: &'a str,
) -> Vec<Wrong> {
    let mut places: HashMap<Identity<'a>, &Location> = HashMap::new();
    let mut wrong = Vec::new();
    for (object, location) in objects {
        let first = places.entry(identity(&object.key, namespace));
        let first = *first.or_insert(location);
        if !std::ptr::eq(first, location) {
            let identity = filled(&object.key, namespace);
            wrong.push(Wrong {
                location: location.clone(),
                message: format!("{identity} is at {first} already"),
            });
        }
    }
    wrong
}

/// As [`filled`], for comparing only.
fn identity<'a>(key: &'a ObjectKey, namespace: &'a str) -> Identity<'a> {
    let namespace = match key.namespace.as_str() {
        "" => namespace,
        stated => stated,
    };
    (&key.group, &key.kind, namespace, &key.name)
}
