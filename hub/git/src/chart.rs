//! One chart of a repository of charts: found, fetched, checked and kept. Everything here blocks.
//!
//! In: which chart of which repository. Out: its newest version as a [`Commit`]: the chart's files, or for another chart
//! the one packed file. What was taken as a version stays that version: the same version with another content is an
//! error, and what is there stays. So a version that is on disk is never asked for again.

mod archive;
mod index;
pub(super) mod kept;
mod registry;
#[cfg(test)]
mod tests;
mod web;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use muster_decide::address::Address;
use muster_decide::model::{Chart, Origin, Repository};
use muster_decide::{File, FileContent, Snapshot};
use muster_proto::Timestamp;

use super::mirror::Commit;
use super::remote::Access;
use super::transport::Credentials;
use index::Seen;
use kept::{Kept, Newest};
use registry::Registry;
use web::Web;

/// A packed chart may have so many bytes.
const LARGEST_PACKED: usize = 20 << 20;

/// A chart that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    /// Of its repository, without a slash at the end.
    pub(super) url: String,
    /// Before places in it.
    name: Arc<str>,
    chart: Chart,
    access: Access,
    kept: Kept,
}

/// A version that a repository has.
#[derive(Debug)]
struct Offered {
    version: String,
    /// The sha256 of the packed chart, in hex, where the repository says it.
    sha256: Option<String>,
    place: Place,
}

/// Where a packed chart is.
#[derive(Debug)]
enum Place {
    /// At the first of these URLs.
    File(reqwest::Url),
    /// In the registry that was asked.
    Blob,
}

impl Followed {
    /// What an origin of the fleet names, to be kept in `folder`.
    pub(super) fn named(
        origin: &Origin,
        chart: &Chart,
        repository: &Repository,
        credentials: Option<PathBuf>,
        folder: PathBuf,
    ) -> Self {
        let name = match chart.packed {
            false => format!("{}/{}", origin.repository, chart.name),
            true => chart.name.clone(),
        };
        Self {
            url: repository.url.trim_end_matches('/').to_owned(),
            name: name.into(),
            chart: chart.clone(),
            access: Access::Held {
                name: repository.credential.clone(),
                folder: credentials,
            },
            kept: Kept(folder),
        }
    }

