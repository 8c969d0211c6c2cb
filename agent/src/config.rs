//! The agent's configuration: the only place that reads flags, the environment and the files they name.
//!
//! In: the command line of `muster-agent run`, `MUSTER_AGENT_*` variables, `HTTPS_PROXY`, `NO_PROXY`, and where a Pod
//! is told its API server is. Out: a [`Config`] in which every value has been checked before anything is dialled. A flag wins over the environment.
//! Errors name the flag or variable, and what to write there.

mod settings;

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgMatches, Command};
use muster_proto::join_token::JoinToken;
use muster_proto::tls::proxy::Proxies;

use crate::backoff::Waits;
use crate::clock::Clock;
use crate::cluster_access::ClusterAccess;
use crate::credentials::Place;
use settings::{Given, Setting};

/// Everything `muster-agent run` can be told.
#[derive(Debug)]
pub struct Config {
    /// How to reach the API server of the cluster.
    pub cluster: ClusterAccess,
    /// What holds whatever the cluster is.
    pub options: Options,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear: `tracing` filter directives.
    pub log: String,
}

/// What an agent must know beside a client of its cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The invitation; needed until the cluster is enrolled.
    pub join: Join,
    /// Where key and certificate are kept.
    pub credentials: Place,
    /// Namespace of the agent's own Secrets.
    pub namespace: String,
    /// `host:port` of the hub's agents listener, instead of the join token's.
    pub hub: Option<String>,
    /// `host:port` of the hub's enrolment listener, instead of the join token's.
    pub enrolment: Option<String>,
    /// The way out.
    pub proxies: Proxies,
    /// Before something is tried again.
    pub waits: Waits,
    /// The time of day.
    pub clock: Clock,
}

/// The join token, or why there is none.
#[derive(Debug, Clone)]
pub enum Join {
    /// By flag, variable or file.
    Token(JoinToken),
    /// None was given, or the file is not there; the text says what to add. Fine for a cluster that is enrolled.
    Absent(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "join-token",
        value: "TOKEN",
        default: None,
        help: "What `muster cluster join NAME` printed; needed once, until the cluster is enrolled",
    },
    Setting {
        name: "join-token-file",
        value: "FILE",
        default: None,
        help: "A file that holds the join token",
    },
    Setting {
        name: "data",
        value: "DIR",
        default: None,
        help: "Keep key and certificate in this directory; made when absent",
    },
    Setting {
        name: "credentials-secret",
        value: "NAMESPACE/NAME",
        default: None,
        help: "Keep key and certificate in this Secret of the cluster",
    },
    Setting {
        name: "kubeconfig",
        value: "FILE",
        default: None,
        help: "Reach the cluster by this kubeconfig; without it and --context, the agent must run in the cluster",
    },
    Setting {
        name: "context",
        value: "NAME",
        default: None,
        help: "Context of the kubeconfig; its current one by default",
    },
    Setting {
        name: "service-account",
        value: "DIR",
        default: Some("/var/run/secrets/kubernetes.io/serviceaccount"),
        help: "In a cluster: folder of the Pod's ServiceAccount, with token and ca.crt",
    },
    Setting {
        name: "hub",
        value: "HOST:PORT",
        default: None,
        help: "Agents listener of the hub, when it is reached by another address than the join token says",
    },
    Setting {
        name: "hub-enrolment",
        value: "HOST:PORT",
        default: None,
        help: "Enrolment listener of the hub, when it is reached by another address than the join token says",
    },
    Setting {
        name: "namespace",
        value: "NAME",
        default: Some("muster-system"),
        help: "Namespace of the agent's inventory; made when absent",
    },
    Setting {
        name: "log-format",
        value: "text|json",
        default: Some("text"),
        help: "How log lines look",
    },
    Setting {
        name: "log",
        value: "FILTER",
        default: Some("info"),
        help: "Which log lines appear, such as info,muster_agent=debug",
    },
];

/// The commands of `muster-agent`.
pub fn command() -> Command {
    let run = Command::new("run").about("Join the fleet and make this cluster what Git says");
    Command::new("muster-agent")
        .about("The agent of a Muster fleet: makes one cluster match its desired state, keeps it so, and reports")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings::flags(run, SETTINGS))
        .subcommand(Command::new("version").about("Print the version"))
}

/// A variable of this process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// Reads and checks the configuration of `muster-agent run ARGUMENTS` without an environment: for programs that
    /// embed an agent.
    ///
    /// # Errors
    /// As [`Config::read`], and for unknown flags.
    pub fn from_arguments<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let program = ["muster-agent", "run"].map(OsString::from);
        let arguments = arguments.into_iter().map(Into::into);
        let matches = command().try_get_matches_from(program.into_iter().chain(arguments))?;
        let run = matches
            .subcommand_matches("run")
            .context("`run` is the command")?;
        Self::read(run, |_| None)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong: where it was said and what to write instead.
    pub fn read(
        flags: &ArgMatches,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let given = |name| settings::given(SETTINGS, name, flags, &environment);
        let namespace = given("namespace").context("it has a default")?;
        let log = given("log").context("it has a default")?;
        Ok(Self {
            options: Options {
                join: join(given("join-token"), given("join-token-file"))?,
                credentials: place(given("data"), given("credentials-secret"))?,
                namespace: namespace.checked(dns_label)?,
                hub: given("hub")
                    .map(|hub| hub.checked(host_and_port))
                    .transpose()?,
                enrolment: given("hub-enrolment")
                    .map(|hub| hub.checked(host_and_port))
                    .transpose()?,
                proxies: proxies(&environment)?,
                waits: Waits::default(),
                clock: Clock::system(),
            },
            cluster: match (given("kubeconfig"), given("context")) {
                // A current context is easily another than one thinks: a kubeconfig is only used when it was asked for.
                (None, None) => {
                    let service_account = given("service-account").context("it has a default")?;
                    pod(PathBuf::from(service_account.text), &environment)?
                }
                (kubeconfig, context) => cluster(kubeconfig, context, &environment)?,
            },
            log_format: given("log-format")
                .context("it has a default")?
                .checked(log_format)?,
            log: log.checked(|text| {
                tracing_subscriber::EnvFilter::try_new(text)
                    .map(|_| text.to_owned())
                    .map_err(|error| {
                        format!("is no log filter ({error}): write such as info,muster_agent=debug")
                    })
            })?,
        })
    }
}

