//! Which hub to ask, and with which token. The only place that reads the environment.
//!
//! In: flags, variables, the context file. Out: a [`Hub`]. Flags go before variables, variables before the context;
//! each part (server, CA, token) on its own, except that a context's token is never shown to a server that another
//! CA vouches for.

pub(crate) mod file;

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use muster_decide::nearest::nearest;
use muster_proto::tls::proxy::Proxies;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::args::ConnectionArgs;
use crate::failure::Failure;
use file::{Context, Contexts};

/// What a run sees of its surroundings.
#[derive(Clone, Default)]
pub struct Environment {
    /// Where contexts are kept: `MUSTER_CONFIG`, else `muster/config.yaml` below `XDG_CONFIG_HOME` or `~/.config`.
    pub config_file: Option<PathBuf>,
    /// `MUSTER_CONTEXT`: which context to use.
    pub context: Option<String>,
    /// `MUSTER_SERVER`: `host:port` of the hub's API.
    pub server: Option<String>,
    /// `MUSTER_CA_FILE`: the hub's CA certificate, PEM.
    pub ca_file: Option<PathBuf>,
    /// `MUSTER_TOKEN`: the token itself.
    pub token: Option<String>,
    /// `MUSTER_TOKEN_FILE`: a file that holds it.
    pub token_file: Option<PathBuf>,
    /// `HTTPS_PROXY`, in either case: a proxy on the way to the hub.
    pub https_proxy: Option<String>,
    /// `NO_PROXY`, in either case: where it is not on the way.
    pub no_proxy: Option<String>,
    /// `PATH`: where programs that render are.
    pub path: Vec<PathBuf>,
    /// What may be lost: `muster` below `XDG_CACHE_HOME` or `~/.cache`.
    pub cache: Option<PathBuf>,
    /// Standard output, when it is a terminal.
    pub terminal: Option<Terminal>,
}

/// A terminal that is written to.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Colours are welcome (`NO_COLOR` is not set).
    pub colour: bool,
    /// Its columns and rows now; `None` when it does not say.
    pub size: fn() -> Option<(u16, u16)>,
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| set(name).map(PathBuf::from);
        let config_home =
            path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
        let cache_home =
            path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
        Self {
            config_file: path("MUSTER_CONFIG")
                .or_else(|| config_home.map(|home| home.join("muster/config.yaml"))),
            context: text("MUSTER_CONTEXT"),
            server: text("MUSTER_SERVER"),
            ca_file: path("MUSTER_CA_FILE"),
            token: text("MUSTER_TOKEN"),
            token_file: path("MUSTER_TOKEN_FILE"),
            https_proxy: text("HTTPS_PROXY").or_else(|| text("https_proxy")),
            no_proxy: text("NO_PROXY").or_else(|| text("no_proxy")),
            path: set("PATH")
                .iter()
                .flat_map(std::env::split_paths)
                .filter(|it| it.is_absolute())
                .collect(),
            cache: cache_home.map(|home| home.join("muster")),
            terminal: std::io::stdout().is_terminal().then(|| Terminal {
                colour: set("NO_COLOR").is_none() && text("TERM").as_deref() != Some("dumb"),
                size: || terminal_size::terminal_size().map(|(columns, rows)| (columns.0, rows.0)),
            }),
        }
    }

    /// Where contexts are kept.
    pub(crate) fn config_file(&self) -> Result<&Path, Failure> {
        self.config_file.as_deref().ok_or_else(|| {
            Failure::told("there is no place for contexts: set MUSTER_CONFIG or HOME")
        })
    }
}

/// A hub and how to prove oneself to it.
#[derive(Clone)]
pub(crate) struct Hub {
    /// `host:port`.
    pub(crate) server: String,
    /// Who vouches for it.
    pub(crate) ca: CertificateDer<'static>,
    /// Shown with every call.
    pub(crate) token: String,
    /// The way there.
    pub(crate) proxies: Proxies,
}

/// The hub that flags, variables and contexts lead to.
pub(crate) fn find_hub(environment: &Environment, flags: &ConnectionArgs) -> Result<Hub, Failure> {
    let given = Given::of(environment, flags);
    let named = flags.context.as_ref().or(environment.context.as_ref());
    let context = match named {
        Some(name) => named_context(environment, name)?,
        None if given.is_complete() => Context::default(),
        None => current_context(environment)?,
    };
    let server = given
        .server
        .or_else(|| (!context.server.is_empty()).then(|| context.server.clone()))
        .ok_or_else(|| nothing_configured("server"))?;
    let (ca, own_ca) = match given.ca_file {
        Some(path) => (read_ca(&path)?, true),
        None => (
            context.ca()?.ok_or_else(|| nothing_configured("CA"))?,
            false,
        ),
    };
    let token = match given.token {
        Some(token) => token.read()?,
        None if own_ca => {
            return Err(Failure::told(
                "with another CA the context's token is not sent: give one with --token-file, MUSTER_TOKEN or MUSTER_TOKEN_FILE",
            ));
        }
        None => context
            .token()?
            .ok_or_else(|| nothing_configured("token"))?,
    };
    Ok(Hub {
        server: checked_server(&server)?,
        ca,
        token,
        proxies: proxies(environment)?,
    })
}

