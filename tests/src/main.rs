//! `testbed`: the programs of this workspace in one binary, for tests of several processes and for the demo.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use muster_tests::git::server::GitServer;
use muster_tests::{cluster, demo, measure, memory, supervisor};

#[derive(Parser)]
#[command(name = "testbed", about = "Muster's test bed")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The program muster-hub: takes its arguments.
    #[command(disable_help_flag = true)]
    Hub(Program),
    /// The program muster-agent: takes its arguments.
    #[command(disable_help_flag = true)]
    Agent(Program),
    /// The program muster: takes its arguments.
    #[command(disable_help_flag = true)]
    Muster(Program),
    /// What the hub calls to confine a program that renders.
    #[command(hide = true, disable_help_flag = true)]
    RenderJail(Program),
    /// Serves the bare Git repositories of a folder over HTTP until it is interrupted; prints their URLs. For trying
    /// things out: everybody on this machine may read.
    Git {
        /// Holds the repositories, such as `fleet.git`.
        folder: PathBuf,
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Owns processes and folders for the process that started it, until stdin closes.
    #[command(hide = true)]
    Supervise,
    /// Runs an empty Kubernetes API server until it is interrupted or stdin closes; prints the path of its kubeconfig.
    Cluster {
        /// What the cluster is called.
        #[arg(default_value = "one")]
        name: String,
        /// Also put the kubeconfig here, once the API server is ready.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        /// Also run a scheduler and a node, so that Pods come to life.
        #[arg(long)]
        workloads: bool,
        /// Not a real one: ours, in memory, where workloads come to life by themselves.
        #[arg(long, conflicts_with = "workloads")]
        memory: bool,
    },
    /// Prints how the built-in kinds of the pinned Kubernetes merge: `tests/src/memory/facts.txt`.
    Distil,
    /// Plays what Muster does on a fleet of its own: see README.md.
    Demo(demo::Arguments),
    /// Measures, beside what is promised: see docs/measuring.md.
    Measure(measure::Arguments),
}

#[derive(clap::Args)]
struct Program {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Program {
    /// The command line as the program itself would see it.
    fn called(self, name: &str) -> impl Iterator<Item = OsString> {
        std::iter::once(name.into()).chain(self.arguments)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(without_second_dashes(std::env::args_os().collect()));
    run(arguments.command).unwrap_or_else(|error| {
        eprintln!("testbed: {error:#}");
        ExitCode::FAILURE
    })
}

/// `cargo demo -- --once` arrives as `testbed demo -- --once`: the alias has brought cargo's own `--` already.
fn without_second_dashes(mut line: Vec<OsString>) -> Vec<OsString> {
    if line.get(2).is_some_and(|argument| argument == "--") {
        line.remove(2);
    }
    line
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Hub(program) => Ok(muster_hub::program::main(program.called("muster-hub"))),
        Command::RenderJail(program) => {
            let line = ["muster-hub", muster_render::jail::COMMAND].map(OsString::from);
            let line = line.into_iter().chain(program.arguments);
            Ok(muster_hub::program::main(line))
        }
        Command::Agent(program) => Ok(muster_agent::program::main(program.called("muster-agent"))),
        Command::Muster(program) => Ok(muster_cli::program::main(program.called("muster"))),
        Command::Git { folder, listen } => asynchronously(serve_git(folder, listen)),
        Command::Supervise => supervisor::serve().map(|()| ExitCode::SUCCESS),
        Command::Cluster {
            name,
            kubeconfig,
            workloads,
            memory,
        } => asynchronously(async move {
            let cluster = match memory {
                true => cluster::memory::start(&name).await?,
                false => cluster::real::start(&name).await?,
            };
            if workloads {
                cluster.run_workloads().await?;
            }
            if let Some(wanted) = kubeconfig {
                std::fs::copy(&cluster.kubeconfig, &wanted)
                    .with_context(|| format!("can't write {}", wanted.display()))?;
            }
            println!("{}", cluster.kubeconfig.display());
            wait_for_the_end().await?;
            cluster.shutdown();
            Ok(())
        }),
        Command::Distil => asynchronously(async {
            let cluster = cluster::real::start("distil").await?;
            print!("{}", memory::distil::distil(&cluster.client()?).await?);
            cluster.shutdown();
            Ok(())
        }),
        Command::Demo(arguments) => asynchronously(demo::run(arguments)),
        Command::Measure(arguments) => asynchronously(measure::run(arguments)),
    }
}

/// Until Ctrl-C; for a program that asked, until it closes stdin. A terminal's stdin is left alone: in the background
/// nobody may read it.
async fn wait_for_the_end() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(tokio::signal::ctrl_c().await?);
    }
    let closed =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        closed = closed => { closed??; }
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

async fn serve_git(folder: PathBuf, listen: SocketAddr) -> anyhow::Result<()> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("the folder {} can't be opened", folder.display()))?;
    let mut repositories = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.path().join("objects").is_dir() {
            repositories.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::ensure!(
        !repositories.is_empty(),
        "{} holds no bare repository: make one with `git init --bare {}/fleet.git`",
        folder.display(),
        folder.display()
    );
    let server = GitServer::listen(listen, folder, None).await?;
    for repository in repositories {
        println!("{}", server.url(&repository));
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn asynchronously<T: Termination>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // A fetch that hangs must not hold the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.map(T::report)
}
