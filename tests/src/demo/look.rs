//! The two who look at the fleet: a client of each cluster's API server that is neither hub nor agent, and `muster`.
//!
//! Both give the same [`Sight`], so that a step can ask whether they agree: the API server by what its objects hold,
//! `muster` by the revision that it says is there, which Git then knows the content of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use serde_json::Value;

use super::fleet::{APPLICATIONS, Application, release_in, settings_of};
use crate::git::git;
use crate::wait;
use crate::world::World;

/// What runs where: (cluster, application), and its release and health in a few words.
pub(super) type Sight = BTreeMap<(String, String), String>;

/// Releases by `REVISION:PATH`: history does not change, so Git is asked once.
pub(super) type History = BTreeMap<String, String>;

/// Clients of the story's own, by cluster.
pub(super) type Clients = BTreeMap<String, kube::Client>;

/// What a release that runs well looks like.
pub(super) fn well(release: &str) -> String {
    format!("release {release}, healthy")
}

/// Waits until the API servers and `muster` both see what is expected, at the same time.
///
/// # Errors
/// After `within`: what each of them saw instead.
pub(super) async fn agree(
    world: &World,
    history: &mut History,
    clients: &Clients,
    expected: &Sight,
    within: Duration,
) -> Result<()> {
    wait::until("the API servers and muster agree", within, async || {
        let (held, told) =
            futures::future::join(by_api_server(clients), by_muster(world, history)).await;
        let (held, told) = (held?, told?);
        let mut differences = Vec::new();
        for (who, seen) in [("the API servers hold", held), ("muster says", told)] {
            for difference in differences_of(expected, &seen) {
                differences.push(format!("{who}: {difference}"));
            }
        }
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    })
    .await
}

/// What is there in place of what is expected; clusters where it is the same are named together.
fn differences_of(expected: &Sight, seen: &Sight) -> Vec<String> {
    let mut differing = BTreeMap::<_, Vec<&str>>::new();
    let places: BTreeSet<_> = expected.keys().chain(seen.keys()).collect();
    for place in places {
        let (found, wanted) = (seen.get(place), expected.get(place));
        if found != wanted {
            let (cluster, application) = place;
            let clusters = differing.entry((application, found, wanted)).or_default();
            clusters.push(cluster);
        }
    }
    let words = |it: Option<&String>| it.cloned().unwrap_or_else(|| "nothing".to_owned());
    let differing = differing.into_iter();
    differing
        .map(|((application, found, wanted), clusters)| {
            let (found, wanted) = (words(found), words(wanted));
            let clusters = clusters.join(", ");
            format!("{application} on {clusters}: {found} (expected: {wanted})")
        })
        .collect()
}

/// What the objects in the clusters say.
async fn by_api_server(clients: &Clients) -> Result<Sight> {
    let places = clients.iter().flat_map(|(cluster, client)| {
        APPLICATIONS
            .iter()
            .map(move |application| in_cluster(cluster, client, application))
    });
    Ok(try_join_all(places).await?.into_iter().flatten().collect())
}

async fn in_cluster(
    cluster: &str,
    client: &kube::Client,
    application: &Application,
) -> Result<Option<((String, String), String)>> {
    let Some(settings) = settings(client, application.namespace).await? else {
        return Ok(None);
    };
    let labels = settings.metadata.labels.unwrap_or_default();
    ensure!(
        labels.get("muster.dev/application").map(String::as_str) == Some(application.name),
        "the settings of {} on {cluster} have the labels {labels:?}",
        application.name
    );
    let release = settings.data.unwrap_or_default().remove("release");
    let release = release.unwrap_or_else(|| "none".to_owned());
    let seen = match unhealthy(client, application).await? {
        None => well(&release),
        Some(why) => format!("release {release}, {why}"),
    };
    let place = (cluster.to_owned(), application.name.to_owned());
    Ok(Some((place, seen)))
}

/// An application's ConfigMap `settings`.
async fn settings(client: &kube::Client, namespace: &str) -> Result<Option<ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_opt("settings").await?)
}

/// Why the application's Deployment does not run as it should, judged by its status alone.
async fn unhealthy(client: &kube::Client, application: &Application) -> Result<Option<String>> {
    let Some(name) = application.deployment else {
        return Ok(None);
    };
    let api: Api<Deployment> = Api::namespaced(client.clone(), application.namespace);
    let Some(deployment) = api.get_opt(name).await? else {
        return Ok(Some(format!("no Deployment {name}")));
    };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let status = deployment.status.unwrap_or_default();
    let here = (
        status.observed_generation,
        status.updated_replicas,
        status.available_replicas,
    );
    let well = here == (deployment.metadata.generation, Some(wanted), Some(wanted));
    Ok((!well).then(|| {
        let available = status.available_replicas.unwrap_or_default();
        format!("{available} of {wanted} replicas available")
    }))
}

/// What `muster` says, its revisions replaced by what Git holds at them.
async fn by_muster(world: &World, history: &mut History) -> Result<Sight> {
    let mut sight = Sight::new();
    for placement in placements(world).await? {
        let text = |field: &str| placement[field].as_str().unwrap_or_default().to_owned();
        let (cluster, application) = (text("cluster"), text("application"));
        let seen = match trouble(&placement) {
            Some(trouble) => trouble,
            None => {
                let path = settings_of(&application, &text("target"));
                let release = release_at(world, history, &text("desiredRevision"), &path)?;
                match placement["status"]["health"].as_str() {
                    Some("Current") => well(&release),
                    _ => format!("release {release}, {}", placement["status"]["health"]),
                }
            }
        };
        sight.insert((cluster, application), seen);
    }
    Ok(sight)
}

