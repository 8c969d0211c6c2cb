//! Opening the ledger: takes the cluster, then reads what is there. Whatever can't be read is said, and never taken for
//! an empty ledger.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};

use super::format::{self, FORMAT, Owner, Root};
use super::owner::may_take;
use super::secrets::{make_namespace, root_secret};
use super::{Items, LABEL, Ledger, LedgerError, Loaded, ROOT, apply, digests, read_shard};

/// Opens the ledger and takes the cluster for `owner`; makes namespace and root when they are absent.
///
/// # Errors
/// [`LedgerError::Lost`] when another hub, cluster name or cluster owns it.
pub(crate) async fn open(
    client: &Client,
    namespace: &str,
    owner: &Owner,
) -> Result<(Ledger, Loaded), LedgerError> {
    make_namespace(client, namespace).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Some(found) = secrets.get_opt(ROOT).await? else {
        let shards = ListParams::default().labels(&format!("{LABEL}=shard"));
        let left = secrets.list_metadata(&shards).await?.items.len();
        let mut root = Root::new(owner.clone());
        root.damaged = (left > 0)
            .then(|| format!("the Secret {ROOT} is gone, and {left} parts of it are left"));
        let made = secrets
            .create(&PostParams::default(), &root_secret(&root))
            .await?;
        let damaged = root.damaged.clone();
        let ledger = ledger(secrets, root, made.resource_version());
        let items = Items::new();
        return Ok((ledger, Loaded { items, damaged }));
    };
    let data = found.data.clone().unwrap_or_default();
    let (mut root, unread) = match data.get("root").map(|root| Root::read(&root.0)) {
        Some(Ok(root)) => (root, None),
        Some(Err(error)) => (Root::new(owner.clone()), Some(error)),
        None => (Root::new(owner.clone()), Some("the root is empty".into())),
    };
    may_take(&root, owner, namespace).map_err(LedgerError::Lost)?;
    let mut damaged = unread.or_else(|| root.damaged.clone());
    let older = root.format < FORMAT;
    root.owner = Some(owner.clone());
    root.format = FORMAT;
    // In the first write already: who is killed after it must not leave a root that looks whole and lists nothing.
    root.damaged.clone_from(&damaged);
    let mut ledger = ledger(secrets, root, found.resource_version());
    ledger.torn = older;
    let bytes = |(name, bytes): (&String, &ByteString)| (name.clone(), bytes.0.clone());
    ledger.written = digests(&data.iter().map(bytes).collect());
    ledger.patch_root(BTreeMap::new()).await?;
    ledger.collect_orphans().await?;

    let mut items = Items::new();
    if let Err(error) = ledger.read_shards(&mut items).await? {
        damaged.get_or_insert(error);
    }
    for (name, frame) in data.iter().filter(|(name, _)| name.starts_with("journal-")) {
        ledger.journal_bytes += frame.0.len();
        match format::read_frame(&frame.0) {
            Ok(change) => apply(&mut items, change),
            Err(error) => {
                damaged.get_or_insert(format!("{name}: {error}"));
            }
        }
    }
    if let Some(damage) = &damaged {
        ledger.lost(damage);
    }
    Ok((ledger, Loaded { items, damaged }))
}

fn ledger(secrets: Api<Secret>, root: Root, resource_version: Option<String>) -> Ledger {
    let written = digests(&BTreeMap::from([("root".into(), root.write())]));
    Ledger {
        secrets,
        root,
        torn: false,
        confirmed: false,
        resource_version: resource_version.unwrap_or_default(),
        journal_bytes: 0,
        written,
        whole: BTreeMap::new(),
    }
}

impl Ledger {
    async fn read_shards(&mut self, items: &mut Items) -> Result<Result<(), String>, kube::Error> {
        let mut outcome = Ok(());
        for part in &self.root.parts {
            let mut bytes = Vec::new();
            let mut whole = true;
            for shard in part {
                match read_shard(&self.secrets, shard).await? {
                    Ok((found, version)) => {
                        self.whole.insert(shard.name.clone(), version);
                        bytes.extend(found);
                    }
                    Err(damage) => {
                        whole = false;
                        outcome = Err(damage);
                    }
                }
            }
            if whole {
                match format::read_frame(&bytes) {
                    Ok(change) => apply(items, change),
                    Err(error) => outcome = Err(error),
                }
            }
        }
        Ok(outcome)
    }
}
