//! How the engine begins: takes the cluster, reads what the ledger holds, mends it when it is damaged.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use muster_proto::{Desired, Drift, ObjectKey, Rows};

use super::{Cluster, EngineOptions};
use crate::apply::said;
use crate::body::APPLICATION_LABEL;
use crate::desired;
use crate::discovery;
use crate::drift;
use crate::inventory::{self, Entry};
use crate::ledger::format::Owner;
use crate::ledger::{self, Items, Ledger, LedgerError};
use crate::live;
use crate::live::watches;
use crate::since;

/// What the engine begins with.
pub(crate) struct Opening {
    /// Ours from now on.
    pub(crate) ledger: Ledger,
    /// What the API server says of itself.
    pub(crate) cluster: Cluster,
    /// The accepted state; [`Desired::none`] when there is none, or it was lost.
    pub(crate) desired: Desired,
    /// False when an accepted state was lost.
    pub(crate) whole: bool,
    /// What is ours in the cluster.
    pub(crate) inventory: BTreeMap<ObjectKey, Entry>,
    /// What last happened to which object.
    pub(crate) drifts: BTreeMap<ObjectKey, Drift>,
    /// Since when each row stood as it stood.
    pub(crate) since: Rows,
    /// What is wrong with the ledger and could not be mended.
    pub(crate) damaged: Option<String>,
}

/// Opens the ledger and reads it.
///
/// # Errors
/// As [`ledger::open`].
pub(crate) async fn open(client: &Client, options: &EngineOptions) -> Result<Opening, LedgerError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let kube_system = namespaces.get_metadata("kube-system").await?;
    let cluster = Cluster {
        uid: kube_system.metadata.uid.unwrap_or_default(),
        kubernetes_version: client.apiserver_version().await?.git_version,
    };
    let owner = Owner::new(
        options.hub.clone(),
        &options.cluster,
        cluster.uid.clone(),
        options.instance.clone(),
    );
    let (ledger, loaded) = ledger::open(client, &options.namespace, &owner).await?;
    let mut damaged = loaded.damaged;
    let (_, digest) = ledger.accepted();
    let (desired, whole) = match desired::read(&loaded.items, digest) {
        Ok(Some(desired)) => (desired, true),
        Ok(None) => (Desired::none(), true),
        Err(error) => {
            damaged.get_or_insert(error);
            (Desired::none(), false)
        }
    };
    let mut opening = Opening {
        ledger,
        cluster,
        desired,
        whole,
        inventory: BTreeMap::new(),
        drifts: BTreeMap::new(),
        since: since::read(&loaded.items),
        damaged,
    };
    opening.read_inventory(&loaded.items);
    if let Some(damage) = &opening.damaged {
        tracing::warn!(%damage, "the ledger is damaged: rebuilding it from the live objects that are ours");
        opening.ledger.lost(damage);
        opening.rebuild(client).await;
    }
    Ok(opening)
}

impl Opening {
    fn read_inventory(&mut self, items: &Items) {
        for (item, value) in items {
            match inventory::read(item, value) {
                Some(Ok((key, entry))) => {
                    self.inventory.insert(key, entry);
                }
                Some(Err(error)) => {
                    self.damaged.get_or_insert(error);
                }
                None => {
                    if let Some(Ok((key, drift))) = inventory::read_drift(item, value) {
                        self.drifts.insert(key, drift);
                    }
                }
            }
        }
    }

    /// Takes what is found into the inventory. When some kind does not answer, the damage stays.
    async fn rebuild(&mut self, client: &Client) {
        match find_ours(client).await {
            Ok(found) => {
                for (key, entry) in found {
                    self.inventory.entry(key).or_insert(entry);
                }
                self.ledger.mended();
                self.damaged = None;
            }
            Err(why) => self.damaged = Some(why),
        }
    }
}

/// Finds what is ours by looking at every kind.
///
/// # Errors
/// When some kind does not answer: a part must not be taken for the whole.
pub(super) async fn find_ours(client: &Client) -> Result<Vec<(ObjectKey, Entry)>, String> {
    let kinds = discovery::ask_everything(client)
        .await
        .map_err(|error| format!("not every API group answers: {error}"))?;
    let mut found = Vec::new();
    for kind in kinds {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
        let ours = ListParams::default().labels(APPLICATION_LABEL);
        let list = match api.list_metadata(&ours).await {
            Ok(list) => list,
            // Its definition went in the meantime.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => {
                let error = said(&error);
                return Err(format!("{} can't be listed: {error}", kind.resource.kind));
            }
        };
        for object in list {
            let object = watches::metadata_only(object);
            let key = watches::key(&kind, &object);
            found.extend(rebuilt(&object, &kind).map(|entry| (key, entry)));
        }
    }
    Ok(found)
}

/// The entry of an object that is ours by its managedFields. Its digest is unknown: it is applied again when wanted.
fn rebuilt(object: &DynamicObject, kind: &discovery::Kind) -> Option<Entry> {
    let seen = live::look(object, kind, None);
    if !live::is_ours(&seen) {
        return None;
    }
    let managed = object
        .metadata
        .managed_fields
        .as_deref()
        .unwrap_or_default();
    let application = seen.application?.parse().ok()?;
    Some(Entry {
        uid: Some(seen.uid),
        fields: drift::our_entry(managed).map(drift::field_set),
        ..Entry::planned(&seen.ours?.api_version, &application)
    })
}

/// Everything that the ledger should hold.
pub(crate) fn items<'a>(
    desired: &Desired,
    inventory: impl IntoIterator<Item = (&'a ObjectKey, &'a Entry)>,
    drifts: impl IntoIterator<Item = (&'a ObjectKey, &'a Drift)>,
    since: &Rows,
) -> Items {
    let mut items = if desired.generation == 0 {
        Items::new()
    } else {
        desired::items(desired)
    };
    let entries = inventory.into_iter();
    items.extend(entries.map(|(key, entry)| (inventory::item(key), entry.write())));
    let drifts = drifts.into_iter();
    items.extend(
        drifts.map(|(key, drift)| (inventory::drift_item(key), inventory::write_drift(drift))),
    );
    items.append(&mut since::items(since));
    items
}
