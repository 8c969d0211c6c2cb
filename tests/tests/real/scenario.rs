//! What scenarios share: a fleet with one real cluster, and a look at objects that goes past hub and agent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use muster_tests::cluster::{Cluster, real};
use muster_tests::wait;
use muster_tests::world::{SOON, World};
use serde_json::{Value, json};

/// A fleet of one cluster called `one`, and a namespace in it that is this scenario's alone.
pub(super) struct Scenario {
    pub(super) world: World,
    pub(super) cluster: Cluster,
    /// Does not exist before the agent makes it.
    pub(super) namespace: String,
}

impl Scenario {
    /// The first commit is what `files` makes of the namespace: (path, content).
    pub(super) async fn start(files: impl FnOnce(&str) -> Vec<(String, String)>) -> Result<Self> {
        let namespace = unique("scenario");
        let files = files(&namespace);
        let world = World::start(&borrowed(&files)).await?;
        Self::on(world, namespace).await
    }

    /// The same, of a hub that renders with kustomize and Helm.
    pub(super) async fn rendering(
        files: impl FnOnce(&str) -> Vec<(String, String)>,
    ) -> Result<Self> {
        let namespace = unique("scenario");
        let files = files(&namespace);
        let world = World::rendering(&borrowed(&files)).await?;
        Self::on(world, namespace).await
    }

    /// The same, of a hub that has further flags.
    pub(super) async fn rendering_with(
        flags: Vec<String>,
        files: impl FnOnce(&str) -> Result<Vec<(String, String)>>,
    ) -> Result<Self> {
        let namespace = unique("scenario");
        let files = files(&namespace)?;
        let world = World::rendering_with(flags, &borrowed(&files)).await?;
        Self::on(world, namespace).await
    }

    async fn on(mut world: World, namespace: String) -> Result<Self> {
        let cluster = real::shared("one").await?;
        world.join("one", &cluster, &["stage=test"]).await?;
        Ok(Self {
            world,
            cluster,
            namespace,
        })
    }

    /// The smallest fleet: the application `shop` with the ConfigMap `settings`, whose `colour` is `blue`; synced.
    pub(super) async fn shop() -> Result<Self> {
        let scenario = Self::start(shop).await?;
        scenario.world.synced("shop", 1).await?;
        ensure!(scenario.value("settings", "colour").await? == "blue");
        Ok(scenario)
    }

    /// The shop, of a hub that is that far behind the machine's clock.
    pub(super) async fn shop_in_the_past(behind: Duration) -> Result<Self> {
        let namespace = unique("scenario");
        let world = World::start(&borrowed(&shop(&namespace))).await?;
        world.turn_back(behind);
        let scenario = Self::on(world, namespace).await?;
        scenario.world.synced("shop", 1).await?;
        Ok(scenario)
    }

    /// The shop, and beside it the application `cellar` with the ConfigMap `wine`, whose `year` is `1982`; both synced.
    pub(super) async fn shop_and_cellar() -> Result<Self> {
        let scenario = Self::start(|namespace| {
            let cellar = [
                application("cellar", namespace),
                config_map("cellar", "wine", "year", "1982"),
            ];
            shop(namespace).into_iter().chain(cellar).collect()
        })
        .await?;
        scenario.world.synced("shop", 1).await?;
        scenario.world.synced("cellar", 1).await?;
        Ok(scenario)
    }

    /// What `muster status` says.
    pub(super) async fn status(&self) -> Result<Value> {
        self.world.muster(&["status", "-o", "json"]).await?.json()
    }

    /// Waits until `muster status` shows a problem that says `part`; returns all it says then.
    pub(super) async fn shows(&self, part: &str) -> Result<Value> {
        wait::until(&format!("`{part}` is shown"), SOON, async || {
            let fleet = self.status().await?;
            let problems = problems(&fleet);
            ensure!(
                problems.iter().any(|problem| problem.contains(part)),
                "{fleet:#}"
            );
            Ok(fleet)
        })
        .await
    }

