//! The hub's configuration: the only place that reads flags, the environment and a file.
//!
//! In: command line, `MUSTER_HUB_*` variables, a YAML file. Out: a [`Config`] in which every value has been checked, before
//! a socket opens. Flag wins over environment, environment over file, file over default. Errors name the place to
//! change and what to write there.

mod credentials;
mod settings;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgMatches, Command};
use muster_decide::render::Tool;
use muster_git::Repository;
use muster_render::{By, Rendering, ToolFile, jail};

pub use credentials::Credentials;
use settings::{Setting, Settings};

/// Everything `muster-hub serve` can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of everything durable: store, CA, admin token, Git mirror. Made when absent.
    pub data: PathBuf,
    /// The fleet repository.
    pub repository: Repository,
    /// A folder for each credential that documents of the fleet may name; read at every fetch.
    pub credentials: Option<PathBuf>,
    /// The same from the environment; there are none of these beside a folder.
    pub given_credentials: Credentials,
    /// Where agents connect (mutual TLS).
    pub agents_listen: SocketAddr,
    /// Where new clusters enrol (server TLS).
    pub enrolment_listen: SocketAddr,
    /// Where people and scripts ask (server TLS, bearer token).
    pub api_listen: SocketAddr,
    /// `host:port` by which agents reach `agents_listen`; `None`: the bound address.
    pub advertise_agents: Option<String>,
    /// `host:port` by which agents reach `enrolment_listen`; `None`: the bound address.
    pub advertise_enrolment: Option<String>,
    /// Key of the webhook's HMAC; `None`: a webhook needs no signature.
    pub webhook_secret: Option<Secret>,
    /// How programs render.
    pub rendering: Rendering,
    /// What plans may take.
    pub plans: PlanLimits,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear: `tracing` filter directives such as `info,muster_hub=debug`.
    pub log: String,
}

/// A secret's bytes, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What plans may take of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// That are made at the same time.
    pub at_once: usize,
    /// That wait for their turn beside those.
    pub waiting: usize,
    /// A fetch that takes longer is ended.
    pub fetch: Duration,
    /// A plan that takes longer, all in all, is ended.
    pub whole: Duration,
    /// Bytes of all that was fetched, on disk: a repository of manifests is far below.
    pub disk: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            at_once: 4,
            waiting: 32,
            fetch: Duration::from_secs(180),
            whole: Duration::from_secs(900),
            disk: 2 << 30,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The commands of `muster-hub`.
pub fn command() -> Command {
    let serve =
        Command::new("serve").about("Follow the fleet repository and serve agents and people");
    Command::new("muster-hub")
        .about("The hub of a Muster fleet: follows Git, decides what every cluster should run, serves agents and people")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings::flags(serve, SETTINGS))
        .subcommand(jail::command())
        .subcommand(Command::new("version").about("Print the version"))
}

/// Variables by name.
pub type Environment = BTreeMap<String, String>;

/// This process's environment, as far as it is text.
pub fn environment() -> Environment {
    let text = |text: OsString| text.into_string().ok();
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect()
}

