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
        let page = api.list_metadata(&few).await?;
        return Ok(page.items.iter().map(shown).collect());
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
