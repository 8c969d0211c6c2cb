//! What a follower follows: the commits of a repository, or the versions of a chart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use muster_decide::Snapshot;
use muster_decide::model::{Origin, Repository};
use muster_proto::{Digest, Timestamp};

use super::chart::Followed;
use super::mirror::{Commit, Mirror};
use super::remote::Remote;
use super::{Blobs, Place, Tracked};

/// One of them, with what of it is on disk.
#[derive(Debug)]
pub(super) enum Source {
    Commits(Arc<Mirror>),
    Chart(Followed),
}

/// The name of the folder of what an origin names.
pub(super) fn folder_of(origin: &Origin, repository: &Repository) -> String {
    let (name, url) = (origin.repository.as_str(), repository.url.as_str());
    let key = match &origin.chart {
        None => {
            let reference = origin.reference.as_ref().map(ToString::to_string);
            Digest::of([name, url, &reference.unwrap_or_default()])
        }
        Some(chart) => {
            let digest = chart.digest.as_deref().unwrap_or_default();
            let form = if chart.packed { "packed" } else { "" };
            Digest::of([name, url, &chart.name, &chart.version, digest, form])
        }
    };
    key.short().to_string()
}

impl Source {
    /// What a document of the fleet names, or a chart; kept in `folder`.
    ///
    /// # Errors
    /// As [`Remote::named`].
    pub(super) fn named(
        origin: &Origin,
        repository: &Repository,
        credentials: Option<PathBuf>,
        fleet: &str,
        folder: PathBuf,
    ) -> Result<Self, String> {
        if let Some(chart) = &origin.chart {
            let chart = Followed::named(origin, chart, repository, credentials, folder);
            return Ok(Self::Chart(chart));
        }
        let remote = Remote::named(origin, repository, credentials, fleet)?;
        Ok(Self::Commits(Arc::new(Mirror::new(remote, folder))))
    }

    /// As it is before anything was fetched.
    pub(super) fn unseen(&self) -> Tracked {
        match self {
            Self::Commits(mirror) => Tracked {
                url: mirror.remote.url.clone(),
                reference: mirror.remote.what(),
                blobs: Blobs(Place::Mirror(mirror.clone())),
                ..Tracked::default()
            },
            Self::Chart(chart) => Tracked {
                url: chart.url.clone(),
                reference: chart.what(),
                ..Tracked::default()
            },
        }
    }

    /// What it follows does not move.
    pub(super) fn is_pinned(&self) -> bool {
        match self {
            Self::Commits(mirror) => mirror.remote.is_pinned(),
            Self::Chart(chart) => chart.is_pinned(),
        }
    }

    /// What is on disk is all there is to have.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            // Its submodules may be missing.
            Self::Commits(_) => false,
            Self::Chart(chart) => chart.is_pinned(),
        }
    }

    /// What is on disk, without asking the network; `None` when there is nothing yet. Blocks.
    pub(super) fn read_newest(&self) -> anyhow::Result<Option<Commit>> {
        match self {
            Self::Commits(mirror) => mirror.read_newest(),
            Self::Chart(chart) => chart.read_newest(),
        }
    }

    /// Fetches and reads; `anew`: as if nothing were on disk. Blocks. The error is for people.
    pub(super) fn fetch(
        &self,
        before: Option<&Arc<Snapshot>>,
        anew: bool,
        now: impl FnOnce() -> Timestamp,
        stop: &AtomicBool,
    ) -> Result<Commit, String> {
        match self {
            Self::Commits(mirror) => mirror.fetch(before, anew, now, stop),
            Self::Chart(chart) => chart.fetch(before, now, stop),
        }
    }
}