    /// Which versions, for people.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.chart.name, self.chart.version)
    }

    /// One version does not change.
    pub(super) fn is_pinned(&self) -> bool {
        self.chart.is_exact()
    }

    /// What was taken last, without asking the network.
    pub(super) fn read_newest(&self) -> anyhow::Result<Option<Commit>> {
        let Some(newest) = self.kept.newest() else {
            return Ok(None);
        };
        let Some(packed) = self.kept.read(&newest.version, &newest.sha256) else {
            return Ok(None);
        };
        let files = self.files(&newest.version, &packed);
        let files = files.map_err(anyhow::Error::msg)?;
        Ok(Some(self.commit(&newest, self.snapshot(&newest, files))))
    }

    /// Asks the repository, and brings what is not here. The error is for people.
    pub(super) fn fetch(
        &self,
        before: Option<&Arc<Snapshot>>,
        now: impl FnOnce() -> Timestamp,
        stop: &AtomicBool,
    ) -> Result<Commit, String> {
        let credentials = Credentials::read(&self.access, &self.url)?;
        let web = Web::new(&credentials, &self.url, stop)?;
        let kept = self.kept.newest();
        let known = kept.as_ref().map(|newest| &newest.seen);
        let (mut newest, files) = match self.find(&web, known.filter(|_| before.is_some()))? {
            None => (kept.expect("it was known"), None),
            Some((offered, mut registry, seen)) => {
                let (sha256, files) = self.bring(&web, &offered, registry.as_mut(), before)?;
                let newest = Newest {
                    version: offered.version,
                    sha256,
                    fetched_at: 0,
                    seen,
                };
                (newest, files)
            }
        };
        newest.fetched_at = now().0;
        let unwritable = |error: std::io::Error| format!("what was fetched can't be kept: {error}");
        self.kept.put_newest(&newest).map_err(unwritable)?;
        let same = before.filter(|before| before.revision == newest.sha256);
        let snapshot = match (same, files) {
            (Some(same), None) => same.clone(),
            (_, Some(files)) => self.snapshot(&newest, files),
            (None, None) => return Err("what was kept of it is damaged".to_owned()),
        };
        Ok(self.commit(&newest, snapshot))
    }

    /// Which version is to be taken; `None`: the same as when the index was seen.
    fn find<'w>(
        &self,
        web: &'w Web<'w>,
        known: Option<&Seen>,
    ) -> Result<Option<(Offered, Option<Registry<'w>>, Seen)>, String> {
        if Address::parse(&self.url).is_ok_and(|address| address.is_oci()) {
            let mut registry = Registry::at(web, &self.url, &self.chart.name)?;
            let offered = registry.find(&self.chart)?;
            return Ok(Some((offered, Some(registry), Seen::default())));
        }
        let found = index::find(web, &self.url, &self.chart, known)?;
        Ok(found.map(|(offered, seen)| (offered, None, seen)))
    }

    /// The sha256 and the files of a version; no files when they are those of the snapshot before.
    fn bring(
        &self,
        web: &Web<'_>,
        offered: &Offered,
        registry: Option<&mut Registry<'_>>,
        before: Option<&Arc<Snapshot>>,
    ) -> Result<(String, Option<BTreeMap<String, Bytes>>), String> {
        let version = &offered.version;
        if let Some(sha256) = &offered.sha256 {
            self.is_that_version(version, sha256)?;
        }
        // What has no digest in the index is what it was.
        let taken = self.kept.sha256_of(version);
        if let Some(sha256) = offered.sha256.as_ref().or(taken.as_ref()) {
            if before.is_some_and(|before| before.revision == *sha256) {
                return Ok((sha256.clone(), None));
            }
            if let Some(packed) = self.kept.read(version, sha256) {
                return Ok((sha256.clone(), Some(self.files(version, &packed)?)));
            }
        }
        let (from, packed) = match (&offered.place, registry) {
            (Place::File(url), _) => web.packed(url)?,
            (Place::Blob, Some(registry)) => registry.blob(offered)?,
            (Place::Blob, None) => return Err("nobody was asked for it".to_owned()),
        };
        let sha256 = kept::sha256(&packed);
        if let Some(stated) = offered.sha256.as_ref().filter(|stated| **stated != sha256) {
            return Err(format!(
                "{from} holds something else than {} says: its sha256 is {sha256}, and should be {stated}",
                self.url
            ));
        }
        self.is_that_version(version, &sha256)?;
        let files = self.files(version, &packed);
        let files = files.map_err(|why| format!("{from} {why}"))?;
        self.kept
            .put(version, &sha256, &packed)
            .map_err(|error| format!("what was fetched can't be kept: {error}"))?;
        Ok((sha256, Some(files)))
    }

    /// A version never changes, and is the stated one where one is stated.
    fn is_that_version(&self, version: &str, sha256: &str) -> Result<(), String> {
        let name = &self.chart.name;
        if let Some(stated) = self.chart.digest.as_ref().filter(|it| *it != sha256) {
            return Err(format!(
                "the chart {name} {version} of {} is sha256:{sha256}, and spec.source.chart.digest says sha256:{stated}",
                self.url
            ));
        }
        match self.kept.sha256_of(version) {
            Some(taken) if taken != sha256 => {
                let take = match self.chart.packed {
                    false => ", or state this digest in spec.source.chart.digest",
                    true => "",
                };
                Err(format!(
                    "the chart {name} {version} of {} was sha256:{taken} and is sha256:{sha256} now; the one before stays: a version must not change, so publish a new one{take}",
                    self.url
                ))
            }
            _ => Ok(()),
        }
    }

    /// What is in a packed chart, checked. The error follows its name.
    fn files(&self, version: &str, packed: &Bytes) -> Result<BTreeMap<String, Bytes>, String> {
        let files = archive::unpack(packed)?;
        archive::is_chart(&files, &self.chart.name, version)?;
        Ok(match self.chart.packed {
            false => files,
            true => [(format!("{}-{version}.tgz", self.chart.name), packed.clone())].into(),
        })
    }

    fn snapshot(&self, newest: &Newest, files: BTreeMap<String, Bytes>) -> Arc<Snapshot> {
        let file = |(path, bytes): (String, Bytes)| {
            let file = File {
                oid: kept::sha256(&bytes),
                content: FileContent::Bytes(bytes),
            };
            (path, file)
        };
        Arc::new(Snapshot {
            repository: Some(self.name.clone()),
            revision: newest.sha256.clone(),
            files: files.into_iter().map(file).collect(),
        })
    }

    fn commit(&self, newest: &Newest, snapshot: Arc<Snapshot>) -> Commit {
        let is_range = !self.chart.is_exact();
        Commit {
            snapshot,
            subject: format!("{} {}", self.chart.name, newest.version),
            fetched_at: Timestamp(newest.fetched_at),
            picked: is_range.then(|| newest.version.clone()),
            trouble: None,
        }
    }
}
