//! `muster check`, `render` and `plan` on a checkout: the shipped program, real kustomize and Helm, and no hub.

mod guide;
mod planning;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use muster_tests::cluster::real;
use muster_tests::git::Repository;

/// A fleet of plain YAML, a kustomization and a chart.
const FLEET: &[(&str, &str)] = &[
    (
        "clusters/muster.yaml",
        "apiVersion: muster.dev/v1alpha1
kind: Cluster
metadata: {name: eu-1}
spec: {labels: {stage: production}, values: {host: eu.example}}
---
apiVersion: muster.dev/v1alpha1
kind: Cluster
metadata: {name: test-1}
spec: {labels: {stage: test}, values: {host: test.example}}
",
    ),
    (
        "shop/muster.yaml",
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  namespace: shop
  source: {path: base}
  targets:
  - name: test
    clusters: {matchLabels: {stage: test}}
    path: overlays/test
  - name: production
    clusters: {matchLabels: {stage: production}}
    path: overlays/production
",
    ),
    (
        "shop/base/kustomization.yaml",
        "resources: [settings.yaml]\n",
    ),
    (
        "shop/base/settings.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: white, size: 'on'}\n",
    ),
    (
        "shop/overlays/test/kustomization.yaml",
        "resources: [../../base]\nnameSuffix: -test\n",
    ),
    (
        "shop/overlays/production/kustomization.yaml",
        "resources: [../../base]\nsecretGenerator:\n- name: door\n  files: [key]\n  options: {disableNameSuffixHash: true}\n",
    ),
    ("shop/overlays/production/key", "hunter2"),
    (
        "front/muster.yaml",
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: front}
spec:
  namespace: front
  source: {path: chart}
  variables: {}
  helm: {values: {host: '${cluster.values.host}'}}
  targets:
  - name: production
    clusters: {matchLabels: {stage: production}}
    helm: {values: {replicas: 3}}
  - name: never
    clusters: {matchLabels: {stage: nowhere}}
",
    ),
    (
        "front/chart/Chart.yaml",
        "apiVersion: v2\nname: front\nversion: 1.0.0\n",
    ),
    ("front/chart/values.yaml", "host: none\nreplicas: 1\n"),
    (
        "front/chart/templates/settings.yaml",
        "apiVersion: v1
kind: ConfigMap
metadata: {name: front}
data:
  host: {{ .Values.host | quote }}
  replicas: {{ .Values.replicas | quote }}
  kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}
",
    ),
];

/// A checkout, and what `muster` needs to look at it.
struct Place {
    repository: Repository,
    cache: tempfile::TempDir,
    /// Where the tools are, and what this machine has.
    path: OsString,
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    async fn with(files: &[(&str, &str)]) -> Result<Self> {
        let mut folders = Vec::new();
        for tool in ["kustomize", "helm"] {
            let program = real::program(tool).await?;
            folders.push(program.parent().context("a folder")?.to_owned());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        folders.extend(std::env::split_paths(&path));
        Ok(Self {
            repository: Repository::with(files)?,
            cache: tempfile::tempdir()?,
            path: std::env::join_paths(folders)?,
        })
    }

    fn work(&self) -> PathBuf {
        self.repository.work()
    }

    fn put(&self, path: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.work().join(path), text)?)
    }

    /// One command line, as a person types it in the checkout.
    async fn muster(&self, line: &str) -> Result<Run> {
        self.muster_in(&self.work(), line).await
    }

    async fn muster_in(&self, folder: &Path, line: &str) -> Result<Run> {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_shipped-muster"))
            .args(line.split_whitespace())
            .current_dir(folder)
            .env_clear()
            .env("PATH", &self.path)
            .env("XDG_CACHE_HOME", self.cache.path())
            .kill_on_drop(true)
            .output()
            .await?;
        let place = self.repository.root().display().to_string();
        let text = |bytes: Vec<u8>| anyhow::Ok(String::from_utf8(bytes)?.replace(&place, "DIR"));
        Ok(Run {
            code: output.status.code(),
            out: text(output.stdout)?,
            err: text(output.stderr)?,
        })
    }
}

