//! A checkout on this machine, read as a hub would read it: a commit of it, or its files as they are now.
//!
//! In: a folder in it, and a revision. Out: [`Looked`]: the snapshot that the hub would take of that, and the files that
//! it does not hold. Nothing is fetched or written, and no program is run.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use gix::index::entry::{Mode, Stage};
use muster_decide::snapshot::is_read;
use muster_decide::{File, FileContent, Snapshot};

use super::Blobs;
use super::read::{self, LARGEST_FILE, is_below};
use super::remote::Remote;
use super::{submodules, transport};

/// What the files of a working tree are called where a commit has an id.
pub const WORKING_TREE: &str = "the working tree";

/// A repository that somebody has checked out.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
    /// Folder in it where the fleet begins; empty: all of it.
    folder: String,
}

/// A commit of a checkout, or its files as they are.
#[derive(Debug, Clone)]
pub struct Looked {
    /// Which, for people: an abbreviated id, or [`WORKING_TREE`].
    pub name: String,
    /// Its files.
    pub snapshot: Arc<Snapshot>,
    /// Files that the snapshot does not hold.
    pub blobs: Blobs,
}

/// Where the files of a working tree are, by object id.
#[derive(Debug)]
pub(super) struct OnDisk(HashMap<String, PathBuf>);

impl Checkout {
    /// The checkout that a folder belongs to; the fleet begins at that folder.
    ///
    /// # Errors
    /// When it can't be read, or is in no repository.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        let folder = folder
            .canonicalize()
            .with_context(|| format!("{shown} can't be read"))?;
        let options = || gix::sec::trust::Mapping {
            full: transport::options(),
            reduced: transport::options(),
        };
        let found = gix::ThreadSafeRepository::discover_opts(
            &folder,
            gix::discover::upwards::Options::default(),
            options(),
        );
        let found = found.map_err(|_| {
            anyhow::anyhow!("{shown} is in no Git repository: give the folder of a checkout")
        })?;
        let root = found.to_thread_local().workdir().map(Path::to_owned);
        let root = root.with_context(|| {
            format!("{shown} is a repository without a working tree: give the folder of a checkout")
        })?;
        let root = root.canonicalize()?;
        let below = folder.strip_prefix(&root).unwrap_or(Path::new(""));
        let below = below.to_str().context("the folder's name is no text")?;
        Ok(Self {
            folder: below.to_owned(),
            root,
        })
    }

    /// A commit of it, by anything that `git rev-parse` takes.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn commit(&self, revision: &str) -> anyhow::Result<Looked> {
        let opened = self.open()?;
        let id = find(&opened, revision)?;
        let commit = opened.find_object(id)?.try_into_commit()?;
        let remote = Remote::checkout(&self.folder);
        let mut objects = vec![opened.common_dir().to_owned()];
        let modules = submodules::cloned(&commit, opened.common_dir(), &mut objects)?;
        let (snapshot, _) = read::commit(&commit, &remote, &modules, None)?;
        Ok(Looked {
            name: id.to_hex_with_len(7).to_string(),
            snapshot,
            blobs: Blobs::of_repositories(objects),
        })
    }

    /// The newest commit that both of these come from, in hex.
    ///
    /// # Errors
    /// When one of them is not there, or they have nothing in common.
    pub fn merge_base(&self, one: &str, other: &str) -> anyhow::Result<String> {
        let opened = self.open()?;
        let (from, to) = (find(&opened, one)?, find(&opened, other)?);
        let base = opened.merge_base(from, to)?;
        let base = base.with_context(|| {
            format!("{one} and {other} have no commit in common here: a shallow clone holds only its newest commits")
        })?;
        Ok(base.to_string())
    }

    /// Its files as they are now, those that Git ignores left out: what `git add --all` would commit.
    ///
    /// # Errors
    /// When a file can't be read or is in conflict.
    pub fn working_tree(&self) -> anyhow::Result<Looked> {
        let mut reading = Reading {
            fleet: &self.folder,
            files: BTreeMap::new(),
            on_disk: HashMap::new(),
        };
        reading.repository(&self.open()?, "")?;
        let snapshot = Snapshot {
            repository: None,
            revision: "working-tree".to_owned(),
            files: reading.files,
        };
        Ok(Looked {
            name: WORKING_TREE.to_owned(),
            snapshot: Arc::new(snapshot),
            blobs: Blobs::on_disk(OnDisk(reading.on_disk)),
        })
    }

    fn open(&self) -> anyhow::Result<gix::Repository> {
        Ok(gix::open_opts(&self.root, transport::options())?)
    }
}

