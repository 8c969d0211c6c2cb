//! Commits that are not merged: what the fleet repository would hold after the merge.
//!
//! In: a [`Proposal`], and the commit that the fleet follows. Out: a [`Proposed`] snapshot. Everything comes into a
//! mirror beside the one that is followed, which is a cache, too, and nothing of this touches what is followed: a merge
//! takes history, and the followed mirror has none. Who proposes may be a stranger, so all of it is bounded: the time by
//! the caller, the size by [`Proposals::is_too_large`], the number and the bytes of files here. Signatures are not asked for:
//! nothing of it is ever sent to a cluster. Everything here blocks.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gix::remote::fetch::Shallow;
use muster_decide::Snapshot;
use muster_decide::model::{Origin, Repository};
use muster_proto::{Digest, Timestamp};

use super::mirror::{self, Fetching, Mirror, Transferred};
use super::remote::Remote;
use super::transport::{Credentials, options};
use super::{Blobs, Other, Place, once, read, submodules};

mod bounds;
mod merging;

use merging::Merged;
pub use merging::{Edit, WorkingTree};

/// Commits of history that are fetched at first: branches are seldom older. Then all.
const HISTORY: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");
/// An object of a mirror may not take more memory: a pack of a few bytes can hold one of any size.
const LARGEST_OBJECT: usize = 256 << 20;

/// What might be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Where it is.
    pub what: What,
    /// It is looked at as it is; else what comes of merging it.
    pub as_is: bool,
}

/// Where a proposal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A branch, by its short name.
    Branch(String),
    /// A commit, by its whole id.
    Commit(String),
    /// Any ref, by its whole name.
    Ref(String),
    /// A pull request of GitHub, Gitea or Forgejo, or a merge request of GitLab.
    Request(u64),
    /// Files of a person's machine.
    WorkingTree(WorkingTree),
}

/// What the fleet repository would hold.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// Its files; what the followed commit holds, too, is shared with it.
    pub snapshot: Arc<Snapshot>,
    /// Where the rest of them is.
    pub blobs: Blobs,
    /// What it is, for people.
    pub of: String,
}

/// Why there is nothing to plan. Each is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProposed {
    /// It makes no sense.
    #[error("{0}")]
    Unclear(String),
    /// There is no such thing.
    #[error("{0}")]
    Absent(String),
    /// Nobody could merge it as it is, or it is not fit to be read.
    #[error("{0}")]
    Refused(String),
    /// It may be there, and can't be had now.
    #[error("{0}")]
    Failed(String),
}

/// Brings proposals here, one at a time: whoever shares it takes turns.
#[derive(Debug)]
pub struct Proposals {
    remote: Remote,
    mirror: Arc<Mirror>,
    /// Of the hub.
    credentials: Option<PathBuf>,
    folder: PathBuf,
}

impl What {
    /// What a person writes: `#7`, `refs/pull/7/head`, a whole commit id, else a branch.
    ///
    /// # Errors
    /// When no such name can be.
    pub fn parse(text: &str) -> Result<Self, NotProposed> {
        let unclear = || {
            NotProposed::Unclear(format!(
                "{text:?} is nothing to plan: name a branch, a whole commit id, a ref such as refs/pull/7/head, or #7"
            ))
        };
        if let Some(number) = text.strip_prefix('#') {
            let number: u64 = number.parse().map_err(|_| unclear())?;
            return Ok(Self::Request(number));
        }
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hexadecimal && matches!(text.len(), 40 | 64) {
            return Ok(Self::Commit(text.to_ascii_lowercase()));
        }
        let whole = match text.starts_with("refs/") {
            true => text.to_owned(),
            false => format!("refs/heads/{text}"),
        };
        let name: Result<gix::refs::FullName, _> = whole.clone().try_into();
        name.map_err(|_| unclear())?;
        Ok(match whole == text {
            true => Self::Ref(whole),
            false => Self::Branch(text.to_owned()),
        })
    }

