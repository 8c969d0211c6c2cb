//! Which kinds this cluster serves: scope, plural name, and whether a kind has a status. Asked per API version in
//! use, kept until told to forget.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::core::ApiResource;
use muster_proto::Digest;

use crate::apply::said;
use crate::health;
use crate::live::watches::KindId;

/// One kind in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Group, version, kind, plural.
    pub(crate) resource: ApiResource,
    /// Lives in namespaces.
    pub(crate) namespaced: bool,
    /// Has the subresource `status`, so a controller is expected to write it.
    pub(crate) has_status: bool,
    /// Can be listed and watched.
    pub(crate) listable: bool,
    /// Of the health rules that applications have for it; none when there are none.
    pub(crate) ruled: Option<Digest>,
}

#[cfg(test)]
impl Kind {
    /// A kind that every cluster has.
    pub(crate) fn config_map() -> Self {
        Self {
            resource: ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "ConfigMap".into(),
                plural: "configmaps".into(),
            },
            namespaced: true,
            has_status: false,
            listable: true,
            ruled: None,
        }
    }
}

impl Kind {
    /// Names it.
    pub(crate) fn id(&self) -> KindId {
        let resource = &self.resource;
        (resource.api_version.clone(), resource.kind.clone())
    }

    /// Is the whole object watched, and not its metadata only?
    pub(crate) fn is_read_whole(&self) -> bool {
        self.ruled.is_some() || health::reads_status(&self.resource.group, &self.resource.kind)
    }

