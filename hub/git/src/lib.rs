//! Follows repositories: that of the fleet, and those of commits or of charts that its documents name; polled, and
//! fetched at once when someone asks.
//!
//! In: where the fleet repository is ([`Repository`]), and what its newest commit names
//! ([`Git::follow_others`]). Out: `watch<Arc<Tracked>>`: the fleet's newest commit's files, and what went wrong since;
//! `watch<Arc<Others>>`: the same of every other one. A failed fetch keeps the commit before; a rewound branch is just a
//! newer state. The mirrors in the data directory are a cache: lost or damaged, they are cloned anew.

mod chart;
mod checkout;
mod explain;
mod follower;
mod mirror;
mod once;
mod others;
pub mod proposed;
mod read;
mod remote;
mod signature;
mod source;
mod submodules;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_decide::Snapshot;
use muster_decide::model::{self, Origin};
use muster_proto::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use checkout::OnDisk;
pub use checkout::{Checkout, Looked, WORKING_TREE};
use follower::{Question, Terms};
use mirror::Mirror;
pub use once::fetched_once;
use others::{Order, Set};
pub use others::{Other, Others, Which};
use remote::Remote;
pub use signature::missing as missing_checker;
use source::Source;

/// So many repositories are fetched at the same time, and so many charts; the fleet's own is never kept waiting.
const FETCHES: usize = 16;

/// Tells the time.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The fleet repository: where it is and how to get in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Repository {
    /// `https://`, `http://`, `ssh://`, `git@host:path` or `file://`, without credentials.
    pub url: String,
    /// Followed.
    pub branch: String,
    /// Folder in it where the fleet begins; empty: all of it.
    pub path: String,
    /// Holds the token or password for HTTP; read at every fetch.
    pub token_file: Option<PathBuf>,
    /// User name that goes with the token.
    pub username: String,
    /// PEM of the CAs to trust for HTTPS, instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// Private key for SSH.
    pub ssh_key_file: Option<PathBuf>,
    /// Host keys to trust for SSH.
    pub known_hosts_file: Option<PathBuf>,
    /// Whose commits are taken, by SSH keys: an allowed-signers file, read at every fetch. With this and the next one
    /// absent: anybody's.
    pub allowed_signers_file: Option<PathBuf>,
    /// Whose commits are taken, by GPG keys: armoured public keys, read at every fetch.
    pub gpg_keys_file: Option<PathBuf>,
    /// How often to look for new commits.
    pub poll: Duration,
}

/// A repository as last seen.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    /// Without credentials.
    pub url: String,
    /// Which branch, tag, range or commit is followed, for people.
    pub reference: String,
    /// The tag that a range picked; empty for everything else.
    pub picked: String,
    /// The newest commit's files; `None` before the first fetch.
    pub snapshot: Option<Arc<Snapshot>>,
    /// First line of the newest commit's message.
    pub subject: String,
    /// Since when that one is the newest, as far as the hub knows; 0 before the first.
    pub since: Timestamp,
    /// Last successful fetch; 0 before the first.
    pub fetched_at: Timestamp,
    /// Why the last fetch failed, and what to do; `None` when it did not.
    pub error: Option<String>,
    /// Files that the snapshot does not hold.
    pub blobs: Blobs,
}

/// Reads files by their object id, out of a mirror or of a checkout; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Blobs(Place);

/// Where files are.
#[derive(Debug, Clone, Default)]
enum Place {
    /// Nothing was fetched.
    #[default]
    Nowhere,
    Mirror(Arc<Mirror>),
    /// The objects of repositories on this machine.
    Repositories(Arc<Vec<PathBuf>>),
    /// The files of a working tree.
    OnDisk(Arc<OnDisk>),
}

impl Blobs {
    fn of_repositories(folders: Vec<PathBuf>) -> Self {
        Self(Place::Repositories(Arc::new(folders)))
    }

    fn on_disk(files: OnDisk) -> Self {
        Self(Place::OnDisk(Arc::new(files)))
    }

