//! How to reach a repository: credentials, CA, ssh, timeouts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gix::protocol::transport::client::blocking_io::{Transport, http};
use muster_decide::address::Address;
use reqwest::header::HeaderValue;

use super::remote::Access;

/// The longest silence of an HTTP server.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// The longest wait for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(20);
/// With a token, forges take any name.
const ANY_USER: &str = "x-access-token";

type Connection<'a, 'b, 'repo> = gix::remote::Connection<'a, 'b, 'repo, Box<dyn Transport + Send>>;

/// What is read from files at every fetch, so that a changed token is used at once.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) from: From,
    pub(super) username: String,
    pub(super) password: Option<String>,
    pub(super) ca: Option<Vec<u8>>,
    identity: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
}

/// Where they come from.
#[derive(Clone)]
pub(super) enum From {
    /// The flags of the fleet repository.
    Flags(Box<crate::Repository>),
    /// A folder of the hub, good for what begins with one of these.
    Held { name: String, urls: Vec<Address> },
    /// Nobody gave any.
    Nothing,
}

impl Credentials {
    /// Those for a URL.
    ///
    /// # Errors
    /// When there are none by that name, they can't be read, or they are not for this URL.
    pub(super) fn read(access: &Access, url: &str) -> Result<Self, String> {
        match access {
            Access::Flags(repository) => Self::flags(repository),
            Access::Held { name, folder } => Self::held(name.as_deref(), folder.as_deref(), url),
        }
    }

    fn flags(repository: &crate::Repository) -> Result<Self, String> {
        let password = match &repository.token_file {
            None => None,
            Some(file) => Some(text(file, "token file")?),
        };
        let ca = match &repository.ca_file {
            None => None,
            Some(file) => Some(bytes(file, "CA file")?),
        };
        Ok(Self {
            username: repository.username.clone(),
            password,
            ca,
            identity: repository.ssh_key_file.clone(),
            known_hosts: repository.known_hosts_file.clone(),
            from: From::Flags(Box::new(repository.clone())),
        })
    }

    fn held(name: Option<&str>, folder: Option<&Path>, url: &str) -> Result<Self, String> {
        let address = Address::parse(url).map_err(|problem| format!("its URL {problem}"))?;
        let Some(name) = name else {
            if address.is_ssh() {
                return Err(format!(
                    "{url} is reached by ssh, which takes a key: name a credential that the hub holds in spec.credential"
                ));
            }
            return Ok(Self::nothing());
        };
        let names = names(folder);
        if !names.iter().any(|held| held == name) {
            let has = match (folder, names.is_empty()) {
                (None, _) => "it has none, for want of --credentials DIR".to_owned(),
                (_, true) => "it has none".to_owned(),
                _ => format!("it has {}", names.join(", ")),
            };
            return Err(format!("the hub holds no credential {name:?}: {has}"));
        }
        let folder = folder.expect("there are names in it").join(name);
        let what = |what: &str| format!("{what} of credential {name}");
        let file = |file: &str| Some(folder.join(file)).filter(|path| path.exists());
        let urls = text(&folder.join("url"), &what("file `url`")).map_err(|error| {
            format!("{error}; write the beginnings of URLs into it that the credential is for, a line each")
        })?;
        let urls = urls.lines().map(str::trim).filter(|line| !line.is_empty());
        let urls = urls.map(Address::parse).collect::<Result<Vec<_>, _>>();
        let urls = urls.map_err(|problem| format!("a line in {} {problem}", what("`url`")))?;
        if !urls.iter().any(|prefix| address.is_below(prefix)) {
            return Err(format!(
                "credential {name} is not for {url}: whoever holds the hub says in the credential's file `url` what it is for"
            ));
        }
        let password = match file("password") {
            None => None,
            Some(_) if address.is_clear() => {
                return Err(format!(
                    "the password of credential {name} would go to {url} in clear text: write an https:// URL"
                ));
            }
            Some(path) => Some(text(&path, &what("password"))?),
        };
        let (identity, known_hosts) = (file("identity"), file("known_hosts"));
        for (file, there) in [("identity", &identity), ("known_hosts", &known_hosts)] {
            if address.is_ssh() && there.is_none() {
                return Err(format!(
                    "credential {name} has no file `{file}`, which ssh takes"
                ));
            }
        }
        Ok(Self {
            username: match file("username") {
                None => ANY_USER.to_owned(),
                Some(path) => text(&path, &what("user name"))?,
            },
            password,
            ca: match file("ca.crt") {
                None => None,
                Some(path) => Some(bytes(&path, &what("CA"))?),
            },
            identity,
            known_hosts,
            from: From::Held {
                name: name.to_owned(),
                urls,
            },
        })
    }

    fn nothing() -> Self {
        Self {
            from: From::Nothing,
            username: String::new(),
            password: None,
            ca: None,
            identity: None,
            known_hosts: None,
        }
    }

