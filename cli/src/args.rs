//! The command line: what can be asked and told.

mod local;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use muster_proto::{ApplicationName, ClusterName};

pub(crate) use local::{CheckArgs, Data, RenderArgs, WithoutHubArgs};

/// Ask the hub for the state of the whole fleet.
#[derive(Parser)]
#[command(
    name = "muster",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 from `status --check` when something is not Synced and Current, and from `diff` when something differs. From `plan`: 0 nothing would change, 1 failed, or something in it is broken, 2 something would change.\n\
                  Variables: MUSTER_CONTEXT, MUSTER_SERVER, MUSTER_CA_FILE, MUSTER_TOKEN, MUSTER_TOKEN_FILE, MUSTER_CONFIG (the context file), HTTPS_PROXY, NO_PROXY, NO_COLOR."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which hub.
#[derive(ClapArgs, Default)]
#[command(next_help_heading = "Which hub")]
pub(crate) struct ConnectionArgs {
    /// Context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Address of the hub's API
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
    /// The hub's CA certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File that holds the token
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The fleet on one screen: where Git is, what runs, what is wrong
    Status(StatusArgs),
    /// List clusters
    Clusters(ListArgs),
    /// List applications
    Apps(ListArgs),
    /// One cluster, application or object in detail
    #[command(subcommand)]
    Get(GetCommand),
    /// Who changed what behind Git's back
    Drift(DriftArgs),
    /// What differs from Git on a cluster right now, who wrote it, and what Muster would change
    Diff(DiffArgs),
    /// What a commit that is not merged would change on the whole fleet
    Plan(PlanArgs),
    /// Write nothing to an application's objects for a while, wherever it runs now; drift is shown, commits wait
    Pause(PauseArgs),
    /// End a pause before its time: what waits is done at once
    Resume(ResumeArgs),
    /// Let a cluster join, or remove it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Look at Git now instead of at the next poll
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Give the word that something waits for (`muster status` shows what does)
    Approve(ApproveArgs),
    /// Look at a checkout as a hub would, and print what is wrong: documents, references, every variant rendered
    Check(CheckArgs),
    /// What a cluster gets of an application; values of Secrets are masked
    Render(RenderArgs),
    /// Print the JSON Schema of the documents in a fleet repository, for editors
    Schema {
        /// The same as a page for people
        #[arg(long)]
        markdown: bool,
    },
    /// Version of this program and of the hub
    Version(VersionArgs),
    /// The hubs this program knows
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a completion script: source <(muster completion bash)
    Completion {
        #[arg(value_parser = shells())]
        shell: Shell,
    },
}

/// How an answer is shown.
#[derive(ClapArgs, Default)]
pub(crate) struct ViewArgs {
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
    /// Tables without their header lines
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Go on, and print again whenever the answer changes
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// A format of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// The hub's message as JSON
    Json,
    /// The hub's message as YAML
    Yaml,
}

#[derive(ClapArgs)]
pub(crate) struct ListArgs {
    /// Only clusters with these labels: stage=production,region in (eu,us)
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value_t,
        hide_default_value = true
    )]
    pub(crate) selector: String,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

#[derive(ClapArgs)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Exit with 3 when anything is not Synced and Current
    #[arg(long, visible_alias = "exit-code", conflicts_with = "watch")]
    pub(crate) check: bool,
}

#[derive(Subcommand)]
pub(crate) enum GetCommand {
    /// One cluster: its applications, and the objects that need a look
    Cluster(GetArgs),
    /// One application: the clusters it runs on, and the objects that need a look
    #[command(visible_alias = "application")]
    App(GetArgs),
    /// One object of a cluster, asked of its agent now: how it stands, and each field that Git states
    Object(GetObjectArgs),
}

#[derive(ClapArgs)]
pub(crate) struct GetObjectArgs {
    /// KIND[.GROUP]/NAME, or KIND[.GROUP] and [NAMESPACE/]NAME
    #[arg(required = true, num_args = 1..=2, value_name = "OBJECT")]
    pub(crate) object: Vec<String>,
    /// On which cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    /// In which namespace; may be left out when only one object is called so
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value_t,
        hide_default_value = true
    )]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) format: ComparisonArgs,
}

