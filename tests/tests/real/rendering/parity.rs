//! Hub output equals the programs' own output, object by object, for trees made after the shapes of kustomize's
//! examples, Helm's starter chart, and the example repositories of Flux and Fleet: see `trees/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_decide::placement::Capabilities;
use muster_decide::render::{Cache, Tool};
use muster_decide::{
    Decision, File, FileContent, LastGood, Members, Placed, Snapshot, Sources, decide, model,
};
use muster_git::Blobs;
use muster_proto::{Content, DigestKey, Object};
use muster_render::{By, Renderer, Rendering, ToolFile};
use muster_tests::cluster::real;
use muster_tests::supervisor::testbed;
use serde_json::{Value, json};

/// A file of a repository: path and content.
type Files = BTreeMap<String, Vec<u8>>;
/// Bodies of objects, by identity.
pub(super) type Objects = BTreeMap<String, Value>;

/// A cluster, the application that goes there, and the command that prints the same.
struct Same {
    tree: &'static str,
    application: &'static str,
    cluster: &'static str,
    command: &'static str,
}

const KUSTOMIZE: [Same; 20] = [
    same(
        "hello",
        "hello",
        "staging",
        "kustomize build overlays/staging",
    ),
    same(
        "hello",
        "hello",
        "production",
        "kustomize build --load-restrictor LoadRestrictionsNone overlays/production",
    ),
    same("hello", "hello", "other", "kustomize build base"),
    same(
        "components",
        "components",
        "enterprise",
        "kustomize build enterprise",
    ),
    same("components", "components", "other", "kustomize build dev"),
    same("fields", "fields", "one", "kustomize build ."),
    same(
        "flux",
        "apps",
        "production",
        "kustomize build apps/production",
    ),
    same("flux", "apps", "other", "kustomize build apps/staging"),
    same(
        "flux",
        "infrastructure",
        "other",
        "kustomize build infrastructure",
    ),
    same(
        "fleet",
        "guestbook",
        "env=prod",
        "kustomize build overlays/prod",
    ),
    same(
        "fleet",
        "guestbook",
        "other",
        "kustomize build overlays/dev",
    ),
    // Where the folder is the root of the repository.
    same("hello/base", "hello", "one", "kustomize build ."),
    same("wordpress", "blog", "one", "kustomize build ."),
    same("stages", "pods", "stage=dev", "kustomize build dev"),
    same("stages", "pods", "other", "kustomize build all"),
    same(
        "ldap",
        "directory",
        "stage=production",
        "kustomize build overlays/production",
    ),
    same("ldap", "directory", "other", "kustomize build base"),
    same(
        "tenants",
        "tenants",
        "stage=staging",
        "kustomize build tenants/staging",
    ),
    same(
        "tenants",
        "tenants",
        "other",
        "kustomize build tenants/production",
    ),
    same(
        "tenants",
        "flux-system",
        "other",
        "kustomize build clusters/staging/flux-system",
    ),
];

/// Inline values stand as `--set-json` here: none of them is in a file, too.
const HELM: [Same; 6] = [
    same(
        "starter",
        "shop",
        "production",
        "helm template front chart --namespace shop-system --include-crds --kube-version 1.37.0 -f environments/all.yaml -f environments/production.yaml --set-json podAnnotations={\"example.org/mode\":\"0644\",\"example.org/on\":\"yes\"} --set service.port=8080 --set service.type=NodePort --set-json resources={\"limits\":{\"memory\":\"64Mi\"}} --set-json serviceAccount={\"annotations\":null}",
    ),
    same(
        "starter",
        "shop",
        "other",
        "helm template shop chart --namespace shop-system --include-crds --kube-version 1.37.0 -f environments/all.yaml --set-json podAnnotations={\"example.org/mode\":\"0644\",\"example.org/on\":\"yes\"} --set service.port=8080",
    ),
    same(
        "fleet-helm",
        "guestbook",
        "env=prod",
        "helm template guestbook chart --namespace fleet-helm-example --include-crds --kube-version 1.37.0 -f chart/values-prod.yaml --set serviceType=LoadBalancer",
    ),
    same(
        "fleet-helm",
        "guestbook",
        "other",
        "helm template guestbook chart --namespace fleet-helm-example --include-crds --kube-version 1.37.0 --set replication=false",
    ),
    same(
        "umbrella",
        "platform",
        "size=small",
        "helm template platform chart --namespace platform --include-crds --kube-version 1.37.0 -f all.yaml --set tags.storage=false --set front.enabled=false --set global.domain=small.example.org",
    ),
    same(
        "umbrella",
        "platform",
        "other",
        "helm template platform chart --namespace platform --include-crds --kube-version 1.37.0 -f all.yaml",
    ),
];

const fn same(
    tree: &'static str,
    application: &'static str,
    cluster: &'static str,
    command: &'static str,
) -> Same {
    Same {
        tree,
        application,
        cluster,
        command,
    }
}

