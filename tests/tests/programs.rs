//! The shipped programs, each started through its own `main`: they do their job together, end when told to, and say in
//! one line what is wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use muster_tests::cluster::memory;
use muster_tests::programs::{Fleet, Program, Programs, Said};
use muster_tests::supervisor::Signal;

const APPLICATION: &str = "apiVersion: muster.dev/v1alpha1
kind: Application
metadata:
  name: shop
spec:
  namespace: shop
";
const SETTINGS: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n";

/// What an orchestrator waits before it kills.
const GRACE: Duration = Duration::from_secs(10);

fn shipped() -> Programs {
    Programs {
        hub: Program::shipped(env!("CARGO_BIN_EXE_shipped-hub")),
        agent: Program::shipped(env!("CARGO_BIN_EXE_shipped-agent")),
        muster: Program::shipped(env!("CARGO_BIN_EXE_shipped-muster")),
    }
}

async fn the_job_is_done_by(programs: Programs) -> Result<()> {
    let files = [
        ("shop/muster.yaml", APPLICATION),
        ("shop/settings.yaml", SETTINGS),
    ];
    let mut fleet = Fleet::start(programs, &files).await?;
    // Nothing is placed yet, and so nothing amiss.
    fleet.is_well().await?;
    let cluster = memory::start("eu-1").await?;
    fleet.join("eu-1", &cluster, "muster-system").await?;
    fleet.is_well().await?;
    let config_maps = Api::<ConfigMap>::namespaced(cluster.client()?, "shop");
    let data = config_maps.get("settings").await?.data.unwrap_or_default();
    ensure!(data["colour"] == "blue", "{data:?}");
    let clusters = fleet.muster(&["clusters", "--no-headers"]).await?;
    ensure!(
        clusters
            .out
            .starts_with("eu-1   Connected   Synced   Current   1/1"),
        "{clusters:?}"
    );

    fleet
        .repository
        .commit("Break it", &[("shop/settings.yaml", "kind: {")])?;
    muster_tests::wait::until("the broken commit shows", GRACE, async || {
        let check = fleet.muster(&["status", "--check"]).await?;
        ensure!(check.code == Some(3), "{check:?}");
        Ok(())
    })
    .await?;

    let began = Instant::now();
    let ended = fleet.agent("eu-1").stop().await?;
    ensure!(
        ended == "exit status: 0",
        "{ended}: {}",
        fleet.agent("eu-1").log_tail()
    );
    let ended = fleet.hub().stop_by(Signal::Interrupt).await?;
    ensure!(
        ended == "exit status: 0",
        "{ended}: {}",
        fleet.hub().log_tail()
    );
    ensure!(began.elapsed() < GRACE, "it took {:?}", began.elapsed());
    let away = fleet.muster(&["status"]).await?;
    ensure!(away.code == Some(1), "{away:?}");
    one_line(&away, "muster: can't reach the hub at ")
}

#[tokio::test]
async fn the_shipped_programs_do_their_job_together() -> Result<()> {
    the_job_is_done_by(shipped()).await
}

#[tokio::test]
async fn one_binary_can_be_each_of_them() -> Result<()> {
    the_job_is_done_by(Programs::of_the_testbed()?).await
}

#[tokio::test]
async fn each_says_its_version_and_what_it_can_be_told() -> Result<()> {
    let Programs { hub, agent, muster } = shipped();
    for (program, name) in [
        (&hub, "muster-hub"),
        (&agent, "muster-agent"),
        (&muster, "muster"),
    ] {
        let version = program.run(&["--version"], &[]).await?;
        let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((version.code, version.out), (Some(0), expected));
        let help = program.run(&["--help"], &[]).await?;
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
        assert!(
            help.out
                .contains(&format!("Usage: {}", program_name(program))),
            "{}",
            help.out
        );
    }
    Ok(())
}

