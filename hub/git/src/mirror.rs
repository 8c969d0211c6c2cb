//! The bare, shallow mirror of one repository at one ref. Everything here blocks.
//!
//! `mirror-KEY-N`: KEY names url and ref, the highest N is the one in use. A clone happens beside it and takes its name by
//! rename, so a crash leaves either the old or the new one whole. What was fetched is `refs/muster/fetched`; it becomes
//! `refs/muster/newest` when it is taken: signed as it has to be, with its submodules.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use bytes::Bytes;
use gix::refs::transaction::PreviousValue;
use gix::remote::{Direction, fetch::Shallow};
use muster_decide::Snapshot;
use muster_decide::model::repository::GitRef;
use muster_decide::version::Range;
use muster_proto::{Digest, Timestamp};

use super::remote::Remote;
use super::transport::{self, Credentials};
use super::{read, submodules};

/// Every fetch leaves one pack and nobody repacks: past so many the mirror is cloned anew.
const MOST_PACKS: usize = 50;
/// In a mirror: when it was last fetched, in ms.
const FETCHED_AT: &str = "muster-fetched-at";
/// What came last.
const FETCHED: &str = "refs/muster/fetched";
/// What came last and is taken.
const NEWEST: &str = "refs/muster/newest";

#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) remote: Remote,
    folder: PathBuf,
}

/// The newest commit.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) subject: String,
    pub(super) fetched_at: Timestamp,
    /// The tag that a range picked.
    pub(super) picked: Option<String>,
    /// What could not be had of it, for people.
    pub(super) trouble: Option<String>,
}

/// What was taken.
struct Taken {
    snapshot: Arc<Snapshot>,
    subject: String,
    picked: Option<String>,
    trouble: Option<String>,
}

/// Why what was fetched is not taken.
enum Refused {
    /// For people: it will not do.
    Commit(String),
    /// It can't be read.
    Mirror(anyhow::Error),
}

/// Why nothing was fetched.
enum Failed {
    /// For people.
    Said(String),
    /// The repository there names objects in another way.
    Format(gix::hash::Kind),
}

/// What a fetch needs.
pub(super) struct Fetching<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) log: &'a Path,
    pub(super) stop: &'a AtomicBool,
}

impl Taken {
    /// As fetched into this mirror, now.
    fn at(self, mirror: &Path, now: Timestamp) -> Commit {
        // Only shown to people after a restart.
        fs::write(mirror.join(FETCHED_AT), now.0.to_string()).ok();
        Commit {
            snapshot: self.snapshot,
            subject: self.subject,
            fetched_at: now,
            picked: self.picked,
            trouble: self.trouble,
        }
    }
}

impl Mirror {
    pub(super) fn new(remote: Remote, folder: PathBuf) -> Self {
        Self { remote, folder }
    }

    /// What the mirror holds, without asking the network; `None` when there is no mirror yet.
    pub(super) fn read_newest(&self) -> anyhow::Result<Option<Commit>> {
        let Some((_, mirror)) = self.newest() else {
            return Ok(None);
        };
        let opened = gix::open_opts(&mirror, transport::options())?;
        let commit = commit_of(&opened, NEWEST)?;
        let scratch = self.folder.join("scratch");
        // Who is trusted may have changed while the hub was away.
        if let Err(why) = self.remote.trusted.check(&commit, &scratch) {
            anyhow::bail!(why);
        }
        let modules = submodules::present(&commit, &self.remote.url)?;
        let (snapshot, subject) = read::commit(&commit, &self.remote, &modules, None)?;
        let at = fs::read_to_string(mirror.join(FETCHED_AT)).unwrap_or_default();
        Ok(Some(Commit {
            snapshot,
            subject,
            fetched_at: Timestamp(at.trim().parse().unwrap_or_default()),
            picked: None,
            trouble: None,
        }))
    }

