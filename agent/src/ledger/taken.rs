//! Notices at once that another agent took the cluster: two appliers of one name overwrite each other without any
//! conflict, so the older one must not go on repairing until it happens to write the ledger.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};

use super::{INSTANCE, ROOT};

/// Resolves when the root names another process than `instance`; the text says what to do.
pub(crate) async fn taken(client: Client, namespace: String, instance: String) -> String {
    let roots: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &namespace);
    let only_root = watcher::Config::default().fields(&format!("metadata.name={ROOT}"));
    let mut events = watcher(roots, only_root).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let (Ok(Event::InitApply(root)) | Ok(Event::Apply(root))) = event else {
            continue;
        };
        let named = root.annotations().get(INSTANCE);
        if root.name_any() == ROOT
            && let Some(other) = named.filter(|other| **other != instance)
        {
            return format!(
                "another agent took this cluster (instance {other}): run one agent only and stop the other"
            );
        }
    }
    "the watch of the ledger ended".into()
}