    /// The files of these paths and ids, in their order. Blocks.
    ///
    /// # Errors
    /// When one is not there: the mirror was cloned anew at a later commit, or is damaged; or when it only stands for a
    /// file in Git LFS.
    pub fn read<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<Vec<Bytes>> {
        let mut files = files.into_iter().peekable();
        if files.peek().is_none() {
            return Ok(Vec::new());
        }
        match &self.0 {
            Place::Nowhere => anyhow::bail!("nothing was fetched yet"),
            Place::Mirror(mirror) => mirror.blobs(files),
            Place::Repositories(folders) => mirror::blobs(folders, files),
            Place::OnDisk(on_disk) => files.map(|(path, id)| on_disk.file(path, id)).collect(),
        }
    }
}

/// The handle to the following tasks.
#[derive(Debug, Clone)]
pub struct Git {
    /// The fleet repository, always the newest.
    pub tracked: watch::Receiver<Arc<Tracked>>,
    /// The repositories that its documents name, always the newest.
    pub others: watch::Receiver<Arc<Others>>,
    asked: mpsc::UnboundedSender<Question>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What may be merged into a repository, with its mirror in `directory`/plans. `credentials` is the folder of those that
/// the hub holds.
pub fn proposals(
    repository: &Repository,
    credentials: Option<&Path>,
    directory: &Path,
) -> proposed::Proposals {
    let (remote, folder) = (Remote::fleet(repository), directory.join("plans"));
    proposed::Proposals::new(remote, credentials.map(Path::to_owned), folder)
}

impl Git {
    /// Fetches the fleet repository now and answers with what is then known; callers at the same time share one fetch.
    /// `None` when the hub is stopping.
    pub async fn fetch_now(&self) -> Option<Arc<Tracked>> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(answer).ok()?;
        answered.await.ok()
    }

    /// Fetches some of the others now, and comes back when that is done.
    pub async fn fetch_others(&self, which: Which) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Fetch(which, done)).is_ok() {
            // An error: the hub is stopping.
            is_done.await.ok();
        }
    }

    /// Says what the newest commit of the fleet names. `whole`: every document of it could be read, so whatever is not
    /// among these is not wanted any more.
    pub fn follow_others(&self, origins: BTreeMap<Origin, model::Repository>, whole: bool) {
        // Nobody listens: the hub is stopping.
        self.orders.send(Order::Follow { origins, whole }).ok();
    }
}

/// The handle to a repository that somebody else follows: nothing is fetched, what comes is taken.
pub fn fed(tracked: watch::Receiver<Arc<Tracked>>) -> Git {
    let (asked, _nobody) = mpsc::unbounded_channel();
    let (orders, _nobody) = mpsc::unbounded_channel();
    Git {
        tracked,
        others: watch::channel(Arc::default()).1,
        asked,
        orders,
    }
}

/// Follows `repository`, and the others that it is told of, until `shutdown`, with mirrors in `directory`/git and
/// `directory`/sources, and charts in `directory`/charts. Spawn the future. `credentials` is the folder of those that the hub holds.
pub fn follow(
    repository: Repository,
    credentials: Option<&Path>,
    directory: &Path,
    clock: Clock,
    shutdown: CancellationToken,
) -> (
    Git,
    impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let terms = |fetches| Terms {
        poll: repository.poll,
        clock: clock.clone(),
        fetches: Arc::new(Semaphore::new(fetches)),
        shutdown: shutdown.clone(),
    };
    let remote = Remote::fleet(&repository);
    let mirror = Arc::new(Mirror::new(remote, directory.join("git")));
    let (fleet, following) = follower::follow(Source::Commits(mirror), terms(1));
    let (orders, ordered) = mpsc::unbounded_channel();
    let (publish, others) = watch::channel(Arc::default());
    let set = Set {
        terms: terms(FETCHES),
        chart_fetches: Arc::new(Semaphore::new(FETCHES)),
        fleet: repository.url.clone(),
        credentials: credentials.map(Path::to_owned),
        mirrors: directory.join("sources"),
        charts: directory.join("charts"),
        publish,
        orders: ordered,
        followed: BTreeMap::new(),
        tasks: JoinSet::new(),
        moved: Arc::new(Notify::new()),
    };
    let git = Git {
        tracked: fleet.tracked,
        others,
        asked: fleet.asked,
        orders,
    };
    let both = async {
        let ((), followed) = tokio::join!(following, set.run());
        followed
    };
    (git, both)
}
