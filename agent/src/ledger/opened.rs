//! Opening the ledger: takes the cluster, then reads what is there. Whatever can't be read is said, and never taken for
//! an empty ledger.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};

use super::format::{self, Owner, Root, Shard};
use super::owner::may_take;
use super::secrets::{make_namespace, root_secret};
use super::{Items, Ledger, LedgerError, Loaded, ROOT, apply};

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
        let root = Root::new(owner.clone());
        let made = secrets
            .create(&PostParams::default(), &root_secret(&root))
            .await?;
        let ledger = Ledger {
            secrets,
            root,
            resource_version: made.resource_version().unwrap_or_default(),
            journal_bytes: 0,
            torn: false,
        };
        let items = Items::new();
        return Ok((
            ledger,
            Loaded {
                items,
                damaged: None,
            },
        ));
    };
    let data = found.data.clone().unwrap_or_default();
    let (mut root, mut damaged) = match data.get("root").map(|root| Root::read(&root.0)) {
        Some(Ok(root)) => (root, None),
        Some(Err(error)) => (Root::new(owner.clone()), Some(error)),
        None => (Root::new(owner.clone()), Some("the root is empty".into())),
    };
    may_take(&root, owner, namespace).map_err(LedgerError::Lost)?;
    root.owner = Some(owner.clone());
    let mut ledger = Ledger {
        secrets,
        root,
        resource_version: found.resource_version().unwrap_or_default(),
        journal_bytes: 0,
        torn: false,
    };
    ledger.patch_root(&BTreeMap::new()).await?;
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
    Ok((ledger, Loaded { items, damaged }))
}

impl Ledger {
    async fn read_shards(&self, items: &mut Items) -> Result<Result<(), String>, kube::Error> {
        let mut outcome = Ok(());
        for part in &self.root.parts {
            let mut bytes = Vec::new();
            let mut whole = true;
            for shard in part {
                let found = self.secrets.get_opt(&shard.name).await?;
                let found = found.and_then(|secret| secret.data?.remove("shard"));
                match found {
                    Some(ByteString(found)) if Shard::of(&found) == *shard => bytes.extend(found),
                    Some(_) => {
                        whole = false;
                        outcome = Err(format!("shard {} holds something else", shard.name));
                    }
                    None => {
                        whole = false;
                        outcome = Err(format!("shard {} is missing", shard.name));
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
