//! May a CustomResourceDefinition go? Only when no object of its kind is left: they would all go with it.

use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use kube::{Client, Error, ResourceExt as _};

use super::NAMED;
use crate::discovery;

/// Objects of the kind that is defined under this name, `PLURAL.GROUP`; a few are enough.
///
/// # Errors
/// When the kind can't be listed: then nobody knows, and the definition stays.
pub(super) async fn objects(client: &Client, name: &str) -> Result<Vec<String>, Error> {
    let Some((plural, group)) = name.split_once('.') else {
        return Ok(Vec::new());
    };
    let groups = client.list_api_groups().await?.groups;
    let versions = groups
        .into_iter()
        .find(|served| served.name == group)
        .map(|served| served.versions);
    for version in versions.into_iter().flatten() {
        let kinds = discovery::ask(client, &version.group_version).await?;
        let Some(kind) = kinds
            .into_values()
            .find(|kind| kind.resource.plural == plural)
        else {
            continue;
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
        let few = ListParams::default().limit(NAMED as u32 + 1);
        match api.list_metadata(&few).await {
            Ok(page) => return Ok(page.items.iter().map(shown).collect()),
            // This version is served no longer, or the definition went in the meantime.
            Err(Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

fn shown<K>(object: &kube::api::PartialObjectMeta<K>) -> String
where
    kube::api::PartialObjectMeta<K>: kube::ResourceExt,
{
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::client_that_answers;
    use serde_json::json;

    #[tokio::test]
    async fn a_definition_that_somebody_else_takes_away_meanwhile_has_no_objects() {
        let found = async |code: u16| {
            let client = client_that_answers(move |(request, _)| match request.uri.path() {
                "/apis" => (
                    200,
                    json!({"kind": "APIGroupList", "groups": [{"name": "shop.io",
                        "versions": [{"groupVersion": "shop.io/v1", "version": "v1"}]}]}),
                ),
                "/apis/shop.io/v1" => (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "shop.io/v1", "resources": [
                        {"name": "carts", "singularName": "", "namespaced": true, "kind": "Cart",
                            "verbs": ["list", "watch"]}]}),
                ),
                _ => (
                    code,
                    json!({"status": "Failure", "code": code, "message": "no", "reason": ""}),
                ),
            });
            objects(&client, "carts.shop.io").await
        };
        assert!(found(404).await.unwrap().is_empty());
        assert!(found(403).await.is_err());
    }
}
