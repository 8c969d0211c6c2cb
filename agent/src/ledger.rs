//! The ledger: what the agent must remember, kept in the cluster as Secrets. One mechanism for the accepted state and
//! the inventory: a map from text to bytes with one owner.
//!
//! A root Secret says who owns the cluster, lists immutable, content-named shards, and carries a journal of recent
//! changes. A change is one compare-and-swap of the root; when the journal is long, new shards are written, the root
//! flips to them, and only then the old ones go. In: changes. Out: what was read at the start, and errors that tell a
//! lost cluster from a lost connection. [`format`] has the bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use muster_proto::{Digest, Generation};
use serde_json::json;

use format::{Part, Root, Shard};
use owner::taken_by;
use secrets::{root_secret, shard_secret};

pub(crate) mod format;
mod opened;
mod owner;
mod secrets;
pub(crate) mod taken;

pub(crate) use opened::open;

/// Everything the ledger holds.
pub(crate) type Items = BTreeMap<String, Bytes>;
/// Values to put, keys to drop.
pub(crate) type Change = BTreeMap<String, Option<Bytes>>;

/// Name of the root; shards are `muster-ledger-<digest>`.
pub(crate) const ROOT: &str = "muster-ledger";
/// On the root and the shards.
const LABEL: &str = "muster.dev/ledger";
/// On the root, so that a watch of its metadata shows that another process took the cluster.
pub(crate) const INSTANCE: &str = "muster.dev/instance";
/// Past this many bytes the journal is folded into shards.
const JOURNAL_LIMIT: usize = 256 * 1024;

/// The open ledger of this cluster, owned by this process.
pub(crate) struct Ledger {
    secrets: Api<Secret>,
    root: Root,
    resource_version: String,
    journal_bytes: usize,
    /// A write failed and may have passed all the same: the next one writes everything anew.
    torn: bool,
}

/// What was read when the ledger was opened.
pub(crate) struct Loaded {
    /// What it holds; what could be read of it when it is damaged.
    pub(crate) items: Items,
    /// What is missing or wrong, for people.
    pub(crate) damaged: Option<String>,
}

/// Why the ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Somebody else owns the cluster now; the text names the remedy. Final.
    #[error("{0}")]
    Lost(String),
    /// The API server did not answer, or refused; worth another try.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// Somebody keeps changing the root's metadata under our hands.
    #[error("the Secret {ROOT} changes faster than it can be written")]
    Busy,
}

/// Puts a change into a map.
pub(crate) fn apply(items: &mut Items, change: Change) {
    for (key, value) in change {
        match value {
            Some(value) => items.insert(key, value),
            None => items.remove(&key),
        };
    }
}

impl Ledger {
    /// Generation and digest of the accepted state, known even when the ledger is damaged.
    pub(crate) fn accepted(&self) -> (Generation, Digest) {
        (self.root.generation, self.root.digest)
    }

    /// The process that owns the cluster: this one.
    pub(crate) fn instance(&self) -> &str {
        self.root.owner.as_ref().map_or("", |owner| &owner.instance)
    }

    /// Keeps a change. `accepted` goes into the root; `all` is everything after the change, asked for only when the
    /// journal is folded.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] when another process took the cluster: nothing may be written any more.
    pub(crate) async fn append(
        &mut self,
        accepted: (Generation, Digest),
        change: &Change,
        all: impl FnOnce() -> Items,
    ) -> Result<(), LedgerError> {
        let frame = format::write_frame(change);
        if self.torn || self.journal_bytes + frame.len() > JOURNAL_LIMIT {
            return self.rewrite(accepted, &all()).await;
        }
        (self.root.generation, self.root.digest) = accepted;
        self.root.sequence += 1;
        let name = format!("journal-{:010}", self.root.sequence);
        let size = frame.len();
        match self.patch_root(&BTreeMap::from([(name, frame)])).await {
            Ok(()) => {
                self.journal_bytes += size;
                Ok(())
            }
            Err(error) => {
                // It may have been written although no answer came: only a whole rewrite is sure now.
                self.torn = true;
                self.learn(error).await?;
                self.rewrite(accepted, &all()).await
            }
        }
    }

