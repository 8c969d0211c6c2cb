//! A repository that is followed: where it is, which commit of it, how to get in, and whose commits are taken.

use std::path::PathBuf;
use std::sync::Arc;

use muster_decide::address::Address;
use muster_decide::model::Repository;
use muster_decide::model::repository::{GitRef, Origin, Verify};

use super::signature::Trusted;

/// A repository that is followed.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    /// Of its `Repository`; `None`: the fleet repository.
    pub(super) name: Option<Arc<str>>,
    pub(super) url: String,
    /// `None`: what its HEAD names.
    pub(super) reference: Option<GitRef>,
    /// Only what is below this folder is read; empty: everything.
    pub(super) path: String,
    pub(super) access: Access,
    pub(super) trusted: Trusted,
}

/// How to get in.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// As the hub's flags say.
    Flags(Box<crate::Repository>),
    /// By a credential of the hub.
    Held {
        /// Which; `None`: anybody may read it.
        name: Option<String>,
        /// Where they all are.
        folder: Option<PathBuf>,
    },
}

impl Remote {
    /// The fleet repository.
    pub(super) fn fleet(repository: &crate::Repository) -> Self {
        Self {
            name: None,
            url: repository.url.clone(),
            reference: Some(GitRef::Branch(repository.branch.clone())),
            path: repository.path.clone(),
            trusted: Trusted::Files {
                allowed_signers: repository.allowed_signers_file.clone(),
                gpg_keys: repository.gpg_keys_file.clone(),
            },
            access: Access::Flags(Box::new(repository.clone())),
        }
    }

    /// The fleet repository as somebody has checked it out: it is read only, never fetched.
    pub(super) fn checkout(path: &str) -> Self {
        Self {
            name: None,
            url: String::new(),
            reference: None,
            path: path.to_owned(),
            access: Access::Held {
                name: None,
                folder: None,
            },
            trusted: Trusted::Given(Verify::default()),
        }
    }

    /// What a document of the fleet names.
    ///
    /// # Errors
    /// When it may not be fetched: its folder is on the hub's own machine, and the fleet repository's is not.
    pub(super) fn named(
        origin: &Origin,
        repository: &Repository,
        credentials: Option<PathBuf>,
        fleet: &str,
    ) -> Result<Self, String> {
        let is_file = |url: &str| Address::parse(url).is_ok_and(|address| address.is_file());
        if is_file(&repository.url) && !is_file(fleet) {
            return Err("its URL is a folder of the hub's own machine".to_owned());
        }
        let reference = origin.reference.clone();
        Ok(Self {
            name: Some(origin.repository.as_str().into()),
            url: repository.url.clone(),
            reference: reference.or_else(|| repository.reference.clone()),
            path: String::new(),
            trusted: Trusted::Given(repository.verify.clone().unwrap_or_default()),
            access: Access::Held {
                name: repository.credential.clone(),
                folder: credentials,
            },
        })
    }

    /// Which commit, for people.
    pub(super) fn what(&self) -> String {
        match &self.reference {
            None => "HEAD".to_owned(),
            Some(reference) => reference.to_string(),
        }
    }

    /// A commit never moves.
    pub(super) fn is_pinned(&self) -> bool {
        matches!(self.reference, Some(GitRef::Commit(_)))
    }
}