#[tokio::test]
async fn kustomize_trees_come_out_as_kustomize_prints_them() -> Result<()> {
    all_the_same(&KUSTOMIZE).await
}

#[tokio::test]
async fn charts_come_out_as_helm_prints_them_but_for_hooks() -> Result<()> {
    all_the_same(&HELM).await
}

/// What `helm create` makes, whatever this Helm makes of it, alone and as a subchart of another.
#[tokio::test]
async fn the_starter_chart_comes_out_as_helm_prints_it() -> Result<()> {
    let made = tempfile::tempdir()?;
    let helm = real::program("helm").await?;
    for (folder, name) in [("", "chart"), ("chart/charts", "worker")] {
        let output = Command::new(&helm)
            .args(["create", name])
            .current_dir(made.path().join(folder))
            .env("HOME", made.path())
            .output()?;
        ensure!(output.status.success(), "{output:?}");
    }
    let document = "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  namespace: shop
  source: {path: chart}
  targets:
  - name: large
    clusters: {matchLabels: {size: large}}
    helm:
      values:
        autoscaling: {enabled: true}
        ingress: {enabled: true, className: web}
        worker: {replicaCount: 3, serviceAccount: {create: false}}
  - name: other
";
    std::fs::write(made.path().join("muster.yaml"), document)?;
    let files = files(made.path())?;
    ensure!(files.len() > 20, "{:?}", files.keys());
    let template = "helm template shop chart --namespace shop --include-crds --kube-version 1.37.0";
    let values = "--set autoscaling.enabled=true --set ingress.enabled=true --set ingress.className=web --set worker.replicaCount=3 --set worker.serviceAccount.create=false";
    let data = tempfile::tempdir()?;
    let renderer = renderer(data.path()).await?;
    for (cluster, command) in [
        ("other", template.to_owned()),
        ("size=large", format!("{template} {values}")),
    ] {
        let hub = objects(&renderer, files.clone(), "shop", cluster).await?;
        are_equal(&hub, &printed(&files, &command).await?)?;
    }
    Ok(())
}

/// There is no program: what is written is what comes out.
#[tokio::test]
async fn plain_manifests_with_fleets_own_file_beside_them_come_out_as_they_are() -> Result<()> {
    let data = tempfile::tempdir()?;
    let renderer = renderer(data.path()).await?;
    let files = files(&tree("fleet-manifests"))?;
    let hub = objects(&renderer, files, "guestbook", "one").await?;
    let written = [
        (
            "GitRepo.fleet.cattle.io fleet-default/simple",
            json!({"apiVersion": "fleet.cattle.io/v1alpha1", "kind": "GitRepo",
                "metadata": {"name": "simple", "namespace": "fleet-default"},
                "spec": {"repo": "https://git.example.org/fleet-examples", "paths": ["simple"]}}),
        ),
        (
            "Service frontend",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "frontend"},
                "spec": {"ports": [{"port": 80}], "selector": {"app": "guestbook"}}}),
        ),
    ];
    are_equal(
        &hub,
        &written.map(|(key, body)| (key.to_owned(), body)).into(),
    )
}

async fn all_the_same(cases: &[Same]) -> Result<()> {
    let data = tempfile::tempdir()?;
    let renderer = renderer(data.path()).await?;
    for case in cases {
        let context = || format!("{} of {} on {}", case.application, case.tree, case.cluster);
        let files = files(&tree(case.tree))?;
        let hub = objects(&renderer, files.clone(), case.application, case.cluster).await;
        let own = printed(&files, case.command).await.with_context(context)?;
        are_equal(&hub.with_context(context)?, &own).with_context(context)?;
    }
    Ok(())
}

fn are_equal(hub: &Objects, own: &Objects) -> Result<()> {
    ensure!(!own.is_empty(), "nothing was printed");
    let (hub_keys, own_keys): (Vec<_>, Vec<_>) = (hub.keys().collect(), own.keys().collect());
    ensure!(hub_keys == own_keys, "{hub_keys:?} {own_keys:?}");
    for (key, body) in own {
        ensure!(hub[key] == *body, "{key}:\n{:?}\n{body:?}", hub[key]);
    }
    Ok(())
}

async fn renderer(data: &Path) -> Result<Renderer> {
    renderer_within(data, Duration::from_secs(60)).await
}

/// With the pinned programs, which may take so long.
pub(super) async fn renderer_within(data: &Path, timeout: Duration) -> Result<Renderer> {
    let mut tools = BTreeMap::new();
    for tool in Tool::ALL {
        tools.insert(tool, ToolFile::At(real::program(tool.name()).await?));
    }
    let rendering = Rendering {
        tools,
        concurrency: None,
        timeout,
        cache_size: 1 << 30,
        allow_unconfined: false,
        by: By::Hub,
        jail: Some(testbed()?),
    };
    Renderer::start(&rendering, data).await
}

