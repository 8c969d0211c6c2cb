//! What programs render: hub output beside the programs' own, and what becomes of it in a cluster.

mod charts;
mod hooks;
mod hostile;
mod parity;
mod serving;

use anyhow::{Result, ensure};

use super::scenario::{Scenario, push};

/// `base/settings.yaml`, and an overlay a cluster stage that says its colour.
fn overlays(namespace: &str) -> Vec<(String, String)> {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let document = format!(
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {{name: shop}}
spec:
  namespace: {namespace}
  source: {{path: base}}
  targets:
  - name: test
    clusters: {{matchLabels: {{stage: test}}}}
    path: overlays/test
  - name: production
    path: overlays/production
"
    );
    vec![
        file("shop/muster.yaml", &document),
        file(
            "shop/base/kustomization.yaml",
            "resources: [settings.yaml]\n",
        ),
        file(
            "shop/base/settings.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: white}\n",
        ),
        overlay("test", "blue"),
        overlay("production", "green"),
        file(
            "cellar/muster.yaml",
            &format!(
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: cellar}}\nspec: {{namespace: {namespace}}}\n"
            ),
        ),
        file(
            "cellar/kustomization.yaml",
            "configMapGenerator:\n- name: wine\n  files: [year]\n  options: {disableNameSuffixHash: true}\n",
        ),
        file("cellar/year", "1982"),
    ]
}

fn overlay(name: &str, colour: &str) -> (String, String) {
    let text = format!(
        "resources: [../../base]
patches:
- patch: |
    apiVersion: v1
    kind: ConfigMap
    metadata: {{name: settings}}
    data: {{colour: {colour}}}
"
    );
    (format!("shop/overlays/{name}/kustomization.yaml"), text)
}

#[tokio::test]
async fn each_target_gets_its_overlay_and_a_file_that_is_no_yaml_is_read_too() -> Result<()> {
    let mut scenario = Scenario::rendering(overlays).await?;
    scenario.becomes("settings", "colour", "blue").await?;
    scenario.becomes("wine", "year", "1982").await?;
    // Only the base changes: everything that is built on it follows.
    let base = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: white, size: large}\n";
    let change = [("shop/base/settings.yaml".to_owned(), base.to_owned())];
    push(&scenario.world, "Change the base", &change).await?;
    scenario.becomes("settings", "size", "large").await?;

    // A restart finds what was rendered.
    scenario.world.stop_hub().await?;
    scenario.world.start_hub().await?;
    scenario.world.synced("shop", 1).await?;
    push(
        &scenario.world,
        "Change a file",
        &[("cellar/year".into(), "1990".into())],
    )
    .await?;
    scenario.becomes("wine", "year", "1990").await
}

#[tokio::test]
async fn a_broken_overlay_leaves_its_application_while_others_move() -> Result<()> {
    let scenario = Scenario::rendering(overlays).await?;
    scenario.becomes("settings", "colour", "blue").await?;
    // The hub sees that nothing is there to patch only when kustomize says so.
    let (path, text) = overlay("test", "red");
    let broken = text.replace("name: settings", "name: setings");
    let year = ("cellar/year".to_owned(), "1990".to_owned());
    push(
        &scenario.world,
        "Misspell a name",
        &[(path.clone(), broken), year],
    )
    .await?;
    scenario.becomes("wine", "year", "1990").await?;
    let fleet = scenario
        .shows("shop/overlays/test/kustomization.yaml kustomize: ")
        .await?;
    ensure!(fleet.to_string().contains("setings"), "{fleet:#}");
    ensure!(scenario.value("settings", "colour").await? == "blue");

    push(&scenario.world, "Mend it", &[(path, text)]).await?;
    scenario.becomes("settings", "colour", "red").await?;
    scenario.shows_no_more("kustomize").await
}

/// A chart with a hook, released by the values of its target.
fn chart(namespace: &str) -> Vec<(String, String)> {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let document = format!(
        "apiVersion: muster.dev/v1alpha1
kind: Application
metadata: {{name: shop}}
spec:
  namespace: {namespace}
  source: {{path: chart}}
  helm: {{valueFiles: [values/all.yaml]}}
  targets:
  - name: test
    clusters: {{matchLabels: {{stage: test}}}}
    helm: {{values: {{colour: blue}}}}
"
    );
    let template = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  colour: {{ .Values.colour }}
  size: {{ .Values.size }}
  kubernetes: {{ .Capabilities.KubeVersion.Version }}
  greeting: {{ .Files.Get \"greeting.txt\" }}
";
    let hook = "apiVersion: v1
kind: ConfigMap
metadata:
  name: before
  annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}
data: {colour: {{ .Values.colour }}}
";
    vec![
        file("shop/muster.yaml", &document),
        file(
            "shop/chart/Chart.yaml",
            "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
        ),
        file("shop/chart/values.yaml", "colour: white\nsize: none\n"),
        file("shop/chart/greeting.txt", "hello"),
        file("shop/chart/templates/settings.yaml", template),
        file("shop/chart/templates/before.yaml", hook),
        file("shop/values/all.yaml", "size: large\n"),
    ]
}

#[tokio::test]
async fn a_chart_is_released_for_the_version_and_by_the_values_of_its_target() -> Result<()> {
    let scenario = Scenario::rendering(chart).await?;
    scenario.becomes("settings", "colour", "blue").await?;
    for (key, value) in [
        ("size", "large"),
        ("greeting", "hello"),
        ("kubernetes", "v1.37.0"),
    ] {
        let found = scenario.value("settings", key).await?;
        ensure!(found == value, "{key}: {found}");
    }
    let hook = scenario.config_maps()?.get("before").await?;
    let annotations = hook.metadata.annotations.unwrap_or_default();
    let stage = annotations.get("muster.dev/stage").map(String::as_str);
    ensure!(stage == Some("-1"), "{annotations:?}");

    // A chart that does not render leaves it as it is, and says where.
    let broken = (
        "shop/chart/templates/broken.yaml".to_owned(),
        "{{ fail \"no way\" }}".to_owned(),
    );
    push(&scenario.world, "Break the chart", &[broken]).await?;
    let fleet = scenario.shows("shop/chart/Chart.yaml helm: ").await?;
    ensure!(fleet.to_string().contains("broken.yaml"), "{fleet:#}");
    ensure!(scenario.value("settings", "colour").await? == "blue");

    scenario
        .world
        .push_removal("Mend it", &["shop/chart/templates/broken.yaml"])
        .await?;
    let size = (
        "shop/values/all.yaml".to_owned(),
        "size: small\n".to_owned(),
    );
    push(&scenario.world, "Change a value file", &[size]).await?;
    scenario.becomes("settings", "size", "small").await
}
