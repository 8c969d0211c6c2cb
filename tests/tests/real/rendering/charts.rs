//! Charts of repositories: over HTTP, over HTTPS with a CA of its own, from a real OCI registry with a password, made and
//! pushed by the real helm. What reaches the cluster is what `helm template` prints of the same charts, also while all
//! of the servers are away.

mod servers;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use muster_tests::cluster::real;
use muster_tests::git::Repository;
use muster_tests::wait;
use muster_tests::world::SOON;

use super::parity;
use crate::real::scenario::{Scenario, push};
use servers::{PASSWORD, Places, USER, write};

/// What a ConfigMap holds, by its name.
type Maps = BTreeMap<String, BTreeMap<String, String>>;

/// A chart that others depend on.
const BASE: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
data:
  colour: {{ .Values.colour | quote }}
  size: {{ .Values.global.size | quote }}
  chart: {{ .Chart.Name }} {{ .Chart.Version }}
  greeting: {{ .Files.Get \"greeting.txt\" | quote }}
";

/// A chart that depends on it twice.
const WEB: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-own
data:
  colour: {{ .Values.colour | quote }}
  kubernetes: {{ .Capabilities.KubeVersion.Version }}
  namespace: {{ .Release.Namespace }}
";

/// The chart `base`, packed into the repository over HTTP.
async fn publish_base(places: &Places) -> Result<()> {
    let folder = places.path("base");
    let head = "apiVersion: v2\nname: base\nversion: 1.0.3\n";
    write(&folder, "Chart.yaml", head)?;
    write(
        &folder,
        "values.yaml",
        "colour: white\nglobal: {size: none}\n",
    )?;
    write(&folder, "greeting.txt", "hello")?;
    write(&folder, "templates/map.yaml", BASE)?;
    places
        .helm(&["package", "base", "--destination", "http"])
        .await?;
    places.helm(&["repo", "index", "http"]).await?;
    Ok(())
}

/// The chart `NAME` of a version in a folder of its name, with the lock that helm writes and what it fetches.
async fn make_web(places: &Places, name: &str, version: &str, colour: &str) -> Result<()> {
    let folder = places.path(name);
    let url = places.http();
    let head = format!(
        "apiVersion: v2\nname: {name}\nversion: {version}\ndependencies:\n\
         - {{name: base, version: '>=1.0 <2', repository: '{url}', alias: first}}\n\
         - {{name: base, version: ~1.0, repository: '{url}', alias: second, condition: second.enabled}}\n\
         - {{name: base, version: 1.0.3, repository: '{url}', alias: third, condition: third.enabled}}\n"
    );
    write(&folder, "Chart.yaml", &head)?;
    let values = format!("colour: {colour}\nfirst: {{colour: blue}}\nthird: {{enabled: false}}\n");
    write(&folder, "values.yaml", &values)?;
    write(&folder, "templates/map.yaml", WEB)?;
    places.helm(&["dependency", "update", name]).await?;
    Ok(())
}

/// The chart `web` of a version, in the repository over HTTPS and in the registry.
async fn publish_web(places: &Places, version: &str, colour: &str) -> Result<()> {
    make_web(places, "web", version, colour).await?;
    places
        .helm(&["package", "web", "--destination", "https"])
        .await?;
    places.helm(&["repo", "index", "https"]).await?;
    let packed = format!("https/web-{version}.tgz");
    places
        .helm_let_in(&["push", &packed, &places.oci()])
        .await?;
    Ok(())
}

/// Three applications: a chart over HTTPS, one of the registry, and one in Git that names charts over HTTP.
fn files(places: &Places, namespace: &str, size: &str) -> Result<Vec<(String, String)>> {
    let (https, oci) = (places.https(), places.oci());
    let head = "---\napiVersion: muster.dev/v1alpha1\n";
    let application = |name: &str, source: &str| {
        format!(
            "{head}kind: Application\nmetadata: {{name: {name}}}\nspec:\n  namespace: {namespace}\n  source: {source}\n  helm: {{valueFiles: [values.yaml]}}\n"
        )
    };
    let documents = [
        format!(
            "{head}kind: Repository\nmetadata: {{name: files}}\nspec: {{url: '{https}', credential: team}}\n"
        ),
        format!(
            "{head}kind: Repository\nmetadata: {{name: registry}}\nspec: {{url: '{oci}', credential: team}}\n"
        ),
        application(
            "files",
            "{chart: {repository: files, name: web, version: ~1.0}}",
        ),
        application(
            "registry",
            "{chart: {repository: registry, name: web, version: 1.0.0}}",
        ),
        application("mine", "{path: mine}"),
    ];
    let values = format!("global: {{size: {size}}}\n");
    let mut all = vec![
        ("muster.yaml".to_owned(), documents.concat()),
        ("values.yaml".to_owned(), values),
    ];
    for path in [
        "Chart.yaml",
        "Chart.lock",
        "values.yaml",
        "templates/map.yaml",
    ] {
        let text = std::fs::read_to_string(places.path("mine").join(path))?;
        all.push((format!("mine/{path}"), text));
    }
    Ok(all)
}

/// What helm itself prints of the three.
async fn printed(places: &Places, namespace: &str, size: &str) -> Result<Maps> {
    let (https, oci) = (places.https(), format!("{}/web", places.oci()));
    let set = format!("global.size={size}");
    let common = [
        "--namespace",
        namespace,
        "--kube-version",
        "1.37.0",
        "--include-crds",
        "--set",
        &set,
    ];
    let with = |words: &[&'static str]| -> Vec<String> {
        let words = words.iter().map(|word| match *word {
            "HTTPS" => https.clone(),
            "OCI" => oci.clone(),
            word => word.to_owned(),
        });
        words.chain(common.map(str::to_owned)).collect()
    };
    let mut maps = Maps::new();
    for words in [
        with(&[
            "template",
            "files",
            "web",
            "--repo",
            "HTTPS",
            "--version",
            "~1.0",
        ]),
        with(&["template", "registry", "OCI", "--version", "1.0.0"]),
        with(&["template", "mine", "mine"]),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = match words[2] {
            "mine" => places.helm(&words).await?,
            _ => places.helm_let_in(&words).await?,
        };
        for body in parity::read(output).await?.into_values() {
            let name = body["metadata"]["name"].as_str().context("a name")?;
            let data = serde_json::from_value(body["data"].clone())?;
            ensure!(maps.insert(name.to_owned(), data).is_none(), "{name} twice");
        }
    }
    Ok(maps)
}

/// Waits until the cluster holds just that.
async fn becomes(scenario: &Scenario, wanted: &Maps) -> Result<()> {
    wait::until("the cluster holds what helm prints", SOON, async || {
        let list = scenario.config_maps()?.list(&ListParams::default()).await?;
        let found = list.items.into_iter().map(|map| {
            let name = map.metadata.name.unwrap_or_default();
            (name, map.data.unwrap_or_default())
        });
        let mut found: Maps = found.collect();
        // Of Kubernetes itself.
        found.remove("kube-root-ca.crt");
        if found != *wanted {
            let problems = scenario.status().await?["problems"].clone();
            anyhow::bail!("{found:#?}\n{wanted:#?}\n{problems:#}");
        }
        Ok(())
    })
    .await
}

/// Credentials for the servers, as a hub holds them.
fn credentials(places: &Places) -> Result<String> {
    let folder = places.path("credentials");
    let urls = format!("{}\n{}\n", places.https(), places.oci());
    let ca = std::fs::read_to_string(places.path("ca.crt"))?;
    for (file, text) in [
        ("url", &*urls),
        ("username", USER),
        ("password", PASSWORD),
        ("ca.crt", &ca),
    ] {
        write(&folder, &format!("team/{file}"), text)?;
    }
    Ok(format!("--credentials={}", folder.display()))
}

#[tokio::test]
async fn charts_of_repositories_come_as_helm_prints_them_and_stay_while_all_are_away() -> Result<()>
{
    let mut places = Places::start().await?;
    publish_base(&places).await?;
    publish_web(&places, "1.0.0", "green").await?;
    make_web(&places, "mine", "0.1.0", "grey").await?;
    let flags = vec![credentials(&places)?];
    let start = |namespace: &str| files(&places, namespace, "large");
    let mut scenario = Scenario::rendering_with(flags, start).await?;
    let namespace = scenario.namespace.clone();
    let wanted = printed(&places, &namespace, "large").await?;
    ensure!(wanted.len() == 9, "{wanted:#?}");
    becomes(&scenario, &wanted).await?;

    // All of them go, and the hub, too: what was fetched is there, and is rendered with other values.
    let small = printed(&places, &namespace, "small").await?;
    places.down().await?;
    scenario.world.stop_hub().await?;
    scenario.world.start_hub().await?;
    let change = files(&places, &namespace, "small")?;
    push(&scenario.world, "Make it small", &change).await?;
    becomes(&scenario, &small).await?;
    let repositories = scenario.status().await?["repositories"].clone();
    let error = |name: &str| -> Option<&str> {
        let mut all = repositories.as_array()?.iter();
        all.find(|it| it["name"] == name)?["error"].as_str()
    };
    // One that is followed says that it can't be reached; a version is not asked for.
    ensure!(
        error("files").is_some_and(|why| why.contains("can't be fetched")),
        "{repositories:#}"
    );
    ensure!(
        error("registry").is_none_or(str::is_empty),
        "{repositories:#}"
    );

    // They come back, with a new version that the range takes.
    places.up().await?;
    publish_web(&places, "1.0.1", "red").await?;
    scenario.world.muster(&["sync", "now"]).await?;
    let newer = printed(&places, &namespace, "small").await?;
    ensure!(newer["files-own"]["colour"] == "red" && newer["registry-own"]["colour"] == "green");
    becomes(&scenario, &newer).await?;

    // The same version with another content is refused, and the one before stays.
    publish_web(&places, "1.0.1", "black").await?;
    publish_web(&places, "1.0.0", "black").await?;
    let refused = wait::until("both are refused", SOON, async || {
        scenario.world.muster(&["sync", "now"]).await?;
        let repositories = scenario.status().await?["repositories"].clone();
        let refused = repositories.as_array().into_iter().flatten();
        let refused = refused.filter(|it| {
            it["error"]
                .as_str()
                .is_some_and(|why| why.contains(" was sha256:"))
        });
        ensure!(refused.count() == 2, "{repositories:#}");
        Ok(repositories)
    })
    .await?;
    ensure!(!refused.to_string().contains(PASSWORD), "{refused:#}");
    becomes(&scenario, &newer).await
}

#[tokio::test]
async fn a_checkout_that_names_charts_is_checked_without_a_hub() -> Result<()> {
    let mut places = Places::start().await?;
    publish_base(&places).await?;
    publish_web(&places, "1.0.0", "green").await?;
    make_web(&places, "mine", "0.1.0", "grey").await?;
    let credentials = credentials(&places)?;
    let files = files(&places, "shop", "large")?;
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let repository = Repository::with(&files)?;
    let helm = real::program("helm").await?;
    let arguments = [credentials, format!("--helm={}", helm.display())];
    let well = "no problem in the working tree: 3 applications, 3 variants, 0 clusters\n";
    let said = check(&places, &repository, &arguments).await?;
    ensure!(said == well, "{said}");
    places.down().await?;
    let said = check(&places, &repository, &arguments).await?;
    ensure!(
        said.starts_with(well) && said.contains("what is here of it is taken"),
        "{said}"
    );
    Ok(())
}

/// What `muster check` says of a checkout.
async fn check(places: &Places, repository: &Repository, arguments: &[String]) -> Result<String> {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_shipped-muster"))
        .arg("check")
        .args(arguments)
        .current_dir(repository.work())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("XDG_CACHE_HOME", places.path("cache"))
        .output()
        .await?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}