fn proxies(environment: &Environment) -> Result<Proxies, Failure> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (proxy, exceptions) = (text(&environment.https_proxy), text(&environment.no_proxy));
    Proxies::parse(&proxy, &exceptions)
        .map_err(|error| Failure::told(format!("HTTPS_PROXY is {error}")))
}

/// What flags and variables say, before any context.
struct Given {
    server: Option<String>,
    ca_file: Option<PathBuf>,
    token: Option<TokenSource>,
}

/// Where a token is.
enum TokenSource {
    Itself(String),
    File(PathBuf),
}

impl Given {
    fn of(environment: &Environment, flags: &ConnectionArgs) -> Self {
        let file = flags.token_file.clone().map(TokenSource::File);
        let variable = environment.token.clone().map(TokenSource::Itself);
        let variable_file = environment.token_file.clone().map(TokenSource::File);
        Self {
            server: flags.server.clone().or(environment.server.clone()),
            ca_file: flags.ca_file.clone().or(environment.ca_file.clone()),
            token: file.or(variable).or(variable_file),
        }
    }

    fn is_complete(&self) -> bool {
        self.server.is_some() && self.ca_file.is_some() && self.token.is_some()
    }
}

impl TokenSource {
    fn read(self) -> Result<String, Failure> {
        match self {
            Self::Itself(token) => Ok(token.trim().to_owned()),
            Self::File(path) => read_token(&path),
        }
    }
}

fn named_context(environment: &Environment, name: &str) -> Result<Context, Failure> {
    let contexts = Contexts::load(environment.config_file()?)?;
    contexts.get(name).cloned()
}

/// The current context, or an empty one when there is none: what is missing is told part by part.
fn current_context(environment: &Environment) -> Result<Context, Failure> {
    let Some(path) = &environment.config_file else {
        return Ok(Context::default());
    };
    let contexts = Contexts::load(path)?;
    match &contexts.current {
        Some(name) => contexts.get(name).cloned(),
        None if contexts.contexts.is_empty() => Ok(Context::default()),
        None => Err(Failure::told(
            "no context is chosen: choose one with `muster context use NAME`; `muster context list` lists them",
        )),
    }
}

fn nothing_configured(what: &str) -> Failure {
    Failure::told(format!(
        "no hub is configured (no {what}): run `muster context add NAME --server HOST:PORT --ca-file FILE --token-file FILE`, or, on the hub's machine, `muster context add local --data DIR`"
    ))
}

/// Checks that an address is `host:port`, as the connector wants it.
pub(crate) fn checked_server(server: &str) -> Result<String, Failure> {
    let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(_) if !server.contains('/') => Ok(server.to_owned()),
        _ => Err(Failure::told(format!(
            "{server:?} is no address of a hub: write host:port, such as hub.example:7445"
        ))),
    }
}

/// The first certificate of a PEM file.
pub(crate) fn read_ca(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    parse_ca(&read_file("CA", path)?, &path.display().to_string())
}

/// The first certificate of a PEM text that comes from `place`.
pub(crate) fn parse_ca(pem: &str, place: &str) -> Result<CertificateDer<'static>, Failure> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        Failure::told(format!(
            "{place} holds no certificate in PEM form: give the hub's ca.pem"
        ))
    })
}

/// The token in a file, without the end of its line.
pub(crate) fn read_token(path: &Path) -> Result<String, Failure> {
    let token = read_file("token", path)?.trim().to_owned();
    if token.is_empty() {
        return Err(Failure::told(format!("{} is empty", path.display())));
    }
    Ok(token)
}

pub(crate) fn read_file(what: &str, path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        Failure::told(format!(
            "the {what} file {} can't be read: {error}",
            path.display()
        ))
    })
}

