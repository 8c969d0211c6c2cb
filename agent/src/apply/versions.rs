//! Fields that are held in a version of the API which is gone. Async, without any state.
//!
//! With the first write of an object, whoever's it is, the API server forgets what is held in a version that it knows
//! nothing of any more (and refuses to write a custom resource at all): what kubectl applied in it would be nobody's,
//! and stay for ever. So it is read as if it were held in our version, before anything is written. In: managedFields.
//! Out: the same in versions that the API server knows.

use std::borrow::Cow;
use std::collections::BTreeSet;

use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::order::Order;
use super::{Error, Failure, failure, said};
use crate::discovery;
use crate::takeover::Whose;

/// managedFields in known versions, as far as fields are taken over from them. Nothing is asked where all are in ours.
pub(super) async fn known<'a>(
    order: &Order,
    managed: &'a [ManagedFieldsEntry],
    whose: Whose<'_>,
) -> Result<Cow<'a, [ManagedFieldsEntry]>, Failure> {
    let own = &order.wanted.kind.resource.api_version;
    let others = managed.iter().filter(|entry| whose.reaches(entry, own));
    let others: BTreeSet<&str> = others
        .filter_map(|entry| entry.api_version.as_deref())
        .collect();
    let mut gone = BTreeSet::new();
    for version in others {
        if is_gone(order, version).await? {
            gone.insert(version.to_owned());
        }
    }
    if gone.is_empty() {
        return Ok(Cow::Borrowed(managed));
    }
    let mut managed = managed.to_vec();
    for entry in &mut managed {
        if let Some(version) = &mut entry.api_version
            && gone.contains(version)
        {
            version.clone_from(own);
        }
    }
    Ok(Cow::Owned(managed))
}

/// Neither served, nor defined by a CustomResourceDefinition that may still convert it.
async fn is_gone(order: &Order, version: &str) -> Result<bool, Failure> {
    let (writer, resource) = (&order.writer, &order.wanted.kind.resource);
    let served = discovery::ask(&writer.client, version).await;
    let served = served.map_err(|error| Failure {
        message: format!("the kinds of {version} can't be read: {}", said(&error)),
        passing: true,
        ..Failure::default()
    })?;
    if served.contains_key(&resource.kind) {
        return Ok(false);
    }
    let path = format!(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.{}",
        resource.plural, resource.group
    );
    let request = http::Request::builder();
    let ourselves = super::ourselves(&writer.client);
    match super::send::<Value>(&ourselves, request, Method::GET, &path, Vec::new()).await {
        Ok(definition) => Ok(!defines(&definition, version)),
        // A kind that Kubernetes brings itself.
        Err(Error::Api(status)) if status.code == 404 => Ok(true),
        // Nobody can tell.
        Err(Error::Api(status)) if status.code == 403 => Ok(false),
        Err(error) => Err(failure(&order.key, &error)),
    }
}

/// Is this API version among those of the definition?
fn defines(definition: &Value, api_version: &str) -> bool {
    let name = api_version.rsplit('/').next();
    let versions = definition.pointer("/spec/versions");
    let mut versions = versions.and_then(Value::as_array).into_iter().flatten();
    versions.any(|version| version["name"].as_str() == name)
}
