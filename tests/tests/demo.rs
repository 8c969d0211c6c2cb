//! The demo as a person starts it: a process, its words, its JSON, and what it leaves behind.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use muster_tests::cluster::{Cluster, memory};
use muster_tests::supervisor::testbed;
use muster_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Within which each part of a story must happen, machines that are busy with other tests included.
const SOON: Duration = Duration::from_secs(90);

const STEPS: [&str; 8] = [
    "first sync",
    "a commit that changes production only",
    "a hand edit is repaired",
    "a cluster joins by its token",
    "the hub restarts, and a hand edit is repaired without it",
    "a broken commit changes nothing",
    "git revert",
    "an application is removed and pruned",
];

/// Where a demo runs: all that it leaves behind is in one folder.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
        })
    }

    fn json(&self) -> PathBuf {
        self.folder.path().join("steps.json")
    }

    fn demo(&self, arguments: &[&str]) -> Result<Command> {
        let temporary = self.folder.path().join("temporary");
        std::fs::create_dir_all(&temporary)?;
        let mut command = Command::new(testbed()?);
        command
            .arg("demo")
            .args(arguments)
            .arg("--json")
            .arg(self.json())
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Name and `ok` of each step that was written down.
    fn steps(&self) -> Result<Vec<(String, bool)>> {
        let written: Value = serde_json::from_slice(&std::fs::read(self.json())?)?;
        let steps = written["steps"].as_array().context("no steps")?;
        let step = |step: &Value| {
            let seconds = step["seconds"].as_f64().context("no seconds")?;
            ensure!(seconds > 0.0, "{step} took no time");
            let name = step["name"].as_str().context("no name")?;
            Ok((name.to_owned(), step["ok"].as_bool().context("no ok")?))
        };
        steps.iter().map(step).collect()
    }

    fn is_clean(&self) -> Result<()> {
        let left = std::fs::read_dir(self.folder.path().join("temporary"))?;
        let left: Vec<_> = left.map(|it| Ok(it?.file_name())).collect::<Result<_>>()?;
        ensure!(left.is_empty(), "{left:?} is left");
        Ok(())
    }
}

async fn ended(command: &mut Command) -> Result<Output> {
    let ended = tokio::time::timeout(SOON, command.output()).await;
    ended.context("the demo does not end")?.map_err(Into::into)
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn interrupt(demo: &Child) -> Result<()> {
    let id = demo.id().context("it ended")?;
    let pid = Pid::from_raw(i32::try_from(id)?).context("a process without an id")?;
    Ok(kill_process(pid, Signal::INT)?)
}

#[tokio::test]
async fn the_whole_story_is_played_without_a_terminal() -> Result<()> {
    let place = Place::new()?;
    let output = ended(&mut place.demo(&[])?).await?;
    let (out, err) = words(&output);
    ensure!(output.status.success(), "{out}{err}");
    let steps: Vec<_> = STEPS.map(|name| (name.to_owned(), true)).into();
    assert_eq!(place.steps()?, steps);
    for (number, step) in STEPS.iter().enumerate() {
        ensure!(
            out.contains(&format!("\n{}. {step}\n", number + 1)),
            "{out}"
        );
    }
    ensure!(!out.contains('\x1b'), "a pipe is no terminal: {out}");
    assert_eq!(err, "");
    place.is_clean()
}

#[tokio::test]
async fn a_fleet_whose_agents_can_write_nothing_fails_the_first_step_and_says_why() -> Result<()> {
    let place = Place::new()?;
    let arguments = ["--once", "--break-writes", "--within", "5"];
    let output = ended(&mut place.demo(&arguments)?).await?;
    let (out, err) = words(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert_eq!(place.steps()?, [("first sync".to_owned(), false)]);
    ensure!(err.contains("the step `first sync` failed"), "{err}");
    for seen in [
        "the API servers hold: web on dev-1, eu-prod-1",
        "muster says: web on dev-1, eu-prod-1",
        // The agents' own reason, in their log and at the hub.
        "the ledger can't be opened; tried again error=an injected fault (500 Internal Server Error)",
        "an agent of eu-prod-1 is there and writes nothing: its ledger in namespace",
    ] {
        ensure!(err.contains(seen), "no {seen:?} in: {err}");
    }
    place.is_clean()
}

/// A file with these clusters' contexts, each called by the cluster's name.
fn kubeconfig(folder: &Path, clusters: &[(&str, &str)]) -> Result<PathBuf> {
    let named =
        |name: &str, field: &str, value: Value| serde_json::json!({"name": name, field: value});
    let each = |entry: &dyn Fn(&str, &str) -> Value| -> Value {
        clusters
            .iter()
            .map(|(name, url)| entry(name, url))
            .collect()
    };
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": each(&|name, url| named(name, "cluster", serde_json::json!({"server": url}))),
        "users": [{"name": "admin", "user": {}}],
        "contexts": each(&|name, _| named(name, "context", serde_json::json!({"cluster": name, "user": "admin"}))),
    });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(path)
}