    /// The names under which a server may have it; the first that is there is it.
    fn sources(&self) -> Vec<String> {
        match self {
            Self::Branch(name) => vec![format!("refs/heads/{name}")],
            Self::Commit(id) => vec![id.clone()],
            Self::Ref(name) => vec![name.clone()],
            Self::Request(number) => vec![
                format!("refs/pull/{number}/head"),
                format!("refs/merge-requests/{number}/head"),
            ],
            Self::WorkingTree(tree) => vec![tree.base.clone()],
        }
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Commit(id) => write!(f, "commit {}", short(id)),
            Self::Ref(name) => f.write_str(name),
            Self::Request(number) => write!(f, "request #{number}"),
            Self::WorkingTree(tree) => write!(f, "the working tree on {}", short(&tree.base)),
        }
    }
}

impl Proposals {
    /// Of the fleet repository, with their mirror in `folder`.
    pub(super) fn new(remote: Remote, credentials: Option<PathBuf>, folder: PathBuf) -> Self {
        Self {
            mirror: Arc::new(Mirror::new(remote.clone(), folder.clone())),
            remote,
            credentials,
            folder,
        }
    }

    /// Brings what only the documents of a proposal name, until `stop`. The hub's credentials are for the URLs that they
    /// say, whoever asks.
    pub fn other(&self, origin: &Origin, repository: &Repository, stop: &AtomicBool) -> Other {
        let (credentials, folder) = (self.credentials.clone(), self.folder.join("sources"));
        // Nobody is shown since when it is here.
        let now = Timestamp(0);
        once::once(
            origin,
            repository,
            credentials,
            &self.remote.url,
            &folder,
            now,
            stop,
        )
    }

    /// Whether more came than may. While a proposal comes it grows.
    pub fn is_too_large(&self, most: u64) -> bool {
        bounds::size(&self.folder) > most
    }

    /// Throws the mirror away when it has grown old: the next proposal makes it anew. Nobody may be reading from it.
    pub fn tidy(&self, most: u64) {
        let place = self.mirror.place();
        let is_worn = place.exists() && !mirror::is_usable(&place);
        if !is_worn && !self.is_too_large(most) {
            return;
        }
        if let Err(error) = mirror::remove(&self.folder) {
            tracing::warn!(%error, "the mirror of plans can't be removed");
        }
    }

    /// Brings a proposal, and merges it into `ours`, the commit that the fleet follows. `say` hears what is being done.
    ///
    /// # Errors
    /// For people. When `stop` was set, whatever came of it.
    pub fn bring(
        &self,
        proposal: &Proposal,
        ours: &Arc<Snapshot>,
        stop: &AtomicBool,
        say: &dyn Fn(String),
    ) -> Result<Proposed, NotProposed> {
        let credentials = Credentials::read(&self.remote.access, &self.remote.url);
        let credentials = credentials.map_err(NotProposed::Failed)?;
        let log = self.folder.join("ssh-log");
        let bringing = Bringing {
            place: self.mirror.place(),
            proposals: self,
            proposal,
            fetching: Fetching {
                credentials: &credentials,
                log: &log,
                stop,
            },
            say,
        };
        bringing.bring(ours)
    }
}

/// One proposal on its way.
struct Bringing<'a> {
    place: PathBuf,
    proposals: &'a Proposals,
    proposal: &'a Proposal,
    fetching: Fetching<'a>,
    say: &'a dyn Fn(String),
}