fn program_name(program: &Program) -> String {
    let name = program.file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_2_and_one_error() -> Result<()> {
    let Programs { hub, agent, muster } = shipped();
    let folder = tempfile::tempdir()?;
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).map(|()| path.display().to_string())
    };
    let config = file(
        "hub.yaml",
        "data: /tmp/d\nrepoo: https://git.example/fleet.git\n",
    )?;
    let broken = file("broken.yaml", "data: [\n")?;
    let kubeconfig = file("kubeconfig", "apiVersion: v1\nkind: Config\n")?;
    let place = folder.path().display().to_string();
    let hub_at = ["serve", "--data", &place, "--repo"];
    let agent_at = ["run", "--data", &place];
    let cases: [(&Program, Vec<&str>, &str); 13] = [
        (
            &hub,
            vec!["serve", "--nope"],
            "error: unexpected argument '--nope' found",
        ),
        (
            &agent,
            vec!["run", "--nope"],
            "error: unexpected argument '--nope' found",
        ),
        (
            &muster,
            vec!["status", "--nope"],
            "error: unexpected argument '--nope' found",
        ),
        (
            &muster,
            vec!["stauts"],
            "error: unrecognized subcommand 'stauts'",
        ),
        (
            &muster,
            vec!["cluster", "join", "EU_1"],
            "error: invalid value 'EU_1' for '<NAME>': ",
        ),
        (
            &hub,
            vec!["serve"],
            "muster-hub: --data is missing: give it as a flag, as MUSTER_HUB_DATA or in the --config file",
        ),
        (
            &hub,
            [&hub_at[..], &["./fleet"]].concat(),
            "muster-hub: --repo: \"./fleet\" is no repository: ",
        ),
        (
            &hub,
            vec!["serve", "--config", "/nowhere/hub.yaml"],
            "muster-hub: can't read the configuration file /nowhere/hub.yaml: ",
        ),
        (&hub, vec!["serve", "--config", &config], "muster-hub: "),
        (&hub, vec!["serve", "--config", &broken], "muster-hub: "),
        (
            &agent,
            vec!["run"],
            "muster-agent: the agent must keep its key somewhere: ",
        ),
        (
            &agent,
            agent_at.to_vec(),
            "muster-agent: this is not inside a cluster: ",
        ),
        (
            &agent,
            [&agent_at[..], &["--kubeconfig", &kubeconfig]].concat(),
            "muster-agent: --kubeconfig: the kubeconfig has no current context: ",
        ),
    ];
    for (program, line, expected) in cases {
        let said = program.run(&line, &[]).await?;
        assert_eq!(said.code, Some(2), "{line:?}: {said:?}");
        assert!(said.err.starts_with(expected), "{line:?}: {said:?}");
        assert_eq!(said.out, "", "{line:?}");
        if !expected.starts_with("error: ") {
            assert_eq!(said.err.lines().count(), 1, "{line:?}: {said:?}");
        }
    }
    let typo = hub.run(&["serve", "--config", &config], &[]).await?;
    assert!(
        typo.err
            .contains("hub.yaml:2: \"repoo\" is no setting; did you mean \"repo\"?"),
        "{typo:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_hub_that_can_not_serve_is_1_and_one_line_that_says_what_to_do() -> Result<()> {
    let hub = shipped().hub;
    let folder = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap_or_default();
    let serve = |listen: String| {
        let hub = hub.clone();
        let data = data.to_owned();
        async move {
            let line = [
                "serve",
                "--log",
                "off",
                "--data",
                &data,
                "--repo",
                "file:///nowhere",
            ];
            let ports = [
                "--agents-listen",
                &listen,
                "--enrolment-listen",
                "127.0.0.1:0",
            ];
            hub.run(
                &[&line[..], &ports, &["--api-listen", "127.0.0.1:0"]].concat(),
                &[],
            )
            .await
        }
    };
    let said = serve(taken.clone()).await?;
    assert_eq!(said.code, Some(1), "{said:?}");
    one_line(&said, &format!("muster-hub: can't listen on {taken}: "))?;
    assert!(said.err.contains("--agents-listen"), "{said:?}");

    let free = || "127.0.0.1:0".to_owned();
    for (file, expected) in [
        ("muster.db", "put back a backup of it, or move it away"),
        (
            "ca/ca.pem",
            "/ca can't be used: restore the folder from a backup",
        ),
    ] {
        let file = Path::new(data).join(file);
        let good = std::fs::read(&file)?;
        // What a hub that could not start has written stands here still, and would mend the file.
        for log in ["muster.db-wal", "muster.db-shm"] {
            std::fs::remove_file(Path::new(data).join(log)).ok();
        }
        std::fs::write(&file, "what a broken disk gives back".repeat(99))?;
        let said = serve(free()).await?;
        assert_eq!(said.code, Some(1), "{said:?}");
        one_line(&said, "muster-hub: ")?;
        assert!(said.err.contains(data), "{said:?}");
        assert!(said.err.contains(expected), "{said:?}");
        std::fs::write(&file, good)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_can_not_join_is_1_and_one_line_that_says_what_to_do() -> Result<()> {
    let programs = shipped();
    let mut fleet = Fleet::start(programs.clone(), &[("shop/muster.yaml", APPLICATION)]).await?;
    let cluster = memory::start("eu-1").await?;
    fleet.join("eu-1", &cluster, "muster-system").await?;
    fleet.is_well().await?;
    let ended = fleet.agent("eu-1").stop().await?;
    assert_eq!(ended, "exit status: 0");

    let kubeconfig = cluster.kubeconfig.display().to_string();
    let run = |data: String, token: String| {
        let (agent, kubeconfig) = (programs.agent.clone(), kubeconfig.clone());
        async move {
            let line = [
                "run",
                "--log",
                "off",
                "--data",
                &data,
                "--kubeconfig",
                &kubeconfig,
            ];
            agent
                .run(&[&line[..], &["--join-token-file", &token]].concat(), &[])
                .await
        }
    };
    let folder = fleet.hub_data().with_file_name("eu-1");
    let token = fleet
        .hub_data()
        .with_file_name("eu-1.join")
        .display()
        .to_string();
    let elsewhere = folder.with_file_name("another").display().to_string();
    let used = run(elsewhere, token.clone()).await?;
    assert_eq!(used.code, Some(1), "{used:?}");
    one_line(&used, "muster-agent: cluster eu-1 can't join: the hub at ")?;
    assert!(used.err.contains("muster cluster join eu-1"), "{used:?}");

    std::fs::write(folder.join("credentials.json"), "{")?;
    let damaged = run(folder.display().to_string(), token).await?;
    assert_eq!(damaged.code, Some(1), "{damaged:?}");
    one_line(&damaged, "muster-agent: the credentials in ")?;
    assert!(
        damaged.err.contains("put back a copy, or delete"),
        "{damaged:?}"
    );
    Ok(())
}

/// The error is one line that begins like this.
fn one_line(said: &Said, begins: &str) -> Result<()> {
    ensure!(
        said.err.lines().count() == 1 && said.err.starts_with(begins),
        "{said:?}"
    );
    Ok(())
}
