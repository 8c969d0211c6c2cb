//! The jail and the bounds of programs that render, tried with programs that mean no good: scripts in the place of
//! kustomize, run by the hub's own program.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_decide::render::{Failure, Job, Output, Release, Tool, Values};
use muster_decide::snapshot::File;
use muster_decide::{FileContent, Snapshot};
use muster_git::Blobs;
use muster_render::{By, Renderer, Rendering, ToolFile};

#[path = "serving/script.rs"]
mod script;

/// A script in the place of kustomize, and a data directory.
struct Bed {
    folder: tempfile::TempDir,
    timeout: Duration,
}

impl Bed {
    /// The script sees its arguments as kustomize would.
    fn with(script: &str) -> Self {
        let bed = Self {
            folder: tempfile::tempdir().unwrap(),
            timeout: Duration::from_secs(60),
        };
        let version = "if [ \"$1\" = version ]; then echo v0.0.0; exit; fi";
        let text = format!("#!/bin/bash\n{version}\n{script}\n");
        script::install(&bed.tool(), &text);
        bed
    }

    fn tool(&self) -> PathBuf {
        self.folder.path().join("kustomize")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn rendering(&self) -> Rendering {
        Rendering {
            tools: Tool::ALL
                .map(|tool| match tool {
                    Tool::Kustomize | Tool::Helm => (tool, ToolFile::At(self.tool())),
                })
                .into(),
            concurrency: None,
            timeout: self.timeout,
            cache_size: 1 << 20,
            allow_unconfined: false,
            by: By::Hub,
            jail: Some(env!("CARGO_BIN_EXE_muster-hub").into()),
        }
    }

    async fn renderer(&self) -> Renderer {
        Renderer::start(&self.rendering(), &self.data())
            .await
            .unwrap()
    }

    async fn run(&self) -> Output {
        run(
            &self.renderer().await,
            &[("app/kustomization.yaml", "x: y")],
        )
        .await
    }

    async fn fails(&self) -> Failure {
        self.run().await.unwrap_err()
    }

    /// The private folders that are there.
    fn left(&self) -> usize {
        std::fs::read_dir(self.data().join("render/work"))
            .unwrap()
            .count()
    }

    /// They are removed beside the run.
    async fn leaves_nothing(&self) {
        let ends = Instant::now() + Duration::from_secs(20);
        while self.left() > 0 {
            assert!(Instant::now() < ends, "{} folders stay", self.left());
            tokio::task::yield_now().await;
        }
    }
}

async fn run(renderer: &Renderer, files: &[(&str, &str)]) -> Output {
    run_as(renderer, files, None).await
}

/// A chart, when there is a release.
async fn run_as(renderer: &Renderer, files: &[(&str, &str)], release: Option<Release>) -> Output {
    let file = |(path, text): &(&str, &str)| {
        let file = File {
            oid: blake3::hash(text.as_bytes()).to_hex().to_string(),
            content: FileContent::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        };
        ((*path).to_owned(), file)
    };
    let snapshot = Arc::new(Snapshot {
        repository: None,
        revision: "1".into(),
        files: files.iter().map(file).collect(),
    });
    let oids = |(path, file): (&String, &File)| (path.clone(), file.oid.clone());
    let job = Job {
        tool: match release {
            None => Tool::Kustomize,
            Some(_) => Tool::Helm,
        },
        folder: "app".into(),
        files: snapshot.files.iter().map(oids).collect::<BTreeMap<_, _>>(),
        given: BTreeMap::new(),
        release,
    };
    renderer.run(&job, &snapshot, &Blobs::default()).await
}

fn text(output: Output) -> String {
    String::from_utf8(output.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_tool_sees_its_files_its_home_and_nothing_else() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        r#"
        echo "arguments: $*"
        names=$(compgen -e | while read name; do
            case $name in PWD|OLDPWD|SHLVL|_) ;; *) echo -n "$name ";; esac
        done)
        echo "environment: $names"
        echo "file: $(<app/kustomization.yaml)"
        (echo more >> app/kustomization.yaml) 2>/dev/null && echo "wrote a file"
        (echo more > app/new) 2>/dev/null && echo "wrote beside it"
        (echo mine > $HOME/x) && echo "home: $(<$HOME/x)"
        for file in {} /etc/passwd /proc/self/environ {}/ca.pem; do
            (: < $file) 2>/dev/null && echo "read $file"
        done
        (/bin/ls /) 2>/dev/null && echo "ran a program"
        true
        "#,
        secret.path().display(),
        "/var/lib/muster-hub",
    );
    let bed = Bed::with(&script);
    assert_eq!(
        text(bed.run().await),
        "arguments: build --load-restrictor LoadRestrictionsNone ./app\n\
         environment: HOME TMPDIR \n\
         file: x: y\n\
         home: mine\n"
    );
    bed.leaves_nothing().await;
}

