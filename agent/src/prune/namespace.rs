//! May a namespace go? Only when it holds nothing but what every namespace holds, and what goes with its owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;

use super::NAMED;
use crate::apply;
use crate::discovery;
use crate::marks;

/// Objects in a namespace that nobody else will clean up, in words: other people's, and ours that are protected.
///
/// # Errors
/// When a kind can't be listed, in words: then nobody knows, and the namespace stays.
pub(super) async fn staying(client: &Client, namespace: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let kinds = discovery::ask_everything(client).await;
    for kind in kinds.map_err(|unread| unread.to_string())? {
        let resource = &kind.resource;
        if !kind.namespaced || passing(&resource.group, &resource.kind) {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let mut parameters = ListParams::default().limit(500);
        loop {
            let page = match api.list_metadata(&parameters).await {
                Ok(page) => page,
                // Its definition went in the meantime, and all objects of it.
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(error) => {
                    return Err(format!("{}: {}", resource.kind, apply::said(&error)));
                }
            };
            for object in &page.items {
                let name = object.name_any();
                if stays(&resource.kind, &name, &object.metadata) {
                    found.push(shown(&resource.kind, &name, &object.metadata));
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
    Ok(found)
}

/// Kinds that come and go by themselves.
fn passing(group: &str, kind: &str) -> bool {
    kind == "Event" || (group.is_empty() && kind == "Endpoints") || group == "metrics.k8s.io"
}

/// Is it there for its own sake? What has an owner goes with it, and some objects are in every namespace; what a mark
/// protects stays all the same.
fn stays(kind: &str, name: &str, metadata: &ObjectMeta) -> bool {
    let owned = metadata
        .owner_references
        .as_ref()
        .is_some_and(|owners| !owners.is_empty());
    let standing = matches!(
        (kind, name),
        ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default")
    );
    marks::keep(metadata).is_some() || (!owned && !standing)
}

fn shown(kind: &str, name: &str, metadata: &ObjectMeta) -> String {
    match marks::keep(metadata) {
        Some(mark) => format!("{kind} {name} ({mark})"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::client_that_answers;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_kind_whose_definition_goes_meanwhile_holds_up_no_namespace() {
        let resource = |kind: &str| {
            json!({"name": format!("{}s", kind.to_lowercase()), "singularName": "", "namespaced": true,
                "kind": kind, "verbs": ["list", "watch"]})
        };
        let kinds = ["Cart", "Secret"].map(resource);
        let secrets = json!({"metadata": {}, "items": [{"metadata": {"name": "tls"}}]});
        let found = async |code: u16| {
            let (kinds, secrets) = (kinds.clone(), secrets.clone());
            let client = client_that_answers(move |(request, _)| match request.uri.path() {
                "/apis" => (200, json!({"kind": "APIGroupList", "groups": []})),
                "/api/v1" => (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": kinds}),
                ),
                "/api/v1/namespaces/shop/secrets" => (200, secrets.clone()),
                _ => (
                    code,
                    json!({"status": "Failure", "code": code, "message": "no", "reason": ""}),
                ),
            });
            staying(&client, "shop").await
        };
        assert_eq!(found(404).await, Ok(vec!["Secret tls".to_owned()]));
        assert!(found(403).await.unwrap_err().starts_with("Cart: "));
    }

    #[test]
    fn what_stands_for_itself_keeps_its_namespace_and_is_named() {
        let plain = json!({});
        let owned = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]});
        let protected = json!({"ownerReferences": owned["ownerReferences"],
            "annotations": {"helm.sh/resource-policy": "keep"}});
        let table: [(&str, &str, &Value, bool); 7] = [
            ("ConfigMap", "kube-root-ca.crt", &plain, false),
            ("ConfigMap", "other", &plain, true),
            ("ServiceAccount", "default", &plain, false),
            ("ServiceAccount", "builder", &plain, true),
            // A StatefulSet's claims have no owner: they hold the data.
            ("PersistentVolumeClaim", "data-db-0", &plain, true),
            ("Pod", "p", &owned, false),
            // A StatefulSet may own its claims; who marks one wants it.
            ("PersistentVolumeClaim", "data-db-1", &protected, true),
        ];
        for (kind, name, metadata, expected) in table {
            let metadata = serde_json::from_value(metadata.clone()).unwrap();
            assert_eq!(stays(kind, name, &metadata), expected, "{kind} {name}");
        }
        let kept = json!({"annotations": {"helm.sh/resource-policy": "keep"}});
        let kept = serde_json::from_value(kept).unwrap();
        assert_eq!(
            shown("Secret", "tls", &kept),
            "Secret tls (helm.sh/resource-policy: keep)"
        );
    }
}
