//! The context file: which hubs there are and which one is asked.
//!
//! In and out: `config.yaml`, mode 0600, replaced whole so that a crash leaves the old or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::failure::Failure;

/// Everything in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One hub.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Context {
    /// `host:port` of its API.
    pub(crate) server: String,
    /// Its CA certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// Or the file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Or the file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({}, …)", self.server)
    }
}

impl Contexts {
    /// Reads the file; one that is not there holds no context.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unusable(path, "read", &error)),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| {
            // The library's text shows the lines around the error, and these may hold a token.
            let line = error.location().map(|at| format!(":{}", at.line()));
            Failure::told(format!(
                "{}{} is no context file: correct it, or remove it and run `muster context add` again",
                path.display(),
                line.unwrap_or_default()
            ))
        })
    }

    /// Writes the file, readable by its owner only.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_saphyr::to_string(self)
            .map_err(|error| Failure::told(format!("contexts can't be written: {error}")))?;
        replace(path, text.as_bytes()).map_err(|error| unusable(path, "written", &error))
    }

    /// The context of that name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            config::unknown_context(name, &known)
        })
    }
}

impl Context {
    /// Its CA certificate, wherever it is.
    pub(crate) fn ca(&self) -> Result<Option<CertificateDer<'static>>, Failure> {
        match (&self.ca, &self.ca_file) {
            (Some(pem), _) => config::parse_ca(pem, "the context's `ca`").map(Some),
            (None, Some(path)) => config::read_ca(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Its token, wherever it is.
    pub(crate) fn token(&self) -> Result<Option<String>, Failure> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.trim().to_owned())),
            (None, Some(path)) => config::read_token(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::told(format!(
        "the context file {} can't be {what}: {error}",
        path.display()
    ))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // A link (dotfiles kept in a repository) stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut new = path.clone().into_os_string();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let replaced = written.and_then(|()| fs::rename(&new, &path));
    if replaced.is_err() {
        let _already_gone = fs::remove_file(&new);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn contexts_read_back_and_nobody_else_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("muster/config.yaml");
        let contexts = Contexts {
            current: Some("on".to_owned()),
            contexts: [(
                "on".to_owned(),
                Context {
                    server: "hub:7445".to_owned(),
                    ca: Some("-----BEGIN\nabc=\n".to_owned()),
                    token: Some("yes".to_owned()),
                    ..Context::default()
                },
            )]
            .into(),
        };
        contexts.save(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        contexts.save(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let entries = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1, "nothing is left beside it");
    }

    #[test]
    fn no_file_is_no_context_and_a_broken_one_is_told_without_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        fs::write(
            &path,
            "contexts:\n  a:\n    server: h:1\n    tokn: hunter2\n",
        )
        .unwrap();
        let error = Contexts::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("config.yaml:4 is no context file"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}