/// What the hub makes of an application of a tree, for a cluster.
async fn objects(
    renderer: &Renderer,
    mut files: Files,
    application: &str,
    cluster: &str,
) -> Result<Objects> {
    // One that has no document: the whole tree is the application.
    files.entry("muster.yaml".into()).or_insert_with(|| {
        format!("apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {application}}}\nspec: {{}}\n").into()
    });
    let (name, labels) = match cluster.split_once('=') {
        Some((key, value)) => ("one", [(key.to_owned(), value.to_owned())].into()),
        None => (cluster, BTreeMap::new()),
    };
    let members: Members = [(name.parse()?, Arc::new(labels))].into();
    let decision = decided(renderer, committed(files), &members).await?;
    ensure!(decision.problems.is_empty(), "{:#?}", decision.problems);
    let cluster = &decision.clusters[name];
    let mut applications = cluster.placements.iter().map(|it| &it.application);
    let placed = applications.find(|it| it.name.as_str() == application);
    let application = placed.context("it is not placed there")?;
    let Content::Objects { objects, .. } = &application.content else {
        anyhow::bail!("it is kept as it was");
    };
    bodies(objects)
}

/// Without tests, and without what makes a stage of a hook.
fn bodies(objects: &[Arc<Object>]) -> Result<Objects> {
    let mut bodies = Objects::new();
    for object in objects {
        let mut body: Value = serde_json::from_slice(&object.body)?;
        let annotations = body.pointer_mut("/metadata/annotations");
        if let Some(Value::Object(annotations)) = annotations
            && let Some(hook) = annotations.get("helm.sh/hook").cloned()
        {
            if hook == "test" {
                continue;
            }
            annotations.remove("muster.dev/stage");
            annotations.remove("muster.dev/replace");
        }
        bodies.insert(object.key.to_string(), body);
    }
    Ok(bodies)
}

/// The first commit of a repository.
fn committed(files: Files) -> Snapshot {
    let file = |(path, bytes): (String, Vec<u8>)| {
        let file = File {
            oid: muster_proto::Digest::of([&bytes]).to_string(),
            content: FileContent::Bytes(bytes.into()),
        };
        (path, file)
    };
    Snapshot {
        repository: None,
        revision: "1".into(),
        files: files.into_iter().map(file).collect(),
    }
}

/// What is decided for the first commit of a repository.
pub(super) async fn decided(
    renderer: &Renderer,
    snapshot: Snapshot,
    members: &Members,
) -> Result<Decision> {
    let sources = Sources::from(snapshot);
    let last_good = LastGood::default();
    let can = Arc::new(Capabilities {
        kubernetes: "1.37".into(),
        ..Capabilities::default()
    });
    let known = members.keys().map(|name| (name.clone(), can.clone()));
    let placed = Placed::new(model::read(&sources.fleet), members, &last_good);
    let placed = placed.knowing(&known.collect());
    let mut cache = Cache::knowing([], renderer.tools());
    let key = DigestKey::new([7; 32]);
    for wanted in cache.jobs(&sources, &placed) {
        let output = renderer
            .run(&wanted.job, &sources.fleet, &Blobs::default())
            .await;
        cache.take(wanted, output, &key);
    }
    Ok(decide(
        &sources,
        &placed,
        &last_good,
        &Default::default(),
        &key,
        &mut cache,
    )?)
}

/// What the program itself prints, run in the tree as people run it, and read as plain YAML.
async fn printed(files: &Files, command: &str) -> Result<Objects> {
    let mut words = command.split(' ');
    let program = real::program(words.next().unwrap_or_default()).await?;
    let copy = tempfile::tempdir()?;
    for (path, content) in files {
        let file = copy.path().join(path);
        std::fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
        std::fs::write(file, content)?;
    }
    let run = |program: &Path, words: &mut dyn Iterator<Item = &str>| {
        let output = Command::new(program)
            .args(words)
            .current_dir(copy.path())
            .env("HOME", copy.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        Ok(output)
    };
    if program.ends_with("helm") {
        run(&program, &mut "dependency update chart".split(' '))?;
    }
    read(run(&program, &mut words)?.stdout).await
}

/// Objects as a program prints them.
pub(super) async fn read(output: Vec<u8>) -> Result<Objects> {
    let plain = [
        ("muster.yaml".to_owned(), b"apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: plain}\nspec: {}\n".to_vec()),
        ("printed.yaml".to_owned(), output),
    ];
    let data = tempfile::tempdir()?;
    let members: Members = [("one".parse()?, Arc::default())].into();
    let renderer = renderer(data.path()).await?;
    let decision = decided(&renderer, committed(plain.into()), &members).await?;
    ensure!(decision.problems.is_empty(), "{:#?}", decision.problems);
    let placement = &decision.clusters["one"].placements[0];
    let Content::Objects { objects, .. } = &placement.application.content else {
        anyhow::bail!("it has no objects");
    };
    bodies(objects)
}

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/real/rendering/trees")
        .join(name)
}

fn files(tree: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(tree)?.to_string_lossy().into_owned();
                files.insert(inside, std::fs::read(&path)?);
            }
        }
    }
    Ok(files)
}
