//! What went wrong with a fetch, in words that say what to do, and without any credential.
//!
//! In: an error of gix, and what ssh wrote. Out: one sentence that names the file or flag to change.

use std::path::Path;

use muster_decide::address::Address;

use super::transport::{Credentials, From};

/// What a server holds against who asks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trouble {
    /// What was shown will not do.
    pub(super) refused: bool,
    /// Nothing was shown.
    pub(super) wanted: bool,
    /// Nobody vouches for the server.
    pub(super) distrusted: bool,
}

impl Credentials {
    /// What went wrong and what to do, without the token. `log` is what ssh wrote.
    pub(super) fn explain(&self, url: &str, error: &gix::Error, log: &Path) -> String {
        let mut parts: Vec<String> = Vec::new();
        for part in error.iter_errors().map(ToString::to_string) {
            if !parts.iter().any(|said| said.contains(&part)) {
                parts.push(part);
            }
        }
        let text = parts.join(": ");
        let ssh = std::fs::read_to_string(log).unwrap_or_default();
        if Address::parse(url).is_ok_and(|address| address.is_ssh()) && !ssh.trim().is_empty() {
            return self.explain_ssh(url, &ssh);
        }
        // gix and rustls have no type for these that comes through; tests watch the words.
        let trouble = Trouble {
            refused: error.is_unauthenticated()
                || error.is_permission_denied()
                || text.contains("status 401"),
            distrusted: text.contains("invalid peer certificate"),
            wanted: text.contains("No credentials"),
        };
        self.words(url, trouble, &text)
    }

    /// The same of an HTTP server: `text` is what it or the connection said.
    pub(super) fn words(&self, url: &str, trouble: Trouble, text: &str) -> String {
        let text = match self.password.as_deref().filter(|it| !it.is_empty()) {
            Some(password) => text.replace(password, "…"),
            None => text.to_owned(),
        };
        let Trouble {
            refused,
            wanted,
            distrusted,
        } = trouble;
        match &self.from {
            From::Flags(flags) => match (&flags.token_file, &flags.ca_file) {
                (Some(file), _) if refused => format!(
                    "{url} refused the token in {} (--repo-token-file) of user {} (--repo-username): put one there that may read the repository; the file is read at every fetch",
                    file.display(),
                    self.username
                ),
                (None, _) if refused || wanted => {
                    format!("{url} wants credentials: give a token with --repo-token-file FILE")
                }
                (_, Some(file)) if distrusted => format!(
                    "{url} shows a certificate that the CAs in {} (--repo-ca-file) do not vouch for: {text}",
                    file.display()
                ),
                (_, None) if distrusted => format!(
                    "{url} shows a certificate that no well-known CA vouches for; name its own with --repo-ca-file FILE: {text}"
                ),
                _ => format!("{url} can't be fetched: {text}"),
            },
            From::Held { name, .. } => match () {
                () if refused && self.password.is_some() => format!(
                    "{url} refused the password of credential {name}, of user {}: put one there that may read the repository; it is read at every fetch",
                    self.username
                ),
                () if refused || wanted => {
                    format!("{url} wants a password: credential {name} has no file `password`")
                }
                () if distrusted && self.ca.is_some() => format!(
                    "{url} shows a certificate that the CAs in `ca.crt` of credential {name} do not vouch for: {text}"
                ),
                () if distrusted => format!(
                    "{url} shows a certificate that no well-known CA vouches for; put its own into the file `ca.crt` of credential {name}: {text}"
                ),
                () => format!("{url} can't be fetched: {text}"),
            },
            From::Nothing => match () {
                () if refused || wanted => format!(
                    "{url} wants credentials: name one that the hub holds in spec.credential"
                ),
                () if distrusted => format!(
                    "{url} shows a certificate that no well-known CA vouches for; name a credential that holds its own in spec.credential: {text}"
                ),
                () => format!("{url} can't be fetched: {text}"),
            },
        }
    }

    fn explain_ssh(&self, url: &str, said: &str) -> String {
        let (key, hosts) = match &self.from {
            From::Held { name, .. } => (
                format!("the file `identity` of credential {name}"),
                format!("the file `known_hosts` of credential {name}"),
            ),
            _ => (
                "--repo-ssh-key-file".into(),
                "--repo-known-hosts-file".into(),
            ),
        };
        let plain: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('@'))
            .collect();
        let plain = plain.join(" ");
        if said.contains("HOST IDENTIFICATION HAS CHANGED") || said.contains("has changed and you")
        {
            format!(
                "the server of {url} shows another host key than {hosts} says: somebody may be in between; if the server really has a new key, put it there"
            )
        } else if said.contains("host key is known") || said.contains("Host key verification") {
            format!(
                "the host key of the server of {url} is not known: put it into {hosts} (`ssh-keyscan` prints it; compare it with what the server's owner says)"
            )
        } else if said.contains("Permission denied") {
            format!(
                "the server of {url} refused the key in {key}: put one there that may read the repository"
            )
        } else {
            format!("{url} can't be fetched: {plain}")
        }
    }
}