    /// Those for a submodule: the same for the same server, as far as they are for its URL; else none.
    ///
    /// # Errors
    /// When the URL is none to fetch from, or wants some.
    pub(super) fn for_submodule(&self, parent: &str, url: &str) -> Result<Self, String> {
        let address = Address::parse(url).map_err(|problem| format!("its URL {problem}"))?;
        let parent = Address::parse(parent).ok();
        if address.is_file() && !parent.as_ref().is_some_and(Address::is_file) {
            return Err("its URL is a folder of the hub's own machine".to_owned());
        }
        let good = parent.is_some_and(|parent| address.is_at(&parent))
            && match &self.from {
                From::Held { urls, .. } => urls.iter().any(|prefix| address.is_below(prefix)),
                From::Flags(_) | From::Nothing => true,
            };
        match good {
            true => Ok(self.clone()),
            false if address.is_ssh() => Err(
                "it is reached by ssh, and the credential of its repository is not for it".into(),
            ),
            false => Ok(Self::nothing()),
        }
    }

    /// Whether the password may be shown to whoever answers at a URL.
    pub(super) fn is_for(&self, url: &str) -> bool {
        let From::Held { urls, .. } = &self.from else {
            return false;
        };
        Address::parse(url).is_ok_and(|address| {
            !address.is_clear() && urls.iter().any(|prefix| address.is_below(prefix))
        })
    }

    /// As `Authorization` has it; never printed.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let pair = format!("{}:{}", self.username, self.password.as_deref()?);
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What people call it; empty: there is none.
    pub(super) fn name(&self) -> &str {
        match &self.from {
            From::Held { name, .. } => name,
            From::Flags(_) | From::Nothing => "",
        }
    }

