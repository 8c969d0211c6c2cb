//! No two objects of one application are the same object.
//!
//! In: objects and where each is written. Out: one sentence for each that is there already.

use std::collections::BTreeMap;

use muster_proto::{Object, ObjectKey};

use crate::problem::Location;
use crate::render::{Wrong, filled};

/// Every object that another one before it is already, by identity with the application's namespace filled in.
pub(crate) fn twice<'a>(
    objects: impl IntoIterator<Item = (&'a Object, &'a Location)>,
    namespace: &str,
) -> Vec<Wrong> {
    let mut places: BTreeMap<ObjectKey, &Location> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (object, location) in objects {
        let identity = filled(&object.key, namespace);
        if let Some(first) = places.get(&identity) {
            wrong.push(Wrong {
                location: location.clone(),
                message: format!("{identity} is at {first} already"),
            });
            continue;
        }
        places.insert(identity, location);
    }
    wrong
}