impl Config {
    /// Reads and checks the configuration of `muster-hub serve ARGUMENTS`: a shorthand for programs that embed a hub.
    ///
    /// # Errors
    /// As [`Config::read`], and for unknown flags.
    pub fn from_arguments<A: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let program = ["muster-hub", "serve"].map(OsString::from);
        let arguments = program
            .into_iter()
            .chain(arguments.into_iter().map(Into::into));
        let matches = command().try_get_matches_from(arguments)?;
        let serve = matches
            .subcommand_matches("serve")
            .context("`serve` is the command")?;
        Self::read(serve, &Environment::new())
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong: where it was said and what to write instead.
    pub fn read(flags: &ArgMatches, environment: &Environment) -> anyhow::Result<Self> {
        let settings = settings::merge(SETTINGS, flags, environment)?;
        let config = Self {
            data: settings.required("data", |text| Ok(PathBuf::from(text)))?,
            repository: repository(&settings)?,
            credentials: settings.optional("credentials", values::existing_folder)?,
            given_credentials: Credentials::read(environment)?,
            agents_listen: settings.required("agents-listen", values::listen_address)?,
            enrolment_listen: settings.required("enrolment-listen", values::listen_address)?,
            api_listen: settings.required("api-listen", values::listen_address)?,
            advertise_agents: settings.optional("advertise-agents", values::host_and_port)?,
            advertise_enrolment: settings.optional("advertise-enrolment", values::host_and_port)?,
            webhook_secret: webhook_secret(&settings)?,
            rendering: rendering(&settings, environment)?,
            plans: PlanLimits::default(),
            log_format: settings.required("log-format", log_format)?,
            log: settings.required("log", values::log_filter)?,
        };
        if config.credentials.is_some() && !config.given_credentials.is_empty() {
            bail!(
                "{} names a folder of credentials, and the environment holds some, too (MUSTER_HUB_CREDENTIAL_…): keep all of them in one place",
                settings.origin("credentials")
            );
        }
        for (listener, listen, advertised) in [
            ("agents", config.agents_listen, &config.advertise_agents),
            (
                "enrolment",
                config.enrolment_listen,
                &config.advertise_enrolment,
            ),
        ] {
            if listen.ip().is_unspecified() && advertised.is_none() {
                bail!(
                    "{} listens on every address, so agents must be told one: add --advertise-{listener} HOST:PORT",
                    settings.origin(&format!("{listener}-listen"))
                );
            }
        }
        Ok(config)
    }
}

fn repository(settings: &Settings) -> anyhow::Result<Repository> {
    let url = settings.required("repo", values::repository_url)?;
    let https = url.starts_with("https://");
    let ssh = !https && !url.starts_with("http://") && !url.starts_with("file://");
    if settings.text("repo-token-file").is_some() && url.starts_with("http://") {
        bail!(
            "{} is {url}, and the token of {} would go there in clear text: write an https:// URL, or leave the token out",
            settings.origin("repo"),
            settings.origin("repo-token-file"),
        );
    }
    for (name, fits, scheme) in [
        ("repo-token-file", https, "https"),
        ("repo-ca-file", https, "https"),
        ("repo-ssh-key-file", ssh, "ssh"),
        ("repo-known-hosts-file", ssh, "ssh"),
    ] {
        if settings.text(name).is_some() && !fits {
            bail!(
                "{} is for {scheme} repositories, and {} is {url}: leave one out",
                settings.origin(name),
                settings.origin("repo"),
            );
        }
    }
    Ok(Repository {
        branch: settings.required("branch", values::branch)?,
        path: settings.required("path", values::folder)?,
        token_file: settings.file("repo-token-file")?,
        username: settings.required("repo-username", |text| Ok(text.to_owned()))?,
        ca_file: settings.file("repo-ca-file")?,
        ssh_key_file: settings.file("repo-ssh-key-file")?,
        known_hosts_file: settings.file("repo-known-hosts-file")?,
        allowed_signers_file: settings.file("repo-allowed-signers-file")?,
        gpg_keys_file: settings.file("repo-gpg-keys-file")?,
        poll: settings.required("poll", values::poll_interval)?,
        url,
    })
}

fn rendering(settings: &Settings, environment: &Environment) -> anyhow::Result<Rendering> {
    let path = environment.get("PATH").map_or("", String::as_str);
    let folders: Vec<PathBuf> = std::env::split_paths(path)
        .filter(|it| it.is_absolute())
        .collect();
    let tools = Tool::ALL.map(|tool| {
        let file = settings.optional(tool.name(), str::parse)?;
        Ok((
            tool,
            file.unwrap_or_else(|| ToolFile::Search(folders.clone())),
        ))
    });
    Ok(Rendering {
        tools: tools.into_iter().collect::<anyhow::Result<_>>()?,
        concurrency: settings.optional("render-concurrency", values::at_least_one)?,
        timeout: settings.required("render-timeout", values::render_timeout)?,
        cache_size: settings.required("render-cache", values::size)?,
        allow_unconfined: settings.required("allow-unconfined-render", values::yes_or_no)?,
        by: By::Hub,
        jail: None,
    })
}

