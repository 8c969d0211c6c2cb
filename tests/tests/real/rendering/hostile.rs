//! Trees that mean no good, through the real programs: each is refused soon, with its application and its place, and the
//! application beside them goes on. Scripts in the place of the programs are in hub/tests/rendering.rs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster_decide::render::{Job, Tool};
use muster_decide::snapshot::File;
use muster_decide::{FileContent, Members, Snapshot};
use muster_git::Blobs;
use muster_proto::{Content, Digest};
use serde_json::Value;

use super::parity::{decided, renderer_within};

/// How long a program may take here.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long all of them may take, on a busy machine.
const ALL: Duration = Duration::from_secs(120);

/// An application in a folder of its name, and what is said of it.
struct Hostile {
    name: &'static str,
    /// Beside its document; what begins with `->` is a link.
    files: Vec<(&'static str, String)>,
    /// The file that is named, inside its folder.
    at: &'static str,
    /// A part of what is said.
    says: &'static str,
}

fn hostile<const N: usize>(
    name: &'static str,
    files: [(&'static str, &str); N],
    at: &'static str,
    says: &'static str,
) -> Hostile {
    Hostile {
        name,
        files: files.map(|(path, text)| (path, text.to_owned())).into(),
        at,
        says,
    }
}

/// A billion times the same, in a few lines.
fn bomb() -> String {
    let mut text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nx0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let below = format!("*x{}, ", level - 1).repeat(9);
        text.push_str(&format!("x{level}: &x{level} [{below}]\n"));
    }
    text
}

/// A chart whose one template is this.
fn chart(name: &'static str, template: &str, says: &'static str) -> Hostile {
    let files = [
        (
            "Chart.yaml",
            "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
        ),
        ("templates/a.yaml", template),
    ];
    hostile(name, files, "Chart.yaml", says)
}

fn all() -> Vec<Hostile> {
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  a: {value}\n")
    };
    let bomb = bomb();
    let base = |of: &str| format!("resources: [{of}]\n");
    let chart_yaml = "apiVersion: v2\nname: chart\nversion: 1.0.0\n";
    vec![
        hostile(
            "bomb",
            [("a.yaml", &*bomb)],
            "a.yaml",
            "too large or too complex",
        ),
        hostile(
            "bomb-kustomize",
            [
                ("kustomization.yaml", "resources: [a.yaml]\n"),
                ("a.yaml", &*bomb),
            ],
            "kustomization.yaml",
            "took more than 1024 MiB of memory",
        ),
        hostile(
            "bomb-kustomization",
            [("kustomization.yaml", &*bomb)],
            "kustomization.yaml",
            "too large or too complex",
        ),
        hostile(
            "bomb-values",
            [
                ("Chart.yaml", chart_yaml),
                ("values.yaml", &*bomb),
                ("templates/a.yaml", &*map("{{ .Values.x9 | toJson | len }}")),
            ],
            "Chart.yaml",
            "alias",
        ),
        hostile(
            "cycle",
            [
                ("kustomization.yaml", &*base("b")),
                ("b/kustomization.yaml", &*base("../c")),
                ("c/kustomization.yaml", &*base("../b")),
            ],
            "c/kustomization.yaml",
            "leads back",
        ),
        hostile(
            "climber",
            [(
                "kustomization.yaml",
                &*base("../../../../../../../etc/passwd"),
            )],
            "kustomization.yaml",
            "leads out of the repository",
        ),
        hostile(
            "absolute",
            [(
                "kustomization.yaml",
                "configMapGenerator:\n- {name: a, files: [/etc/passwd]}\n",
            )],
            "kustomization.yaml",
            "/etc/passwd",
        ),
        hostile(
            "linked",
            [
                ("kustomization.yaml", &*base("a.yaml")),
                ("a.yaml", "-> /etc/passwd"),
            ],
            "kustomization.yaml",
            "link",
        ),
        hostile(
            "linked-plain",
            [("a.yaml", "-> /etc/passwd")],
            "a.yaml",
            "link",
        ),
        hostile(
            "linked-chart",
            [
                ("Chart.yaml", chart_yaml),
                ("templates/a.yaml", "-> /etc/passwd"),
            ],
            "templates/a.yaml",
            "link",
        ),
        hostile(
            "program",
            [
                ("kustomization.yaml", "generators: [generator.yaml]\n"),
                (
                    "generator.yaml",
                    "apiVersion: v1\nkind: Any\nmetadata:\n  name: a\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: ./run.sh}\n",
                ),
                ("run.sh", "#!/bin/sh\ntouch /tmp/muster-was-here\n"),
            ],
            "kustomization.yaml",
            "kustomize",
        ),
        chart(
            "environment",
            &map("{{ env \"HOME\" }}"),
            "function \"env\" not defined",
        ),
        chart(
            "recursion",
            "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}",
            "error calling include",
        ),
        chart(
            "loop",
            "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}",
            "was ended (--render-timeout)",
        ),
        chart(
            "memory",
            "{{ repeat 2000000000 \"x\" }}",
            "took more than 1024 MiB of memory",
        ),
        chart(
            "output",
            &map("{{ range until 700 }}{{ repeat 50000 \"x\" }}{{ end }}"),
            "wrote more than 32 MiB and was ended",
        ),
        // Helm holds it several times over: time or memory ends it.
        chart(
            "large-output",
            &map("{{ range until 2000 }}{{ repeat 50000 \"x\" }}{{ end }}"),
            "was ended",
        ),
    ]
}

/// What is in Git, with links.
fn snapshot(hostile: &[Hostile]) -> Snapshot {
    let document = |name: &str| {
        format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec: {{namespace: web}}\n"
        )
    };
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for it in hostile {
        files.insert(format!("{}/muster.yaml", it.name), document(it.name));
        for (path, text) in &it.files {
            files.insert(format!("{}/{path}", it.name), text.clone());
        }
    }
    // What charts may ask and are told nothing.
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\ndata:
  address: '{{ getHostByName \"localhost\" }}'
  file: '{{ .Files.Get \"../../../../../../etc/passwd\" }}{{ .Files.Get \"/etc/passwd\" }}'
  secret: '{{ lookup \"v1\" \"Secret\" \"kube-system\" \"\" }}'
";
    for (path, text) in [
        ("good/muster.yaml", document("good")),
        (
            "good/Chart.yaml",
            "apiVersion: v2\nname: good\nversion: 1.0.0\n".into(),
        ),
        ("good/templates/a.yaml", good.to_owned()),
    ] {
        files.insert(path.to_owned(), text);
    }
    let file = |(path, text): (String, String)| {
        let content = match text.starts_with("-> ") {
            true => FileContent::Symlink,
            false => FileContent::Bytes(text.clone().into()),
        };
        let oid = Digest::of([text.as_bytes()]).to_string();
        (path, File { oid, content })
    };
    Snapshot {
        repository: None,
        revision: "1".into(),
        files: files.into_iter().map(file).collect(),
    }
}

