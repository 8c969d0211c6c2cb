//! May a namespace go? Only when it holds nothing but what every namespace holds, and what goes with it.

use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use kube::{Error, ResourceExt as _};

use crate::discovery;

/// How many foreign objects to name.
const NAMED: usize = 3;

/// Objects in a namespace that nobody else will clean up, in words; `None` when the namespace is free to go.
///
/// # Errors
/// When a kind can't be listed: then nobody knows, and the namespace stays.
pub(crate) async fn foreign(client: &Client, namespace: &str) -> Result<Option<String>, Error> {
    let mut found = Vec::new();
    for kind in discovery::ask_everything(client).await? {
        let resource = &kind.resource;
        if !kind.namespaced || passing(&resource.group, &resource.kind) {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let mut parameters = ListParams::default().limit(500);
        loop {
            let page = api.list_metadata(&parameters).await?;
            for object in &page.items {
                let name = object.name_any();
                let owned = object
                    .metadata
                    .owner_references
                    .as_ref()
                    .is_some_and(|owners| !owners.is_empty());
                if !owned && !standing(&resource.kind, &name) {
                    found.push(format!("{} {name}", resource.kind));
                }
            }
            match page.metadata.continue_ {
                Some(more) if !more.is_empty() => parameters.continue_token = Some(more),
                _ => break,
            }
        }
        if found.len() > NAMED {
            break;
        }
    }
    Ok(match found.len() {
        0 => None,
        few if few <= NAMED => Some(found.join(", ")),
        _ => Some(format!("{} and more", found[..NAMED].join(", "))),
    })
}

/// Kinds that come and go by themselves.
fn passing(group: &str, kind: &str) -> bool {
    kind == "Event" || (group.is_empty() && kind == "Endpoints") || group == "metrics.k8s.io"
}

/// What every namespace holds.
fn standing(kind: &str, name: &str) -> bool {
    matches!(
        (kind, name),
        ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default")
    )
}
