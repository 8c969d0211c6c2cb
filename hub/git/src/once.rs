//! A repository or chart that documents of a fleet name, fetched once: for who decides without a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use muster_decide::model::{Origin, Repository};
use muster_proto::Timestamp;

use super::source::{Source, folder_of};
use super::{Other, Tracked};

/// Brings the newest commit of a repository, or the version of a chart, into its folder below `folder`, as a hub with
/// these `credentials` would. What an earlier fetch brought stays good when this one fails. Blocks; who shares `folder`
/// takes turns.
pub fn fetched_once(
    origin: &Origin,
    repository: &Repository,
    credentials: Option<PathBuf>,
    folder: &Path,
    now: Timestamp,
) -> Other {
    // The fleet is a folder of this machine, so another one may be, too.
    let fleet = "file:///";
    let nobody_stops = AtomicBool::new(false);
    once(
        origin,
        repository,
        credentials,
        fleet,
        folder,
        now,
        &nobody_stops,
    )
}

/// As [`fetched_once`], for the fleet at a URL, until `stop`.
pub(super) fn once(
    origin: &Origin,
    repository: &Repository,
    credentials: Option<PathBuf>,
    fleet: &str,
    folder: &Path,
    now: Timestamp,
    stop: &AtomicBool,
) -> Other {
    let folder = folder.join(folder_of(origin, repository));
    let source = Source::named(origin, repository, credentials, fleet, folder);
    let tracked = match source {
        Err(why) => Tracked {
            url: repository.url.clone(),
            error: Some(why),
            ..Tracked::default()
        },
        Ok(source) => fetched(&source, now, stop),
    };
    Other {
        repository: repository.clone(),
        tracked: Arc::new(tracked),
    }
}

fn fetched(source: &Source, now: Timestamp, stop: &AtomicBool) -> Tracked {
    let kept = || source.read_newest().ok().flatten();
    let (commit, error) = match source.is_complete().then(kept).flatten() {
        Some(commit) => (Some(commit), None),
        None => match source.fetch(None, false, || now, stop) {
            Ok(commit) => {
                let trouble = commit.trouble.clone();
                (Some(commit), trouble)
            }
            Err(why) => (kept(), Some(why)),
        },
    };
    let mut tracked = Tracked {
        error,
        ..source.unseen()
    };
    if let Some(commit) = commit {
        tracked.picked = commit.picked.unwrap_or_default();
        tracked.subject = commit.subject;
        tracked.fetched_at = commit.fetched_at;
        tracked.since = commit.fetched_at;
        tracked.snapshot = Some(commit.snapshot);
    }
    tracked
}
