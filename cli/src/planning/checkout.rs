//! What a checkout holds that the fleet's commits do not, by this machine's own `git`: that is what its files mean.
//!
//! In: a folder, and what the hub follows. Out: each file that differs from the newest commit that both know. Files that
//! are not added are among them, ignored ones are not. The checkout is not touched: its state is written as Git objects
//! into a folder that goes away.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use muster_proto::wire::v1;

use crate::failure::Failure;

/// Bytes of all files: what one message takes.
const LARGEST: usize = 3 << 20;

/// What differs.
pub(super) fn differing(folder: &Path, source: &v1::Source) -> Result<v1::WorkingTree, Failure> {
    let git = Git::of(folder)?;
    let followed = &source.revision;
    if followed.is_empty() {
        return Err(Failure::told(
            "the hub has not fetched the fleet repository yet",
        ));
    }
    let knows = git.run(&["cat-file", "-e", &format!("{followed}^{{commit}}")]);
    if knows.is_err() {
        return Err(Failure::told(format!(
            "{} does not know commit {followed}, which the hub follows as {} of {}: run `git fetch` there first",
            folder.display(),
            source.branch,
            source.url
        )));
    }
    let base = git.line(&["merge-base", followed, "HEAD"])?;
    git.run(&["read-tree", "HEAD"])?;
    git.run(&["add", "--all", "."])?;
    let tree = git.line(&["write-tree"])?;
    let changes = git.run(&["diff-tree", "-r", "-z", "--no-renames", &base, &tree])?;
    let mut files = Vec::new();
    let mut size = 0;
    let mut fields = changes.split(|byte| *byte == 0);
    while let (Some(change), Some(path)) = (fields.next(), fields.next()) {
        let change = String::from_utf8_lossy(change);
        let unread = || Failure::told(format!("git says {change:?}, which can't be read"));
        let path = String::from_utf8(path.to_vec()).map_err(|_| unread())?;
        // `:100644 100755 BEFORE AFTER M`
        let words: Vec<&str> = change.split(' ').collect();
        let [_, mode, _, id, _] = words[..] else {
            return Err(unread());
        };
        let kind = match mode {
            "000000" => "deleted",
            "100644" => "file",
            "100755" => "executable",
            "120000" => "link",
            _ => {
                return Err(Failure::told(format!(
                    "{path} is another repository: commit and push it, and plan the branch"
                )));
            }
        };
        let content = match kind {
            "deleted" => Vec::new(),
            _ => git.run(&["cat-file", "blob", id])?,
        };
        size += content.len() + path.len();
        if size > LARGEST {
            return Err(Failure::told(format!(
                "more than {} MiB differ from commit {base}: push a branch, and plan that",
                LARGEST >> 20
            )));
        }
        files.push(v1::WorkingFile {
            path,
            kind: kind.to_owned(),
            content: Bytes::from(content),
        });
    }
    Ok(v1::WorkingTree { base, files })
}

/// The repository of a checkout, with an index and a place for objects that are not its own.
struct Git<'a> {
    folder: &'a Path,
    own: tempfile::TempDir,
    objects: String,
}

impl<'a> Git<'a> {
    fn of(folder: &'a Path) -> Result<Self, Failure> {
        let own = tempfile::tempdir()?;
        let mut git = Self {
            folder,
            own,
            objects: String::new(),
        };
        let top = git.line(&["rev-parse", "--show-toplevel"])?;
        let objects = git.line(&["rev-parse", "--git-path", "objects"])?;
        let objects = folder.join(objects);
        let objects = objects.canonicalize()?;
        if folder.canonicalize()? != Path::new(&top) {
            return Err(Failure::told(format!(
                "{} is not the root of its repository: plan {top}",
                folder.display()
            )));
        }
        git.objects = objects.display().to_string();
        std::fs::create_dir(git.own.path().join("objects"))?;
        Ok(git)
    }

    fn line(&self, words: &[&str]) -> Result<String, Failure> {
        let said = self.run(words)?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    fn run(&self, words: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.folder).args(words);
        if !self.objects.is_empty() {
            let own = self.own.path();
            command
                .env("GIT_INDEX_FILE", own.join("index"))
                .env("GIT_OBJECT_DIRECTORY", own.join("objects"))
                .env(
                    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
                    OsStr::new(&self.objects),
                );
        }
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| {
            Failure::told(format!("a checkout takes `git` to be read: {error}"))
        })?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(Failure::told(format!("git {}: {said}", words.join(" "))))
            }
        }
    }
}