#[tokio::test]
async fn a_tool_reaches_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected");
    // The script itself works: only the jail is in its way.
    let open = std::process::Command::new("/bin/bash")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(open.stdout, b"connected\n");

    let failure = Bed::with(&script).fails().await;
    assert!(failure.message.starts_with("kustomize: "), "{failure:?}");
    assert!(failure.message.contains("Permission denied"), "{failure:?}");
    assert!(!failure.again);
}

#[tokio::test]
async fn a_tool_that_never_ends_is_ended() {
    let mut bed = Bed::with("while :; do :; done");
    bed.timeout = Duration::from_secs(1);
    let failure = bed.fails().await;
    assert_eq!(
        failure.message,
        "kustomize was still running after 1 s and was ended (--render-timeout)"
    );
    assert!(failure.again);
    bed.leaves_nothing().await;
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_are_cut() {
    let bed =
        Bed::with("line=$(printf 'x%.0s' {1..10000}); for i in {1..10000}; do echo $line; done");
    let failure = bed.fails().await;
    assert_eq!(
        failure.message,
        "kustomize wrote more than 32 MiB and was ended"
    );
    assert!(!failure.again);
}

#[tokio::test]
async fn a_tool_that_takes_all_memory_fails_alone() {
    let failure = Bed::with("text=x; while :; do text=$text$text; done")
        .fails()
        .await;
    assert!(
        failure.message.contains("cannot allocate") || failure.message.contains("killed"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_tool_that_fills_the_disk_fails_alone() {
    let script = "line=$(printf 'x%.0s' {1..10000}); while echo $line; do :; done > $HOME/big";
    let bed = Bed::with(&format!(
        "trap '' XFSZ; {script} 2>&1; echo 'Error: the disk is full' >&2; exit 1"
    ));
    assert_eq!(bed.fails().await.message, "kustomize: the disk is full");
}

#[tokio::test]
async fn what_a_tool_says_names_the_file_in_the_repository_and_no_secret() {
    let bed = Bed::with("echo \"Error: $PWD/app/a.yaml: bad value 's3cr3t-value'\" >&2; exit 1");
    let secret = "kind: Secret\nstringData: {a: s3cr3t-value}\n";
    let output = run(&bed.renderer().await, &[("app/a.yaml", secret)]).await;
    assert_eq!(
        output.unwrap_err().message,
        "kustomize: app/a.yaml: bad value '***'"
    );
}

#[tokio::test]
async fn what_was_rendered_is_not_rendered_again_also_after_a_restart() {
    let bed = Bed::with("echo \"random: $RANDOM$RANDOM$RANDOM\"");
    let first = text(bed.run().await);
    assert_eq!(text(bed.run().await), first);
    // Another file is another key.
    let other = run(
        &bed.renderer().await,
        &[("app/kustomization.yaml", "other")],
    )
    .await;
    assert_ne!(text(other), first);
    // What is damaged on the disk is made anew.
    for entry in std::fs::read_dir(bed.data().join("render/outputs")).unwrap() {
        std::fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    assert_ne!(text(bed.run().await), first);
}

/// Of a chart on clusters that can do a little.
fn release(keep_first: bool) -> Release {
    Release {
        name: "shop".into(),
        namespace: "web".into(),
        values: vec![
            Values::File {
                path: "env/test.yaml".into(),
                oid: "1".into(),
                content: "colour: blue".into(),
            },
            Values::Stated("{\"size\":1}".into()),
        ],
        kubernetes: "1.37".into(),
        api_versions: vec!["a/v1".into(), "b/v1".into()],
        keep_first,
    }
}

const CHART: [(&str, &str); 1] = [("app/Chart.yaml", "name: app")];

#[tokio::test]
async fn helm_is_told_the_release_its_values_and_what_the_cluster_can() {
    let bed = Bed::with(
        "echo \"said: ${*//$HOME/HOME}\"; echo \"$(<$HOME/values-0.yaml) $(<$HOME/values-1.yaml)\"",
    );
    let said = run_as(&bed.renderer().await, &CHART, Some(release(false))).await;
    assert_eq!(
        text(said),
        "said: template shop ./app --include-crds --namespace web --kube-version 1.37.0 --api-versions a/v1,b/v1 --values HOME/values-0.yaml --values HOME/values-1.yaml\n\
         colour: blue {\"size\":1}\n"
    );
    let bed = Bed::with("echo \"Error: failed to parse $HOME/values-0.yaml\" >&2; exit 1");
    let failure = run_as(&bed.renderer().await, &CHART, Some(release(false))).await;
    assert_eq!(
        failure.unwrap_err().message,
        "helm: failed to parse env/test.yaml"
    );
}

#[tokio::test]
async fn a_chart_that_makes_things_up_is_refused_unless_its_first_rendering_stays() {
    let script =
        "echo \"kind: Secret\nmetadata: {name: db}\ndata: {password: x$RANDOM$RANDOM$RANDOM}\"";
    let bed = Bed::with(&format!("printf '%b\\n' \"$({script})\""));
    let renderer = bed.renderer().await;
    let failure = run_as(&renderer, &CHART, Some(release(false))).await;
    assert_eq!(
        failure.unwrap_err().message,
        "helm renders something else each time: Secret db in data.password: state it in helm.values, or let helm.keepFirst: true keep what is rendered first"
    );
    let first = text(run_as(&renderer, &CHART, Some(release(true))).await);
    // Neither a restart nor another version of the cluster makes up another one.
    let renderer = bed.renderer().await;
    let mut later = release(true);
    later.kubernetes = "1.38".into();
    assert_eq!(text(run_as(&renderer, &CHART, Some(later)).await), first);
    let mut other = release(true);
    other.values.pop();
    assert_ne!(text(run_as(&renderer, &CHART, Some(other)).await), first);
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_written_nowhere() {
    let bed = Bed::with("true");
    let renderer = bed.renderer().await;
    for name in ["../x", "app/../../x", "/x", "app//x", "app/./x"] {
        let failure = run(&renderer, &[(name, "text")]).await.unwrap_err();
        assert!(
            failure.message.contains(&format!("{name:?}")),
            "{failure:?}"
        );
    }
    assert!(!Path::new("/x").exists());
    bed.leaves_nothing().await;
}

#[tokio::test]
async fn without_landlock_nothing_starts_unless_a_person_allowed_it_or_no_tool_is_there() {
    let bed = Bed::with("(: < /etc/passwd) && echo \"kind: A\"");
    let start =
        async |rendering: &Rendering| Renderer::start_where(false, rendering, &bed.data()).await;
    let mut rendering = bed.rendering();
    let refused = start(&rendering).await.unwrap_err().to_string();
    for part in ["Linux 6.7", "--kustomize none", "--allow-unconfined-render"] {
        assert!(refused.contains(part), "{refused}");
    }
    rendering.allow_unconfined = true;
    let files = [("app/kustomization.yaml", "x: y")];
    let unconfined = start(&rendering).await.unwrap();
    assert_eq!(text(run(&unconfined, &files).await), "kind: A\n");
    rendering.allow_unconfined = false;
    rendering.tools = Tool::ALL.map(|tool| (tool, ToolFile::None)).into();
    let without = start(&rendering).await.unwrap();
    assert!(run(&without, &files).await.is_err());
}

#[tokio::test]
async fn a_program_that_is_missing_fails_who_needs_it_and_one_that_is_none_the_start() {
    let bed = Bed::with("true");
    let mut rendering = bed.rendering();
    let folders = vec![bed.folder.path().join("nowhere")];
    rendering
        .tools
        .insert(Tool::Kustomize, ToolFile::Search(folders));
    let renderer = Renderer::start(&rendering, &bed.data()).await.unwrap();
    let failure = run(&renderer, &[("app/kustomization.yaml", "x: y")]).await;
    assert!(failure.unwrap_err().message.contains("--kustomize FILE"));

    let file = bed.folder.path().join("none");
    std::fs::write(&file, "no program").unwrap();
    rendering.tools.insert(Tool::Kustomize, ToolFile::At(file));
    let error = Renderer::start(&rendering, &bed.data()).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("--kustomize, or `none`"),
        "{error:#}"
    );
}