#[tokio::test]
async fn a_fleet_that_is_well_is_one_line_and_its_files_as_they_are_count() -> Result<()> {
    let place = Place::with(FLEET).await?;
    let well = place.muster("check").await?;
    insta::assert_snapshot!(well.out + &well.err, @"no problem in the working tree: 2 applications, 4 variants, 2 clusters");
    assert_eq!(well.code, Some(0));

    // Not committed, and in a variant that no cluster takes.
    place.put("front/chart/templates/settings.yaml", "{{ fail \"no\" }}")?;
    place.put(
        "shop/overlays/test/kustomization.yaml",
        "resources: [../../bsae]\n",
    )?;
    let broken = place.muster("check").await?;
    insta::assert_snapshot!(broken.out + &broken.err, @r"
    PROBLEM AT                                APPLICATION   VARIANT             CLUSTER   MESSAGE
    front/chart/Chart.yaml                    front         production, never   -         helm: execution error at (front/templates/settings.yaml:1:3): no Use --debug flag to render out invalid YAML
    shop/overlays/test/kustomization.yaml:1   shop          test                -         the repository has no file or folder shop/bsae

    2 problems in the working tree: 2 applications, 4 variants, 2 clusters
    ");
    assert_eq!(broken.code, Some(1));
    // The commit is as it was; a run from elsewhere says the same.
    let committed = place.muster("check --at HEAD").await?;
    assert_eq!(committed.code, Some(0), "{}", committed.out);
    let elsewhere = place
        .muster_in(
            Path::new("/"),
            &format!("check {} -o json", place.work().display()),
        )
        .await?;
    assert_eq!(elsewhere.code, Some(1));
    insta::assert_snapshot!(elsewhere.out, @r#"
    {
      "of": "the working tree",
      "applications": 2,
      "variants": 4,
      "clusters": 2,
      "problems": [
        {
          "application": "front",
          "variants": [
            "production",
            "never"
          ],
          "cluster": "",
          "location": "front/chart/Chart.yaml",
          "message": "helm: execution error at (front/templates/settings.yaml:1:3): no Use --debug flag to render out invalid YAML"
        },
        {
          "application": "shop",
          "variants": [
            "test"
          ],
          "cluster": "",
          "location": "shop/overlays/test/kustomization.yaml:1",
          "message": "the repository has no file or folder shop/bsae"
        }
      ],
      "notes": {}
    }
    "#);
    Ok(())
}

#[tokio::test]
async fn documents_references_and_duplicates_are_told_with_their_lines() -> Result<()> {
    let place = Place::with(&[
        (
            "clusters/muster.yaml",
            "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-1}\nspec: {}\n",
        ),
        (
            "a/muster.yaml",
            "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: alpha}
spec:
  namespace: shop
  source: {path: x}
  variables: {}
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: b}
spec:
  namespace: shop
  source: {path: beta}
  dependsOn: [database]
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: c}
spec:
  namspace: shop
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: d}
spec:
  source: {repository: shop}
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: e}
spec: {namespace: shop, source: {path: beta}}
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: f}
spec: {namespace: shop, source: {path: beta}}
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {name: d}
spec: {}
",
        ),
        (
            "a/x/one.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: '${cluster.values.colour}'}\n",
        ),
        (
            "a/beta/two.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\n",
        ),
    ])
    .await?;
    let run = place.muster("check").await?;
    insta::assert_snapshot!(run.out + &run.err, @r#"
    PROBLEM AT          APPLICATION   VARIANT   CLUSTER   MESSAGE
    a/x/one.yaml:1      alpha         default   eu-1      ConfigMap one: ${cluster.values.colour} at data.a stands for nothing and states no default: the cluster has no such value
    a/muster.yaml:15    b             -         -         spec.dependsOn: there is no application "database"
    a/muster.yaml:21    c             -         -         spec: unknown field "namspace": did you mean "namespace"?
    a/muster.yaml:39    d             -         -         Application d is declared at a/muster.yaml:23 already
    a/beta/two.yaml:1   f             -         -         ConfigMap shop/two belongs to application e (a/beta/two.yaml:1): application f keeps what it had until one of them gives it up

    5 problems in the working tree: 3 applications, 3 variants, 1 cluster
    "#);
    assert_eq!(run.code, Some(1));
    Ok(())
}

