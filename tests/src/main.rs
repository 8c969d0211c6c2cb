//! `testbed`: the programs of this workspace in one binary, for tests of several processes and for the demo.

use std::time::Duration;

use clap::{Parser, Subcommand};
use muster_tests::{cluster, demo, memory, supervisor};

#[derive(Parser)]
#[command(name = "testbed", about = "Muster's test bed")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Owns processes and folders for the process that started it, until stdin closes.
    #[command(hide = true)]
    Supervise,
    /// Runs an empty Kubernetes API server until stdin closes; prints the path of its kubeconfig.
    Cluster {
        /// What the cluster is called.
        #[arg(default_value = "one")]
        name: String,
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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Supervise => supervisor::serve(),
        Command::Cluster {
            name,
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
            println!("{}", cluster.kubeconfig.display());
            tokio::task::spawn_blocking(|| {
                std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
            })
            .await??;
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
    }
}

fn asynchronously(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // A fetch that hangs must not hold the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