fn find(opened: &gix::Repository, revision: &str) -> anyhow::Result<gix::ObjectId> {
    let found = opened
        .rev_parse_single(revision)
        .and_then(|id| id.object())
        .map_err(anyhow::Error::from)
        .and_then(|object| Ok(object.peel_to_commit()?.id));
    found.map_err(|_| {
        anyhow::anyhow!(
            "there is no commit {revision:?} here: fetch it; a shallow clone holds only its newest commits"
        )
    })
}

impl OnDisk {
    /// A file by its object id; `path` names it in errors.
    pub(super) fn file(&self, path: &str, oid: &str) -> anyhow::Result<Bytes> {
        let file = self
            .0
            .get(oid)
            .with_context(|| format!("{path} is not there any more"))?;
        let size = fs::metadata(file).with_context(|| path.to_owned())?.len();
        read::check_size(path, size)?;
        Ok(fs::read(file).with_context(|| path.to_owned())?.into())
    }
}

struct Reading<'a> {
    /// Where the fleet begins.
    fleet: &'a str,
    files: BTreeMap<String, File>,
    on_disk: HashMap<String, PathBuf>,
}

impl Reading<'_> {
    /// The files of a working tree that stands at `at`: empty, or with a slash at its end.
    fn repository(&mut self, opened: &gix::Repository, at: &str) -> anyhow::Result<()> {
        let worktree = opened.worktree().context("it has no working tree")?;
        let root = worktree.base();
        let index = opened.index_or_empty()?;
        let mut ignored = worktree.excludes(None)?;
        let mut open = vec![String::new()];
        while let Some(folder) = open.pop() {
            let entries = fs::read_dir(root.join(&folder));
            for entry in entries.with_context(|| format!("{at}{folder}"))? {
                let entry = entry?;
                // The model names files in errors and by path; a manifest can't be meant by this one.
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if name == ".git" {
                    continue;
                }
                let inside = match folder.as_str() {
                    "" => name,
                    folder => format!("{folder}/{name}"),
                };
                let path = format!("{at}{inside}");
                let tracked = index.entry_by_path(inside.as_str().into());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    let wanted = path == self.fleet
                        || is_below(&path, self.fleet)
                        || is_below(self.fleet, &path);
                    if !wanted {
                        continue;
                    }
                    match tracked {
                        Some(module) if module.mode == Mode::COMMIT => {
                            self.module(&entry.path(), &path, module.id)?;
                        }
                        // Another repository, which is none of this one's files.
                        _ if entry.path().join(".git").exists() => {}
                        _ => {
                            let below = format!("{inside}/");
                            let tracked = index.prefixed_entries(below.as_str().into());
                            let has_tracked = tracked.is_some_and(|it| !it.is_empty());
                            let ignored = ignored.at_path(&inside, Some(Mode::DIR))?;
                            if has_tracked || !ignored.is_excluded() {
                                open.push(inside);
                            }
                        }
                    }
                    continue;
                }
                if tracked.is_none() && ignored.at_path(&inside, None)?.is_excluded() {
                    continue;
                }
                if !is_below(&path, self.fleet) {
                    continue;
                }
                if kind.is_symlink() {
                    let leads = fs::read_link(entry.path())?;
                    let oid = blob_id(opened, leads.as_os_str().as_bytes())?.to_string();
                    self.put(path, oid, FileContent::Symlink);
                } else if kind.is_file() {
                    let before = tracked.map(|tracked| tracked.id);
                    self.file(opened, path, &entry.path(), before)?;
                }
            }
        }
        let mut conflicts = index.entries().iter();
        let conflict = conflicts.find(|entry| entry.stage() != Stage::Unconflicted);
        if let Some(entry) = conflict {
            bail!(
                "{at}{} is in conflict: finish the merge first",
                entry.path(&index)
            );
        }
        Ok(())
    }

    /// A submodule: its files as they are, if it was brought here.
    fn module(&mut self, place: &Path, path: &str, commit: gix::ObjectId) -> anyhow::Result<()> {
        if !place.join(".git").exists() {
            self.put(path.to_owned(), commit.to_string(), FileContent::Submodule);
            return Ok(());
        }
        let opened = gix::open_opts(place, transport::options())?;
        self.repository(&opened, &format!("{path}/"))
    }

    /// `before`: its object in the index.
    fn file(
        &mut self,
        opened: &gix::Repository,
        path: String,
        place: &Path,
        before: Option<gix::ObjectId>,
    ) -> anyhow::Result<()> {
        let size = fs::metadata(place)?.len();
        let is_read = is_read(&path);
        if size > LARGEST_FILE as u64 {
            if is_read {
                read::check_size(&path, size)?;
            }
            // Whoever wants it is told that it is too large.
            let oid = format!("large-{size}-{path}");
            self.on_disk.insert(oid.clone(), place.to_owned());
            self.put(path, oid, FileContent::Unread);
            return Ok(());
        }
        let bytes = Bytes::from(fs::read(place).with_context(|| path.clone())?);
        let id = blob_id(opened, &bytes)?;
        let oid = id.to_string();
        // What Git LFS put here for a pointer is not what Git holds.
        let changed = before.filter(|before| *before != id);
        if read::is_pointer(&bytes) || changed.is_some_and(|before| is_pointer(opened, before)) {
            self.put(path, oid, FileContent::LfsPointer);
            return Ok(());
        }
        let content = match is_read {
            true => FileContent::Bytes(bytes),
            false => {
                self.on_disk.insert(oid.clone(), place.to_owned());
                FileContent::Unread
            }
        };
        self.put(path, oid, content);
        Ok(())
    }

    fn put(&mut self, path: String, oid: String, content: FileContent) {
        self.files.insert(path, File { oid, content });
    }
}