fn webhook_secret(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    let Some(path) = settings.file("webhook-secret-file")? else {
        return Ok(None);
    };
    let secret = std::fs::read(&path)?.trim_ascii().to_vec();
    if secret.is_empty() {
        bail!(
            "{}: the file holds only white space",
            settings.origin("webhook-secret-file")
        );
    }
    Ok(Some(Secret(secret)))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither `text` nor `json`".to_owned()),
    }
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "data",
        value: "DIR",
        default: None,
        help: "Folder of everything durable: store, CA, admin token",
    },
    Setting {
        name: "repo",
        value: "URL",
        default: None,
        help: "The fleet repository (https, http, ssh or file)",
    },
    Setting {
        name: "branch",
        value: "NAME",
        default: Some("main"),
        help: "Branch to follow",
    },
    Setting {
        name: "path",
        value: "FOLDER",
        default: Some("."),
        help: "Folder of the repository where the fleet begins",
    },
    Setting {
        name: "repo-token-file",
        value: "FILE",
        default: None,
        help: "Token or password for an https repository",
    },
    Setting {
        name: "repo-username",
        value: "NAME",
        default: Some("x-access-token"),
        help: "User name that goes with the token",
    },
    Setting {
        name: "repo-ca-file",
        value: "FILE",
        default: None,
        help: "PEM of the CAs to trust for an https repository",
    },
    Setting {
        name: "repo-ssh-key-file",
        value: "FILE",
        default: None,
        help: "Private key for an ssh repository",
    },
    Setting {
        name: "repo-known-hosts-file",
        value: "FILE",
        default: None,
        help: "Host keys to trust for an ssh repository",
    },
    Setting {
        name: "repo-allowed-signers-file",
        value: "FILE",
        default: None,
        help: "Take only commits that one of these SSH keys signed (an allowed-signers file)",
    },
    Setting {
        name: "repo-gpg-keys-file",
        value: "FILE",
        default: None,
        help: "Take only commits that one of these GPG keys signed (armoured public keys)",
    },
    Setting {
        name: "credentials",
        value: "DIR",
        default: None,
        help: "Folder with a folder for each credential that a Repository may name",
    },
    Setting {
        name: "poll",
        value: "TIME",
        default: Some("60s"),
        help: "How often to look for new commits",
    },
    Setting {
        name: "agents-listen",
        value: "ADDRESS",
        default: Some("127.0.0.1:7443"),
        help: "Where agents connect",
    },
    Setting {
        name: "enrolment-listen",
        value: "ADDRESS",
        default: Some("127.0.0.1:7444"),
        help: "Where new clusters enrol",
    },
    Setting {
        name: "api-listen",
        value: "ADDRESS",
        default: Some("127.0.0.1:7445"),
        help: "Where `muster`, scripts and webhooks connect",
    },
    Setting {
        name: "advertise-agents",
        value: "HOST:PORT",
        default: None,
        help: "How agents reach --agents-listen; without it, the address itself",
    },
    Setting {
        name: "advertise-enrolment",
        value: "HOST:PORT",
        default: None,
        help: "How agents reach --enrolment-listen; without it, the address itself",
    },
    Setting {
        name: "webhook-secret-file",
        value: "FILE",
        default: None,
        help: "Key that webhooks must be signed with (HMAC SHA-256)",
    },
    Setting {
        name: "kustomize",
        value: "FILE",
        default: None,
        help: "The program kustomize, or `none`; without it, the one on the PATH",
    },
    Setting {
        name: "helm",
        value: "FILE",
        default: None,
        help: "The program helm, or `none`; without it, the one on the PATH",
    },
    Setting {
        name: "render-concurrency",
        value: "N",
        default: None,
        help: "How many programs render at the same time; without it, one for each processor",
    },
    Setting {
        name: "render-timeout",
        value: "TIME",
        default: Some("60s"),
        help: "How long a program may render",
    },
    Setting {
        name: "render-cache",
        value: "SIZE",
        default: Some("1GiB"),
        help: "How much of what programs rendered is kept on disk",
    },
    Setting {
        name: "allow-unconfined-render",
        value: "YES",
        default: Some("no"),
        help: "Also render where the kernel can't confine programs: `yes` or `no`",
    },
    Setting {
        name: "log-format",
        value: "FORMAT",
        default: Some("text"),
        help: "`text` or `json`",
    },
    Setting {
        name: "log",
        value: "FILTER",
        default: Some("info"),
        help: "What to log, such as `debug` or `info,muster_hub=debug`",
    },
];

#[cfg(test)]
mod tests;