#[derive(ClapArgs)]
pub(crate) struct DiffArgs {
    /// Name of the application
    pub(crate) app: String,
    /// On which cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    #[command(flatten)]
    pub(crate) format: ComparisonArgs,
}

#[derive(ClapArgs)]
pub(crate) struct PlanArgs {
    /// A branch, a whole commit id, a ref such as refs/pull/7/head, or #7: what comes of merging it into the followed
    /// branch now; or the folder of a checkout, which begins with a dot or a slash: as its files are. With --local: A..B,
    /// A...B from where they parted, or A to the files as they are (HEAD when it says nothing)
    #[arg(value_name = "WHAT", required_unless_present = "local")]
    pub(crate) what: Option<String>,
    /// The commit or checkout as it is, not merged
    #[arg(long, conflicts_with = "local")]
    pub(crate) as_is: bool,
    /// Ask one connected cluster of each distinct diff what its API server says to it: admission, validation, access
    #[arg(long, value_enum, value_name = "WHERE", conflicts_with = "local")]
    pub(crate) dry_run: Option<DryRun>,
    /// Between two states of a checkout, asking no hub: the folder in it where the fleet begins, else this folder
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub(crate) local: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: PlanShownArgs,
    #[command(flatten)]
    pub(crate) without: WithoutHubArgs,
}

/// How much of a plan is shown, and how.
#[derive(ClapArgs)]
pub(crate) struct PlanShownArgs {
    /// Only what concerns this cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<ClusterName>,
    /// Only what concerns this application
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<ApplicationName>,
    /// How to print the plan
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: PlanOutput,
    /// Colours: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// Where a plan is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// By the API servers of connected clusters; nothing is changed there
    Server,
}

/// A format of plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PlanOutput {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// For a comment of a pull request
    Markdown,
}

/// How what an agent answered is shown.
#[derive(ClapArgs)]
pub(crate) struct ComparisonArgs {
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
    /// Colours: on a terminal, always, never
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(ClapArgs)]
pub(crate) struct GetArgs {
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

#[derive(ClapArgs)]
pub(crate) struct DriftArgs {
    /// Only this application
    #[arg(long, value_name = "NAME", default_value_t, hide_default_value = true)]
    pub(crate) app: String,
    /// Only what stands, and what was repaired within this time, such as 30m, 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) since: Option<Duration>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(ClapArgs)]
pub(crate) struct PauseArgs {
    /// Name of the application
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) on: OnArgs,
    /// For how long, such as 30m, 2h, 1d; 7d at most [default: the hub's, one hour]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) length: Option<Duration>,
    /// Why, for everyone who looks
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub(crate) reason: String,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
}

#[derive(ClapArgs)]
pub(crate) struct ResumeArgs {
    /// Name of the application
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) on: OnArgs,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// On which of an application's clusters.
#[derive(ClapArgs)]
pub(crate) struct OnArgs {
    /// Only on this cluster
    #[arg(
        long,
        value_name = "NAME",
        default_value_t,
        hide_default_value = true,
        conflicts_with = "selector"
    )]
    pub(crate) cluster: String,
    /// Only on clusters with these labels: stage=production,region in (eu,us)
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value_t,
        hide_default_value = true
    )]
    pub(crate) selector: String,
}

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a token that lets one new cluster in, once
    Join(JoinArgs),
    /// Take a cluster out of the fleet
    Remove(RemoveArgs),
}

#[derive(ClapArgs)]
pub(crate) struct JoinArgs {
    /// Who the cluster will be
    pub(crate) name: muster_proto::ClusterName,
    /// Label of the cluster; may be repeated. What Git says about it wins
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// For how long the token may be used, such as 30m, 1h, 2d [default: the hub's, one hour]
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) valid: Option<Duration>,
    /// Print manifests for `kubectl apply -f -` that run the agent inside the cluster
    #[arg(long, conflicts_with = "output")]
    pub(crate) manifest: bool,
    /// Image of muster-agent in the manifests
    #[arg(long, requires = "manifest", value_parser = image,
        default_value = concat!("muster-agent:", env!("CARGO_PKG_VERSION")))]
    pub(crate) image: String,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
}