impl Given {
    /// The value of the text; an error begins with where it was said.
    fn checked<V>(&self, check: impl FnOnce(&str) -> Result<V, String>) -> anyhow::Result<V> {
        check(&self.text)
            .map_err(|problem| anyhow::anyhow!("{} {:?} {problem}", self.origin, self.text))
    }

    fn path(&self) -> &Path {
        Path::new(&self.text)
    }
}

fn join(token: Option<Given>, file: Option<Given>) -> anyhow::Result<Join> {
    // The text is a secret: it is in none of the errors.
    let parse = |text: &str, origin: String| text.parse().map(Join::Token).context(origin);
    match (token, file) {
        (Some(token), Some(file)) => bail!(
            "{} and {} say the same thing: leave one out",
            token.origin,
            file.origin
        ),
        (Some(token), None) => parse(&token.text, token.origin),
        (None, Some(file)) => match std::fs::read_to_string(file.path()) {
            Ok(text) => parse(&text, format!("{} {}", file.origin, file.text)),
            // The Secret behind the file may be deleted once the cluster is enrolled.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Join::Absent(
                format!("{} {} is not there", file.origin, file.text),
            )),
            Err(error) => bail!("{} {} can't be read: {error}", file.origin, file.text),
        },
        (None, None) => Ok(Join::Absent(
            "no --join-token or --join-token-file is given".into(),
        )),
    }
}

fn place(data: Option<Given>, secret: Option<Given>) -> anyhow::Result<Place> {
    match (data, secret) {
        (Some(data), Some(secret)) => bail!(
            "{} and {} exclude each other: leave one out",
            data.origin,
            secret.origin
        ),
        (Some(data), None) => {
            if data.path().exists() && !data.path().is_dir() {
                bail!("{} {} is no directory", data.origin, data.text);
            }
            Ok(Place::Directory(PathBuf::from(data.text)))
        }
        (None, Some(secret)) => secret.checked(|text| {
            let problem =
                || "must be NAMESPACE/NAME, such as muster-system/muster-agent".to_owned();
            let (namespace, name) = text.split_once('/').ok_or_else(problem)?;
            Ok(Place::Secret {
                namespace: dns_label(namespace)?,
                name: dns_label(name)?,
            })
        }),
        (None, None) => bail!(
            "the agent must keep its key somewhere: add --data DIR, or in a cluster --credentials-secret NAMESPACE/NAME"
        ),
    }
}

fn cluster(
    kubeconfig: Option<Given>,
    context: Option<Given>,
    environment: &impl Fn(&str) -> Option<String>,
) -> anyhow::Result<ClusterAccess> {
    let (origin, files) = match kubeconfig {
        Some(file) => (file.origin.clone(), vec![PathBuf::from(file.text)]),
        None => ("--context".to_owned(), default_kubeconfigs(environment)),
    };
    ClusterAccess::from_kubeconfig(&files, context.map(|context| context.text)).context(origin)
}

/// The cluster that this Pod runs in. Every Pod is told where its API server is, by these two variables.
fn pod(
    service_account: PathBuf,
    environment: &impl Fn(&str) -> Option<String>,
) -> anyhow::Result<ClusterAccess> {
    let Some(host) = environment("KUBERNETES_SERVICE_HOST") else {
        bail!(
            "this is not inside a cluster: add --kubeconfig FILE, or --context NAME of your kubeconfig"
        );
    };
    let port = environment("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let host = match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => host,
    };
    let server = format!("https://{host}:{port}");
    Ok(ClusterAccess::InCluster {
        server: server.parse().with_context(|| {
            format!("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT give {server:?}, which is no address")
        })?,
        service_account,
    })
}

fn default_kubeconfigs(environment: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    match environment("KUBECONFIG").filter(|files| !files.is_empty()) {
        Some(files) => std::env::split_paths(&files).collect(),
        None => vec![PathBuf::from(environment("HOME").unwrap_or_default()).join(".kube/config")],
    }
}

fn proxies(environment: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Proxies> {
    let either = |name: &str| {
        environment(name)
            .or_else(|| environment(&name.to_lowercase()))
            .unwrap_or_default()
    };
    Proxies::parse(&either("HTTPS_PROXY"), &either("NO_PROXY")).context("HTTPS_PROXY")
}

fn host_and_port(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let fits = parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match fits && !text.contains('/') {
        true => Ok(text.to_owned()),
        false => Err("must be HOST:PORT, without a scheme".to_owned()),
    }
}

fn dns_label(text: &str) -> Result<String, String> {
    // Names of clusters follow the same rule.
    match text.parse::<muster_proto::ClusterName>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be lower-case letters, digits and '-', at most 63".to_owned()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests;
