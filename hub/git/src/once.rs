//! A repository that documents of a fleet name, fetched once: for who decides without a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use muster_decide::model::{Origin, Repository};
use muster_proto::Timestamp;

use super::mirror::Mirror;
use super::others::folder_of;
use super::remote::Remote;
use super::{Blobs, Other, Place, Tracked};

/// Brings the newest commit of a repository into its mirror below `folder`, as a hub with these `credentials` would.
/// What an earlier fetch brought stays good when this one fails. Blocks; who shares `folder` takes turns.
pub fn fetched_once(
    origin: &Origin,
    repository: &Repository,
    credentials: Option<PathBuf>,
    folder: &Path,
    now: Timestamp,
) -> Other {
    // The fleet is a folder of this machine, so another one may be, too.
    let remote = Remote::named(origin, repository, credentials, "file:///");
    let tracked = match remote {
        Err(why) => Tracked {
            url: repository.url.clone(),
            error: Some(why),
            ..Tracked::default()
        },
        Ok(remote) => fetched(remote, folder.join(folder_of(origin, repository)), now),
    };
    Other {
        repository: repository.clone(),
        tracked: Arc::new(tracked),
    }
}

fn fetched(remote: Remote, folder: PathBuf, now: Timestamp) -> Tracked {
    let (url, reference) = (remote.url.clone(), remote.what());
    let mirror = Arc::new(Mirror::new(remote, folder));
    let nobody_stops = AtomicBool::new(false);
    let (commit, error) = match mirror.fetch(None, false, || now, &nobody_stops) {
        Ok(commit) => {
            let trouble = commit.trouble.clone();
            (Some(commit), trouble)
        }
        Err(why) => (mirror.read_newest().ok().flatten(), Some(why)),
    };
    let mut tracked = Tracked {
        url,
        reference,
        error,
        blobs: Blobs(Place::Mirror(mirror)),
        ..Tracked::default()
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