    /// Fetches and reads, cloning `anew` when asked, when there is no mirror, or when it can't be used. The error is for
    /// people.
    pub(super) fn fetch(
        &self,
        before: Option<&Arc<Snapshot>>,
        anew: bool,
        now: impl FnOnce() -> Timestamp,
        stop: &AtomicBool,
    ) -> Result<Commit, String> {
        let credentials = Credentials::read(&self.remote.access, &self.remote.url)?;
        fs::create_dir_all(&self.folder).map_err(|error| self.unwritable(&error))?;
        let log = self.folder.join("ssh-log");
        let fetching = Fetching {
            credentials: &credentials,
            log: &log,
            stop,
        };
        let newest = self
            .newest()
            .filter(|(_, mirror)| !anew && is_usable(mirror));
        if let Some((_, mirror)) = newest {
            let taken = match self.transfer(&mirror, &fetching) {
                Ok(picked) => self.take(&mirror, picked, &fetching, before),
                Err(Failed::Said(why)) => return Err(why),
                Err(Failed::Format(_)) => Err(Refused::Mirror(anyhow::anyhow!(
                    "the object format changed"
                ))),
            };
            match taken {
                Ok(taken) => return Ok(taken.at(&mirror, now())),
                Err(Refused::Commit(why)) => return Err(why),
                Err(Refused::Mirror(error)) => {
                    let url = &self.remote.url;
                    tracing::warn!(%error, url, "the mirror of a repository is damaged and cloned anew");
                }
            }
        }
        let (mirror, taken) = self.clone_anew(&fetching, before)?;
        Ok(taken.at(&mirror, now()))
    }

    /// Files by their path and object id.
    pub(super) fn blobs<'a>(
        &self,
        files: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<Vec<Bytes>> {
        let (_, mirror) = self.newest().context("there is no mirror")?;
        blobs(&[mirror], files)
    }

    /// Brings what the ref names here; says which tag a range picked.
    fn transfer(&self, mirror: &Path, fetching: &Fetching<'_>) -> Result<Option<String>, Failed> {
        let url = &self.remote.url;
        let explain = |error: gix::Error| {
            Failed::Said(fetching.credentials.explain(url, &error, fetching.log))
        };
        let options = fetching.credentials.options(fetching.log);
        let opened = gix::open_opts(mirror, options).map_err(explain)?;
        let mut picked = None;
        let source = match &self.remote.reference {
            None => "HEAD".to_owned(),
            Some(GitRef::Branch(name)) => format!("refs/heads/{name}"),
            Some(GitRef::Tag(name)) => format!("refs/tags/{name}"),
            Some(GitRef::Commit(id)) => {
                let id = id.to_ascii_lowercase();
                // What never moves and is here is not asked for.
                let here = opened.try_find_reference(FETCHED).map_err(explain)?;
                let here = here.and_then(|here| here.try_id().map(|here| here.to_string()));
                if here.as_ref() == Some(&id) {
                    return Ok(None);
                }
                id
            }
            Some(GitRef::Semver(text)) => {
                let range = Range::parse(text).map_err(Failed::Said)?;
                let tags = tags(&opened, url, fetching).map_err(explain)?;
                let tag = range.highest(tags.iter().map(String::as_str));
                let tag = tag.ok_or_else(|| {
                    let has = tags.len();
                    Failed::Said(format!(
                        "{url} has no tag that is a version in {text}, among {has} tags"
                    ))
                })?;
                picked = Some(tag.to_owned());
                format!("refs/tags/{tag}")
            }
        };
        match transfer(&opened, url, &source, FETCHED, Depth::newest(), fetching) {
            Ok(Transferred::Here) => Ok(picked),
            Ok(Transferred::Absent) => Err(Failed::Said(self.absent())),
            Ok(Transferred::Format(kind)) => Err(Failed::Format(kind)),
            Err(error) => Err(explain(error)),
        }
    }

    /// Takes what was fetched, if it will do, and reads it.
    fn take(
        &self,
        mirror: &Path,
        picked: Option<String>,
        fetching: &Fetching<'_>,
        before: Option<&Arc<Snapshot>>,
    ) -> Result<Taken, Refused> {
        let damaged = |error: anyhow::Error| Refused::Mirror(error);
        // Opened afresh: the object store does not see packs that came after it was opened.
        let open = || {
            let options = fetching.credentials.options(fetching.log);
            gix::open_opts(mirror, options).map_err(|error| damaged(error.into()))
        };
        let opened = open()?;
        let commit = commit_of(&opened, FETCHED).map_err(damaged)?;
        let scratch = self.folder.join("scratch");
        self.remote
            .trusted
            .check(&commit, &scratch)
            .map_err(|why| Refused::Commit(format!("{}: {why}", self.remote.url)))?;
        let url = &self.remote.url;
        let modules = submodules::fetched(&commit, url, fetching).map_err(damaged)?;
        let opened = open()?;
        let commit = commit_of(&opened, FETCHED).map_err(damaged)?;
        let read = read::commit(&commit, &self.remote, &modules, before);
        let (snapshot, subject) =
            read.map_err(|error| match error.downcast::<read::TooLarge>() {
                Ok(large) => Refused::Commit(format!("{url} can't be read: {large}")),
                Err(error) => Refused::Mirror(error),
            })?;
        opened
            .reference(NEWEST, commit.id, PreviousValue::Any, "taken")
            .map_err(|error| damaged(error.into()))?;
        Ok(Taken {
            snapshot,
            subject,
            picked,
            trouble: modules.trouble(),
        })
    }

