//! The Secrets that the ledger is kept in, and their namespace.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::format::Root;
use super::{INSTANCE, LABEL, ROOT};

pub(super) fn root_secret(root: &Root) -> Secret {
    let instance = root.owner.as_ref().map_or("", |owner| &owner.instance);
    Secret {
        metadata: ObjectMeta {
            name: Some(ROOT.into()),
            labels: Some(BTreeMap::from([(LABEL.into(), "root".into())])),
            annotations: Some(BTreeMap::from([(INSTANCE.into(), instance.into())])),
            ..ObjectMeta::default()
        },
        type_: Some("muster.dev/ledger".into()),
        data: Some(BTreeMap::from([("root".into(), ByteString(root.write()))])),
        ..Secret::default()
    }
}

pub(super) fn shard_secret(name: &str, bytes: Vec<u8>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([(LABEL.into(), "shard".into())])),
            ..ObjectMeta::default()
        },
        type_: Some("muster.dev/ledger".into()),
        immutable: Some(true),
        data: Some(BTreeMap::from([("shard".into(), ByteString(bytes))])),
        ..Secret::default()
    }
}

/// Makes the ledger's namespace when it is absent.
pub(super) async fn make_namespace(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_metadata_opt(name).await?.is_some() {
        return Ok(());
    }
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