    /// Writes everything anew: shards first, then the root flips, then what is not listed any more goes.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub(crate) async fn rewrite(
        &mut self,
        accepted: (Generation, Digest),
        items: &Items,
    ) -> Result<(), LedgerError> {
        let mut parts = Vec::new();
        let mut wanted = Vec::new();
        for chunks in format::partition(items) {
            let mut part = Part::default();
            for bytes in chunks {
                let shard = Shard::of(&bytes);
                wanted.push((shard.name.clone(), bytes));
                part.push(shard);
            }
            parts.push(part);
        }
        let known: BTreeSet<&str> = self
            .root
            .shards()
            .map(|shard| shard.name.as_str())
            .collect();
        wanted.retain(|(name, _)| !known.contains(name.as_str()));
        let secrets = &self.secrets;
        futures::stream::iter(wanted)
            .map(|(name, bytes)| async move {
                let secret = shard_secret(&name, bytes);
                match secrets.create(&PostParams::default(), &secret).await {
                    Ok(_) => Ok(()),
                    // Named by its content: it is there already. Another 409 (a quota that moved, say) wrote nothing.
                    Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(4)
            .try_collect::<()>()
            .await?;

        (self.root.generation, self.root.digest) = accepted;
        self.root.sequence += 1;
        let old_parts = std::mem::replace(&mut self.root.parts, parts);
        match self.replace_root().await {
            Ok(()) => {
                self.journal_bytes = 0;
                self.torn = false;
                // What can't be collected now is collected at the next start.
                let _ = self.collect_orphans().await;
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                self.root.parts = old_parts;
                Err(error)
            }
        }
    }

    /// Forgets everything and gives the cluster up, so that another hub or name may take it.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub(crate) async fn release(&mut self) -> Result<(), LedgerError> {
        let owner = self.root.owner.take();
        let released = self.rewrite((0, Digest::ZERO), &Items::new()).await;
        if released.is_err() {
            self.root.owner = owner;
        }
        released
    }

    /// One compare-and-swap of the root: its new head and what is added to the journal.
    async fn patch_root(&mut self, added: &BTreeMap<String, Vec<u8>>) -> Result<(), kube::Error> {
        let mut data = BTreeMap::from([("root".to_owned(), ByteString(self.root.write()))]);
        data.extend(
            added
                .iter()
                .map(|(name, bytes)| (name.clone(), ByteString(bytes.clone()))),
        );
        let patch = json!({
            "metadata": {
                "resourceVersion": self.resource_version,
                "annotations": {INSTANCE: self.instance()},
            },
            "data": data,
        });
        let patch = Patch::Merge(&patch);
        let patched = self
            .secrets
            .patch_metadata(ROOT, &PatchParams::default(), &patch)
            .await?;
        self.resource_version = patched.metadata.resource_version.unwrap_or_default();
        Ok(())
    }

    /// The root anew, without a journal: by compare-and-swap, or created when somebody deleted it.
    async fn replace_root(&mut self) -> Result<(), LedgerError> {
        let parameters = PostParams::default();
        for _ in 0..3 {
            let mut secret = root_secret(&self.root);
            secret.metadata.resource_version = Some(self.resource_version.clone());
            let mut written = self.secrets.replace(ROOT, &parameters, &secret).await;
            if matches!(&written, Err(kube::Error::Api(status)) if status.code == 404) {
                secret.metadata.resource_version = None;
                written = self.secrets.create(&parameters, &secret).await;
            }
            match written {
                Ok(written) => {
                    self.resource_version = written.resource_version().unwrap_or_default();
                    return Ok(());
                }
                Err(error) => self.learn(error).await?,
            }
        }
        Err(LedgerError::Busy)
    }

    /// After a refused swap: is the cluster still ours? Then learns the current resourceVersion, so that the next try
    /// may pass. Every other error is passed on.
    async fn learn(&mut self, error: kube::Error) -> Result<(), LedgerError> {
        match &error {
            kube::Error::Api(status) if status.code == 409 => {}
            kube::Error::Api(status) if status.code == 404 => return Ok(()),
            _ => return Err(error.into()),
        }
        let Some(found) = self.secrets.get_opt(ROOT).await? else {
            return Ok(());
        };
        let data = found.data.as_ref().and_then(|data| data.get("root"));
        match data.map(|root| Root::read(&root.0)) {
            Some(Ok(root)) if root.owner != self.root.owner => {
                Err(LedgerError::Lost(taken_by(&root)))
            }
            _ => {
                self.resource_version = found.resource_version().unwrap_or_default();
                Ok(())
            }
        }
    }

    /// Removes shards that the root does not list: left by a crash between writing them and the flip, or after it.
    async fn collect_orphans(&self) -> Result<(), kube::Error> {
        let listed: BTreeSet<&str> = self
            .root
            .shards()
            .map(|shard| shard.name.as_str())
            .collect();
        let shards = ListParams::default().labels(&format!("{LABEL}=shard"));
        for shard in self.secrets.list_metadata(&shards).await? {
            if listed.contains(shard.name_any().as_str()) {
                continue;
            }
            let only_this = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: shard.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match self.secrets.delete(&shard.name_any(), &only_this).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