fn blob_id(opened: &gix::Repository, bytes: &[u8]) -> anyhow::Result<gix::ObjectId> {
    let kind = gix::objs::Kind::Blob;
    let id = gix::objs::compute_hash(opened.object_hash(), kind, bytes);
    id.map_err(anyhow::Error::from)
}

/// Whether an object of a repository stands for a file in Git LFS.
fn is_pointer(opened: &gix::Repository, id: gix::ObjectId) -> bool {
    read::blob(opened, "", id).is_ok_and(|bytes| read::is_pointer(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::others::run;

    /// A checkout, made with the `git` command.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.git(&["init", "-q", "-b", "main"]);
            place
        }

        fn git(&self, arguments: &[&str]) {
            run(self.0.path(), arguments);
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn commit(&self, files: &[(&str, &str)]) {
            for (path, text) in files {
                self.put(path, text);
            }
            self.git(&["add", "-A"]);
            self.git(&["commit", "-q", "--allow-empty", "-m", "more"]);
        }

        fn checkout(&self) -> Checkout {
            Checkout::of(self.0.path()).unwrap()
        }
    }

    /// Path and content, one a line.
    fn listed(looked: &Looked) -> String {
        let files = looked.snapshot.files.iter().map(|(path, file)| {
            let content = match &file.content {
                FileContent::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                FileContent::Unread => {
                    let read = looked.blobs.read([(path.as_str(), file.oid.as_str())]);
                    let read = read.map(|read| String::from_utf8_lossy(&read[0]).into_owned());
                    format!("unread: {}", read.unwrap_or_else(|error| error.to_string()))
                }
                other => format!("{other:?}"),
            };
            format!("{path}: {content}")
        });
        files.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_clean_working_tree_is_its_commit() {
        let place = Place::new();
        place.commit(&[
            ("a.yaml", "one"),
            ("b/logo.png", "picture"),
            ("b/c/d.yml", "two"),
        ]);
        let (tree, commit) = (
            place.checkout().working_tree(),
            place.checkout().commit("HEAD"),
        );
        let (tree, commit) = (tree.unwrap(), commit.unwrap());
        assert_eq!(tree.snapshot.files, commit.snapshot.files);
        assert_eq!(listed(&tree), listed(&commit));
        insta::assert_snapshot!(listed(&tree), @r"
        a.yaml: one
        b/c/d.yml: two
        b/logo.png: unread: picture
        ");
    }

    #[test]
    fn what_is_not_committed_counts_and_what_is_ignored_does_not() {
        let place = Place::new();
        place.commit(&[
            ("a.yaml", "one"),
            ("gone.yaml", "x"),
            (".gitignore", "build/\n*.tmp.yaml\n"),
        ]);
        place.put("build/made.yaml", "ignored");
        place.put("b/x.tmp.yaml", "ignored");
        place.put("b/new.yaml", "new");
        place.put("build/forced.yaml", "tracked all the same");
        place.git(&["add", "-f", "build/forced.yaml"]);
        place.put("a.yaml", "two");
        place.put("inner/x.yaml", "of another repository");
        run(&place.0.path().join("inner"), &["init", "-q"]);
        fs::remove_file(place.0.path().join("gone.yaml")).unwrap();
        std::os::unix::fs::symlink("a.yaml", place.0.path().join("link.yaml")).unwrap();
        let tree = place.checkout().working_tree().unwrap();
        insta::assert_snapshot!(listed(&tree), @r"
        .gitignore: unread: build/
        *.tmp.yaml

        a.yaml: two
        b/new.yaml: new
        build/forced.yaml: tracked all the same
        link.yaml: Symlink
        ");
    }

    #[test]
    fn the_fleet_begins_at_the_folder_and_paths_at_the_root() {
        let place = Place::new();
        place.commit(&[
            ("fleet/a.yaml", "one"),
            ("fleet-old/b.yaml", "two"),
            ("c.yaml", "three"),
        ]);
        let checkout = Checkout::of(&place.0.path().join("fleet")).unwrap();
        assert_eq!(
            listed(&checkout.working_tree().unwrap()),
            "fleet/a.yaml: one"
        );
        assert_eq!(
            listed(&checkout.commit("main").unwrap()),
            "fleet/a.yaml: one"
        );
    }

    #[test]
    fn the_files_of_a_submodule_are_those_of_its_own_checkout() {
        let (place, library) = (Place::new(), Place::new());
        library.commit(&[("x.yaml", "inside"), ("logo.png", "picture")]);
        place.commit(&[("a.yaml", "one")]);
        let url = library.0.path().display().to_string();
        place.git(&["submodule", "add", "-q", &url, "lib"]);
        place.commit(&[]);
        let tree = place.checkout().working_tree().unwrap();
        assert!(
            listed(&tree).ends_with("\nlib/x.yaml: inside"),
            "{}",
            listed(&tree)
        );
        let commit = place.checkout().commit("HEAD").unwrap();
        assert_eq!(commit.snapshot.files, tree.snapshot.files);
        assert!(listed(&commit).contains("lib/logo.png: unread: picture"));
        // One that nobody brought here is said to be one.
        place.git(&["submodule", "deinit", "-q", "-f", "lib"]);
        let tree = place.checkout().working_tree().unwrap();
        assert!(
            listed(&tree).ends_with("\nlib: Submodule"),
            "{}",
            listed(&tree)
        );
    }

    #[test]
    fn a_file_that_git_lfs_keeps_is_a_pointer_as_it_is_for_the_hub() {
        let place = Place::new();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n";
        place.commit(&[("a.yaml", pointer), ("b.yaml", pointer)]);
        // What the program of Git LFS does to a checkout.
        place.put("a.yaml", "big");
        let tree = place.checkout().working_tree().unwrap();
        assert_eq!(listed(&tree), "a.yaml: LfsPointer\nb.yaml: LfsPointer");
    }

    #[test]
    fn what_is_not_there_is_told_with_the_way_out() {
        let place = Place::new();
        place.commit(&[("a.yaml", "one")]);
        let nowhere = tempfile::tempdir().unwrap();
        let missing = nowhere.path().join("missing");
        let said = [
            Checkout::of(nowhere.path()).unwrap_err(),
            Checkout::of(&missing).unwrap_err(),
            place.checkout().commit("nope").unwrap_err(),
            place.checkout().merge_base("HEAD", "v1").unwrap_err(),
        ];
        let said = said.map(|error| error.to_string()).join("\n");
        let said = said.replace(&nowhere.path().display().to_string(), "DIR");
        insta::assert_snapshot!(said, @r#"
        DIR is in no Git repository: give the folder of a checkout
        DIR/missing can't be read
        there is no commit "nope" here: fetch it; a shallow clone holds only its newest commits
        there is no commit "v1" here: fetch it; a shallow clone holds only its newest commits
        "#);
    }

    #[test]
    fn branches_begin_where_they_parted() {
        let place = Place::new();
        place.commit(&[("a.yaml", "one")]);
        place.git(&["checkout", "-q", "-b", "change"]);
        place.commit(&[("a.yaml", "two")]);
        place.git(&["checkout", "-q", "main"]);
        place.commit(&[("b.yaml", "three")]);
        let checkout = place.checkout();
        let base = checkout.merge_base("main", "change").unwrap();
        assert_eq!(listed(&checkout.commit(&base).unwrap()), "a.yaml: one");
    }
}