    /// Makes a connection use them.
    pub(super) fn apply(&self, url: &str, connection: &mut Connection<'_, '_, '_>) {
        let (credentials, url) = (self.clone(), url.to_owned());
        connection.set_credentials(move |action| {
            use gix::credentials::{helper::Action, protocol::Outcome};
            let (Action::Get(context), Some(password)) = (action, &credentials.password) else {
                return Ok(None);
            };
            // A redirect must not carry the token to whom it was not given for.
            let asks = context.url.as_ref().map(ToString::to_string);
            let asks = asks.unwrap_or_default();
            if !is_same_server(&asks, &url) {
                let name = match &credentials.from {
                    From::Flags(_) => "with --repo",
                    _ => "in spec.url",
                };
                let why = format!(
                    "it redirects to {asks}, another server, and that one wants credentials; if the repository moved there, name that URL {name}"
                );
                return Err(gix::Error::from_error(std::io::Error::other(why)));
            }
            Ok(Some(Outcome {
                identity: gix::sec::identity::Account {
                    username: credentials.username.clone(),
                    password: password.clone(),
                    oauth_refresh_token: None,
                },
                next: context.into(),
            }))
        });
        let ca = self.ca.clone();
        let client = http::reqwest::Options {
            configure_client: Some(Box::new(move |builder| {
                let builder = builder.timeout(SILENCE).connect_timeout(CONNECT);
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

    /// How gix opens a repository: the machine's own Git configuration never leaks in. ssh writes what it has to say
    /// into `log`.
    pub(super) fn options(&self, log: &Path) -> gix::open::Options {
        let ssh = format!("core.sshCommand={}", self.ssh_command(log));
        options().config_overrides([ssh, "ssh.variant=ssh".to_owned()])
    }

    /// The external ssh, told everything, so that nothing of this machine's ssh configuration decides.
    fn ssh_command(&self, log: &Path) -> String {
        let mut command = "ssh -F none -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o LogLevel=ERROR".to_owned();
        command.push_str(" -E ");
        command.push_str(&quoted(log));
        if let Some(key) = &self.identity {
            command.push_str(" -o IdentitiesOnly=yes -o IdentityAgent=none -i ");
            command.push_str(&quoted(key));
        }
        command.push_str(" -o StrictHostKeyChecking=yes");
        if let Some(hosts) = &self.known_hosts {
            command.push_str(" -o UserKnownHostsFile=");
            command.push_str(&quoted(hosts));
        }
        command
    }
}

/// The credentials in a folder, by name.
fn names(folder: Option<&Path>) -> Vec<String> {
    let entries = folder.into_iter().flat_map(std::fs::read_dir);
    let entries = entries.flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn bytes(file: &Path, what: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file)
        .map_err(|error| format!("the {what} {} can't be read: {error}", file.display()))
}

fn text(file: &Path, what: &str) -> Result<String, String> {
    let text = String::from_utf8(bytes(file, what)?)
        .map_err(|_| format!("the {what} {} is no text", file.display()))?;
    Ok(text.trim().to_owned())
}

fn is_same_server(one: &str, other: &str) -> bool {
    let origin = |url: &str| reqwest::Url::parse(url).ok().map(|url| url.origin());
    origin(one).is_some() && origin(one) == origin(other)
}

/// How gix opens a repository that it reads only.
pub(super) fn options() -> gix::open::Options {
    gix::open::Options::isolated().config_overrides([
        "gitoxide.userAgent=muster-hub",
        // The mirror is a cache that only this process writes.
        "core.fsync=none",
        // A pack of a few bytes can hold an object of any size.
        "gitoxide.objects.allocLimit=1073741824",
    ])
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

    /// A folder of credentials with one, for these URLs.
    fn holding(name: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for (file, text) in files {
            std::fs::write(folder.path().join(name).join(file), text).unwrap();
        }
        folder
    }

    fn read(folder: Option<&Path>, name: &str, url: &str) -> Result<Credentials, String> {
        let access = Access::Held {
            name: Some(name.to_owned()),
            folder: folder.map(Path::to_owned),
        };
        Credentials::read(&access, url)
    }

    #[test]
    fn a_credential_is_for_the_urls_that_it_says_and_no_others() {
        let urls = "https://git.example/team/\ngit@git.example:team\n";
        let files = [
            ("url", urls),
            ("password", "hunter2\n"),
            ("identity", "k"),
            ("known_hosts", "h"),
        ];
        let folder = holding("team", &files);
        let good = read(
            Some(folder.path()),
            "team",
            "https://git.example/team/shop.git",
        )
        .unwrap();
        assert_eq!(good.password.as_deref(), Some("hunter2"));
        assert_eq!(good.username, "x-access-token");
        assert!(read(Some(folder.path()), "team", "git@git.example:team/shop.git").is_ok());
        for stranger in [
            "https://evil.example/team/shop.git",
            "https://git.example/other/shop.git",
            "https://git.example:8443/team/shop.git",
            "http://git.example/team/shop.git",
        ] {
            let refused = read(Some(folder.path()), "team", stranger).err().unwrap();
            assert!(refused.contains("is not for"), "{refused}");
        }
    }

    #[test]
    fn a_submodule_gets_the_credential_on_the_same_server_only() {
        let files = [
            ("url", "https://git.example/team/"),
            ("password", "hunter2"),
        ];
        let folder = holding("team", &files);
        let parent = "https://git.example/team/shop.git";
        let own = read(Some(folder.path()), "team", parent).unwrap();
        let given = |url: &str| {
            own.for_submodule(parent, url)
                .map(|it| it.password.is_some())
        };
        assert_eq!(given("https://git.example/team/lib.git"), Ok(true));
        assert_eq!(given("https://git.example/other/lib.git"), Ok(false));
        assert_eq!(given("https://evil.example/team/lib.git"), Ok(false));
        assert!(given("ssh://git@git.example/team/lib.git").is_err());
        assert!(given("file:///srv/git/lib").is_err());
        assert!(given("ext::sh -c id").is_err());
    }

    #[test]
    fn a_name_that_the_hub_does_not_hold_is_answered_with_those_that_it_has() {
        let folder = holding("team", &[("url", "https://git.example/")]);
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        let url = "https://git.example/shop.git";
        let said = |folder: Option<&Path>, name: &str| read(folder, name, url).err().unwrap();
        let said = [
            said(Some(folder.path()), "taem"),
            said(Some(folder.path()), "../team"),
            said(Some(folder.path()), "..data"),
            said(None, "team"),
        ];
        insta::assert_snapshot!(said.join("\n"), @r#"
        the hub holds no credential "taem": it has team
        the hub holds no credential "../team": it has team
        the hub holds no credential "..data": it has team
        the hub holds no credential "team": it has none, for want of --credentials DIR
        "#);
    }

    #[test]
    fn what_a_credential_lacks_is_named() {
        let lacking = |files: &[(&str, &str)], url: &str| {
            let folder = holding("team", files);
            let place = folder.path().display().to_string();
            let said = read(Some(folder.path()), "team", url).err().unwrap();
            said.replace(&place, "DIR")
        };
        let said = [
            lacking(&[], "https://git.example/shop"),
            lacking(&[("url", "git.example")], "https://git.example/shop"),
            lacking(
                &[("url", "http://git.example/"), ("password", "hunter2")],
                "http://git.example/shop",
            ),
            lacking(&[("url", "git@git.example:")], "git@git.example:shop"),
            Credentials::read(
                &Access::Held {
                    name: None,
                    folder: None,
                },
                "git@git.example:shop",
            )
            .err()
            .unwrap(),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        the file `url` of credential team DIR/team/url can't be read: No such file or directory (os error 2); write the beginnings of URLs into it that the credential is for, a line each
        a line in `url` of credential team is no repository: write https://…, ssh://… or git@HOST:PATH
        the password of credential team would go to http://git.example/shop in clear text: write an https:// URL
        credential team has no file `identity`, which ssh takes
        git@git.example:shop is reached by ssh, which takes a key: name a credential that the hub holds in spec.credential
        ");
    }
}