async fn namespaces(cluster: &Cluster) -> Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(cluster.client()?);
    let all = api.list(&ListParams::default()).await?.items;
    Ok(all.into_iter().filter_map(|it| it.metadata.name).collect())
}

#[tokio::test]
async fn a_context_that_can_not_be_played_on_is_refused_before_anything_is_put_there() -> Result<()>
{
    let (mine, taken) = (memory::start("mine").await?, memory::start("taken").await?);
    let web = Namespace {
        metadata: ObjectMeta {
            name: Some("demo-web".to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let api: Api<Namespace> = Api::all(taken.client()?);
    api.create(&PostParams::default(), &web).await?;
    let place = Place::new()?;
    let (mine_url, taken_url) = (
        mine.config.cluster_url.to_string(),
        taken.config.cluster_url.to_string(),
    );
    let clusters = [
        ("mine", mine_url.as_str()),
        ("mine-too", mine_url.as_str()),
        ("taken", taken_url.as_str()),
        // Nothing listens on the port of `discard`.
        ("away", "http://127.0.0.1:9"),
    ];
    let config = kubeconfig(place.folder.path(), &clusters)?;
    let before = (namespaces(&mine).await?, namespaces(&taken).await?);
    for (contexts, said) in [
        (["mine", "no-such"], "the kubeconfig has no context no-such"),
        (
            ["mine", "away"],
            "the cluster of context away can't be used",
        ),
        (["mine", "taken"], "has Namespace demo-web already"),
        (
            ["mine", "mine-too"],
            "mine and mine-too lead to one cluster",
        ),
    ] {
        let [first, second] = contexts;
        let arguments = ["--once", "--kube-context", first, "--kube-context", second];
        let output = ended(place.demo(&arguments)?.env("KUBECONFIG", &config)).await?;
        let (out, err) = words(&output);
        assert_eq!(output.status.code(), Some(1), "{out}{err}");
        ensure!(err.contains(said), "no {said:?} in: {err}");
        let after = (namespaces(&mine).await?, namespaces(&taken).await?);
        assert_eq!(after, before, "{second}");
    }
    place.is_clean()
}

#[tokio::test]
async fn a_story_that_is_interrupted_leaves_a_persons_cluster_as_it_was() -> Result<()> {
    let mine = memory::start("mine").await?;
    let url = mine.config.cluster_url.to_string();
    let place = Place::new()?;
    let config = kubeconfig(place.folder.path(), &[("mine", &url)])?;
    let before = namespaces(&mine).await?;
    let mut command = place.demo(&["--once", "--kube-context", "mine"])?;
    let mut demo = command.env("KUBECONFIG", &config).spawn()?;
    let mut lines = BufReader::new(demo.stdout.take().context("no stdout")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("2. ") {
            ensure!(namespaces(&mine).await?.iter().any(|it| it == "demo-web"));
            interrupt(&demo)?;
        }
    }
    let status = tokio::time::timeout(SOON, demo.wait()).await??;
    assert_eq!(status.code(), Some(130));
    assert_eq!(namespaces(&mine).await?, before);
    place.is_clean()
}

#[tokio::test]
async fn what_is_kept_can_be_asked_by_the_lines_that_were_printed() -> Result<()> {
    let place = Place::new()?;
    let mut demo = place.demo(&["--once", "--keep"])?.spawn()?;
    let mut lines = BufReader::new(demo.stdout.take().context("no stdout")?).lines();
    let mut script = String::from("set -e\nshopt -s expand_aliases\n");
    let mut kubeconfigs = Vec::new();
    while kubeconfigs.len() < 6 {
        let line = lines.next_line().await?.context("it ended too soon")?;
        if let Some(pasted) = line.strip_prefix("  kubectl --kubeconfig ") {
            let path = pasted.split(' ').next().context("no path")?;
            kubeconfigs.push(PathBuf::from(path));
        } else if line.starts_with("  ") && !line.starts_with("   ") && !line.contains("--watch") {
            script += &format!("{line}\n");
        }
    }
    let pasted = Command::new("bash").args(["-c", &script]).output().await?;
    let (out, err) = words(&pasted);
    ensure!(pasted.status.success(), "{script}\n{out}{err}");
    // `muster get app web` and `muster drift` have answered, and Git has taken the commit.
    for seen in ["eu-staging-1   Connected", "kubectl-edit", "Say hello"] {
        ensure!(out.contains(seen), "no {seen:?} in: {out}{err}");
    }
    for kubeconfig in &kubeconfigs {
        let read = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(read, &options).await?;
        let client = kube::Client::try_from(config)?;
        let settings: Api<k8s_openapi::api::core::v1::ConfigMap> =
            Api::namespaced(client, "demo-web");
        wait::until("the commit arrives", SOON, async || {
            let data = settings.get("settings").await?.data.unwrap_or_default();
            ensure!(data["greeting"] == "Hello", "{data:?}");
            Ok(())
        })
        .await?;
    }
    interrupt(&demo)?;
    let status = tokio::time::timeout(SOON, demo.wait()).await??;
    let mut err = String::new();
    demo.stderr
        .take()
        .context("no stderr")?
        .read_to_string(&mut err)
        .await?;
    ensure!(status.success(), "{status}: {err}");
    place.is_clean()
}

#[tokio::test]
async fn a_terminal_shows_a_picture_and_is_given_back_as_it_was() -> Result<()> {
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let path = PathBuf::from(ptsname(&ours, Vec::new())?.into_string()?);
    let open = || File::options().read(true).write(true).open(&path);
    let theirs = open()?;
    tcsetwinsize(&theirs, size)?;
    let before = format!("{:?}", tcgetattr(&theirs)?);
    let place = Place::new()?;
    let mut command = place.demo(&[])?;
    let mut demo = command
        .env("TERM", "xterm-256color")
        .stdin(open()?)
        .stdout(open()?)
        .spawn()?;
    // All there is to read, and a key as soon as the first step is done.
    let mut ours = File::from(ours);
    let reading = tokio::task::spawn_blocking(move || {
        let (mut shown, mut part) = (String::new(), [0; 65536]);
        let mut quit = false;
        while !shown.contains("Stopped after") {
            let count = ours.read(&mut part)?;
            ensure!(count > 0, "it ended: {shown}");
            shown += &String::from_utf8_lossy(&part[..count]);
            if !quit && shown.contains("all healthy") {
                std::io::Write::write_all(&mut ours, b"q")?;
                quit = true;
            }
        }
        Ok(shown)
    });
    let shown = tokio::time::timeout(SOON, reading).await???;
    let status = tokio::time::timeout(SOON, demo.wait()).await??;
    assert_eq!(status.code(), Some(130));
    assert_eq!(format!("{:?}", tcgetattr(&theirs)?), before);
    let (entered, rest) = shown
        .split_once("\x1b[?1049h")
        .context("no screen of its own")?;
    ensure!(entered.contains("five clusters in memory"), "{entered:?}");
    let (pictures, after) = rest
        .split_once("\x1b[?1049l")
        .context("it is not given back")?;
    for picture in pictures.split("\x1b[H").skip(1) {
        let rows = picture.split("\r\n").count();
        ensure!(rows <= 24, "{rows} rows: {picture:?}");
    }
    ensure!(pictures.contains("✓"), "{pictures:?}");
    ensure!(after.contains("Stopped after 1 of 8 steps"), "{after:?}");
    place.is_clean()
}

#[tokio::test]
async fn the_alias_of_cargo_takes_flags_with_and_without_dashes() -> Result<()> {
    let config = include_str!("../../.cargo/config.toml");
    let alias = config
        .lines()
        .find_map(|line| line.strip_prefix("demo = "))
        .context("there is no alias `demo`")?;
    // What cargo hands on: whatever stands behind its own `--`, and then what a person adds.
    let (_, ours) = alias.trim_matches('"').split_once(" -- ").context(alias)?;
    for added in [&["--", "--help"][..], &["--help"]] {
        let mut command = Command::new(testbed()?);
        let output = ended(command.args(ours.split(' ')).args(added)).await?;
        let (out, err) = words(&output);
        ensure!(output.status.success(), "{added:?}: {err}");
        ensure!(out.contains("--kube-context <NAME>"), "{out}");
    }
    Ok(())
}

#[tokio::test]
async fn what_builds_the_real_api_servers_is_heard() -> Result<()> {
    let place = Place::new()?;
    let mut command = place.demo(&["--once", "--real", "2"])?;
    // Nothing can be built into a cache that is no folder, and nothing is there already.
    command.env("XDG_CACHE_HOME", "/dev/null");
    let output = ended(command.env_remove("KUBEBUILDER_ASSETS")).await?;
    let (_, err) = words(&output);
    assert_eq!(output.status.code(), Some(1));
    ensure!(
        err.contains("mkdir: "),
        "the builder's words are not in: {err}"
    );
    ensure!(err.contains("kubernetes/build"), "{err}");
    place.is_clean()
}