impl Bringing<'_> {
    fn bring(&self, ours: &Arc<Snapshot>) -> Result<Proposed, NotProposed> {
        let Proposals { remote, mirror, .. } = self.proposals;
        let Proposal { what, as_is } = self.proposal;
        if gix::open_opts(&self.place, options()).is_err() {
            self.start(None)?;
        }
        (self.say)(format!("fetching {what} of {}", remote.url));
        let tip = self.tip(false)?;
        let opened = self.open()?;
        let found = opened
            .find_commit(tip)
            .map_err(|error| self.failed(error))?;
        bounds::check(&found).map_err(|why| NotProposed::Refused(format!("{what}: {why}")))?;
        let commit = match as_is {
            true => tip,
            false => self.merged(tip, ours)?,
        };
        (self.say)("reading its documents".to_owned());
        let opened = self.open()?;
        let found = opened
            .find_commit(commit)
            .map_err(|error| self.failed(error))?;
        let modules = submodules::fetched(&found, &remote.url, &self.fetching);
        let modules = modules.map_err(|error| self.failed(error))?;
        let opened = self.open()?;
        let found = opened
            .find_commit(commit)
            .map_err(|error| self.failed(error))?;
        let read = read::commit(&found, remote, &modules, Some(ours));
        let (snapshot, _) = read.map_err(|error| match error.downcast::<read::TooLarge>() {
            Ok(large) => NotProposed::Refused(large.to_string()),
            Err(error) => self.failed(error),
        })?;
        let at = match what {
            What::Commit(_) | What::WorkingTree(_) => String::new(),
            _ => format!(" ({})", short(&tip.to_string())),
        };
        Ok(Proposed {
            snapshot,
            blobs: Blobs(Place::Mirror(mirror.clone())),
            of: match as_is {
                true => format!("{what}{at} as it is"),
                false => {
                    let into = remote.what();
                    format!(
                        "the merge of {what}{at} into {into} ({})",
                        short(&ours.revision)
                    )
                }
            },
        })
    }

    /// The commit that is proposed; `whole`: with all of its history.
    fn tip(&self, whole: bool) -> Result<gix::ObjectId, NotProposed> {
        let Proposal { what, as_is } = self.proposal;
        let url = &self.proposals.remote.url;
        let depth = || mirror::Depth {
            shallow: match (whole, as_is) {
                (true, _) => Shallow::undo(),
                (false, true) => Shallow::DepthAtRemote(NonZeroU32::MIN),
                (false, false) => Shallow::DepthAtRemote(HISTORY),
            },
            anyway: whole,
        };
        for source in what.sources() {
            // With how much history it came must not be forgotten.
            let local = match as_is {
                true => format!("refs/muster/tip/{}", Digest::of([&source]).short()),
                false => format!("refs/muster/branch/{}", Digest::of([&source]).short()),
            };
            if !self.transfer(&source, &local, depth())? {
                continue;
            }
            let opened = self.open()?;
            let commit = mirror::commit_of(&opened, &local);
            let commit = commit.map_err(|error| self.failed(error))?;
            return match what {
                What::WorkingTree(tree) => merging::edited(&opened, tree)
                    .map_err(|error| NotProposed::Unclear(format!("{what}: {error:#}"))),
                _ => Ok(commit.id),
            };
        }
        Err(NotProposed::Absent(match what {
            What::Branch(name) if is_short_id(name) => format!(
                "{url} has no branch {name}; if that is a commit, write its whole id (git rev-parse {name})"
            ),
            What::WorkingTree(tree) => format!(
                "{url} has no commit {}, which the working tree is on: push it, or base it on {}",
                tree.base,
                self.proposals.remote.what()
            ),
            what => format!("{url} has no {what}"),
        }))
    }

    /// The commit that comes of merging it into `ours`, with more history where that is lacking.
    fn merged(&self, tip: gix::ObjectId, ours: &Snapshot) -> Result<gix::ObjectId, NotProposed> {
        let Proposals { remote, .. } = self.proposals;
        let what = &self.proposal.what;
        let id: gix::ObjectId = ours.revision.parse().map_err(|error| self.failed(error))?;
        // By its id: the branch may have moved on since the hub looked last.
        let local = "refs/muster/ours";
        for whole in [false, true] {
            if whole {
                (self.say)(format!("fetching all of the history of {what}"));
                self.tip(true)?;
            }
            let depth = mirror::Depth {
                shallow: match whole {
                    true => Shallow::undo(),
                    false => Shallow::DepthAtRemote(HISTORY),
                },
                anyway: whole,
            };
            if !self.transfer(&ours.revision, local, depth)? {
                let (url, into) = (&remote.url, remote.what());
                return Err(NotProposed::Failed(format!(
                    "{url} no longer has {}, which the fleet follows as {into}: try again when the hub has fetched it",
                    ours.revision
                )));
            }
            (self.say)(format!("merging {what} into {}", remote.what()));
            let merged = merging::merge(&self.open()?, id, tip);
            match merged.map_err(|error| self.failed(error.context("the merge")))? {
                Merged::Commit(commit) => return Ok(commit),
                Merged::Conflicts(files) => {
                    return Err(NotProposed::Refused(format!(
                        "{what} conflicts with {} in {files}: merge {} into it, and plan again",
                        remote.what(),
                        remote.what()
                    )));
                }
                Merged::Strangers => {}
            }
        }
        Err(NotProposed::Refused(format!(
            "{what} and {} have no commit in common, so there is nothing to merge; --as-is plans it as it is",
            remote.what(),
        )))
    }

    /// False: there is no such ref.
    fn transfer(
        &self,
        source: &str,
        local: &str,
        depth: mirror::Depth,
    ) -> Result<bool, NotProposed> {
        let url = &self.proposals.remote.url;
        let Fetching {
            credentials, log, ..
        } = self.fetching;
        let explain =
            |error: gix::Error| NotProposed::Failed(credentials.explain(url, &error, log));
        for again in [true, false] {
            let options = credentials.options(log).config_overrides([bounded()]);
            let opened = gix::open_opts(&self.place, options).map_err(explain)?;
            let depth = depth.clone();
            match mirror::transfer(&opened, url, source, local, depth, &self.fetching) {
                Ok(Transferred::Here) => return Ok(true),
                Ok(Transferred::Absent) => return Ok(false),
                Ok(Transferred::Format(kind)) if again => self.start(Some(kind))?,
                Ok(Transferred::Format(kind)) => {
                    return Err(NotProposed::Failed(format!("{url} changes to {kind}")));
                }
                Err(error) => return Err(explain(error)),
            }
        }
        Ok(false)
    }

    /// An empty mirror.
    fn start(&self, kind: Option<gix::hash::Kind>) -> Result<(), NotProposed> {
        let folder = &self.proposals.folder;
        let started = || -> anyhow::Result<()> {
            mirror::remove(&self.place)?;
            std::fs::create_dir_all(folder)?;
            Ok(mirror::init(&self.place, kind)?)
        };
        started().map_err(|error| {
            let folder = folder.display();
            NotProposed::Failed(format!("the mirror in {folder} can't be written: {error}"))
        })
    }

    /// Opened afresh: the object store does not see packs that came after it was opened.
    fn open(&self) -> Result<gix::Repository, NotProposed> {
        let options = options().config_overrides([bounded()]);
        gix::open_opts(&self.place, options).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<anyhow::Error>) -> NotProposed {
        let (what, url) = (&self.proposal.what, &self.proposals.remote.url);
        NotProposed::Failed(format!("{what} of {url} can't be read: {:#}", error.into()))
    }
}

fn bounded() -> String {
    format!("gitoxide.objects.allocLimit={LARGEST_OBJECT}")
}

/// As people write commits.
fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

fn is_short_id(name: &str) -> bool {
    name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let id = "4be1c2a900fe4be1c2a900fe4be1c2a900fe4be1";
        for (text, what) in [
            ("raise-replicas", What::Branch("raise-replicas".into())),
            ("team/shop", What::Branch("team/shop".into())),
            ("refs/pull/7/head", What::Ref("refs/pull/7/head".into())),
            ("#7", What::Request(7)),
            (id, What::Commit(id.into())),
            ("4BE1C2A", What::Branch("4BE1C2A".into())),
        ] {
            assert_eq!(What::parse(text), Ok(what), "{text}");
        }
        for text in [
            "",
            "a b",
            "a..b",
            "+a:refs/muster/newest",
            "refs/heads/*",
            "#",
            "-x^",
            "a\nb",
        ] {
            assert!(What::parse(text).is_err(), "{text:?}");
        }
    }
}
