//! The bare, shallow mirror in the data directory. Everything here blocks.
//!
//! `git/mirror-KEY-N`: KEY names url and branch, the highest N is the one in use. A clone happens beside it and takes
//! its name by rename, so a crash leaves either the old or the new one whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use bytes::Bytes;
use gix::remote::{Direction, fetch::Shallow};
use muster_decide::Snapshot;
use muster_proto::{Digest, Timestamp};

use super::{read, transport};
use crate::config::Repository;

/// Every fetch leaves one pack and nobody repacks: past so many the mirror is cloned anew.
const MOST_PACKS: usize = 50;
/// In a mirror: when it was last fetched, in ms.
const FETCHED_AT: &str = "muster-fetched-at";

#[derive(Debug)]
pub(super) struct Mirror {
    repository: Repository,
    folder: PathBuf,
}

/// The newest commit of the branch.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) subject: String,
    pub(super) fetched_at: Timestamp,
}

impl Mirror {
    pub(super) fn new(repository: Repository, folder: PathBuf) -> Self {
        Self { repository, folder }
    }

    /// What the mirror holds, without asking the network; `None` when there is no mirror yet.
    pub(super) fn read_newest(&self) -> anyhow::Result<Option<Commit>> {
        let Some((_, mirror)) = self.newest() else {
            return Ok(None);
        };
        let (snapshot, subject) = self.read(&mirror, None)?;
        let at = fs::read_to_string(mirror.join(FETCHED_AT)).unwrap_or_default();
        Ok(Some(Commit {
            snapshot,
            subject,
            fetched_at: Timestamp(at.trim().parse().unwrap_or_default()),
        }))
    }

    /// Fetches and reads the branch, cloning `anew` when asked, when there is no mirror, or when it can't be used.
    /// The error is for people.
    pub(super) fn fetch(
        &self,
        before: Option<&Arc<Snapshot>>,
        anew: bool,
        now: impl FnOnce() -> Timestamp,
        stop: &AtomicBool,
    ) -> Result<Commit, String> {
        let newest = self.newest().filter(|(_, mirror)| {
            !anew && is_usable(mirror, &transport::options(&self.repository))
        });
        let (mut mirror, cloned) = match newest {
            Some((_, mirror)) => {
                self.update(&mirror, stop)?;
                (mirror, false)
            }
            None => (self.clone_anew(stop)?, true),
        };
        let read = match self.read(&mirror, before) {
            Err(error) if !cloned => {
                tracing::warn!(%error, "the mirror of the fleet repository is damaged and cloned anew");
                mirror = self.clone_anew(stop)?;
                self.read(&mirror, before)
            }
            read => read,
        };
        let (snapshot, subject) = read.map_err(|error| {
            format!(
                "branch {} of {} can't be read: {error:#}",
                self.repository.branch, self.repository.url
            )
        })?;
        let fetched_at = now();
        // Only shown to people after a restart.
        fs::write(mirror.join(FETCHED_AT), fetched_at.0.to_string()).ok();
        Ok(Commit {
            snapshot,
            subject,
            fetched_at,
        })
    }

    /// Files by their object id.
    pub(super) fn blobs<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<Vec<Bytes>> {
        let (_, mirror) = self.newest().context("there is no mirror")?;
        let opened = gix::open_opts(mirror, transport::options(&self.repository))?;
        ids.map(|id| read::blob(&opened, id, id.parse()?)).collect()
    }

    fn read(
        &self,
        mirror: &Path,
        before: Option<&Arc<Snapshot>>,
    ) -> anyhow::Result<(Arc<Snapshot>, String)> {
        // Opened afresh: the object store does not see packs that came after it was opened.
        let opened = gix::open_opts(mirror, transport::options(&self.repository))?;
        read::commit(
            &opened,
            &self.repository.branch,
            &self.repository.path,
            before,
        )
    }

