//! The submodules of a commit: their own commits, brought into the same mirror, so that one object store holds all.
//!
//! In: a commit and where it is from. Out: [`Modules`]: at which path which commit stands, and which can't be had. A
//! submodule is fetched with the credential of its repository, where that is for it; else without any.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gix::objs::tree::EntryKind;
use muster_decide::address::relative;

use super::mirror::{self, Depth, Fetching, Transferred};

/// Submodules inside submodules, so deep at most.
const DEEPEST: usize = 4;
/// Submodules of one commit at most.
const MOST: usize = 100;

/// Submodules by path.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// The commits that stand at these paths.
    pub(super) here: BTreeMap<String, Module>,
    /// Those that can't be had, and why.
    pub(super) missing: BTreeMap<String, String>,
}

/// A submodule that is in the mirror.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) commit: gix::ObjectId,
    /// The repository that holds it; `None`: the one that its parent is in.
    pub(super) place: Option<PathBuf>,
    pub(super) inside: Modules,
}

/// Those that are in the mirror already; nothing is fetched.
pub(super) fn present(commit: &gix::Commit<'_>, url: &str) -> anyhow::Result<Modules> {
    find(commit, url, None, 0, &mut 0)
}

/// Brings those that are not in the mirror yet.
///
/// # Errors
/// When the mirror can't be read; what can't be had is said in the answer.
pub(super) fn fetched(
    commit: &gix::Commit<'_>,
    url: &str,
    fetching: &Fetching<'_>,
) -> anyhow::Result<Modules> {
    find(commit, url, Some(fetching), 0, &mut 0)
}

impl Modules {
    /// What is missing anywhere, with why.
    pub(super) fn trouble(&self) -> Option<String> {
        let own = self.missing.iter();
        let own = own.map(|(path, why)| format!("submodule {path} can't be had: {why}"));
        let inside = self.here.values().filter_map(|it| it.inside.trouble());
        own.chain(inside).next()
    }
}

fn find(
    commit: &gix::Commit<'_>,
    url: &str,
    fetching: Option<&Fetching<'_>>,
    depth: usize,
    count: &mut usize,
) -> anyhow::Result<Modules> {
    let tree = commit.tree()?;
    let links = links(&tree)?;
    let mut modules = Modules::default();
    if links.is_empty() {
        return Ok(modules);
    }
    let declared = declared(&tree)?;
    for (path, id) in links {
        *count += 1;
        let found = match declared.get(&path).map(|declared| &declared.url) {
            None => Err("no section of .gitmodules has this path".to_owned()),
            Some(_) if *count > MOST => Err(format!("the commit has more than {MOST} submodules")),
            Some(_) if depth >= DEEPEST => Err("submodules are nested too deep".to_owned()),
            Some(of) => relative(url, of)
                .and_then(|of| bring(commit.repo, &of, url, id, fetching).map(|()| of)),
        };
        match found {
            Err(why) => {
                modules.missing.insert(path, why);
            }
            Ok(of) => {
                // Opened afresh: the object store does not see packs that came after it was opened.
                let opened = gix::open_opts(commit.repo.path(), super::transport::options())?;
                let inner = opened.find_object(id)?.try_into_commit()?;
                let inside = find(&inner, &of, fetching, depth + 1, count)
                    .with_context(|| format!("submodule {path}"))?;
                let module = Module {
                    commit: id,
                    place: None,
                    inside,
                };
                modules.here.insert(path, module);
            }
        }
    }
    Ok(modules)
}

/// Those of a checkout whose own clones, which Git keeps in `folder`, hold their commits; `clones` gathers where they are.
pub(super) fn cloned(
    commit: &gix::Commit<'_>,
    folder: &Path,
    clones: &mut Vec<PathBuf>,
) -> anyhow::Result<Modules> {
    let tree = commit.tree()?;
    let mut modules = Modules::default();
    for (path, id) in links(&tree)? {
        let Some(Declared { name, .. }) = declared(&tree)?.remove(&path) else {
            continue;
        };
        // A name that leads elsewhere is none that Git would take.
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) || clones.len() >= MOST {
            continue;
        }
        let place = folder.join("modules").join(name);
        let Ok(opened) = gix::open_opts(&place, super::transport::options()) else {
            continue;
        };
        let Ok(inner) = opened.find_commit(id) else {
            continue;
        };
        clones.push(place.clone());
        let module = Module {
            commit: id,
            inside: cloned(&inner, &place, clones)?,
            place: Some(place),
        };
        modules.here.insert(path, module);
    }
    Ok(modules)
}

/// The commits of other repositories in a tree, by path.
fn links(tree: &gix::Tree<'_>) -> anyhow::Result<BTreeMap<String, gix::ObjectId>> {
    let mut links = BTreeMap::new();
    for entry in tree.traverse().breadthfirst.files()? {
        if entry.mode.kind() == EntryKind::Commit {
            links.insert(entry.filepath.to_string(), entry.oid);
        }
    }
    Ok(links)
}

/// Brings one commit into the mirror, unless it is there.
fn bring(
    repository: &gix::Repository,
    url: &str,
    parent: &str,
    id: gix::ObjectId,
    fetching: Option<&Fetching<'_>>,
) -> Result<(), String> {
    let local = format!("refs/muster/submodules/{id}");
    if repository.find_reference(&local).is_ok() {
        return Ok(());
    }
    let fetching = fetching.ok_or("it was not fetched yet")?;
    let credentials = fetching.credentials.for_submodule(parent, url)?;
    let own = Fetching {
        credentials: &credentials,
        ..*fetching
    };
    let options = credentials.options(own.log);
    let explain = |error: gix::Error| credentials.explain(url, &error, own.log);
    let opened = gix::open_opts(repository.path(), options).map_err(explain)?;
    match mirror::transfer(&opened, url, &id.to_string(), &local, Depth::newest(), &own) {
        Ok(Transferred::Here) => Ok(()),
        Ok(Transferred::Absent) => Err(format!("{url} has no commit {id}")),
        Ok(Transferred::Format(kind)) => Err(format!("{url} names objects by {kind}")),
        Err(error) => Err(explain(error)),
    }
}

/// What `.gitmodules` says of one.
struct Declared {
    name: String,
    url: String,
}

/// What `.gitmodules` says, by path.
fn declared(tree: &gix::Tree<'_>) -> anyhow::Result<BTreeMap<String, Declared>> {
    let Some(entry) = tree.lookup_entry_by_path(".gitmodules")? else {
        return Ok(BTreeMap::new());
    };
    let data = entry.object()?.detach().data;
    let file = gix::config::File::from_bytes_no_includes(
        &data,
        gix::config::file::Metadata::default(),
        gix::config::file::init::Options::default(),
    );
    // One that can't be read names nothing; every submodule then says so.
    let Ok(file) = file else {
        return Ok(BTreeMap::new());
    };
    let sections = file.sections_by_name("submodule").into_iter().flatten();
    let declared = sections.filter_map(|section| {
        let value = |key: &str| section.value(key).map(|value| value.to_string());
        let (name, url) = (
            section.header().subsection_name()?.to_string(),
            value("url")?,
        );
        Some((value("path")?, Declared { name, url }))
    });
    Ok(declared.collect())
}