    /// `/apis/apps/v1/namespaces/web/deployments`, and the name when one is given.
    pub(crate) fn path(&self, namespace: &str, name: Option<&str>) -> String {
        let resource = &self.resource;
        let mut path = if resource.group.is_empty() {
            format!("/api/{}", resource.version)
        } else {
            format!("/apis/{}/{}", resource.group, resource.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&resource.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// The kinds of one API version, by kind.
pub(crate) type Kinds = BTreeMap<String, Arc<Kind>>;

/// What has been asked so far, by API version.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalogue {
    versions: BTreeMap<String, Kinds>,
}

impl Catalogue {
    /// The kind, when the cluster serves it.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.versions.get(api_version)?.get(kind)
    }

    /// Has this API version been asked for?
    pub(crate) fn knows(&self, api_version: &str) -> bool {
        self.versions.contains_key(api_version)
    }

    /// The same with these health rules, by group and kind: such kinds are read whole, and anew when the rules change.
    pub(crate) fn ruled(&self, rules: &BTreeMap<(String, String), Digest>) -> Self {
        let mut catalogue = self.clone();
        for ((group, kind), rules) in rules {
            let kinds = catalogue.versions.values_mut();
            let kinds = kinds.filter_map(|kinds| kinds.get_mut(kind));
            for kind in kinds.filter(|kind| kind.resource.group == *group) {
                Arc::make_mut(kind).ruled = Some(*rules);
            }
        }
        catalogue
    }

    /// Takes an answer in; true when it differs from the one before.
    pub(crate) fn learn(&mut self, api_version: &str, kinds: Kinds) -> bool {
        let old = self.versions.insert(api_version.to_owned(), kinds);
        old.as_ref() != self.versions.get(api_version)
    }
}

/// Asks which kinds an API version has; none when the cluster does not serve it.
pub(crate) async fn ask(client: &Client, api_version: &str) -> Result<Kinds, kube::Error> {
    let list = if api_version.contains('/') {
        client.list_api_group_resources(api_version).await
    } else {
        client.list_core_api_resources(api_version).await
    };
    match list {
        Ok(list) => Ok(kinds_of(api_version, &list)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Kinds::new()),
        Err(error) => Err(error),
    }
}

/// What can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the kinds of {of} can't be read: {}", said(.error))]
pub(crate) struct Unread {
    of: String,
    error: kube::Error,
}

/// Every listable kind, in its group's preferred version where that has it, else in the first of the others: many a
/// group serves some of its kinds in an older or a newer version only.
///
/// # Errors
/// When any group does not answer: the caller must not take a part for the whole.
pub(crate) async fn ask_everything(client: &Client) -> Result<Vec<Arc<Kind>>, Unread> {
    let unread = |of: &str| {
        let of = of.to_owned();
        move |error| Unread { of, error }
    };
    let mut groups_of_versions = vec![vec!["v1".to_owned()]];
    let groups = client
        .list_api_groups()
        .await
        .map_err(unread("the cluster"))?;
    for group in groups.groups {
        let versions = group.versions.into_iter();
        let mut named: Vec<String> = versions.map(|version| version.group_version).collect();
        if let Some(preferred) = group.preferred_version {
            named.retain(|version| *version != preferred.group_version);
            named.insert(0, preferred.group_version);
        }
        groups_of_versions.push(named);
    }
    let mut all = Vec::new();
    for versions in groups_of_versions {
        let mut kinds = Kinds::new();
        for version in versions {
            let more = ask(client, &version).await.map_err(unread(&version))?;
            let listable = more.into_iter().filter(|(_, kind)| kind.listable);
            for (name, kind) in listable {
                kinds.entry(name).or_insert(kind);
            }
        }
        all.extend(kinds.into_values());
    }
    Ok(all)
}

/// The kind under whatever version the cluster serves it, the given one first.
pub(crate) async fn find(
    client: &Client,
    api_version: &str,
    kind: &str,
) -> Result<Option<Arc<Kind>>, kube::Error> {
    if let Some(found) = ask(client, api_version).await?.remove(kind) {
        return Ok(Some(found));
    }
    let Some((group, _)) = api_version.split_once('/') else {
        return Ok(None);
    };
    for served in client.list_api_groups().await?.groups {
        if served.name != group {
            continue;
        }
        for version in served.versions {
            if let Some(found) = ask(client, &version.group_version).await?.remove(kind) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn kinds_of(api_version: &str, list: &APIResourceList) -> Kinds {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let has_status = |plural: &str| {
        let status = format!("{plural}/status");
        list.resources
            .iter()
            .any(|resource| resource.name == status)
    };
    list.resources
        .iter()
        .filter(|resource| !resource.name.contains('/'))
        .map(|resource| {
            let kind = Kind {
                resource: ApiResource {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    api_version: api_version.to_owned(),
                    kind: resource.kind.clone(),
                    plural: resource.name.clone(),
                },
                namespaced: resource.namespaced,
                has_status: has_status(&resource.name),
                listable: ["list", "watch"]
                    .iter()
                    .all(|verb| resource.verbs.iter().any(|have| have == verb)),
                ruled: None,
            };
            (resource.kind.clone(), Arc::new(kind))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::client_that_answers;
    use serde_json::json;

    #[test]
    fn kinds_are_read_with_scope_and_status_and_subresources_are_none() {
        let list: APIResourceList = serde_json::from_value(json!({"groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "", "namespaced": true, "kind": "Deployment", "verbs": ["list", "watch"]},
            {"name": "deployments/status", "singularName": "", "namespaced": true, "kind": "Deployment", "verbs": ["get"]},
            {"name": "reviews", "singularName": "", "namespaced": false, "kind": "Review", "verbs": ["create"]}]}))
        .unwrap();
        let kinds = kinds_of("apps/v1", &list);
        assert_eq!(kinds.len(), 2);
        let deployment = &kinds["Deployment"];
        assert!(deployment.namespaced && deployment.has_status && deployment.listable);
        assert_eq!(
            deployment.path("web", Some("front")),
            "/apis/apps/v1/namespaces/web/deployments/front"
        );
        assert!(!kinds["Review"].listable);
    }

    #[tokio::test]
    async fn a_kind_that_its_groups_preferred_version_lacks_is_found_in_another() {
        let list = |version: &str, kinds: &[&str]| {
            let resource = |kind: &&str| {
                json!({"name": format!("{}s", kind.to_lowercase()), "singularName": "", "namespaced": true,
                    "kind": kind, "verbs": ["list", "watch"]})
            };
            let resources: Vec<_> = kinds.iter().map(resource).collect();
            json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources})
        };
        let served = [
            ("/api/v1", list("v1", &["ConfigMap"])),
            ("/apis/gw.test/v1", list("gw.test/v1", &["Gateway"])),
            (
                "/apis/gw.test/v1beta1",
                list("gw.test/v1beta1", &["Gateway", "Grant"]),
            ),
            (
                "/apis",
                json!({"kind": "APIGroupList", "groups": [{"name": "gw.test",
                    "versions": [{"groupVersion": "gw.test/v1", "version": "v1"},
                        {"groupVersion": "gw.test/v1beta1", "version": "v1beta1"}],
                    "preferredVersion": {"groupVersion": "gw.test/v1", "version": "v1"}}]}),
            ),
        ];
        let served = BTreeMap::from(served);
        let client =
            client_that_answers(move |(request, _)| match served.get(request.uri.path()) {
                Some(answer) => (200, answer.clone()),
                None => (404, json!({})),
            });
        let kinds = ask_everything(&client).await.unwrap();
        let mut found: Vec<String> = kinds.iter().map(|kind| kind.path("", None)).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "/api/v1/configmaps",
                "/apis/gw.test/v1/gateways",
                "/apis/gw.test/v1beta1/grants"
            ]
        );
    }
}