    fn clone_anew(
        &self,
        fetching: &Fetching<'_>,
        before: Option<&Arc<Snapshot>>,
    ) -> Result<(PathBuf, Taken), String> {
        let unwritable = |error| self.unwritable(&error);
        let number = self.newest().map_or(1, |(number, _)| number + 1);
        let place = self.folder.join(format!("{}{number}", self.prefix()));
        let beside = self.folder.join("clone");
        let clone = || {
            let mut kind = None;
            let picked = loop {
                remove(&beside).map_err(unwritable)?;
                init(&beside, kind).map_err(|error| error.to_string())?;
                match self.transfer(&beside, fetching) {
                    Ok(picked) => break picked,
                    Err(Failed::Format(there)) if kind.is_none() => kind = Some(there),
                    Err(Failed::Format(there)) => {
                        return Err(format!("{} changes to {there}", self.remote.url));
                    }
                    Err(Failed::Said(why)) => return Err(why),
                }
            };
            let taken = self.take(&beside, picked, fetching, before);
            taken.map_err(|refused| match refused {
                Refused::Commit(why) => why,
                Refused::Mirror(error) => {
                    let what = self.remote.what();
                    format!("{what} of {} can't be read: {error:#}", self.remote.url)
                }
            })
        };
        let taken = clone().inspect_err(|_| {
            remove(&beside).ok();
        })?;
        fs::rename(&beside, &place).map_err(unwritable)?;
        for (other, path) in self.mirrors() {
            if path != place {
                tracing::debug!(other, "removing an old mirror");
                remove(&path).ok();
            }
        }
        Ok((place, taken))
    }

    fn unwritable(&self, error: &std::io::Error) -> String {
        let folder = self.folder.display();
        format!("the mirror in {folder} can't be written: {error}")
    }

    /// Every folder of mirrors, also of another url or ref, with its number.
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

    /// Where the mirror is, or will be.
    pub(super) fn place(&self) -> PathBuf {
        let newest = self.newest().map(|(_, place)| place);
        newest.unwrap_or_else(|| self.folder.join(format!("{}1", self.prefix())))
    }

    fn prefix(&self) -> String {
        let key = Digest::of([&self.remote.url, &self.remote.what()]);
        format!("mirror-{}-", key.short())
    }

    fn absent(&self) -> String {
        let url = &self.remote.url;
        match (&self.remote.reference, &self.remote.name) {
            (None, _) => format!("{url} is empty: push a first commit to it"),
            (Some(GitRef::Branch(name)), None) => format!(
                "{url} has no branch {name}: push a first commit to it, or name another with --branch"
            ),
            (Some(GitRef::Branch(name)), _) => format!("{url} has no branch {name}"),
            (Some(GitRef::Tag(name)), _) => format!("{url} has no tag {name}"),
            (Some(GitRef::Commit(id)), _) => format!("{url} has no commit {id}"),
            (Some(GitRef::Semver(range)), _) => format!("{url} has no tag in {range}"),
        }
    }
}

/// What came of asking for one ref.
pub(super) enum Transferred {
    /// It is in the mirror.
    Here,
    /// There is no such ref.
    Absent,
    /// Nothing was fetched: objects are named in another way there.
    Format(gix::hash::Kind),
}

/// How much history comes with a commit.
#[derive(Clone)]
pub(super) struct Depth {
    pub(super) shallow: Shallow,
    /// Also when the commit is here already: its history may not be.
    pub(super) anyway: bool,
}

impl Depth {
    /// None at all.
    pub(super) fn newest() -> Self {
        Self {
            shallow: Shallow::DepthAtRemote(std::num::NonZeroU32::MIN),
            anyway: false,
        }
    }
}