    /// Waits until no problem says `part` any more.
    pub(super) async fn shows_no_more(&self, part: &str) -> Result<()> {
        wait::until(&format!("`{part}` is shown no more"), SOON, async || {
            let problems = problems(&self.status().await?);
            ensure!(
                !problems.iter().any(|problem| problem.contains(part)),
                "{problems:#?}"
            );
            Ok(())
        })
        .await
    }

    pub(super) fn config_maps(&self) -> Result<Api<ConfigMap>> {
        Ok(Api::namespaced(self.cluster.client()?, &self.namespace))
    }

    /// What a ConfigMap holds under `key`; an error says that it is not there.
    pub(super) async fn value(&self, name: &str, key: &str) -> Result<String> {
        let data = self
            .config_maps()?
            .get(name)
            .await?
            .data
            .unwrap_or_default();
        data.get(key)
            .cloned()
            .with_context(|| format!("{name} has no {key}: {data:?}"))
    }

    /// Waits until a ConfigMap holds `value` under `key`.
    pub(super) async fn becomes(&self, name: &str, key: &str, value: &str) -> Result<()> {
        wait::until(&format!("{name}: {key} is {value}"), SOON, async || {
            let found = self.value(name, key).await?;
            ensure!(found == value, "it is {found}");
            Ok(())
        })
        .await
    }

    /// Waits until a ConfigMap is not there any more.
    pub(super) async fn goes(&self, name: &str) -> Result<()> {
        wait::until(&format!("{name} is gone"), SOON, async || {
            ensure!(
                self.config_maps()?.get_opt(name).await?.is_none(),
                "it is still there"
            );
            Ok(())
        })
        .await
    }

    /// Changes a ConfigMap as a person with `kubectl edit` would.
    pub(super) async fn edit(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let edit = PatchParams {
            field_manager: Some("kubectl-edit".into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"data": {key: value}}));
        self.config_maps()?.patch(name, &edit, &patch).await?;
        Ok(())
    }
}

fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    let files = files.iter();
    files
        .map(|(path, content)| (path.as_str(), content.as_str()))
        .collect()
}

fn shop(namespace: &str) -> Vec<(String, String)> {
    vec![
        application("shop", namespace),
        config_map("shop", "settings", "colour", "blue"),
    ]
}

/// A name nobody else has.
pub(super) fn unique(purpose: &str) -> String {
    format!(
        "{purpose}-{}",
        &uuid::Uuid::new_v4().simple().to_string()[..8]
    )
}

/// An application's `muster.yaml` in a folder of its name.
pub(super) fn application(name: &str, namespace: &str) -> (String, String) {
    let document = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {name}\nspec:\n  namespace: {namespace}\n"
    );
    (format!("{name}/muster.yaml"), document)
}

/// A ConfigMap of an application's folder.
pub(super) fn config_map(
    application: &str,
    name: &str,
    key: &str,
    value: &str,
) -> (String, String) {
    let object = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  {key}: \"{value}\"\n"
    );
    (format!("{application}/{name}.yaml"), object)
}

/// Objects of a kind that the test knows by its text.
pub(super) fn objects(
    cluster: &Cluster,
    api_version: &str,
    kind: &str,
    namespace: &str,
) -> Result<Api<DynamicObject>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Ok(Api::namespaced_with(
        cluster.client()?,
        namespace,
        &resource,
    ))
}

/// Pushes files that were made by [`application`] and [`config_map`].
pub(super) async fn push(
    world: &World,
    message: &str,
    files: &[(String, String)],
) -> Result<String> {
    world.push(message, &borrowed(files)).await
}

/// The problems `muster status` shows.
pub(super) fn problems(fleet: &Value) -> Vec<String> {
    let rows = fleet["problems"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| format!("{} {}", text(row, "location"), text(row, "message")))
        .collect()
}