#[derive(ClapArgs)]
#[command(group = ArgGroup::new("objects").required(true))]
pub(crate) struct RemoveArgs {
    pub(crate) name: String,
    /// Leave everything in the cluster as it is
    #[arg(long, group = "objects")]
    pub(crate) keep_objects: bool,
    /// Let the agent delete everything Muster put there, then go
    #[arg(long, group = "objects")]
    pub(crate) delete_objects: bool,
}

#[derive(Subcommand)]
pub(crate) enum SyncCommand {
    /// Fetch and decide at once
    Now,
}

#[derive(ClapArgs)]
#[command(group = ArgGroup::new("what").required(true))]
pub(crate) struct ApproveArgs {
    /// Let these leave the clusters, or lose the objects, that they wait to
    #[arg(value_name = "APPLICATION", group = "what")]
    pub(crate) applications: Vec<String>,
    /// Let removals go on at a cluster whose agent was ahead of the hub's store
    #[arg(long, value_name = "NAME", group = "what")]
    pub(crate) cluster: Option<String>,
    /// Let every application go: this commit holds none, and that is meant
    #[arg(long, value_name = "REVISION", group = "what")]
    pub(crate) emptied: Option<String>,
}

#[derive(ClapArgs)]
pub(crate) struct VersionArgs {
    /// This program's only; asks no hub
    #[arg(long)]
    pub(crate) client: bool,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
}

#[derive(Subcommand)]
pub(crate) enum ContextCommand {
    /// Remember a hub: --server, --ca-file and --token-file; or, on its own machine, --data
    Add {
        name: String,
        /// Data directory of a hub on this machine: its ca/ca.pem and admin-token are used
        #[arg(long, value_name = "DIR", conflicts_with_all = ["ca_file", "token_file"])]
        data: Option<PathBuf>,
        /// Copy CA and token into the context file instead of remembering where they are
        #[arg(long)]
        embed: bool,
        /// Make it the current context, even if there is one
        #[arg(long = "use")]
        make_current: bool,
    },
    /// List the hubs; the current one is marked
    List {
        /// Tables without their header lines
        #[arg(long)]
        no_headers: bool,
    },
    /// Choose which hub is asked
    Use { name: String },
    /// Forget a hub
    Remove { name: String },
}

fn shells() -> impl TypedValueParser<Value = Shell> {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    PossibleValuesParser::new(shells.iter().filter_map(Shell::to_possible_value))
        .try_map(|name| name.parse::<Shell>())
}

/// The characters of image references, none of which ends a quoted YAML string.
fn image(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "./:@_-".contains(c);
    match !text.is_empty() && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("an image is [REGISTRY/]NAME[:TAG][@DIGEST]".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

/// `90s`, `30m`, `1h30m`, `2d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration such as 30m, 1h or 2d".to_owned();
    let (mut seconds, mut number) = (0_u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        let part = count.checked_mul(unit).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
        number.clear();
    }
    // Ten years, so that nothing that follows overflows.
    match number.is_empty() && (1..=315_360_000).contains(&seconds) {
        true => Ok(Duration::from_secs(seconds)),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_reference_names_every_command_and_flag() {
        fn missing(command: &clap::Command, path: &str, page: &str, out: &mut Vec<String>) {
            for flag in command.get_arguments().filter_map(|a| a.get_long()) {
                if flag != "help" && flag != "version" && !page.contains(&format!("--{flag}")) {
                    out.push(format!("{path} --{flag}"));
                }
            }
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                // The overview writes these as one line.
                let context = path.starts_with("muster context ");
                if !context && !page.contains(&path) {
                    out.push(path.clone());
                }
                missing(sub, &path, page, out);
            }
        }
        let page = include_str!("../../docs/reference/cli.md");
        let mut out = Vec::new();
        missing(&Args::command(), "muster", page, &mut out);
        assert_eq!(
            out,
            Vec::<String>::new(),
            "missing in docs/reference/cli.md"
        );
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "0s",
            "1x",
            "1h5",
            "-1h",
            "99999999999999999999d",
            "9999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn removing_needs_exactly_one_word_about_the_objects() {
        let parse = |flags: &[&str]| {
            let args = ["muster", "cluster", "remove", "eu-1"];
            Args::try_parse_from(args.iter().chain(flags)).is_ok()
        };
        assert!(parse(&["--keep-objects"]));
        assert!(parse(&["--delete-objects"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--keep-objects", "--delete-objects"]));
    }
}
