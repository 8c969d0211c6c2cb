//! How to reach the repository: credentials, CA, ssh, timeouts; and what went wrong, said without any credential.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::{Transport, http};

use crate::config::Repository;

/// The longest silence of an HTTP server.
const SILENCE: Duration = Duration::from_secs(60);

type Connection<'a, 'b, 'repo> = gix::remote::Connection<'a, 'b, 'repo, Box<dyn Transport + Send>>;

/// What is read from files at every fetch, so that a changed token is used at once.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    username: String,
    token: Option<String>,
    ca: Option<Vec<u8>>,
}

impl Credentials {
    pub(super) fn read(repository: &Repository) -> Result<Self, String> {
        let read = |file: &Path, what| {
            std::fs::read(file)
                .map_err(|error| format!("the {what} {} can't be read: {error}", file.display()))
        };
        let token = match &repository.token_file {
            None => None,
            Some(file) => {
                let text = String::from_utf8(read(file, "token file")?)
                    .map_err(|_| format!("the token file {} is no text", file.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let ca = match &repository.ca_file {
            None => None,
            Some(file) => Some(read(file, "CA file")?),
        };
        Ok(Self {
            username: repository.username.clone(),
            token,
            ca,
        })
    }

    /// Makes a connection use them.
    pub(super) fn apply(&self, repository: &Repository, connection: &mut Connection<'_, '_, '_>) {
        let (credentials, url) = (self.clone(), repository.url.clone());
        connection.set_credentials(move |action| {
            use gix::credentials::{helper::Action, protocol::Outcome};
            let (Action::Get(context), Some(token)) = (action, &credentials.token) else {
                return Ok(None);
            };
            // A redirect must not carry the token to whom it was not given for.
            let asks = context.url.as_ref().map(ToString::to_string);
            let asks = asks.unwrap_or_default();
            if !is_same_server(&asks, &url) {
                let why = format!(
                    "it redirects to {asks}, another server, and that one wants credentials; if the repository moved there, name that URL with --repo"
                );
                return Err(gix::Error::from_error(std::io::Error::other(why)));
            }
            Ok(Some(Outcome {
                identity: gix::sec::identity::Account {
                    username: credentials.username.clone(),
                    password: token.clone(),
                    oauth_refresh_token: None,
                },
                next: context.into(),
            }))
        });
        let ca = self.ca.clone();
        let client = http::reqwest::Options {
            configure_client: Some(Box::new(move |builder| {
                let builder = builder.timeout(SILENCE);
                let Some(pem) = &ca else {
                    return Ok(builder);
                };
                let roots =
                    reqwest::Certificate::from_pem_bundle(pem).map_err(gix::Error::from_error)?;
                Ok(builder.tls_certs_only(roots))
            })),
            configure_request: None,
        };
        connection.set_transport_options(Box::new(http::Options {
            backend: Some(Arc::new(Mutex::new(client))),
            ssl_verify: true,
            ..http::Options::default()
        }));
    }

    /// What went wrong and what to do, without the token.
    pub(super) fn explain(&self, repository: &Repository, error: &gix::Error) -> String {
        let url = &repository.url;
        let mut parts: Vec<String> = Vec::new();
        for part in error.iter_errors().map(ToString::to_string) {
            if !parts.iter().any(|said| said.contains(&part)) {
                parts.push(part);
            }
        }
        let mut text = parts.join(": ");
        if let Some(token) = self.token.as_deref().filter(|token| !token.is_empty()) {
            text = text.replace(token, "…");
        }
        // gix and rustls have no type for these that comes through; tests watch the words.
        let refused = error.is_unauthenticated() || error.is_permission_denied();
        match (&repository.token_file, &repository.ca_file) {
            (Some(file), _) if refused || text.contains("status 401") => format!(
                "{url} refused the token in {} (--repo-token-file) of user {} (--repo-username): put one there that may read the repository; the file is read at every fetch",
                file.display(),
                repository.username
            ),
            (None, _)
                if refused || text.contains("status 401") || text.contains("No credentials") =>
            {
                format!("{url} wants credentials: give a token with --repo-token-file FILE")
            }
            (_, Some(file)) if text.contains("invalid peer certificate") => format!(
                "{url} shows a certificate that the CAs in {} (--repo-ca-file) do not vouch for: {text}",
                file.display()
            ),
            (_, None) if text.contains("invalid peer certificate") => format!(
                "{url} shows a certificate that no well-known CA vouches for; name its own with --repo-ca-file FILE: {text}"
            ),
            _ => format!("{url} can't be fetched: {text}"),
        }
    }
}

fn is_same_server(one: &str, other: &str) -> bool {
    let origin = |url: &str| reqwest::Url::parse(url).ok().map(|url| url.origin());
    origin(one).is_some() && origin(one) == origin(other)
}

/// How gix opens a repository: the machine's own Git configuration never leaks in.
pub(super) fn options(repository: &Repository) -> gix::open::Options {
    let mut overrides = vec![
        "gitoxide.userAgent=muster-hub".to_owned(),
        // The mirror is a cache that only this process writes.
        "core.fsync=none".to_owned(),
    ];
    overrides.push(format!("core.sshCommand={}", ssh_command(repository)));
    gix::open::Options::isolated().config_overrides(overrides)
}

/// The external ssh, told everything, so that nothing of this machine's ssh configuration decides.
fn ssh_command(repository: &Repository) -> String {
    let mut command = "ssh -F none -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4".to_owned();
    if let Some(key) = &repository.ssh_key_file {
        command.push_str(" -o IdentitiesOnly=yes -i ");
        command.push_str(&quoted(key));
    }
    command.push_str(" -o StrictHostKeyChecking=yes");
    if let Some(hosts) = &repository.known_hosts_file {
        command.push_str(" -o UserKnownHostsFile=");
        command.push_str(&quoted(hosts));
    }
    command
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_for_the_shell_are_quoted() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