#[tokio::test]
async fn every_hostile_tree_is_refused_by_name_and_the_one_beside_them_goes_on() -> Result<()> {
    let data = tempfile::tempdir()?;
    let renderer = renderer_within(data.path(), TIMEOUT).await?;
    let hostile = all();
    let members: Members = [("one".parse()?, Arc::default())].into();
    let began = Instant::now();
    let decision = decided(&renderer, snapshot(&hostile), &members).await?;
    ensure!(began.elapsed() < ALL, "it took {:?}", began.elapsed());

    let mut missing = Vec::new();
    for it in &hostile {
        let own = decision.problems.iter().filter(|problem| {
            problem
                .application
                .as_ref()
                .is_some_and(|name| name.as_str() == it.name)
        });
        let own: Vec<String> = own.map(ToString::to_string).collect();
        let place = format!("{}/{}", it.name, it.at);
        if !own
            .iter()
            .any(|said| said.starts_with(&place) && said.contains(it.says))
        {
            missing.push(format!("{place}: {:?}: {own:?}", it.says));
        }
    }
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    ensure!(
        decision
            .problems
            .iter()
            .all(|problem| problem.message.len() < 2000)
    );

    let placements = &decision.clusters["one"].placements;
    ensure!(placements.len() == 1, "{placements:?}");
    let Content::Objects { objects, .. } = &placements[0].application.content else {
        anyhow::bail!("it is kept as it was");
    };
    let body: Value = serde_json::from_slice(&objects[0].body)?;
    let expected = serde_json::json!({"address": "", "file": "", "secret": "map[]"});
    ensure!(body["data"] == expected, "{body}");
    Ok(())
}

#[tokio::test]
async fn kustomize_that_is_told_to_fetch_reaches_nobody() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/a.yaml", listener.local_addr()?);
    // The hub refuses such a base before it runs anything: this is what would happen if it did not.
    let text = format!("resources: [\"{url}\"]\n");
    let file = File {
        oid: "1".into(),
        content: FileContent::Bytes(text.into()),
    };
    let snapshot = Arc::new(Snapshot {
        repository: None,
        revision: "1".into(),
        files: [("app/kustomization.yaml".to_owned(), file)].into(),
    });
    let job = Job {
        tool: Tool::Kustomize,
        folder: "app".into(),
        files: [("app/kustomization.yaml".to_owned(), "1".to_owned())].into(),
        given: Default::default(),
        release: None,
    };
    let data = tempfile::tempdir()?;
    let renderer = renderer_within(data.path(), Duration::from_secs(60)).await?;
    let failure = renderer.run(&job, &snapshot, &Blobs::default()).await;
    let failure = failure.err().context("it was rendered")?;
    ensure!(failure.message.contains("permission denied"), "{failure:?}");
    let nobody = listener.accept().map(|(_, peer)| peer);
    ensure!(
        nobody
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "{nobody:?}"
    );
    Ok(())
}
