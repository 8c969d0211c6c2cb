//! Looks keys up in a sorted map in their own order: one walk over the map instead of a search for each. Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use muster_proto::ObjectKey;

/// A walk over a map of objects.
pub(crate) struct Walk<'a, V>(Peekable<btree_map::Iter<'a, Arc<ObjectKey>, V>>);

impl<'a, V> Walk<'a, V> {
    /// Begins before the first key.
    pub(crate) fn over(map: &'a BTreeMap<Arc<ObjectKey>, V>) -> Self {
        Self(map.iter().peekable())
    }

    /// What the map has under this key, which does not come before one that was asked for already.
    pub(crate) fn get(&mut self, key: &ObjectKey) -> Option<(&'a Arc<ObjectKey>, &'a V)> {
        while let Some(next) = self.0.peek().copied() {
            // Most keys are shared.
            if std::ptr::eq(&**next.0, key) {
                return Some(next);
            }
            match (**next.0).cmp(key) {
                Ordering::Less => self.0.next(),
                Ordering::Equal => return Some(next),
                Ordering::Greater => return None,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::namespace_key;

    #[test]
    fn a_walk_finds_what_a_search_would() {
        let map: BTreeMap<Arc<ObjectKey>, &str> = ["b", "d", "e"]
            .map(|name| (Arc::new(namespace_key(name)), name))
            .into();
        let mut walk = Walk::over(&map);
        for name in ["a", "b", "b", "c", "e", "f"] {
            let key = namespace_key(name);
            assert_eq!(walk.get(&key), map.get_key_value(&key), "{name}");
        }
    }
}