/// The release that a file states at a revision: what Git says, whatever the hub made of it.
fn release_at(world: &World, history: &mut History, revision: &str, path: &str) -> Result<String> {
    // `git show :PATH` would be the index, where the story's next commit may stand already.
    ensure!(!revision.is_empty(), "muster names no revision for {path}");
    let stated = format!("{revision}:{path}");
    if let Some(known) = history.get(&stated) {
        return Ok(known.clone());
    }
    let settings = git(&world.repository.work(), ["show", &stated])?;
    let release = release_in(&settings).with_context(|| format!("{stated} states no release"))?;
    history.insert(stated, release.to_owned());
    Ok(release.to_owned())
}

/// Why a placement does not hold what it should, in the words of `muster`.
fn trouble(placement: &Value) -> Option<String> {
    let status = &placement["status"];
    match placement["connection"].as_str().unwrap_or_default() {
        "connected" => {}
        "never-joined" => return Some("its agent never connected".to_owned()),
        other => return Some(format!("its agent is {other}")),
    }
    if placement["current"] != true {
        return Some("not reported yet".to_owned());
    }
    let word = |field: &str| status[field].as_str().unwrap_or_default();
    (word("sync") != "Synced").then(|| format!("{} {}", word("sync"), word("message")))
}

/// Every placement, as `muster get app -o json` lists them.
pub(super) async fn placements(world: &World) -> Result<Vec<Value>> {
    let applications = world.ask(&["apps"]).await?;
    let applications = applications["applications"].as_array().cloned();
    let mut placements = Vec::new();
    for application in applications.unwrap_or_default() {
        let name = application["name"].as_str().context("a name")?;
        let detail = world.ask(&["get", "app", name]).await?;
        placements.extend(detail["placements"].as_array().cloned().unwrap_or_default());
    }
    Ok(placements)
}

/// Everything of the example in the clusters, and what tells one version of it from another: "CLUSTER KIND NAME".
/// Status is no part of it: controllers write that.
pub(super) async fn versions(clients: &Clients) -> Result<BTreeMap<String, String>> {
    let kinds = [
        ("", "Namespace"),
        ("", "ConfigMap"),
        ("", "Service"),
        ("apps", "Deployment"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ];
    let looks = clients.iter().flat_map(|(cluster, client)| {
        kinds.map(|(group, kind)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            async move {
                let ours = ListParams::default().labels("muster.dev/application");
                let found = api.list(&ours).await?.items.into_iter();
                // A person's cluster may have an agent of its own, whose objects have the same label.
                let found = found.filter(|object| is_the_examples(&object.metadata));
                let found = found.map(move |object| {
                    let metadata = object.metadata;
                    let place = metadata.namespace.map(|it| it + "/").unwrap_or_default();
                    let name = metadata.name.unwrap_or_default();
                    let version = match metadata.generation {
                        Some(generation) => generation.to_string(),
                        None => metadata.resource_version.unwrap_or_default(),
                    };
                    let uid = metadata.uid.unwrap_or_default();
                    (
                        format!("{cluster} {kind} {place}{name}"),
                        format!("{uid} {version}"),
                    )
                });
                anyhow::Ok(found.collect::<Vec<_>>())
            }
        })
    });
    Ok(try_join_all(looks).await?.into_iter().flatten().collect())
}

/// All names of the example begin with `demo-`, those of namespaces or of what is in none.
fn is_the_examples(metadata: &ObjectMeta) -> bool {
    let name = metadata.namespace.as_ref().or(metadata.name.as_ref());
    name.is_some_and(|name| name.starts_with("demo-"))
}

/// Those that are not as they were: changed, new or gone.
pub(super) fn changed(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = all
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key));
    changed.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sight(entries: &[(&str, &str)]) -> Sight {
        let entries = entries.iter();
        entries
            .map(|(cluster, seen)| {
                (
                    ((*cluster).to_owned(), "web".to_owned()),
                    (*seen).to_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn what_differs_is_named_with_what_was_expected() {
        let expected = sight(&[("a", "release 1"), ("b", "release 1")]);
        let seen = sight(&[("a", "release 1"), ("b", "release 2"), ("c", "release 1")]);
        assert_eq!(
            differences_of(&expected, &seen),
            [
                "web on c: release 1 (expected: nothing)",
                "web on b: release 2 (expected: release 1)",
            ]
        );
        assert_eq!(
            differences_of(&expected, &Sight::new()),
            ["web on a, b: nothing (expected: release 1)"]
        );
        assert!(differences_of(&expected, &expected).is_empty());
    }

    #[test]
    fn a_placement_is_well_only_when_connected_current_and_synced() {
        let well =
            json!({"connection": "connected", "current": true, "status": {"sync": "Synced"}});
        assert_eq!(trouble(&well), None);
        for (field, value) in [
            ("connection", json!("unknown")),
            ("current", json!(false)),
            ("status", json!({"sync": "OutOfSync"})),
            ("status", json!(null)),
        ] {
            let mut placement = well.clone();
            placement[field] = value;
            assert!(trouble(&placement).is_some(), "{placement}");
        }
    }

    #[test]
    fn whatever_is_not_as_it_was_counts_as_changed() {
        let versions = |text: &str| {
            let pairs = text.split(' ').map(|pair| pair.split_once('=').unwrap());
            pairs
                .map(|(key, version)| (key.to_owned(), version.to_owned()))
                .collect()
        };
        let before = versions("same=1 changed=1 gone=1");
        let after = versions("same=1 changed=2 new=1");
        assert_eq!(changed(&before, &after), ["changed", "gone", "new"]);
    }
}
