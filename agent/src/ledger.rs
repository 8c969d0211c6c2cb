//! The ledger: what the agent must remember, kept in the cluster as Secrets. One mechanism for the accepted state and
//! the inventory: a map from text to bytes with one owner.
//!
//! A root Secret says who owns the cluster, lists immutable, content-named shards, and carries a journal of recent
//! changes. A change is one compare-and-swap of the root; when the journal is long, new shards are written, the root
//! flips to them, and only then the old ones go. What is damaged while the agent runs is written anew from memory. In:
//! changes. Out: what was read at the start, and errors that tell a lost cluster from a lost connection. [`format`] has
//! the bytes, [`shown`] what the API server shows of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use muster_proto::{Digest, Generation};
use serde_json::json;

use crate::apply::said;
use format::{Part, Root, Shard};
use owner::taken_by;
use secrets::{root_secret, shard_secret};
use shown::Shown;

pub(crate) mod format;
mod opened;
mod owner;
mod secrets;
pub(crate) mod shown;
pub mod stored;

pub(crate) use opened::open;

/// Everything the ledger holds.
pub(crate) type Items = BTreeMap<String, Bytes>;
/// Values to put, keys to drop.
pub(crate) type Change = BTreeMap<String, Option<Bytes>>;

/// Name of the root; shards are `muster-ledger-<digest>`.
pub const ROOT: &str = "muster-ledger";
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
    /// Of each value of the root, as it should be.
    written: BTreeMap<String, Digest>,
    /// Resource versions of shards that were read or written, and are whole.
    whole: BTreeMap<String, u64>,
    /// A write failed and may have passed all the same, or somebody's hand was in it: everything is written anew.
    torn: bool,
    /// A write in this phase passed, or [`Ledger::confirm`] was asked: the cluster is ours.
    confirmed: bool,
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
    #[error("{}", said(.0))]
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

    /// Something of it is lost; the root says so from the next write on, until [`Ledger::mended`].
    pub(crate) fn lost(&mut self, damage: &str) {
        self.root.damaged = Some(damage.to_owned());
        self.torn = true;
    }

    /// What was lost is found again; the next write says so.
    pub(crate) fn mended(&mut self) {
        self.root.damaged = None;
        self.torn = true;
    }

    /// Is the cluster still ours? Asked once in a phase in which nothing was written yet, by a compare-and-swap that
    /// changes nothing: the API server stores nothing for it.
    ///
    /// # Errors
    /// As [`Ledger::append`]. Who can't ask may go on: nothing says that somebody else took it.
    pub(crate) async fn confirm(&mut self) -> Result<(), LedgerError> {
        if std::mem::replace(&mut self.confirmed, true) {
            return Ok(());
        }
        let patch = json!({ "metadata": { "resourceVersion": self.resource_version } });
        let patch = Patch::Merge(&patch);
        let parameters = PatchParams::default();
        match self.secrets.patch_metadata(ROOT, &parameters, &patch).await {
            Ok(_) => Ok(()),
            // What it is now is not what we wrote: whoever looks at the ledger, or writes it, mends that.
            Err(kube::Error::Api(status)) if status.code == 409 => self.is_ours().await.map(drop),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// There is nothing more to do: whatever comes is another phase.
    pub(crate) fn rests(&mut self) {
        self.confirmed = false;
    }

    /// Must everything be written anew?
    pub(crate) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Compares what is shown with what was written. What differs is looked at itself, since what is shown may be of
    /// before our last write; says what is damaged, and then the next write writes everything anew.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub(crate) async fn look(&mut self, shown: &Shown) -> Result<Option<String>, LedgerError> {
        if self.torn || !self.differs(shown) {
            return Ok(None);
        }
        // Until that was answered it is not known to be whole.
        self.torn = true;
        let damage = self.damage(shown).await?;
        self.torn = damage.is_some();
        Ok(damage)
    }

    fn differs(&self, shown: &Shown) -> bool {
        let ours = version(Some(self.resource_version.clone()));
        match shown.versions.get(ROOT) {
            None => true,
            Some(root) if *root < ours => false,
            Some(root) => {
                let same =
                    |shard: &Shard| self.whole.get(&shard.name) == shown.versions.get(&shard.name);
                *root > ours || !self.root.shards().all(same)
            }
        }
    }

    async fn damage(&mut self, shown: &Shown) -> Result<Option<String>, LedgerError> {
        let Some(found) = self.is_ours().await? else {
            return Ok(Some(format!("the Secret {ROOT} is gone")));
        };
        let data = found.data.clone().unwrap_or_default();
        let labelled = found.labels().contains_key(LABEL);
        let digests = data
            .iter()
            .map(|(name, bytes)| (name.clone(), Digest::of([&bytes.0])));
        if !labelled || digests.collect::<BTreeMap<_, _>>() != self.written {
            return Ok(Some(format!(
                "the Secret {ROOT} was changed by another hand"
            )));
        }
        // Its metadata alone was changed.
        self.resource_version = found.resource_version().unwrap_or_default();
        for shard in self.root.shards() {
            if self.whole.get(&shard.name) == shown.versions.get(&shard.name) {
                continue;
            }
            match read_shard(&self.secrets, shard).await? {
                Ok((_, version)) => {
                    self.whole.insert(shard.name.clone(), version);
                }
                Err(damage) => return Ok(Some(damage)),
            }
        }
        Ok(None)
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
        match self.patch_root(BTreeMap::from([(name, frame)])).await {
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
        // Not what is said to be there, but what was seen to be.
        let distrusted = std::mem::take(&mut self.torn);
        self.torn = true;
        if distrusted {
            self.whole.clear();
        }
        wanted.retain(|(name, _)| !self.whole.contains_key(name));
        let secrets = &self.secrets;
        let made: Vec<(String, u64)> = futures::stream::iter(wanted)
            .map(|(name, bytes)| make_shard(secrets, name, bytes))
            .buffer_unordered(4)
            .try_collect()
            .await?;
        self.whole.extend(made);

        (self.root.generation, self.root.digest) = accepted;
        self.root.sequence += 1;
        let old_parts = std::mem::replace(&mut self.root.parts, parts);
        match self.replace_root().await {
            Ok(()) => {
                self.journal_bytes = 0;
                self.torn = false;
                let listed: BTreeSet<&str> = self
                    .root
                    .shards()
                    .map(|shard| shard.name.as_str())
                    .collect();
                self.whole.retain(|name, _| listed.contains(name.as_str()));
                // What can't be collected now is collected at the next start.
                let _ = self.collect_orphans().await;
                Ok(())
            }
            Err(error) => {
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
    async fn patch_root(&mut self, added: BTreeMap<String, Vec<u8>>) -> Result<(), kube::Error> {
        let mut data = added;
        data.insert("root".to_owned(), self.root.write());
        let digests = digests(&data);
        let data: BTreeMap<String, ByteString> = data
            .into_iter()
            .map(|(name, bytes)| (name, ByteString(bytes)))
            .collect();
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
        self.written.extend(digests);
        self.confirmed = true;
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
                    self.written = digests(&BTreeMap::from([("root".into(), self.root.write())]));
                    self.confirmed = true;
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
        if let Some(found) = self.is_ours().await? {
            self.resource_version = found.resource_version().unwrap_or_default();
        }
        Ok(())
    }

    /// The root as it is now, when there is one.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] when it names somebody else.
    async fn is_ours(&self) -> Result<Option<Secret>, LedgerError> {
        let found = self.secrets.get_opt(ROOT).await?;
        let data = found.as_ref().and_then(|found| found.data.as_ref());
        let root = data.and_then(|data| data.get("root"));
        match root.map(|root| Root::read(&root.0)) {
            Some(Ok(root)) if root.owner != self.root.owner => {
                Err(LedgerError::Lost(taken_by(&root)))
            }
            _ => Ok(found),
        }
    }

    /// Removes shards that the root does not list: left by a crash between writing them and the flip, or after it.
    /// Not while something is lost: they may be all that is left of it.
    async fn collect_orphans(&self) -> Result<(), kube::Error> {
        if self.root.damaged.is_some() {
            return Ok(());
        }
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

fn digests(data: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Digest> {
    let digest = |(name, bytes): (&String, &Vec<u8>)| (name.clone(), Digest::of([bytes]));
    data.iter().map(digest).collect()
}

/// Resource versions are numbers that grow.
fn version(version: Option<String>) -> u64 {
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Writes one shard, or finds it whole: it is named by its content. Returns its resourceVersion.
async fn make_shard(
    secrets: &Api<Secret>,
    name: String,
    bytes: Vec<u8>,
) -> Result<(String, u64), LedgerError> {
    let wanted = Shard::of(&bytes);
    let secret = shard_secret(&name, bytes);
    for _ in 0..3 {
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(made) => return Ok((name, version(made.resource_version()))),
            // Another 409 (a quota that moved, say) wrote nothing.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(error.into()),
        }
        if let Ok((_, version)) = read_shard(secrets, &wanted).await? {
            return Ok((name, version));
        }
        // Somebody else's bytes under our name, which nobody can put right: Secrets of this kind can't be changed.
        match secrets.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(LedgerError::Busy)
}

/// The bytes of a shard and its resourceVersion, or what is wrong with it.
async fn read_shard(
    secrets: &Api<Secret>,
    shard: &Shard,
) -> Result<Result<(Vec<u8>, u64), String>, kube::Error> {
    let Some(found) = secrets.get_opt(&shard.name).await? else {
        return Ok(Err(format!("shard {} is missing", shard.name)));
    };
    let version = version(found.resource_version());
    let labelled = found.labels().contains_key(LABEL);
    let bytes = found.data.and_then(|mut data| data.remove("shard"));
    Ok(match bytes {
        Some(ByteString(bytes)) if labelled && Shard::of(&bytes) == *shard => Ok((bytes, version)),
        _ => Err(format!("shard {} holds something else", shard.name)),
    })
}