/// Brings one ref or commit of a repository into the mirror, as `local`.
pub(super) fn transfer(
    opened: &gix::Repository,
    url: &str,
    source: &str,
    local: &str,
    depth: Depth,
    fetching: &Fetching<'_>,
) -> gix::Result<Transferred> {
    fs::remove_file(fetching.log).ok();
    // With '+': a rewound branch is just a newer state.
    let refspec = format!("+{source}:{local}");
    let remote = opened
        .remote_at(url)?
        .with_fetch_tags(gix::remote::fetch::Tags::None)
        .with_refspecs([refspec.as_str()], Direction::Fetch)?;
    let mut connection = remote.connect(Direction::Fetch)?;
    fetching.credentials.apply(url, &mut connection);
    let prepared = connection.prepare_fetch(gix::progress::Discard, Default::default())?;
    let map = prepared.ref_map();
    if map.object_hash != opened.object_hash() {
        return Ok(Transferred::Format(map.object_hash));
    }
    let there = map.mappings.iter().find_map(|mapping| {
        let named = mapping.remote.as_name().is_none_or(|name| name == source);
        let id = mapping.remote.as_id().filter(|_| named)?;
        Some(id.to_owned())
    });
    let Some(there) = there else {
        return Ok(Transferred::Absent);
    };
    // A shallow fetch receives a pack even when there is nothing new.
    let here = opened.try_find_reference(local)?;
    let here = here.and_then(|here| here.try_id().map(gix::Id::detach));
    if here != Some(there) || depth.anyway {
        prepared
            .with_shallow(depth.shallow)
            .receive(gix::progress::Discard, fetching.stop)?;
    }
    Ok(Transferred::Here)
}

/// Files of repositories by their path and object id.
pub(super) fn blobs<'a>(
    repositories: &[PathBuf],
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> anyhow::Result<Vec<Bytes>> {
    let opened = repositories.iter();
    let opened = opened.map(|it| gix::open_opts(it, transport::options()));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    files
        .map(|(path, id)| {
            let id = id.parse()?;
            let holds = opened.iter().find(|it| it.has_object(id));
            let holds = holds.or(opened.first()).context("there is no repository")?;
            let bytes = read::blob(holds, path, id)?;
            anyhow::ensure!(
                !read::is_pointer(&bytes),
                "{path} is a Git LFS pointer: put the file itself into Git"
            );
            Ok(bytes)
        })
        .collect()
}

/// The names of all tags.
fn tags(opened: &gix::Repository, url: &str, fetching: &Fetching<'_>) -> gix::Result<Vec<String>> {
    fs::remove_file(fetching.log).ok();
    let remote = opened
        .remote_at(url)?
        .with_fetch_tags(gix::remote::fetch::Tags::None)
        .with_refspecs(["+refs/tags/*:refs/muster/tags/*"], Direction::Fetch)?;
    let mut connection = remote.connect(Direction::Fetch)?;
    fetching.credentials.apply(url, &mut connection);
    let (map, _) = connection.ref_map(gix::progress::Discard, Default::default())?;
    let names = map.mappings.iter().filter_map(|mapping| {
        let name = mapping.remote.as_name()?.to_string();
        Some(name.strip_prefix("refs/tags/")?.to_owned())
    });
    Ok(names.collect())
}

/// The commit that a ref of the mirror names, through tags.
pub(super) fn commit_of<'r>(
    opened: &'r gix::Repository,
    name: &str,
) -> anyhow::Result<gix::Commit<'r>> {
    let commit = opened
        .find_reference(name)
        .and_then(|mut reference| reference.peel_to_id())
        .and_then(|id| id.object())
        .map_err(anyhow::Error::from)?
        .try_into_commit()?;
    Ok(commit)
}

pub(super) fn init(place: &Path, object_hash: Option<gix::hash::Kind>) -> gix::Result<()> {
    let create = gix::create::Options {
        object_hash,
        ..gix::create::Options::default()
    };
    let bare = gix::create::Kind::Bare;
    gix::ThreadSafeRepository::init_opts(place, bare, create, transport::options())?;
    Ok(())
}

/// Whether a mirror opens and has not gathered too many packs.
pub(super) fn is_usable(mirror: &Path) -> bool {
    let packs = fs::read_dir(mirror.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten();
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"));
    gix::open_opts(mirror, transport::options()).is_ok() && packs.count() <= MOST_PACKS
}

pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