    fn update(&self, mirror: &Path, stop: &AtomicBool) -> Result<(), String> {
        let credentials = transport::Credentials::read(&self.repository)?;
        let fetch = || -> gix::Result<bool> {
            let opened = gix::open_opts(mirror, transport::options(&self.repository))?;
            let remote = opened
                .remote_at(self.repository.url.as_str())?
                .with_fetch_tags(gix::remote::fetch::Tags::None)
                .with_refspecs([self.refspec().as_str()], Direction::Fetch)?;
            let mut connection = remote.connect(Direction::Fetch)?;
            credentials.apply(&self.repository, &mut connection);
            let prepared = connection.prepare_fetch(gix::progress::Discard, Default::default())?;
            let branch = self.branch();
            let mut mappings = prepared.ref_map().mappings.iter();
            let mapping = mappings
                .find(|mapping| mapping.remote.as_name().is_some_and(|name| name == branch));
            let Some(there) = mapping.map(|mapping| mapping.remote.as_id().map(ToOwned::to_owned))
            else {
                return Ok(false);
            };
            // A shallow fetch receives a pack even when there is nothing new.
            let here = opened.try_find_reference(&branch)?;
            let here = here.and_then(|here| here.try_id().map(gix::Id::detach));
            if here.is_none() || here != there {
                prepared
                    .with_shallow(newest_only())
                    .receive(gix::progress::Discard, stop)?;
            }
            Ok(true)
        };
        match fetch() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.no_such_branch()),
            Err(error) => Err(credentials.explain(&self.repository, &error)),
        }
    }

    fn clone_anew(&self, stop: &AtomicBool) -> Result<PathBuf, String> {
        let credentials = transport::Credentials::read(&self.repository)?;
        let unwritable = |error| {
            format!(
                "the mirror in {} can't be written: {error}",
                self.folder.display()
            )
        };
        let number = self.newest().map_or(1, |(number, _)| number + 1);
        let place = self.folder.join(format!("{}{number}", self.prefix()));
        let beside = self.folder.join("clone");
        fs::create_dir_all(&self.folder).map_err(unwritable)?;
        remove(&beside).map_err(unwritable)?;
        let clone = || -> gix::Result<()> {
            let refspec = self.refspec();
            let (connect, repository) = (credentials.clone(), self.repository.clone());
            gix::clone::PrepareFetch::new(
                self.repository.url.as_str(),
                &beside,
                gix::create::Kind::Bare,
                gix::create::Options::default(),
                transport::options(&self.repository),
            )?
            .with_shallow(newest_only())
            .configure_remote(move |remote| {
                remote
                    .with_fetch_tags(gix::remote::fetch::Tags::None)
                    .with_refspecs([refspec.as_str()], Direction::Fetch)
            })
            .configure_connection(move |connection| {
                connect.apply(&repository, connection);
                Ok(())
            })
            .fetch_only(gix::progress::Discard, stop)?;
            Ok(())
        };
        if let Err(error) = clone() {
            remove(&beside).ok();
            // gix has no type for this; a test watches the words.
            return Err(match error.to_string().starts_with("None of the refspec") {
                true => self.no_such_branch(),
                false => credentials.explain(&self.repository, &error),
            });
        }
        let cloned = gix::open_opts(&beside, transport::options(&self.repository));
        if !cloned.is_ok_and(|cloned| cloned.find_reference(&self.branch()).is_ok()) {
            remove(&beside).ok();
            return Err(self.no_such_branch());
        }
        fs::rename(&beside, &place).map_err(unwritable)?;
        for (other, path) in self.mirrors() {
            if path != place {
                tracing::debug!(other, "removing an old mirror");
                remove(&path).ok();
            }
        }
        Ok(place)
    }

    /// Every folder of mirrors, also of another url or branch, with its number.
    fn mirrors(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let number = name.strip_prefix("mirror-")?.split_once('-')?.1;
                Some((number.parse().ok()?, entry.path()))
            })
            .collect()
    }

    fn newest(&self) -> Option<(u64, PathBuf)> {
        let prefix = self.prefix();
        let ours = self.mirrors().into_iter().filter(|(_, path)| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix))
        });
        ours.max()
    }

    fn prefix(&self) -> String {
        let key = Digest::of([&self.repository.url, &self.repository.branch]);
        format!("mirror-{}-", key.short())
    }

    fn branch(&self) -> String {
        format!("refs/heads/{}", self.repository.branch)
    }

    fn refspec(&self) -> String {
        // With '+': a rewound branch is just a newer state.
        format!("+{0}:{0}", self.branch())
    }

    fn no_such_branch(&self) -> String {
        format!(
            "{} has no branch {}: push a first commit to it, or name another with --branch",
            self.repository.url, self.repository.branch
        )
    }
}

fn newest_only() -> Shallow {
    Shallow::DepthAtRemote(std::num::NonZeroU32::MIN)
}

/// Whether a mirror opens and has not gathered too many packs.
fn is_usable(mirror: &Path, options: &gix::open::Options) -> bool {
    let packs = fs::read_dir(mirror.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten();
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"));
    gix::open_opts(mirror, options.clone()).is_ok() && packs.count() <= MOST_PACKS
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