#[tokio::test]
async fn what_a_cluster_gets_is_printed_as_it_gets_it_and_secrets_are_masked() -> Result<()> {
    let place = Place::with(FLEET).await?;
    let shop = place.muster("render shop --cluster eu-1 --local").await?;
    insta::assert_snapshot!(shop.out + &shop.err, @r#"
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: settings
      namespace: shop
    data:
      colour: white
      size: "on"
    ---
    apiVersion: v1
    kind: Secret
    metadata:
      name: door
      namespace: shop
    data:
      key: (secret)
    type: Opaque
    "#);
    let front = place
        .muster("render front --cluster eu-1 --local --kube-version 1.36")
        .await?;
    insta::assert_snapshot!(front.out + &front.err, @r#"
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: front
      namespace: front
    data:
      host: eu.example
      kubernetes: v1.36.0
      replicas: "3"
    "#);
    let json = place
        .muster("render shop --cluster test-1 --local -o json")
        .await?;
    let list: serde_json::Value = serde_json::from_str(&json.out)?;
    assert_eq!(list["items"][0]["metadata"]["name"], "settings-test");
    assert_eq!(list["items"][0]["metadata"]["namespace"], "shop");

    let mut said = String::new();
    for line in [
        "render shp --cluster eu-1 --local",
        "render shop --cluster eu1 --local",
        "render shop --cluster stranger --local",
        "render front --cluster test-1 --local",
        "render shop --cluster eu-1 --local --at nowhere",
        "render shop --cluster eu-1 --local --kustomize none",
        "render shop --cluster eu-1 --local --helm /no/such/helm",
        "render shop --cluster eu-1 --local --clusters-from muster.txt",
    ] {
        let run = place.muster(line).await?;
        ensure!(
            run.code == Some(1) && run.out.is_empty(),
            "{line}: {}",
            run.out
        );
        said += &run.err;
    }
    insta::assert_snapshot!(said, @r#"
    muster: no application is called "shp": did you mean "shop"?
    muster: no cluster is called "eu1": did you mean "eu-1"?
    muster: no cluster is called "stranger": those that Git does not declare come with --clusters-from FILE
    muster: no target of application front takes test-1
    muster: there is no commit "nowhere" here: fetch it; a shallow clone holds only its newest commits
    muster: shop/overlays/production/kustomization.yaml: it takes kustomize, and none is on the PATH: put it there, or name it with --kustomize FILE
    muster: /no/such/helm can't be used: give another one with --helm, or `none`: No such file or directory (os error 2)
    muster: the clusters in muster.txt can't be read: No such file or directory (os error 2)
    "#);
    let outside = place.muster_in(place.cache.path(), "check").await?;
    assert_eq!(
        outside.err,
        "muster: . is in no Git repository: give the folder of a checkout\n"
    );
    Ok(())
}

#[tokio::test]
async fn clusters_that_only_the_hub_knows_come_from_its_list() -> Result<()> {
    let place = Place::with(FLEET).await?;
    // Outside of the checkout, as a list that is made for one run is.
    let list = place.cache.path().join("clusters.json");
    std::fs::write(
        &list,
        r#"{"clusters": [
            {"name": "eu-1", "labels": {"stage": "production"}, "kubernetesVersion": "v1.35.4"},
            {"name": "us-1", "labels": {"stage": "production"}, "kubernetesVersion": "v1.36.0-eks-1"}
        ]}"#,
    )?;
    let line = format!("--local --clusters-from {}", list.display());
    let eu = place
        .muster(&format!("render front --cluster eu-1 {line}"))
        .await?;
    ensure!(
        eu.out.contains("kubernetes: v1.35.0"),
        "{}{}",
        eu.out,
        eu.err
    );
    // It has no document, and so no value for the placeholder.
    let us = place
        .muster(&format!("render front --cluster us-1 {line}"))
        .await?;
    insta::assert_snapshot!(us.err, @"muster: front/chart/templates/settings.yaml: ConfigMap front: ${cluster.values.host} at data.host stands for nothing and states no default: the cluster has no such value");
    let us = place
        .muster(&format!("render shop --cluster us-1 {line}"))
        .await?;
    ensure!(us.out.contains("name: settings"), "{}{}", us.out, us.err);
    Ok(())
}

#[tokio::test]
async fn another_repository_is_fetched_into_the_cache_and_stays_good_when_it_is_away() -> Result<()>
{
    let library = Repository::with(&[(
        "deploy/thing.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: thing}\n",
    )])?;
    let url = format!("file://{}", library.bare().display());
    let document = format!(
        "apiVersion: muster.dev/v1alpha1
kind: Repository
metadata: {{name: library}}
spec: {{url: \"{url}\", ref: {{branch: main}}}}
---
apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {{name: thing}}
spec: {{namespace: shop, source: {{repository: library, path: deploy}}}}
---
apiVersion: muster.dev/v1alpha1
kind: Cluster
metadata: {{name: one}}
spec: {{}}
"
    );
    let place = Place::with(&[("muster.yaml", &document)]).await?;
    let line = "render thing --cluster one --local";
    let run = place.muster(line).await?;
    ensure!(run.out.contains("name: thing"), "{}{}", run.out, run.err);
    std::fs::rename(library.bare(), library.bare().with_extension("away"))?;
    let run = place.muster(line).await?;
    ensure!(run.out.contains("name: thing"), "{}{}", run.out, run.err);
    ensure!(
        run.err.starts_with("muster: Repository library: ")
            && run.err.ends_with("; what is here of it is taken\n"),
        "{}",
        run.err
    );
    // Nothing was ever fetched into another cache.
    let place = Place::with(&[("muster.yaml", &document)]).await?;
    let run = place.muster("check").await?;
    ensure!(
        run.code == Some(1) && run.out.contains("Repository library: "),
        "{}{}",
        run.out,
        run.err
    );
    Ok(())
}

#[tokio::test]
async fn a_tool_sees_no_more_than_with_the_hub() -> Result<()> {
    let place = Place::with(FLEET).await?;
    let tool = place.cache.path().join("kustomize");
    let script = "#!/bin/sh
if [ \"$1\" = version ]; then echo v0; exit; fi
read -r line < /etc/passwd && { echo 'Error: it was read' >&2; exit 1; }
echo \"Error: $(echo $XDG_CACHE_HOME $HOSTNAME) nothing\" >&2; exit 1
";
    std::fs::write(&tool, script)?;
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let line = format!(
        "render shop --cluster eu-1 --local --kustomize {}",
        tool.display()
    );
    let run = place.muster(&line).await?;
    insta::assert_snapshot!(run.err, @"muster: shop/overlays/production/kustomization.yaml: kustomize: nothing");
    Ok(())
}
