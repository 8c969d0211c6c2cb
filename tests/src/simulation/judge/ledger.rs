//! Reads the agent's ledger as it is stored at each moment: no generation comes back or has two contents, and what leaves
//! the inventory is gone, or nothing in it was applied by the agent any more (invariants 4 and 5).
//!
//! In: the API server. Out: what must not be; the states that were accepted, and what was abandoned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use muster_agent::ledger::ROOT;
use muster_agent::ledger::stored::{self, Stored};
use muster_proto::{Desired, Digest, Generation, ObjectKey};
use serde_json::Value;

use super::super::cluster::is_ours;
use crate::memory::Server;

/// Where the ledger is.
const NAMESPACE: &str = "muster-system";

#[derive(Default)]
pub(super) struct Ledger {
    /// Of the root that was read last.
    version: String,
    inventory: BTreeSet<ObjectKey>,
    /// Of accepted states.
    highest: Generation,
    contents: BTreeMap<Generation, Digest>,
    abandoned: BTreeSet<String>,
    /// Of those, what was left when the cluster was let go, and not applied since.
    let_go: BTreeSet<String>,
}

impl Ledger {
    /// Reads what is stored now; the accepted state, when the ledger is another than before. An agent that `may_let_go`
    /// of its cluster leaves all that is there and begins anew.
    ///
    /// # Errors
    /// What must not be.
    pub(super) fn follow(
        &mut self,
        server: &Server,
        may_let_go: bool,
    ) -> Result<Option<Arc<Desired>>, String> {
        let Some(root) = server.stored("secrets", NAMESPACE, ROOT) else {
            return Ok(None);
        };
        let version = root["metadata"]["resourceVersion"].as_str();
        let version = version.unwrap_or_default();
        if version == self.version {
            return Ok(None);
        }
        version.clone_into(&mut self.version);
        let secret = |name: &str| {
            let secret = server.stored("secrets", NAMESPACE, name)?;
            Some(values(&secret))
        };
        let stored = stored::read(secret).map_err(|why| format!("invariant 5: {why}"))?;
        let Some(Stored { desired, inventory }) = stored else {
            return Ok(None);
        };
        let lets_go = may_let_go && desired.generation == 0;
        if lets_go {
            (self.highest, self.contents) = (0, BTreeMap::new());
        }
        self.compare(&desired)?;
        for key in &inventory {
            if let Some(object) = object(server, key) {
                self.abandoned.remove(&uid(&object));
            }
        }
        for key in self.inventory.difference(&inventory) {
            let Some(object) = object(server, key) else {
                continue;
            };
            let uid = uid(&object);
            if lets_go && is_ours(&object) {
                self.let_go.insert(uid.clone());
            }
            if is_ours(&object) && !self.let_go.contains(&uid) {
                return Err(format!(
                    "invariant 5: {key} left the inventory, and is there: {object}"
                ));
            }
            self.abandoned.insert(uid);
        }
        self.inventory = inventory;
        Ok(Some(Arc::new(desired)))
    }

    /// Takes in what the agent says it accepted. What was written and not answered may be taken back until then.
    ///
    /// # Errors
    /// When it accepted an older one, or another under the same generation.
    pub(super) fn accepted(&mut self, held: &Desired) -> Result<(), String> {
        if held.generation > 0 {
            self.compare(held)?;
            self.highest = held.generation;
            self.contents.insert(held.generation, held.digest());
        }
        Ok(())
    }

    fn compare(&self, desired: &Desired) -> Result<(), String> {
        let generation = desired.generation;
        if generation < self.highest {
            return Err(format!(
                "invariant 4: generation {generation} after {}",
                self.highest
            ));
        }
        match self.contents.get(&generation) {
            Some(known) if *known != desired.digest() => Err(format!(
                "invariant 4: generation {generation} has two contents"
            )),
            _ => Ok(()),
        }
    }

    /// The agent writes to the object at this path of the API.
    pub(super) fn written(&mut self, server: &Server, plural: &str, name: &str) {
        if let Some(object) = server.stored(plural, super::NAMESPACE, name) {
            self.let_go.remove(&uid(&object));
        }
    }

    /// Whether the object at this path of the API stands in the inventory.
    pub(super) fn has(&self, plural: &str, name: &str) -> bool {
        let same = |key: &ObjectKey| key.name == name && self::plural(key) == plural;
        self.inventory.iter().any(same)
    }

    /// UIDs of objects that were taken out of the inventory and left.
    pub(super) fn abandoned(&self) -> &BTreeSet<String> {
        &self.abandoned
    }
}

fn plural(key: &ObjectKey) -> String {
    format!("{}s", key.kind.to_lowercase())
}

fn object(server: &Server, key: &ObjectKey) -> Option<Arc<Value>> {
    server.stored(&plural(key), &key.namespace, &key.name)
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// What a Secret holds.
fn values(secret: &Value) -> BTreeMap<String, Vec<u8>> {
    let data = secret["data"].as_object().into_iter().flatten();
    let values = data.map(|(name, value)| {
        let value = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
        (name.clone(), value.unwrap_or_default())
    });
    values.collect()
}