/// The context that a name stands for, told apart from names that are only near it.
pub(crate) fn unknown_context(name: &str, known: &[&str]) -> Failure {
    let hint = match nearest(name, known.iter().copied()) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => "; `muster context list` lists them".to_owned(),
    };
    Failure::told(format!("no context is called {name:?}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        crate::stub::ca_pem()
    }

    fn environment(dir: &Path) -> Environment {
        fs::write(dir.join("ca.pem"), certificate()).unwrap();
        fs::write(dir.join("token"), "secret\n").unwrap();
        Environment {
            config_file: Some(dir.join("config.yaml")),
            ..Environment::default()
        }
    }

    fn save_context(dir: &Path, current: Option<&str>) {
        let contexts = Contexts {
            current: current.map(str::to_owned),
            contexts: [(
                "local".to_owned(),
                Context {
                    server: "127.0.0.1:7445".to_owned(),
                    ca_file: Some(dir.join("ca.pem")),
                    token_file: Some(dir.join("token")),
                    ..Context::default()
                },
            )]
            .into(),
        };
        contexts.save(&dir.join("config.yaml")).unwrap();
    }

    fn error(environment: &Environment, flags: &ConnectionArgs) -> String {
        match find_hub(environment, flags) {
            Ok(hub) => panic!("found {}", hub.server),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn without_anything_the_error_says_how_to_begin() {
        let dir = tempfile::tempdir().unwrap();
        let error = error(&environment(dir.path()), &ConnectionArgs::default());
        assert!(error.starts_with("no hub is configured (no server): run `muster context add"));
    }

    #[test]
    fn the_current_context_is_used_and_flags_and_variables_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut environment = environment(dir.path());
        save_context(dir.path(), Some("local"));
        let hub = find_hub(&environment, &ConnectionArgs::default()).ok();
        let hub = hub.unwrap();
        assert_eq!(
            (hub.server.as_str(), hub.token.as_str()),
            ("127.0.0.1:7445", "secret")
        );

        environment.server = Some("variable:1".to_owned());
        environment.token = Some("other".to_owned());
        let hub = find_hub(&environment, &ConnectionArgs::default())
            .ok()
            .unwrap();
        assert_eq!(
            (hub.server.as_str(), hub.token.as_str()),
            ("variable:1", "other")
        );

        let flags = ConnectionArgs {
            server: Some("flag:2".to_owned()),
            ..ConnectionArgs::default()
        };
        let hub = find_hub(&environment, &flags).ok().unwrap();
        assert_eq!(hub.server, "flag:2");
    }

    #[test]
    fn variables_alone_need_no_context_file() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment {
            config_file: None,
            server: Some("hub:7445".to_owned()),
            ca_file: Some(dir.path().join("ca.pem")),
            token_file: Some(dir.path().join("token")),
            ..environment(dir.path())
        };
        let hub = find_hub(&environment, &ConnectionArgs::default()).ok();
        assert_eq!(hub.unwrap().token, "secret");
    }

    #[test]
    fn a_contexts_token_is_not_sent_to_a_server_of_another_ca() {
        let dir = tempfile::tempdir().unwrap();
        save_context(dir.path(), Some("local"));
        let environment = Environment {
            server: Some("elsewhere:1".to_owned()),
            ca_file: Some(dir.path().join("ca.pem")),
            ..environment(dir.path())
        };
        assert!(error(&environment, &ConnectionArgs::default()).contains("token is not sent"));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let environment = environment(dir.path());
        save_context(dir.path(), None);
        let named = |name: &str| ConnectionArgs {
            context: Some(name.to_owned()),
            ..ConnectionArgs::default()
        };
        insta::assert_snapshot!(
            [
                error(&environment, &ConnectionArgs::default()),
                error(&environment, &named("locl")),
                error(&environment, &named("somewhere")),
            ]
            .join("\n"),
            @r#"
        no context is chosen: choose one with `muster context use NAME`; `muster context list` lists them
        no context is called "locl"; did you mean "local"?
        no context is called "somewhere"; `muster context list` lists them
        "#
        );
        let proxied = Environment {
            https_proxy: Some("socks5://user:hunter2@proxy:1".to_owned()),
            ..environment.clone()
        };
        let said = error(&proxied, &named("local"));
        assert!(said.starts_with("HTTPS_PROXY is not a proxy"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        fs::write(dir.path().join("ca.pem"), "nothing").unwrap();
        assert!(error(&environment, &named("local")).ends_with("give the hub's ca.pem"));
    }

    #[test]
    fn an_address_is_host_and_port() {
        for good in ["hub:7445", "127.0.0.1:1", "[::1]:7445"] {
            assert!(checked_server(good).is_ok(), "{good}");
        }
        for bad in [
            "hub",
            ":7445",
            "https://hub:7445",
            "hub:port",
            "hub:7445/x",
            "hub:70000",
        ] {
            assert!(checked_server(bad).is_err(), "{bad}");
        }
    }
}
